//! One connection to a primary, with as many messages in flight as its window has room for.
//!
//! The lane pushes jobs and never waits for that; [`Delivery::advance`] moves octets until the oldest job has its outcome.
//! Jobs come back in the order in which they were pushed, each once, also when the session breaks.
//!
//! How a message leaves:
//! - Alone, in a window of one: MAIL, RCPT, DATA; the 354; then the data.
//! - By DATA with another behind it: the next envelope rides behind the dot, in the same write. A round trip a message.
//! - By BDAT, where the host has swallowed a refused chunk on this connection (H45): the whole transaction in one write, as
//!   many of them as the window has room for. Large messages, whose data lies in chunk records, go by DATA between them, a
//!   chunk record at a time, so no more than [`REPLAY_OCTETS`] and four records are in memory.
//!
//! A message to more recipients than the primary takes in a transaction (RFC 9422) leaves in several, one after the other: each is an
//! outcome in which the rest was not tried, and until the rest is offered nothing rides behind it (P3).
//!
//! A window's blame (H44): when the session breaks only the first message without an outcome may have broken it, and it is
//! blamed only if it was alone all the time; else it is a suspect, to be tried alone. Before its data it is only asked whether the session ended
//! for its sake, and only if nothing was taken in it: others tell (`backlog::queue::breaking`).

mod body;
mod carrying;
mod job;
mod naming;
mod opening;
mod patience;
mod probing;
mod wire;

use super::addressee::{Part, extensions, goes_without_smtputf8, merged, parts};
use super::greylisting::greylisted;
use super::profile::{Profile, Shown};
use crate::bridge::Fingerprint;
use crate::config::Protocol;
use crate::limits::{QUIT_TIMEOUT, REPLAY_OCTETS};
use crate::message::tls::TlsFacts;
use crate::shard::link::Link;
use crate::smtp::Moment;
use crate::smtp::client::{
    ClientEvent, ClientFailure, ClientSession, Envelope, Extensions, RecipientOutcome, TransactionOutcome,
    Window,
};
use crate::smtp::dsn::RcptDsn;
use body::Body;
pub(super) use carrying::{Naming, NoReply};
use core::net::SocketAddr;
pub(super) use job::{Job, Unusable};
pub(super) use opening::{OpenError, Security, Use};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::reader::Reader;
use wire::{News, Wire};

/// See the module.
pub(super) struct Delivery<L, C, D: Disk> {
    wire: Wire<L>,
    session: ClientSession,
    clock: C,
    host: SocketAddr,
    protocol: Protocol,
    /// Until when greeting, EHLO and TLS must be done; or a probe.
    opening: Option<Moment>,
    /// Until when data of what was pushed has to be on its way.
    patience: Option<Moment>,
    /// How it was to be secured.
    security: Security,
    /// How it is.
    tls: Option<TlsFacts>,
    /// Who the host is, as far as it showed before anybody was named: behind XCLIENT it offers what that client may have.
    shown: Fingerprint,
    window: Window,
    /// The host may be asked whether it swallows chunks.
    may_have_chunks: bool,
    /// In the order in which they were pushed.
    jobs: VecDeque<Underway<D>>,
    /// Of the first job the chunk record that goes next, while its data goes.
    next_chunk: Option<usize>,
    /// A job was told that the session broke.
    is_broken: bool,
    /// Something was taken in it.
    had_taken: bool,
}

struct Underway<D: Disk> {
    job: Job<D>,
    progress: Progress,
    /// When it was pushed.
    pushed: Moment,
}

enum Progress {
    /// The session has not heard of it.
    Pushed,
    /// Its client is being named.
    Naming,
    /// Who of its units is offered; whether no other was in flight with it, and whether data of it may have left.
    Begun { parts: Vec<Part>, alone: bool, data: bool },
    /// It needs no transaction.
    Decided(TransactionOutcome),
}

impl<D: Disk> Underway<D> {
    /// No transaction of it has begun.
    fn waits(&self) -> bool {
        matches!(self.progress, Progress::Pushed | Progress::Naming)
    }

    /// Some of its recipients are not offered yet (RFC 9422): nothing may go in front of them (P3).
    fn is_part(&self) -> bool {
        matches!(&self.progress, Progress::Begun { parts, .. } if parts.contains(&Part::Later))
    }
}

/// Whose fault it is that the session broke, if it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It did not.
    None,
    /// Not this message's.
    Another,
    /// Perhaps this one's: it was not alone.
    Suspect,
    /// It broke in the turn of this one, before its data, and had taken nothing: this one's, or the primary is down.
    Early,
    /// It had data of this one and of no other, or broke over its client's name.
    Own,
}

