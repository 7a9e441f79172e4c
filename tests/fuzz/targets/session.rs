//! A whole session: the same replies and messages whatever the split, and those that somebody expects who only sees the octets of
//! both sides and knows lines, chunks and ends of data by naive search: a reply for each command, none from within data, no data
//! and no message without a recipient, and each accepted message the octets that were sent for it.
//!
//! The first octet of an input decides the profile. One thing depends on the split, by design: who talks behind DATA
//! or STARTTLS before the answer is refused where that can be seen.

use stratamx::limits::{COMMAND_LINE_OCTETS_MAX, REPLY_LINE_SENT_OCTETS_MAX};
use stratamx::smtp::reply;

use super::engine::Signs;
use super::host::{Outcome, play};
use super::wire;

pub const WORDS: &[&[u8]] = &[
    b"EHLO client.example\r\n",
    b"HELO client.example\r\n",
    b"MAIL FROM:<s@example.org>\r\n",
    b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<no@example.org> SIZE=20 BODY=8BITMIME\r\n",
    b"RCPT TO:<a@example.test>\r\n",
    b"RCPT TO:<no@example.test>\r\n",
    b"RCPT TO:<later@example.test>\r\n",
    b"RCPT TO:<bye@example.test>\r\n",
    b"RCPT TO:<postmaster>\r\n",
    b"DATA\r\n",
    b"x\r\n.\r\n",
    b"REFUSE\r\n.\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"BDAT 5\r\nabc\r\n",
    b"BDAT 5 LAST\r\nabc\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 2 LAST\r\n.\n",
    b"BDAT x\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"HELP\r\n",
    b"VRFY x\r\n",
    b"EXPN x\r\n",
    b"ETRN example.test\r\n",
    b"STARTTLS\r\n",
    b"XCLIENT NAME=x ADDR=192.0.2.1 HELO=x PROTO=ESMTP\r\n",
    b"QUIT\r\n",
    b" SMTPUTF8",
    b"\r\n",
];

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let Some((profile, input)) = input.split_first() else { return signs };
    let mut singly: Option<Outcome> = None;
    for pieces in wire::cuts(input) {
        let outcome = play(*profile, &pieces);
        let codes = follow(input, &outcome);
        match &singly {
            None => {
                signs.note_size("messages", outcome.messages.len());
                for pair in codes.windows(2) {
                    signs.note(pair);
                }
                singly = Some(outcome);
            }
            Some(singly) => assert_same(&outcome, singly),
        }
    }
    signs
}

/// Early talk is seen in pieces, never in single octets: then the session ended where the other went on.
fn assert_same(outcome: &Outcome, singly: &Outcome) {
    let early = format!("{}\r\n", reply::EARLY_TALKER_554);
    let Some(before) = outcome.output.strip_suffix(early.as_bytes()) else {
        return assert_eq!(outcome, singly);
    };
    let behind = singly.output.strip_prefix(before).expect("the replies before it are the same");
    // To DATA: taken, without RCPT, with none that was accepted. To STARTTLS.
    let waited = [&b"354 "[..], b"503 ", b"554 5.5.1 ", b"220 2.0.0 ", b"421 "];
    assert!(waited.iter().any(|reply| behind.starts_with(reply)), "it was a turn to wait for");
    assert!(singly.messages.starts_with(&outcome.messages));
}

/// What a naive reader of both sides knows.
struct Reader<'a> {
    replies: std::vec::IntoIter<Replied>,
    rest: &'a [u8],
    recipients: usize,
    chunks: Vec<u8>,
    messages: Vec<(Vec<u8>, bool)>,
    codes: Vec<u16>,
    is_over: bool,
}

/// The codes of all replies, once everything is as it should be.
fn follow(input: &[u8], outcome: &Outcome) -> Vec<u16> {
    let (messages, codes, chunks) = Default::default();
    let replies = replies(&outcome.output).into_iter();
    let mut reader = Reader { replies, rest: input, recipients: 0, chunks, messages, codes, is_over: false };
    assert_eq!(reader.reply().code, 220, "the greeting");
    while !reader.is_over {
        let Some(line) = reader.line() else { break };
        if !reader.command(line) {
            break;
        }
    }
    assert_eq!(reader.replies.len(), 0, "a reply to nothing: {}", input.escape_ascii());
    assert_eq!(reader.is_over, outcome.is_closing, "{}", input.escape_ascii());
    assert_eq!(reader.messages, outcome.messages, "{}", input.escape_ascii());
    reader.codes
}

