//! An entry that waits, in as few octets as it goes, and which of its units this is about.

use super::sorted::{Sorted, Stamped};
use core::mem::size_of;
use storage::format::index_file::IndexEntry;
use storage::position::{SHARDS_MAX, ShardId, Stamp};

/// An entry and where it is.
pub(in crate::shard) type Place = (ShardId, IndexEntry);

/// An entry, where it is, and a few words about it. What the list that it is in makes of them is said there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    /// The entry.
    pub(super) entry: IndexEntry,
    /// Seconds of a clock: when it is due, or since when it is held.
    pub(super) moment_s: u32,
    /// The directory in the low bits, above them whether it was greylisted last, above that how often it stepped aside.
    directory_and_asides: u16,
    /// A set of its units: see [`UnitSets`].
    marks: u16,
    /// What authentication said of it, packed; 0 where nothing is known.
    pub(super) authentication: u32,
}

// 64 octets a queued message are promised; what a list needs beyond its items is in `sorted`.
const _: () = assert!(size_of::<Waiting>() * 5 / 4 + 2 <= 64);

const DIRECTORY_BITS: u32 = 10;
const DIRECTORY_MASK: u16 = (1 << DIRECTORY_BITS) - 1;
const _: () = assert!(SHARDS_MAX == 1 << DIRECTORY_BITS);
const IS_GREYLISTED: u16 = 1 << DIRECTORY_BITS;
const ASIDES_BIT: u32 = DIRECTORY_BITS + 1;
/// Counting further would change nothing: the longest gap is reached long before.
const ASIDES_MAX: u16 = u16::MAX >> ASIDES_BIT;

impl Waiting {
    /// An entry that nothing is known about.
    pub(super) fn new((directory, entry): Place) -> Self {
        assert!(directory.0 < SHARDS_MAX);
        Self { entry, moment_s: 0, directory_and_asides: directory.0, marks: 0, authentication: 0 }
    }

    /// The directory that it lies in.
    pub(super) const fn directory(&self) -> ShardId {
        ShardId(self.directory_and_asides & DIRECTORY_MASK)
    }

    /// Where and what.
    pub(super) const fn place(&self) -> Place {
        (self.directory(), self.entry)
    }

    /// How often it stepped aside.
    pub(super) const fn asides(&self) -> u16 {
        self.directory_and_asides >> ASIDES_BIT
    }

    /// It steps aside once more.
    pub(super) fn count_aside(&mut self) {
        if self.asides() < ASIDES_MAX {
            self.directory_and_asides += 1 << ASIDES_BIT;
        }
    }

    /// It waits for a time that greylisting has.
    pub(super) const fn is_greylisted(&self) -> bool {
        self.directory_and_asides & IS_GREYLISTED != 0
    }

    /// See [`Self::is_greylisted`].
    pub(super) fn set_greylisted(&mut self, is_greylisted: bool) {
        self.directory_and_asides &= !IS_GREYLISTED;
        self.directory_and_asides |= if is_greylisted { IS_GREYLISTED } else { 0 };
    }

    /// The record lies elsewhere now.
    pub(super) fn relocate(&mut self, (directory, entry): Place) {
        assert_eq!((self.entry.stamp, self.entry.first), (entry.stamp, entry.first), "the same message");
        assert!(directory.0 < SHARDS_MAX);
        self.directory_and_asides = self.directory_and_asides & !DIRECTORY_MASK | directory.0;
        self.entry = entry;
    }
}

impl Stamped for Waiting {
    fn stamp(&self) -> Stamp {
        self.entry.stamp
    }
}

/// Sets of units. An entry with up to 16 units has its set with it; larger sets are here, a bit a unit.
#[derive(Debug, Default)]
pub(super) struct UnitSets {
    large: Sorted<LargeSet>,
}

#[derive(Debug)]
struct LargeSet {
    stamp: Stamp,
    bits: Box<[u8]>,
}

impl Stamped for LargeSet {
    fn stamp(&self) -> Stamp {
        self.stamp
    }
}

/// Units whose set is 16 bits.
const MARKS: u16 = 16;

