//! The SMTP server machine: a [`ServerSession`] for each connection, sans-IO (see `smtp` for how to drive it).
//!
//! It parses, keeps the session in step and answers everything that the protocol decides. Five things it asks
//! the host, each as an event that must be answered before more input is wanted: is the sender welcome
//! (`Sender` -> [`ServerSession::handle_sender`]), is the recipient (`Recipient` ->
//! [`ServerSession::handle_recipient`]), is the message safe (`MessageEnds` ->
//! [`ServerSession::handle_message`]), what becomes of ETRN (`Etrn` -> [`ServerSession::handle_etrn`]), and may TLS begin
//! (`StartTls` -> [`ServerSession::handle_start_tls`]). From the moment that the 250 to a message is in the output, the
//! message is the host's.
//!
//! Invariants: one reply for each command, in order; mail data reaches the host as contiguous ranges of its own
//! input; a transaction ends in a message verdict, a refused MAIL, [`ServerEvent::Abandoned`], or the closing
//! of the session. Output is at most one reply a line of input, and the limits on errors and idle commands
//! bound those, so the host's receive buffer bounds the output too.
//!
//! Not here: who may connect, the octets of TLS, policy, time budgets for verdicts, storage. Refused recipients are policy
//! and do not count as errors: a mailing list with dead addresses must not lose its session.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use crate::limits::SERVER_COMMAND_TIMEOUT;
use crate::smtp::Moment;
use crate::smtp::data::DataSummary;
use crate::smtp::line::LineFramer;
use crate::smtp::output::{Output, append};
use crate::smtp::path::Mailbox;
use crate::smtp::reply::{self, Reply};
use crate::smtp::xclient::ClientOverride;

mod chunk;
mod progress;
mod request;
mod start_tls;
mod state;
#[cfg(test)]
mod tests;
mod transaction;

use progress::{Progress, Stage};
use state::{Afterwards, Phase, State};
pub use transaction::Transaction;

/// What all sessions of a server share.
#[derive(Clone, Debug)]
pub struct ServerProfile {
    /// Our name in greeting and EHLO.
    pub hostname: String,
    /// Octets of the biggest message, counted as RFC 1870 does (unstuffed).
    pub max_message_size: u64,
    /// Recipients of one transaction.
    pub max_recipients: u32,
    /// STARTTLS is offered: the host has a certificate.
    pub starttls: bool,
    /// Keywords of EHLO, in capitals, that are not offered although they are understood: a scripted primary plays
    /// an older server so. Empty where mail is at stake.
    pub withheld: Vec<String>,
}

/// The result of one call of [`ServerSession::handle_input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Octets to drop from the head of the input, after a [`ServerEvent::Data`] range was copied.
    pub consumed: usize,
    /// What happened.
    pub event: ServerEvent,
}

/// What the host has to know or decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Nothing. With `consumed` 0: more input is needed, or a verdict is awaited, or the session is closing.
    Idle,
    /// MAIL is well-formed: answer by `handle_sender`.
    Sender,
    /// RCPT is well-formed and new, see [`Transaction::candidate`]: answer by `handle_recipient`.
    Recipient,
    /// Mail data as it came (dot-stuffed): this range of the input. Ranges of one message are contiguous in
    /// the stream and never contain the terminator.
    Data {
        /// First octet.
        start: usize,
        /// Behind the last octet.
        end: usize,
    },
    /// A piece of a BDAT chunk as it came: this range of the input. The host stuffs it (`chunk::DotStuffer`), so that
    /// what it stores is what the summary of `MessageEnds` tells.
    Chunk {
        /// First octet.
        start: usize,
        /// Behind the last octet.
        end: usize,
    },
    /// XCLIENT told who the client is: see [`ServerSession::client`].
    Client,
    /// ETRN is well-formed, see [`ServerSession::etrn_node`]: answer by `handle_etrn`.
    Etrn,
    /// The true end of data, and the message is good: answer by `handle_message`.
    MessageEnds(DataSummary),
    /// STARTTLS at its right place: answer by `handle_start_tls`.
    StartTls,
    /// The transaction is gone (RSET, EHLO, QUIT, refused data at its true end ...): the host drops all that it
    /// holds for it.
    Abandoned,
}

/// The host's decision about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientVerdict<'a> {
    /// 250, stored as typed with its domain in lower case.
    Accept,
    /// 250, stored as this mailbox; the only acceptance that `<postmaster>` can have.
    AcceptAs(Cow<'a, str>),
    /// This reply; a 421 closes the session too.
    Refuse(Reply),
}

/// One connection's server side.
#[derive(Debug)]
pub struct ServerSession {
    profile: Arc<ServerProfile>,
    state: State,
    transaction: Transaction,
    peer: Peer,
    client: ClientOverride,
    may_xclient: bool,
    output: Output,
    deadline: Moment,
    progress: Progress,
    errors: u32,
    refused_recipients: u32,
    idle_commands: u32,
    /// Replies by the first digit of their codes, from 2 on; the greeting is none.
    replies: [u32; 4],
}

