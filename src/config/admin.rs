//! The `[admin]` table: where the admin API is, and the first administrator's token.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::path::{Path, PathBuf};

use super::CertificateFiles;
use super::edge::read_certificate;
use super::policy::read_duration;
use super::reader::{ConfigError, Table};
use crate::limits;

/// The port where nothing else is said.
const PORT: u16 = 8025;
/// The file in the data directory where no other is named.
const TOKEN_FILE: &str = "admin-token";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where the API listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Whether it speaks TLS, and with which certificate.
    pub tls: AdminTls,
    /// The file with the first administrator's token; `None`: one is made in the data directory.
    pub token_file: Option<PathBuf>,
    /// How long a mail server is down before contacts are told.
    pub alert_after: Duration,
}

/// How the admin API is spoken with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminTls {
    /// Plain HTTP.
    #[default]
    None,
    /// HTTPS with our own certificate: that of `[acme]`, else the self-signed one.
    Own,
    /// HTTPS with this one.
    Files(CertificateFiles),
}

impl Default for Admin {
    fn default() -> Self {
        let listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        Self { listen, tls: AdminTls::None, token_file: None, alert_after: Duration::from_secs(60) }
    }
}

impl Admin {
    /// The file with the token: the one that is named, else the one that is made.
    #[must_use]
    pub fn token_file(&self, data_dir: &Path) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| data_dir.join(TOKEN_FILE))
    }
}

pub(super) fn read(table: &Table) -> Result<Admin, ConfigError> {
    table.expect_keys(&["listen", "tls", "token_file", "alert_after"])?;
    let default = Admin::default();
    Ok(Admin {
        listen: match table.value("listen") {
            Some(value) if value.string()?.is_empty() => None,
            Some(value) => {
                let address = value.string()?.parse();
                Some(
                    address
                        .map_err(|_| value.error("is not an address and port, as in \"127.0.0.1:8025\""))?,
                )
            }
            None => default.listen,
        },
        tls: match table.value("tls") {
            Some(value) => match value.table() {
                Ok(files) => AdminTls::Files(read_certificate(&files)?),
                Err(_) if value.string().is_ok_and(|text| text == "own") => AdminTls::Own,
                Err(_) => return Err(value.error("is neither { cert = \"...\", key = \"...\" } nor \"own\"")),
            },
            None => default.tls,
        },
        token_file: match table.value("token_file") {
            Some(value) => Some(value.string()?).filter(|path| !path.is_empty()).map(PathBuf::from),
            None => default.token_file,
        },
        alert_after: read_duration(
            table,
            "alert_after",
            Duration::ZERO..=limits::ALERT_AFTER_MAX,
            default.alert_after,
        )?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(admin: &str) -> Result<Admin, String> {
        let text = format!("[admin]\n{admin}\n[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n");
        Config::parse(&text, "t").map(|config| config.admin).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_a_listener_on_loopback_unless_it_is_switched_off() {
        assert_eq!(parse("").unwrap(), Admin::default());
        assert_eq!(Admin::default().listen, Some("127.0.0.1:8025".parse().unwrap()));
        assert_eq!(parse("listen = \"\"").unwrap().listen, None);
        assert_eq!(parse("listen = \"[::1]:80\"").unwrap().listen, Some("[::1]:80".parse().unwrap()));
        for (wrong, expected) in [
            ("listen = \"localhost:80\"", "t:2: admin.listen: \"localhost:80\" is not an address"),
            ("listen = \"127.0.0.1\"", "t:2: admin.listen: \"127.0.0.1\" is not an address and port"),
            ("listen = 8025", "t:2: admin.listen: 8025 is not a text in quotes"),
            ("token = \"secret\"", "t:2: admin.token: unknown key"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn it_speaks_tls_with_a_certificate_of_its_own_or_ours() {
        assert_eq!(parse("tls = \"own\"").unwrap().tls, AdminTls::Own);
        let files = CertificateFiles { cert: "c".into(), key: "k".into() };
        assert_eq!(parse("tls = { cert = \"c\", key = \"k\" }").unwrap().tls, AdminTls::Files(files));
        for (wrong, expected) in [
            ("tls = \"yes\"", "t:2: admin.tls: \"yes\" is neither"),
            ("tls = { cert = \"c\" }", "t:2: admin.tls.key: is missing"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_token_is_in_the_data_directory_unless_a_file_is_named() {
        let data = Path::new("/data");
        assert_eq!(parse("token_file = \"\"").unwrap().token_file(data), data.join("admin-token"));
        let named = parse("token_file = \"/etc/token\"").unwrap();
        assert_eq!(named.token_file(data), Path::new("/etc/token"));
    }
}
