//! The Received field (RFC 5321 4.4): the one that we write, and those that are found in a header.
//!
//! [`TraceFacts::write_to`] writes exactly one field, honest and plain enough for the primaries that read the
//! true client address from it. What the client says about itself cannot break the field: octets that could
//! end a comment, a token or a line become `?`.
//!
//! [`count_received`] and [`count_own`] read a header section that anybody may have written; they never
//! panic and look at nothing behind the empty line. Loops are the caller's verdict.

use core::fmt::Write as _;
use core::net::IpAddr;

use super::tls::TlsFacts;
use memchr::{memchr, memmem};

/// How the message came (RFC 3848; RFC 6531 4.3 with SMTPUTF8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EHLO.
    Esmtp,
    /// EHLO over TLS.
    Esmtps,
    /// HELO.
    Smtp,
    /// SMTPUTF8 was said.
    Utf8Smtp,
    /// SMTPUTF8 was said, over TLS.
    Utf8Smtps,
}

/// What the field says.
#[derive(Clone, Copy, Debug)]
pub struct TraceFacts<'a> {
    /// The argument of HELO or EHLO as the client said it.
    pub helo: &'a str,
    /// Where the connection came from.
    pub client_address: IpAddr,
    /// Our own name.
    pub hostname: &'a str,
    /// How the message came.
    pub with: Protocol,
    /// Through which TLS, if any.
    pub tls: Option<TlsFacts>,
    /// Our id of the message.
    pub queue_id: &'a str,
    /// The recipient, when there is only one: a list would tell each about the others (RFC 5321 7.2).
    pub for_recipient: Option<&'a str>,
    /// Seconds since 1970, UTC.
    pub received_unix_seconds: i64,
}

impl Protocol {
    /// The keyword behind `with`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Esmtp => "ESMTP",
            Self::Esmtps => "ESMTPS",
            Self::Smtp => "SMTP",
            Self::Utf8Smtp => "UTF8SMTP",
            Self::Utf8Smtps => "UTF8SMTPS",
        }
    }
}

impl TraceFacts<'_> {
    /// Appends the field, CRLF included.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        let mut field = String::from("Received: from ");
        push_token(&mut field, self.helo);
        let written = match self.client_address.to_canonical() {
            IpAddr::V4(address) => write!(field, " ([{address}])\r\n\tby "),
            IpAddr::V6(address) => write!(field, " ([IPv6:{address}])\r\n\tby "),
        };
        written.expect("a String takes every write");
        push_token(&mut field, self.hostname);
        write!(field, " with {} id ", self.with.as_str()).expect("a String takes every write");
        push_token(&mut field, self.queue_id);
        if let Some(tls) = self.tls {
            // RFC 5321 4.4 takes a comment here; the `tls` clause of RFC 8314 4.3 is of submission, and the primaries
            // that read our client from this field know no word but those of RFC 5321.
            write!(field, "\r\n\t({tls})").expect("a String takes every write");
        }
        // A quoted local part may hold anything printable and is still one token of the grammar.
        if let Some(mailbox) =
            self.for_recipient.filter(|text| text.bytes().all(|o| matches!(o, b' '..=b'~')))
        {
            write!(field, "\r\n\tfor <{mailbox}>").expect("a String takes every write");
        }
        field.push_str("; ");
        push_date(&mut field, self.received_unix_seconds);
        field.push_str("\r\n");
        output.extend_from_slice(field.as_bytes());
    }
}

/// How many Received fields the header section has.
pub fn count_received(header: &[u8]) -> usize {
    received_fields(header).count()
}

/// How many Received fields say `by` and our name: so often the message was here before.
pub fn count_own(header: &[u8], hostname: &str) -> usize {
    received_fields(header).filter(|field| is_by(field, hostname.as_bytes())).count()
}

/// The header section at the head of a message: its lines up to the empty one.
pub fn header_section(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    memmem::find(message, b"\r\n\r\n").map_or(message, |end| &message[..end + 2])
}

/// The bodies of Received fields, folded lines included.
fn received_fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields(header_section(header)).filter_map(|field| {
        let (name, body) = field.split_at(memchr(b':', field)?);
        name.trim_ascii_end().eq_ignore_ascii_case(b"Received").then_some(&body[1..])
    })
}

