//! Authentication-Results (RFC 8601): what we found out about a message's origin, as the field that goes on top of it when it is handed over;
//! and where fields are that others wrote in our name.
//!
//! Promise: whatever a stranger put into his addresses, names and signatures, the field is one field: nothing of theirs that is not a token or quoted is in it.
//! What is not known is not said; a message that nobody looked into has none. A field that claims to be ours and came with the message is left out
//! (RFC 8601 5), as far as the header section lies in what is read of it.
//!
//! It says nothing of `dkim` beyond the first [`SIGNATURES_MAX`](super::authentication::SIGNATURES_MAX) signatures.

use super::authentication::Verdict;
use super::received::{fields, header_section};
use core::fmt::Write as _;
use core::ops::Range;
use memchr::memchr;

/// What the field says, besides the verdict.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Our name: the authserv-id.
    pub hostname: &'a str,
    /// Empty for the null one.
    pub reverse_path: &'a str,
    /// What the client called itself.
    pub helo: &'a str,
    /// The message, or the first octets of it with its header section, as it is stored.
    pub header: &'a [u8],
}

/// The field, with its line end; `None`: there is nothing to say.
#[must_use]
pub fn field(origin: &Origin<'_>, verdict: &Verdict) -> Option<String> {
    let said = results(origin, verdict);
    (!said.is_empty()).then(|| format!("Authentication-Results: {}{said}\r\n", origin.hostname))
}

/// What it says behind our name: each result on a line of its own, begun by a semicolon.
#[must_use]
pub fn results(origin: &Origin<'_>, verdict: &Verdict) -> String {
    let mut said = String::new();
    if let Some(spf) = verdict.spf {
        let (property, value) = match origin.reverse_path {
            "" => ("smtp.helo", origin.helo),
            reverse_path => ("smtp.mailfrom", reverse_path),
        };
        write!(said, ";\r\n\tspf={} {property}={}", spf.word(), value_of(value, ATEXT)).expect(TAKES);
    }
    let mut signatures = signatures(origin.header);
    for result in verdict.dkim.iter().flatten() {
        write!(said, ";\r\n\tdkim={}", result.word()).expect(TAKES);
        said.push_str(&signatures.next().unwrap_or_default());
    }
    if verdict.dkim_known && verdict.dkim[0].is_none() {
        said.push_str(";\r\n\tdkim=none");
    }
    if let Some(dmarc) = verdict.dmarc {
        write!(said, ";\r\n\tdmarc={}", dmarc.word()).expect(TAKES);
        if let Some(policy) = verdict.policy {
            write!(said, " (p={})", policy.word()).expect(TAKES);
        }
        if let Some(domain) = author_domain(origin.header) {
            write!(said, " header.from={domain}").expect(TAKES);
        }
    }
    said
}

/// Where fields lie in the first octets of a message that claim to be ours.
#[must_use]
pub fn forged(message: &[u8], hostname: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut found = Vec::new();
    for field in fields(header_section(message)) {
        let range = at..at + field.len();
        at = range.end;
        let is_ours = body_of(field, "Authentication-Results")
            .and_then(authserv_id)
            .is_some_and(|id| id.eq_ignore_ascii_case(hostname.as_bytes()));
        if is_ours {
            found.push(range);
        }
    }
    found
}

/// The body of a field with this name.
fn body_of<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (own, body) = field.split_at(memchr(b':', field)?);
    own.trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| &body[1..])
}

/// RFC 8601 2.2: a word behind white space and comments, quoted or not.
fn authserv_id(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = behind_comments(body)?;
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut id = Vec::new();
        rest = quoted;
        loop {
            let (octet, behind) = rest.split_first()?;
            rest = behind;
            match octet {
                b'"' => return Some(id),
                b'\\' => {
                    let (escaped, behind) = rest.split_first()?;
                    id.push(*escaped);
                    rest = behind;
                }
                octet => id.push(*octet),
            }
        }
    }
    let is_end = |octet: &u8| octet.is_ascii_whitespace() || b";(".contains(octet);
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    (end > 0).then(|| rest[..end].to_vec())
}

