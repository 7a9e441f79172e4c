//! What an operator sees of a queue and does to it, a message at a time: pure bookkeeping, as everything here.
//!
//! A message is where its open units are; units of it that are held are beside them. What is out with the caller is being
//! sent: of that nothing is changed. A held unit that is released is queued again for its first try, with whatever else of
//! its message waits: it keeps its stamp, so it goes out before what came later (P3 excepts it).

use super::{Queue, Waiting};
use crate::bridge::operator::MessageState;
use crate::shard::backlog::Place;
use crate::smtp::Moment;
use storage::format::index_file::IndexEntry;
use storage::format::journal_entry::Authentication;
use storage::position::Stamp;

/// A message as the queue knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Seen {
    /// Where its record is.
    pub(in crate::shard) place: Place,
    /// Where its open units are; else held.
    pub(in crate::shard) state: MessageState,
    /// Units that nobody has decided about, in that state.
    pub(in crate::shard) open: Vec<u16>,
    /// Units that are held.
    pub(in crate::shard) held: Vec<u16>,
    /// Since when, in seconds since 1970.
    pub(in crate::shard) held_since_s: Option<u32>,
    /// When it is tried again, if that is its own affair.
    pub(in crate::shard) due: Option<Moment>,
    /// How often it stepped aside.
    pub(in crate::shard) asides: u16,
}

/// What a change came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Changed {
    /// It is being sent.
    Busy,
    /// The queue has changed; facts about these units are to be journalled.
    Done {
        /// Where the record is.
        place: Place,
        /// The units.
        ordinals: Vec<u16>,
        /// Nothing of the message is left in this domain.
        is_last: bool,
    },
    /// There was nothing to do.
    Nothing,
}

/// Where a list is looked at, and how far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Stretch {
    pub(in crate::shard) from: Stamp,
    /// The last stamp that is of interest.
    pub(in crate::shard) until: Stamp,
    /// With units in this state; else in any.
    pub(in crate::shard) state: Option<MessageState>,
    /// So many that pass are enough.
    pub(in crate::shard) most: usize,
    /// So many are looked at in each list before others have a turn.
    pub(in crate::shard) steps: usize,
}

/// What was found in one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::shard) struct Part {
    /// In order.
    pub(in crate::shard) entries: Vec<IndexEntry>,
    /// Where it goes on; none: enough were found, or there are no more.
    pub(in crate::shard) next: Option<Stamp>,
    pub(in crate::shard) looked: usize,
}

impl Queue {
    /// Units that are held.
    pub(in crate::shard) const fn held_count(&self) -> u64 {
        self.held_count
    }

    /// Since when the first of them is held, in seconds since 1970.
    pub(in crate::shard) fn held_since_s(&self) -> Option<u32> {
        if self.held.is_empty() {
            return None;
        }
        if self.held_first_s.get().is_none() {
            self.held_first_s.set(self.held.iter().map(|held| held.moment_s).min());
        }
        self.held_first_s.get()
    }

    /// When the first message of those that wait for the primary was received, in seconds since 1970.
    pub(in crate::shard) fn oldest_s(&self) -> Option<u32> {
        let lists = [self.suspects.first(), self.deferred.entries().first()].into_iter().flatten();
        let untried = self.untried.each_from(Stamp::NONE).filter_map(|mut source| source.next());
        lists.chain(untried).chain(&self.out).map(|waiting| waiting.entry.received_s).min()
    }

    /// The stamps of up to `most` messages from `from` on that have units in a state, in order.
    pub(in crate::shard) fn stamps(
        &self,
        from: Stamp,
        state: Option<MessageState>,
        most: usize,
    ) -> Vec<Stamp> {
        let stretch = Stretch { from, until: Stamp(u64::MAX), state, most, steps: usize::MAX };
        self.part(&stretch, |_| true).entries.into_iter().map(|entry| entry.stamp).collect()
    }

