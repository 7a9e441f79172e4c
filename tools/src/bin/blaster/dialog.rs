//! One session's side of SMTP, without sockets: replies in, events and octets out.
//!
//! It is not the client machine of the server, which is careful where a load generator must not be: this one sends groups and chunks
//! that nobody offered if it is told to, keeps no more of a message than where it is, and costs little. Whatever a server answers, the
//! replies are counted off against the commands that were sent, so a session stays in step or fails.
//!
//! ```text
//!   one by one   MAIL > RCPT > ... > DATA > content      pipelined   MAIL RCPT ... DATA > content
//!   one by one   MAIL > RCPT > ... > BDAT content        pipelined   MAIL RCPT ... BDAT content, the next behind it
//! ```
//! Invariants: a task that was given to [`Dialog::send`] comes back once, by [`Event::Done`] or from [`Dialog::abandon`].
//! A transaction that ended without its content is reset before the next one, and so is each that leaves behind others in flight.

use std::collections::VecDeque;

use stratamx::smtp::reply::{ReceivedReply, ReplyParser};

use crate::flight::{Await, Flight};
use crate::outbox::Outbox;
use crate::task::{Done, Offer, Task};

#[cfg(test)]
mod tests;

/// Name in EHLO.
pub(crate) const HOSTNAME: &str = "blaster.test";

/// Whether something is done that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Toggle {
    /// Always.
    On,
    /// Never.
    Off,
    /// Where it is offered.
    Auto,
}

/// How content travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Content {
    /// BDAT where CHUNKING is offered, else DATA.
    Auto,
    /// DATA.
    Data,
    /// BDAT.
    Bdat,
}

/// Whether sessions are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StartTls {
    /// Never.
    Off,
    /// Where it is offered.
    Opportunistic,
    /// Or the session fails.
    Require,
}

/// How all sessions speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) pipelining: Toggle,
    pub(crate) content: Content,
    pub(crate) starttls: StartTls,
}

