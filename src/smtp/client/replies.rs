//! What a reply means in each state of a session, and how a session fails.

use super::flight::{Advance, Ending};
use super::outcome::{ClientFailure, ProtocolError, TransactionOutcome};
use super::{Chunks, ClientEvent, ClientSession, Dialect, Flight, Open, Prelude, State};
use crate::limits::{CLIENT_COMMAND_TIMEOUT, CLIENT_DATA_END_TIMEOUT};
use crate::smtp::Moment;
use crate::smtp::extension::Capabilities;
use crate::smtp::reply::{EnhancedCode, ReceivedReply};
use std::collections::VecDeque;

impl ClientSession {
    /// `has_more`: octets behind the reply are there already.
    pub(super) fn handle_reply(&mut self, reply: ReceivedReply, has_more: bool, now: Moment) -> ClientEvent {
        match self.take_state() {
            State::Greeting => self.take_greeting(reply, now),
            State::Hello => self.take_hello(reply, now),
            State::PlainHello if reply.is_positive() => self.ready(),
            State::PlainHello => self.failed(ClientFailure::HelloRefused(reply)),
            State::StartTls => self.take_start_tls(reply, has_more),
            State::Securing => self.failed(ProtocolError::OutOfTurn.into()),
            State::Open(mut open) => match open.flights.pop_front() {
                Some(flight) => self.take_transaction_reply(open, flight, reply, has_more, now),
                None if open.naming.is_some() => {
                    let naming = open.naming.take().expect("it is there");
                    self.take_naming_reply(open, naming, reply, now)
                }
                None if reply.code == 421 => self.failed(ClientFailure::ServiceClosing(reply)),
                None => self.failed(ProtocolError::OutOfTurn.into()),
            },
            State::Carrying(carrying) => self.take_carried_reply(carrying, reply, now),
            State::Quitting | State::Failing(..) | State::Failed(_) | State::Closed => {
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
        self.say_hello(self.dialect.hello(), State::Hello, now)
    }

    fn take_hello(&mut self, reply: ReceivedReply, now: Moment) -> ClientEvent {
        if reply.is_positive() {
            return self.ready();
        }
        self.capabilities = Capabilities::default();
        if let Some(event) = self.take_refused_hello(&reply, now) {
            return event;
        }
        // RFC 5321 3.2: a server that does not know EHLO is greeted by HELO.
        if reply.is_permanent() && self.dialect == Dialect::Smtp {
            return self.say_hello("HELO", State::PlainHello, now);
        }
        self.failed(ClientFailure::HelloRefused(reply))
    }

    fn take_start_tls(&mut self, reply: ReceivedReply, has_more: bool) -> ClientEvent {
        match reply.code {
            // Whatever comes behind the reply in plain text was put there by somebody else.
            220 if has_more => self.failed(ProtocolError::OutOfTurn.into()),
            220 => {
                self.deadline = None;
                self.state = State::Securing;
                ClientEvent::StartTls
            }
            421 => self.failed(ClientFailure::ServiceClosing(reply)),
            _ => {
                self.ready();
                ClientEvent::TlsRefused(reply)
            }
        }
    }

    pub(super) fn say_hello(&mut self, verb: &str, state: State, now: Moment) -> ClientEvent {
        let line = format!("{verb} {}\r\n", self.named.hello().unwrap_or(&self.hostname));
        self.output.tail().extend_from_slice(line.as_bytes());
        self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        self.state = state;
        ClientEvent::Idle
    }

    /// The reply of the first flight, which is taken out of `open`.
    fn take_transaction_reply(
        &mut self,
        mut open: Open,
        mut flight: Flight,
        reply: ReceivedReply,
        has_more: bool,
        now: Moment,
    ) -> ClientEvent {
        if reply.code == 421 {
            let ending = flight.closed(&reply);
            return self.fail_over(open, flight, &ending, ClientFailure::ServiceClosing(reply));
        }
        if self.is_full(&open, &flight, &reply) {
            return self.fail_over(open, flight, &Ending::NotTried, ClientFailure::SessionFull(reply));
        }
        // What was dropped says nothing of us.
        let is_error = reply.code >= 400 && !flight.is_dropped();
        self.errors = self.errors.saturating_add(is_error.into());
        let mut event = ClientEvent::Idle;
        match flight.take_reply(reply) {
            Advance::Over(ending, prelude) => return self.over(open, flight, &ending, prelude, now),
            Advance::OutOfTurn(ending) => {
                return self.fail_over(open, flight, &ending, ProtocolError::OutOfTurn.into());
            }
            // RFC 2033 4.2: DATA without recipients has a 503. Nobody can tell how many replies the dot behind a 354 would have.
            Advance::EmptyDot if has_more || self.dialect == Dialect::Lmtp => {
                return self.fail_over(open, flight, &Ending::NotTried, ProtocolError::OutOfTurn.into());
            }
            Advance::NotSwallowed => {
                let failure = ProtocolError::ChunkNotSwallowed.into();
                return self.fail_over(open, flight, &Ending::NotTried, failure);
            }
            Advance::Continue => {
                if self.chunks == Chunks::Asked && flight.was_swallowed() {
                    self.chunks = Chunks::Swallowed;
                }
                if let Some(refusal) = flight.take_forward_refusal() {
                    if refusal.code != 501 {
                        self.named.refuse_xforward();
                    }
                    event = self.named.tell(refusal);
                }
                self.output.tail().extend(flight.next_line().unwrap_or_default());
                self.deadline = Some(now + flight.timeout());
            }
            Advance::StartData => {
                self.deadline = Some(now + flight.timeout());
                // Whoever says more before he has the data is out of step: his next 250 would be taken for the
                // reply to the dot, and the message would be lost. No data goes; the next call judges it.
                if !has_more {
                    event = ClientEvent::SendData;
                }
            }
            Advance::EmptyDot => {
                // RFC 2920 3.1: the server waits for data although every recipient was refused.
                self.output.tail().extend_from_slice(b".\r\n");
                flight.end_empty();
                self.deadline = Some(now + CLIENT_DATA_END_TIMEOUT);
            }
        }
        open.flights.push_front(flight);
        self.state = State::Open(open);
        event
    }

    /// OpenSMTPD takes 100 messages a session (`smtp limit max-mails`), and answers each MAIL after them by 452 4.5.3.
    /// "Too many recipients" (RFC 3463 3.6) to a MAIL, which has none, is not about its message. Not with chunks in
    /// flight: what became of those that left is told by their own replies; and not where nothing was taken, since the
    /// next session would be no better.
    fn is_full(&self, open: &Open, flight: &Flight, reply: &ReceivedReply) -> bool {
        let says_full = matches!(reply.enhanced, Some(EnhancedCode { class: 4, subject: 5, detail: 3 }));
        says_full
            && self.has_delivered
            && flight.awaits_sender()
            && !open.flights.iter().any(Flight::is_chunk)
    }

    fn ready(&mut self) -> ClientEvent {
        self.rest();
        ClientEvent::Ready
    }

    /// A transaction has its outcome, and the session goes on.
    fn over(
        &mut self,
        mut open: Open,
        flight: Flight,
        ending: &Ending,
        prelude: Prelude,
        now: Moment,
    ) -> ClientEvent {
        open.prelude = prelude;
        self.drops_riders |= flight.is_dropped();
        if flight.took(ending) {
            (self.has_delivered, self.errors) = (true, 0);
        }
        let naming = open.naming.as_ref().map(|_| CLIENT_COMMAND_TIMEOUT);
        self.deadline = open.flights.front().map(Flight::timeout).or(naming).map(|timeout| now + timeout);
        self.state = State::Open(open);
        if flight.is_dropped() {
            return ClientEvent::Dropped;
        }
        ClientEvent::TransactionDone(flight.into_outcome(ending))
    }

    /// The session fails in the turn of a transaction, which ends thus; those behind it get no reply any more.
    fn fail_over(
        &mut self,
        open: Open,
        flight: Flight,
        ending: &Ending,
        failure: ClientFailure,
    ) -> ClientEvent {
        self.deadline = None;
        let had_chunks = flight.is_chunk() || open.flights.iter().any(Flight::is_chunk);
        // Also where its path swallows large chunks: time after time nobody would know what arrived.
        let is_out_of_step =
            had_chunks && matches!(failure, ClientFailure::Protocol(_) | ClientFailure::TimedOut);
        // Asked and not answered well: whatever the reason, it may be the chunk.
        if self.chunks == Chunks::Asked || is_out_of_step {
            self.chunks = Chunks::Distrusted;
        }
        let lost = |flight: Flight| {
            let ending = flight.lost();
            flight.into_outcome(&ending)
        };
        self.state = State::Failing(failure, open.flights.into_iter().map(lost).collect());
        ClientEvent::TransactionDone(flight.into_outcome(ending))
    }

    pub(super) fn failed(&mut self, failure: ClientFailure) -> ClientEvent {
        self.deadline = None;
        self.state = State::Failed(failure.clone());
        ClientEvent::Failed(failure)
    }

    /// What is left to tell of a session that failed.
    pub(super) fn next_of_failure(&mut self) -> ClientEvent {
        match self.take_state() {
            State::Failing(failure, mut outcomes) => match outcomes.pop_front() {
                Some(outcome) => self.told(failure, outcomes, outcome),
                None => self.failed(failure),
            },
            other => {
                self.state = other;
                ClientEvent::Idle
            }
        }
    }

    fn told(
        &mut self,
        failure: ClientFailure,
        outcomes: VecDeque<TransactionOutcome>,
        outcome: TransactionOutcome,
    ) -> ClientEvent {
        self.state = State::Failing(failure, outcomes);
        ClientEvent::TransactionDone(outcome)
    }

    /// The session ends from outside its protocol; what is in flight ends first.
    pub(super) fn end_session(&mut self, failure: ClientFailure) -> ClientEvent {
        match self.take_state() {
            State::Open(mut open) => match open.flights.pop_front() {
                Some(flight) => {
                    let ending = flight.lost();
                    self.fail_over(open, flight, &ending, failure)
                }
                None => self.failed(failure),
            },
            failing @ State::Failing(..) => {
                self.state = failing;
                self.next_of_failure()
            }
            State::Greeting
            | State::Hello
            | State::PlainHello
            | State::StartTls
            | State::Securing
            | State::Carrying(_) => self.failed(failure),
            State::Quitting | State::Failed(_) | State::Closed => {
                self.deadline = None;
                ClientEvent::Closed
            }
        }
    }

    /// An acceptance has begun before the end of data was sent.
    pub(super) fn is_begun_too_early(&self) -> bool {
        let State::Open(open) = &self.state else { return false };
        let is_in_data = open.flights.front().is_some_and(Flight::is_in_data);
        is_in_data && self.parser.begun_code().is_some_and(|code| code < 400)
    }
}
