//! XCLIENT and XFORWARD: who hands mail on says whose it is (Postfix, XCLIENT_README and XFORWARD_README).
//!
//! As a client ([`TrueClient`]) we say ADDR, NAME, PROTO and HELO, as far as the server names them, in one command. ADDR goes first:
//! it is the one that a server may not understand (IPv6), and Postfix keeps what it read before that. NAME is `[UNAVAILABLE]`, since no name was looked up,
//! and would be ours if it was left out. Whose address is that of our own host, or not known, is not named: to the primary
//! the same address would be its own host.
//!
//! As a server, understood are ADDR, NAME, PORT, PROTO and HELO, values in xtext. LOGIN is taken only as `[UNAVAILABLE]`: there is
//! no authentication here that it could stand for. Any other attribute was not offered and refuses the command, so
//! nothing is accepted and ignored. Who may say XCLIENT is the host's to decide.

use core::net::{IpAddr, Ipv6Addr};

use crate::limits::CLIENT_NAMING_OCTETS_MAX;
use crate::smtp::command::is_client_name;
use crate::smtp::dsn::{decode_xtext, push_xtext};

/// The client whom a message came from, as it is told to who takes the message next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrueClient {
    address: IpAddr,
    helo: String,
    is_extended: bool,
}

/// Attributes that a server takes by XCLIENT or XFORWARD, as far as we could say them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    name: bool,
    addr: bool,
    proto: bool,
    helo: bool,
}

impl TrueClient {
    /// Where it was, what it called itself, and whether it said EHLO; `None` for one that cannot be named to others.
    pub fn new(address: IpAddr, helo: &str, is_extended: bool) -> Option<Self> {
        let address = address.to_canonical();
        let is_nameable = !address.is_unspecified() && !address.is_loopback();
        is_nameable.then(|| Self { address, helo: helo.to_owned(), is_extended })
    }

    /// What it called itself, as far as EHLO can say that.
    pub(crate) fn hello(&self) -> Option<&str> {
        let is_sayable = is_client_name(&self.helo) && self.helo.is_ascii();
        is_sayable.then_some(self.helo.as_str())
    }

    /// `verb` with the attributes that the server takes, and the line end. A HELO name that would make the line longer than
    /// [`CLIENT_NAMING_OCTETS_MAX`] is `[UNAVAILABLE]`.
    pub(crate) fn line(&self, verb: &str, offered: Attributes) -> Vec<u8> {
        let mut helo = String::new();
        push_xtext(&mut helo, self.helo.as_bytes());
        let line = self.line_with(verb, offered, &helo);
        let is_sayable = !helo.is_empty() && line.len() <= CLIENT_NAMING_OCTETS_MAX;
        if is_sayable { line } else { self.line_with(verb, offered, UNAVAILABLE) }
    }

    fn line_with(&self, verb: &str, offered: Attributes, helo: &str) -> Vec<u8> {
        let mut line = match self.address {
            IpAddr::V4(address) => format!("{verb} ADDR={address}"),
            IpAddr::V6(address) => format!("{verb} ADDR={IPV6}{address}"),
        };
        if offered.name {
            line.push_str(&format!(" NAME={UNAVAILABLE}"));
        }
        if offered.proto {
            line.push_str(if self.is_extended { " PROTO=ESMTP" } else { " PROTO=SMTP" });
        }
        if offered.helo {
            line.push_str(&format!(" HELO={helo}"));
        }
        line.push_str("\r\n");
        line.into_bytes()
    }
}

impl Attributes {
    /// By what an offer names; what we do not know, or never say, is left out.
    pub(crate) fn named<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for word in words {
            match word.to_ascii_uppercase().as_str() {
                "NAME" => this.name = true,
                "ADDR" => this.addr = true,
                "PROTO" => this.proto = true,
                "HELO" => this.helo = true,
                _ => {}
            }
        }
        this
    }

    /// A client can be told apart by what may be said: without ADDR the rest would be put to our address.
    pub(crate) fn is_enough(self) -> bool {
        self.addr
    }
}

/// What XCLIENT said so far; what it did not say is as the connection has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOverride {
    /// Where the client is.
    pub address: Option<IpAddr>,
    /// Its name by DNS.
    pub name: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// What it said in HELO or EHLO.
    pub helo: Option<String>,
    /// Whether it said EHLO.
    pub is_extended: Option<bool>,
}

/// The attributes as EHLO offers them.
pub(crate) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO";
const UNAVAILABLE: &str = "[UNAVAILABLE]";
const IPV6: &str = "IPV6:";
const TEMPORARILY_UNAVAILABLE: &str = "[TEMPUNAVAIL]";

impl ClientOverride {
    /// What holds after another command with these arguments; `None` if one of them is wrong.
    pub(crate) fn after(&self, arguments: &str) -> Option<Self> {
        let mut next = self.clone();
        let mut attributes = arguments.split(' ').filter(|word| !word.is_empty()).peekable();
        attributes.peek()?;
        for attribute in attributes {
            let (name, value) = attribute.split_once('=')?;
            let value = String::from_utf8(decode_xtext(value)?).ok()?;
            next.take(&name.to_ascii_uppercase(), &value)?;
        }
        Some(next)
    }

    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let is_unknown = value.eq_ignore_ascii_case(UNAVAILABLE)
            || (name == "NAME" && value.eq_ignore_ascii_case(TEMPORARILY_UNAVAILABLE));
        let known = Some(value).filter(|_| !is_unknown);
        match (name, known) {
            ("ADDR", known) => self.address = parsed(known, parse_address)?,
            ("NAME", known) => self.name = parsed(known, parse_name)?,
            ("PORT", known) => self.port = parsed(known, |port| port.parse().ok())?,
            ("HELO", known) => self.helo = parsed(known, parse_name)?,
            ("PROTO", Some(value)) if value.eq_ignore_ascii_case("SMTP") => self.is_extended = Some(false),
            ("PROTO", Some(value)) if value.eq_ignore_ascii_case("ESMTP") => self.is_extended = Some(true),
            ("LOGIN", None) => {}
            _ => return None,
        }
        Some(())
    }
}

