//! A host of a server session, whose verdicts are written in what the client says: whoever is called `no` is refused, `later` is put
//! off, `bye` ends the session; a message that says `REFUSE` is refused.

use std::sync::Arc;
use std::time::Duration;

use stratamx::limits::{COMMAND_LINE_OCTETS_MAX, ENVELOPE_OCTETS_MAX, SESSION_ERRORS_MAX};
use stratamx::smtp::Moment;
use stratamx::smtp::chunk::DotStuffer;
use stratamx::smtp::data::{DataSummary, Transfer};
use stratamx::smtp::path::ForwardPath;
use stratamx::smtp::reply::{self, Reply};
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession};

/// What a session came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub output: Vec<u8>,
    /// Accepted messages as stored, and whether they came by BDAT.
    pub messages: Vec<(Vec<u8>, bool)>,
    pub is_closing: bool,
}

struct Host {
    session: ServerSession,
    input: Vec<u8>,
    data: Vec<u8>,
    stuffer: DotStuffer,
    recipients_max: usize,
    outcome: Outcome,
}

const NOW: Moment = Duration::from_secs(1000);

/// Feeds the pieces to a session of a profile that the octet decides.
pub fn play(profile: u8, pieces: &[&[u8]]) -> Outcome {
    let max_message_size = [1_000_000, 1000, 30, 0][usize::from(profile >> 2 & 3)];
    let recipients_max = if profile & 16 == 0 { 1000 } else { 2 };
    let shared = ServerProfile {
        hostname: "mx2.example.net".to_owned(),
        max_message_size,
        max_recipients: recipients_max,
        starttls: profile & 1 != 0,
        withheld: Vec::new(),
    };
    let mut session = ServerSession::new(Arc::new(shared), NOW);
    if profile & 2 != 0 {
        session.allow_xclient();
    }
    let (input, data, stuffer, outcome) = Default::default();
    let mut host = Host { session, input, data, stuffer, recipients_max: recipients_max as usize, outcome };
    host.flush();
    for piece in pieces {
        host.feed(piece);
    }
    host.outcome.is_closing = host.session.is_closing();
    host.outcome
}

impl Host {
    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        loop {
            let step = self.session.handle_input(&self.input, NOW);
            assert!(step.consumed <= self.input.len(), "only what there is");
            self.take_event(step.event, step.consumed);
            self.input.drain(..step.consumed);
            self.flush();
            assert!(self.session.transaction().recipient_count() <= self.recipients_max);
            assert!(self.session.errors() <= SESSION_ERRORS_MAX + 1, "errors are bounded");
            if step.consumed == 0 && step.event == ServerEvent::Idle {
                break;
            }
        }
        let is_over = self.session.is_closing();
        assert!(is_over != self.session.wants_input(), "no verdict is owed");
        assert!(is_over || self.input.len() < COMMAND_LINE_OCTETS_MAX, "what is kept is less than a line");
    }

    fn flush(&mut self) {
        let octets = self.session.output().len();
        assert!(octets <= 4096, "one step answers one command");
        self.outcome.output.extend_from_slice(self.session.output());
        self.session.output_sent(octets);
    }

    fn take_event(&mut self, event: ServerEvent, consumed: usize) {
        match event {
            ServerEvent::Idle | ServerEvent::Client => {}
            ServerEvent::Sender => {
                let verdict = refusal(self.session.transaction().reverse_path()).map_or(Ok(()), Err);
                self.session.handle_sender(verdict, NOW);
            }
            ServerEvent::Recipient => {
                let verdict = match self.session.transaction().candidate() {
                    ForwardPath::Postmaster => RecipientVerdict::AcceptAs("postmaster@example.net".into()),
                    ForwardPath::Mailbox(mailbox) => {
                        refusal(mailbox.as_str()).map_or(RecipientVerdict::Accept, RecipientVerdict::Refuse)
                    }
                };
                self.session.handle_recipient(verdict, NOW);
            }
            ServerEvent::Data { start, end } => {
                self.assert_has_recipient(start, end, consumed);
                self.data.extend_from_slice(&self.input[start..end]);
            }
            ServerEvent::Chunk { start, end } => {
                self.assert_has_recipient(start, end, consumed);
                self.stuffer.stuff(&self.input[start..end], &mut self.data);
            }
            ServerEvent::Etrn => self.session.handle_etrn(&reply::NO_MESSAGES_WAITING_251, NOW),
            ServerEvent::MessageEnds(summary) => self.end_message(summary),
            ServerEvent::StartTls => {
                self.session.handle_start_tls(Ok(()), NOW);
                self.flush();
                self.session.handle_secured(NOW);
            }
            ServerEvent::Abandoned => {
                self.data.clear();
                self.stuffer = DotStuffer::default();
            }
        }
    }

    fn assert_has_recipient(&self, start: usize, end: usize, consumed: usize) {
        assert!(start < end && end <= consumed, "a range of what is consumed");
        let transaction = self.session.transaction();
        assert!(transaction.recipient_count() > 0, "no data without a recipient");
        assert!(transaction.recipients().map(str::len).sum::<usize>() <= ENVELOPE_OCTETS_MAX);
    }

    fn end_message(&mut self, summary: DataSummary) {
        assert!(self.session.transaction().recipient_count() > 0, "no message without a recipient");
        std::mem::take(&mut self.stuffer).finish(&mut self.data);
        let data = std::mem::take(&mut self.data);
        assert_eq!(summary.stored_octets, data.len() as u64);
        assert_eq!(summary.unstuffed_octets + summary.stuffed_lines, summary.stored_octets);
        let is_refused = data.windows(6).any(|word| word == b"REFUSE");
        let verdict: Result<&dyn core::fmt::Display, Reply> =
            if is_refused { Err(reply::CONFIGURATION_ERROR_451) } else { Ok(&"Q") };
        self.session.handle_message(verdict, NOW);
        if !is_refused {
            self.outcome.messages.push((data, summary.transfer != Transfer::Data));
        }
    }
}

fn refusal(mailbox: &str) -> Option<Reply> {
    match mailbox.split('@').next() {
        Some("no") => Some(reply::XCLIENT_REFUSED_550),
        Some("later") => Some(reply::CONFIGURATION_ERROR_451),
        Some("bye") => Some(reply::SHUTTING_DOWN_421),
        _ => None,
    }
}
