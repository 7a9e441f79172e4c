//! Entries that wait for their first try, over all shard directories, handed out in the order of stamps.
//!
//! Entries of one directory arrive in stamp order; the next one overall is the smallest of the heads. It is handed out
//! only below the horizon that the caller read from the frontier *before* it emptied its inbox (H12). What comes
//! back goes to its place again.

use super::sorted::Sorted;
use super::waiting::Waiting;
use core::mem::size_of;
use storage::position::{Position, ShardId, Stamp};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Untried {
    /// Sorted by directory; no list is empty.
    sources: Vec<(ShardId, Sorted<Waiting>)>,
}

impl Untried {
    /// An entry that is new, or comes back.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let shard = waiting.directory();
        let at = self.sources.binary_search_by_key(&shard, |(shard, _)| *shard);
        let at = at.unwrap_or_else(|at| {
            self.sources.insert(at, (shard, Sorted::default()));
            at
        });
        let twice = self.sources[at].1.insert(waiting);
        assert!(twice.is_none(), "an entry waits in one place");
    }

    /// The earliest stamp.
    pub(super) fn first(&self) -> Option<Stamp> {
        self.sources.iter().filter_map(|(_, source)| Some(source.first()?.entry.stamp)).min()
    }

    /// The earliest entry, if it is below `horizon`.
    pub(super) fn pop_below(&mut self, horizon: Stamp) -> Option<Waiting> {
        let heads = self.sources.iter().enumerate();
        let heads = heads.filter_map(|(at, (_, source))| Some((source.first()?.entry.stamp, at)));
        let (stamp, at) = heads.min()?;
        if stamp < horizon { self.remove_from(at, stamp) } else { None }
    }

    /// The entry of this stamp, wherever it lies.
    pub(super) fn get(&self, stamp: Stamp) -> Option<&Waiting> {
        self.sources.iter().find_map(|(_, source)| source.get(stamp))
    }

    /// The same, to change what is not its place.
    pub(super) fn get_mut(&mut self, stamp: Stamp) -> Option<&mut Waiting> {
        self.sources.iter_mut().find_map(|(_, source)| source.get_mut(stamp))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.sources.iter().flat_map(|(_, source)| source.iter())
    }

    /// Takes an entry out, wherever it lies.
    pub(super) fn remove(&mut self, stamp: Stamp) -> Option<Waiting> {
        let at = self.sources.iter().position(|(_, source)| source.get(stamp).is_some())?;
        self.remove_from(at, stamp)
    }

    fn remove_from(&mut self, at: usize, stamp: Stamp) -> Option<Waiting> {
        let source = &mut self.sources[at].1;
        let waiting = source.remove(stamp);
        if source.is_empty() {
            self.sources.remove(at);
        }
        waiting
    }

    /// Entries of a directory from a stamp on, then those of the directories behind it.
    pub(super) fn from(&self, shard: ShardId, stamp: Stamp) -> impl Iterator<Item = &Waiting> {
        let behind = self.sources.partition_point(|(other, _)| *other < shard);
        self.sources[behind..]
            .iter()
            .flat_map(move |(other, source)| source.from(if *other == shard { stamp } else { Stamp::NONE }))
    }

    /// The entries of each directory from a stamp on.
    pub(super) fn each_from(&self, stamp: Stamp) -> impl Iterator<Item = impl Iterator<Item = &Waiting>> {
        self.sources.iter().map(move |(_, source)| source.from(stamp))
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.sources.iter().map(|(_, source)| source.len()).sum()
    }

    /// In each directory with entries the position before which nothing waits.
    pub(super) fn cursor(&self) -> Vec<Position> {
        let heads = self.sources.iter().filter_map(|(shard, source)| Some((*shard, source.first()?.entry)));
        heads
            .map(|(shard, entry)| Position { shard, segment: entry.segment, offset: entry.offset() })
            .collect()
    }

    /// Octets of memory.
    pub(super) fn memory_octets(&self) -> usize {
        let list = self.sources.capacity() * size_of::<(ShardId, Sorted<Waiting>)>();
        list + self.sources.iter().map(|(_, source)| source.memory_octets()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::format::index_file::IndexEntry;
    use storage::position::{Offset, SegmentId};

    fn waiting(shard: u16, stamp: u64) -> Waiting {
        let entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 8 * stamp), 64);
        Waiting::new((ShardId(shard), entry))
    }

    #[test]
    fn stamps_come_out_in_order_over_directories() {
        let mut untried = Untried::default();
        for (shard, stamp) in [(0, 2), (0, 5), (0, 9), (3, 1), (3, 7)] {
            untried.insert(waiting(shard, stamp));
        }
        let mut order = Vec::new();
        while let Some(waiting) = untried.pop_below(Stamp(9)) {
            order.push(waiting.entry.stamp.0);
        }
        assert_eq!(order, [1, 2, 5, 7], "9 is not below the horizon");
        assert_eq!(untried.len(), 1);
    }

    #[test]
    fn what_comes_back_is_first_again() {
        let mut untried = Untried::default();
        untried.insert(waiting(0, 1));
        untried.insert(waiting(0, 2));
        let first = untried.pop_below(Stamp(99)).unwrap();
        untried.insert(first);
        assert_eq!(untried.pop_below(Stamp(99)).unwrap().entry.stamp, Stamp(1));
    }
}
