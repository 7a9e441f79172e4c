//! The SMTP client machine: a [`ClientSession`] for each connection, sans-IO (see `smtp` for how to drive it).
//!
//! It waits for the greeting, says EHLO (HELO where EHLO is refused), and then carries transactions, one after the other or
//! several in flight:
//! - MAIL, RCPT and DATA leave in one group where PIPELINING is offered. Mail data does not pass through the session: on
//!   [`ClientEvent::SendData`] the host writes the data, dot-stuffed, and the final `.` CRLF itself, and reports that.
//! - The next envelope may ride behind that dot (RFC 2920 3.1): once the host said [`ClientSession::handle_data_queued`] whatever
//!   the session outputs comes behind it, and [`ClientSession::may_send`]. Never before: behind a DATA that may be refused, or
//!   behind data that is not whole, an envelope could be read as content. A server that turns out not to run it has none in this
//!   session any more, and the transaction that it dropped has not begun ([`ClientEvent::Dropped`]).
//! - [`ClientSession::send_chunk`] sends a whole transaction, MAIL to BDAT LAST (RFC 3030), before any reply to it is there. Only
//!   where the server has refused a chunk in step on this connection (H45, [`ClientSession::ask_for_chunks`]).
//! - Whom a message came from is told by XCLIENT or XFORWARD, where that is offered (`naming`): the host asks for the client's
//!   [`Standing`] before it begins a transaction.
//!
//! LMTP (RFC 2033) is spoken by [`ClientSession::lmtp`]: LHLO, and a reply to the end of data for each recipient that was accepted.
//! The next envelope rides behind data with one such recipient only, nothing leaves by BDAT, and nobody is named.
//!
//! A server's LIMITS (RFC 9422) are kept to: behind its last MAIL a session takes no further one ([`ClientSession::is_used_up`]);
//! how many recipients a transaction has is the host's ([`Capabilities::recipients_max`]). Refusals in a session are counted too: a series
//! of them, as greylisting gives, is what servers end sessions for (`limits::CLIENT_ERRORS_MAX`).
//!
//! The host must be able to read while it writes a large group or the data.
//!
//! Invariants: every transaction that was not dropped ends in exactly one [`ClientEvent::TransactionDone`], in the order in which they began, also when
//! the session fails, and then `Failed` follows on the next call. A message counts as delivered only by a 2xx of its own that
//! came after [`ClientSession::handle_data_sent`]. `NotTried` means that the server cannot have the message; `Unknown` that it may.
//!
//! Not here: names and addresses, the handshake of TLS, the choice of what to send and how much at a time, retries.

use crate::limits::{
    CLIENT_COMMAND_TIMEOUT, CLIENT_DATA_BLOCK_TIMEOUT, CLIENT_ERRORS_MAX, CLIENT_GREETING_TIMEOUT,
};
use crate::smtp::Moment;
use crate::smtp::dsn::{MailDsn, RcptDsn};
use crate::smtp::output::Output;
use crate::smtp::reply::{ParsedReply, ReceivedReply, ReplyError, ReplyParser};

mod carried;
mod flight;
mod lines;
mod naming;
mod outcome;
mod replies;
#[cfg(test)]
mod tests;
mod window;

pub use crate::smtp::extension::Capabilities;
pub use crate::smtp::xclient::TrueClient;
pub use carried::CarriedSender;
pub use naming::Standing;
pub use outcome::{ClientFailure, ProtocolError, RecipientOutcome, Stage, TransactionOutcome};
pub use window::Window;

use carried::Carrying;
use flight::{Flight, Goal, Prelude};
use naming::{Named, Naming};
use std::collections::VecDeque;

/// What a session speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    /// RFC 2033.
    Lmtp,
    /// RFC 5321.
    #[default]
    Smtp,
}