/// What the client said in HELO or EHLO, and through what.
#[derive(Debug, Default)]
struct Peer {
    name: String,
    is_extended: bool,
    is_secured: bool,
}

impl ServerSession {
    /// A connection was accepted; the greeting is in the output. What the client sent before it left is early
    /// talk, which only the host can see.
    pub fn new(profile: Arc<ServerProfile>, now: Moment) -> Self {
        let mut session = Self {
            profile,
            state: State::commands(Phase::Unidentified),
            transaction: Transaction::default(),
            peer: Peer::default(),
            client: ClientOverride::default(),
            may_xclient: false,
            output: Output::default(),
            deadline: now + SERVER_COMMAND_TIMEOUT,
            progress: Progress::new(now),
            errors: 0,
            refused_recipients: 0,
            idle_commands: 0,
            replies: [0; 4],
        };
        session.greet();
        session
    }

    /// The client may say XCLIENT, and is offered it.
    pub fn allow_xclient(&mut self) {
        self.may_xclient = true;
    }

    fn greet(&mut self) {
        let hostname = &self.profile.hostname;
        append(self.output.tail(), format_args!("220 {hostname} ESMTP StrataMX\r\n"));
    }

    /// Looks at the head of `input`: all octets received and not yet consumed. At most one event a call.
    pub fn handle_input(&mut self, input: &[u8], now: Moment) -> Step {
        let was_data = self.stage() == Stage::Data;
        let step = match self.state {
            State::Commands { .. } => self.step_commands(input),
            State::Data(_) => self.step_data(input),
            State::Chunk(_) => self.step_chunk(input),
            State::Swallow { .. } => self.step_swallow(input),
            State::SenderPending
            | State::RecipientPending
            | State::EtrnPending { .. }
            | State::MessagePending(_)
            | State::StartTlsPending
            | State::Handshake
            | State::Closing => Step { consumed: 0, event: ServerEvent::Idle },
        };
        if was_data {
            self.progress.note_data(step.consumed, now);
        }
        self.progress.note_stage(self.stage(), now);
        // Octets that end no line are no progress: else a line could take forever, an octet at a time.
        if step.consumed > 0 && !self.is_skipping() {
            self.deadline = now + SERVER_COMMAND_TIMEOUT;
        }
        step
    }

    /// Answers [`ServerEvent::Sender`].
    ///
    /// # Panics
    /// When no sender awaits its verdict; a session that closed meanwhile ignores it.
    pub fn handle_sender(&mut self, verdict: Result<(), Reply>, now: Moment) {
        if self.is_closing() {
            return;
        }
        assert!(matches!(self.state, State::SenderPending), "a Sender event awaits its answer");
        self.progress.note_verdict(now);
        self.deadline = now + SERVER_COMMAND_TIMEOUT;
        match verdict {
            Ok(()) => {
                self.state = State::commands(Phase::Envelope);
                self.queue(&reply::SENDER_OK_250);
            }
            Err(refusal) => {
                self.transaction.clear();
                self.state = State::commands(Phase::Identified);
                self.queue(&refusal);
            }
        }
    }

    /// Answers [`ServerEvent::Recipient`].
    ///
    /// # Panics
    /// When no recipient awaits its verdict; a session that closed meanwhile ignores it.
    pub fn handle_recipient(&mut self, verdict: RecipientVerdict<'_>, now: Moment) {
        if self.is_closing() {
            return;
        }
        assert!(matches!(self.state, State::RecipientPending), "a Recipient event awaits its answer");
        self.progress.note_verdict(now);
        self.deadline = now + SERVER_COMMAND_TIMEOUT;
        self.state = State::commands(Phase::Envelope);
        let refusal = match verdict {
            RecipientVerdict::Accept => {
                self.transaction.accept();
                None
            }
            RecipientVerdict::AcceptAs(text) => match Mailbox::parse(&text) {
                Ok(mailbox) if self.transaction.accept_as(mailbox) => None,
                Ok(_) => Some(reply::TOO_MANY_RECIPIENTS_452),
                Err(_) => Some(reply::CONFIGURATION_ERROR_451),
            },
            RecipientVerdict::Refuse(refusal) => Some(refusal),
        };
        match refusal {
            None => {
                self.idle_commands = 0;
                self.queue(&reply::RECIPIENT_OK_250);
            }
            Some(refusal) => {
                self.refused_recipients += 1;
                self.transaction.refuse();
                self.queue(&refusal);
            }
        }
    }

