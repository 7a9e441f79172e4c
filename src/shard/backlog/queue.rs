//! What one domain has queued, in memory: pure bookkeeping, no waiting.
//!
//! In order: entries that wait for their first try, merged over all shard directories. Beside them: *suspects*,
//! which were just put off and whose fate hangs on what the primary says to others, *deferred* ones,
//! which stepped aside and are swept again when their own gap is over, by turns with the others, and *held* units,
//! which wait for the operator. Settled entries are simply gone, so a million of them behind one stuck message
//! cost nothing (H11).
//!
//! Invariant: an entry with a unit that nobody has decided about is in exactly one of untried, suspects, deferred
//! and out with the caller. A queued message costs 64 octets at most in each of them (DESIGN.md 3).

mod annotation;
mod breaking;
mod expiry;
mod memory;
mod notice;
mod offering;
mod operator;
#[cfg(test)]
mod tests;
mod turns;

use super::deferred::Deferred;
use super::sorted::Sorted;
use super::untried::Untried;
use super::waiting::{Place, UnitSets, Waiting};
use crate::limits::{IMPAIRED_RUN, POISON_TRIES};
use crate::smtp::Moment;
use breaking::Breaks;
pub(in crate::shard) use breaking::Broken;
use core::cell::Cell;
use core::time::Duration;
pub(in crate::shard) use expiry::{Ended, Walk};
pub(in crate::shard) use operator::{Changed, Seen, Stretch};
use std::collections::{BTreeSet, VecDeque};
use storage::format::checkpoint::HeldUnit;
use storage::format::index_file::IndexEntry;
use storage::position::{Position, ShardId, Stamp};
pub(in crate::shard) use turns::Pass;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Queue {
    untried: Untried,
    suspects: Sorted<Waiting>,
    /// Recipients of suspects, as many as it takes to tell an outage.
    distinct: BTreeSet<String>,
    deferred: Deferred,
    /// Whose turn it is when both an untried and a deferred message could go.
    deferred_turn: bool,
    /// With the caller.
    out: Vec<Waiting>,
    /// Units that are decided, of messages that have others which are not (H43).
    decided: UnitSets,
    /// How many sessions broke over a message that never stepped aside.
    breaks: Vec<(Stamp, Breaks)>,
    /// Of messages that are offered in several transactions.
    passes: Vec<(Stamp, Pass)>,
    /// Suspects in a row that make the primary impaired; doubles while nothing gets through.
    run: usize,
    /// Entries with held units; `moment_s` is since when, in seconds since 1970.
    held: Sorted<Waiting>,
    held_units: UnitSets,
    /// How many there are.
    held_count: u64,
    /// The least `moment_s` of them; none: it is to be looked for.
    held_first_s: Cell<Option<u32>>,
    /// Entries that were moved while they were in no list: somebody decides about them, or they have ended.
    strays: VecDeque<Place>,
}

/// What there is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Due {
    /// Something can be tried at once.
    Now,
    /// The earliest deferred message is due then.
    At(Moment),
    /// Nothing is queued.
    Nothing,
}

impl Queue {
    /// Mail that was just made durable, or was found at start, with the units of it that are decided.
    pub(in crate::shard) fn arrive(&mut self, shard: ShardId, entry: IndexEntry, decided: &[u16]) {
        let mut waiting = Waiting::new((shard, entry));
        for ordinal in decided {
            self.decided.mark(&mut waiting, *ordinal);
        }
        self.untried.insert(waiting);
    }

    /// Mail that was just made durable, and that the primary may have: it waits aside until then.
    pub(in crate::shard) fn arrive_aside(&mut self, shard: ShardId, entry: IndexEntry, until: Moment) {
        self.deferred.wait_until(Waiting::new((shard, entry)), until);
    }

    /// A message that waits aside is in order again.
    pub(in crate::shard) fn try_again(&mut self, stamp: Stamp) {
        if let Some(waiting) = self.deferred.remove(stamp) {
            self.untried.insert(waiting);
        }
    }

    /// Whether anything waits in order, or is out.
    pub(in crate::shard) fn has_in_order(&self) -> bool {
        self.untried.len() > 0 || !self.suspects.is_empty() || !self.out.is_empty()
    }

