//! What a queue costs in memory, and the bar for it.

use super::Queue;
use super::{Pass, Stamp, Waiting};
use core::mem::size_of;

impl Queue {
    /// Octets of memory: all that is allocated, used or not.
    #[must_use]
    pub(in crate::shard) fn memory_octets(&self) -> usize {
        size_of::<Self>()
            + self.untried.memory_octets()
            + self.suspects.memory_octets()
            + self.deferred.entries().memory_octets()
            + self.held.memory_octets()
            + self.decided.memory_octets()
            + self.held_units.memory_octets()
            + self.out.capacity() * size_of::<Waiting>()
            + self.breaks.capacity() * size_of::<(Stamp, super::Breaks)>()
            + self.passes.capacity() * size_of::<(Stamp, Pass)>()
            + self.distinct.iter().map(|recipient| recipient.capacity() + 64).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, OnExpiry};
    use crate::shard::backlog::Walk;
    use crate::shard::retention::Retention;
    use core::time::Duration;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId, ShardId};

    const COUNT: u64 = 1_000_000;
    /// DESIGN.md 3: octets a queued message.
    const BAR: usize = 64;
    const RETRY: Duration = Duration::from_secs(300);

    fn arrive(queue: &mut Queue, stamp: u64, units: u16) {
        let mut entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(64 * stamp), 64);
        (entry.count, entry.received_s) = (units, 1);
        queue.arrive(ShardId((stamp % 3) as u16), entry, &[]);
    }

    fn assert_below(queue: &Queue, messages: u64, when: &str) {
        let (octets, messages) = (queue.memory_octets(), usize::try_from(messages).unwrap());
        assert!(octets <= BAR * messages + 4_096, "{when}: {} octets for {messages}", octets);
    }

    fn queue_of(count: u64, units: u16) -> Queue {
        let mut queue = Queue::default();
        for stamp in 1..=count {
            arrive(&mut queue, stamp, units);
            if stamp % 10_000 == 0 {
                assert_below(&queue, stamp, "growing");
            }
        }
        queue
    }

    fn out(queue: &mut Queue, now: Duration) -> crate::shard::backlog::Place {
        queue.next(Stamp(u64::MAX), now).expect("something is due")
    }

    #[test]
    fn a_million_queued_messages_cost_64_octets_each() {
        let queue = queue_of(COUNT, 3);
        assert_eq!(queue.len() as u64, COUNT);
    }

    #[test]
    fn h11_a_million_deferred_ones_cost_64_octets_each_also_partly_decided() {
        let mut queue = queue_of(COUNT, 3);
        for stamp in 1..=COUNT {
            let place = out(&mut queue, Duration::ZERO);
            queue.decide(&place.1, 1);
            queue.step_aside(place, Duration::ZERO, RETRY);
            if stamp % 10_000 == 0 {
                assert_below(&queue, COUNT, "stepping aside");
            }
        }
        // A sweep over all, of which one in 16 steps aside again: they are scattered over the list.
        for at in 0..COUNT {
            let place = out(&mut queue, RETRY);
            if at % 16 == 0 {
                queue.step_aside(place, RETRY, RETRY);
            } else {
                queue.finish(&place.1);
            }
            if at % 10_000 == 0 {
                assert_below(&queue, queue.len() as u64, "sweeping");
            }
        }
        assert_eq!(queue.len() as u64, COUNT / 16);
        assert_below(&queue, COUNT / 16, "swept");
    }

    #[test]
    fn a_million_suspects_cost_64_octets_each() {
        let mut queue = queue_of(COUNT, 1);
        for _ in 0..COUNT {
            let place = out(&mut queue, Duration::ZERO);
            assert!(!queue.put_off(place, &["one@full"], Duration::ZERO, RETRY));
        }
        assert_below(&queue, COUNT, "suspects");
    }

    #[test]
    fn h11_a_million_settled_above_one_stuck_cost_nothing() {
        let mut queue = queue_of(COUNT, 1);
        let stuck = out(&mut queue, Duration::ZERO);
        queue.step_aside(stuck, Duration::ZERO, RETRY);
        for _ in 1..COUNT {
            let place = out(&mut queue, Duration::ZERO);
            queue.finish(&place.1);
        }
        assert_eq!(queue.len(), 1);
        assert_below(&queue, 1, "one stuck");
    }

    #[test]
    fn a_million_held_messages_cost_64_octets_each() {
        let mut queue = queue_of(COUNT, 2);
        let mut domain = Config::embedded().domains.remove(0);
        domain.on_expiry = OnExpiry::Hold;
        let retention = Retention::of(&domain, u64::from(u32::MAX));
        let mut walk = Walk::start();
        while !walk.is_over() {
            queue.expire(&mut walk, 1_000, &retention);
            assert_below(&queue, COUNT, "being held");
        }
        assert_eq!((queue.len(), queue.held.len() as u64), (0, COUNT));
    }

    #[test]
    fn h11_a_message_with_many_recipients_costs_a_bit_a_unit_more() {
        const MESSAGES: u64 = 2_000;
        const UNITS: u16 = 500;
        let mut queue = Queue::default();
        for stamp in 1..=MESSAGES {
            arrive(&mut queue, stamp, UNITS);
        }
        for _ in 0..MESSAGES {
            let place = out(&mut queue, Duration::ZERO);
            for ordinal in 0..UNITS / 2 {
                queue.decide(&place.1, ordinal * 2);
            }
            queue.step_aside(place, Duration::ZERO, RETRY);
        }
        // What is decided of more than 16 units is a bit a unit, and an entry of its own of at most 64 octets.
        let bar = (BAR + 64 + usize::from(UNITS / 8)) * 2_000 + 4_096;
        assert!(queue.memory_octets() <= bar, "{} octets", queue.memory_octets());
        let place = out(&mut queue, RETRY);
        assert_eq!(queue.open_units(&place.1).len(), usize::from(UNITS / 2));
        for _ in 1..MESSAGES {
            let place = out(&mut queue, RETRY);
            queue.finish(&place.1);
        }
        queue.finish(&place.1);
        assert_below(&queue, 0, "all settled");
    }
}