impl Dialect {
    /// How it greets.
    const fn hello(self) -> &'static str {
        match self {
            Self::Lmtp => "LHLO",
            Self::Smtp => "EHLO",
        }
    }
}

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
    /// Whom it came from, for XFORWARD (`naming`).
    pub client: Option<&'a TrueClient>,
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
    /// The transaction rode behind a dot, and the server did not run it: it is as if it had not begun, and is to begin again.
    Dropped,
    /// The transaction is over. [`ClientSession::is_ready`] tells whether another may follow.
    TransactionDone(TransactionOutcome),
    /// The session is of no more use: close the link.
    Failed(ClientFailure),
    /// 220 to STARTTLS: do the handshake, then call [`ClientSession::handle_secured`].
    StartTls,
    /// STARTTLS was refused: the session is ready, and as plain as before.
    TlsRefused(ReceivedReply),
    /// XCLIENT or XFORWARD was refused: mail goes without.
    NamingRefused(ReceivedReply),
    /// The server refuses the client whom XCLIENT named, by this reply: its message has an answer, and the session is of
    /// no use for another.
    ClientRefused(ReceivedReply),
    /// The answer to what was last said for a sender who waits (`carried`).
    Carried(ReceivedReply),
    /// QUIT was answered, or needs no answer any more: close the link.
    Closed,
}

/// One connection's client side.
#[derive(Debug)]
pub struct ClientSession {
    hostname: String,
    dialect: Dialect,
    state: State,
    parser: ReplyParser,
    capabilities: Capabilities,
    chunks: Chunks,
    /// The server took a message in this session.
    has_delivered: bool,
    /// It does not run what rides behind a dot.
    drops_riders: bool,
    /// MAIL was said so often.
    transactions: u32,
    /// So many commands were refused since it took a message.
    errors: u32,
    named: Named,
    greeting: String,
    output: Output,
    deadline: Option<Moment>,
}

/// Where a session is.
#[derive(Debug)]
enum State {
    /// The greeting is awaited.
    Greeting,
    /// The reply to EHLO is awaited.
    Hello,
    /// The reply to HELO is awaited.
    PlainHello,
    /// The reply to STARTTLS is awaited.
    StartTls,
    /// The host has the handshake.
    Securing,
    /// Transactions are in flight, or may begin.
    Open(Open),
    /// A transaction is carried through.
    Carrying(Carrying),
    /// QUIT was said.
    Quitting,
    /// It failed; the outcomes of what was in flight, and the reason, are told by the next calls.
    Failing(ClientFailure, VecDeque<TransactionOutcome>),
    /// The host knows.
    Failed(ClientFailure),
    /// It is over.
    Closed,
}

/// Replies are for the first flight that is not over.
#[derive(Debug)]
struct Open {
    flights: VecDeque<Flight>,
    /// What the next transaction begins with, if it is alone.
    prelude: Prelude,
    /// Behind all flights.
    naming: Option<Naming>,
}

