//! A sorted list that is cheap in memory at any length and in any history: what a domain has queued.
//!
//! Items lie in chunks of at most [`CHUNK_ITEMS_MAX`], sorted by stamp within and over all chunks. There is no
//! huge vector that doubles: a chunk grows by a sixteenth and gives back what it does not use, and small neighbours
//! become one, so an item costs at most a quarter more than its own size, also while the list grows, and also
//! when nearly all of a million were taken out again.
//!
//! Invariants: no chunk is empty; the items of a chunk are below those of the next; stamps are there once.

use core::mem::size_of;
use std::collections::VecDeque;
use storage::position::Stamp;

/// What has a place in the order of messages.
pub(super) trait Stamped {
    /// Its place.
    fn stamp(&self) -> Stamp;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    chunks: VecDeque<VecDeque<T>>,
    length: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), length: 0 }
    }
}

impl<T: Stamped> Sorted<T> {
    /// Items.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All items in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// All items in order, to change what is not their place.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    /// The first item.
    pub(super) fn first(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    /// Takes the first item out.
    pub(super) fn pop_first(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.remove_at((0, 0)))
    }

    /// Puts an item into its place. An item of the same stamp is replaced and given back.
    pub(super) fn insert(&mut self, item: T) -> Option<T> {
        let stamp = item.stamp();
        let (mut chunk, mut place) = self.at_or_after(stamp);
        if let Some(same) = self.get_mut_at((chunk, place)).filter(|other| other.stamp() == stamp) {
            return Some(core::mem::replace(same, item));
        }
        if place == 0 && chunk > 0 {
            // Before a chunk is behind the one before it, which may have room.
            chunk -= 1;
            place = self.chunks[chunk].len();
        }
        self.length += 1;
        if self.chunks.is_empty() {
            self.chunks.push_back(VecDeque::new());
        } else if self.chunks[chunk].len() == CHUNK_ITEMS_MAX {
            // At the end a full chunk stays full; else it is halved.
            let at = if place == CHUNK_ITEMS_MAX { CHUNK_ITEMS_MAX } else { CHUNK_ITEMS_MAX / 2 };
            let behind = self.chunks[chunk].split_off(at);
            self.chunks[chunk].shrink_to_fit();
            self.chunks.insert(chunk + 1, behind);
            if place >= at {
                chunk += 1;
                place -= at;
            }
        }
        let chunk = &mut self.chunks[chunk];
        if chunk.len() == chunk.capacity() {
            chunk.reserve_exact((chunk.len() / 16).max(2).min(CHUNK_ITEMS_MAX - chunk.len()));
        }
        chunk.insert(place, item);
        None
    }

    /// The item of this stamp.
    pub(super) fn get(&self, stamp: Stamp) -> Option<&T> {
        let (chunk, place) = self.at_or_after(stamp);
        self.chunks.get(chunk)?.get(place).filter(|item| item.stamp() == stamp)
    }

    /// The same, to change what is not its stamp.
    pub(super) fn get_mut(&mut self, stamp: Stamp) -> Option<&mut T> {
        let place = self.at_or_after(stamp);
        self.get_mut_at(place).filter(|item| item.stamp() == stamp)
    }

    /// Takes the item of this stamp out.
    pub(super) fn remove(&mut self, stamp: Stamp) -> Option<T> {
        let place = self.at_or_after(stamp);
        self.get_mut_at(place).filter(|item| item.stamp() == stamp)?;
        Some(self.remove_at(place))
    }

    /// Items from this stamp on, in order.
    pub(super) fn from(&self, stamp: Stamp) -> impl Iterator<Item = &T> {
        let (chunk, place) = self.at_or_after(stamp);
        let first = self.chunks.get(chunk).into_iter().flat_map(move |chunk| chunk.range(place..));
        first.chain(self.chunks.iter().skip(chunk + 1).flatten())
    }

