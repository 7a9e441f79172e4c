//! Delivery status notifications (RFC 3464, RFC 6522; RFC 6533 where the reverse-path is beyond ASCII): a pure function from
//! facts to the octets of a message, CRLF and no dot stuffed.
//!
//! Three parts: what happened in plain English, with the primary's own words; the same for programs; the header section of the
//! message, never its body. Addressed to a reverse-path of ASCII all of it is 7 bit; to another one it needs SMTPUTF8.
//!
//! Promise: whatever a sender put into his addresses and header fields, and a primary into its replies, it begins no field and ends no part, and
//! no line is longer than RFC 5322 2.1.1 lets it be. Who may get one is not decided here (P5).

use core::fmt::{self, Write as _};

use memchr::memmem;

use super::received::push_date;
use crate::limits::{NOTICE_FIELD_OCTETS_MAX, NOTICE_HEADER_OCTETS_MAX, NOTICE_REPLY_OCTETS};

/// What a notice says.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// To whom it goes; never the null one.
    pub reverse_path: &'a str,
    /// Its own queue id.
    pub id: &'a str,
    /// The queue id of the message that it is about.
    pub message_id: &'a str,
    /// The domain whose mail we keep.
    pub domain: &'a str,
    /// When it is made, in seconds since 1970.
    pub made_unix_seconds: i64,
    /// When the message was received.
    pub received_unix_seconds: i64,
    /// ENVID, decoded; empty if it was not said.
    pub envelope_id: &'a str,
    /// The recipients that it is about: at least one.
    pub recipients: &'a [Told<'a>],
    /// The header section of the message, unstuffed.
    pub header: &'a [u8],
}

/// What it says of one recipient.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// The mailbox.
    pub mailbox: &'a str,
    /// ORCPT as `type;address`, decoded; empty if it was not said.
    pub original: &'a str,
    /// What became of it.
    pub fate: Fate<'a>,
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    /// Its mail server was not there, or put it off, for as long as we keep mail.
    Expired,
    /// Its mail server took the message, and sends no notices itself (RFC 3461 6.2.2).
    Relayed(Answer<'a>),
    /// Its mail server refused it.
    Refused(Answer<'a>),
    /// Who runs this server gave it up.
    Returned,
}

/// What a primary said.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What we call it.
    pub host: &'a str,
    /// 200 to 599.
    pub code: u16,
    /// The enhanced code as `5.1.1`; empty if it said none.
    pub enhanced: &'a str,
    /// What else it said.
    pub text: &'a str,
}

