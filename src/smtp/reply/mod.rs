//! Replies (RFC 5321 4.2) and enhanced status codes (RFC 3463): the ones that we send, as named constants.
//!
//! A name carries meaning and value (`INSUFFICIENT_STORAGE_452`), and the host answers the server machine with
//! these: what is promised to users in the table of replies is written here and nowhere else. Replies that we
//! receive are in [`received`].
//!
//! Invariants: what [`Reply::write_to`] writes is one reply in step whatever the text holds: octets other than
//! printable ASCII become `?`, a line is at most `REPLY_LINE_SENT_OCTETS_MAX` octets, and longer text (or a
//! line feed in it) goes on in a next line of the same reply.

use core::fmt;
use std::borrow::Cow;

use crate::limits::REPLY_LINE_SENT_OCTETS_MAX;
use crate::smtp::output::append;

mod received;
pub use received::{ParsedReply, ReceivedReply, ReplyError, ReplyParser};

/// A three-digit reply code, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

/// An enhanced status code: `class.subject.detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    /// 2, 4 or 5; the same as the first digit of the reply code.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

/// A reply to be sent. `Display` shows it on one line: `452 4.3.1 text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl ReplyCode {
    /// # Panics
    /// Outside 200 to 599.
    pub const fn new(value: u16) -> Self {
        assert!(200 <= value && value <= 599, "a reply code is 200 to 599");
        Self(value)
    }

    /// The number.
    pub const fn value(self) -> u16 {
        self.0
    }

    /// 2xx.
    pub const fn is_positive(self) -> bool {
        self.0 / 100 == 2
    }

    /// 4xx.
    pub const fn is_transient(self) -> bool {
        self.0 / 100 == 4
    }

    /// 5xx.
    pub const fn is_permanent(self) -> bool {
        self.0 / 100 == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl EnhancedCode {
    /// `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// The code at the head of `text`, with what follows it and one space.
    pub(crate) fn split_from(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut numbers = word.splitn(3, '.').map(decimal);
        let class = u8::try_from(numbers.next()??).ok()?;
        let code = Self { class, subject: numbers.next()??, detail: numbers.next()?? };
        matches!(class, 2 | 4 | 5).then_some((code, rest))
    }
}

/// One to three digits.
fn decimal(digits: &str) -> Option<u16> {
    let fits = (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl Reply {
    /// A reply that no constant fits, for instance a primary's own words.
    pub fn new(code: ReplyCode, enhanced: Option<EnhancedCode>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced, text: text.into() }
    }

    const fn fixed(code: u16, class: u8, subject: u16, detail: u16, text: &'static str) -> Self {
        assert!(code / 100 == class as u16, "RFC 2034 4: the class is the first digit of the code");
        let enhanced = Some(EnhancedCode::new(class, subject, detail));
        Self { code: ReplyCode::new(code), enhanced, text: Cow::Borrowed(text) }
    }

    /// The reply code.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text behind the codes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same codes with a text that says more.
    #[must_use]
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// Appends one line with these codes and another text, which is formatted straight into the output: the reply to each message
    /// needs no memory of its own. What does not fit into a line is cut off.
    pub(crate) fn write_with(&self, output: &mut Vec<u8>, text: fmt::Arguments<'_>) {
        let start = output.len();
        match self.enhanced {
            Some(enhanced) => append(output, format_args!("{} {enhanced} {text}", self.code)),
            None => append(output, format_args!("{} {text}", self.code)),
        }
        output.truncate(start + REPLY_LINE_SENT_OCTETS_MAX - 2);
        for octet in output[start..].iter_mut().filter(|octet| !matches!(octet, b' '..=b'~')) {
            *octet = b'?';
        }
        output.extend_from_slice(b"\r\n");
    }

    /// Appends the reply as it goes over the wire, CRLF included.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        let start = output.len();
        match self.enhanced {
            Some(enhanced) => append(output, format_args!("{} {enhanced} ", self.code)),
            None => append(output, format_args!("{} ", self.code)),
        }
        let codes = start..output.len();
        let room = REPLY_LINE_SENT_OCTETS_MAX - codes.len() - 2;
        let lines = self.text.split('\n').map(|line| line.trim_end_matches('\r'));
        let mut pieces = lines.flat_map(|line| wrap(line.as_bytes(), room)).peekable();
        let mut line_start = start;
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            output[line_start + 3] = if is_last { b' ' } else { b'-' };
            let printable = |octet: &u8| if matches!(octet, b' '..=b'~') { *octet } else { b'?' };
            output.extend(piece.iter().map(printable));
            output.extend_from_slice(b"\r\n");
            if !is_last {
                line_start = output.len();
                output.extend_from_within(codes.clone());
            }
        }
    }
}

