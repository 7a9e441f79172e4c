//! What conversations cannot say: host errors, and servers that say anything at all.

mod patience;

use proptest::prelude::*;

use super::*;

fn envelope<'a>(reverse_path: &'a str, recipients: &'a [&'a str]) -> Envelope<'a> {
    Envelope { reverse_path, recipients, octets: 1, has_8bit: false, extensions: Extensions::default() }
}

#[test]
fn paths_that_could_end_their_command_are_not_sendable() {
    assert!(envelope("", &["\"a b\"@example.com"]).is_sendable());
    assert!(!envelope("a@b\r\nDATA", &["a@b"]).is_sendable());
    assert!(!envelope("", &["a@b", "c\0@d"]).is_sendable());
    assert!(!envelope("", &[]).is_sendable());
}

#[test]
#[should_panic(expected = "a transaction begins only in a session that is ready")]
fn sending_before_ready_is_the_hosts_error() {
    ClientSession::new("mx2.example.net", Moment::ZERO).send(&envelope("", &["a@b"]), Moment::ZERO);
}

#[test]
fn the_failure_is_known_before_it_is_reported() {
    let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
    session.handle_input(b"220 mx.example.com ESMTP\r\n", Moment::ZERO);
    session.handle_input(b"250-mx.example.com\r\n250 PIPELINING\r\n", Moment::ZERO);
    assert_eq!((session.greeting(), session.capabilities().pipelining), ("mx.example.com ESMTP", true));
    session.send(&envelope("", &["a@b"]), Moment::ZERO);
    let not_tried = TransactionOutcome { recipients: vec![RecipientOutcome::NotTried] };
    assert_eq!(session.handle_disconnect(), ClientEvent::TransactionDone(not_tried));
    assert_eq!(session.failure(), Some(&ClientFailure::Disconnected));
    assert!(!session.is_ready());
    assert_eq!(session.handle_disconnect(), ClientEvent::Failed(ClientFailure::Disconnected));
}

/// A session that was greeted by a server that offers `keyword`.
fn greeted(keyword: &str) -> ClientSession {
    let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
    session.handle_input(b"220 mx.example.com ESMTP\r\n", Moment::ZERO);
    session.handle_input(format!("250-mx.example.com\r\n250 {keyword}\r\n").as_bytes(), Moment::ZERO);
    let hello = session.output().len();
    session.output_sent(hello);
    session
}

#[test]
fn a_probe_ends_behind_its_last_rcpt_and_sends_no_data() {
    for keyword in ["PIPELINING", "HELP"] {
        let mut session = greeted(keyword);
        session.probe(&envelope("", &["a@b", "c@b"]), Moment::ZERO);
        let mut said = Vec::new();
        let mut ended = None;
        for reply in ["250 ok\r\n", "550 5.1.1 no\r\n", "250 ok\r\n"] {
            said.extend_from_slice(session.output());
            session.output_sent(session.output().len());
            ended = Some(session.handle_input(reply.as_bytes(), Moment::ZERO).event);
        }
        assert_eq!(String::from_utf8_lossy(&said), "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\n");
        let Some(ClientEvent::TransactionDone(outcome)) = ended else { panic!("{keyword}: {ended:?}") };
        assert!(matches!(outcome.recipients[0], RecipientOutcome::Rejected { stage: Stage::Recipient, .. }));
        assert_eq!(outcome.recipients[1], RecipientOutcome::NotTried);
        assert!(session.is_ready() && session.output().is_empty());
        // What follows begins anew.
        session.send(&envelope("", &["a@b"]), Moment::ZERO);
        assert!(session.output().starts_with(b"RSET\r\n"));
    }
}

