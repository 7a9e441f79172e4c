//! Whole transactions through the server's machine, pipelined as a good sender does it: the next envelope behind the data of the one before. Beside
//! it a session of strings: a line a string, a reply a string, the message a vector.

use crate::common::sized;
use crate::data::data_of;
use criterion::{Criterion, Throughput};
use std::sync::Arc;
use std::time::Duration;
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession};

const NOW: Duration = Duration::from_secs(1);
const ENVELOPE: &[u8] =
    b"MAIL FROM:<sender@example.org> SIZE=10240 BODY=8BITMIME RET=HDRS ENVID=QQ314159\r\nRCPT TO:<user@example.test>\r\nRCPT TO:<other@example.test> NOTIFY=FAILURE ORCPT=rfc822;o+2Bther@example.test\r\nDATA\r\n";
/// One for the message, three for the next envelope, and the 354.
const REPLIES: [&[u8]; 5] = [b"250", b"250", b"250", b"250", b"354"];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let messages = sized(100, 3);
    group.throughput(Throughput::Elements(messages as u64));
    for (size, data) in [("0", b".\r\n".to_vec()), ("10KiB", data_of(76))] {
        let turn = [&data[..], ENVELOPE].concat();
        group.bench_function(format!("pipelined/size={size}/messages={messages}"), |bencher| {
            let mut session = Driven::new();
            bencher.iter(|| (0..messages).for_each(|_| session.turn(&turn)));
        });
        group.bench_function(format!("baseline=strings/size={size}/messages={messages}"), |bencher| {
            let mut session = Naive::default();
            session.feed(ENVELOPE);
            bencher.iter(|| (0..messages).for_each(|_| check(&session.feed(&turn))));
        });
        let mut naive = Naive::default();
        naive.feed(ENVELOPE);
        naive.feed(&turn);
        let mut driven = Driven::new();
        driven.turn(&turn);
        assert_eq!(driven.unstuffed_octets, naive.unstuffed_octets, "both took the same");
    }
    group.finish();
}

/// What a turn must be answered by.
fn check(replies: &[u8]) {
    let lines = replies.split_inclusive(|octet| *octet == b'\n');
    assert!(lines.map(|line| &line[..3]).eq(REPLIES), "{}", replies.escape_ascii());
}

/// The machine, and a host that takes everything: what it is given to keep is copied once.
pub(crate) struct Driven {
    session: ServerSession,
    stored: Vec<u8>,
    unstuffed_octets: u64,
}

impl Driven {
    /// A session with its first envelope, so that data is awaited.
    pub(crate) fn new() -> Self {
        let profile = ServerProfile {
            hostname: "mx2.example.test".to_owned(),
            max_message_size: 1 << 20,
            max_recipients: 100,
            starttls: false,
            withheld: Vec::new(),
        };
        let session = ServerSession::new(Arc::new(profile), NOW);
        let mut driven = Self { session, stored: Vec::new(), unstuffed_octets: 0 };
        driven.feed(b"EHLO client.example\r\n");
        driven.sent();
        driven.feed(ENVELOPE);
        driven.sent();
        driven
    }

    /// The data of a message and the next envelope.
    pub(crate) fn turn(&mut self, input: &[u8]) {
        self.feed(input);
        check(self.session.output());
        self.sent();
    }

    fn sent(&mut self) {
        self.session.output_sent(self.session.output().len());
    }

    fn feed(&mut self, mut input: &[u8]) {
        loop {
            let step = self.session.handle_input(input, NOW);
            match step.event {
                ServerEvent::Idle if step.consumed == 0 => break,
                ServerEvent::Idle => {}
                ServerEvent::Sender => self.session.handle_sender(Ok(()), NOW),
                ServerEvent::Recipient => self.session.handle_recipient(RecipientVerdict::Accept, NOW),
                ServerEvent::Data { start, end } => self.stored.extend_from_slice(&input[start..end]),
                ServerEvent::MessageEnds(summary) => {
                    assert_eq!(self.stored.len() as u64, summary.stored_octets, "all of it was handed out");
                    assert_eq!(self.session.transaction().recipient_count(), 2);
                    self.unstuffed_octets = summary.unstuffed_octets;
                    self.stored.clear();
                    self.session.handle_message(Ok(&"0123456789ABCD"), NOW);
                }
                other => unreachable!("nothing else is said: {other:?}"),
            }
            input = &input[step.consumed..];
        }
        assert!(input.is_empty(), "nothing is left");
    }
}

pub(crate) fn turn_of(line_octets: usize) -> Vec<u8> {
    [&data_of(line_octets)[..], ENVELOPE].concat()
}

#[derive(Default)]
struct Naive {
    reverse_path: String,
    recipients: Vec<String>,
    message: Vec<u8>,
    unstuffed_octets: u64,
    is_in_data: bool,
}

impl Naive {
    fn feed(&mut self, input: &[u8]) -> Vec<u8> {
        let mut replies = String::new();
        for line in input.split_inclusive(|octet| *octet == b'\n') {
            let reply = if self.is_in_data { self.data(line) } else { self.command(line) };
            if let Some(reply) = reply {
                replies += &format!("{reply}\r\n");
            }
        }
        replies.into_bytes()
    }

    fn command(&mut self, line: &[u8]) -> Option<String> {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let path = || line.split(['<', '>']).nth(1).expect("a path").to_owned();
        match &line.to_uppercase() {
            verb if verb.starts_with("MAIL") => {
                self.reverse_path = path();
                self.recipients = Vec::new();
                Some("250 2.1.0 Ok".to_owned())
            }
            verb if verb.starts_with("RCPT") => {
                self.recipients.push(path());
                Some("250 2.1.5 Ok".to_owned())
            }
            verb if verb.starts_with("DATA") => {
                self.is_in_data = true;
                self.message = Vec::new();
                Some("354 End data with <CR><LF>.<CR><LF>".to_owned())
            }
            other => unreachable!("nothing else is said: {other}"),
        }
    }

    fn data(&mut self, line: &[u8]) -> Option<String> {
        if line == b".\r\n" {
            self.is_in_data = false;
            self.unstuffed_octets = self.message.len() as u64;
            assert_eq!((self.reverse_path.as_str(), self.recipients.len()), ("sender@example.org", 2));
            return Some(format!("250 2.0.0 Ok: queued as {}", "0123456789ABCD"));
        }
        self.message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        None
    }
}