impl Notice<'_> {
    /// Whether it needs a server that offers SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.reverse_path.is_ascii()
    }

    /// The message.
    ///
    /// # Panics
    /// Without a recipient, or to the null reverse-path.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        assert!(!self.recipients.is_empty());
        assert!(!self.reverse_path.is_empty(), "the null reverse-path is never answered");
        let is_global = self.needs_smtputf8();
        let text = self.text();
        let status = self.status(is_global);
        let header = cut(self.header);
        let (charset, text) = match text.is_ascii() {
            true => ("us-ascii", Part::plain("7bit", text.into_bytes())),
            false => ("utf-8", Part::quoted(text.as_bytes())),
        };
        let (kind, fields) = match is_global {
            true => ("message/global-delivery-status", Part::plain("8bit", status.into_bytes())),
            false => ("message/delivery-status", Part::plain("7bit", status.into_bytes())),
        };
        let headers = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
        let header = match is_clean(header) {
            true => Part::plain("7bit", header.to_vec()),
            false => Part::quoted(header),
        };
        let parts = [(format!("text/plain; charset={charset}"), text), (kind.to_owned(), fields)];
        let parts = [parts[0].clone(), parts[1].clone(), (headers.to_owned(), header)];
        let boundary = boundary(self.id, &parts);
        let mut out = self.head(&boundary).into_bytes();
        for (kind, part) in &parts {
            out.extend_from_slice(format!("--{boundary}\r\nContent-Type: {kind}\r\n").as_bytes());
            let encoding = part.encoding;
            out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n\r\n").as_bytes());
            out.extend_from_slice(&part.octets);
            // RFC 2046 5.1.1: the line end in front of a boundary is the boundary's.
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    /// RFC 3464 2: from nobody who reads mail, and never to be answered (RFC 3834 5).
    fn head(&self, boundary: &str) -> String {
        let Self { hostname, id, .. } = self;
        let subject = match self.is_good_news() {
            true => "Delivery Status Notification (Relayed)",
            false => "Delivery Status Notification (Failure)",
        };
        let to = clean(self.reverse_path, self.needs_smtputf8());
        let mut head = String::new();
        let mut field = |name: &str, value: fmt::Arguments<'_>| {
            write!(head, "{name}: {value}\r\n").expect(TAKES);
        };
        let mut date = String::new();
        push_date(&mut date, self.made_unix_seconds);
        field("Date", format_args!("{date}"));
        field("From", format_args!("Mail Delivery System <MAILER-DAEMON@{hostname}>"));
        field("To", format_args!("<{to}>"));
        field("Subject", format_args!("{subject}"));
        field("Message-ID", format_args!("<{id}@{hostname}>"));
        field("Auto-Submitted", format_args!("auto-replied"));
        field("MIME-Version", format_args!("1.0"));
        let kind = if self.needs_smtputf8() { "global-delivery-status" } else { "delivery-status" };
        field(
            "Content-Type",
            format_args!("multipart/report; report-type={kind};\r\n boundary=\"{boundary}\""),
        );
        head.push_str("\r\nThis is a message in MIME format, about mail that could not go its way.\r\n\r\n");
        head
    }

    fn is_good_news(&self) -> bool {
        self.recipients.iter().all(|told| matches!(told.fate, Fate::Relayed(_)))
    }

    /// For people.
    fn text(&self) -> String {
        let Self { hostname, domain, message_id, .. } = self;
        let mut text = String::new();
        let mut line = |words: fmt::Arguments<'_>| write!(text, "{words}\r\n").expect(TAKES);
        line(format_args!("This is the mail server {hostname}. It keeps mail for {domain}"));
        line(format_args!("while that domain's own mail server cannot be reached."));
        line(format_args!(""));
        if self.is_good_news() {
            line(format_args!("Your message was handed over for the recipients below. Their mail server"));
            line(format_args!("sends no confirmations: this is the last that you hear of it."));
        } else {
            line(format_args!("Your message could not be delivered to the recipients below. It is not"));
            line(format_args!("tried again. What you sent to others is not concerned."));
        }
        for told in self.recipients {
            line(format_args!(""));
            line(format_args!("<{}>", clean(told.mailbox, true)));
            match told.fate {
                Fate::Expired => {
                    line(format_args!("    could not be reached for as long as mail is kept here"))
                }
                Fate::Relayed(Answer { host, .. }) => {
                    line(format_args!("    was handed over to {}", clean(host, false)));
                }
                Fate::Returned => line(format_args!("    given up by those who run this mail server")),
                Fate::Refused(answer) => {
                    line(format_args!("    was refused by {}, which said:", clean(answer.host, false)));
                    for row in rows(&answer.said(true, self.reply_octets()), 66) {
                        line(format_args!("    > {row}"));
                    }
                }
            }
        }
        let mut received = String::new();
        push_date(&mut received, self.received_unix_seconds);
        line(format_args!(""));
        line(format_args!("It was received here on {received}"));
        line(format_args!("as {message_id}. Its header section is attached."));
        text
    }

    /// For programs (RFC 3464 2.2, 2.3).
    fn status(&self, is_global: bool) -> String {
        let mut status = String::new();
        let mut date = String::new();
        push_date(&mut date, self.received_unix_seconds);
        if !self.envelope_id.is_empty() {
            push_field(&mut status, "Original-Envelope-Id", &clean(self.envelope_id, is_global));
        }
        push_field(&mut status, "Reporting-MTA", &format!("dns; {}", self.hostname));
        push_field(&mut status, "Arrival-Date", &date);
        for told in self.recipients {
            status.push_str("\r\n");
            if !told.original.is_empty() {
                let original = told.original.replacen(';', "; ", 1);
                push_field(&mut status, "Original-Recipient", &address(&original, is_global));
            }
            let kind = if told.mailbox.is_ascii() { "rfc822" } else { "utf-8" };
            let mailbox = if told.mailbox.is_ascii() { told.mailbox.into() } else { unitext(told.mailbox) };
            push_field(&mut status, "Final-Recipient", &address(&format!("{kind}; {mailbox}"), is_global));
            self.push_fate(&mut status, told, is_global);
        }
        status
    }

    fn push_fate(&self, status: &mut String, told: &Told<'_>, is_global: bool) {
        let (action, code, answer) = match told.fate {
            // RFC 3463 3.5: the time to live is over.
            Fate::Expired => ("failed", "5.4.7".to_owned(), None),
            Fate::Refused(answer) => ("failed", answer.status(5), Some(answer)),
            Fate::Relayed(answer) => ("relayed", answer.status(2), Some(answer)),
            Fate::Returned => ("failed", "5.7.1".to_owned(), None),
        };
        push_field(status, "Action", action);
        push_field(status, "Status", &code);
        let Some(answer) = answer else { return };
        push_field(status, "Remote-MTA", &format!("dns; {}", clean(answer.host, false)));
        if action == "failed" {
            let said = answer.said(is_global, self.reply_octets());
            push_field(status, "Diagnostic-Code", &format!("smtp; {said}"));
        }
        let mut date = String::new();
        push_date(&mut date, self.made_unix_seconds);
        push_field(status, "Last-Attempt-Date", &date);
    }

    /// Octets of each reply, so that with a thousand recipients it still fits a record.
    const fn reply_octets(&self) -> usize {
        let share = NOTICE_REPLY_OCTETS / self.recipients.len();
        if share < 64 { 64 } else { share }
    }
}

