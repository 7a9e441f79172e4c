//! The `[acme]` table: the authority that our own certificate comes from (RFC 8555), and how it finds that the name is ours.

use super::edge::read_addresses;
use super::host::parse_domain;
use super::reader::{ConfigError, Table};
use super::{Admin, AdminTls, Smtp};
use crate::limits;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where nothing else is said: Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory, an URL.
    pub directory: String,
    /// Who is told of trouble; a mail address.
    pub contact: Option<String>,
    /// The names that the certificate is for; none: the server's host name.
    pub names: Vec<String>,
    /// How control of the names is shown.
    pub challenge: Challenge,
    /// Where that is asked for. None with `tls-alpn-01`: at the admin API's own address.
    pub listen: Vec<SocketAddr>,
    /// Authorities that vouch for the directory's server; `None`: the system's.
    pub roots: Option<PathBuf>,
    /// The account at the authority that ours is bound to (RFC 8555 7.3.4).
    pub external_account: Option<ExternalAccount>,
}

/// How control of a name is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By a web page on port 80 (RFC 8555 8.3).
    Http01,
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

/// An account that the authority made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its key's name.
    pub id: String,
    /// A file with the key, base64url as authorities hand it out.
    pub key_file: PathBuf,
}

impl fmt::Display for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

impl Acme {
    /// The names, of a server that is called so.
    #[must_use]
    pub fn names<'a>(&'a self, hostname: &'a str) -> Vec<&'a str> {
        if self.names.is_empty() { vec![hostname] } else { self.names.iter().map(String::as_str).collect() }
    }
}

