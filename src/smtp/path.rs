//! Reverse-path, forward-path and mailbox (RFC 5321 4.1.2).
//!
//! A path is parsed where it stands in the command line and borrowed from there; what follows its `>` is
//! handed back untouched. Source routes are accepted and dropped (RFC 5321 appendix C); quoted local parts
//! and address literals are understood. Lengths are those of `limits.rs`, checked on the path as typed.
//!
//! A backup MX that refuses what the primary would take loses mail, so the grammar is wider than the RFC's in
//! two places, neither of which changes where a path ends: dots may stand anywhere in a local part
//! (carriers hand out such addresses), and an underscore may stand in a domain. Characters beyond ASCII may stand
//! wherever letters may (RFC 6531 3.3); whether SMTPUTF8 was said for them is the caller's to ask
//! ([`Mailbox::is_ascii`]), and which domains are the same is the host's. Nothing here decides who may send or receive.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::limits::{DOMAIN_LABEL_OCTETS_MAX, DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX};

/// `local-part@domain` as typed, without brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox<'a> {
    text: &'a str,
    at: usize,
}

/// The argument of `MAIL FROM:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversePath<'a> {
    /// `<>`: notices, which nobody answers.
    Null,
    /// Where notices about the message go.
    Mailbox(Mailbox<'a>),
}

/// The argument of `RCPT TO:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPath<'a> {
    /// `<postmaster>` without a domain, in any case (RFC 5321 4.5.1).
    Postmaster,
    /// A recipient.
    Mailbox(Mailbox<'a>),
}

/// Why a path was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not ASCII, and SMTPUTF8 was not said; or not UTF-8.
    #[error("the address is not ASCII")]
    NonAscii,
    /// Not the grammar of a path.
    #[error("the address is not well-formed")]
    Syntax,
    /// A part is longer than its bound in `limits.rs`.
    #[error("the address is too long")]
    TooLong,
}

impl<'a> Mailbox<'a> {
    /// Parses a whole `local-part@domain`.
    pub fn parse(text: &'a str) -> Result<Self, PathError> {
        // RFC 6531 3.3 forbids none, but C1 controls are control characters wherever a path is shown.
        if !text.is_ascii() && text.contains(char::is_control) {
            return Err(PathError::Syntax);
        }
        let at = if text.starts_with('"') { quoted_string_len(text)? } else { dot_string_len(text) };
        if at == 0 || !text[at..].starts_with('@') {
            return Err(PathError::Syntax);
        }
        if at > LOCAL_PART_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
        check_domain(&text[at + 1..])?;
        Ok(Self { text, at })
    }

    /// A mailbox that was parsed before and kept as text with the place of its `@`.
    pub(crate) fn from_parts(text: &'a str, at: usize) -> Self {
        debug_assert_eq!(text.as_bytes().get(at), Some(&b'@'));
        Self { text, at }
    }

    /// No character is beyond ASCII: SMTPUTF8 is not needed.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The whole mailbox: `local-part@domain`.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The local part as typed, quotes included.
    pub fn local_part(&self) -> &'a str {
        &self.text[..self.at]
    }

    /// The domain or address literal.
    pub fn domain(&self) -> &'a str {
        &self.text[self.at + 1..]
    }
}

impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl<'a> ReversePath<'a> {
    /// Parses a path at the head of `text`; gives it and what follows its `>`.
    pub fn parse(text: &'a str) -> Result<(Self, &'a str), PathError> {
        let path = PathText::find(text)?;
        match path.content {
            "" => Ok((Self::Null, path.rest)),
            content => Ok((Self::Mailbox(Mailbox::parse(content)?), path.rest)),
        }
    }

    /// The mailbox as text; empty for `<>`.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }
}

impl<'a> ForwardPath<'a> {
    /// Parses a path at the head of `text`; gives it and what follows its `>`.
    pub fn parse(text: &'a str) -> Result<(Self, &'a str), PathError> {
        let path = PathText::find(text)?;
        if path.content.eq_ignore_ascii_case("postmaster") {
            return Ok((Self::Postmaster, path.rest));
        }
        Ok((Self::Mailbox(Mailbox::parse(path.content)?), path.rest))
    }

    /// The path as text, without brackets: `postmaster` or the mailbox.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }
}

/// A bracketed path: what is inside it, source route dropped, and what follows it.
struct PathText<'a> {
    content: &'a str,
    rest: &'a str,
}

impl<'a> PathText<'a> {
    fn find(text: &'a str) -> Result<Self, PathError> {
        let inside = text.strip_prefix('<').ok_or(PathError::Syntax)?;
        let end = closing_bracket(inside).ok_or(PathError::Syntax)?;
        let (content, rest) = (&inside[..end], &inside[end + 1..]);
        if content.len() + 2 > PATH_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self { content: drop_source_route(content)?, rest })
    }
}

/// The `>` that ends the path: one inside a quoted local part does not.
fn closing_bracket(inside: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    inside.bytes().position(|octet| {
        let literal = core::mem::take(&mut escaped);
        match octet {
            b'\\' if quoted && !literal => escaped = true,
            b'"' if !literal => quoted = !quoted,
            _ => {}
        }
        octet == b'>' && !quoted
    })
}

/// RFC 5321 appendix C: `@a,@b:` before the mailbox "SHOULD be ignored". Its domains must be domains.
fn drop_source_route(content: &str) -> Result<&str, PathError> {
    if !content.starts_with('@') {
        return Ok(content);
    }
    let (route, mailbox) = content.split_once(':').ok_or(PathError::Syntax)?;
    for hop in route.split(',') {
        check_domain_name(hop.strip_prefix('@').ok_or(PathError::Syntax)?)?;
    }
    Ok(mailbox)
}

