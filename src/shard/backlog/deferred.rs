//! Entries that stepped aside, swept in stamp order.
//!
//! One sweep a domain per `retry_interval`, not a timer a message: a sweep goes over all of them in the order of
//! stamps and hands out those whose own gap is over. It need not be finished in one session with the primary. A greylisted
//! entry has a time at which it is expected: a sweep for it begins then, however long ago the last one was.
//!
//! Invariant: no entry is due before `earliest_s`, or where it is greylisted `expected_s`, while no sweep is under way.

use super::schedule::{deferred_gap, greylisted_gap};
use super::sorted::Sorted;
use super::waiting::Waiting;
use crate::limits::GREYLISTING_ROUNDING;
use crate::smtp::Moment;
use core::time::Duration;
use storage::position::Stamp;

/// See the module. `moment_s` of an entry is when it is due, in seconds of monotonic time.
#[derive(Debug)]
pub(super) struct Deferred {
    entries: Sorted<Waiting>,
    /// No entry that is not ahead of a sweep and not greylisted is due before.
    earliest_s: u32,
    /// The same of those that are greylisted.
    expected_s: u32,
    /// When the last one that was is expected.
    greylisted_until: Moment,
    /// The entry that the sweep under way hands out next.
    sweep: Option<Stamp>,
    /// No sweep begins before.
    next_sweep: Moment,
    /// Between the beginnings of two sweeps; what the configuration said last.
    interval: Duration,
}

impl Default for Deferred {
    fn default() -> Self {
        let (entries, greylisted_until, sweep, next_sweep, interval) = Default::default();
        Self {
            entries,
            earliest_s: NEVER_S,
            expected_s: NEVER_S,
            greylisted_until,
            sweep,
            next_sweep,
            interval,
        }
    }
}

impl Deferred {
    /// An entry steps aside, once more if it did before.
    pub(super) fn step_aside(&mut self, mut waiting: Waiting, now: Moment, retry_interval: Duration) {
        waiting.count_aside();
        waiting.set_greylisted(false);
        let due = now.saturating_add(deferred_gap(waiting.asides().into(), retry_interval));
        self.interval = retry_interval;
        self.wait_until(waiting, due);
    }

    /// The same of one that is greylisted, and expected again after `stated`.
    pub(super) fn greylist(
        &mut self,
        mut waiting: Waiting,
        stated: Option<Duration>,
        now: Moment,
        retry_interval: Duration,
    ) {
        waiting.count_aside();
        waiting.set_greylisted(true);
        let gap = greylisted_gap(waiting.asides().into(), stated, retry_interval);
        self.interval = retry_interval;
        let own = now.saturating_add(gap);
        // Seconds are rounded where they are stated, and who comes first is not to be a second later than who is behind him.
        let before = self.greylisted_until;
        let due = if before > own && before - own <= GREYLISTING_ROUNDING { before } else { own };
        self.greylisted_until = due;
        self.wait_until(waiting, due);
    }

    /// An entry waits until then.
    pub(super) fn wait_until(&mut self, mut waiting: Waiting, due: Moment) {
        // Rounded up: never before its time.
        let due_s = due.as_secs() + u64::from(due.subsec_nanos() > 0);
        waiting.moment_s = u32::try_from(due_s).unwrap_or(NEVER_S);
        if self.entries.is_empty() && self.sweep.is_none() {
            (self.earliest_s, self.expected_s) = (NEVER_S, NEVER_S);
        }
        self.note(&waiting);
        self.put(waiting);
    }

    /// It is not due before.
    fn note(&mut self, waiting: &Waiting) {
        let earliest_s = if waiting.is_greylisted() { &mut self.expected_s } else { &mut self.earliest_s };
        *earliest_s = waiting.moment_s.min(*earliest_s);
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
        if self.sweep.is_some() {
            return Some(Moment::ZERO);
        }
        let [earliest, expected] =
            [self.earliest_s, self.expected_s].map(|at_s| Duration::from_secs(at_s.into()));
        Some(earliest.max(self.next_sweep).min(expected))
    }