/// What is left of a probe's envelope would get the chunk for its message (H45): RSET goes in front of it.
#[test]
fn h45_no_chunk_is_asked_for_over_an_envelope_that_a_probe_left() {
    let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
    session.handle_input(b"220 hi\r\n", Moment::ZERO);
    session.handle_input(b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n", Moment::ZERO);
    session.probe(&envelope("", &["a@x"]), Moment::ZERO);
    for reply in [&b"250 sender\r\n"[..], b"250 recipient\r\n"] {
        session.handle_input(reply, Moment::ZERO);
    }
    session.output_sent(session.output().len());
    session.ask_for_chunks();
    session.send(&envelope("b@x", &["a@x"]), Moment::ZERO);
    let said = String::from_utf8_lossy(session.output()).into_owned();
    assert!(said.starts_with("RSET\r\nBDAT 6 LAST\r\nXNOP\r\nRSET\r\nMAIL FROM:<b@x>"), "{said}");
}

#[test]
fn a_probe_whose_sender_is_refused_ends_for_all() {
    for (keyword, replies) in [("PIPELINING", "550 no\r\n503 no\r\n"), ("HELP", "550 no\r\n")] {
        let mut session = greeted(keyword);
        session.probe(&envelope("", &["a@b"]), Moment::ZERO);
        session.output_sent(session.output().len());
        let mut input = replies.as_bytes();
        let mut event = ClientEvent::Idle;
        while !input.is_empty() {
            let step = session.handle_input(input, Moment::ZERO);
            input = &input[step.consumed..];
            event = step.event;
        }
        let ClientEvent::TransactionDone(outcome) = event else { panic!("{keyword}: {event:?}") };
        assert!(matches!(outcome.recipients[..], [RecipientOutcome::Rejected { stage: Stage::Sender, .. }]));
        assert!(session.is_ready());
    }
}

/// Replies that a server might give at any time, right or wrong.
fn reply() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "220 hi\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "250-a\r\n250 PIPELINING\r\n",
        "354 go\r\n",
        "354 go\r\n",
        "450 4.2.1 later\r\n",
        "550 5.1.1 no\r\n",
        "421 bye\r\n",
        "250-",
        "2",
        "\r\n",
        "garbage\r\n",
    ])
}

proptest! {
    /// A host that sends whenever it can, against any server: each transaction ends once, and nothing counts as
    /// delivered that was not sent to its end.
    #[test]
    fn every_transaction_ends_once_and_none_is_delivered_unsent(
        replies in prop::collection::vec(reply(), 0..60),
        is_lost in any::<bool>(),
    ) {
        let (mut session, mut buffer) = (ClientSession::new("mx2.example.net", Moment::ZERO), Vec::new());
        let (mut begun, mut done, mut is_sent) = (0, 0, false);
        let mut ends = Vec::new();
        for piece in ["220 hi\r\n", "250-x\r\n250 PIPELINING\r\n"].into_iter().chain(replies) {
            buffer.extend_from_slice(piece.as_bytes());
            loop {
                let step = session.handle_input(&buffer, Moment::ZERO);
                buffer.drain(..step.consumed);
                match &step.event {
                    ClientEvent::SendData => {
                        session.handle_data_sent(Moment::ZERO);
                        is_sent = true;
                    }
                    ClientEvent::TransactionDone(outcome) => {
                        let delivered = |outcome: &RecipientOutcome| matches!(outcome, RecipientOutcome::Delivered(_));
                        prop_assert!(is_sent || !outcome.recipients.iter().any(delivered));
                        prop_assert_eq!(outcome.recipients.len(), 2);
                        done += 1;
                    }
                    ClientEvent::Idle if step.consumed == 0 => break,
                    _ => {}
                }
                if session.is_ready() && buffer.is_empty() {
                    session.send(&envelope("s@t", &["a@b", "c@d"]), Moment::ZERO);
                    (begun, is_sent) = (begun + 1, false);
                }
            }
        }
        for _ in 0..3 {
            let late = session.poll_timeout().unwrap_or_default();
            ends.push(if is_lost { session.handle_disconnect() } else { session.handle_timeout(late) });
            ends.push(session.handle_input(b"", Moment::ZERO).event);
        }
        done += ends.iter().filter(|event| matches!(event, ClientEvent::TransactionDone(_))).count();
        prop_assert_eq!(begun, done);
        prop_assert!(!session.is_ready() || !is_lost);
    }
}

/// A server that keeps in step, judges as the script says, and remembers what it took and what it said about it.
#[derive(Default)]
struct Model {
    script: Vec<u8>,
    at: usize,
    heard: Vec<u8>,
    said: Vec<u8>,
    envelope: Option<Vec<String>>,
    in_data: bool,
    is_closed: bool,
    /// Subjects of messages it took, with their recipients, whether or not anybody heard of it.
    taken: Vec<(usize, Vec<String>)>,
}

impl Model {
    fn draw(&mut self) -> u8 {
        self.at += 1;
        self.script[self.at % self.script.len()].wrapping_mul(31).wrapping_add(self.at.to_le_bytes()[0])
    }

    fn verdict(&mut self, good: &str) -> bool {
        let reply = match self.draw() {
            0..=25 => "450 4.2.0 later",
            26..=45 => "550 5.1.0 no",
            46..=48 => "421 4.3.2 bye",
            _ => good,
        };
        self.is_closed = reply.starts_with("421");
        self.said.extend_from_slice(format!("{reply}\r\n").as_bytes());
        reply == good
    }

