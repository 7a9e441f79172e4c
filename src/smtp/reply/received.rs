//! Replies that a client receives, parsed from a borrowed buffer.
//!
//! [`ReplyParser`] consumes whole lines only and remembers the lines of an unfinished reply, so a reply may
//! arrive in any pieces. Only CRLF ends a line here too. Everything is bounded: a line by
//! `REPLY_LINE_OCTETS_MAX`, a reply by `REPLY_LINES_MAX`; a server beyond that is [`ReplyError`] and the
//! session is of no more use, since nobody could say which reply belongs to which command.
//!
//! The text is made safe for logs and for our own replies: lines are joined by one space, octets that are
//! no UTF-8 and control characters are replaced.

use core::fmt;

use memchr::memmem;

use super::EnhancedCode;
use crate::limits::{REPLY_LINE_OCTETS_MAX, REPLY_LINES_MAX};

/// A reply received by the client. `Display` shows it on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedReply {
    /// 200 to 599.
    pub code: u16,
    /// The enhanced code of the first line, if its class agrees with the code.
    pub enhanced: Option<EnhancedCode>,
    /// All lines without codes, joined by a space, free of control characters.
    pub text: String,
}

impl ReceivedReply {
    /// That of one line, as tests write it.
    #[cfg(test)]
    pub(crate) fn of_line(line: &str) -> Self {
        let (enhanced, text) = match EnhancedCode::split_from(&line[4..]) {
            Some((enhanced, text)) => (Some(enhanced), text),
            None => (None, &line[4..]),
        };
        Self { code: line[..3].parse().expect("a code"), enhanced, text: text.to_owned() }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl fmt::Display for ReceivedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

/// Why what a server sent is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line of a multi-line reply has another code than its first line.
    #[error("the lines of a reply have different codes")]
    CodesDiffer,
    /// A line is longer than `REPLY_LINE_OCTETS_MAX`.
    #[error("a reply line is too long")]
    LineTooLong,
    /// A line does not begin with a code from 200 to 599 and a space, a hyphen or its end.
    #[error("a line is no reply")]
    Malformed,
    /// A reply has more lines than `REPLY_LINES_MAX`.
    #[error("a reply has too many lines")]
    TooManyLines,
}

/// One step of the parser.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedReply {
    /// Octets to drop from the input.
    pub consumed: usize,
    /// The reply, once its last line is there.
    pub reply: Option<ReceivedReply>,
}

/// The lines of an unfinished reply.
#[derive(Debug, Default)]
pub struct ReplyParser {
    begun: Option<ReceivedReply>,
    lines: usize,
}

impl ReplyParser {
    /// Takes lines from the head of `input` until a reply is whole or the input has no whole line left.
    pub fn parse(&mut self, input: &[u8]) -> Result<ParsedReply, ReplyError> {
        self.parse_lines(input, |_, _| {})
    }

    /// Like [`Self::parse`]; `observe` sees the number of every line, from 0, and its text (EHLO keywords).
    pub(crate) fn parse_lines(
        &mut self,
        input: &[u8],
        mut observe: impl FnMut(usize, &str),
    ) -> Result<ParsedReply, ReplyError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let window = &rest[..rest.len().min(REPLY_LINE_OCTETS_MAX)];
            let Some(end) = memmem::find(window, b"\r\n") else {
                if window.len() == REPLY_LINE_OCTETS_MAX {
                    return Err(ReplyError::LineTooLong);
                }
                return Ok(ParsedReply { consumed, reply: None });
            };
            consumed += end + 2;
            if let Some(reply) = self.take_line(&window[..end], &mut observe)? {
                return Ok(ParsedReply { consumed, reply: Some(reply) });
            }
        }
    }

    /// The code of a reply whose last line is still to come.
    pub(crate) fn begun_code(&self) -> Option<u16> {
        self.begun.as_ref().map(|reply| reply.code)
    }

    fn take_line(
        &mut self,
        line: &[u8],
        observe: &mut impl FnMut(usize, &str),
    ) -> Result<Option<ReceivedReply>, ReplyError> {
        let (code, is_last, text) = split_line(line)?;
        let text = printable(text);
        observe(self.lines, &text);
        let reply = match self.begun.take() {
            Some(begun) if begun.code != code => return Err(ReplyError::CodesDiffer),
            Some(mut begun) => {
                let same =
                    EnhancedCode::split_from(&text).filter(|(found, _)| begun.enhanced == Some(*found));
                begun.text.push(' ');
                begun.text.push_str(same.map_or(&text, |(_, rest)| rest));
                begun
            }
            None => first_line(code, &text),
        };
        self.lines += 1;
        if is_last {
            self.lines = 0;
            return Ok(Some(reply));
        }
        if self.lines == REPLY_LINES_MAX {
            return Err(ReplyError::TooManyLines);
        }
        self.begun = Some(reply);
        Ok(None)
    }
}

