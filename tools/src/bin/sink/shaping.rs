//! What a slow line does: octets that arrive later than they left, and no more of them a second than it carries.
//!
//! Delay: what is read is heard, and what is said is written, so much later; order is kept. Bandwidth: a pace (GCRA) that allows a
//! read when the octets before it have had their time. A line may have its own pace and share another with all; the sink then
//! stops reading, and TCP holds the sender back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A read takes what passes in this time, so that lines that share a pace take turns.
const TURN: Duration = Duration::from_millis(10);
/// But never less.
const READ_OCTETS_MIN: usize = 1024;
/// Octets that wait for their time on one line; more are not read.
pub(crate) const DELAYED_OCTETS_MAX: usize = 4 << 20;

/// Octets a second, over all who take from it.
#[derive(Debug)]
pub(crate) struct Pace {
    octets_per_second: u64,
    /// When all that was taken has passed, in nanoseconds of the sink's clock.
    free_at: AtomicU64,
}

/// Octets on their way, in order.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    pieces: VecDeque<(Duration, Vec<u8>)>,
    octets: usize,
}

impl Pace {
    pub(crate) fn new(octets_per_second: u64) -> Self {
        Self { octets_per_second, free_at: AtomicU64::new(0) }
    }

    /// When octets may be taken again; `None`: now.
    pub(crate) fn free_at(&self, now: Duration) -> Option<Duration> {
        Some(Duration::from_nanos(self.free_at.load(Ordering::Relaxed))).filter(|at| *at > now)
    }

    /// So many octets pass from now on, behind those that pass already.
    pub(crate) fn take(&self, octets: usize, now: Duration) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let time = u128::from(octets as u64) * 1_000_000_000 / u128::from(self.octets_per_second.max(1));
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let later = |free_at: u64| Some(free_at.max(nanoseconds(now)).saturating_add(time));
        // The closure always answers.
        let _ = self.free_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// What one read may take at most.
    pub(crate) fn octets_a_turn(&self) -> usize {
        let octets = u128::from(self.octets_per_second) * TURN.as_nanos() / 1_000_000_000;
        usize::try_from(octets).unwrap_or(usize::MAX).max(READ_OCTETS_MIN)
    }
}

impl Delayed {
    /// They are there at `at`.
    pub(crate) fn push(&mut self, at: Duration, octets: &[u8]) {
        self.octets += octets.len();
        self.pieces.push_back((at, octets.to_vec()));
    }

    /// The next octets that are there.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        let is_there = self.pieces.front().is_some_and(|(at, _)| *at <= now);
        let (_, octets) = if is_there { self.pieces.pop_front()? } else { return None };
        self.octets -= octets.len();
        Some(octets)
    }

    /// When the next octets are there.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.pieces.front().map(|(at, _)| *at)
    }

    pub(crate) fn octets(&self) -> usize {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pace_lets_so_much_pass_a_second_and_saves_nothing_up() {
        let pace = Pace::new(100_000);
        let (mut now, mut octets) = (MS * 5000, 0);
        while now < MS * 7000 {
            match pace.free_at(now) {
                Some(at) => now = at,
                None => {
                    pace.take(pace.octets_a_turn(), now);
                    octets += pace.octets_a_turn();
                }
            }
        }
        assert!((199_000..=202_000).contains(&octets), "{octets}");
    }

    #[test]
    fn delayed_octets_come_in_order_at_their_time() {
        let mut delayed = Delayed::default();
        delayed.push(MS * 25, b"a");
        delayed.push(MS * 26, b"bc");
        assert_eq!((delayed.pop(MS * 24), delayed.next(), delayed.octets()), (None, Some(MS * 25), 3));
        assert_eq!(delayed.pop(MS * 30), Some(b"a".to_vec()));
        assert_eq!(delayed.pop(MS * 30), Some(b"bc".to_vec()));
        assert_eq!((delayed.pop(MS * 30), delayed.octets()), (None, 0));
    }
}