    /// Units wait for the operator, since `since_s` (seconds since 1970).
    pub(in crate::shard) fn hold(&mut self, place: Place, ordinals: &[u16], since_s: u32) {
        if ordinals.is_empty() {
            return;
        }
        // A rewrite may have moved it since its place was told.
        let stray = self.strays.iter().rposition(|stray| same_message(*stray, place));
        let stray = stray.and_then(|stray| self.strays.remove(stray));
        let out = self.place(place.1.stamp).or(stray);
        let said = self.authentication(place.1.stamp);
        let known = self.held.remove(place.1.stamp);
        if known.is_some() {
            self.held_first_s.set(None);
        }
        let mut held = known.unwrap_or_else(|| Waiting::new(out.unwrap_or(place)));
        held.authentication = said;
        // Units of one message that were held one after the other go together, none before its time.
        held.moment_s = held.moment_s.max(since_s);
        for ordinal in ordinals {
            self.held_count += u64::from(!self.held_units.has(&held, *ordinal));
            self.held_units.mark(&mut held, *ordinal);
        }
        let first_s = if self.held.is_empty() { Some(held.moment_s) } else { self.held_first_s.get() };
        self.held_first_s.set(first_s.map(|first_s| first_s.min(held.moment_s)));
        self.held.insert(held);
    }

    /// Units that are held. Which reply decided that stands in the journal only.
    pub(in crate::shard) fn held(&self) -> Vec<HeldUnit> {
        let mut all = Vec::new();
        for held in self.held.iter() {
            let unit = |ordinal: &u16| HeldUnit {
                stamp: held.entry.stamp,
                ordinal: *ordinal,
                code: 0,
                since_s: held.moment_s,
            };
            all.extend(self.held_units.ordinals(held, true).iter().map(unit));
        }
        all
    }

    /// Whether any unit of a message is without a final outcome.
    pub(in crate::shard) fn knows(&self, stamp: Stamp) -> bool {
        self.held.get(stamp).is_some() || self.waits(stamp)
    }

    /// Whether any unit of a message is to be handed over, or just is.
    pub(in crate::shard) fn waits(&self, stamp: Stamp) -> bool {
        self.out.iter().any(|out| out.entry.stamp == stamp)
            || self.untried.get(stamp).is_some()
            || self.suspects.get(stamp).is_some()
            || self.deferred.entries().get(stamp).is_some()
    }

    /// What there is to do, if nothing above `limit` may go.
    pub(in crate::shard) fn due(&self, now: Moment, limit: Stamp) -> Due {
        if self.has_untried(limit) || !self.suspects.is_empty() {
            return Due::Now;
        }
        match self.deferred.due() {
            Some(due) if due <= now => Due::Now,
            Some(due) => Due::At(due),
            None => Due::Nothing,
        }
    }

    /// The next entry to try: the earliest below the horizon, or a deferred one that is due, by turns. It is out
    /// with the caller until it is finished, put off or back, or steps aside.
    pub(in crate::shard) fn next(&mut self, horizon: Stamp, now: Moment) -> Option<Place> {
        self.deferred_turn = !self.deferred_turn;
        let waiting = if self.deferred_turn {
            self.deferred.next(now).or_else(|| self.untried.pop_below(horizon))
        } else {
            self.untried.pop_below(horizon).or_else(|| self.deferred.next(now))
        };
        let waiting = waiting?;
        self.out.push(waiting);
        Some(waiting.place())
    }

    /// The first entry in order that waits for its first try, or for another one in its place.
    pub(in crate::shard) fn first_untried(&self) -> Option<Stamp> {
        self.untried.first()
    }

    /// Where an entry that is out lies now, and whether it has left the order: it stepped aside before, and not for greylisting, which
    /// puts off all that is new and would leave no order to a backlog.
    pub(in crate::shard) fn out(&self, stamp: Stamp) -> (Place, bool) {
        let out = self.out.iter().find(|out| out.entry.stamp == stamp).expect(OUT);
        (out.place(), out.asides() > 0 && !out.is_greylisted())
    }