/// What is known about chunks that this server refuses (H45).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunks {
    Untried,
    /// The next transaction asks.
    Wanted,
    /// A flight asks.
    Asked,
    /// They are swallowed in step.
    Swallowed,
    /// They are not, or it ended the session over one.
    Distrusted,
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
            dialect: Dialect::Smtp,
            state: State::Greeting,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            chunks: Chunks::Untried,
            has_delivered: false,
            drops_riders: false,
            transactions: 0,
            errors: 0,
            named: Named::default(),
            greeting: String::new(),
            output: Output::default(),
            deadline: Some(now + CLIENT_GREETING_TIMEOUT),
        }
    }

    /// As [`Self::new`], of a server that speaks LMTP.
    pub fn lmtp(hostname: &str, now: Moment) -> Self {
        Self { dialect: Dialect::Lmtp, ..Self::new(hostname, now) }
    }

    /// Looks at the head of `input`: all octets received and not yet consumed. At most one event a call.
    ///
    /// While the host writes mail data it feeds what arrives before it reports the data as sent: a reply that
    /// is there before the end of data can only be a refusal, never an acceptance.
    pub fn handle_input(&mut self, input: &[u8], now: Moment) -> ClientStep {
        if matches!(self.state, State::Failing(..)) {
            return ClientStep { consumed: 0, event: self.next_of_failure() };
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

    /// Says STARTTLS (RFC 3207). What follows is [`ClientEvent::StartTls`] or [`ClientEvent::TlsRefused`].
    ///
    /// # Panics
    /// Unless [`Self::is_ready`] and the server offered it.
    pub fn start_tls(&mut self, now: Moment) {
        assert!(self.is_ready() && self.capabilities.starttls, "TLS begins between transactions");
        self.output.tail().extend_from_slice(b"STARTTLS\r\n");
        self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        self.state = State::StartTls;
    }

    /// The link is secured: what the server said before is forgotten, and EHLO is said again (RFC 3207 4.2).
    ///
    /// # Panics
    /// Unless behind [`ClientEvent::StartTls`].
    pub fn handle_secured(&mut self, now: Moment) {
        assert!(matches!(self.state, State::Securing), "the server was asked for TLS");
        self.capabilities = Capabilities::default();
        self.say_hello(self.dialect.hello(), State::Hello, now);
    }

    /// Begins a transaction. It may be alone, or ride behind others.
    ///
    /// What the server did not offer is not said: without DSN its parameters stay behind (RFC 3461 5.2.2). For what
    /// needs SMTPUTF8 there is no way without it: the host does not send it.
    ///
    /// # Panics
    /// Unless [`Self::may_send`] and [`Envelope::is_sendable`]; and for what needs SMTPUTF8 where it is not offered.
    pub fn send(&mut self, envelope: &Envelope<'_>, now: Moment) {
        self.begin(envelope, Goal::Data, now);
    }

    /// Begins a transaction whose data is one chunk of so many octets, unstuffed. The host writes them behind what the output
    /// holds on return, and says [`Self::handle_data_sent`] when they left.
    ///
    /// # Panics
    /// As [`Self::send`], and unless [`Self::may_send_chunks`].
    pub fn send_chunk(&mut self, envelope: &Envelope<'_>, octets: u64, now: Moment) {
        assert!(self.may_send_chunks(), "chunks go where one was refused in step");
        self.begin(envelope, Goal::Chunk(octets), now);
    }

    /// Begins a transaction that ends behind its last RCPT, without data. In its `TransactionDone` a recipient that the
    /// server accepted is `NotTried`, as long as the session is ready after it.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub fn probe(&mut self, envelope: &Envelope<'_>, now: Moment) {
        self.begin(envelope, Goal::Recipients, now);
    }

    /// The next transaction by [`Self::send`] asks whether the server swallows a refused chunk, where it offers what that
    /// takes: RSET and a chunk without a transaction go in front of it, and another RSET, whose 2xx shows that nothing of the chunk was
    /// taken for a command. It costs no round trip. The answer is in [`Self::may_send_chunks`], and nothing
    /// happens when it is known.
    pub fn ask_for_chunks(&mut self) {
        let is_sure = self.dialect == Dialect::Smtp && self.chunks == Chunks::Untried;
        if is_sure && self.capabilities.chunking && self.capabilities.pipelining {
            self.chunks = Chunks::Wanted;
        }
    }

    fn begin(&mut self, envelope: &Envelope<'_>, goal: Goal, now: Moment) {
        assert!(envelope.is_sendable(), "an envelope has a recipient and no control characters");
        assert!(
            self.capabilities.smtputf8
                || (!envelope.needs_smtputf8() && envelope.recipients.iter().all(|path| path.is_ascii())),
            "what needs SMTPUTF8 goes where it is offered"
        );
        assert!(
            self.may_send(),
            "a transaction begins only in a session that is ready, or behind one that is said"
        );
        assert!(
            self.standing(envelope.extensions.client) == Standing::Settled,
            "nothing is said in another's name"
        );
        let forward = self.forward_line(envelope.extensions.client);
        let State::Open(open) = &mut self.state else { unreachable!("it may send") };
        let prelude = if self.chunks == Chunks::Wanted && goal == Goal::Data {
            self.chunks = Chunks::Asked;
            Prelude::RefusedChunk
        } else if open.flights.is_empty() {
            open.prelude
        } else {
            Prelude::Reset
        };
        self.transactions = self.transactions.saturating_add(1);
        let mut flight = Flight::new(envelope, &self.capabilities, prelude, forward, goal);
        if self.dialect == Dialect::Lmtp {
            flight = flight.by_lmtp();
        }
        if goal == Goal::Data && open.flights.back().is_some_and(|before| !before.is_chunk()) {
            flight = flight.riding();
        }
        while let Some(line) = flight.next_line() {
            self.output.tail().extend_from_slice(&line);
            if !self.capabilities.pipelining {
                break;
            }
        }
        if open.flights.is_empty() {
            self.deadline = Some(now + flight.timeout());
        }
        open.flights.push_back(flight);
    }

    /// The mail data and the terminator are in front of everything that the session outputs from here on, and not on their
    /// way yet: another transaction may ride behind.
    pub fn handle_data_queued(&mut self) {
        if let State::Open(open) = &mut self.state
            && let Some(last) = open.flights.back_mut()
        {
            last.queue_content();
        }
    }

    /// The mail data of the first transaction whose data did not leave yet is written, its terminator with it. Call it at
    /// once: before it, a lost connection means `NotTried`, from here on `Unknown`. Nothing happens if the transaction has
    /// ended meanwhile.
    pub fn handle_data_sent(&mut self, now: Moment) {
        let State::Open(open) = &mut self.state else { return };
        let sent = open.flights.iter_mut().position(Flight::send_content);
        if sent == Some(0) {
            self.deadline = Some(now + open.flights[0].timeout());
        }
    }

    /// A block of mail data went out: the next has its own time.
    pub fn handle_data_progress(&mut self, now: Moment) {
        if let State::Open(open) = &self.state
            && open.flights.front().is_some_and(Flight::is_sending)
        {
            self.deadline = Some(now + CLIENT_DATA_BLOCK_TIMEOUT);
        }
    }

    /// Takes leave: QUIT where the server still listens (RFC 5321 3.1: also after a refused greeting, or in a session that is full), else
    /// the session is closed as it is.
    ///
    /// # Panics
    /// During a transaction, whose outcome would be lost.
    pub fn quit(&mut self, now: Moment) {
        assert!(self.in_flight() == 0, "a transaction has an outcome before QUIT");
        match self.take_state() {
            State::Open(_)
            | State::Carrying(Carrying::Between)
            | State::Failing(
                ClientFailure::GreetingRefused(_)
                | ClientFailure::HelloRefused(_)
                | ClientFailure::SessionFull(_),
                _,
            )
            | State::Failed(
                ClientFailure::GreetingRefused(_)
                | ClientFailure::HelloRefused(_)
                | ClientFailure::SessionFull(_),
            ) => {
                self.output.tail().extend_from_slice(b"QUIT\r\n");
                self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
                self.state = State::Quitting;
            }
            _ => self.deadline = None,
        }
    }

    /// Nothing is in flight, and a transaction may begin.
    pub fn is_ready(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.flights.is_empty() && open.naming.is_none())
    }

    /// The server takes no further MAIL in this session (MAILMAX of RFC 9422), or has refused so much in it that it is about to
    /// take us for a client with too many errors: another session takes as many.
    pub fn is_used_up(&self) -> bool {
        self.errors >= CLIENT_ERRORS_MAX
            || self.capabilities.transactions_max.is_some_and(|most| self.transactions >= most)
    }

    /// A transaction may begin, alone or behind others.
    pub fn may_send(&self) -> bool {
        let State::Open(open) = &self.state else { return false };
        !self.is_used_up()
            && open.naming.is_none()
            && open
                .flights
                .back()
                .is_none_or(|last| self.capabilities.pipelining && !self.drops_riders && last.is_said())
    }

    /// The server swallows chunks that it refuses: they may leave before replies are there.
    pub fn may_send_chunks(&self) -> bool {
        self.chunks == Chunks::Swallowed && self.capabilities.chunking && self.capabilities.pipelining
    }

    /// Nobody should send it chunks: it did not refuse one in step, ended the session over one, or got out of step with
    /// chunks in flight.
    pub fn distrusts_chunks(&self) -> bool {
        self.chunks == Chunks::Distrusted
    }

    /// Transactions without an outcome.
    pub fn in_flight(&self) -> usize {
        if let State::Open(open) = &self.state { open.flights.len() } else { 0 }
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
            State::Failing(failure, _) | State::Failed(failure) => Some(failure),
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
        self.parser.parse_lines(input, |line, text| match line {
            0 => capabilities.note_name(text),
            _ => capabilities.note(text),
        })
    }

    /// Takes the state to make the next one of it; until then the session is closed.
    fn take_state(&mut self) -> State {
        core::mem::replace(&mut self.state, State::Closed)
    }
}
