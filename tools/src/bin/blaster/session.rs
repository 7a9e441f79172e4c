//! The sessions of a worker: what each does when it is woken.
//!
//! ```text
//!   work --take--> pending --send--> in flight --reply--> fate (acknowledged, rejected, given up)
//!                     ^                  |4xx, lost
//!                     `----- again <-----'  after a pause, until the patience is over
//! ```
//! Invariants: a task is in one place of the picture; a session takes work only where `window` leaves room, and begins no connection without
//! work. One that nobody answers in time is lost like any other.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Token;
use stratamx_tools::clock::unix_us;

use crate::dialog::Event;
use crate::free::Room;
use crate::link::{Link, connect, explain, receive, send};
use crate::shared::Shared;
use crate::slot::Slot;
use crate::tally::LATE;
use crate::task::Task;
use crate::worker::Worker;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the answer to QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a message is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A sender who drips writes a part of its rate so often.
const DRIP: Duration = Duration::from_millis(100);
impl Worker<'_> {
    /// Lets the session of a slot do all that it can do now.
    pub(crate) fn drive(&mut self, index: usize) {
        let now = self.shared.clock.now();
        if let Some(mut link) = self.slots[index].link.take() {
            match self.converse(index, &mut link, now) {
                Ok(true) => self.slots[index].link = Some(link),
                Ok(false) => self.lose(index, link, None, now),
                Err(why) => self.lose(index, link, Some(why), now),
            }
        }
        if self.slots[index].link.is_none() {
            self.open(index, now);
        }
        self.settle(index, now);
    }

    /// Takes what the server said, and says what comes next. False when the connection is over in peace.
    fn converse(&mut self, index: usize, link: &mut Link, now: Duration) -> Result<bool, String> {
        if !link.is_connected {
            match link.transport.check() {
                Ok(()) => link.is_connected = true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return self.await_it(link, now),
                Err(error) => return Err(explain(&error)),
            }
        }
        let before = link.input.len();
        let is_open = receive(&mut link.transport, &mut self.scratch, &mut link.input, link.is_ending)
            .map_err(|error| format!("the connection was lost: {error}"))?;
        if link.input.len() > before {
            link.heard = now;
        }
        if link.dialog.is_securing() && link.transport.is_secured() && !link.transport.is_handshaking() {
            self.counts.secured += 1;
            link.dialog.secured();
        }
        let mut taken = 0;
        loop {
            let (consumed, event) = link.dialog.handle_input(&link.input[taken..]);
            taken += consumed;
            match event {
                Event::Idle if consumed == 0 => break,
                Event::Idle | Event::Ready => {}
                Event::Secure => self.secure(link, taken)?,
                Event::Done(done) => self.judge(index, *done),
                Event::Failed(why) => return Err(why),
                Event::Hopeless(why) => {
                    self.end_all(&why);
                    return Err(why);
                }
                Event::Closed => return Ok(false),
            }
        }
        link.input.drain(..taken);
        if !is_open {
            return if link.dialog.is_quitting() {
                Ok(false)
            } else {
                Err("the connection was lost".to_owned())
            };
        }
        self.fill(index, link, now);
        self.write(index, link, now)?;
        self.await_it(link, now)
    }

    /// Ends the run of all workers: it can come to nothing.
    fn end_all(&self, why: &str) {
        if self.shared.hopeless.set(why.to_owned()).is_ok() {
            self.complain(&format!("the run was ended: {why}"));
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Starts the handshake; what came in plain text behind the 220 is not the server's (RFC 3207 6).
    fn secure(&self, link: &mut Link, taken: usize) -> Result<(), String> {
        if link.input.len() > taken {
            return Err("octets in plain text behind the 220 to STARTTLS".to_owned());
        }
        let begin = self.shared.load.secrecy.as_ref().map(crate::secrecy::Secrecy::begin);
        let tls = begin.transpose().map_err(|error| format!("no TLS: {error}"))?;
        link.transport.secure(tls.ok_or_else(|| "no TLS was prepared".to_owned())?);
        link.transport.flush().map_err(|error| format!("no TLS: {error}"))
    }

    /// Gives the session what it may have in flight, and its leave when its time is over.
    fn fill(&mut self, index: usize, link: &mut Link, now: Duration) {
        let load = self.shared.load;
        let most = load.messages_of_a_session();
        while link.begun < most && link.dialog.may_send(load.window) {
            self.revive(index, now);
            if self.slots[index].pending.is_empty() {
                self.take_work(index, link.dialog.in_flight(), now);
            }
            let Some(mut task) = self.slots[index].pending.pop_front() else { break };
            task.mail_at = now;
            if task.mail_unix_us == 0 {
                task.mail_unix_us = unix_us();
            }
            link.begun += 1;
            link.heard = now;
            link.dialog.send(task);
        }
        let slot = &self.slots[index];
        let is_out = slot.is_out_of_work && slot.pending.is_empty() && slot.again.is_empty();
        if link.dialog.is_idle() && (is_out || link.begun >= most) {
            link.heard = now;
            link.dialog.quit();
        }
    }

    fn write(&mut self, index: usize, link: &mut Link, now: Duration) -> Result<(), String> {
        let lost = |error: io::Error| format!("the connection was lost: {error}");
        let slot = &mut self.slots[index];
        if !slot.is_slow {
            let sent = send(&mut link.transport, &mut link.dialog.out, usize::MAX).map_err(lost)?;
            if sent > 0 {
                link.heard = now;
            }
            return Ok(());
        }
        if now >= slot.drips_at && !link.dialog.out.is_empty() {
            let drips_a_second =
                u64::try_from(Duration::from_secs(1).as_millis() / DRIP.as_millis()).unwrap_or(1);
            let octets =
                usize::try_from(self.shared.load.slow_rate.div_ceil(drips_a_second)).unwrap_or(usize::MAX);
            send(&mut link.transport, &mut link.dialog.out, octets).map_err(lost)?;
            (slot.drips_at, link.heard) = (now + DRIP, now);
        }
        if !link.dialog.out.is_empty() {
            self.timers.set(index, slot.drips_at);
        }
        Ok(())
    }

    /// True, unless a reply is overdue.
    fn await_it(&self, link: &Link, now: Duration) -> Result<bool, String> {
        match self.overdue_at(link) {
            Some(deadline) if now >= deadline => Err("no reply in time".to_owned()),
            _ => Ok(true),
        }
    }

    fn overdue_at(&self, link: &Link) -> Option<Duration> {
        let patience = match link.is_connected {
            false => CONNECT_TIMEOUT,
            true if link.dialog.is_idle() => return None,
            true if link.dialog.is_quitting() => QUIT_TIMEOUT,
            true => self.shared.load.reply_timeout,
        };
        Some(link.heard + patience)
    }

    /// The connection is gone; what it carried has a setback, and so has what waited for one that never opened.
    fn lose(&mut self, index: usize, mut link: Link, why: Option<String>, now: Duration) {
        let was_opening = link.dialog.is_opening() || (why.is_some() && link.begun == 0);
        self.slots[index].opens_at = now + RETRY_PAUSE;
        let mut tasks = link.dialog.abandon();
        drop(link);
        if was_opening {
            tasks.extend(self.slots[index].pending.drain(..));
        }
        if let Some(why) = why.as_ref().filter(|_| !tasks.is_empty()) {
            self.note_error(why.clone());
        }
        let why = why.unwrap_or_else(|| "the connection was closed".to_owned());
        for task in tasks {
            self.set_back(index, task, &why, now);
        }
    }

    /// Begins a connection if there is something to send.
    fn open(&mut self, index: usize, now: Duration) {
        // What a slow sender loses is not tried again: the pause between tries is one between its connections.
        if self.slots[index].is_slow && now < self.slots[index].opens_at {
            return;
        }
        self.revive(index, now);
        if self.slots[index].pending.is_empty() {
            self.take_work(index, 0, now);
        }
        if self.slots[index].pending.is_empty() {
            return;
        }
        let load = self.shared.load;
        let slot = usize::try_from(self.slots[index].number - 1).unwrap_or_default();
        let from = (!load.from.is_empty()).then(|| load.from[slot % load.from.len()]);
        self.counts.connections += 1;
        match connect(load.to, from, self.poll.registry(), Token(index)) {
            Ok(transport) => self.slots[index].link = Some(Link::new(transport, load.style, now)),
            Err(error) => {
                let why = explain(&error);
                self.slots[index].opens_at = now + RETRY_PAUSE;
                self.note_error(why.clone());
                let tasks: Vec<Task> = self.slots[index].pending.drain(..).collect();
                for task in tasks {
                    self.set_back(index, task, &why, now);
                }
            }
        }
    }

    /// A message had no final answer: it waits for its next try, or is given up.
    pub(crate) fn set_back(&mut self, index: usize, task: Task, why: &str, now: Duration) {
        self.slice.failed += 1;
        if self.slots[index].is_slow {
            self.counts.slow_failed += 1;
            return;
        }
        if now >= task.deadline {
            self.counts.given_up += 1;
            self.counts.answered_at = now;
            self.shared.done.fetch_add(1, Ordering::Relaxed);
            self.complain(&format!("{}: given up: {why}", task.message.id));
            return;
        }
        self.counts.retries += 1;
        self.slots[index].again.push_back((now + RETRY_PAUSE, task));
    }

    pub(crate) fn is_slow(&self, index: usize) -> bool {
        self.slots[index].is_slow
    }

    pub(crate) fn session(&self, index: usize) -> u64 {
        self.slots[index].number
    }

    /// Tasks whose pause is over may go.
    fn revive(&mut self, index: usize, now: Duration) {
        let slot = &mut self.slots[index];
        while slot.again.front().is_some_and(|(at, _)| *at <= now) {
            slot.pending.extend(slot.again.pop_front().map(|(_, task)| task));
        }
    }

    /// A new task, where the session may have one.
    fn take_work(&mut self, index: usize, in_flight: usize, now: Duration) {
        let slot = &self.slots[index];
        if slot.is_out_of_work || in_flight + slot.again.len() >= self.shared.load.window {
            return;
        }
        let intended = if self.arrivals.is_none() || slot.is_slow {
            self.may_begin(self.slots[index].is_slow, now)
        } else {
            self.queue.pop_front()
        };
        self.slots[index].is_out_of_work = match (intended, &self.arrivals) {
            (Some(_), _) => false,
            (None, None) => true,
            (None, Some(_)) => self.arrives_at.is_none(),
        };
        let Some(intended) = intended else { return };
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        if self.arrivals.is_none() {
            self.counts.offered += u64::from(!self.slots[index].is_slow);
        }
        self.counts.late += u64::from(now > intended + LATE);
        let task = Task {
            message: self.shared.load.plan.message(number),
            intended,
            deadline: now.saturating_add(self.shared.load.patience),
            mail_unix_us: 0,
            mail_at: now,
        };
        self.slots[index].pending.push_back(task);
    }

    /// Whether a message may be begun now that nobody scheduled. Those of slow senders are beside the number that was asked for.
    fn may_begin(&self, is_slow: bool, now: Duration) -> Option<Duration> {
        let Shared { load, arrived, .. } = self.shared;
        let is_over = now >= load.duration
            || (self.arrivals.is_some() && self.arrives_at.is_none())
            || (!is_slow && arrived.fetch_add(1, Ordering::Relaxed) >= load.messages);
        (!is_over).then_some(now)
    }

    /// Sees that the slot is woken when it has to be, and whether it waits for an arrival or is over.
    fn settle(&mut self, index: usize, now: Duration) {
        let slot = &self.slots[index];
        let overdue_at = slot.link.as_ref().and_then(|link| self.overdue_at(link));
        let revives_at = slot.again.front().map(|(at, _)| *at);
        let opens_at = (slot.is_slow && slot.link.is_none() && !slot.is_out_of_work).then_some(slot.opens_at);
        let is_empty = slot.pending.is_empty() && slot.again.is_empty();
        let room = self.room(slot);
        for at in [overdue_at, revives_at, opens_at].into_iter().flatten() {
            self.timers.set(index, at.max(now));
        }
        let slot = &mut self.slots[index];
        if slot.is_out_of_work && is_empty && slot.link.is_none() && !slot.is_over {
            slot.is_over = true;
            self.active -= usize::from(!slot.is_slow);
        }
        self.free.set(index, room);
    }

    /// Whether an arrival could be given to the slot: only where [`Self::take_work`] would take it.
    fn room(&self, slot: &Slot) -> Room {
        let load = self.shared.load;
        if self.arrivals.is_none() || slot.is_slow || slot.is_out_of_work || !slot.pending.is_empty() {
            return Room::Full;
        }
        let in_flight = slot.link.as_ref().map_or(0, |link| link.dialog.in_flight());
        let may_send = slot.link.as_ref().is_none_or(|link| {
            link.dialog.may_send(load.window) && link.begun < load.messages_of_a_session()
        });
        match in_flight + slot.again.len() {
            0 if may_send => Room::Idle,
            tasks if may_send && tasks < load.window => Room::Window,
            _ => Room::Full,
        }
    }
}