impl UnitSets {
    /// Puts a unit into the entry's set. Ordinals of other domains are none of its units.
    pub(super) fn mark(&mut self, waiting: &mut Waiting, ordinal: u16) {
        let Some(unit) = unit_of(&waiting.entry, ordinal) else { return };
        if waiting.entry.count <= MARKS {
            waiting.marks |= 1 << unit;
            return;
        }
        let stamp = waiting.entry.stamp;
        if self.large.get(stamp).is_none() {
            let octets = usize::from(waiting.entry.count).div_ceil(8);
            self.large.insert(LargeSet { stamp, bits: vec![0; octets].into_boxed_slice() });
        }
        let set = self.large.get_mut(stamp).expect("it was just put there");
        set.bits[usize::from(unit / 8)] |= 1 << (unit % 8);
    }

    /// Takes a unit out of the entry's set.
    pub(super) fn unmark(&mut self, waiting: &mut Waiting, ordinal: u16) {
        let Some(unit) = unit_of(&waiting.entry, ordinal) else { return };
        if waiting.entry.count <= MARKS {
            waiting.marks &= !(1 << unit);
        } else if let Some(set) = self.large.get_mut(waiting.entry.stamp) {
            set.bits[usize::from(unit / 8)] &= !(1 << (unit % 8));
        }
    }

    /// Whether a unit is in the entry's set.
    pub(super) fn has(&self, waiting: &Waiting, ordinal: u16) -> bool {
        let Some(unit) = unit_of(&waiting.entry, ordinal) else { return false };
        if waiting.entry.count <= MARKS {
            return waiting.marks & 1 << unit != 0;
        }
        let set = self.large.get(waiting.entry.stamp);
        set.is_some_and(|set| set.bits[usize::from(unit / 8)] & 1 << (unit % 8) != 0)
    }

    /// The ordinals of the entry that are in its set, or those that are not.
    pub(super) fn ordinals(&self, waiting: &Waiting, marked: bool) -> Vec<u16> {
        let range = waiting.entry.first..waiting.entry.first + waiting.entry.count;
        range.filter(|ordinal| self.has(waiting, *ordinal) == marked).collect()
    }

    /// The entry is gone.
    pub(super) fn forget(&mut self, stamp: Stamp) {
        self.large.remove(stamp);
    }

    /// Octets of memory.
    pub(super) fn memory_octets(&self) -> usize {
        let sets = self.large.from(Stamp::NONE).map(|set| set.bits.len().next_multiple_of(8) + 16);
        self.large.memory_octets() + sets.sum::<usize>()
    }
}

fn unit_of(entry: &IndexEntry, ordinal: u16) -> Option<u16> {
    ordinal.checked_sub(entry.first).filter(|unit| *unit < entry.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::position::{Offset, SegmentId};

    fn waiting(first: u16, count: u16) -> Waiting {
        let mut entry = IndexEntry::new(Stamp(9), SegmentId(1), Offset(4096), 64);
        (entry.first, entry.count) = (first, count);
        Waiting::new((ShardId(1023), entry))
    }

    #[test]
    fn sets_of_every_size_tell_what_was_put_in() {
        for count in [1, 16, 17, 1000] {
            let (mut sets, mut waiting) = (UnitSets::default(), waiting(7, count));
            for ordinal in [0, 7 + count / 2, 7 + count - 1, 7 + count] {
                sets.mark(&mut waiting, ordinal);
            }
            let mut expected = vec![7 + count / 2, 7 + count - 1];
            expected.dedup();
            assert_eq!(sets.ordinals(&waiting, true), expected, "of {count}");
            assert_eq!(sets.ordinals(&waiting, false).len(), usize::from(count) - expected.len());
            sets.unmark(&mut waiting, 7 + count - 1);
            expected.pop();
            assert_eq!(sets.ordinals(&waiting, true), expected, "of {count}");
            sets.forget(Stamp(9));
            assert!(sets.large.is_empty());
        }
    }

    #[test]
    fn asides_and_directory_keep_out_of_each_others_way() {
        let mut waiting = waiting(0, 1);
        for times in 1..=200 {
            waiting.count_aside();
            assert_eq!((waiting.asides(), waiting.directory()), (times.min(31), ShardId(1023)));
            assert_eq!(waiting.is_greylisted(), times > 1 && times % 2 == 0);
            waiting.set_greylisted(times % 2 == 1);
        }
        waiting.set_greylisted(true);
        waiting.relocate((ShardId(3), waiting.entry));
        assert_eq!((waiting.asides(), waiting.directory()), (31, ShardId(3)));
        assert!(waiting.is_greylisted());
    }
}
