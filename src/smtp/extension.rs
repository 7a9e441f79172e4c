//! Service extensions (RFC 5321 2.2): what our EHLO offers, and what a server's EHLO offers to our client.
//!
//! The server offers exactly what is done, since an offer that is not kept loses mail: PIPELINING, SIZE with its own
//! maximum (the domain is not known yet), 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, DSN, CHUNKING, STARTTLS where there is a
//! certificate, ETRN, LIMITS with the recipients of a transaction (transactions of a session have no limit, so none is told), HELP;
//! XCLIENT to those who may say it. BINARYMIME is never offered. The client notes keywords that change how a transaction is
//! sent; unknown ones are ignored.

use core::fmt;

use crate::limits::{EHLO_KEYWORD_OCTETS_MAX, EHLO_KEYWORDS_MAX};
use crate::smtp::output::append;
use crate::smtp::xclient::{self, Attributes};

/// What differs from server to server and from client to client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    /// Our name.
    pub(crate) hostname: &'a str,
    /// SIZE (RFC 1870).
    pub(crate) message_octets_max: u64,
    /// RCPTMAX of LIMITS (RFC 9422).
    pub(crate) recipients_max: u32,
    /// The client may say XCLIENT.
    pub(crate) xclient: bool,
    /// STARTTLS (RFC 3207).
    pub(crate) starttls: bool,
    /// Keywords that are left out.
    pub(crate) withheld: &'a [String],
}

/// What a server said it can do, by its reply to EHLO; all absent after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What the server calls itself in that reply (RFC 5321 4.1.1.1).
    pub name: String,
    /// Every keyword that is one by RFC 5321 4.1.1.1, in upper case and in order, also of extensions that are not known here.
    pub keywords: Vec<String>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): `Some(None)` when offered without a maximum, or with the 0 that means none.
    pub size: Option<Option<u64>>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// XCLIENT, with the attributes that it takes.
    pub xclient: Option<Attributes>,
    /// XFORWARD, with the attributes that it takes.
    pub xforward: Option<Attributes>,
    /// RCPTMAX of LIMITS (RFC 9422): recipients that a transaction may have.
    pub recipients_max: Option<u32>,
    /// MAILMAX of LIMITS (RFC 9422): transactions that a session may have.
    pub transactions_max: Option<u32>,
}

impl Capabilities {
    /// Notes the first line of an EHLO reply, without its code.
    pub(crate) fn note_name(&mut self, line: &str) {
        self.name = line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    }

    /// Notes one of the other lines.
    pub(crate) fn note(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        self.note_keyword(&keyword);
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                self.size = Some(words.next().and_then(|word| word.parse().ok()).filter(|max| *max > 0))
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "XCLIENT" => self.xclient = Some(Attributes::named(words)),
            "LIMITS" => words.for_each(|word| self.note_limit(word)),
            "XFORWARD" => self.xforward = Some(Attributes::named(words)),
            _ => {}
        }
    }

    fn note_keyword(&mut self, keyword: &str) {
        // Some say AUTH=LOGIN for clients of old.
        let keyword = keyword.split('=').next().unwrap_or_default();
        let is_one = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if is_one
            && keyword.len() <= EHLO_KEYWORD_OCTETS_MAX
            && self.keywords.len() < EHLO_KEYWORDS_MAX
            && let Err(place) = self.keywords.binary_search_by(|known| known.as_str().cmp(keyword))
        {
            self.keywords.insert(place, keyword.to_owned());
        }
    }

    /// RFC 9422 3.1: one to six digits, the first of which is no zero; what is none of that is no limit. RCPTDOMAINMAX says nothing to
    /// us: the recipients of a transaction are of one domain.
    fn note_limit(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        let is_number = (1..=6).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
        let Some(value) = value.parse().ok().filter(|_| is_number && !value.starts_with('0')) else { return };
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => self.transactions_max = Some(value),
            "RCPTMAX" => self.recipients_max = Some(value),
            _ => {}
        }
    }
}

