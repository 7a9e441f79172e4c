//! One thread of the load: an event loop over its sessions.
//!
//! What is read at one wake is dealt with as a whole: the ledger gets its lines by one write, and nobody waits for another thread.
//!
//! Invariants: the worker is over when each session that carries the load has nothing to do and never will; those of senders who drip or break
//! the rules end with it. An arrival that is due is in the queue, dropped, or with a session before the worker waits again; while a
//! session is free none is dropped.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use stratamx_tools::machine::thread_cpu;
use stratamx_tools::timers::Timers;

use crate::arrivals::Arrivals;
use crate::free::{Free, Room};
use crate::misbehaver::Misbehaver;
use crate::shared::{Load, Note, Pace, Shared};
use crate::slot::Slot;
use crate::tally::{Counts, SLICE, Slice};

/// Octets that are read at a time: replies are short.
const READ_OCTETS: usize = 16 * 1024;
/// Events that one wake deals with.
const EVENTS: usize = 1024;

/// See the module.
pub(crate) struct Worker<'a> {
    pub(crate) shared: &'a Shared<'a>,
    number: usize,
    pub(crate) poll: Poll,
    pub(crate) timers: Timers,
    pub(crate) slots: Vec<Slot>,
    misbehavers: Vec<Misbehaver>,
    /// Slots that carry the load and begin later than the run.
    unbegun: Vec<usize>,
    /// Slots that carry the load and are not over.
    pub(crate) active: usize,
    /// Who could take an arrival.
    pub(crate) free: Free,
    pub(crate) arrivals: Option<Arrivals>,
    /// The next arrival; none: there are no more.
    pub(crate) arrives_at: Option<Duration>,
    /// Arrivals that wait for a session.
    pub(crate) queue: VecDeque<Duration>,
    alarm: Option<OwnedFd>,
    pub(crate) counts: Counts,
    pub(crate) slice: Slice,
    pub(crate) ledger_lines: Vec<u8>,
    notes: Sender<Note>,
    pub(crate) scratch: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>, number: usize, notes: Sender<Note>) -> io::Result<Self> {
        let load = shared.load;
        let mine = |count: usize| (number..count).step_by(load.threads);
        let all = load.sessions + load.slow_sessions;
        let slot = |session: usize| {
            let starts_at = starts_at(load.ramp, session, load.sessions, load.pace);
            Slot::new(session as u64 + 1, session >= load.sessions, starts_at)
        };
        let slots: Vec<Slot> = mine(all).map(slot).collect();
        let recipient = load.plan.message(0).recipients.swap_remove(0);
        let faulty = mine(load.malformed_sessions).map(|from| Misbehaver::new(from, recipient.clone()));
        let arrivals = match load.pace {
            Pace::Closed => None,
            Pace::Open { rate, spread, .. } => {
                let part = (number, load.threads);
                Some(Arrivals::new((rate, spread), load.ramp, part, load.plan.seed))
            }
        };
        let mut worker = Self {
            shared,
            number,
            poll: Poll::new()?,
            timers: Timers::default(),
            misbehavers: faulty.collect(),
            unbegun: unbegun(&slots),
            active: slots.iter().filter(|slot| !slot.is_slow).count(),
            slots,
            free: Free::default(),
            arrives_at: None,
            arrivals,
            queue: VecDeque::new(),
            alarm: None,
            counts: Counts::default(),
            slice: Slice::new(0, load.pace.is_open()),
            ledger_lines: Vec::new(),
            notes,
            scratch: vec![0; READ_OCTETS],
        };
        worker.prepare()?;
        Ok(worker)
    }

    /// Runs until there is nothing more to do: what it counted, and how long it was on a processor.
    pub(crate) fn run(mut self) -> io::Result<(Counts, Duration)> {
        let mut events = Events::with_capacity(EVENTS);
        while self.active > 0 && !self.shared.stop.load(Ordering::Relaxed) {
            let now = self.shared.clock.now();
            let next = [self.timers.next().unwrap_or(Duration::MAX), self.slice_end()].into_iter().min();
            let patience = next.unwrap_or_default().saturating_sub(now);
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if (event.is_read_closed() || event.is_error())
                    && let Some(Slot { link: Some(link), .. }) = self.slots.get_mut(event.token().0)
                {
                    link.is_ending = true;
                }
                self.wake(event.token().0);
            }
            let now = self.shared.clock.now();
            while let Some(index) = self.timers.due(now) {
                self.wake(index);
            }
            self.take_arrivals()?;
            self.end_unbegun(now);
            self.shared.ledger.write(&self.ledger_lines)?;
            self.ledger_lines.clear();
            self.hand_over(now);
        }
        self.finish();
        Ok((self.counts, thread_cpu()))
    }

    fn prepare(&mut self) -> io::Result<()> {
        for index in 0..self.slots.len() + self.misbehavers.len() {
            let at = self.slots.get(index).map_or(Duration::ZERO, |slot| slot.starts_at);
            self.timers.set(index, at);
        }
        if let Some(arrivals) = &mut self.arrivals {
            self.arrives_at = next_arrival(arrivals, self.shared.load);
            for index in (0..self.slots.len()).filter(|index| !self.slots[*index].is_slow) {
                self.free.set(index, Room::Idle);
            }
            let alarm =
                timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            self.poll.registry().register(
                &mut SourceFd(&alarm.as_raw_fd()),
                Token(usize::MAX),
                Interest::READABLE,
            )?;
            self.alarm = Some(alarm);
            self.take_arrivals()?;
        }
        Ok(())
    }

    fn wake(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            if self.shared.clock.now() >= slot.starts_at && !slot.is_over {
                self.drive(index);
            } else if !slot.is_over {
                self.timers.set(index, slot.starts_at);
            }
        } else if let Some(misbehaver) = self.misbehavers.get_mut(index - self.slots.len().min(index)) {
            let now = self.shared.clock.now();
            let registry = self.poll.registry();
            let again = misbehaver.drive(self.shared.load, registry, Token(index), now, &mut self.counts);
            self.timers.set(index, again);
        }
    }

    /// Puts arrivals that are due into the queue, and hands them to sessions that wait.
    fn take_arrivals(&mut self) -> io::Result<()> {
        let Some(arrivals) = &mut self.arrivals else { return Ok(()) };
        let load = self.shared.load;
        let bound = if let Pace::Open { queue, .. } = load.pace { queue } else { 0 };
        let bound = part(bound, self.number, load.threads);
        if self.shared.arrived.load(Ordering::Relaxed) >= load.messages {
            self.arrives_at = None;
        }
        while let Some(at) = self.arrives_at.filter(|at| *at <= self.shared.clock.now()) {
            if self.shared.arrived.fetch_add(1, Ordering::Relaxed) >= load.messages {
                self.arrives_at = None;
                break;
            }
            self.counts.offered += 1;
            // Who is free takes one without a place in the queue.
            if self.queue.len() < bound + self.free.len() {
                self.queue.push_back(at);
            } else {
                self.counts.dropped += 1;
                self.shared.done.fetch_add(1, Ordering::Relaxed);
            }
            self.arrives_at = next_arrival(arrivals, load);
        }
        let is_ending = self.arrives_at.is_none();
        while (is_ending || !self.queue.is_empty())
            && let Some(index) = self.free.take()
        {
            self.drive(index);
        }
        let (Some(at), Some(alarm)) = (self.arrives_at, &self.alarm) else { return Ok(()) };
        let patience = at.saturating_sub(self.shared.clock.now()).max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(patience).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(alarm, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }

    /// Ends sessions of the closed loop whose time to begin will come when there is nothing left to send.
    fn end_unbegun(&mut self, now: Duration) {
        let load = self.shared.load;
        let is_out = self.shared.arrived.load(Ordering::Relaxed) >= load.messages || now >= load.duration;
        if !is_out || self.arrivals.is_some() {
            return;
        }
        while let Some(slot) = self.unbegun.pop() {
            let slot = &mut self.slots[slot];
            if slot.starts_at > now && !slot.is_over {
                slot.is_over = true;
                self.active -= 1;
            }
        }
    }

    fn slice_end(&self) -> Duration {
        SLICE.saturating_mul(u32::try_from(self.slice.index + 1).unwrap_or(u32::MAX))
    }

    fn hand_over(&mut self, now: Duration) {
        while now >= self.slice_end() {
            let next = Slice::new(self.slice.index + 1, self.shared.load.pace.is_open());
            let slice = core::mem::replace(&mut self.slice, next);
            // Nobody listens only when the run was ended.
            let _ = self.notes.send(Note::Slice(self.number, Box::new(slice)));
        }
    }

    /// What has no answer is counted, and the last slice handed over.
    fn finish(&mut self) {
        let carrying = self.slots.iter().filter(|slot| !slot.is_slow);
        let left: usize = carrying.map(Slot::tasks).sum();
        self.counts.unfinished += (left + self.queue.len()) as u64;
        let slice = self.slice.clone();
        for note in [Note::Slice(self.number, Box::new(slice)), Note::Over(self.number)] {
            let _ = self.notes.send(note);
        }
    }

    pub(crate) fn complain(&self, line: &str) {
        let _ = self.notes.send(Note::Complaint(line.to_owned()));
    }
}

fn next_arrival(arrivals: &mut Arrivals, load: &Load) -> Option<Duration> {
    Some(arrivals.next()).filter(|at| *at < load.duration)
}

/// What one of several has of a number that they share.
fn part(all: usize, number: usize, threads: usize) -> usize {
    all / threads + usize::from(number < all % threads)
}

fn unbegun(slots: &[Slot]) -> Vec<usize> {
    let begins_later = |index: &usize| !slots[*index].is_slow && !slots[*index].starts_at.is_zero();
    (0..slots.len()).filter(begins_later).collect()
}

/// In a ramp of the closed loop sessions come one after the other; in the open loop the rate does.
fn starts_at(ramp: Duration, session: usize, sessions: usize, pace: Pace) -> Duration {
    if pace.is_open() || session >= sessions {
        return Duration::ZERO;
    }
    let share = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    ramp.saturating_mul(share(session)) / share(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_shared_out_over_the_threads() {
        for (all, threads) in [(0, 3), (2, 3), (10, 3), (10_000, 7)] {
            let parts: Vec<usize> = (0..threads).map(|number| part(all, number, threads)).collect();
            assert_eq!(parts.iter().sum::<usize>(), all);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
        }
    }
}
