//! What one domain has queued, in memory: pure bookkeeping, no waiting.
//!
//! In order: entries that wait for their first try, merged over all shard directories. Beside them: *suspects*,
//! which were just put off and whose fate hangs on what the primary says to others, and *deferred* ones,
//! which stepped aside and are tried again when their own gap is over, by turns with the others. Settled
//! entries are simply gone, so a million of them behind one stuck message cost nothing (H11).
//!
//! Invariant: an unsettled entry that is not out with the caller is in exactly one of the three.

use super::schedule::deferred_gap;
use crate::limits::{IMPAIRED_RUN, POISON_TRIES};
use crate::smtp::Moment;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storage::format::index_file::IndexEntry;
use storage::merge::Merge;
use storage::position::{Position, ShardId, Stamp};

/// An entry and where it is.
pub(in crate::shard) type Place = (ShardId, IndexEntry);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Queue {
    merge: Merge,
    suspects: Vec<Place>,
    /// Recipients of suspects, as many as it takes to tell an outage.
    distinct: BTreeSet<String>,
    deferred: BTreeMap<(Moment, Stamp), Place>,
    /// Whose turn it is when both an untried and a deferred message could go.
    deferred_turn: bool,
    /// Units that are decided, of messages that have others which are not (H43).
    decided: HashMap<Stamp, Vec<u16>>,
    /// How often a message stepped aside.
    asides: HashMap<Stamp, u32>,
    /// How many sessions broke over a message.
    breaks: HashMap<Stamp, u32>,
    /// Suspects in a row that make the primary impaired; doubles while nothing gets through.
    run: usize,
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
    /// Mail that was just made durable, or was found at start.
    pub(in crate::shard) fn arrive(&mut self, shard: ShardId, entry: IndexEntry, decided: Vec<u16>) {
        if !decided.is_empty() {
            self.decided.insert(entry.stamp, decided);
        }
        self.merge.push(shard, entry);
    }

    /// What there is to do.
    pub(in crate::shard) fn due(&self, now: Moment) -> Due {
        if !self.merge.is_empty() || !self.suspects.is_empty() {
            return Due::Now;
        }
        match self.deferred.keys().next() {
            Some((due, _)) if *due <= now => Due::Now,
            Some((due, _)) => Due::At(*due),
            None => Due::Nothing,
        }
    }

    /// The next entry to try: the earliest below the horizon, or a deferred one that is due, by turns.
    pub(in crate::shard) fn next(&mut self, horizon: Stamp, now: Moment) -> Option<Place> {
        self.deferred_turn = !self.deferred_turn;
        if self.deferred_turn {
            self.next_deferred(now).or_else(|| self.merge.pop_below(horizon))
        } else {
            self.merge.pop_below(horizon).or_else(|| self.next_deferred(now))
        }
    }

    fn next_deferred(&mut self, now: Moment) -> Option<Place> {
        let first = self.deferred.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Whether entries wait that were never tried.
    pub(in crate::shard) fn has_untried(&self) -> bool {
        !self.merge.is_empty()
    }

    /// Entries that wait, untried and deferred.
    pub(in crate::shard) fn len(&self) -> usize {
        self.merge.len() + self.suspects.len() + self.deferred.len()
    }

    /// The domain's cursor: in each shard directory the position before which nothing waits for its first try.
    pub(in crate::shard) fn cursor(&self) -> Vec<Position> {
        self.merge.cursor()
    }

    /// Ordinals of an entry that nobody has decided about.
    pub(in crate::shard) fn open_units(&self, entry: &IndexEntry) -> Vec<u16> {
        let decided = self.decided.get(&entry.stamp).map_or(&[][..], Vec::as_slice);
        (entry.first..entry.first + entry.count).filter(|ordinal| !decided.contains(ordinal)).collect()
    }

    /// A unit is decided; it is never offered again.
    pub(in crate::shard) fn decide(&mut self, entry: &IndexEntry, ordinal: u16) {
        self.decided.entry(entry.stamp).or_default().push(ordinal);
    }

    /// All units of an entry are decided.
    pub(in crate::shard) fn finish(&mut self, entry: &IndexEntry) {
        self.decided.remove(&entry.stamp);
        self.asides.remove(&entry.stamp);
        self.breaks.remove(&entry.stamp);
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
        if self.asides.contains_key(&place.1.stamp) {
            // It was put off before while others got through: no evidence against the primary.
            self.step_aside(place, now, retry_interval);
            return false;
        }
        self.suspects.push(place);
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
        for place in core::mem::take(&mut self.suspects) {
            self.step_aside(place, now, retry_interval);
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
        let breaks = self.breaks.entry(place.1.stamp).or_insert(0);
        *breaks += 1;
        if *breaks >= POISON_TRIES || self.asides.contains_key(&place.1.stamp) {
            self.step_aside(place, now, retry_interval);
            return true;
        }
        self.merge.insert(place.0, place.1);
        false
    }

    /// The session ended before the primary heard of this entry's data: nobody's fault, it is first again.
    pub(in crate::shard) fn put_back(&mut self, place: Place) {
        self.merge.insert(place.0, place.1);
    }

    /// The entry steps aside and blocks nobody.
    pub(in crate::shard) fn step_aside(&mut self, place: Place, now: Moment, retry_interval: Duration) {
        let asides = self.asides.entry(place.1.stamp).or_insert(0);
        *asides += 1;
        let due = now + deferred_gap(*asides, retry_interval);
        self.deferred.insert((due, place.1.stamp), place);
    }

    /// Suspects are in order again, as if never tried.
    pub(in crate::shard) fn restore_suspects(&mut self) {
        self.distinct.clear();
        for (shard, entry) in core::mem::take(&mut self.suspects) {
            self.merge.insert(shard, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::position::{Offset, SegmentId};

    const SHARD: ShardId = ShardId(0);
    const MINUTE: Duration = Duration::from_secs(60);

    fn queue_of(stamps: std::ops::RangeInclusive<u64>) -> Queue {
        let mut queue = Queue::default();
        for stamp in stamps {
            let mut entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 64 * stamp), 64);
            entry.count = 2;
            queue.arrive(SHARD, entry, Vec::new());
        }
        queue
    }

    fn next(queue: &mut Queue, now: Moment) -> Place {
        queue.next(Stamp(u64::MAX), now).expect("something is queued")
    }

    #[test]
    fn one_message_that_is_put_off_steps_aside_when_the_next_gets_through() {
        let mut queue = queue_of(1..=2);
        let first = next(&mut queue, Moment::ZERO);
        assert!(!queue.put_off(first, &["a"], Moment::ZERO, MINUTE));
        let second = next(&mut queue, Moment::ZERO);
        queue.finish(&second.1);
        queue.got_through(Moment::ZERO, 5 * MINUTE);
        assert_eq!(queue.due(Moment::ZERO), Due::At(5 * MINUTE));
        assert_eq!(next(&mut queue, 5 * MINUTE).1.stamp, Stamp(1));
    }

    #[test]
    fn a_primary_that_puts_everybody_off_is_impaired_and_order_stays() {
        let mut queue = queue_of(1..=9);
        for (tried, recipient) in ["a", "b", "c"].iter().enumerate() {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!(queue.put_off(place, &[recipient], Moment::ZERO, MINUTE), tried == 2);
        }
        assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(1), "nothing stepped aside");
    }

    #[test]
    fn full_mailboxes_at_the_head_do_not_stop_the_rest_for_ever() {
        let mut queue = queue_of(1..=9);
        let mut pauses = 0;
        let mut at_head = 0;
        while pauses < 2 {
            let place = next(&mut queue, Moment::ZERO);
            at_head = place.1.stamp.0;
            pauses += usize::from(queue.put_off(place, &[&format!("{at_head}@full")], Moment::ZERO, MINUTE));
        }
        assert_eq!(at_head, 6, "the second run looked twice as far");
        let seventh = {
            for _ in 1..=6 {
                let place = next(&mut queue, Moment::ZERO);
                assert!(!queue.put_off(place, &[&format!("{}@full", place.1.stamp.0)], Moment::ZERO, MINUTE));
            }
            next(&mut queue, Moment::ZERO)
        };
        queue.finish(&seventh.1);
        queue.got_through(Moment::ZERO, MINUTE);
        assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(8));
    }

    #[test]
    fn one_mailbox_that_is_full_does_not_look_like_an_outage() {
        let mut queue = queue_of(1..=9);
        for _ in 1..=9 {
            let place = next(&mut queue, Moment::ZERO);
            assert!(!queue.put_off(place, &["one@full"], Moment::ZERO, MINUTE));
        }
        queue.suspects_step_aside(Moment::ZERO, MINUTE);
        assert_eq!(queue.due(Moment::ZERO), Due::At(MINUTE));
    }

    #[test]
    fn h43_a_decided_unit_is_never_offered_again() {
        let mut queue = queue_of(1..=1);
        let (shard, entry) = next(&mut queue, Moment::ZERO);
        assert_eq!(queue.open_units(&entry), [0, 1]);
        queue.decide(&entry, 0);
        assert!(!queue.bring_back((shard, entry), Moment::ZERO, MINUTE));
        let (_, again) = next(&mut queue, Moment::ZERO);
        assert_eq!(queue.open_units(&again), [1]);
    }

    #[test]
    fn a_message_that_breaks_sessions_steps_aside_at_the_third() {
        let mut queue = queue_of(1..=2);
        for times in 1..=POISON_TRIES {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!(place.1.stamp, Stamp(1), "it stays first while it is tried");
            assert_eq!(queue.bring_back(place, Moment::ZERO, MINUTE), times == POISON_TRIES);
        }
        assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(2), "it blocks nobody");
    }

    #[test]
    fn deferred_mail_goes_by_turns_and_is_no_evidence() {
        let mut queue = queue_of(1..=9);
        for stamp in 1..=3 {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!(place.1.stamp, Stamp(stamp));
            queue.step_aside(place, Moment::ZERO, MINUTE);
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let place = next(&mut queue, MINUTE);
            order.push(place.1.stamp.0);
            if place.1.stamp.0 <= 3 {
                assert!(!queue.put_off(place, &[&format!("{}@full", place.1.stamp.0)], MINUTE, MINUTE));
            }
        }
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3, 4, 5, 6], "untried mail goes on beside three full mailboxes");
    }

    #[test]
    fn a_session_that_ends_before_the_data_is_nobodys_fault() {
        let mut queue = queue_of(1..=2);
        for _ in 0..10 {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!(place.1.stamp, Stamp(1));
            queue.put_back(place);
        }
    }
}
