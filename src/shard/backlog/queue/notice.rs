//! Units that end because a notice about them was found: see `replay::notice`.

use super::{Ended, Queue};
use storage::format::journal_entry::Outcome;
use storage::position::Stamp;

impl Queue {
    /// These units end, those of them that are open or held; `None`: none of them is. Before anything was handed over: what is
    /// left of the message waits for its first try, whatever it waited for.
    pub(in crate::shard) fn end_units(
        &mut self,
        stamp: Stamp,
        ordinals: &[u16],
        outcome: Outcome,
    ) -> Option<Ended> {
        let (place, said) = (self.place(stamp)?, self.authentication(stamp));
        let is_wanted = |ordinal: &u16| ordinals.contains(ordinal);
        let mut ended = Vec::new();
        if let Some(mut waiting) = self.take_waiting(stamp) {
            let open = self.decided.ordinals(&waiting, false);
            for ordinal in open.iter().copied().filter(is_wanted) {
                self.decided.mark(&mut waiting, ordinal);
                ended.push(ordinal);
            }
            if ended.len() == open.len() {
                self.forget(stamp);
            } else {
                self.untried.insert(waiting);
            }
        }
        if let Some((held, all)) = self.take_held(stamp) {
            let (over, kept): (Vec<u16>, Vec<u16>) = all.into_iter().partition(is_wanted);
            ended.extend(over);
            if !kept.is_empty() {
                self.hold_waiting(&held, &kept, held.moment_s);
            }
        }
        let is_last = !self.knows(stamp);
        (!ended.is_empty()).then_some(Ended { place, ordinals: ended, outcome, said, is_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId, ShardId};

    const STAMP: Stamp = Stamp(5);

    fn queue() -> Queue {
        let mut entry = IndexEntry::new(STAMP, SegmentId(1), Offset(4096), 64);
        (entry.first, entry.count) = (2, 4);
        let mut queue = Queue::default();
        // One is delivered, one is held, two are open.
        queue.hold((ShardId(0), entry), &[3], 7);
        queue.arrive(ShardId(0), entry, &[2, 3]);
        queue
    }

    fn end(queue: &mut Queue, ordinals: &[u16]) -> Option<(Vec<u16>, bool)> {
        let ended = queue.end_units(STAMP, ordinals, Outcome::Bounced)?;
        assert_eq!((ended.place.1.stamp, ended.outcome), (STAMP, Outcome::Bounced));
        Some((ended.ordinals, ended.is_last))
    }

    #[test]
    fn only_what_is_not_settled_ends() {
        let mut queue = queue();
        assert_eq!(end(&mut queue, &[2]), None, "it was delivered");
        assert_eq!(end(&mut queue, &[2, 4]), Some((vec![4], false)));
        assert_eq!(end(&mut queue, &[4]), None, "once");
        let place = queue.next(Stamp(99), Duration::ZERO).expect("one is open");
        assert_eq!(queue.open_units(&place.1), [5]);
        queue.put_back(place);
        assert_eq!(end(&mut queue, &[3]), Some((vec![3], false)), "it was held");
        assert_eq!(queue.held_count(), 0);
        assert_eq!(end(&mut queue, &[5]), Some((vec![5], true)));
        assert!(!queue.knows(STAMP));
        assert_eq!(end(&mut queue, &[5]), None);
    }
}
