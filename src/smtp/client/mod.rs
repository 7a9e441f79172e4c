//! The SMTP client machine: a [`ClientSession`] for each connection, sans-IO (see `smtp` for how to drive it).
//!
//! It waits for the greeting, says EHLO (HELO where EHLO is refused), and then carries one transaction after
//! the other. MAIL, RCPT and DATA leave in one group where PIPELINING is offered. Mail data does not pass
//! through it: on [`ClientEvent::SendData`] the host writes the data, dot-stuffed, and the final `.` CRLF
//! itself, and reports that. The host must be able to read while it writes a large group or the data.
//!
//! Invariants: every transaction ends in exactly one [`ClientEvent::TransactionDone`], also when the session
//! fails, and then `Failed` follows on the next call. A message counts as delivered only by a 2xx that came
//! after [`ClientSession::handle_data_sent`]. `NotTried` means that the server cannot have the message;
//! `Unknown` that it may.
//!
//! Not here: names and addresses, TLS, the choice of what to send, retries. Windows of several transactions
//! in flight build on `Exchange`, which knows nothing of the session it runs in.

use crate::limits::{
    CLIENT_COMMAND_TIMEOUT, CLIENT_DATA_BLOCK_TIMEOUT, CLIENT_DATA_END_TIMEOUT, CLIENT_DATA_START_TIMEOUT,
    CLIENT_GREETING_TIMEOUT,
};
use crate::smtp::Moment;
use crate::smtp::dsn::{MailDsn, RcptDsn};
use crate::smtp::output::Output;
use crate::smtp::reply::{ParsedReply, ReceivedReply, ReplyError, ReplyParser};

mod outcome;
mod state;
#[cfg(test)]
mod tests;

pub use crate::smtp::extension::Capabilities;
pub use outcome::{ClientFailure, ProtocolError, RecipientOutcome, Stage, TransactionOutcome};
use state::{Advance, Ending, Exchange, Standing, State};

/// What is to be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Without brackets; empty for `<>`.
    pub reverse_path: &'a str,
    /// Mailboxes without brackets.
    pub recipients: &'a [&'a str],
    /// Octets of the message as RFC 1870 counts them (unstuffed).
    pub octets: u64,
    /// The message has octets from 0x80 up.
    pub has_8bit: bool,
    /// What else is to be said, as far as the server offers it.
    pub extensions: Extensions<'a>,
}

/// What service extensions add to an envelope; the default: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions<'a> {
    /// RET and ENVID (RFC 3461 4.3, 4.4).
    pub dsn: MailDsn<'a>,
    /// NOTIFY and ORCPT (RFC 3461 4.1, 4.2), one a recipient; or empty.
    pub recipients: &'a [RcptDsn<'a>],
    /// The message's header section cannot go on without SMTPUTF8 (RFC 6531 3.1).
    pub header_needs_smtputf8: bool,
}

/// The result of one call of [`ClientSession::handle_input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStep {
    /// Octets to drop from the head of the input.
    pub consumed: usize,
    /// What happened.
    pub event: ClientEvent,
}

/// What the host has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Nothing.
    Idle,
    /// EHLO or HELO was taken: [`ClientSession::send`] may be called.
    Ready,
    /// 354: write the mail data and the terminator, then call [`ClientSession::handle_data_sent`].
    SendData,
    /// The transaction is over. [`ClientSession::is_ready`] tells whether another may follow.
    TransactionDone(TransactionOutcome),
    /// The session is of no more use: close the link.
    Failed(ClientFailure),
    /// QUIT was answered, or needs no answer any more: close the link.
    Closed,
}

/// One connection's client side.
#[derive(Debug)]
pub struct ClientSession {
    hostname: String,
    state: State,
    parser: ReplyParser,
    capabilities: Capabilities,
    greeting: String,
    output: Output,
    deadline: Option<Moment>,
}

impl Envelope<'_> {
    /// No path holds a control character, which could end its command early, and no parameter white space, which
    /// could begin another. Those that came in by MAIL and RCPT never do; those from elsewhere are to be asked.
    pub fn is_sendable(&self) -> bool {
        let is_safe = |path: &str| !path.contains(char::is_control);
        let is_word = |value: &str| !value.contains(|c: char| c.is_control() || c.is_whitespace());
        !self.recipients.is_empty()
            && is_safe(self.reverse_path)
            && self.recipients.iter().all(|path| is_safe(path))
            && is_word(self.extensions.dsn.envid)
            && self.extensions.recipients.iter().all(|dsn| is_word(dsn.orcpt))
    }

    /// SMTPUTF8 is needed, whoever the recipient (RFC 6531 3.4): for the sender's address or the header section.
    pub fn needs_smtputf8(&self) -> bool {
        self.extensions.header_needs_smtputf8 || !self.reverse_path.is_ascii()
    }
}

