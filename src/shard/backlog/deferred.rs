//! Entries that stepped aside, swept in stamp order.
//!
//! One sweep a domain per `retry_interval`, not a timer a message: a sweep goes over all of them in the order of
//! stamps and hands out those whose own gap is over. It need not be finished in one session with the primary.
//!
//! Invariant: no entry is due before `earliest_s`, while no sweep is under way.

use super::schedule::deferred_gap;
use super::sorted::Sorted;
use super::waiting::Waiting;
use crate::smtp::Moment;
use core::time::Duration;
use storage::position::Stamp;

/// See the module. `moment_s` of an entry is when it is due, in seconds of monotonic time.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    entries: Sorted<Waiting>,
    /// No entry that is not ahead of a sweep is due before.
    earliest_s: u32,
    /// The entry that the sweep under way hands out next.
    sweep: Option<Stamp>,
    /// No sweep begins before.
    next_sweep: Moment,
    /// Between the beginnings of two sweeps; what the configuration said last.
    interval: Duration,
}

impl Deferred {
    /// An entry steps aside, once more if it did before.
    pub(super) fn step_aside(&mut self, mut waiting: Waiting, now: Moment, retry_interval: Duration) {
        waiting.count_aside();
        let due = now.saturating_add(deferred_gap(waiting.asides().into(), retry_interval));
        self.interval = retry_interval;
        self.wait_until(waiting, due);
    }

    /// An entry waits until then.
    pub(super) fn wait_until(&mut self, mut waiting: Waiting, due: Moment) {
        // Rounded up: never before its time.
        let due_s = due.as_secs() + u64::from(due.subsec_nanos() > 0);
        waiting.moment_s = u32::try_from(due_s).unwrap_or(u32::MAX);
        self.earliest_s = if self.entries.is_empty() && self.sweep.is_none() {
            waiting.moment_s
        } else {
            self.earliest_s.min(waiting.moment_s)
        };
        self.put(waiting);
    }