    /// Whether entries up to `limit` wait that were never tried.
    pub(in crate::shard) fn has_untried(&self, limit: Stamp) -> bool {
        self.untried.first().is_some_and(|stamp| stamp <= limit)
    }

    /// Entries that wait, untried and deferred.
    pub(in crate::shard) fn len(&self) -> usize {
        self.untried.len() + self.suspects.len() + self.deferred.entries().len()
    }

    /// Deferred entries are due at once, in one sweep. Gives how many entries are without an outcome and not held,
    /// those that are out among them.
    pub(in crate::shard) fn flush(&mut self) -> usize {
        self.deferred.make_due();
        self.len() + self.out.len()
    }

    /// The domain's cursor: in each shard directory the position before which nothing waits for its first try.
    pub(in crate::shard) fn cursor(&self) -> Vec<Position> {
        self.untried.cursor()
    }

    /// Ordinals of an entry that is out about which nobody has decided.
    pub(in crate::shard) fn open_units(&self, entry: &IndexEntry) -> Vec<u16> {
        let out = self.out.iter().find(|out| out.entry.stamp == entry.stamp).expect(OUT);
        self.decided.ordinals(out, false)
    }

    /// A unit of an entry that is out is decided; it is never offered again.
    pub(in crate::shard) fn decide(&mut self, entry: &IndexEntry, ordinal: u16) {
        let out = self.out.iter_mut().find(|out| out.entry.stamp == entry.stamp).expect(OUT);
        self.decided.mark(out, ordinal);
    }

    /// All units of an entry that is out are decided. Returns whether none of them is held.
    pub(in crate::shard) fn finish(&mut self, entry: &IndexEntry) -> bool {
        self.take_out(entry.stamp);
        self.forget(entry.stamp);
        self.held.get(entry.stamp).is_none()
    }

    /// The primary took something: those that it put off before, it put off for their own sake.
    pub(in crate::shard) fn got_through(&mut self, now: Moment, retry_interval: Duration) {
        self.run = 0;
        self.suspects_step_aside(now, retry_interval);
    }

    /// The primary put an entry off. Returns `true` when it puts everything off: then nothing steps aside, all
    /// is in order again, and the lane pauses.
    pub(in crate::shard) fn put_off(
        &mut self,
        place: Place,
        recipients: &[&str],
        now: Moment,
        retry_interval: Duration,
    ) -> bool {
        let waiting = self.take_out(place.1.stamp);
        if waiting.asides() > 0 {
            // It was put off before while others got through: no evidence against the primary.
            self.deferred.step_aside(waiting, now, retry_interval);
            return false;
        }
        self.suspects.insert(waiting);
        for recipient in recipients {
            if self.distinct.len() < IMPAIRED_RUN {
                self.distinct.insert((*recipient).to_owned());
            }
        }
        // Three full mailboxes at the head must not stop the rest for ever: each pause looks further.
        let run = self.run.max(IMPAIRED_RUN);
        if self.suspects.len() < run || self.distinct.len() < IMPAIRED_RUN {
            return false;
        }
        self.run = run * 2;
        self.restore_suspects();
        true
    }

    /// The queue is at its end: suspects step aside, since nothing speaks for them.
    pub(in crate::shard) fn suspects_step_aside(&mut self, now: Moment, retry_interval: Duration) {
        self.distinct.clear();
        while let Some(waiting) = self.suspects.pop_first() {
            self.forget_breaks(waiting.entry.stamp);
            self.deferred.step_aside(waiting, now, retry_interval);
        }
    }

    /// The session broke over this entry: it is first again, until it has broken too many. Returns whether it
    /// stepped aside.
    pub(in crate::shard) fn bring_back(
        &mut self,
        place: Place,
        now: Moment,
        retry_interval: Duration,
    ) -> bool {
        let waiting = self.take_out(place.1.stamp);
        let stamp = waiting.entry.stamp;
        let breaks = self.count_break(stamp, |breaks| &mut breaks.own);
        if breaks >= POISON_TRIES || waiting.asides() > 0 {
            self.forget_breaks(stamp);
            self.deferred.step_aside(waiting, now, retry_interval);
            return true;
        }
        self.untried.insert(waiting);
        false
    }

