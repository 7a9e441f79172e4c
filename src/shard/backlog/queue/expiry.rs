//! Taking out what is past its time, a bounded number of entries at a step. What is out with the caller is in
//! flight and stays (H4).

use super::{Place, Queue, Waiting};
use crate::shard::retention::Retention;
use storage::format::journal_entry::Outcome;
use storage::position::{ShardId, Stamp};

/// Where a walk over a queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Walk {
    list: List,
    /// Matters for untried entries only.
    directory: ShardId,
    from: Stamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum List {
    Untried,
    Suspects,
    Deferred,
    Held,
    End,
}

/// Units that are past their time. The queue has let go of them; a fact about each is to be journalled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Ended {
    /// Their entry.
    pub(in crate::shard) place: Place,
    /// The units.
    pub(in crate::shard) ordinals: Vec<u16>,
    /// Held or expired; bounced, as far as the sender may be told.
    pub(in crate::shard) outcome: Outcome,
    /// What authentication said of the message, packed.
    pub(in crate::shard) said: u32,
    /// Nothing of the message is left in this domain.
    pub(in crate::shard) is_last: bool,
}

impl Walk {
    /// At the beginning.
    pub(in crate::shard) const fn start() -> Self {
        Self { list: List::Untried, directory: ShardId(0), from: Stamp::NONE }
    }

    /// Whether all was looked at.
    pub(in crate::shard) fn is_over(&self) -> bool {
        self.list == List::End
    }
}

impl Queue {
    /// Looks at up to `entries_max` entries and takes out the units of them that are past their time.
    pub(in crate::shard) fn expire(
        &mut self,
        walk: &mut Walk,
        entries_max: usize,
        retention: &Retention,
    ) -> Vec<Ended> {
        let list = walk.list;
        let due = self.look(walk, entries_max, retention);
        due.into_iter()
            .map(|(stamp, outcome)| match list {
                List::Held => self.expire_held(stamp, outcome),
                _ => self.expire_queued(list, stamp, outcome, retention.now_s()),
            })
            .collect()
    }

    /// What is past its time among the next entries; moves on.
    fn look(&self, walk: &mut Walk, entries_max: usize, retention: &Retention) -> Vec<(Stamp, Outcome)> {
        let of_queued = |waiting: &Waiting| retention.of_queued(waiting.entry.received_s);
        let of_held = |waiting: &Waiting| retention.of_held(waiting.moment_s);
        match walk.list {
            List::Untried => {
                let entries = self.untried.from(walk.directory, walk.from);
                step(entries, walk, entries_max, List::Suspects, of_queued)
            }
            List::Suspects => {
                step(self.suspects.from(walk.from), walk, entries_max, List::Deferred, of_queued)
            }
            List::Deferred => {
                let entries = self.deferred.entries().from(walk.from);
                step(entries, walk, entries_max, List::Held, of_queued)
            }
            List::Held => step(self.held.from(walk.from), walk, entries_max, List::End, of_held),
            List::End => Vec::new(),
        }
    }

    fn expire_queued(&mut self, list: List, stamp: Stamp, outcome: Outcome, now_s: u32) -> Ended {
        let waiting = match list {
            List::Suspects => self.suspects.remove(stamp),
            List::Deferred => self.deferred.remove(stamp),
            _ => self.untried.remove(stamp),
        };
        let waiting = waiting.expect("it was there a moment ago");
        let ordinals = self.decided.ordinals(&waiting, false);
        self.forget(stamp);
        if outcome == Outcome::Held {
            self.hold_waiting(&waiting, &ordinals, now_s);
        }
        let (place, said, is_last) = (waiting.place(), waiting.authentication, !self.knows(stamp));
        Ended { place, ordinals, outcome, said, is_last }
    }

    fn expire_held(&mut self, stamp: Stamp, outcome: Outcome) -> Ended {
        let (held, ordinals) = self.take_held(stamp).expect("it was there a moment ago");
        let (place, said, is_last) = (held.place(), held.authentication, !self.knows(stamp));
        Ended { place, ordinals, outcome, said, is_last }
    }
}

