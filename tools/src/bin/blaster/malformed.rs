//! Senders who break the rules, one fault a connection: what a server refuses of it is counted apart and is no failure.
//!
//! ```text
//!   early-talk       EHLO before the greeting           RFC 5321 3.1, 4.3.1: the client waits
//!   bad-sequence     RCPT before MAIL                   4.1.4: 503
//!   nul              a NUL octet in a command           4.1.2: no such octet in a path
//!   long-line        a command of 5000 octets           4.5.3.1.4: 512 is what a server must take
//!   bare-line-feed   lines and a dot ended by LF alone  2.3.8: a line ends by CRLF
//! ```
//! A server that answers 4xx or 5xx anywhere, or that hangs up, has refused; one that answers all of it by 2xx has taken it.

use std::collections::VecDeque;

use stratamx::smtp::reply::ReplyParser;

use crate::dialog::HOSTNAME;
use crate::outbox::Outbox;

/// Octets of a line that no server has to take.
const LONG_LINE_OCTETS: usize = 5000;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    EarlyTalk,
    BadSequence,
    Nul,
    LongLine,
    BareLineFeed,
}

/// All of them, in the order in which a sender goes through them.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::EarlyTalk, Kind::BadSequence, Kind::Nul, Kind::LongLine, Kind::BareLineFeed];

/// What the server made of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused,
    Taken,
}

/// One connection's fault.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What is said to each reply that is no refusal.
    steps: VecDeque<Vec<u8>>,
    parser: ReplyParser,
    pub(crate) out: Outbox,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EarlyTalk => "early-talk",
            Self::BadSequence => "bad-sequence",
            Self::Nul => "nul",
            Self::LongLine => "long-line",
            Self::BareLineFeed => "bare-line-feed",
        }
    }
}

impl Fault {
    /// `recipient` is one that the server would take mail for.
    pub(crate) fn new(kind: Kind, recipient: &str) -> Self {
        let hello = format!("EHLO {HOSTNAME}\r\n").into_bytes();
        let mail = format!("MAIL FROM:<malformed@{HOSTNAME}>\r\n").into_bytes();
        let rcpt = format!("RCPT TO:<{recipient}>\r\n").into_bytes();
        let mut out = Outbox::default();
        let steps = match kind {
            Kind::EarlyTalk => {
                out.push(&hello);
                // The reply to the greeting and the one to EHLO are both awaited.
                vec![Vec::new()]
            }
            Kind::BadSequence => vec![hello, rcpt],
            Kind::Nul => vec![hello, b"MAIL FROM:<a\0b@blaster.test>\r\n".to_vec()],
            Kind::LongLine => {
                let line = [&b"MAIL FROM:<"[..], &[b'a'; LONG_LINE_OCTETS], b"@blaster.test>\r\n"].concat();
                vec![hello, line]
            }
            Kind::BareLineFeed => {
                let content =
                    b"Subject: bare\n\nbody\n.\nMAIL FROM:<smuggled@blaster.test>\n\r\n.\r\n".to_vec();
                vec![hello, mail, rcpt, b"DATA\r\n".to_vec(), content]
            }
        };
        Self { steps: steps.into(), parser: ReplyParser::default(), out }
    }

    /// Takes at most one reply from the head of `input`: how many octets to drop, and the verdict if it is known.
    pub(crate) fn handle_input(&mut self, input: &[u8]) -> (usize, Option<Verdict>) {
        match self.parser.parse(input) {
            Err(_) => (input.len(), Some(Verdict::Refused)),
            Ok(parsed) => (parsed.consumed, parsed.reply.and_then(|reply| self.take(reply.code))),
        }
    }

    fn take(&mut self, code: u16) -> Option<Verdict> {
        if code >= 400 {
            return Some(Verdict::Refused);
        }
        match self.steps.pop_front() {
            Some(step) => {
                self.out.push(&step);
                None
            }
            None => Some(Verdict::Taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent until the verdict, with these replies.
    fn play(kind: Kind, replies: &[&str]) -> (Vec<u8>, Option<Verdict>) {
        let mut fault = Fault::new(kind, "user0@example.test");
        let (mut sent, mut verdict) = (Vec::new(), None);
        for reply in replies {
            let (consumed, found) = fault.handle_input(format!("{reply}\r\n").as_bytes());
            assert_eq!(consumed, reply.len() + 2);
            verdict = verdict.or(found);
            let take = |slices: &[std::io::IoSlice<'_>]| {
                slices.iter().for_each(|slice| sent.extend_from_slice(slice));
                Ok::<usize, ()>(slices.iter().map(|slice| slice.len()).sum())
            };
            fault.out.write(usize::MAX, take).unwrap();
        }
        (sent, verdict)
    }

    #[test]
    fn each_fault_is_what_it_says() {
        let all = ["220 a", "250 a", "250 b", "250 c", "354 d", "250 e"];
        let sent = |kind| String::from_utf8(play(kind, &all).0).unwrap();
        assert!(sent(Kind::EarlyTalk).starts_with("EHLO "));
        assert!(
            Fault::new(Kind::EarlyTalk, "a@b").out.write(usize::MAX, |slices| Ok::<_, ()>(slices[0].len()))
                != Ok(0)
        );
        assert!(
            sent(Kind::BadSequence).contains("RCPT TO:<user0@example.test>")
                && !sent(Kind::BadSequence).contains("MAIL")
        );
        assert!(sent(Kind::Nul).contains('\0'));
        assert!(sent(Kind::LongLine).lines().any(|line| line.len() > LONG_LINE_OCTETS));
        assert!(sent(Kind::BareLineFeed).contains("body\n.\nMAIL"));
    }

    #[test]
    fn a_refusal_anywhere_is_one_and_all_2xx_are_none() {
        assert_eq!(play(Kind::EarlyTalk, &["554 no"]).1, Some(Verdict::Refused));
        assert_eq!(play(Kind::EarlyTalk, &["220 a"]).1, None);
        assert_eq!(play(Kind::EarlyTalk, &["220 a", "250 b"]).1, Some(Verdict::Taken));
        assert_eq!(play(Kind::BadSequence, &["220 a", "250 b", "503 c"]).1, Some(Verdict::Refused));
        let taken = play(Kind::BareLineFeed, &["220 a", "250 b", "250 c", "250 d", "354 e", "250 f"]).1;
        assert_eq!(taken, Some(Verdict::Taken));
        assert_eq!(play(Kind::Nul, &["garbage"]).1, Some(Verdict::Refused));
    }
}