/// `Some(None)` for what is not known, `None` for what makes no sense.
fn parsed<T>(known: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    known.map_or(Some(None), |value| parse(value).map(Some))
}

/// An IPv4 address, or `IPV6:` and an IPv6 address.
fn parse_address(value: &str) -> Option<IpAddr> {
    match value.get(..IPV6.len()) {
        Some(tag) if tag.eq_ignore_ascii_case(IPV6) => {
            value[IPV6.len()..].parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => value.parse().ok().map(IpAddr::V4),
    }
}

fn parse_name(value: &str) -> Option<String> {
    is_client_name(value).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(arguments: &str) -> Option<ClientOverride> {
        ClientOverride::default().after(arguments)
    }

    #[test]
    fn attributes_add_up_over_commands() {
        let first = after("ADDR=192.0.2.7 name=client.example.org").unwrap();
        let second = first.after("PORT=4321 HELO=a+2Bb PROTO=smtp LOGIN=[UNAVAILABLE]").unwrap();
        let expected = ClientOverride {
            address: Some("192.0.2.7".parse().unwrap()),
            name: Some("client.example.org".to_owned()),
            port: Some(4321),
            helo: Some("a+b".to_owned()),
            is_extended: Some(false),
        };
        assert_eq!(second, expected);
        let third = second.after("ADDR=IPV6:2001:db8::1 NAME=[TEMPUNAVAIL] HELO=[unavailable]").unwrap();
        assert_eq!(third.address, Some("2001:db8::1".parse().unwrap()));
        assert_eq!((third.name, third.helo, third.port), (None, None, Some(4321)));
        assert_eq!(second.after("ADDR=[UNAVAILABLE]").unwrap().address, None);
    }

    fn all() -> Attributes {
        Attributes::named(ATTRIBUTES.split(' '))
    }

    #[test]
    fn what_is_said_is_understood_here_as_it_was_meant() {
        for (address, helo, is_extended) in [
            ("192.0.2.7", "client.example.org", true),
            ("2001:db8::7", "[IPv6:2001:db8::7]", false),
            ("198.51.100.1", "a+b=c,\u{fc}\u{20ac}", true),
        ] {
            let client = TrueClient::new(address.parse().unwrap(), helo, is_extended).unwrap();
            let line = String::from_utf8(client.line("XCLIENT", all())).unwrap();
            let told = after(line.trim_end().strip_prefix("XCLIENT ").unwrap()).unwrap();
            let expected = ClientOverride {
                address: Some(address.parse().unwrap()),
                name: None,
                port: None,
                helo: Some(helo.to_owned()),
                is_extended: Some(is_extended),
            };
            assert_eq!(told, expected, "{line}");
        }
    }

    #[test]
    fn a_line_has_what_was_offered_and_a_bound() {
        let client = |address: &str, helo: &str| TrueClient::new(address.parse().unwrap(), helo, true);
        let line = |helo: &str, offered: &str| {
            let offered = Attributes::named(offered.split(' '));
            String::from_utf8(client("192.0.2.7", helo).unwrap().line("XFORWARD", offered)).unwrap()
        };
        assert_eq!(line("x", "addr"), "XFORWARD ADDR=192.0.2.7\r\n");
        assert_eq!(line("x", "IDENT HELO ADDR"), "XFORWARD ADDR=192.0.2.7 HELO=x\r\n");
        assert_eq!(line("", "HELO ADDR"), "XFORWARD ADDR=192.0.2.7 HELO=[UNAVAILABLE]\r\n");
        assert!(line(&"x".repeat(255), "HELO ADDR").contains(&"x".repeat(255)));
        assert_eq!(line(&"\u{fc}".repeat(127), "HELO ADDR"), line("", "HELO ADDR"));
        assert!(!Attributes::named("NAME HELO".split(' ')).is_enough() && all().is_enough());
        assert_eq!(client("::ffff:192.0.2.7", "x"), client("192.0.2.7", "x"));
        for ours in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
            assert_eq!(client(ours, "x"), None, "{ours}");
        }
        assert_eq!(client("192.0.2.7", "x\u{fc}").unwrap().hello(), None, "nothing that EHLO can say");
    }

    #[test]
    fn what_was_not_offered_or_makes_no_sense_refuses_the_command() {
        for arguments in [
            "",
            " ",
            "ADDR",
            "ADDR=",
            "ADDR=192.0.2",
            "ADDR=2001:db8::1",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=[TEMPUNAVAIL]",
            "PORT=65536",
            "PROTO=HTTP",
            "PROTO=[UNAVAILABLE]",
            "LOGIN=anybody",
            "DESTADDR=192.0.2.1",
            "HELO=a+20b",
            "HELO=a+0Ab",
            "NAME=+FF",
            "ADDR=192.0.2.1 X=1",
        ] {
            assert_eq!(after(arguments), None, "{arguments}");
        }
    }
}
