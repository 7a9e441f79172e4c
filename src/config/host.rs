//! Names in the configuration: domains, hosts of primaries, the postmaster's address. Text in, checked values out.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use std::borrow::Cow;

use crate::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX};

/// The port of SMTP (RFC 5321 4.5.4.2).
pub const SMTP_PORT: u16 = 25;
/// Longest label of a domain name (RFC 1035 2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// A host that takes the mail of a protected domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    /// Name or address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What a primary speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// RFC 2033: each recipient has its own reply to the end of data.
    Lmtp,
    /// RFC 5321.
    #[default]
    Smtp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lmtp => "lmtp",
            Self::Smtp => "smtp",
        })
    }
}

/// Where the mail of a domain goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Primaries {
    /// To these hosts, in order; at least one.
    Hosts(Vec<Primary>),
    /// To the mail exchangers that the domain publishes, as far as they come before us (RFC 5321 5.1).
    Exchangers,
}

impl Primaries {
    /// What they speak; exchangers speak SMTP.
    pub fn protocol(&self) -> Protocol {
        self.hosts().first().map_or(Protocol::Smtp, |primary| primary.protocol)
    }

    /// The hosts that the configuration names.
    pub fn hosts(&self) -> &[Primary] {
        match self {
            Self::Hosts(hosts) => hosts,
            Self::Exchangers => &[],
        }
    }
}

/// Where a primary is: an address, or a name whose addresses are looked up before each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A host name in lower case.
    Name(String),
}

/// Why a text is not a name or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not letters, digits and hyphens in labels of 1 to 63 octets.
    #[error("is not a domain name (labels of letters, digits and inner hyphens, no dot at the end)")]
    NotADomain,
    /// Letters outside ASCII of which no A-labels can be made.
    #[error("is not an internationalized domain name (RFC 5890)")]
    NotInternational,
    /// Neither `host`, `host:port`, an IPv4 address, `[IPv6]` nor `[IPv6]:port`.
    #[error("is not \"host\", \"host:port\" or an address (IPv6 with a port as \"[::1]:25\")")]
    NotAHost,
    /// A port that is not 1 to 65535.
    #[error("has a port that is not 1 to 65535")]
    NotAPort,
    /// Not `local@domain` with an unquoted local part.
    #[error("is not a mail address (local@domain, the local part unquoted)")]
    NotAnAddress,
}

impl Primary {
    /// Reads `host[:port]` of one that speaks SMTP; the port is 25 when none is written.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let protocol = Protocol::Smtp;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: Host::Address(address), port: SMTP_PORT, protocol });
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(NameError::NotAHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| NameError::NotAHost)?;
            return Ok(Self { host: Host::Address(address.into()), port: parse_port(rest)?, protocol });
        }
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let port = parse_port(port)?;
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Self { host: Host::Address(address), port, protocol });
        }
        let name = labels(name, true).map_err(|error| match error {
            NameError::NotADomain => NameError::NotAHost,
            other => other,
        })?;
        Ok(Self { host: Host::Name(name), port, protocol })
    }
}

impl fmt::Display for Primary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(formatter, "{address}:{}", self.port),
            Host::Name(name) => write!(formatter, "{name}:{}", self.port),
        }
    }
}

impl fmt::Display for Primaries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchangers => formatter.write_str("mx"),
            Self::Hosts(hosts) => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                formatter.write_str(&hosts.join(", "))
            }
        }
    }
}

/// Checks a mail domain and lower-cases it.
pub(super) fn parse_domain(text: &str) -> Result<String, NameError> {
    labels(text, false)
}

/// Splits a mail address into its local part, kept as it is, and its domain, lower-cased.
pub(super) fn parse_mailbox(text: &str) -> Result<(&str, String), NameError> {
    let (local, domain) = text.rsplit_once('@').ok_or(NameError::NotAnAddress)?;
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    // RFC 5321 4.1.2: Dot-string. A quoted local part would pass nowhere else in a configuration.
    if local.len() > LOCAL_PART_OCTETS_MAX || !local.split('.').all(is_atom) {
        return Err(NameError::NotAnAddress);
    }
    Ok((local, parse_domain(domain)?))
}

/// The one form in which domains are compared and stored: A-labels in lower case (RFC 5890 2.3.2.1). U-labels are
/// mapped as UTS 46 does it; `None` where that fails. ASCII stays what it is but for its case: a label that begins
/// with `xn--` is either the A-label or no name at all.
pub fn canonical_domain(text: &str) -> Option<Cow<'_, str>> {
    if !text.is_ascii() {
        return idna::domain_to_ascii_strict(text).ok().map(Cow::Owned);
    }
    if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        return Some(Cow::Owned(text.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(text))
}

/// `port` is empty or starts with a colon.
fn parse_port(port: &str) -> Result<u16, NameError> {
    if port.is_empty() {
        return Ok(SMTP_PORT);
    }
    let digits = port.strip_prefix(':').ok_or(NameError::NotAHost)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(port) if all_digits && port > 0 => Ok(port),
        _ => Err(NameError::NotAPort),
    }
}

