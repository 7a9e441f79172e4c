//! Messages over which the primary ends the session before their data (H44), as Postfix does by a 421 for one sender (access(5)).
//!
//! Is it the message, or is the primary down? That is told by the others, as with what is put off: behind [`POISON_TRIES`] sessions that ended in
//! its turn before anything was taken, it is a suspect, and the next message is tried at once in a session of its own. If that one gets
//! through, suspects step aside. If not, all are in order again, and each pause looks at further ones. So a primary that ends each session at MAIL
//! keeps the order of its mail however long it does, and is asked for the first message first when it is back.

use super::{OUT, Queue};
use crate::limits::POISON_TRIES;
use crate::shard::backlog::Place;
use crate::smtp::Moment;
use core::time::Duration;
use storage::position::Stamp;

/// How many sessions broke over a message that never stepped aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaks {
    /// With its data, and nobody else's, on its way.
    pub(super) own: u32,
    /// Before that: a primary that is down ends sessions so, which must not count for the message's own sake (P3).
    pub(super) early: u32,
}

/// What became of a message over which a session ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Broken {
    /// It steps aside again.
    Aside,
    /// It waits, in order: nothing is known yet.
    Waits,
    /// Others are to be tried at once.
    Suspected,
    /// So did others: it is the primary, and all is in order again.
    Primary,
}

impl Queue {
    /// The session ended in this entry's turn, before its data; `is_answered`: each of its recipients was put off before that, so it need not
    /// show itself again. `has_others`: something else in order can be tried.
    pub(in crate::shard) fn broke_early(
        &mut self,
        place: Place,
        recipients: &[&str],
        (is_answered, has_others): (bool, bool),
        now: Moment,
        retry_interval: Duration,
    ) -> Broken {
        let stamp = place.1.stamp;
        let breaks = self.count_break(stamp, |breaks| &mut breaks.early);
        let out = self.out.iter().find(|out| out.entry.stamp == stamp).expect(OUT);
        if out.asides() > 0 {
            self.step_aside(place, now, retry_interval);
            return Broken::Aside;
        }
        if !has_others || (breaks < POISON_TRIES && !is_answered) {
            self.put_back(place);
            return Broken::Waits;
        }
        if self.put_off(place, recipients, now, retry_interval) { Broken::Primary } else { Broken::Suspected }
    }

    /// One more session broke over it, in the way that `counted` picks; how many did.
    pub(super) fn count_break(&mut self, stamp: Stamp, counted: fn(&mut Breaks) -> &mut u32) -> u32 {
        let place = self.breaks.iter().position(|(other, _)| *other == stamp).unwrap_or_else(|| {
            self.breaks.push((stamp, Breaks::default()));
            self.breaks.len() - 1
        });
        let count = counted(&mut self.breaks[place].1);
        *count = count.saturating_add(1);
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{next, queue_of};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn broke(queue: &mut Queue, place: Place) -> Broken {
        let name = place.1.stamp.0.to_string();
        queue.broke_early(place, &[&name], (false, true), Moment::ZERO, MINUTE)
    }

    #[test]
    fn who_ends_sessions_is_suspected_at_the_third_and_steps_aside_only_when_another_got_through() {
        let mut queue = queue_of(1..=9);
        for expected in [Broken::Waits, Broken::Waits, Broken::Suspected] {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!((place.1.stamp.0, broke(&mut queue, place)), (1, expected));
        }
        let second = next(&mut queue, Moment::ZERO);
        assert_eq!((second.1.stamp.0, broke(&mut queue, second)), (2, Broken::Waits));
        queue.restore_suspects();
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!((place.1.stamp.0, broke(&mut queue, place)), (1, Broken::Suspected), "first again");
        let second = next(&mut queue, Moment::ZERO);
        queue.finish(&second.1);
        queue.got_through(Moment::ZERO, MINUTE);
        assert_eq!(next(&mut queue, Moment::ZERO).1.stamp.0, 3);
        assert!(queue.breaks.is_empty() && queue.suspects.is_empty());
    }

    #[test]
    fn p3_sessions_that_ended_before_its_data_do_not_count_for_its_own_sake() {
        let mut queue = queue_of(1..=2);
        for _ in 0..POISON_TRIES {
            let place = next(&mut queue, Moment::ZERO);
            broke(&mut queue, place);
            queue.restore_suspects();
        }
        for _ in 1..POISON_TRIES {
            let place = next(&mut queue, Moment::ZERO);
            assert_eq!(place.1.stamp.0, 1);
            assert!(!queue.bring_back(place, Moment::ZERO, MINUTE), "it has not had its tries");
        }
        let place = next(&mut queue, Moment::ZERO);
        assert!(queue.bring_back(place, Moment::ZERO, MINUTE));
    }

    #[test]
    fn one_that_stepped_aside_and_ends_a_session_is_first_in_the_next() {
        let mut queue = queue_of(1..=9);
        let place = next(&mut queue, Moment::ZERO);
        queue.step_aside(place, Moment::ZERO, MINUTE);
        let due = 2 * MINUTE;
        let mut place = next(&mut queue, due);
        if place.1.stamp.0 != 1 {
            queue.finish(&place.1);
            place = next(&mut queue, due);
        }
        assert_eq!(place.1.stamp.0, 1);
        queue.put_back(place);
        let place = next(&mut queue, due);
        assert_eq!(place.1.stamp.0, 1);
        assert_eq!(queue.broke_early(place, &["1"], (false, true), due, MINUTE), Broken::Aside);
        assert!(next(&mut queue, due).1.stamp.0 > 1, "it waits its time");
    }

    #[test]
    fn three_that_end_sessions_are_the_primary_and_stay_in_order() {
        let mut queue = queue_of(1..=9);
        let mut seen = Vec::new();
        loop {
            let place = next(&mut queue, Moment::ZERO);
            seen.push(place.1.stamp.0);
            match broke(&mut queue, place) {
                Broken::Primary => break,
                Broken::Aside => panic!("nobody stepped aside"),
                Broken::Waits => queue.restore_suspects(),
                Broken::Suspected => {}
            }
        }
        assert_eq!(seen, [1, 1, 1, 2, 1, 2, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
        for stamp in 1..=9 {
            assert_eq!(next(&mut queue, Moment::ZERO).1.stamp.0, stamp);
        }
    }
}
