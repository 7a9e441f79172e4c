//! How many connections a lane may have at a time: a pure policy (additive increase, multiplicative decrease).
//!
//! It begins at one and grows by one when as many messages in a row got through as there are connections, while work waits that
//! could go on one more. What the primary says against it:
//!
//! | sign | most | grows again |
//! |---|---|---|
//! | another connection refused, by 421 or by TCP | those that serve | after [`PACE_REFUSED_PAUSE`] |
//! | 421 in a session, or one that breaks, beside others | half | after [`PACE_PAUSE`] |
//! | 4.7.x or 4.3.2 to a whole transaction: it is too much for it | half | after [`PACE_PAUSE`] |
//!
//! None of this is evidence of an outage as long as one connection serves. Within a pause what was in flight when it began
//! says nothing again: several connections hear of the same limit.

use crate::limits::{PACE_PAUSE, PACE_REFUSED_PAUSE};
use crate::smtp::Moment;

/// See the module. Invariant: `most >= 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Pace {
    most: usize,
    /// Messages that got through since it changed.
    successes: usize,
    /// It does not grow before.
    paused: Moment,
}

impl Default for Pace {
    fn default() -> Self {
        Self { most: 1, successes: 0, paused: Moment::ZERO }
    }
}

impl Pace {
    /// A message got through, over one of `open` connections.
    pub(in crate::shard) fn succeed(&mut self, open: usize, limit: usize, now: Moment) {
        if now < self.paused || open < self.most || self.most >= limit {
            return;
        }
        self.successes += 1;
        if self.successes >= self.most {
            (self.most, self.successes) = (self.most + 1, 0);
        }
    }

    /// Whether one more connection may be opened beside `open`.
    pub(in crate::shard) fn may_open(&self, open: usize, limit: usize, now: Moment) -> bool {
        now >= self.paused && open < self.most.min(limit)
    }

    /// Whether of `open` connections one is too many.
    pub(in crate::shard) fn is_surplus(&self, open: usize, limit: usize) -> bool {
        open > self.most.min(limit).max(1)
    }

    /// Another connection was refused, while `open` serve.
    pub(in crate::shard) fn refused(&mut self, open: usize, now: Moment) {
        (self.most, self.successes) = (open.max(1), 0);
        self.paused = self.paused.max(now + PACE_REFUSED_PAUSE);
    }

    /// It is too much for the primary.
    pub(in crate::shard) fn too_much(&mut self, now: Moment) {
        if now < self.paused {
            return;
        }
        (self.most, self.successes) = ((self.most / 2).max(1), 0);
        self.paused = now + PACE_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const NOW: Moment = Duration::from_secs(100);

    /// As long as everything gets through, and each connection that may be opened is.
    fn grown(pace: &mut Pace, limit: usize, messages: usize, now: Moment) -> usize {
        let mut open = 1;
        for _ in 0..messages {
            pace.succeed(open, limit, now);
            while pace.may_open(open, limit, now) {
                open += 1;
            }
        }
        open
    }

    #[test]
    fn it_begins_at_one_and_grows_by_one_up_to_the_limit() {
        let mut pace = Pace::default();
        assert!(!pace.may_open(1, 5, NOW), "before anything got through");
        let open: Vec<usize> = [1, 2, 3, 4, 9].map(|messages| grown(&mut { pace }, 5, messages, NOW)).into();
        assert_eq!(open, [2, 2, 3, 3, 4]);
        assert_eq!(grown(&mut pace, 5, 1000, NOW), 5);
        assert_eq!(grown(&mut Pace::default(), 1, 1000, NOW), 1);
    }

    #[test]
    fn it_grows_only_as_far_as_connections_are_used() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.succeed(1, 5, NOW));
        assert!(pace.may_open(1, 5, NOW) && !pace.may_open(2, 5, NOW), "one was open all the time");
    }

    #[test]
    fn what_is_too_much_halves_it_once_and_it_pauses() {
        let mut pace = Pace::default();
        grown(&mut pace, 8, 1000, NOW);
        assert!(!pace.is_surplus(8, 8) && pace.is_surplus(8, 5), "the configuration may ask for less");
        pace.too_much(NOW);
        pace.too_much(NOW);
        assert!(pace.is_surplus(5, 8) && !pace.is_surplus(4, 8), "eight heard of the same limit");
        assert_eq!(grown(&mut pace, 8, 100, NOW), 1, "no more are opened in the pause");
        assert!(pace.may_open(3, 8, NOW + PACE_PAUSE) && !pace.may_open(4, 8, NOW + PACE_PAUSE));
        for minute in 1..9 {
            pace.too_much(NOW + PACE_PAUSE * minute);
        }
        assert!(!pace.is_surplus(1, 8), "never below one");
    }

    #[test]
    fn where_one_more_is_refused_there_is_none_for_a_while() {
        let mut pace = Pace::default();
        grown(&mut pace, 5, 1000, NOW);
        pace.refused(3, NOW);
        assert!(!pace.is_surplus(3, 5) && !pace.may_open(2, 5, NOW) && !pace.may_open(3, 5, NOW));
        let later = NOW + PACE_REFUSED_PAUSE;
        assert!(pace.may_open(2, 5, later) && !pace.may_open(3, 5, later));
        (0..3).for_each(|_| pace.succeed(3, 5, later));
        assert!(pace.may_open(3, 5, later), "and then one is tried");
    }
}