    /// Octets of memory, of allocated room whether it is used or not.
    pub(super) fn memory_octets(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>() + ALLOCATION_OCTETS);
        self.chunks.capacity() * size_of::<VecDeque<T>>() + ALLOCATION_OCTETS + chunks.sum::<usize>()
    }

    /// Where the first item at or after `stamp` is; behind the last chunk if there is none.
    fn at_or_after(&self, stamp: Stamp) -> (usize, usize) {
        let below = |chunk: &VecDeque<T>| chunk.back().is_some_and(|last| last.stamp() < stamp);
        let chunk = self.chunks.partition_point(below);
        let place =
            self.chunks.get(chunk).map_or(0, |items| items.partition_point(|item| item.stamp() < stamp));
        (chunk, place)
    }

    fn get_mut_at(&mut self, (chunk, place): (usize, usize)) -> Option<&mut T> {
        self.chunks.get_mut(chunk)?.get_mut(place)
    }

    fn remove_at(&mut self, (at, place): (usize, usize)) -> T {
        let chunk = &mut self.chunks[at];
        let item = chunk.remove(place).expect("the caller found it there");
        self.length -= 1;
        if chunk.is_empty() {
            self.drop_chunk(at);
        } else {
            if chunk.len() < CHUNK_ITEMS_MAX / 4 {
                self.merge(at);
            }
            let at = at.min(self.chunks.len() - 1);
            give_back(&mut self.chunks[at]);
        }
        item
    }

    /// Makes a small chunk and a neighbour one, if both together leave room to grow.
    fn merge(&mut self, at: usize) {
        let fits = |chunks: &VecDeque<VecDeque<T>>, left: usize| {
            left + 1 < chunks.len() && chunks[left].len() + chunks[left + 1].len() <= CHUNK_ITEMS_MAX / 2
        };
        let left = match at.checked_sub(1) {
            Some(left) if fits(&self.chunks, left) => left,
            _ if fits(&self.chunks, at) => at,
            _ => return,
        };
        let right = core::mem::take(&mut self.chunks[left + 1]);
        self.chunks[left].reserve_exact(right.len());
        self.chunks[left].extend(right);
        self.drop_chunk(left + 1);
    }

    fn drop_chunk(&mut self, at: usize) {
        self.chunks.remove(at);
        if self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }
}

/// Gives memory back when more than an eighth is unused, all of it, so that this is rare.
fn give_back<T>(chunk: &mut VecDeque<T>) {
    if chunk.len() + chunk.len() / 8 + 2 < chunk.capacity() {
        chunk.shrink_to_fit();
    }
}

/// Most items of a chunk: what an insertion in the middle moves at most.
const CHUNK_ITEMS_MAX: usize = 128;
/// What the allocator needs for itself, about.
const ALLOCATION_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Stamped for (u64, u64) {
        fn stamp(&self) -> Stamp {
            Stamp(self.0)
        }
    }

    fn assert_sound(sorted: &Sorted<(u64, u64)>, model: &BTreeMap<u64, u64>) {
        let expected: Vec<(u64, u64)> = model.iter().map(|(stamp, value)| (*stamp, *value)).collect();
        let found: Vec<(u64, u64)> = sorted.from(Stamp(0)).copied().collect();
        assert_eq!(found, expected);
        assert_eq!((sorted.len(), sorted.is_empty()), (expected.len(), expected.is_empty()));
        assert_eq!(sorted.first(), expected.first());
        assert!(sorted.chunks.iter().all(|chunk| (1..=CHUNK_ITEMS_MAX).contains(&chunk.len())));
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec((0..4_u8, 0..600_u64), 0..3_000)) {
            let (mut sorted, mut model) = (Sorted::default(), BTreeMap::new());
            for (value, (what, stamp)) in (0..).zip(steps) {
                match what {
                    0 | 1 => {
                        let replaced = sorted.insert((stamp, value)).map(|(_, value)| value);
                        prop_assert_eq!(replaced, model.insert(stamp, value));
                    }
                    2 => {
                        let removed = sorted.remove(Stamp(stamp)).map(|(_, value)| value);
                        prop_assert_eq!(removed, model.remove(&stamp));
                    }
                    _ => {
                        let found = sorted.get(Stamp(stamp)).map(|(_, value)| *value);
                        prop_assert_eq!(found, model.get(&stamp).copied());
                        let next = sorted.from(Stamp(stamp)).next().map(|(stamp, _)| *stamp);
                        prop_assert_eq!(next, model.range(stamp..).next().map(|(stamp, _)| *stamp));
                        if stamp % 3 == 0 {
                            let first = sorted.pop_first();
                            prop_assert_eq!(first, model.pop_first());
                        }
                    }
                }
            }
            assert_sound(&sorted, &model);
        }
    }

    /// At any instant of a history: a quarter more than the items, and two octets an item for chunks.
    fn assert_frugal(sorted: &Sorted<(u64, u64)>) {
        let bar = sorted.len() * (size_of::<(u64, u64)>() * 5 / 4 + 2) + 4_096;
        assert!(sorted.memory_octets() <= bar, "{} for {}", sorted.memory_octets(), sorted.len());
    }

    #[test]
    fn memory_follows_the_length_up_and_down_in_every_order() {
        const COUNT: u64 = 100_000;
        // Multiplying by an odd number visits each residue once.
        let scattered = |at: u64| at.wrapping_mul(77_777) % COUNT;
        for order in [|at| at, |at| COUNT - 1 - at, scattered] {
            let mut sorted = Sorted::default();
            for at in 0..COUNT {
                sorted.insert((order(at), at));
                if at % 1_000 == 999 {
                    assert_frugal(&sorted);
                }
            }
            for at in 0..COUNT {
                sorted.remove(Stamp(scattered(at)));
                if at % 1_000 == 999 {
                    assert_frugal(&sorted);
                }
            }
            assert!(sorted.is_empty());
        }
    }
}