    /// The first messages of a stretch that pass, in order.
    pub(in crate::shard) fn part(
        &self,
        stretch: &Stretch,
        mut passes: impl FnMut(&IndexEntry) -> bool,
    ) -> Part {
        let &Stretch { from, until, state, most, steps } = stretch;
        let mut part = Part::default();
        let mut add = |list, waiting: &mut dyn Iterator<Item = &Waiting>| {
            if state.is_some_and(|state| state != list) {
                return;
            }
            let mut found = 0;
            for (number, Waiting { entry, .. }) in waiting.enumerate() {
                if number == steps {
                    part.next = Some(part.next.map_or(entry.stamp, |next| next.min(entry.stamp)));
                    break;
                }
                part.looked += 1;
                if passes(entry) {
                    part.entries.push(*entry);
                    found += 1;
                    if found == most {
                        break;
                    }
                }
            }
        };
        let is_within = |waiting: &&Waiting| waiting.entry.stamp <= until;
        for source in self.untried.each_from(from) {
            add(MessageState::Queued, &mut source.take_while(is_within));
        }
        add(MessageState::Queued, &mut self.suspects.from(from).take_while(is_within));
        add(MessageState::Deferred, &mut self.deferred.entries().from(from).take_while(is_within));
        add(MessageState::Held, &mut self.held.from(from).take_while(is_within));
        // A few, in no order.
        let mut out: Vec<&Waiting> = self.out.iter().filter(|out| out.entry.stamp >= from).collect();
        out.sort_unstable_by_key(|out| out.entry.stamp);
        add(MessageState::InFlight, &mut out.into_iter().take_while(is_within));
        part.entries.sort_unstable_by_key(|entry| entry.stamp);
        part.entries.dedup_by_key(|entry| entry.stamp);
        if let Some(next) = part.next {
            part.entries.retain(|entry| entry.stamp < next);
        }
        if part.entries.len() >= most {
            part.entries.truncate(most);
            part.next = None;
        }
        part
    }

    /// Messages, each in each list that has units of it.
    pub(in crate::shard) fn messages(&self) -> usize {
        self.len() + self.held.len() + self.out.len()
    }

    /// A message; `None` if nothing of it is queued or held.
    pub(in crate::shard) fn see(&self, stamp: Stamp) -> Option<Seen> {
        let out = self.out.iter().find(|out| out.entry.stamp == stamp);
        let queued = self.untried.get(stamp).or_else(|| self.suspects.get(stamp));
        let deferred = self.deferred.entries().get(stamp);
        let held = self.held.get(stamp);
        let (state, open) = if out.is_some() {
            (MessageState::InFlight, out)
        } else if queued.is_some() {
            (MessageState::Queued, queued)
        } else if deferred.is_some() {
            (MessageState::Deferred, deferred)
        } else {
            (MessageState::Held, None)
        };
        Some(Seen {
            place: open.or(held)?.place(),
            state,
            open: open.map_or_else(Vec::new, |open| self.decided.ordinals(open, false)),
            held: held.map_or_else(Vec::new, |held| self.held_units.ordinals(held, true)),
            held_since_s: held.map(|held| held.moment_s),
            due: deferred.map(|deferred| self.deferred.due_of(deferred)),
            asides: open.map_or(0, Waiting::asides),
        })
    }

    /// The directory in which a message's record is, without a look at its units.
    pub(in crate::shard) fn place(&self, stamp: Stamp) -> Option<Place> {
        let out = self.out.iter().find(|out| out.entry.stamp == stamp);
        let lists = [
            out,
            self.untried.get(stamp),
            self.suspects.get(stamp),
            self.deferred.entries().get(stamp),
            self.held.get(stamp),
        ];
        lists.into_iter().flatten().next().map(Waiting::place)
    }

    /// What waits of a message waits for the operator from now on.
    pub(in crate::shard) fn hold_message(&mut self, stamp: Stamp, now_s: u32) -> Changed {
        if self.is_out(stamp) {
            return Changed::Busy;
        }
        let Some(waiting) = self.take_waiting(stamp) else { return Changed::Nothing };
        let ordinals = self.decided.ordinals(&waiting, false);
        self.forget(stamp);
        self.hold_waiting(&waiting, &ordinals, now_s);
        Changed::Done { place: waiting.place(), ordinals, is_last: false }
    }

