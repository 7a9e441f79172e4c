//! Replies of a server, as the client reads them: the same whatever the split, those of a reader of whole lines, bounded, and with
//! nothing in their text that a log or another server could take for something else.

use stratamx::limits::{REPLY_LINE_OCTETS_MAX, REPLY_LINES_MAX};
use stratamx::smtp::reply::{ReceivedReply, ReplyError, ReplyParser};

use super::engine::Signs;
use super::wire;

pub const WORDS: &[&[u8]] = &[
    b"220 mx ESMTP\r\n",
    b"250-PIPELINING\r\n",
    b"250 HELP\r\n",
    b"250\r\n",
    b"354 go\r\n",
    b"421 4.3.2 bye\r\n",
    b"550 5.1.1 no\r\n",
    b"550-5.1.1 no\r\n550 5.1.1 never\r\n",
    b"250-\r\n",
    b"600 x\r\n",
    b"199 x\r\n",
    b"2.0.0",
    b"5.999.999",
    b"\r\n",
    b"\n",
    b"\0",
    b"\x1b[2J",
    "é".as_bytes(),
    b"\xff",
    b" ",
    b"-",
];

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let expected = expected(input);
    for pieces in wire::cuts(input) {
        let (replies, fault) = parse(&pieces);
        let found: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
        assert_eq!((found, fault), expected, "{} pieces of {}", pieces.len(), input.escape_ascii());
        for reply in &replies {
            assert!((200..=599).contains(&reply.code));
            assert_eq!(reply.to_string().lines().count(), 1);
            assert!(!reply.text.contains(char::is_control), "{:?}", reply.text);
            assert!(reply.text.len() <= REPLY_LINES_MAX * REPLY_LINE_OCTETS_MAX * 3);
            assert_eq!(
                u32::from(reply.is_positive())
                    + u32::from(reply.is_transient())
                    + u32::from(reply.is_permanent()),
                u32::from(reply.code / 100 != 3)
            );
            signs.note((reply.code / 100, reply.enhanced.is_some()));
        }
        signs.note(fault.map(|fault| fault.to_string()));
    }
    signs.note_size("replies", expected.0.len());
    signs
}

/// The codes of whole replies, and what ends the stream. A line that is too long is known before its end.
fn expected(input: &[u8]) -> (Vec<u16>, Option<ReplyError>) {
    let (mut codes, mut begun, mut lines) = (Vec::new(), None, 0);
    let mut rest = input;
    loop {
        let end = (0..rest.len()).find(|at| rest[*at..].starts_with(b"\r\n"));
        if end.unwrap_or(rest.len()) + usize::from(end.is_some()) * 2 > REPLY_LINE_OCTETS_MAX
            || (end.is_none() && rest.len() == REPLY_LINE_OCTETS_MAX)
        {
            return (codes, Some(ReplyError::LineTooLong));
        }
        let Some(end) = end else { return (codes, None) };
        let (line, behind) = (&rest[..end], &rest[end + 2..]);
        let digits: Option<u16> = line
            .get(..3)
            .filter(|code| code.iter().all(u8::is_ascii_digit))
            .map(|code| code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')));
        let is_last = matches!(line.get(3), None | Some(b' '));
        let Some(code) = digits.filter(|code| (200..600).contains(code) && (is_last || line[3] == b'-'))
        else {
            return (codes, Some(ReplyError::Malformed));
        };
        if begun.is_some_and(|begun| begun != code) {
            return (codes, Some(ReplyError::CodesDiffer));
        }
        lines += 1;
        (begun, lines) = if is_last {
            codes.push(code);
            (None, 0)
        } else {
            (Some(code), lines)
        };
        if lines == REPLY_LINES_MAX {
            return (codes, Some(ReplyError::TooManyLines));
        }
        rest = behind;
    }
}

fn parse(pieces: &[&[u8]]) -> (Vec<ReceivedReply>, Option<ReplyError>) {
    let (mut parser, mut replies, mut buffer) = (ReplyParser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let parsed = match parser.parse(&buffer) {
                Ok(parsed) => parsed,
                Err(fault) => return (replies, Some(fault)),
            };
            buffer.drain(..parsed.consumed);
            match parsed.reply {
                Some(reply) => replies.push(reply),
                None => break,
            }
        }
        assert!(buffer.len() < REPLY_LINE_OCTETS_MAX, "what is kept is less than a line");
    }
    (replies, None)
}