/// The table, if it is there.
pub(super) fn read(root: &Table, smtp: &Smtp, admin: &Admin) -> Result<Option<Acme>, ConfigError> {
    let Some(value) = root.value("acme") else { return Ok(None) };
    let table = value.table()?;
    table.expect_keys(&[
        "directory",
        "agree_to_terms",
        "contact",
        "names",
        "challenge",
        "listen",
        "roots",
        "external_account",
    ])?;
    let terms = table.required("agree_to_terms")?;
    if !terms.boolean()? {
        return Err(
            terms.error("must be true: authorities give nothing to who does not agree to their terms")
        );
    }
    let challenge = match table.value("challenge") {
        Some(value) => {
            value.choice(&[("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)], &[])?
        }
        None => Challenge::Http01,
    };
    let listen = read_listen(&table, challenge)?;
    if admin.tls != AdminTls::Own && !smtp.tls.is_empty() {
        let reason = "nobody would see its certificate: smtp.tls names another, and admin.tls is not \"own\"";
        return Err(table.missing("names", reason));
    }
    if listen.is_empty() && (admin.tls == AdminTls::None || admin.listen.is_none()) {
        return Err(
            table.missing("listen", "the admin API, which is to be asked instead, does not speak TLS")
        );
    }
    Ok(Some(Acme {
        directory: read_directory(&table)?,
        contact: read_contact(&table)?,
        names: read_names(&table)?,
        challenge,
        listen,
        roots: super::edge::read_file(&table, "roots")?,
        external_account: read_external_account(&table)?,
    }))
}

fn read_directory(table: &Table) -> Result<String, ConfigError> {
    let Some(value) = table.value("directory") else { return Ok(DIRECTORY.to_owned()) };
    let uri: Result<hyper::Uri, _> = value.string()?.parse();
    match uri {
        Ok(uri) if uri.scheme_str() == Some("https") && uri.host().is_some() => {
            Ok(value.string()?.to_owned())
        }
        _ => Err(value.error("is not an URL like \"https://ca.example.net/directory\"")),
    }
}

fn read_contact(table: &Table) -> Result<Option<String>, ConfigError> {
    let Some(value) = table.value("contact") else { return Ok(None) };
    match value.string()? {
        "" => Ok(None),
        text if text.contains('@') && !text.contains([':', ' ']) => Ok(Some(text.to_owned())),
        _ => Err(value.error("is not a mail address")),
    }
}

fn read_names(table: &Table) -> Result<Vec<String>, ConfigError> {
    let Some(value) = table.value("names") else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for element in value.list(0..=limits::ACME_NAMES_MAX)? {
        let name = parse_domain(element.string()?).map_err(|error| element.error(error))?;
        if names.contains(&name) {
            return Err(element.error("is there twice"));
        }
        names.push(name);
    }
    Ok(names)
}

fn read_listen(table: &Table, challenge: Challenge) -> Result<Vec<SocketAddr>, ConfigError> {
    let port = match challenge {
        Challenge::Http01 => 80,
        Challenge::TlsAlpn01 => 443,
    };
    let Some(value) = table.value("listen") else {
        return Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]);
    };
    let least = usize::from(challenge == Challenge::Http01);
    read_addresses(&value, least..=limits::LISTENERS_MAX, None)
}

fn read_external_account(table: &Table) -> Result<Option<ExternalAccount>, ConfigError> {
    let Some(value) = table.value("external_account") else { return Ok(None) };
    let table = value.table()?;
    table.expect_keys(&["id", "key_file"])?;
    let text = |key| {
        let value = table.required(key)?;
        match value.string()? {
            "" => Err(value.error("is empty")),
            text => Ok(text.to_owned()),
        }
    };
    Ok(Some(ExternalAccount { id: text("id")?, key_file: text("key_file")?.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!(
            "hostname = \"mx2.test\"\n{text}\n[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n"
        );
        Config::parse(&text, "t").map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_and_what_goes_without_saying() {
        assert_eq!(parse("").unwrap().acme, None);
        let acme = parse("[acme]\nagree_to_terms = true").unwrap().acme.unwrap();
        assert_eq!((acme.directory.as_str(), acme.challenge), (DIRECTORY, Challenge::Http01));
        assert_eq!(
            acme.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["0.0.0.0:80", "[::]:80"]
        );
        assert_eq!(acme.names("mx2.test"), ["mx2.test"]);
        let text = "[acme]\nagree_to_terms = true\ndirectory = \"https://ca.test:14000/dir\"\ncontact = \"a@b.test\"\nnames = [\"A.test\", \"b.test\"]\n\
            challenge = \"tls-alpn-01\"\nlisten = []\nroots = \"ca.pem\"\nexternal_account = { id = \"k\", key_file = \"f\" }\n[admin]\ntls = \"own\"";
        let config = parse(text).unwrap();
        let acme = config.acme.as_ref().unwrap();
        assert_eq!((acme.names("mx2.test"), acme.listen.len()), (vec!["a.test", "b.test"], 0));
        let shown = config.effective().to_string();
        assert_eq!(Config::parse(&shown, "again").unwrap(), config, "{shown}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (wrong, expected) in [
            ("", "t:2: acme.agree_to_terms: is missing"),
            ("agree_to_terms = false", "t:3: acme.agree_to_terms: false must be true"),
            ("agree_to_terms = true\ndirectory = \"http://a.test/\"", "t:4: acme.directory: "),
            ("agree_to_terms = true\ncontact = \"mailto:a@b.test\"", "t:4: acme.contact: "),
            ("agree_to_terms = true\nnames = [\"a.test\", \"A.test\"]", "t:4: acme.names[1]: "),
            ("agree_to_terms = true\nlisten = []", "t:4: acme.listen: "),
            ("agree_to_terms = true\nchallenge = \"dns-01\"", "t:4: acme.challenge: "),
            ("agree_to_terms = true\nchallenge = \"tls-alpn-01\"\nlisten = []", "t:2: acme.listen: "),
            ("agree_to_terms = true\nkey = 1", "t:4: acme.key: unknown key"),
            ("agree_to_terms = true\n[smtp]\ntls = { cert = \"c\", key = \"k\" }", "t:2: acme.names: "),
        ] {
            let error = parse(&format!("[acme]\n{wrong}")).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