    /// Units of an entry that is in no list any more are held; what authentication said goes along.
    pub(super) fn hold_waiting(&mut self, waiting: &Waiting, ordinals: &[u16], now_s: u32) {
        let (stamp, bits) = (waiting.entry.stamp, waiting.authentication);
        self.hold(waiting.place(), ordinals, now_s);
        if bits != 0 {
            self.annotate(Authentication { stamp, bits });
        }
    }

    /// What is held of a message is queued again.
    pub(in crate::shard) fn release(&mut self, stamp: Stamp) -> Changed {
        if self.is_out(stamp) && self.held.get(stamp).is_some() {
            // Its other units are being sent: they come back, or end, first.
            return Changed::Busy;
        }
        let Some((held, ordinals)) = self.take_held(stamp) else { return Changed::Nothing };
        let waiting = match self.take_waiting(stamp) {
            Some(mut waiting) => {
                for ordinal in &ordinals {
                    self.decided.unmark(&mut waiting, *ordinal);
                }
                waiting
            }
            None => {
                let mut waiting = Waiting::new(held.place());
                waiting.authentication = held.authentication;
                let units = held.entry.first..held.entry.first + held.entry.count;
                for ended in units.filter(|ordinal| !ordinals.contains(ordinal)) {
                    self.decided.mark(&mut waiting, ended);
                }
                waiting
            }
        };
        self.forget_breaks(stamp);
        self.untried.insert(waiting);
        Changed::Done { place: held.place(), ordinals, is_last: false }
    }

    /// A message ends; of one that is asked for by its state, the units that are in it.
    pub(in crate::shard) fn end(&mut self, stamp: Stamp, only: Option<MessageState>) -> Changed {
        let takes = |state| only.is_none_or(|only| only == state);
        if only != Some(MessageState::Held) && self.is_out(stamp) {
            return Changed::Busy;
        }
        let held = if takes(MessageState::Held) { self.take_held(stamp) } else { None };
        let mut waiting = None;
        if takes(MessageState::Queued) {
            waiting = self.untried.remove(stamp).or_else(|| self.suspects.remove(stamp));
        }
        if takes(MessageState::Deferred) && waiting.is_none() {
            waiting = self.deferred.remove(stamp);
        }
        let place = waiting.as_ref().or(held.as_ref().map(|(held, _)| held)).map(Waiting::place);
        let Some(place) = place else { return Changed::Nothing };
        let mut ordinals = held.map_or_else(Vec::new, |(_, ordinals)| ordinals);
        if let Some(waiting) = waiting {
            ordinals.extend(self.decided.ordinals(&waiting, false));
            self.forget(stamp);
        }
        ordinals.sort_unstable();
        Changed::Done { place, ordinals, is_last: !self.knows(stamp) }
    }

    /// Takes out what is held of a message.
    pub(super) fn take_held(&mut self, stamp: Stamp) -> Option<(Waiting, Vec<u16>)> {
        let held = self.held.remove(stamp)?;
        if self.held_first_s.get() == Some(held.moment_s) {
            self.held_first_s.set(None);
        }
        let ordinals = self.held_units.ordinals(&held, true);
        self.held_units.forget(stamp);
        self.held_count -= ordinals.len() as u64;
        Some((held, ordinals))
    }

    pub(super) fn take_waiting(&mut self, stamp: Stamp) -> Option<Waiting> {
        let waiting = self.untried.remove(stamp).or_else(|| self.suspects.remove(stamp));
        waiting.or_else(|| self.deferred.remove(stamp))
    }

    /// Whether a message that is being sent has left its place in the order before.
    pub(in crate::shard) fn has_stepped_aside(&self, stamp: Stamp) -> bool {
        self.out.iter().any(|out| out.entry.stamp == stamp && (out.asides() > 0 || out.is_greylisted()))
    }

    pub(in crate::shard) fn is_out(&self, stamp: Stamp) -> bool {
        self.out.iter().any(|out| out.entry.stamp == stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use storage::position::{Offset, SegmentId, ShardId};

    const MINUTE: Duration = Duration::from_secs(60);
    const HORIZON: Stamp = Stamp(99);

    fn place(stamp: u64, count: u16) -> Place {
        let mut entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 64 * stamp), 64);
        (entry.first, entry.count, entry.received_s) = (3, count, 1000 + u32::try_from(stamp).unwrap());
        (ShardId(u16::from(stamp.is_multiple_of(2))), entry)
    }