/// What the host has to know or do.
#[derive(Debug)]
pub(crate) enum Event {
    Idle,
    /// [`Dialog::may_send`] for the first time.
    Ready,
    /// 220 to STARTTLS: have the handshake, then say [`Dialog::secured`].
    Secure,
    Done(Box<Done>),
    /// The session is of no more use, for this reason.
    Failed(String),
    /// No session with this server will ever be of use, for this reason.
    Hopeless(String),
    /// QUIT was answered.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Hello,
    PlainHello,
    StartTls,
    Securing,
    Open,
    Quitting,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dialog {
    style: Style,
    state: State,
    is_secured: bool,
    offer: Offer,
    parser: ReplyParser,
    flights: VecDeque<Flight>,
    pub(crate) out: Outbox,
}

impl Dialog {
    /// A connection was begun.
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            state: State::Greeting,
            is_secured: false,
            offer: Offer::default(),
            parser: ReplyParser::default(),
            flights: VecDeque::new(),
            out: Outbox::default(),
        }
    }

    /// Takes at most one reply from the head of `input`; how many octets to drop, and what came of it.
    pub(crate) fn handle_input(&mut self, input: &[u8]) -> (usize, Event) {
        match self.parser.parse(input) {
            Ok(parsed) => {
                let event = parsed.reply.map_or(Event::Idle, |reply| self.handle_reply(reply));
                (parsed.consumed, event)
            }
            Err(error) => (input.len(), self.fail(format!("protocol error: {error}"))),
        }
    }

    /// The handshake is done: EHLO again (RFC 3207 4.2).
    pub(crate) fn secured(&mut self) {
        (self.is_secured, self.offer) = (true, Offer::default());
        self.say_hello();
    }

    /// Whether another task may be given to it, while it has so many in flight.
    pub(crate) fn may_send(&self, window: usize) -> bool {
        let in_flight = self.flights.len();
        // Behind content by DATA only its reply tells where the next command begins.
        let fits = in_flight == 0 || (in_flight < window && self.is_group() && self.by_chunk());
        self.state == State::Open && fits
    }

    /// Transactions without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// It was not open for a transaction yet.
    pub(crate) fn is_opening(&self) -> bool {
        !matches!(self.state, State::Open | State::Quitting | State::Over)
    }

    /// The handshake was begun, and [`Self::secured`] is awaited.
    pub(crate) fn is_securing(&self) -> bool {
        self.state == State::Securing
    }

    /// QUIT was said.
    pub(crate) fn is_quitting(&self) -> bool {
        self.state == State::Quitting
    }

    /// Nothing is owed by the server: it may be silent as long as it likes.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Open && self.flights.is_empty()
    }

    /// Begins a transaction. Only while [`Self::may_send`].
    pub(crate) fn send(&mut self, task: Task) {
        let (is_group, by_chunk) = (self.is_group(), self.by_chunk());
        let has_prelude = !self.flights.is_empty();
        let awaits = if has_prelude { Await::Prelude } else { Await::Mail };
        let flight = Flight { task, awaits, is_group, by_chunk, refused: Vec::new(), decided: None };
        if has_prelude {
            self.out.push(b"RSET\r\n");
        }
        let mut lines = Vec::with_capacity(128);
        flight.say_mail(self.offer, &mut lines);
        if is_group {
            (0..flight.task.message.recipients.len()).for_each(|place| flight.say_rcpt(place, &mut lines));
            if !by_chunk {
                lines.extend_from_slice(b"DATA\r\n");
            }
        }
        self.out.push(&lines);
        if is_group && by_chunk {
            flight.say_chunk(&mut self.out);
        }
        self.flights.push_back(flight);
    }

    /// Takes leave. Only with nothing in flight.
    pub(crate) fn quit(&mut self) {
        self.out.push(b"QUIT\r\n");
        self.state = State::Quitting;
    }

    /// The link is lost: the tasks that have no answer.
    pub(crate) fn abandon(&mut self) -> Vec<Task> {
        self.state = State::Over;
        self.out.clear();
        self.flights.drain(..).map(|flight| flight.task).collect()
    }

    fn is_group(&self) -> bool {
        match self.style.pipelining {
            Toggle::On => true,
            Toggle::Off => false,
            Toggle::Auto => self.offer.pipelining,
        }
    }

    fn by_chunk(&self) -> bool {
        match self.style.content {
            Content::Auto => self.offer.chunking,
            Content::Bdat => true,
            Content::Data => false,
        }
    }

    fn say_hello(&mut self) {
        self.out.push(format!("EHLO {HOSTNAME}\r\n").as_bytes());
        self.state = State::Hello;
    }

    fn fail(&mut self, why: String) -> Event {
        self.state = State::Over;
        Event::Failed(why)
    }

    fn handle_reply(&mut self, reply: ReceivedReply) -> Event {
        match self.state {
            State::Greeting if reply.is_positive() => {
                self.say_hello();
                Event::Idle
            }
            State::Greeting => self.fail(format!("greeting refused: {reply}")),
            State::Hello if reply.is_positive() => {
                self.offer = Offer::of(&reply);
                self.open()
            }
            State::Hello if reply.is_permanent() => {
                self.out.push(format!("HELO {HOSTNAME}\r\n").as_bytes());
                self.state = State::PlainHello;
                Event::Idle
            }
            State::PlainHello if reply.is_positive() => self.open(),
            State::Hello | State::PlainHello => self.fail(format!("EHLO refused: {reply}")),
            State::StartTls if reply.is_positive() => {
                self.state = State::Securing;
                Event::Secure
            }
            State::StartTls if self.style.starttls == StartTls::Require && reply.is_permanent() => {
                self.state = State::Over;
                Event::Hopeless(format!("STARTTLS refused: {reply}"))
            }
            State::StartTls if self.style.starttls == StartTls::Require => {
                self.fail(format!("STARTTLS refused: {reply}"))
            }
            State::StartTls => {
                self.state = State::Open;
                Event::Ready
            }
            State::Open if !self.flights.is_empty() => self.handle_answer(reply),
            State::Quitting => {
                self.state = State::Over;
                Event::Closed
            }
            State::Open | State::Securing | State::Over => self.fail(format!("out of turn: {reply}")),
        }
    }

    fn open(&mut self) -> Event {
        let wanted = self.style.starttls != StartTls::Off && !self.is_secured;
        if wanted && self.offer.starttls {
            self.out.push(b"STARTTLS\r\n");
            self.state = State::StartTls;
            return Event::Idle;
        }
        if wanted && self.style.starttls == StartTls::Require {
            self.state = State::Over;
            return Event::Hopeless("STARTTLS is not offered, and required".to_owned());
        }
        self.state = State::Open;
        Event::Ready
    }

    /// The first flight takes its reply; what it says next leaves at once.
    fn handle_answer(&mut self, reply: ReceivedReply) -> Event {
        // RFC 5321 3.8: the server is going whatever was asked.
        if reply.code == 421 {
            return self.fail(format!("the server is closing: {reply}"));
        }
        // What leaves behind others has its own RSET in front.
        let is_alone = self.flights.len() == 1;
        let Some(flight) = self.flights.front_mut() else { return Event::Idle };
        if flight.take(reply, is_alone, &mut self.out) {
            return Event::Idle;
        }
        self.flights.pop_front().map_or(Event::Idle, |flight| {
            let Flight { task, refused, decided, .. } = flight;
            Event::Done(Box::new(Done { task, refused, decided }))
        })
    }
}