/// What follows white space and comments, which nest (RFC 5322 3.2.2); `None` if there is nothing.
fn behind_comments(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = rest.trim_ascii_start();
        if !rest.starts_with(b"(") {
            return (!rest.is_empty()).then_some(rest);
        }
        let (mut depth, mut at) = (0_usize, 0);
        loop {
            match rest.get(at)? {
                b'\\' => at += 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        rest = rest.get(at..)?;
    }
}

/// What tells each signature from the others, in their order: its domain, its selector and the beginning of it (RFC 6008).
fn signatures(header: &[u8]) -> impl Iterator<Item = String> {
    let bodies = fields(header_section(header)).filter_map(|field| body_of(field, "DKIM-Signature"));
    bodies.map(|body| {
        let mut said = String::new();
        if has_a_tag_twice(body) {
            // RFC 6376 3.2: it is none. Who verified it may have gone by another one of the two than whoever reads this.
            return said;
        }
        for (tag, octets_max) in [("d", 255), ("s", 255), ("b", 8)] {
            let value = tag_of(body, tag).filter(|value| value.bytes().all(is_plain) && !value.is_empty());
            let Some(mut value) = value.filter(|value| tag == "b" || value.len() <= octets_max) else {
                continue;
            };
            value.truncate(octets_max);
            // `/`, `+` and `=` of base64 are no token's.
            let value = if tag == "b" { value_of(&value, "+") } else { value };
            write!(said, " header.{tag}={value}").expect(TAKES);
        }
        said
    })
}

/// Names and values of a list of tags (RFC 6376 3.2).
fn tags(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let tags = body.split(|octet| *octet == b';');
    tags.filter_map(|tag| {
        let (name, value) = tag.split_at(memchr(b'=', tag)?);
        Some((name.trim_ascii(), &value[1..]))
    })
}

/// Also one that differs in case only: some fold it.
fn has_a_tag_twice(body: &[u8]) -> bool {
    let is_again = |(at, (name, _)): (usize, (&[u8], &[u8]))| {
        tags(body).take(at).any(|(before, _)| before.eq_ignore_ascii_case(name))
    };
    tags(body).count() > TAGS_MAX || tags(body).enumerate().any(is_again)
}

/// More than any signature has.
const TAGS_MAX: usize = 64;

/// The value of a tag, without white space.
fn tag_of(body: &[u8], name: &str) -> Option<String> {
    let mut values = tags(body).filter(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value);
    let value = values.next()?.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    String::from_utf8(value).ok()
}

const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b'+' | b'/' | b'=')
}

/// The domain of the author, if there is one From field with one address that can be read in one way only: no second `@`, no comment.
fn author_domain(header: &[u8]) -> Option<String> {
    let mut all = fields(header_section(header)).filter_map(|field| body_of(field, "From"));
    let (from, None) = (all.next()?, all.next()) else { return None };
    let at = memchr(b'@', from)?;
    if from[at + 1..].contains(&b'@') || from.contains(&b'(') {
        return None;
    }
    let rest = &from[at + 1..];
    let end = rest.iter().position(|octet| !is_plain(*octet) || b"+/=".contains(octet)).unwrap_or(rest.len());
    let domain = rest[..end].to_ascii_lowercase();
    let is_whole = rest[end..].iter().all(|octet| octet.is_ascii_whitespace() || *octet == b'>');
    let is_one = !from.contains(&b',') && is_whole && (1..=255).contains(&end);
    String::from_utf8(domain).ok().filter(|_| is_one)
}

/// What an address is made of, dot-atoms and literals (RFC 5322 3.2.3, RFC 5321 4.1.3).
const ATEXT: &str = "!#$%&'*+-/=?^_`{|}~.@:[]";