    fn queue(count: u16) -> Queue {
        let mut queue = Queue::default();
        for stamp in 1..=4 {
            let (directory, entry) = place(stamp, count);
            queue.arrive(directory, entry, &[]);
        }
        queue
    }

    fn done(place: Place, ordinals: &[u16], is_last: bool) -> Changed {
        Changed::Done { place, ordinals: ordinals.to_vec(), is_last }
    }

    fn stamps(queue: &Queue, from: u64, state: Option<MessageState>) -> Vec<u64> {
        queue.stamps(Stamp(from), state, 9).iter().map(|stamp| stamp.0).collect()
    }

    #[test]
    fn a_list_is_in_order_whatever_state_messages_are_in() {
        let mut queue = queue(2);
        let out = queue.next(HORIZON, Duration::ZERO).unwrap();
        let second = queue.next(HORIZON, Duration::ZERO).unwrap();
        queue.step_aside(second, Duration::ZERO, MINUTE);
        assert_eq!(queue.hold_message(Stamp(3), 7), done(place(3, 2), &[3, 4], false));
        assert_eq!(queue.hold_message(out.1.stamp, 7), Changed::Busy);
        assert_eq!(queue.hold_message(Stamp(9), 7), Changed::Nothing);
        assert_eq!(stamps(&queue, 0, None), [1, 2, 3, 4]);
        assert_eq!(stamps(&queue, 2, None), [2, 3, 4]);
        assert_eq!(queue.stamps(Stamp(2), None, 2), [Stamp(2), Stamp(3)]);
        for (state, expected) in [
            (MessageState::InFlight, 1),
            (MessageState::Deferred, 2),
            (MessageState::Held, 3),
            (MessageState::Queued, 4),
        ] {
            assert_eq!(stamps(&queue, 0, Some(state)), [expected], "{state:?}");
            assert_eq!(queue.see(Stamp(expected)).unwrap().state, state);
        }
        assert_eq!(queue.see(Stamp(2)).unwrap().due, Some(MINUTE));
        assert_eq!((queue.held_count(), queue.oldest_s()), (2, Some(1001)));
    }

    #[test]
    fn a_stretch_goes_on_where_its_steps_ended_whatever_list_was_the_longest() {
        let mut queue = queue(1);
        for stamp in 5..=40 {
            let (directory, entry) = place(stamp, 1);
            queue.arrive(directory, entry, &[]);
        }
        for stamp in [7, 9, 30] {
            queue.hold_message(Stamp(stamp), 7);
        }
        let is_third = |entry: &IndexEntry| entry.stamp.0.is_multiple_of(3);
        let all = |most: usize, steps: usize, until: u64| {
            let (mut found, mut from, mut turns) = (Vec::new(), Some(Stamp(2)), 0);
            while let Some(at) = from {
                let stretch = Stretch { from: at, until: Stamp(until), state: None, most, steps };
                let part = queue.part(&stretch, is_third);
                assert!(part.looked <= 5 * steps.min(99), "in each list so many at most");
                found.extend(part.entries.iter().map(|entry| entry.stamp.0));
                (from, turns) = (part.next, turns + 1);
            }
            (found, turns)
        };
        let expected: Vec<u64> = (1..=13).map(|third| 3 * third).collect();
        assert_eq!(all(99, 99, u64::MAX), (expected.clone(), 1));
        for steps in 1..=20 {
            let (found, turns) = all(99, steps, u64::MAX);
            assert_eq!(found, expected, "{steps}");
            assert_eq!(turns > 1, steps <= 18, "{steps}: {turns}");
        }
        assert_eq!(all(99, 4, 30).0, expected[..10], "and no further than it has to");
        assert_eq!(all(2, 99, u64::MAX), (vec![3, 6], 1), "enough is enough");
    }