/// RFC 2034 4: the class of an enhanced code is the first digit of the reply code, else it is just text.
fn first_line(code: u16, text: &str) -> ReceivedReply {
    match EnhancedCode::split_from(text).filter(|(found, _)| u16::from(found.class) == code / 100) {
        Some((enhanced, rest)) => ReceivedReply { code, enhanced: Some(enhanced), text: rest.to_owned() },
        None => ReceivedReply { code, enhanced: None, text: text.to_owned() },
    }
}

/// Code, whether this is the last line, text. A bare code is a whole line (RFC 5321 4.2: clients SHOULD take it).
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let Some((digits @ [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'], rest)) = line.split_at_checked(3) else {
        return Err(ReplyError::Malformed);
    };
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest {
        [] => Ok((code, true, rest)),
        [b' ', text @ ..] => Ok((code, true, text)),
        [b'-', text @ ..] => Ok((code, false, text)),
        _ => Err(ReplyError::Malformed),
    }
}

fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<ParsedReply, ReplyError> {
        ReplyParser::default().parse(input)
    }

    fn reply(input: &str) -> ReceivedReply {
        parse(input.as_bytes()).unwrap().reply.unwrap()
    }

    #[test]
    fn replies_of_one_and_of_many_lines_are_joined() {
        assert_eq!(reply("250 2.1.5 Ok\r\n").to_string(), "250 2.1.5 Ok");
        assert_eq!(reply("250\r\n").to_string(), "250");
        let many =
            reply("550-5.1.1 The account\r\n550-5.1.1 does not exist.\r\n550 5.1.1  Try later - x\r\n");
        assert_eq!(many.enhanced, Some(EnhancedCode::new(5, 1, 1)));
        assert_eq!(many.text, "The account does not exist.  Try later - x");
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_text() {
        let reply = reply("250 5.1.1 odd\r\n");
        assert_eq!((reply.enhanced, reply.text.as_str()), (None, "5.1.1 odd"));
    }

    #[test]
    fn every_split_gives_the_same_reply() {
        let input = b"250-first\r\n250-2.0.0 second\r\n250 third\r\n354 go\r\n";
        let whole = parse(input).unwrap();
        for split in 0..input.len() {
            let mut parser = ReplyParser::default();
            let head = parser.parse(&input[..split]).unwrap();
            if head.reply.is_some() {
                assert_eq!(head, whole);
                continue;
            }
            let tail = parser.parse(&input[head.consumed..]).unwrap();
            assert_eq!((head.consumed + tail.consumed, &tail.reply), (whole.consumed, &whole.reply));
        }
    }

    #[test]
    fn hostile_octets_do_not_reach_the_text() {
        assert_eq!(reply("550 a\x1b[2J\0\rb\n250 ok\r\n").text, "a?[2J??b?250 ok");
        assert_eq!(parse(b"550 \xff\r\n").unwrap().reply.unwrap().text, "\u{fffd}");
    }

    #[test]
    fn garbage_is_an_error() {
        for line in ["", "hello", "25", "250x", "199 x", "600 x", "2x0 y"] {
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(ReplyError::Malformed), "{line}");
        }
        assert_eq!(parse(b"250-a\r\n550 b\r\n"), Err(ReplyError::CodesDiffer));
    }

    #[test]
    fn lines_and_their_number_are_bounded() {
        let text = "x".repeat(REPLY_LINE_OCTETS_MAX - 6);
        assert!(parse(format!("250 {text}\r\n").as_bytes()).unwrap().reply.is_some());
        assert_eq!(parse(format!("250 {text}x\r\n").as_bytes()), Err(ReplyError::LineTooLong));
        let lines = "250-x\r\n".repeat(REPLY_LINES_MAX - 1);
        assert!(parse(format!("{lines}250 x\r\n").as_bytes()).unwrap().reply.is_some());
        assert_eq!(parse(format!("{lines}250-x\r\n").as_bytes()), Err(ReplyError::TooManyLines));
    }
}