    fn say(&mut self, reply: &str) {
        self.said.extend_from_slice(format!("{reply}\r\n").as_bytes());
    }

    /// The message is there; whoever reads it as anything else finds no subject.
    fn take(&mut self, body: &[u8], good: &str) {
        let recipients = self.envelope.take().unwrap_or_default();
        if recipients.is_empty() {
            self.say("554 5.5.1 no valid recipients");
        } else if self.verdict(good) {
            let text = String::from_utf8_lossy(body).into_owned();
            let number = text.strip_prefix("RSET\r\n").and_then(|text| text.trim().parse().ok());
            self.taken.push((number.expect("a body is a body"), recipients));
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.heard.extend_from_slice(octets);
        while !self.is_closed {
            if self.in_data {
                let Some(end) = self.heard.windows(5).position(|five| five == b"\r\n.\r\n") else { return };
                let body: Vec<u8> = self.heard.drain(..end + 5).collect();
                self.in_data = false;
                self.take(&body[..end], "250 taken");
                continue;
            }
            let Some(end) = self.heard.windows(2).position(|two| two == b"\r\n") else { return };
            let line = String::from_utf8(self.heard[..end].to_vec()).expect("a command");
            let mut consumed = end + 2;
            if let Some(octets) = line.strip_prefix("BDAT ").and_then(|rest| rest.strip_suffix(" LAST")) {
                consumed += octets.parse::<usize>().expect("octets");
                if self.heard.len() < consumed {
                    return;
                }
            }
            let body: Vec<u8> = self.heard.drain(..consumed).skip(end + 2).collect();
            self.command(&line, &body);
        }
    }

    fn command(&mut self, line: &str, body: &[u8]) {
        match line.split([' ', ':']).next().expect("a verb") {
            "RSET" => {
                self.envelope = None;
                self.say("250 reset");
            }
            "MAIL" if self.envelope.is_some() => self.say("503 nested"),
            "MAIL" => self.envelope = self.verdict("250 sender").then(Vec::new),
            "RCPT" if self.envelope.is_none() => self.say("503 no sender"),
            "RCPT" => {
                if self.verdict("250 recipient") {
                    self.envelope.as_mut().expect("it is there").push(line.to_owned());
                }
            }
            "BDAT" if self.envelope.is_none() => self.say("503 no sender"),
            "BDAT" => self.take(body, "250 taken"),
            "DATA" if self.envelope.as_ref().is_none_or(Vec::is_empty) => self.say("554 nobody"),
            "DATA" => self.in_data = self.verdict("354 go"),
            other => panic!("{other}: a body was read as commands"),
        }
    }
}

/// A host of a session, and the stream between it and the model, both ways.
struct Host {
    session: ClientSession,
    model: Model,
    wire: Vec<u8>,
    /// Where in it the data of a message ends.
    ends: Vec<usize>,
    input: Vec<u8>,
    begun: usize,
    done: Vec<TransactionOutcome>,
}

impl Host {
    fn new(script: Vec<u8>) -> Self {
        let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
        session.handle_input(b"220 hi\r\n", Moment::ZERO);
        session.handle_input(b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n", Moment::ZERO);
        session.output_sent(session.output().len());
        session.ask_for_chunks();
        let model = Model { script, ..Model::default() };
        let (wire, ends, input, done) = Default::default();
        Self { session, model, wire, ends, input, begun: 0, done }
    }

    fn queue_commands(&mut self) {
        self.wire.extend_from_slice(self.session.output());
        self.session.output_sent(self.session.output().len());
    }

    fn begin(&mut self, by_chunk: bool) {
        let number = self.begun;
        let (one, two) = (format!("{number}a@x"), format!("{number}b@x"));
        let recipients = [one.as_str(), two.as_str()];
        let body = format!("RSET\r\n{number}\r\n");
        self.begun += 1;
        if by_chunk && self.session.may_send_chunks() {
            self.session.send_chunk(&envelope("s@t", &recipients), body.len() as u64, Moment::ZERO);
            self.queue_commands();
            self.wire.extend_from_slice(body.as_bytes());
            self.ends.push(self.wire.len());
        } else {
            self.session.send(&envelope("s@t", &recipients), Moment::ZERO);
            self.queue_commands();
        }
    }

    fn write(&mut self, count: usize) {
        let count = self.wire.len().min(count);
        self.model.hear(&self.wire[..count]);
        self.wire.drain(..count);
        self.ends.iter_mut().for_each(|end| *end = end.saturating_sub(count));
        while self.ends.first() == Some(&0) {
            self.ends.remove(0);
            self.session.handle_data_sent(Moment::ZERO);
        }
    }

    fn read(&mut self, count: usize) {
        let count = self.model.said.len().min(count);
        self.input.extend(self.model.said.drain(..count));
        loop {
            let step = self.session.handle_input(&self.input, Moment::ZERO);
            self.input.drain(..step.consumed);
            self.queue_commands();
            match step.event {
                ClientEvent::SendData => {
                    let data = format!("RSET\r\n{}\r\n.\r\n", self.done.len());
                    self.wire.extend_from_slice(data.as_bytes());
                    self.ends.push(self.wire.len());
                    self.session.handle_data_queued();
                }
                ClientEvent::TransactionDone(outcome) => self.done.push(outcome),
                ClientEvent::Idle if step.consumed == 0 => return,
                _ => {}
            }
        }
    }

    fn disconnect(&mut self) {
        while let ClientEvent::TransactionDone(outcome) = self.session.handle_disconnect() {
            self.done.push(outcome);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Several transactions in flight, by DATA and by BDAT, over a stream that is cut anywhere: each ends once and in order;
    /// delivered is what the server took for these recipients and said so; `NotTried` is what it cannot have.
    #[test]
    fn what_is_in_flight_ends_as_the_server_ended_it(
        script in prop::collection::vec(any::<u8>(), 8..80),
        moves in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let mut host = Host::new(script);
        for decision in moves {
            let count = usize::from(decision >> 2);
            match decision % 4 {
                0 if host.session.may_send() && host.session.in_flight() < 5 => host.begin(decision & 16 == 0),
                1 => host.write(4 * count),
                2 | 3 => host.read(2 * count),
                _ => {}
            }
        }
        host.disconnect();
        prop_assert_eq!(host.done.len(), host.begun);
        prop_assert!(!host.session.distrusts_chunks() || host.session.failure().is_some());
        for (number, outcome) in host.done.iter().enumerate() {
            for (recipient, letter) in outcome.recipients.iter().zip(["a", "b"]) {
                let named = format!("RCPT TO:<{number}{letter}@x>");
                let took = host.model.taken.iter().any(|(of, to)| *of == number && to.contains(&named));
                match recipient {
                    RecipientOutcome::Delivered(reply) => prop_assert!(took && reply.text == "taken", "{number}"),
                    RecipientOutcome::Unknown => {}
                    other => prop_assert!(!took, "{number}{letter}: {other:?}"),
                }
            }
        }
        for (number, to) in &host.model.taken {
            prop_assert!(to.iter().all(|to| to.contains(&format!("<{number}"))), "{number} for {to:?}");
        }
    }
}

/// RFC 3207 4.2, and what is put behind a plain 220 by somebody on the way (P6's other side).
#[test]
fn behind_starttls_the_session_begins_anew_and_trusts_no_plain_octet() {
    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    assert_eq!(session.output(), b"STARTTLS\r\n");
    session.output_sent(session.output().len());
    assert_eq!(session.handle_input(b"220 go\r\n", Moment::ZERO).event, ClientEvent::StartTls);
    session.handle_secured(Moment::ZERO);
    assert_eq!(session.output(), b"EHLO mx2.example.net\r\n");
    assert!(!session.capabilities().starttls && !session.is_ready());
    let step = session.handle_input(b"250-mx.example.com\r\n250 PIPELINING\r\n", Moment::ZERO);
    assert_eq!((step.event, session.capabilities().pipelining), (ClientEvent::Ready, true));

    let out_of_turn = || ClientEvent::Failed(ProtocolError::OutOfTurn.into());
    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    let injected = b"220 go\r\n250-mx.example.com\r\n250 PIPELINING\r\n";
    assert_eq!(session.handle_input(injected, Moment::ZERO).event, out_of_turn());

    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    session.handle_input(b"220 go\r\n", Moment::ZERO);
    assert_eq!(session.handle_input(b"250 late\r\n", Moment::ZERO).event, out_of_turn());

    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    let refused = session.handle_input(b"454 4.7.0 not now\r\n", Moment::ZERO).event;
    assert!(matches!(refused, ClientEvent::TlsRefused(reply) if reply.code == 454));
    assert!(session.is_ready() && session.capabilities().starttls);
}
