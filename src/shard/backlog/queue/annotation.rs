//! What authentication said of what is queued: it goes along with an entry wherever that waits.

use super::Queue;
use crate::message::authentication::Verdict;
use crate::shard::backlog::waiting::Waiting;
use storage::format::journal_entry::Authentication;
use storage::position::Stamp;

impl Queue {
    /// Notes a verdict. What the queue does not know has ended meanwhile.
    pub(in crate::shard) fn annotate(&mut self, authentication: Authentication) {
        let Authentication { stamp, bits } = authentication;
        let out = self.out.iter_mut().find(|out| out.entry.stamp == stamp);
        let lists = [
            self.held.get_mut(stamp),
            self.suspects.get_mut(stamp),
            self.deferred.get_mut(stamp),
            self.untried.get_mut(stamp),
        ];
        for waiting in lists.into_iter().chain([out]).flatten() {
            waiting.authentication = bits;
        }
    }

    /// Whether notices may go to the reverse-path of a message (P5). Not known is no.
    pub(in crate::shard) fn is_reverse_path_proven(&self, stamp: Stamp) -> bool {
        Verdict::from_bits(self.authentication(stamp)).proves_reverse_path()
    }

    /// What authentication said of a message, packed; 0 where nothing is known.
    pub(in crate::shard) fn authentication(&self, stamp: Stamp) -> u32 {
        let out = self.out.iter().find(|out| out.entry.stamp == stamp);
        let lists = [
            self.untried.get(stamp),
            self.suspects.get(stamp),
            self.deferred.entries().get(stamp),
            self.held.get(stamp),
        ];
        let mut known = lists.into_iter().chain([out]).flatten().map(|waiting| waiting.authentication);
        known.find(|bits| *bits != 0).unwrap_or(0)
    }

    /// All verdicts, as a checkpoint restates them.
    pub(in crate::shard) fn authentications(&self) -> impl Iterator<Item = Authentication> {
        let lists = self.untried.iter().chain(self.suspects.iter());
        let lists = lists.chain(self.deferred.entries().iter()).chain(self.held.iter()).chain(&self.out);
        lists.filter_map(|waiting: &Waiting| {
            let (stamp, bits) = (waiting.entry.stamp, waiting.authentication);
            (bits != 0).then_some(Authentication { stamp, bits })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::backlog::Place;
    use core::time::Duration;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId, ShardId};

    const PROVEN: u32 = 1 << 8;

    fn queue() -> (Queue, Place) {
        let mut entry = IndexEntry::new(Stamp(5), SegmentId(1), Offset(4096), 64);
        entry.count = 2;
        let mut queue = Queue::default();
        queue.arrive(ShardId(0), entry, &[]);
        (queue, (ShardId(0), entry))
    }

    fn said(queue: &Queue) -> Vec<(u64, u32)> {
        queue.authentications().map(|said| (said.stamp.0, said.bits)).collect()
    }

    #[test]
    fn a_verdict_goes_along_wherever_the_entry_waits() {
        let (mut queue, place) = queue();
        assert!(!queue.is_reverse_path_proven(Stamp(5)), "not known is no");
        queue.annotate(Authentication { stamp: Stamp(5), bits: PROVEN });
        queue.annotate(Authentication { stamp: Stamp(6), bits: PROVEN });
        assert_eq!(said(&queue), [(5, PROVEN)], "what is not queued is not kept");
        queue.next(Stamp(u64::MAX), Duration::ZERO).unwrap();
        assert!(queue.is_reverse_path_proven(Stamp(5)), "while it is out");
        queue.step_aside(place, Duration::ZERO, Duration::from_secs(60));
        assert!(queue.is_reverse_path_proven(Stamp(5)), "deferred");
        queue.next(Stamp(u64::MAX), Duration::from_secs(3600)).unwrap();
        queue.hold(place, &[0], 7);
        queue.decide(&place.1, 0);
        queue.decide(&place.1, 1);
        assert!(!queue.finish(&place.1), "a unit is held");
        assert_eq!(said(&queue), [(5, PROVEN)], "held");
        assert!(queue.is_reverse_path_proven(Stamp(5)));
    }

    #[test]
    fn a_verdict_finds_what_is_out_or_held_already() {
        let (mut queue, place) = queue();
        queue.next(Stamp(u64::MAX), Duration::ZERO).unwrap();
        queue.hold(place, &[0], 7);
        queue.annotate(Authentication { stamp: Stamp(5), bits: PROVEN | 3 });
        queue.put_back(place);
        assert_eq!(said(&queue), [(5, PROVEN | 3), (5, PROVEN | 3)], "queued and held");
    }
}