/// Checks the labels of a name and lower-cases it. Names of hosts inside a company may hold underscores.
fn labels(text: &str, underscore: bool) -> Result<String, NameError> {
    let text = &*canonical_domain(text).ok_or(NameError::NotInternational)?;
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || (underscore && b == b'_');
    let is_label = |label: &str| {
        (1..=LABEL_OCTETS_MAX).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits alone is a mistyped IPv4 address, never a name (RFC 1123 2.1).
    let last = text.rsplit('.').next().unwrap_or_default();
    if text.len() > DOMAIN_OCTETS_MAX
        || !text.split('.').all(is_label)
        || last.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(NameError::NotADomain);
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn shown(text: &str) -> Result<String, NameError> {
        Primary::parse(text).map(|primary| primary.to_string())
    }

    #[test]
    fn a_primary_is_a_name_or_an_address_with_an_optional_port() {
        for (text, expected) in [
            ("Mail.Example.com", "mail.example.com:25"),
            ("mail.example.com:2525", "mail.example.com:2525"),
            ("mail_1:24", "mail_1:24"),
            ("192.0.2.1", "192.0.2.1:25"),
            ("192.0.2.1:26", "192.0.2.1:26"),
            ("2001:db8::1", "[2001:db8::1]:25"),
            ("[2001:db8::1]", "[2001:db8::1]:25"),
            ("[2001:db8::1]:26", "[2001:db8::1]:26"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(shown(expected).as_deref(), Ok(expected), "{expected}");
        }
    }

    #[test]
    fn what_is_no_primary_says_what_is_wrong() {
        for text in [
            "",
            "mail..example",
            "-mail",
            "mail.example.com.",
            "192.0.2.999",
            "[192.0.2.1]",
            "[::1",
            "[::1]26",
            "a b",
        ] {
            assert_eq!(shown(text), Err(NameError::NotAHost), "{text:?}");
        }
        for text in ["mail:", "mail:0", "mail:65536", "mail:+25", "mail:smtp", "192.0.2.1:", "[::1]:"] {
            assert_eq!(shown(text), Err(NameError::NotAPort), "{text:?}");
        }
        assert_eq!(shown("pošta.example").as_deref(), Ok("xn--pota-h6a.example:25"));
        assert_eq!(shown("\u{301}a.example"), Err(NameError::NotInternational));
    }

    #[test]
    fn a_domain_is_checked_and_lower_cased() {
        assert_eq!(parse_domain("EXAMPLE.Test").as_deref(), Ok("example.test"));
        assert_eq!(parse_domain("xn--bcher-kva.example").as_deref(), Ok("xn--bcher-kva.example"));
        for same in ["bücher.example", "BÜCHER.Example", "bu\u{308}cher.example", "XN--BCHER-KVA.example"] {
            assert_eq!(parse_domain(same).as_deref(), Ok("xn--bcher-kva.example"), "{same}");
        }
        assert_eq!(canonical_domain("bücher..example"), None);
        let long = format!("{}.test", "a".repeat(64));
        for text in ["", ".", "example.", "exa_mple.test", "example-.test", "10.0.0.1", long.as_str()] {
            assert_eq!(parse_domain(text), Err(NameError::NotADomain), "{text:?}");
        }
    }

    #[test]
    fn a_mailbox_is_a_dot_string_at_a_domain() {
        assert_eq!(parse_mailbox("Post.Master@Example.test"), Ok(("Post.Master", "example.test".to_owned())));
        for text in
            ["postmaster", "@example.test", "a b@example.test", "a..b@example.test", "\"a\"@example.test"]
        {
            assert_eq!(parse_mailbox(text), Err(NameError::NotAnAddress), "{text:?}");
        }
        assert_eq!(parse_mailbox("a@b@example.test"), Err(NameError::NotAnAddress));
    }

    #[test]
    fn an_lmtp_primary_is_a_host_and_has_a_port_of_its_own() {
        let with = |primary: &str| {
            let text = format!("[[domain]]\nname = \"a.test\"\nprimary = {primary}\nprotocol = \"lmtp\"\n");
            Config::parse(&text, "t")
        };
        let config = with("[\"box:24\", \"[::1]:2424\"]").unwrap();
        assert_eq!(config.domains[0].primaries.protocol(), Protocol::Lmtp);
        assert!(config.domains[0].primaries.hosts().iter().all(|host| host.protocol == Protocol::Lmtp));
        for (primary, said) in [
            ("\"mx\"", "cannot be \"mx\""),
            ("[\"box\"]", "other than 25"),
            ("[\"a:24\", \"b:25\"]", "RFC 2033 5"),
        ] {
            let error = with(primary).expect_err(primary).to_string();
            assert!(error.contains(said) && error.contains("t:3"), "{error}");
        }
        let text = "[[domain]]\nname = \"a.test\"\nprimary = \"mx\"\nprotocol = \"uucp\"\n";
        assert!(Config::parse(text, "t").expect_err(text).to_string().contains("protocol"));
    }
}