/// A value as it may be written: as it is if it has letters, digits and `plain` only, else quoted (RFC 5322 3.2.4); without control
/// characters.
fn value_of(text: &str, plain: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || plain.contains(c) || !c.is_ascii();
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

const TAKES: &str = "a string takes what is written";

#[cfg(test)]
mod tests {
    use super::super::authentication::{Dkim, Dmarc, Policy, SIGNATURES_MAX, Spf};
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[u8] = b"DKIM-Signature: v=1; a=rsa-sha256; d=Example.org; s=sel1;\r\n\tbh=x; h=from;\r\n\tb=AbC d\r\n\tEf/12345==\r\n\
        dkim-signature: d=b.test;s=two words\r\nFrom: \"A, B\" <a@Example.org>\r\nFrom-Not: x@y\r\n\r\nDKIM-Signature: d=body.test; b=x\r\n";

    fn origin<'a>(reverse_path: &'a str, header: &'a [u8]) -> Origin<'a> {
        Origin { hostname: "mx2.test", reverse_path, helo: "client.test", header }
    }

    fn verdict() -> Verdict {
        let mut dkim = [None; SIGNATURES_MAX];
        (dkim[0], dkim[1]) = (Some(Dkim::Pass), Some(Dkim::Neutral));
        Verdict {
            spf: Some(Spf::SoftFail),
            dmarc: Some(Dmarc::Pass),
            policy: Some(Policy::Reject),
            dkim_known: true,
            dkim,
            ..Verdict::default()
        }
    }

    #[test]
    fn what_was_found_is_said_in_the_words_of_rfc_8601() {
        let header = [b"From: a@example.org\r\n", HEADER].concat();
        let header =
            String::from_utf8(header).expect("text").replace("From: \"A, B\" <a@Example.org>\r\n", "");
        assert_eq!(
            field(&origin("a@example.org", header.as_bytes()), &verdict()).expect("much"),
            "Authentication-Results: mx2.test;\r\n\tspf=softfail smtp.mailfrom=a@example.org;\r\n\
             \tdkim=pass header.d=Example.org header.s=sel1 header.b=\"AbCdEf/1\";\r\n\
             \tdkim=neutral header.d=b.test header.s=twowords;\r\n\
             \tdmarc=pass (p=reject) header.from=example.org\r\n"
        );
        let nothing = Verdict { dkim_known: true, spf: Some(Spf::None), ..Verdict::default() };
        assert_eq!(
            field(&origin("", b"Subject: x\r\n\r\n"), &nothing).expect("something"),
            "Authentication-Results: mx2.test;\r\n\tspf=none smtp.helo=client.test;\r\n\tdkim=none\r\n"
        );
        assert_eq!(field(&origin("a@b.test", HEADER), &Verdict::default()), None);
        // What can be read in two ways is not told: not whose signature it is, and not who the author is.
        for header in [
            "DKIM-Signature: d=bank.example; s=x; d=evil.example\r\n",
            "DKIM-Signature: d=bank.example; s=x; D=evil.example\r\n",
            "From: <a@evil.example> (@bank.example\r\n",
            "From: \"b@bank.example\" <a@evil.example>\r\n",
            "From: a@bank.example\r\nFrom: a@evil.example\r\n",
        ] {
            let said = field(&origin("a@b.test", header.as_bytes()), &verdict()).expect("much");
            assert!(!said.contains("bank") && !said.contains("evil"), "{said}");
        }
        let shifted = b" DKIM-Signature: d=one.test\r\nDKIM-Signature: d=two.test\r\n";
        let said = field(&origin("a@b.test", shifted), &verdict()).expect("much");
        assert!(
            said.contains("dkim=pass header.d=one.test") && said.contains("dkim=neutral header.d=two.test"),
            "{said}"
        );
        // An author that cannot be read for certain is not told.
        assert!(!field(&origin("a@b.test", HEADER), &verdict()).expect("much").contains("header.from"));
        let quoted = field(&origin("\"a b;\\\"\"@c.test", b""), &nothing).expect("something");
        assert!(quoted.contains(" smtp.mailfrom=\"\\\"a b;\\\\\\\"\\\"@c.test\";\r\n"), "{quoted}");
    }

    #[test]
    fn what_claims_to_be_ours_is_found_and_nothing_else() {
        for (field, is_ours) in [
            ("Authentication-Results: mx2.test; spf=pass\r\n", true),
            ("authentication-RESULTS : MX2.Test 1; none\r\n", true),
            ("Authentication-Results:\r\n (a (nested\\) ) comment)\r\n\tmx2.test;\r\n spf=pass\r\n", true),
            ("Authentication-Results: \"mx2.\\test\"; spf=pass\r\n", true),
            ("Authentication-Results: mx2.test(x); spf=pass\r\n", true),
            ("Authentication-Results: mx2.test\r\n", true),
            ("Authentication-Results: mx2.test.example; spf=pass\r\n", false),
            ("Authentication-Results: other.test; mx2.test\r\n", false),
            ("Authentication-Results: (mx2.test; spf=pass\r\n", false),
            ("Authentication-Results:\r\n", false),
            ("X-Authentication-Results: mx2.test; spf=pass\r\n", false),
            ("ARC-Authentication-Results: i=1; mx2.test; spf=pass\r\n", false),
            ("Subject: Authentication-Results: mx2.test\r\n", false),
        ] {
            let message = format!("A: b\r\n{field}C: d\r\n\r\n{field}");
            let expected = is_ours.then_some(6..6 + field.len());
            let found = forged(message.as_bytes(), "mx2.test");
            assert_eq!((found.len(), found.first()), (usize::from(is_ours), expected.as_ref()), "{field}");
        }
    }

    proptest! {
        #[test]
        fn whatever_strangers_say_it_is_one_field(
            reverse_path in "\\PC{0,40}", helo in any::<String>(), header in any::<Vec<u8>>(), tags in any::<String>(),
        ) {
            let header = [format!("DKIM-Signature: {tags}\r\nFrom: {tags}\r\n").as_bytes(), &header].concat();
            for reverse_path in [reverse_path.as_str(), ""] {
                let origin = Origin { hostname: "mx2.test", reverse_path, helo: &helo, header: &header };
                let field = field(&origin, &verdict()).expect("it says something");
                let lines: Vec<&str> = field.split("\r\n").collect();
                prop_assert!(lines.len() == 6 && lines[5].is_empty(), "{field:?}");
                prop_assert!(lines[1..5].iter().all(|line| line.starts_with('\t')), "{field:?}");
                prop_assert!(lines.iter().all(|line| !line[line.len().min(1)..].contains(char::is_control)), "{field:?}");
            }
            let mut end = 0;
            for range in forged(&header, "mx2.test") {
                prop_assert!(range.start >= end && range.end <= header.len());
                end = range.end;
            }
        }
    }
}