impl ClientSession {
    /// A connection was made; `hostname` is who we are.
    pub fn new(hostname: &str, now: Moment) -> Self {
        Self {
            hostname: hostname.to_owned(),
            state: State::Greeting,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            greeting: String::new(),
            output: Output::default(),
            deadline: Some(now + CLIENT_GREETING_TIMEOUT),
        }
    }

    /// Looks at the head of `input`: all octets received and not yet consumed. At most one event a call.
    ///
    /// While the host writes mail data it feeds what arrives before it reports the data as sent: a reply that
    /// is there before the end of data can only be a refusal, never an acceptance.
    pub fn handle_input(&mut self, input: &[u8], now: Moment) -> ClientStep {
        if let State::Failing(failure) = &self.state {
            let failure = failure.clone();
            return ClientStep { consumed: 0, event: self.failed(failure) };
        }
        if matches!(self.state, State::Failed(_) | State::Closed) {
            return ClientStep { consumed: input.len(), event: ClientEvent::Idle };
        }
        match self.parse(input) {
            Ok(ParsedReply { consumed, reply: Some(reply) }) => {
                let has_more = consumed < input.len();
                ClientStep { consumed, event: self.handle_reply(reply, has_more, now) }
            }
            Ok(ParsedReply { consumed, reply: None }) if self.is_begun_too_early() => {
                ClientStep { consumed, event: self.end_session(ProtocolError::OutOfTurn.into()) }
            }
            Ok(ParsedReply { consumed, reply: None }) => ClientStep { consumed, event: ClientEvent::Idle },
            Err(error) => {
                let failure = ClientFailure::Protocol(error.into());
                ClientStep { consumed: input.len(), event: self.end_session(failure) }
            }
        }
    }

    /// The stream has ended or broken. After a `TransactionDone` from here, [`Self::failure`] has the reason.
    pub fn handle_disconnect(&mut self) -> ClientEvent {
        self.end_session(ClientFailure::Disconnected)
    }