    /// An entry that was handed out was not tried: it is next again.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        let stamp = waiting.entry.stamp;
        self.put(waiting);
        self.sweep = Some(self.sweep.map_or(stamp, |next| next.min(stamp)));
    }

    fn put(&mut self, waiting: Waiting) {
        let twice = self.entries.insert(waiting);
        assert!(twice.is_none(), "an entry waits in one place");
    }

    /// When an entry may be due; `None` if there are none. Never later than it is.
    pub(super) fn due(&self) -> Option<Moment> {
        if self.entries.is_empty() {
            return None;
        }
        let earliest = Duration::from_secs(self.earliest_s.into());
        Some(if self.sweep.is_some() { Moment::ZERO } else { earliest.max(self.next_sweep) })
    }

    /// When one of its entries is tried again, unless a sweep is under way that it is in.
    pub(super) fn due_of(&self, waiting: &Waiting) -> Moment {
        Duration::from_secs(waiting.moment_s.into()).max(self.next_sweep)
    }

    /// All are due, and a sweep begins at once: somebody knows that the primary is back. But for those that never stepped aside: they wait
    /// for what the primary may still say (H21).
    pub(super) fn make_due(&mut self) {
        for waiting in self.entries.iter_mut().filter(|waiting| waiting.asides() > 0) {
            waiting.moment_s = 0;
        }
        self.earliest_s = 0;
        self.next_sweep = Moment::ZERO;
    }

    /// The next entry of the sweep; begins one when it is time.
    pub(super) fn next(&mut self, now: Moment) -> Option<Waiting> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let from = self.sweep.take().unwrap_or_else(|| {
            self.next_sweep = now.saturating_add(self.interval);
            self.earliest_s = u32::MAX;
            Stamp::NONE
        });
        let now_s = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let first = self.next_due(from, now_s)?;
        let waiting = self.entries.remove(first);
        self.sweep = self.next_due(first, now_s);
        waiting
    }

    /// The first entry from a stamp on that is due; remembers when those before it are.
    fn next_due(&mut self, from: Stamp, now_s: u32) -> Option<Stamp> {
        for waiting in self.entries.from(from) {
            if waiting.moment_s <= now_s {
                return Some(waiting.entry.stamp);
            }
            self.earliest_s = self.earliest_s.min(waiting.moment_s);
        }
        None
    }

    /// The list.
    pub(super) const fn entries(&self) -> &Sorted<Waiting> {
        &self.entries
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, stamp: Stamp) -> Option<Waiting> {
        self.entries.remove(stamp)
    }

    /// An entry, to change where it lies.
    pub(super) fn get_mut(&mut self, stamp: Stamp) -> Option<&mut Waiting> {
        self.entries.get_mut(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId, ShardId};

    const MINUTE: Duration = Duration::from_secs(60);
    const RETRY: Duration = Duration::from_secs(300);

    fn waiting(stamp: u64) -> Waiting {
        let entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 8 * stamp), 64);
        Waiting::new((ShardId(0), entry))
    }

    fn sweep(deferred: &mut Deferred, now: Moment) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(waiting) = deferred.next(now) {
            order.push(waiting.entry.stamp.0);
            deferred.step_aside(waiting, now, RETRY);
        }
        order
    }

    #[test]
    fn a_sweep_is_in_the_order_of_stamps_whatever_the_order_of_dues() {
        let mut deferred = Deferred::default();
        for (stamp, at_s) in [(5, 0), (9, 1), (1, 2), (7, 3)] {
            deferred.step_aside(waiting(stamp), Duration::from_secs(at_s), RETRY);
        }
        assert_eq!(deferred.due(), Some(RETRY));
        assert_eq!(sweep(&mut deferred, RETRY - Duration::from_millis(1)), [0; 0], "not before");
        assert_eq!(sweep(&mut deferred, RETRY + Duration::from_secs(3)), [1, 5, 7, 9]);
        assert_eq!(deferred.due(), Some(3 * RETRY + Duration::from_secs(3)), "each own gap doubles");
    }

    #[test]
    fn sweeps_are_a_retry_interval_apart() {
        let mut deferred = Deferred::default();
        deferred.step_aside(waiting(1), Duration::ZERO, RETRY);
        deferred.step_aside(waiting(2), MINUTE, RETRY);
        assert_eq!(sweep(&mut deferred, RETRY), [1], "the other one's gap is not over");
        assert_eq!(deferred.due(), Some(2 * RETRY), "no sweep of its own for one message");
        assert_eq!(sweep(&mut deferred, RETRY + MINUTE), [0; 0]);
        assert_eq!(sweep(&mut deferred, 2 * RETRY), [2]);
        assert_eq!(sweep(&mut deferred, 3 * RETRY), [1]);
    }

    #[test]
    fn a_sweep_goes_on_where_it_was_and_repeats_what_was_not_tried() {
        let mut deferred = Deferred::default();
        for stamp in 1..=3 {
            deferred.step_aside(waiting(stamp), Duration::ZERO, RETRY);
        }
        let first = deferred.next(RETRY).expect("due");
        deferred.step_aside(first, RETRY, RETRY);
        let second = deferred.next(RETRY).expect("due");
        assert_eq!(deferred.due(), Some(Moment::ZERO), "the sweep is under way");
        deferred.put_back(second);
        assert_eq!(sweep(&mut deferred, RETRY + MINUTE), [2, 3]);
        assert_eq!(deferred.due(), Some(3 * RETRY));
    }

    #[test]
    fn a_sweep_whose_next_entry_is_taken_away_ends() {
        let mut deferred = Deferred::default();
        for stamp in 1..=2 {
            deferred.step_aside(waiting(stamp), Duration::ZERO, RETRY);
        }
        let first = deferred.next(RETRY).expect("due");
        deferred.step_aside(first, RETRY, RETRY);
        assert!(deferred.remove(Stamp(2)).is_some());
        assert_eq!(deferred.next(RETRY), None);
        assert_eq!(deferred.due(), Some(3 * RETRY));
    }
}