/// Looks at up to `entries_max` entries of a list; at its end the walk goes on in the next one.
fn step<'a>(
    entries: impl Iterator<Item = &'a Waiting>,
    walk: &mut Walk,
    entries_max: usize,
    next: List,
    outcome: impl Fn(&Waiting) -> Option<Outcome>,
) -> Vec<(Stamp, Outcome)> {
    let mut entries = entries.peekable();
    let mut due = Vec::new();
    for waiting in entries.by_ref().take(entries_max) {
        due.extend(outcome(waiting).map(|outcome| (waiting.entry.stamp, outcome)));
    }
    *walk = match entries.peek() {
        Some(waiting) => Walk { list: walk.list, directory: waiting.directory(), from: waiting.entry.stamp },
        None => Walk { list: next, directory: ShardId(0), from: Stamp::NONE },
    };
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, OnExpiry};
    use core::time::Duration;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId};

    const RECEIVED_S: u32 = 1_800_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    /// 100 s for queued mail, 50 s for held mail.
    fn retention(on_expiry: OnExpiry, after_s: u64) -> Retention {
        let mut domain = Config::embedded().domains.remove(0);
        domain.retention = Duration::from_secs(100);
        domain.held_retention = Duration::from_secs(50);
        domain.on_expiry = on_expiry;
        Retention::of(&domain, u64::from(RECEIVED_S) + after_s)
    }

    /// Over two directories, each received as many seconds later as its stamp says.
    fn queue_of(stamps: u32) -> Queue {
        let mut queue = Queue::default();
        for stamp in 1..=stamps {
            let at = u64::from(stamp);
            let mut entry = IndexEntry::new(Stamp(at), SegmentId(1), Offset(4096 + 64 * at), 64);
            (entry.count, entry.received_s) = (2, RECEIVED_S + stamp);
            queue.arrive(ShardId(u16::from(stamp % 2 == 0)), entry, &[]);
        }
        queue
    }

    fn expire_all(queue: &mut Queue, entries_max: usize, retention: &Retention) -> Vec<Ended> {
        let (mut walk, mut ended) = (Walk::start(), Vec::new());
        while !walk.is_over() {
            ended.extend(queue.expire(&mut walk, entries_max, retention));
        }
        ended
    }

    #[test]
    fn h4_only_what_is_past_its_time_and_not_in_flight_ends() {
        for entries_max in [1, 2, 3, 100] {
            let mut queue = queue_of(12);
            let [out, deferred, suspect, partly] =
                [(); 4].map(|()| queue.next(Stamp(99), Duration::ZERO).expect("queued"));
            queue.step_aside(deferred, Duration::ZERO, MINUTE);
            queue.put_off(suspect, &["a"], Duration::ZERO, MINUTE);
            queue.decide(&partly.1, 0);
            queue.hold(partly, &[0], RECEIVED_S);
            queue.put_back(partly);
            // Stamps up to 10 are older than 100 s; the unit that is held since the beginning is past its 50 s.
            let ended = expire_all(&mut queue, entries_max, &retention(OnExpiry::Discard, 110));
            let mut found: Vec<_> =
                ended.iter().map(|e| (e.place.1.stamp.0, e.ordinals.clone(), e.is_last)).collect();
            found.sort_unstable();
            let both = vec![0, 1];
            let mut expected = vec![(4, vec![0], true), (4, vec![1], false)];
            expected.extend([2, 3, 5, 6, 7, 8, 9, 10].map(|stamp| (stamp, both.clone(), true)));
            expected.sort_unstable();
            assert_eq!(found, expected, "{entries_max} at a step");
            assert!(ended.iter().all(|ended| ended.outcome == Outcome::Expired));
            queue.put_back(out);
            assert_eq!(queue.len(), 3, "in flight, and too young");
        }
    }

    #[test]
    fn h4_mail_that_is_held_for_its_age_has_its_own_time_from_then_on() {
        let mut queue = queue_of(1);
        let held = expire_all(&mut queue, 100, &retention(OnExpiry::Hold, 101));
        assert_eq!((held[0].outcome, held[0].is_last, held.len()), (Outcome::Held, false, 1));
        assert_eq!(queue.len(), 0);
        assert_eq!(expire_all(&mut queue, 100, &retention(OnExpiry::Hold, 150)), []);
        let expired = expire_all(&mut queue, 100, &retention(OnExpiry::Hold, 151));
        assert_eq!((expired[0].outcome, expired[0].is_last), (Outcome::Expired, true));
        assert_eq!(expired[0].ordinals, [0, 1]);
        assert!(!queue.knows(Stamp(1)));
    }
}