/// Appends our reply to EHLO (RFC 5321 4.1.1.1; RFC 2034 3 keeps enhanced codes out of it).
pub(crate) fn write_offer(output: &mut Vec<u8>, offer: &Offer<'_>) {
    append(output, format_args!("250-{}\r\n", offer.hostname));
    let mut put = |keyword: &str, arguments: fmt::Arguments<'_>| {
        if !offer.withheld.iter().any(|withheld| withheld == keyword) {
            append(output, format_args!("250-{keyword}{arguments}\r\n"));
        }
    };
    put("PIPELINING", format_args!(""));
    put("SIZE", format_args!(" {}", offer.message_octets_max));
    for keyword in ["8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "ETRN"] {
        put(keyword, format_args!(""));
    }
    if offer.starttls {
        put("STARTTLS", format_args!(""));
    }
    // RFC 9422: transactions of a session have no limit here, so none is told.
    put("LIMITS", format_args!(" RCPTMAX={}", offer.recipients_max));
    if offer.xclient {
        put("XCLIENT", format_args!(" {}", xclient::ATTRIBUTES));
    }
    append(output, format_args!("250 HELP\r\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_offers_the_client_understands() {
        let mut output = Vec::new();
        let hostname = "mx2.example.net";
        write_offer(
            &mut output,
            &Offer {
                hostname,
                message_octets_max: 1000,
                recipients_max: 9,
                xclient: true,
                starttls: true,
                withheld: &[],
            },
        );
        let mut capabilities = Capabilities::default();
        for (number, line) in String::from_utf8(output).unwrap().split_terminator("\r\n").enumerate() {
            match number {
                0 => capabilities.note_name(&line[4..]),
                _ => capabilities.note(&line[4..]),
            }
        }
        let keywords = "8BITMIME CHUNKING DSN ENHANCEDSTATUSCODES ETRN HELP LIMITS PIPELINING SIZE SMTPUTF8 STARTTLS XCLIENT";
        let expected = Capabilities {
            name: hostname.to_owned(),
            keywords: keywords.split(' ').map(str::to_owned).collect(),
            pipelining: true,
            size: Some(Some(1000)),
            eight_bit_mime: true,
            enhanced_status_codes: true,
            starttls: true,
            chunking: true,
            smtputf8: true,
            dsn: true,
            xclient: Some(Attributes::named(xclient::ATTRIBUTES.split(' '))),
            recipients_max: Some(9),
            ..Capabilities::default()
        };
        assert_eq!(capabilities, expected);
    }

    #[test]
    fn a_size_without_a_maximum_is_an_offer() {
        for line in ["SIZE", "size 0", "SIZE many"] {
            let mut capabilities = Capabilities::default();
            capabilities.note(line);
            assert_eq!(capabilities.size, Some(None), "{line}");
        }
    }

    #[test]
    fn limits_are_numbers_in_their_bounds() {
        for (line, recipients_max, transactions_max) in [
            ("LIMITS RCPTMAX=100 MAILMAX=20 RCPTDOMAINMAX=1", Some(100), Some(20)),
            ("limits mailmax=1", None, Some(1)),
            ("LIMITS RCPTMAX=0 MAILMAX=1000000", None, None),
            ("LIMITS RCPTMAX=05 MAILMAX=", None, None),
            ("LIMITS RCPTMAX MAILMAX=-1 RCPTMAX=+7 OTHER=x", None, None),
            ("LIMITS RCPTMAX=999999", Some(999_999), None),
        ] {
            let mut capabilities = Capabilities::default();
            capabilities.note(line);
            let found = (capabilities.recipients_max, capabilities.transactions_max);
            assert_eq!(found, (recipients_max, transactions_max), "{line}");
        }
    }

    #[test]
    fn keywords_are_kept_in_order_and_bounds() {
        let mut capabilities = Capabilities::default();
        for line in ["size 10", "X-One", "AUTH=LOGIN", "AUTH PLAIN", "no_keyword", "-X", "", "Size 20"] {
            capabilities.note(line);
        }
        assert_eq!(capabilities.keywords, ["AUTH", "SIZE", "X-ONE"]);
        for number in 0..2 * EHLO_KEYWORDS_MAX {
            capabilities.note(&format!("Y{number}"));
        }
        assert_eq!(capabilities.keywords.len(), EHLO_KEYWORDS_MAX);
    }

    #[test]
    fn keywords_are_whole_words_in_any_case() {
        let mut capabilities = Capabilities::default();
        capabilities.note("StartTLS");
        capabilities.note("XCLIENT NAME ADDR");
        capabilities.note("PIPELININGX");
        capabilities.note("");
        assert!(capabilities.starttls && !capabilities.pipelining && capabilities.xforward.is_none());
        assert_eq!(capabilities.xclient, Some(Attributes::named(["addr", "Name", "X"].into_iter())));
    }
}