impl Answer<'_> {
    /// RFC 3463: its own code, if its class is right; else that it is not known better.
    fn status(&self, class: u8) -> String {
        let is_code = self.enhanced.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        let is_right = is_code && self.enhanced.starts_with(&format!("{class}."));
        if is_right { self.enhanced.to_owned() } else { format!("{class}.0.0") }
    }

    fn said(&self, with_utf8: bool, octets_max: usize) -> String {
        let separator = if self.enhanced.is_empty() { "" } else { " " };
        let said = format!("{}{separator}{} {}", self.code, self.enhanced, self.text);
        let mut said = clean(said.trim_end(), with_utf8);
        if said.len() > octets_max {
            said.truncate(said.floor_char_boundary(octets_max));
            said.push_str(" ...");
        }
        said
    }
}

/// The octets of a part, encoded.
#[derive(Clone, Debug)]
struct Part {
    encoding: &'static str,
    octets: Vec<u8>,
}

impl Part {
    fn plain(encoding: &'static str, octets: Vec<u8>) -> Self {
        Self { encoding, octets }
    }

    /// RFC 2045 6.7, of lines that end in CRLF.
    fn quoted(octets: &[u8]) -> Self {
        let mut out = Vec::with_capacity(octets.len() * 2);
        let mut column = 0;
        for (at, octet) in octets.iter().enumerate() {
            let is_line_end =
                octets[at..].starts_with(b"\r\n") || (*octet == b'\n' && at > 0 && octets[at - 1] == b'\r');
            if is_line_end {
                out.push(*octet);
                column = 0;
                continue;
            }
            let is_last = octets[at + 1..].starts_with(b"\r\n") || at + 1 == octets.len();
            let is_plain = match *octet {
                b' ' | b'\t' => !is_last,
                b'=' => false,
                octet => octet.is_ascii_graphic(),
            };
            let width = if is_plain { 1 } else { 3 };
            if column + width > QUOTED_COLUMNS {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            column += width;
            if is_plain {
                out.push(*octet);
            } else {
                out.extend_from_slice(format!("={octet:02X}").as_bytes());
            }
        }
        Self { encoding: "quoted-printable", octets: out }
    }
}

/// As many whole lines as are given back.
fn cut(header: &[u8]) -> &[u8] {
    if header.len() <= NOTICE_HEADER_OCTETS_MAX {
        return header;
    }
    let head = &header[..NOTICE_HEADER_OCTETS_MAX];
    memmem::rfind(head, b"\r\n").map_or(&[], |end| &head[..end + 2])
}

/// Whether these lines may go as they are: 7 bit, bounded, ended by CRLF only, no control characters (RFC 2045 2.7).
fn is_clean(lines: &[u8]) -> bool {
    let mut rest = lines;
    while !rest.is_empty() {
        let Some(end) = memmem::find(rest, b"\r\n") else { return false };
        let line = &rest[..end];
        let is_plain = |octet: &u8| matches!(octet, b'\t' | b' '..=b'~');
        if line.len() > LINE_OCTETS_MAX || !line.iter().all(is_plain) {
            return false;
        }
        rest = &rest[end + 2..];
    }
    true
}

/// One that occurs in none of the parts.
fn boundary(id: &str, parts: &[(String, Part)]) -> String {
    let occurs = |boundary: &str| {
        let finder = memmem::Finder::new(boundary);
        parts.iter().any(|(_, part)| finder.find(&part.octets).is_some())
    };
    let mut candidates = (0_u32..).map(|number| format!("=_{id}_{number}"));
    candidates.find(|boundary| !occurs(boundary)).expect("parts are bounded, numbers are not")
}

/// `name: value`, folded between its words; a word that is too long for a line is cut.
fn push_field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        let word = &word[..word.floor_char_boundary(NOTICE_FIELD_OCTETS_MAX)];
        if column + 1 + word.len() > FOLD_COLUMNS && column > name.len() + 1 {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// Lines of up to so many octets, broken between words; a longer word is broken.
fn rows(text: &str, octets: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        while !word.is_empty() {
            let row = rows.last_mut().expect("there is one");
            let separator = usize::from(!row.is_empty());
            if row.len() + separator + word.len() <= octets {
                row.push_str(&" "[..separator]);
                row.push_str(word);
                break;
            }
            if row.is_empty() {
                let (head, rest) = word.split_at(word.floor_char_boundary(octets));
                row.push_str(head);
                word = rest;
            }
            rows.push(String::new());
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// Text that breaks nothing: no control characters, and no others than ASCII unless they may be.
fn clean(text: &str, with_utf8: bool) -> String {
    let safe = |character: char| match character {
        character if character.is_control() => ' ',
        // Line ends to some.
        '\u{2028}' | '\u{2029}' => ' ',
        character if character.is_ascii() || with_utf8 => character,
        _ => '?',
    };
    text.chars().map(safe).collect()
}

/// A type and an address; characters beyond ASCII as `\x{...}` where none may be (RFC 6533 3).
fn address(text: &str, is_global: bool) -> String {
    let mut out = String::new();
    for character in clean(text, true).chars() {
        match character {
            character if character.is_ascii() || is_global => out.push(character),
            character => write!(out, "\\x{{{:02X}}}", u32::from(character)).expect(TAKES),
        }
    }
    out
}

/// RFC 6533 3: what is not itself in an address of type `utf-8`.
fn unitext(mailbox: &str) -> String {
    let mut out = String::new();
    for character in mailbox.chars() {
        match character {
            '\\' | '+' | '=' | ' ' => write!(out, "\\x{{{:02X}}}", u32::from(character)).expect(TAKES),
            character => out.push(character),
        }
    }
    out
}

const TAKES: &str = "a String takes every write";
/// RFC 5322 2.1.1, without CRLF.
const LINE_OCTETS_MAX: usize = 998;
/// RFC 5322 2.1.1: what lines should keep to.
const FOLD_COLUMNS: usize = 78;
/// RFC 2045 6.7, with room for the `=` of a soft line break.
const QUOTED_COLUMNS: usize = 75;
const _: () = assert!(NOTICE_FIELD_OCTETS_MAX + 2 <= LINE_OCTETS_MAX);

#[cfg(test)]
mod tests;