    #[test]
    fn a_part_that_is_held_is_released_beside_what_waits_or_alone() {
        for count in [3, 20] {
            let mut queue = queue(count);
            let first = queue.next(HORIZON, Duration::ZERO).unwrap();
            queue.decide(&first.1, 3);
            queue.decide(&first.1, 4);
            queue.hold(first, &[4], 7);
            assert_eq!(queue.release(Stamp(1)), Changed::Busy, "the others are being sent");
            queue.step_aside(first, Duration::ZERO, MINUTE);
            assert_eq!(queue.release(Stamp(1)), done(first, &[4], false));
            let seen = queue.see(Stamp(1)).unwrap();
            let open: Vec<u16> = (4..3 + count).collect();
            assert_eq!((seen.state, seen.open, seen.held), (MessageState::Queued, open.clone(), vec![]));
            assert_eq!(queue.held_count(), 0);
            // All but the first recipient, which has ended: held, and released when nothing else waits.
            assert_eq!(queue.hold_message(Stamp(1), 9), done(first, &open, false));
            assert_eq!((queue.held_count(), queue.len()), (u64::from(count) - 1, 3));
            assert_eq!(queue.release(Stamp(1)), done(first, &open, false));
            assert_eq!(queue.see(Stamp(1)).unwrap().open, open, "what has ended is not offered again (H43)");
            assert_eq!(queue.release(Stamp(1)), Changed::Nothing);
        }
    }

    #[test]
    fn the_first_of_what_is_held_is_known_through_every_change() {
        let mut queue = queue(2);
        assert_eq!(queue.held_since_s(), None);
        for (stamp, since_s, first_s) in [(3, 70, 70), (1, 90, 70), (2, 50, 50)] {
            queue.hold_message(Stamp(stamp), since_s);
            assert_eq!(queue.held_since_s(), Some(first_s));
        }
        queue.hold(place(2, 2), &[3], 80);
        assert_eq!(queue.held_since_s(), Some(70), "units of one message go together");
        queue.release(Stamp(3));
        assert_eq!(queue.held_since_s(), Some(80));
        queue.end(Stamp(1), None);
        assert_eq!(queue.held_since_s(), Some(80));
        queue.end(Stamp(2), None);
        assert_eq!(queue.held_since_s(), None);
        queue.hold_message(Stamp(4), 95);
        assert_eq!(queue.held_since_s(), Some(95), "of what is no more nothing is left");
    }

    #[test]
    fn what_is_removed_is_gone_held_or_not() {
        let mut queue = queue(2);
        let first = queue.next(HORIZON, Duration::ZERO).unwrap();
        queue.decide(&first.1, 3);
        queue.hold(first, &[3], 7);
        assert_eq!(queue.end(Stamp(1), None), Changed::Busy);
        queue.step_aside(first, Duration::ZERO, MINUTE);
        assert_eq!(queue.end(Stamp(1), Some(MessageState::Queued)), Changed::Nothing);
        assert_eq!(
            queue.end(Stamp(1), Some(MessageState::Held)),
            done(first, &[3], false),
            "one of its units waits"
        );
        assert_eq!(queue.end(Stamp(1), Some(MessageState::Held)), Changed::Nothing);
        assert_eq!(queue.end(Stamp(1), None), done(first, &[4], true));
        assert!(!queue.knows(Stamp(1)));
        let third = queue.next(HORIZON, Duration::ZERO).filter(|third| third.1.stamp == Stamp(2)).unwrap();
        queue.decide(&third.1, 3);
        queue.hold(third, &[3], 7);
        queue.step_aside(third, Duration::ZERO, MINUTE);
        let deferred = Some(MessageState::Deferred);
        assert_eq!(queue.end(Stamp(2), deferred), done(third, &[4], false), "what is held was not asked for");
        assert_eq!(queue.end(Stamp(2), None), done(third, &[3], true));
        queue.hold_message(Stamp(3), 7);
        assert_eq!(queue.end(Stamp(3), None), done(place(3, 2), &[3, 4], true));
        assert_eq!((queue.held_count(), queue.len()), (0, 1));
    }

    #[test]
    fn what_authentication_said_goes_along() {
        let mut queue = queue(1);
        queue.annotate(Authentication { stamp: Stamp(1), bits: 5 });
        queue.hold_message(Stamp(1), 7);
        assert_eq!(queue.authentication(Stamp(1)), 5);
        queue.release(Stamp(1));
        assert_eq!(queue.authentication(Stamp(1)), 5);
        queue.end(Stamp(1), None);
        assert_eq!(queue.authentications().count(), 0);
    }
}