impl<'a> Reader<'a> {
    fn reply(&mut self) -> Replied {
        let reply = self.replies.next().expect("each command has its reply");
        self.is_over = [221, 421].contains(&reply.code)
            || reply.text == reply::EARLY_TALKER_554.to_string()
            || reply.text == reply::BAD_CHUNK_554.to_string();
        self.codes.push(reply.code);
        reply
    }

    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(octets)?;
        self.rest = rest;
        Some(taken)
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = (0..self.rest.len()).find(|at| self.rest[*at..].starts_with(b"\r\n"))?;
        self.take(end + 2)
    }

    /// False: it is not all there, and was not answered.
    fn command(&mut self, line: &[u8]) -> bool {
        let is_good = line.len() <= COMMAND_LINE_OCTETS_MAX
            && !line[..line.len() - 2].iter().any(|octet| b"\r\n\0".contains(octet));
        let text = if is_good {
            String::from_utf8_lossy(line).trim_end().to_ascii_uppercase()
        } else {
            String::new()
        };
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        if text.starts_with("BDAT")
            && let ["BDAT", octets, last @ ..] = words.as_slice()
            && octets.bytes().all(|octet| octet.is_ascii_digit())
            && let Ok(octets) = octets.parse::<u64>()
            && (last.is_empty() || last == ["LAST"])
        {
            return self.chunk(octets, !last.is_empty());
        }
        let reply = self.reply();
        match (words.first().copied().unwrap_or_default(), reply.code) {
            ("MAIL", 250) => self.recipients = 0,
            ("RCPT", 250) => self.recipients += 1,
            ("RSET" | "HELO" | "EHLO", 250) | ("STARTTLS" | "XCLIENT", 220) => self.forget(),
            ("DATA", 354) => return self.data(),
            ("DATA", 503 | 554 | 501 | 421) => {}
            (_, 354) => panic!("only DATA is answered 354"),
            _ => {}
        }
        true
    }

    fn forget(&mut self) {
        self.recipients = 0;
        self.chunks.clear();
    }

    fn data(&mut self) -> bool {
        assert!(self.recipients > 0, "data without a recipient");
        let Some(end) = wire::end_of_data(self.rest) else { return false };
        let data = &self.take(end + 3).expect("it was found there")[..end];
        if self.reply().code == 250 {
            assert!(!wire::has_bare_line_end(data) && !wire::has_dot_nul(data), "no smuggling");
            self.messages.push((data.to_vec(), false));
        }
        self.forget();
        true
    }

    fn chunk(&mut self, octets: u64, is_last: bool) -> bool {
        let Some(chunk) = usize::try_from(octets).ok().and_then(|octets| self.take(octets)) else {
            return false;
        };
        self.chunks.extend_from_slice(chunk);
        let code = self.reply().code;
        if code == 250 {
            assert!(self.recipients > 0, "a chunk without a recipient");
        }
        if code == 250 && is_last {
            assert!(!wire::has_bare_line_end(&self.chunks), "no smuggling");
            self.messages.push((wire::stuff(&self.chunks), true));
        }
        if code != 250 || is_last {
            self.forget();
        }
        true
    }
}

struct Replied {
    code: u16,
    /// Of its last line, with the code.
    text: String,
}

/// The replies; each line of them whole, short enough and printable.
fn replies(output: &[u8]) -> Vec<Replied> {
    let text = str::from_utf8(output).expect("replies are text");
    assert!(text.ends_with("\r\n"), "whole lines");
    let (mut replies, mut begun) = (Vec::new(), None);
    for line in text.split_terminator("\r\n") {
        assert!(line.len() + 2 <= REPLY_LINE_SENT_OCTETS_MAX && !line.contains(char::is_control), "{line:?}");
        let code: u16 = line.get(..3).expect("a code").parse().expect("a number");
        assert!(begun.is_none_or(|begun| begun == code), "one code a reply");
        begun = Some(code).filter(|_| line.as_bytes().get(3) == Some(&b'-'));
        if begun.is_none() {
            assert_eq!(line.as_bytes().get(3), Some(&b' '), "{line:?}");
            replies.push(Replied { code, text: line.to_owned() });
        }
    }
    assert!(begun.is_none(), "whole replies");
    replies
}
