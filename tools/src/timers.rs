//! Deadlines of an event loop: which of its slots is to be woken, and when.
//!
//! A slot has one deadline, which may be set as often as its session says something: what is kept for a slot is the earliest wake
//! that is on its way, so a deadline that only moves on costs nothing. A wake may come before its time is there; the slot looks at
//! its own deadline then and sets it again.
//!
//! Invariants: for each slot whose deadline was set, a wake at or before it is in the heap; the heap is no larger than twice the slots and
//! a constant, since wakes that an earlier one replaced are swept out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Wakes that are nobody's and may lie in the heap, beside one a slot.
const DEAD_WAKES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Timers {
    wakes: BinaryHeap<Reverse<(Duration, usize)>>,
    /// The earliest wake of a slot; [`Duration::MAX`]: none.
    armed: Vec<Duration>,
}

impl Timers {
    /// The slot is to be woken at `deadline` at the latest.
    pub fn set(&mut self, slot: usize, deadline: Duration) {
        if self.armed.len() <= slot {
            self.armed.resize(slot + 1, Duration::MAX);
        }
        if deadline < self.armed[slot] {
            self.armed[slot] = deadline;
            self.wakes.push(Reverse((deadline, slot)));
            if self.wakes.len() > 2 * self.armed.len() + DEAD_WAKES_MAX {
                let armed = &self.armed;
                self.wakes.retain(|Reverse((deadline, slot))| armed[*slot] == *deadline);
            }
        }
    }

    /// A slot whose wake is due; its deadline is no longer set.
    pub fn due(&mut self, now: Duration) -> Option<usize> {
        while let Some(Reverse((deadline, slot))) = self.wakes.peek().copied() {
            if deadline > now {
                return None;
            }
            self.wakes.pop();
            // A later wake of a slot that was armed for an earlier one since is nobody's.
            if self.armed[slot] == deadline {
                self.armed[slot] = Duration::MAX;
                return Some(slot);
            }
        }
        None
    }

    /// When the next wake is due.
    pub fn next(&self) -> Option<Duration> {
        self.wakes.peek().map(|Reverse((deadline, _))| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn slots_are_woken_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        for (slot, deadline) in [(3, 30), (1, 10), (2, 20)] {
            timers.set(slot, MS * deadline);
        }
        assert_eq!((timers.next(), timers.due(MS * 9)), (Some(MS * 10), None));
        assert_eq!((timers.due(MS * 25), timers.due(MS * 25), timers.due(MS * 25)), (Some(1), Some(2), None));
        assert_eq!(timers.due(MS * 30), Some(3));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_on_costs_nothing_and_an_earlier_one_counts() {
        let mut timers = Timers::default();
        for deadline in 10..10_000 {
            timers.set(7, MS * deadline);
        }
        assert_eq!(timers.wakes.len(), 1);
        timers.set(7, MS * 5);
        assert_eq!(timers.due(MS * 5), Some(7));
        assert_eq!(timers.due(MS * 20_000), None, "the wake at 10 was replaced");
        timers.set(7, MS * 11);
        assert_eq!(timers.due(MS * 11), Some(7));
    }

    #[test]
    fn wakes_that_were_replaced_are_swept_out() {
        let mut timers = Timers::default();
        for round in 0..10_000 {
            // Far away for one that waits, then near since something is to be done at once.
            timers.set(0, MS * (1_000_000 - 2 * round));
            timers.set(1, MS * (1_000_001 - 2 * round));
            assert!(timers.wakes.len() <= 2 * 2 + DEAD_WAKES_MAX, "{}", timers.wakes.len());
        }
        let end = MS * 2_000_000;
        assert_eq!((timers.due(end), timers.due(end), timers.due(end)), (Some(0), Some(1), None));
    }
}