/// A job that is over.
pub(super) struct Done<D: Disk> {
    pub(super) job: Job<D>,
    /// An error: a part of the record cannot be read; the connection was given up before the end of data.
    pub(super) result: Result<TransactionOutcome, ReadError>,
    pub(super) fault: Fault,
    /// When it was handed to this connection.
    pub(super) pushed: Moment,
}

/// What [`Delivery::step`] came to.
enum Step {
    Event(ClientEvent),
    Again,
    /// Everything is written, and there is more data.
    WantsData,
}

/// The end of mail data (RFC 5321 4.1.1.4); stored data ends with a line end.
const TERMINATOR: &[u8] = b".\r\n";

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// How another connection like this one is opened.
    pub(super) fn another(&self) -> Use {
        let (host, protocol, window) = (self.host, self.protocol, Window::default());
        Use { host, protocol, window, may_have_chunks: self.may_have_chunks, security: self.security.clone() }
    }

    /// Who the peer is.
    pub(super) fn profile(&self) -> Profile {
        let ServerName::DnsName(name) = &self.security.name else {
            return Profile::of(Shown { host: None, greeting: self.session.greeting() });
        };
        Profile::of(Shown { host: Some(name.as_ref()), greeting: self.session.greeting() })
    }

    /// Where it leads to.
    pub(super) const fn host(&self) -> SocketAddr {
        self.host
    }

    /// Whether it takes what a sender wants to be told, and will tell him (RFC 3461 5.2.1).
    pub(in crate::shard) fn passes_dsn(&self) -> bool {
        self.session.capabilities().dsn
    }

    /// Whether the peer calls itself `hostname` in its greeting (RFC 5321 4.2).
    pub(super) fn greets_as(&self, hostname: &str) -> bool {
        let name = self.session.greeting().split_ascii_whitespace().next();
        name.is_some_and(|name| name.eq_ignore_ascii_case(hostname))
    }

    /// Whether another message can be sent.
    pub(super) fn is_alive(&self) -> bool {
        self.session.failure().is_none() && !self.wire.is_deaf() && !self.is_broken
    }

    /// The primary takes no further message in this session (RFC 9422): the next one is made at once.
    pub(super) fn is_used_up(&self) -> bool {
        self.session.is_used_up()
    }

    /// Why not.
    pub(super) fn failure(&self) -> Option<&ClientFailure> {
        self.session.failure()
    }

    /// Whether the host showed that it is better sent no chunks.
    pub(super) fn distrusts_chunks(&self) -> bool {
        self.session.distrusts_chunks()
    }

    /// Messages without an outcome.
    pub(super) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Whether one more can be pushed: the window has room, and what was pushed before is on its way.
    pub(super) fn has_room(&self) -> bool {
        let has_begun = self.jobs.back().is_none_or(|last| !last.waits() && !last.is_part());
        self.is_alive()
            && has_begun
            && self.jobs.len() < self.window.size()
            && self.wire.unsent() < REPLAY_OCTETS
    }

    /// The window may grow: what it was held for has passed.
    pub(super) fn end_caution(&mut self) {
        self.window.end_caution();
    }

    /// Takes a message over, to be sent behind those before it as soon as that can be.
    pub(super) fn push(&mut self, job: Job<D>) {
        self.jobs.push_back(Underway { job, progress: Progress::Pushed, pushed: self.clock.now() });
        self.begin_more();
    }

    /// Goes on until the oldest message has an outcome; `None`: the newest waited for its client's name and has begun, so that
    /// there may be room behind it.
    ///
    /// # Panics
    /// With nothing in flight.
    pub(super) async fn advance(&mut self, reader: &Reader<D>) -> Option<Done<D>> {
        let waited = self.jobs.back().is_some_and(Underway::waits);
        loop {
            // Also what could not begin behind one that is over now.
            self.begin_more();
            if waited && self.has_room() {
                return None;
            }
            let first = self.jobs.front().expect("something is in flight");
            let can_go = self.is_alive() && self.takes(&first.job);
            if matches!(first.progress, Progress::Decided(_)) || (first.waits() && !can_go) {
                return Some(self.pop(None));
            }
            match self.step().await {
                Step::Event(ClientEvent::TransactionDone(outcome)) => return Some(self.pop(Some(outcome))),
                Step::Event(ClientEvent::SendData) => self.start_data(),
                // In its place: those behind it may be for the same recipients (P3).
                Step::Event(ClientEvent::Dropped) => self.jobs[0].progress = Progress::Pushed,
                Step::Event(ClientEvent::NamingRefused(reply)) => self.note_refusal(&reply),
                Step::Event(ClientEvent::ClientRefused(reply)) => return Some(self.refused(reply)),
                Step::Event(ClientEvent::Idle | ClientEvent::Ready) | Step::Again => {}
                // It broke over this name: nothing else was in flight.
                Step::Event(_) if !self.is_broken && self.is_naming() && !self.is_alive() => {
                    return Some(self.pop(None));
                }
                Step::Event(_) => self.is_broken = true,
                Step::WantsData => {
                    if let Err(error) = self.continue_data(reader).await {
                        return Some(self.cut(error));
                    }
                }
            }
        }
    }

    /// QUIT, and a moment for the answer (RFC 5321 4.1.1.10), as far as the session is alive.
    ///
    /// # Panics
    /// With something in flight.
    pub(super) async fn close(mut self) {
        assert!(self.jobs.is_empty(), "what is in flight has an outcome before the end");
        self.session.quit(self.clock.now());
        let deadline = Some(self.clock.now() + QUIT_TIMEOUT);
        self.wire.close(self.session.output(), deadline).await;
    }

    async fn next_event(&mut self) -> ClientEvent {
        loop {
            match self.step().await {
                Step::Event(event) => return event,
                Step::Again => {}
                Step::WantsData => unreachable!("no message is in flight"),
            }
        }
    }

    /// One move: an event of the session, a write, or a read.
    async fn step(&mut self) -> Step {
        let step = self.session.handle_input(self.wire.input(), self.clock.now());
        self.wire.consume(step.consumed);
        if step.event != ClientEvent::Idle {
            return Step::Event(step.event);
        }
        if step.consumed > 0 {
            return Step::Again;
        }
        self.queue_commands();
        let deadline = self.deadline();
        let news = if self.wire.unsent() > 0 {
            self.wire.write(deadline).await
        } else if self.next_chunk.is_some() && !self.wire.is_deaf() {
            return Step::WantsData;
        } else if deadline.is_none() {
            return Step::Event(ClientEvent::Closed);
        } else {
            self.wire.read(deadline).await
        };
        let now = self.clock.now();
        match news {
            News::Written(messages) => {
                self.session.handle_data_progress(now);
                (0..messages).for_each(|_| self.session.handle_data_sent(now));
                Step::Again
            }
            News::Ended => Step::Event(self.session.handle_disconnect()),
            News::Late if self.is_out_of_time(now) => Step::Event(self.session.handle_disconnect()),
            News::Late => Step::Event(self.session.handle_timeout(now)),
            News::Read | News::Nothing => Step::Again,
        }
    }

    fn queue_commands(&mut self) {
        let octets = self.session.output().len();
        self.wire.queue(self.session.output());
        self.session.output_sent(octets);
    }

    /// Begins what was pushed and may begin.
    fn begin_more(&mut self) {
        while self.is_alive() && self.session.may_send() {
            let Some(at) = self.jobs.iter().position(Underway::waits) else { return };
            if !self.is_settled(at) {
                return;
            }
            let mut is_alone = true;
            for before in self.jobs.range_mut(..at) {
                if let Progress::Begun { alone, .. } = &mut before.progress {
                    (*alone, is_alone) = (false, false);
                }
            }
            self.begin(at, is_alone);
        }
    }

    fn begin(&mut self, at: usize, alone: bool) {
        let Underway { job, progress, .. } = &mut self.jobs[at];
        let message = job.message();
        let addressees = job.addressees(&message);
        let offered = self.session.capabilities().smtputf8;
        let can_go = addressees.iter().map(|to| offered || goes_without_smtputf8(&message, to));
        let parts = parts(can_go, self.session.capabilities().recipients_max);
        let going = addressees.iter().zip(&parts).filter(|(_, part)| **part == Part::Now);
        let (recipients, dsn): (Vec<&str>, Vec<RcptDsn<'_>>) =
            going.map(|(to, _)| (to.mailbox, to.dsn)).unzip();
        if recipients.is_empty() {
            *progress = Progress::Decided(merged(parts, None));
            return;
        }
        let envelope = Envelope {
            reverse_path: message.reverse_path,
            recipients: &recipients,
            octets: job.octets(&message),
            has_8bit: message.data.has_8bit,
            extensions: Extensions { client: job.client.as_ref(), ..extensions(&message, &dsn) },
        };
        let now = self.clock.now();
        let has_window = self.window.size() > 1;
        let is_chunk = has_window && self.session.may_send_chunks() && message.chunks.is_empty();
        if is_chunk {
            let body = Body::of(&message, &job.lead, job.cut(message.tail));
            self.session.send_chunk(&envelope, body.octets(), now);
            let commands = self.session.output();
            self.wire.queue(commands);
            self.wire.queue_with(|out| body.write(out));
            self.wire.end_data();
        } else {
            if has_window && self.may_have_chunks {
                self.session.ask_for_chunks();
            }
            self.session.send(&envelope, now);
            self.wire.queue(self.session.output());
        }
        let octets = self.session.output().len();
        self.session.output_sent(octets);
        if is_chunk {
            job.forget();
        }
        *progress = Progress::Begun { parts, alone, data: is_chunk };
    }

    /// 354: the first message's data goes. What lies in chunk records goes one by one as there is room.
    fn start_data(&mut self) {
        let Some(Underway { job, progress: Progress::Begun { data, .. }, .. }) = self.jobs.front_mut() else {
            unreachable!("the session asks for the data of the first that began")
        };
        *data = true;
        let message = job.message();
        self.wire.queue(&job.lead);
        self.wire.queue(message.trace);
        if message.chunks.is_empty() {
            self.end_data();
        } else {
            self.next_chunk = Some(0);
        }
    }

    async fn continue_data(&mut self, reader: &Reader<D>) -> Result<(), ReadError> {
        let (Some(number), Some(first)) = (self.next_chunk, self.jobs.front()) else { return Ok(()) };
        let chunk = first.job.message().chunks.get(number).copied();
        let Some(chunk) = chunk else {
            self.end_data();
            return Ok(());
        };
        let chunk = reader.read_chunk(first.job.place.0, &chunk).await?;
        match number {
            0 => self.wire.queue(&first.job.cut(chunk.payload())),
            _ => self.wire.queue(chunk.payload()),
        }
        self.next_chunk = Some(number + 1);
        Ok(())
    }

    /// What is left of the first message's data, and its end.
    fn end_data(&mut self) {
        self.next_chunk = None;
        let Some(first) = self.jobs.front_mut() else { return };
        let message = first.job.message();
        match message.chunks.is_empty() {
            true => self.wire.queue(&first.job.cut(message.tail)),
            false => self.wire.queue(message.tail),
        }
        self.wire.queue(TERMINATOR);
        self.wire.end_data();
        self.session.handle_data_queued();
        first.job.forget();
    }

    /// The first job is over, by this outcome of its transaction or without one.
    fn pop(&mut self, transaction: Option<TransactionOutcome>) -> Done<D> {
        let Underway { job, progress, pushed } = self.jobs.pop_front().expect("something is in flight");
        self.next_chunk = None;
        let is_alive = self.is_alive();
        let is_first = !core::mem::replace(&mut self.is_broken, !is_alive);
        let (outcome, fault) = match progress {
            Progress::Decided(outcome) => (outcome, Fault::None),
            Progress::Pushed | Progress::Naming => {
                let is_own = matches!(progress, Progress::Naming) && !is_alive && is_first;
                let recipients = vec![RecipientOutcome::NotTried; job.ordinals.len()];
                (TransactionOutcome { recipients }, if is_own { Fault::Own } else { Fault::Another })
            }
            Progress::Begun { parts, alone, data } => {
                let is_begun = is_first && alone && !self.had_taken;
                let fault = match (is_alive, is_first && data, alone) {
                    (true, ..) => Fault::None,
                    (false, false, _) if is_begun => Fault::Early,
                    (false, false, _) => Fault::Another,
                    (false, true, false) => Fault::Suspect,
                    (false, true, true) => Fault::Own,
                };
                (merged(parts, transaction), fault)
            }
        };
        match fault {
            // The data of a greylisted message went for nothing where it left with its envelope.
            Fault::None if outcome.is_put_off() || greylisted(&outcome).is_some() => self.window.collapse(),
            Fault::None => self.window.succeed(),
            Fault::Another | Fault::Early | Fault::Suspect | Fault::Own => {}
        }
        // Of those that were put off one may be in front each time: they say nothing of who comes behind.
        let took = |to: &RecipientOutcome| matches!(to, RecipientOutcome::Delivered(_));
        self.had_taken |= outcome.recipients.iter().any(took);
        Done { job, result: Ok(outcome), fault, pushed }
    }

    /// A part of the first message cannot be read: its data cannot be ended, so the connection is given up.
    fn cut(&mut self, error: ReadError) -> Done<D> {
        self.session.handle_disconnect();
        self.is_broken = true;
        self.next_chunk = None;
        let Underway { job, pushed, .. } = self.jobs.pop_front().expect("something is in flight");
        Done { job, result: Err(error), fault: Fault::Another, pushed }
    }
}