    /// When one of its entries is tried again, unless a sweep is under way that it is in.
    pub(super) fn due_of(&self, waiting: &Waiting) -> Moment {
        let own = Duration::from_secs(waiting.moment_s.into());
        if waiting.is_greylisted() { own } else { own.max(self.next_sweep) }
    }

    /// Whether an entry waits that was greylisted, and did not step aside before that.
    pub(super) fn has_newly_greylisted(&self) -> bool {
        self.entries.iter().any(|waiting| waiting.is_greylisted() && waiting.asides() == 1)
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
            (self.earliest_s, self.expected_s) = (NEVER_S, NEVER_S);
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
        let (mut earliest_s, mut expected_s) = (self.earliest_s, self.expected_s);
        let mut due = None;
        for waiting in self.entries.from(from) {
            if waiting.moment_s <= now_s {
                due = Some(waiting.entry.stamp);
                break;
            }
            let own = if waiting.is_greylisted() { &mut expected_s } else { &mut earliest_s };
            *own = waiting.moment_s.min(*own);
        }
        (self.earliest_s, self.expected_s) = (earliest_s, expected_s);
        due
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

/// Later than anything.
const NEVER_S: u32 = u32::MAX;

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

    /// Two are put off, and then three greylisted at moments of their own: each of these is offered when it is expected.
    #[test]
    fn greylisted_entries_are_swept_when_they_are_expected_and_put_no_other_off() {
        let mut deferred = Deferred::default();
        deferred.step_aside(waiting(1), Duration::ZERO, RETRY);
        assert_eq!(sweep(&mut deferred, RETRY), [1]);
        assert_eq!(deferred.due(), Some(3 * RETRY));
        let at = |seconds| RETRY + Duration::from_secs(seconds);
        for (stamp, at_s) in [(4, 1), (2, 2), (3, 2)] {
            let stated = (stamp != 3).then_some(Duration::from_secs(20));
            deferred.greylist(waiting(stamp), stated, at(at_s), RETRY);
        }
        assert!(deferred.has_newly_greylisted());
        assert_eq!(deferred.due(), Some(at(21)), "not a sweep's interval later");
        assert_eq!(deferred.next(at(20)), None, "not before");
        let second = deferred.entries().get(Stamp(2)).copied().expect("it waits");
        assert_eq!(deferred.due_of(&second), at(22));
        assert_eq!(sweep(&mut deferred, at(21)), [4]);
        assert_eq!(deferred.due(), Some(at(22)), "the next one has its own moment");
        assert_eq!(sweep(&mut deferred, at(22)), [2]);
        assert_eq!(deferred.due(), Some(at(302)), "no time was stated: its gap as of any");
        assert_eq!(sweep(&mut deferred, at(302)), [3]);
        assert!(!deferred.has_newly_greylisted());
        assert_eq!(sweep(&mut deferred, 3 * RETRY + MINUTE), [1, 2, 4], "each by its own gap");
    }

    /// Found by postgrey, which counts in whole seconds: of two messages behind each other the first was to come in two, the second in one.
    #[test]
    fn who_is_expected_a_second_before_somebody_in_front_of_him_comes_behind() {
        let mut deferred = Deferred::default();
        for (stamp, stated_s) in [(1, 60), (2, 59), (3, 61), (4, 20)] {
            deferred.greylist(waiting(stamp), Some(Duration::from_secs(stated_s)), Duration::ZERO, RETRY);
        }
        assert_eq!(sweep(&mut deferred, Duration::from_secs(20)), [4], "that is no rounding");
        assert_eq!(sweep(&mut deferred, Duration::from_secs(59)), [0; 0]);
        assert_eq!(sweep(&mut deferred, Duration::from_secs(60)), [1, 2]);
        assert_eq!(sweep(&mut deferred, Duration::from_secs(61)), [3]);
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