/// Whether the header section at the head of a message has a field with this name.
pub fn has_field(message: &[u8], name: &str) -> bool {
    fields(header_section(message)).any(|field| {
        let colon = memchr(b':', field).unwrap_or(0);
        field[..colon].trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    })
}

/// Fields of a header section: a line that begins with white space goes on with the field before it.
pub(super) fn fields(mut section: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let mut end = line_len(section)?;
        while matches!(section.get(end), Some(b' ' | b'\t')) {
            end += line_len(&section[end..])?;
        }
        let (field, rest) = section.split_at(end);
        section = rest;
        Some(field)
    })
}

/// The first line with its end; none when there is nothing left.
fn line_len(text: &[u8]) -> Option<usize> {
    let to_feed = memchr(b'\n', text).map_or(text.len(), |feed| feed + 1);
    (to_feed > 0).then_some(to_feed)
}

/// A word `by` is followed by the name, case aside. Every `by` is tried: a client may call itself that.
fn is_by(field: &[u8], hostname: &[u8]) -> bool {
    let is_separator = |octet: &u8| octet.is_ascii_whitespace() || *octet == b';';
    let words = || field.split(is_separator).filter(|word| !word.is_empty());
    let mut pairs = words().zip(words().skip(1));
    pairs.any(|(word, name)| word.eq_ignore_ascii_case(b"by") && name.eq_ignore_ascii_case(hostname))
}