    /// The session ended before the primary heard of this entry's data: nobody's fault, it is first again.
    pub(in crate::shard) fn put_back(&mut self, place: Place) {
        let waiting = self.take_out(place.1.stamp);
        if waiting.asides() > 0 {
            self.deferred.put_back(waiting);
            // The next session begins with it: whether such sessions end for its sake is only told of the first.
            self.deferred_turn = false;
        } else {
            self.untried.insert(waiting);
        }
    }

    /// The entry steps aside and blocks nobody.
    pub(in crate::shard) fn step_aside(&mut self, place: Place, now: Moment, retry_interval: Duration) {
        let waiting = self.take_out(place.1.stamp);
        self.forget_breaks(waiting.entry.stamp);
        self.deferred.step_aside(waiting, now, retry_interval);
    }

    /// The entry steps aside for greylisting, which expects it again after `stated`: that is no evidence of anything.
    pub(in crate::shard) fn greylist(
        &mut self,
        place: Place,
        stated: Option<Duration>,
        now: Moment,
        retry_interval: Duration,
    ) {
        let waiting = self.take_out(place.1.stamp);
        self.forget_breaks(waiting.entry.stamp);
        self.deferred.greylist(waiting, stated, now, retry_interval);
    }

    /// Whether an entry waits that was greylisted, and did not step aside before that.
    pub(in crate::shard) fn has_newly_greylisted(&self) -> bool {
        self.deferred.has_newly_greylisted()
    }

    /// Suspects are in order again, as if never tried.
    pub(in crate::shard) fn restore_suspects(&mut self) {
        self.distinct.clear();
        while let Some(waiting) = self.suspects.pop_first() {
            self.untried.insert(waiting);
        }
    }

    /// A record lies elsewhere now: its segment, offset and unit base are others, perhaps its directory. Returns
    /// whether the queue knows it. A caller that has the entry out goes on with the old place for this once,
    /// so facts on their way may still name it.
    pub(in crate::shard) fn relocate(&mut self, directory: ShardId, entry: IndexEntry) -> bool {
        let (stamp, place) = (entry.stamp, (directory, entry));
        let mut known = false;
        let lists = [self.held.get_mut(stamp), self.suspects.get_mut(stamp), self.deferred.get_mut(stamp)];
        let out = self.out.iter_mut().find(|out| out.entry.stamp == stamp);
        for waiting in lists.into_iter().chain([out]).flatten() {
            if waiting.entry.first == entry.first {
                waiting.relocate(place);
                known = true;
            }
        }
        if self.untried.get(stamp).is_some_and(|waiting| waiting.entry.first == entry.first)
            && let Some(mut waiting) = self.untried.remove(stamp)
        {
            // Taken out and put in: it may be another directory's.
            waiting.relocate(place);
            self.untried.insert(waiting);
            known = true;
        }
        if !known {
            // It has ended; or somebody decides about it, and it may be held yet.
            self.strays.retain(|stray| !same_message(*stray, place));
            if self.strays.len() >= STRAYS_MAX {
                self.strays.pop_front();
            }
            self.strays.push_back(place);
        }
        known
    }

    fn take_out(&mut self, stamp: Stamp) -> Waiting {
        let place = self.out.iter().position(|out| out.entry.stamp == stamp).expect(OUT);
        self.out.swap_remove(place)
    }

    fn forget(&mut self, stamp: Stamp) {
        self.decided.forget(stamp);
        self.forget_breaks(stamp);
    }

    fn forget_breaks(&mut self, stamp: Stamp) {
        self.breaks.retain(|(other, _)| *other != stamp);
        self.end_pass(stamp);
    }
}

/// Entries that were moved while the queue did not know them are remembered, the last ones: more than are decided about at a time.
const STRAYS_MAX: usize = 1_024;

fn same_message(one: Place, other: Place) -> bool {
    (one.1.stamp, one.1.first) == (other.1.stamp, other.1.first)
}

const OUT: &str = "an entry comes back once after it was handed out";