/// Pieces of at most `room` octets; one empty piece for an empty line.
fn wrap(line: &[u8], room: usize) -> impl Iterator<Item = &[u8]> {
    let blank = line.is_empty().then_some(line);
    blank.into_iter().chain(line.chunks(room))
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(enhanced) => write!(f, "{} {enhanced} {}", self.code, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

/// STARTTLS: the handshake is to begin.
pub const READY_FOR_TLS_220: Reply = Reply::fixed(220, 2, 0, 0, "Ready to start TLS");
/// QUIT.
pub const CLOSING_221: Reply = Reply::fixed(221, 2, 0, 0, "Bye");
/// HELP.
pub const HELP_214: Reply = Reply::fixed(
    214,
    2,
    0,
    0,
    "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT HELP VRFY ETRN STARTTLS; see RFC 5321",
);
/// Done: RSET, NOOP.
pub const OK_250: Reply = Reply::fixed(250, 2, 0, 0, "Ok");
/// MAIL accepted.
pub const SENDER_OK_250: Reply = Reply::fixed(250, 2, 1, 0, "Ok");
/// RCPT accepted.
pub const RECIPIENT_OK_250: Reply = Reply::fixed(250, 2, 1, 5, "Ok");
/// VRFY: nothing is confirmed, mail will be tried (RFC 5321 3.5.3).
pub const CANNOT_VERIFY_252: Reply = Reply::fixed(252, 2, 0, 0, "Cannot VRFY, but will take mail and try");
/// ETRN: mail is waiting, and its delivery was begun (RFC 1985 5.3). The host says how much.
pub const PENDING_MESSAGES_STARTED_253: Reply = Reply::fixed(253, 2, 0, 0, "Ok, pending messages started");
/// ETRN for a domain and those below it: mail is waiting, and its delivery was begun.
pub const PENDING_MESSAGES_STARTED_252: Reply = Reply::fixed(252, 2, 0, 0, "Ok, pending messages started");
/// ETRN: nothing is waiting.
pub const NO_MESSAGES_WAITING_251: Reply = Reply::fixed(251, 2, 0, 0, "Ok, no messages waiting");
/// DATA accepted. RFC 2034 4 gives no enhanced code to 3xx.
pub const START_MAIL_INPUT_354: Reply = Reply {
    code: ReplyCode::new(354),
    enhanced: None,
    text: Cow::Borrowed("End data with <CR><LF>.<CR><LF>"),
};

/// Nothing was received for too long.
pub const TIMEOUT_421: Reply = Reply::fixed(421, 4, 4, 2, "Timeout, closing the connection");
/// The service stops.
pub const SHUTTING_DOWN_421: Reply = Reply::fixed(421, 4, 3, 2, "Service shutting down, try again later");
/// Over `max_connections`, in total or of one address.
pub const TOO_MANY_CONNECTIONS_421: Reply =
    Reply::fixed(421, 4, 7, 0, "Too many connections, try again later");
/// Over `smtp.rate`: connections of one address.
pub const CONNECTION_RATE_421: Reply =
    Reply::fixed(421, 4, 7, 0, "Too many connections in a short time, try again later");
/// The receive buffers of a shard take all the memory that they may.
pub const MEMORY_PRESSURE_421: Reply = Reply::fixed(421, 4, 3, 1, "Insufficient memory, try again later");
/// Over `SESSION_ERRORS_MAX`.
pub const TOO_MANY_ERRORS_421: Reply = Reply::fixed(421, 4, 7, 0, "Too many errors, closing the connection");
/// Over `SESSION_IDLE_COMMANDS_MAX`.
pub const TOO_MANY_IDLE_COMMANDS_421: Reply =
    Reply::fixed(421, 4, 7, 0, "Too many commands without mail, closing the connection");
/// Whether the recipient exists cannot be told in an outage, and the domain wants to know.
pub const UNVERIFIED_RECIPIENT_450: Reply =
    Reply::fixed(450, 4, 1, 1, "Recipient cannot be verified now, try again later");
/// `when_up = "defer"` and the primary is up.
pub const PRIMARY_IS_UP_451: Reply =
    Reply::fixed(451, 4, 7, 1, "The primary mail server is up, deliver there");
/// The host's own settings are at fault, for instance no destination for postmaster.
pub const CONFIGURATION_ERROR_451: Reply =
    Reply::fixed(451, 4, 3, 5, "Local configuration error, try again later");
/// Over `smtp.rate`: messages of one address.
pub const MESSAGE_RATE_451: Reply =
    Reply::fixed(451, 4, 7, 1, "Too many messages in a short time, try again later");
/// A write or sync failed; nothing was taken.
pub const STORAGE_FAILURE_451: Reply = Reply::fixed(451, 4, 3, 0, "Storage failure, try again later");
/// Disk, quota or memory pressure.
pub const INSUFFICIENT_STORAGE_452: Reply =
    Reply::fixed(452, 4, 3, 1, "Insufficient storage, try again later");
/// STARTTLS cannot be done now (RFC 3207 4).
pub const TLS_UNAVAILABLE_454: Reply =
    Reply::fixed(454, 4, 7, 0, "TLS not available due to temporary reason");
/// Over `max_recipients` or the size of an envelope: the rest goes in another transaction (RFC 5321 4.5.3.1.10).
pub const TOO_MANY_RECIPIENTS_452: Reply =
    Reply::fixed(452, 4, 5, 3, "Too many recipients in one transaction");

/// ETRN: the mail cannot be sent on request, for instance since the service stops.
pub const CANNOT_QUEUE_458: Reply = Reply::fixed(458, 4, 3, 0, "Unable to queue messages");
/// ETRN by somebody who may not, for a node that is not served here, or both: it is not told which.
pub const ETRN_NOT_ALLOWED_459: Reply = Reply::fixed(459, 4, 7, 1, "Node not allowed");

/// A command line with a bare CR, a bare LF or a NUL, or a longer one than `COMMAND_LINE_OCTETS_MAX`.
pub const SYNTAX_500: Reply = Reply::fixed(500, 5, 5, 2, "Syntax error: bad line");
/// No such command.
pub const UNKNOWN_COMMAND_500: Reply = Reply::fixed(500, 5, 5, 1, "Command not recognized");
/// An argument is missing, malformed, or not taken by this command.
pub const BAD_ARGUMENT_501: Reply = Reply::fixed(501, 5, 5, 4, "Syntax error in arguments");
/// RCPT with something that is no forward-path.
pub const BAD_RECIPIENT_501: Reply = Reply::fixed(501, 5, 1, 3, "Bad recipient address syntax");
/// MAIL with something that is no reverse-path.
pub const BAD_SENDER_501: Reply = Reply::fixed(501, 5, 1, 7, "Bad sender address syntax");
/// Known, but not done here (EXPN).
pub const NOT_IMPLEMENTED_502: Reply = Reply::fixed(502, 5, 5, 1, "Command not implemented");
/// A good command at the wrong time.
pub const BAD_SEQUENCE_503: Reply = Reply::fixed(503, 5, 5, 1, "Bad sequence of commands");
/// XCLIENT by somebody who may not.
pub const XCLIENT_REFUSED_550: Reply = Reply::fixed(550, 5, 7, 0, "Insufficient authorization for XCLIENT");
/// The recipient's domain is not protected here.
pub const NOT_PROTECTED_550: Reply = Reply::fixed(550, 5, 7, 1, "Relaying denied: domain is not served here");
/// The recipient is unknown by list, learned or verified.
pub const UNKNOWN_RECIPIENT_550: Reply = Reply::fixed(550, 5, 1, 1, "Recipient address unknown");
/// Over `max_message_size`.
pub const MESSAGE_TOO_BIG_552: Reply = Reply::fixed(552, 5, 3, 4, "Message size exceeds the limit");
/// A non-ASCII address without SMTPUTF8 (RFC 6531 3.5).
pub const NON_ASCII_ADDRESS_553: Reply = Reply::fixed(553, 5, 6, 7, "Non-ASCII addresses need SMTPUTF8");
/// Bare CR or bare LF in mail data.
pub const BAD_LINE_ENDS_554: Reply =
    Reply::fixed(554, 5, 6, 0, "Message has bare CR or bare LF, only CRLF ends lines");
/// A line of mail data that begins with a dot and a NUL: where it goes to, somebody may end the data there.
pub const DOT_NUL_554: Reply =
    Reply::fixed(554, 5, 6, 0, "Message has a line that begins with a dot and a NUL");
/// BDAT without the number of octets that follow: the session cannot stay in step.
pub const BAD_CHUNK_554: Reply =
    Reply::fixed(554, 5, 5, 4, "Syntax: BDAT octets [LAST]; closing the connection");
/// The client spoke before its turn.
pub const EARLY_TALKER_554: Reply =
    Reply::fixed(554, 5, 5, 0, "Talked before its turn, closing the connection");
/// Too many Received fields, or too many of our own.
pub const LOOP_554: Reply = Reply::fixed(554, 5, 4, 6, "Mail loop detected");
/// DATA after every RCPT was refused (RFC 5321 3.3).
pub const NO_VALID_RECIPIENTS_554: Reply = Reply::fixed(554, 5, 5, 1, "No valid recipients");
/// An ESMTP parameter that was not offered.
pub const UNKNOWN_PARAMETER_555: Reply =
    Reply::fixed(555, 5, 5, 4, "Parameter not recognized or not implemented");

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut output = Vec::new();
        reply.write_to(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_reply_is_shown_and_written_with_both_codes() {
        assert_eq!(INSUFFICIENT_STORAGE_452.to_string(), "452 4.3.1 Insufficient storage, try again later");
        assert_eq!(wire(&OK_250), "250 2.0.0 Ok\r\n");
        assert_eq!(wire(&START_MAIL_INPUT_354), "354 End data with <CR><LF>.<CR><LF>\r\n");
    }

    #[test]
    fn no_text_can_leave_its_reply() {
        let reply = OK_250.with_text("a\r\n250 b\0\u{fc}\x1b");
        assert_eq!(wire(&reply), "250-2.0.0 a\r\n250 2.0.0 250 b????\r\n");
        assert_eq!(wire(&OK_250.with_text("")), "250 2.0.0 \r\n");
    }

    #[test]
    fn formatted_text_stays_on_its_line() {
        let mut output = b"250 2.0.0 before\r\n".to_vec();
        let before = output.len();
        OK_250.write_with(&mut output, format_args!("queued as {}", "a\r\n250 b\u{fc}"));
        assert_eq!(&output[before..], b"250 2.0.0 queued as a??250 b??\r\n");
        OK_250.write_with(&mut output, format_args!("{}", "x".repeat(1200)));
        assert!(output.ends_with(b"x\r\n"));
        let last = output.split_inclusive(|octet| *octet == b'\n').next_back().map(<[u8]>::len);
        assert_eq!(last, Some(REPLY_LINE_SENT_OCTETS_MAX));
    }

    #[test]
    fn long_text_goes_on_in_the_next_line() {
        let wire = wire(&LOOP_554.with_text("x".repeat(1200)));
        let lines: Vec<&str> = wire.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() + 2 <= REPLY_LINE_SENT_OCTETS_MAX));
        assert!(lines[1].starts_with("554-5.4.6 x") && lines[2].starts_with("554 5.4.6 x"));
        assert_eq!(wire.matches('x').count(), 1200);
    }

    #[test]
    fn enhanced_codes_are_split_from_text() {
        let code = EnhancedCode::new(5, 1, 1);
        assert_eq!(EnhancedCode::split_from("5.1.1 no such user"), Some((code, "no such user")));
        assert_eq!(EnhancedCode::split_from("5.1.1"), Some((code, "")));
        for text in ["5.1 x", "5.1.1.1 x", "3.0.0 x", "5.1.1234 x", "5..1 x", "192.0.2 x", "hello", ""] {
            assert_eq!(EnhancedCode::split_from(text), None, "{text}");
        }
    }
}