fn dot_string_len(text: &str) -> usize {
    text.bytes().position(|octet| !(is_atext(octet) || octet == b'.')).unwrap_or(text.len())
}

fn quoted_string_len(text: &str) -> Result<usize, PathError> {
    let mut escaped = false;
    for (index, octet) in text.bytes().enumerate().skip(1) {
        match octet {
            0..=31 | 127 => return Err(PathError::Syntax),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(index + 1),
            _ => {}
        }
    }
    Err(PathError::Syntax)
}

fn check_domain(domain: &str) -> Result<(), PathError> {
    if domain.len() > DOMAIN_OCTETS_MAX {
        return Err(PathError::TooLong);
    }
    match domain.strip_prefix('[') {
        Some(literal) => check_address_literal(literal.strip_suffix(']').ok_or(PathError::Syntax)?),
        None => check_domain_name(domain),
    }
}

fn check_domain_name(domain: &str) -> Result<(), PathError> {
    for label in domain.split('.') {
        if label.is_empty() || !label.bytes().all(is_label_octet) {
            return Err(PathError::Syntax);
        }
        if label.len() > DOMAIN_LABEL_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
    }
    Ok(())
}

/// RFC 5321 4.1.3. No general address literal was ever registered, so any tag but IPv6 is an error.
fn check_address_literal(literal: &str) -> Result<(), PathError> {
    let valid = match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => literal[5..].parse::<Ipv6Addr>().is_ok(),
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    };
    if valid { Ok(()) } else { Err(PathError::Syntax) }
}

/// RFC 6531 3.3: an octet of a U-label too.
fn is_label_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' || octet >= 0x80
}

/// RFC 5322 3.2.3 and RFC 6531 3.3. The text is UTF-8, so an octet from 0x80 up is part of a character.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(text: &str) -> Result<String, PathError> {
        ForwardPath::parse(text).map(|(path, _)| path.as_str().to_owned())
    }

    #[test]
    fn mailboxes_of_every_shape_are_understood() {
        for text in [
            "a@b",
            "first.last@example.net",
            "list-bounce+a=b.example@example.net",
            "a..b.@docomo.example",
            "!#$%&'*+-/=?^_`{|}~@example.net",
            "\"a b\"@example.net",
            "\"a@b>c\\\"d\\\\\"@example.net",
            "\"\"@example.net",
            "a@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
            "a@under_score.example",
            "a@xn--bcher-kva.example",
            "ü@bücher.example",
            "\"ü ö\"@b",
        ] {
            assert_eq!(recipient(&format!("<{text}>")), Ok(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_mailbox_is_a_syntax_error() {
        for text in [
            "",
            "a",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@[1.2.3]",
            "a@[IPv6:1]",
            "a@[x:1]",
            "a@[1.2.3.4",
            "\"a@b",
            "\"a\"b@c",
            "a(c)@b",
            "<a@b>",
            "a@b,c",
            "@r,a@b",
            "@r a@b",
            "a\t@b",
            "a\u{85}@b",
            "\"a\u{85}\"@b",
            "a@b\u{9f}",
        ] {
            assert_eq!(recipient(&format!("<{text}>")), Err(PathError::Syntax), "{text}");
        }
        assert_eq!(recipient("a@b"), Err(PathError::Syntax));
        assert_eq!(recipient("<a@b"), Err(PathError::Syntax));
        assert_eq!(recipient(" <a@b>"), Err(PathError::Syntax));
    }

    #[test]
    fn source_routes_are_dropped() {
        assert_eq!(recipient("<@one.example,@two.example:a@b>"), Ok("a@b".to_owned()));
        assert_eq!(recipient("<@one.example:postmaster@b>"), Ok("postmaster@b".to_owned()));
        assert_eq!(recipient("<@one..example:a@b>"), Err(PathError::Syntax));
    }

    #[test]
    fn postmaster_needs_no_domain_and_the_null_path_is_for_senders_only() {
        assert_eq!(ForwardPath::parse("<PostMaster>"), Ok((ForwardPath::Postmaster, "")));
        assert_eq!(ReversePath::parse("<> SIZE=1"), Ok((ReversePath::Null, " SIZE=1")));
        assert_eq!(ReversePath::parse("<postmaster>"), Err(PathError::Syntax));
    }

    #[test]
    fn lengths_are_strict() {
        let domain = format!("{0}.{0}.{0}", "d".repeat(60));
        let fits = "l".repeat(PATH_OCTETS_MAX - 3 - domain.len());
        assert!(recipient(&format!("<{fits}@{domain}>")).is_ok());
        assert_eq!(recipient(&format!("<{fits}l@{domain}>")), Err(PathError::TooLong));
        let local_part = "l".repeat(LOCAL_PART_OCTETS_MAX);
        assert!(recipient(&format!("<{local_part}@b>")).is_ok());
        assert_eq!(recipient(&format!("<{local_part}l@b>")), Err(PathError::TooLong));
        assert_eq!(recipient(&format!("<a@{}>", "d".repeat(64))), Err(PathError::TooLong));
    }

    #[test]
    fn parts_are_found_around_the_last_at() {
        let mailbox = Mailbox::parse("\"a@b\"@Example.NET").unwrap();
        assert_eq!((mailbox.local_part(), mailbox.domain()), ("\"a@b\"", "Example.NET"));
        let mailbox = Mailbox::parse("ü@bücher.example").unwrap();
        assert_eq!(
            (mailbox.local_part(), mailbox.domain(), mailbox.is_ascii()),
            ("ü", "bücher.example", false)
        );
    }
}