    /// Answers [`ServerEvent::MessageEnds`]: `Ok` with the queue id when the message is durable.
    ///
    /// # Panics
    /// When no message awaits its verdict; a session that closed meanwhile ignores it.
    pub fn handle_message(&mut self, verdict: Result<&dyn fmt::Display, Reply>, now: Moment) {
        if self.is_closing() {
            return;
        }
        let State::MessagePending(afterwards) = self.state else {
            unreachable!("a MessageEnds event awaits its answer")
        };
        self.deadline = now + SERVER_COMMAND_TIMEOUT;
        self.progress = Progress::new(now);
        self.transaction.clear();
        self.state = State::commands(Phase::Identified);
        match verdict {
            Ok(queue_id) => {
                self.count_reply(&reply::OK_250);
                reply::OK_250.write_with(self.output.tail(), format_args!("Ok: queued as {queue_id}"));
            }
            Err(refusal) => self.queue(&refusal),
        }
        if matches!(afterwards, Afterwards::Close) && !self.is_closing() {
            self.close_with(&reply::SHUTTING_DOWN_421);
        }
    }

    /// Closes the session with 421 if [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        if now >= self.poll_timeout() && !self.is_closing() {
            self.close_with(&reply::TIMEOUT_421);
        }
    }

    /// Closes the session with 421: at once, or behind the verdict of a message that awaits one, since its
    /// sender could not know else who has the message (RFC 1047).
    pub fn handle_shutdown(&mut self) {
        match &mut self.state {
            State::MessagePending(afterwards) => *afterwards = Afterwards::Close,
            State::Closing => {}
            _ => self.close_with(&reply::SHUTTING_DOWN_421),
        }
    }

    /// False while a verdict is awaited or the session is closing: the host should not read.
    pub fn wants_input(&self) -> bool {
        let state = &self.state;
        matches!(state, State::Commands { .. } | State::Data(_) | State::Chunk(_) | State::Swallow { .. })
    }

    /// When to call [`Self::handle_timeout`]; [`Moment::MAX`] while the host owes a verdict.
    pub fn poll_timeout(&self) -> Moment {
        match self.state {
            State::SenderPending
            | State::RecipientPending
            | State::EtrnPending { .. }
            | State::MessagePending(_)
            | State::StartTlsPending => Moment::MAX,
            State::Commands { .. } | State::Data(_) | State::Chunk(_) | State::Swallow { .. } => {
                self.deadline.min(self.progress.deadline())
            }
            State::Handshake | State::Closing => self.deadline,
        }
    }

    /// Replies to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.unsent()
    }

    /// The first `n` octets of the output are on their way.
    pub fn output_sent(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// The host sends the output, then closes the link. Whatever transaction there was is gone.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// The argument of HELO or EHLO; empty before.
    pub fn greeted_as(&self) -> &str {
        &self.peer.name
    }

    /// EHLO was said, not HELO; or so XCLIENT tells.
    pub fn is_extended(&self) -> bool {
        self.client.is_extended.unwrap_or(self.peer.is_extended)
    }

    /// What XCLIENT told about the client.
    pub fn client(&self) -> &ClientOverride {
        &self.client
    }

    /// The envelope. Valid from `Sender` to the end of the transaction, empty else.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Commands that were the client's fault, in the whole session.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Recipients that the host refused, in the whole session.
    pub fn refused_recipients(&self) -> u32 {
        self.refused_recipients
    }

    /// Replies in the whole session by the first digit of their codes, from 2 to 5; the greeting is none.
    pub fn replies(&self) -> [u32; 4] {
        self.replies
    }

    fn count_reply(&mut self, reply: &Reply) {
        if let Some(count) = self.replies.get_mut(usize::from(reply.code().value() / 100).wrapping_sub(2)) {
            *count += 1;
        }
    }

    /// See [`Progress`].
    fn stage(&self) -> Stage {
        match &self.state {
            State::Commands { phase: Phase::Chunking(_), .. } => Stage::BetweenChunks,
            State::Commands { .. } | State::Handshake | State::Closing => Stage::Commands,
            State::Data(_) | State::Chunk(_) | State::Swallow { .. } => Stage::Data,
            State::SenderPending
            | State::RecipientPending
            | State::EtrnPending { .. }
            | State::MessagePending(_)
            | State::StartTlsPending => Stage::Waiting,
        }
    }

    fn is_skipping(&self) -> bool {
        matches!(self.state, State::Commands { framer: LineFramer::Skipping, .. })
    }

    /// RFC 5321 3.8: 421 says that the channel closes, whoever decided it.
    fn queue(&mut self, reply: &Reply) {
        self.count_reply(reply);
        reply.write_to(self.output.tail());
        if reply.code().value() == 421 {
            self.transaction.clear();
            self.state = State::Closing;
        }
    }

    fn close_with(&mut self, reply: &Reply) {
        self.queue(reply);
        self.transaction.clear();
        self.state = State::Closing;
    }
}
