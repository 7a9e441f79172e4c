//! XCLIENT: a trusted proxy says who its client is (Postfix, XCLIENT_README).
//!
//! Understood are ADDR, NAME, PORT, PROTO and HELO, values in xtext. LOGIN is taken only as `[UNAVAILABLE]`: there is
//! no authentication here that it could stand for. Any other attribute was not offered and refuses the command, so
//! nothing is accepted and ignored. Who may say XCLIENT is the host's to decide.

use core::net::{IpAddr, Ipv6Addr};

use crate::smtp::command::is_client_name;
use crate::smtp::dsn::decode_xtext;

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
    match value.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => value[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
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