    /// Gives up if [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Moment) -> ClientEvent {
        match self.deadline {
            Some(deadline) if now >= deadline => self.end_session(ClientFailure::TimedOut),
            _ => ClientEvent::Idle,
        }
    }

    /// Begins a transaction.
    ///
    /// What the server did not offer is not said: without DSN its parameters stay behind (RFC 3461 5.2.2). For what
    /// needs SMTPUTF8 there is no way without it: the host does not send it.
    ///
    /// # Panics
    /// Unless [`Self::is_ready`] and [`Envelope::is_sendable`]; and for what needs SMTPUTF8 where it is not offered.
    pub fn send(&mut self, envelope: &Envelope<'_>, now: Moment) {
        self.begin(envelope, Exchange::new, now);
    }

    /// Begins a transaction that ends behind its last RCPT, without data. In its `TransactionDone` a recipient that the
    /// server accepted is `NotTried`, as long as the session is ready after it.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub fn probe(&mut self, envelope: &Envelope<'_>, now: Moment) {
        self.begin(envelope, Exchange::probe, now);
    }

    fn begin(
        &mut self,
        envelope: &Envelope<'_>,
        exchange: impl FnOnce(&Envelope<'_>, &Capabilities, Standing) -> Exchange,
        now: Moment,
    ) {
        assert!(envelope.is_sendable(), "an envelope has a recipient and no control characters");
        assert!(
            self.capabilities.smtputf8
                || (!envelope.needs_smtputf8() && envelope.recipients.iter().all(|path| path.is_ascii())),
            "what needs SMTPUTF8 goes where it is offered"
        );
        let State::Ready(standing) = self.state else {
            unreachable!("a transaction begins only in a session that is ready")
        };
        let mut exchange = exchange(envelope, &self.capabilities, standing);
        while let Some(line) = exchange.next_line() {
            self.output.tail().extend_from_slice(&line);
            if !self.capabilities.pipelining {
                break;
            }
        }
        self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        self.state = State::Envelope(exchange);
    }

    /// The mail data and the terminator are written. Call it at once: before it, a lost connection means
    /// `NotTried`, from here on `Unknown`. Nothing happens if the transaction has ended meanwhile.
    pub fn handle_data_sent(&mut self, now: Moment) {
        self.state = match self.take_state() {
            State::Data(exchange) => {
                self.deadline = Some(now + CLIENT_DATA_END_TIMEOUT);
                State::DataEnd(exchange)
            }
            other => other,
        };
    }

    /// A block of mail data went out: the next has its own time.
    pub fn handle_data_progress(&mut self, now: Moment) {
        if matches!(self.state, State::Data(_)) {
            self.deadline = Some(now + CLIENT_DATA_BLOCK_TIMEOUT);
        }
    }

    /// Takes leave: QUIT where the server still listens (RFC 5321 3.1: also after a refused greeting), else
    /// the session is closed as it is.
    ///
    /// # Panics
    /// During a transaction, whose outcome would be lost.
    pub fn quit(&mut self, now: Moment) {
        assert!(!self.is_in_transaction(), "a transaction has an outcome before QUIT");
        match self.take_state() {
            State::Ready(_)
            | State::Failing(ClientFailure::GreetingRefused(_) | ClientFailure::HelloRefused(_))
            | State::Failed(ClientFailure::GreetingRefused(_) | ClientFailure::HelloRefused(_)) => {
                self.output.tail().extend_from_slice(b"QUIT\r\n");
                self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
                self.state = State::Quitting;
            }
            _ => self.deadline = None,
        }
    }

    /// A transaction may begin.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// What the server offered by EHLO.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The text of the greeting, without its code; empty before.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Why the session is of no more use, if it is.
    pub fn failure(&self) -> Option<&ClientFailure> {
        match &self.state {
            State::Failing(failure) | State::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Commands to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.unsent()
    }

    /// The first `n` octets of the output are on their way.
    pub fn output_sent(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// When to call [`Self::handle_timeout`]; none while ready or over: how long a session idles is the host's.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.deadline
    }

    fn parse(&mut self, input: &[u8]) -> Result<ParsedReply, ReplyError> {
        if !matches!(self.state, State::Hello) {
            return self.parser.parse(input);
        }
        // RFC 5321 4.1.1.1: the first line is the server's name, keywords follow.
        let capabilities = &mut self.capabilities;
        self.parser.parse_lines(input, |line, text| {
            if line > 0 {
                capabilities.note(text);
            }
        })
    }

    /// `has_more`: octets behind the reply are there already.
    fn handle_reply(&mut self, reply: ReceivedReply, has_more: bool, now: Moment) -> ClientEvent {
        match self.take_state() {
            State::Greeting => self.take_greeting(reply, now),
            State::Hello => self.take_hello(reply, now),
            State::PlainHello if reply.is_positive() => self.ready(Standing::Clear, ClientEvent::Ready),
            State::PlainHello => self.failed(ClientFailure::HelloRefused(reply)),
            State::Ready(_) if reply.code == 421 => self.failed(ClientFailure::ServiceClosing(reply)),
            State::Ready(_) => self.failed(ProtocolError::OutOfTurn.into()),
            State::Envelope(exchange) => self.take_envelope_reply(exchange, reply, has_more, now),
            State::Data(exchange) => self.take_early_reply(exchange, reply),
            State::DataEnd(exchange) => self.take_final_reply(exchange, reply),
            State::EmptyDot(exchange) if reply.code == 421 => {
                self.done_and_failing(exchange, &Ending::NotTried, ClientFailure::ServiceClosing(reply))
            }
            State::EmptyDot(exchange) => self.done(exchange, &Ending::NotTried, Standing::Begun),
            State::Quitting | State::Failing(_) | State::Failed(_) | State::Closed => {
                self.deadline = None;
                ClientEvent::Closed
            }
        }
    }

    fn take_greeting(&mut self, reply: ReceivedReply, now: Moment) -> ClientEvent {
        if !reply.is_positive() {
            return self.failed(ClientFailure::GreetingRefused(reply));
        }
        self.greeting = reply.text;
        self.say_hello("EHLO", State::Hello, now)
    }

    fn take_hello(&mut self, reply: ReceivedReply, now: Moment) -> ClientEvent {
        if reply.is_positive() {
            return self.ready(Standing::Clear, ClientEvent::Ready);
        }
        self.capabilities = Capabilities::default();
        // RFC 5321 3.2: a server that does not know EHLO is greeted by HELO.
        if reply.is_permanent() {
            return self.say_hello("HELO", State::PlainHello, now);
        }
        self.failed(ClientFailure::HelloRefused(reply))
    }

    fn say_hello(&mut self, verb: &str, state: State, now: Moment) -> ClientEvent {
        let line = format!("{verb} {}\r\n", self.hostname);
        self.output.tail().extend_from_slice(line.as_bytes());
        self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        self.state = state;
        ClientEvent::Idle
    }

    fn take_envelope_reply(
        &mut self,
        mut exchange: Exchange,
        reply: ReceivedReply,
        has_more: bool,
        now: Moment,
    ) -> ClientEvent {
        if reply.code == 421 {
            return self.done_and_failing(exchange, &Ending::NotTried, ClientFailure::ServiceClosing(reply));
        }
        match exchange.take_reply(reply) {
            Advance::Continue => {
                self.output.tail().extend(exchange.next_line().unwrap_or_default());
                let is_data = exchange.awaits_data_start();
                let timeout = if is_data { CLIENT_DATA_START_TIMEOUT } else { CLIENT_COMMAND_TIMEOUT };
                self.deadline = Some(now + timeout);
                self.state = State::Envelope(exchange);
                ClientEvent::Idle
            }
            Advance::Settled(reply) => {
                let ending = reply.map_or(Ending::NotTried, |reply| Ending::Replied(Stage::DataStart, reply));
                let standing = exchange.standing();
                self.done(exchange, &ending, standing)
            }
            Advance::EmptyDot if has_more => self.out_of_turn(exchange, &Ending::NotTried),
            Advance::StartData => {
                self.deadline = Some(now + CLIENT_DATA_BLOCK_TIMEOUT);
                self.state = State::Data(exchange);
                // Whoever says more before he has the data is out of step: his next 250 would be taken for the
                // reply to the dot, and the message would be lost. No data goes; the next call judges it.
                if has_more { ClientEvent::Idle } else { ClientEvent::SendData }
            }
            Advance::EmptyDot => {
                // RFC 2920 3.1: the server waits for data although every recipient was refused.
                self.output.tail().extend_from_slice(b".\r\n");
                self.deadline = Some(now + CLIENT_DATA_END_TIMEOUT);
                self.state = State::EmptyDot(exchange);
                ClientEvent::Idle
            }
            Advance::OutOfTurn => self.out_of_turn(exchange, &Ending::NotTried),
        }
    }

    /// Before the end of data only a refusal can be meant; what is left of the data cannot be sent in step.
    fn take_early_reply(&mut self, exchange: Exchange, reply: ReceivedReply) -> ClientEvent {
        if reply.code == 421 {
            return self.done_and_failing(exchange, &Ending::NotTried, ClientFailure::ServiceClosing(reply));
        }
        if reply.is_transient() || reply.is_permanent() {
            return self.out_of_turn(exchange, &Ending::Replied(Stage::DataEnd, reply));
        }
        self.out_of_turn(exchange, &Ending::NotTried)
    }

    fn take_final_reply(&mut self, exchange: Exchange, reply: ReceivedReply) -> ClientEvent {
        let ending = Ending::Replied(Stage::DataEnd, reply.clone());
        match reply.code {
            421 => self.done_and_failing(exchange, &ending, ClientFailure::ServiceClosing(reply)),
            300..=399 => self.out_of_turn(exchange, &Ending::Unknown),
            _ if reply.is_positive() => self.done(exchange, &ending, Standing::Clear),
            _ => self.done(exchange, &ending, Standing::Begun),
        }
    }

    fn ready(&mut self, standing: Standing, event: ClientEvent) -> ClientEvent {
        self.deadline = None;
        self.state = State::Ready(standing);
        event
    }

    fn done(&mut self, exchange: Exchange, ending: &Ending, standing: Standing) -> ClientEvent {
        let outcome = exchange.into_outcome(ending);
        self.ready(standing, ClientEvent::TransactionDone(outcome))
    }

    fn out_of_turn(&mut self, exchange: Exchange, ending: &Ending) -> ClientEvent {
        self.done_and_failing(exchange, ending, ProtocolError::OutOfTurn.into())
    }

    fn done_and_failing(
        &mut self,
        exchange: Exchange,
        ending: &Ending,
        failure: ClientFailure,
    ) -> ClientEvent {
        self.deadline = None;
        self.state = State::Failing(failure);
        ClientEvent::TransactionDone(exchange.into_outcome(ending))
    }

    fn failed(&mut self, failure: ClientFailure) -> ClientEvent {
        self.deadline = None;
        self.state = State::Failed(failure.clone());
        ClientEvent::Failed(failure)
    }

    /// The session ends from outside its protocol; a pending transaction ends first.
    fn end_session(&mut self, failure: ClientFailure) -> ClientEvent {
        match self.take_state() {
            State::Envelope(exchange) | State::Data(exchange) | State::EmptyDot(exchange) => {
                self.done_and_failing(exchange, &Ending::NotTried, failure)
            }
            State::DataEnd(exchange) => self.done_and_failing(exchange, &Ending::Unknown, failure),
            State::Failing(earlier) => self.failed(earlier),
            State::Greeting | State::Hello | State::PlainHello | State::Ready(_) => self.failed(failure),
            State::Quitting | State::Failed(_) | State::Closed => {
                self.deadline = None;
                ClientEvent::Closed
            }
        }
    }

    /// An acceptance has begun before the end of data was sent.
    fn is_begun_too_early(&self) -> bool {
        matches!(self.state, State::Data(_)) && self.parser.begun_code().is_some_and(|code| code < 400)
    }

    fn is_in_transaction(&self) -> bool {
        matches!(self.state, State::Envelope(_) | State::Data(_) | State::DataEnd(_) | State::EmptyDot(_))
    }

    /// Takes the state to make the next one of it; until then the session is closed.
    fn take_state(&mut self) -> State {
        core::mem::replace(&mut self.state, State::Closed)
    }
}