/// Letters, digits and what names and address literals are made of; anything else becomes `?`.
fn push_token(output: &mut String, text: &str) {
    if text.is_empty() {
        output.push_str("unknown");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    output.extend(text.chars().take(TOKEN_OCTETS_MAX).map(|c| if is_plain(c) { c } else { '?' }));
}

/// `Sat, 21 Nov 2026 22:43:28 +0000` (RFC 5322 3.3), in UTC.
pub fn push_date(output: &mut String, unix_seconds: i64) {
    let (days, seconds) = (unix_seconds.div_euclid(DAY_SECONDS), unix_seconds.rem_euclid(DAY_SECONDS));
    let (year, month, day) = civil_from_days(days);
    let weekday = WEEKDAYS[usize::try_from((days + 4).rem_euclid(7)).expect("0 to 6")];
    let month = MONTHS[usize::try_from(month - 1).expect("0 to 11")];
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(output, "{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
        .expect("a String takes every write");
}

/// Year, month 1 to 12, day 1 to 31 of the day that is `days` after 1970-01-01.
///
/// A year is counted from March, so that the leap day is its last; 400 such years are 146,097 days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let since_era_zero = days + 719_468; // 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (since_era_zero.div_euclid(146_097), since_era_zero.rem_euclid(146_097));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

const DAY_SECONDS: i64 = 86_400;
const TOKEN_OCTETS_MAX: usize = crate::limits::DOMAIN_OCTETS_MAX;
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TraceFacts<'static> {
        TraceFacts {
            helo: "mail.example.org",
            client_address: "192.0.2.1".parse().unwrap(),
            hostname: "mx2.example.net",
            with: Protocol::Esmtp,
            tls: None,
            queue_id: "01AB",
            for_recipient: Some("a@example.com"),
            received_unix_seconds: 1_795_301_008,
        }
    }

    fn written(facts: &TraceFacts<'_>) -> String {
        let mut output = Vec::new();
        facts.write_to(&mut output);
        String::from_utf8(output).unwrap()
    }

    fn date(unix_seconds: i64) -> String {
        let mut output = String::new();
        push_date(&mut output, unix_seconds);
        output
    }

    #[test]
    fn the_field_names_client_server_and_time() {
        assert_eq!(
            written(&facts()),
            "Received: from mail.example.org ([192.0.2.1])\r\n\tby mx2.example.net with ESMTP id 01AB\r\n\
             \tfor <a@example.com>; Sat, 21 Nov 2026 22:43:28 +0000\r\n"
        );
        let plain = TraceFacts {
            client_address: "2001:db8::1".parse().unwrap(),
            with: Protocol::Smtp,
            for_recipient: None,
            ..facts()
        };
        assert_eq!(
            written(&plain),
            "Received: from mail.example.org ([IPv6:2001:db8::1])\r\n\tby mx2.example.net with SMTP id 01AB; \
             Sat, 21 Nov 2026 22:43:28 +0000\r\n"
        );
        let secured = TraceFacts {
            with: Protocol::Esmtps,
            tls: Some(TlsFacts { version: 0x0304, cipher_suite: 0x1301 }),
            ..facts()
        };
        assert_eq!(
            written(&secured),
            "Received: from mail.example.org ([192.0.2.1])\r\n\tby mx2.example.net with ESMTPS id 01AB\r\n\
             \t(TLSv1.3 TLS_AES_128_GCM_SHA256)\r\n\
             \tfor <a@example.com>; Sat, 21 Nov 2026 22:43:28 +0000\r\n"
        );
        let international =
            TraceFacts { with: Protocol::Utf8Smtp, for_recipient: Some("ü@example.com"), ..facts() };
        assert!(written(&international).contains(" with UTF8SMTP id 01AB; "), "no address that is not ASCII");
        let mapped = TraceFacts { client_address: "::ffff:192.0.2.9".parse().unwrap(), ..facts() };
        assert!(written(&mapped).contains("([192.0.2.9])"));
    }

    #[test]
    fn nothing_a_client_says_breaks_the_field() {
        let helo = "a\r\nBcc: x@y (\0\u{fc}\"\\;<b>)";
        let hostile = TraceFacts { helo, for_recipient: Some("a\r\nX: y@b"), ..facts() };
        let field = written(&hostile);
        assert!(field.starts_with("Received: from a??Bcc:?x?y????????b?? ([192.0.2.1])\r\n\tby "), "{field}");
        assert!(!field.contains("for <"));
        assert_eq!(fields(field.as_bytes()).count(), 1);
        let long = "n".repeat(5000);
        assert!(written(&TraceFacts { helo: &long, ..facts() }).split("\r\n").all(|line| line.len() < 998));
        assert!(written(&TraceFacts { helo: "", ..facts() }).starts_with("Received: from unknown ("));
    }

    #[test]
    fn known_dates_come_out_right() {
        for (unix_seconds, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (-1, "Wed, 31 Dec 1969 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_000_000_000, "Sun, 9 Sep 2001 01:46:40 +0000"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000"),
        ] {
            assert_eq!(date(unix_seconds), expected);
        }
    }

    #[test]
    fn days_follow_each_other_over_four_centuries() {
        let mut yesterday = civil_from_days(-1);
        for days in 0..146_097 {
            let today = civil_from_days(days);
            let (year, month, day) = yesterday;
            assert!(
                today == (year, month, day + 1)
                    || today == (year, month + 1, 1)
                    || (month == 12 && today == (year + 1, 1, 1)),
                "{yesterday:?} {today:?}"
            );
            yesterday = today;
        }
        assert_eq!(yesterday, (2369, 12, 31));
    }

    #[test]
    fn received_fields_are_counted_in_the_header_only() {
        let message = b"Received: one\r\nX-Received: no\r\nreceived : two\r\n\tReceived: folded\r\n\
                        Subject: Received: no\r\nRECEIVED:three\r\n\r\nReceived: body\r\n";
        assert_eq!(count_received(message), 3);
        assert_eq!(count_received(b"\r\nReceived: body\r\n"), 0);
        assert_eq!(count_received(b""), 0);
        assert_eq!(count_received(b"Received: cut off"), 1);
        assert_eq!(count_received(b" Received: folded into nothing\r\nReceived"), 0);
    }

    #[test]
    fn our_own_fields_are_counted_by_their_name() {
        let own = written(&facts());
        assert_eq!(count_own(own.repeat(3).as_bytes(), "MX2.example.net"), 3);
        for (header, expected) in [
            (own.as_str(), 0),
            ("Received: from mx2.example.net by other.example; x\r\n", 0),
            ("Received: from a\r\n by\r\n mx2.example.net; x\r\n", 1),
            ("Received: by mx2.example.net;x y\r\n", 1),
            ("Received: from by ([192.0.2.1]) by mx2.example.net; x\r\n", 1),
            ("Subject: x by mx2.example.net\r\n", 0),
        ] {
            let hostname = if header == own { "mx2.example" } else { "mx2.example.net" };
            assert_eq!(count_own(header.as_bytes(), hostname), expected, "{header}");
        }
    }
}
