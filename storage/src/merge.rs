//! A domain's queue: its unsettled entries from all shard directories, handed out in stamp order.
//!
//! Entries of one directory arrive in stamp order; the next one overall is the smallest of the heads. An entry
//! is handed out only below the horizon that the caller read from the frontier *before* it emptied its inbox
//! (H12). An entry that comes back goes to its place again.

use crate::format::index_file::IndexEntry;
use crate::position::{Position, ShardId, Stamp};
use std::collections::{BTreeMap, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub struct Merge {
    sources: BTreeMap<ShardId, VecDeque<IndexEntry>>,
    length: usize,
}

impl Merge {
    /// A new entry, later than all of its directory.
    ///
    /// # Panics
    /// If the stamp is not above the last one of the same directory: order would be lost silently.
    pub fn push(&mut self, shard: ShardId, entry: IndexEntry) {
        let source = self.sources.entry(shard).or_default();
        if let Some(last) = source.back() {
            assert!(last.stamp < entry.stamp, "a directory's entries arrive in stamp order");
        }
        source.push_back(entry);
        self.length += 1;
    }

    /// The earliest entry, if it is below `horizon`.
    pub fn pop_below(&mut self, horizon: Stamp) -> Option<(ShardId, IndexEntry)> {
        let (shard, head) = self.earliest()?;
        if head.stamp >= horizon {
            return None;
        }
        let entry = self.sources.get_mut(&shard)?.pop_front()?;
        self.length -= 1;
        Some((shard, entry))
    }

    /// An entry that comes back to its place among those of its directory.
    pub fn insert(&mut self, shard: ShardId, entry: IndexEntry) {
        let source = self.sources.entry(shard).or_default();
        let place = source.partition_point(|other| other.stamp < entry.stamp);
        source.insert(place, entry);
        self.length += 1;
    }

    /// The earliest entry.
    #[must_use]
    pub fn earliest(&self) -> Option<(ShardId, &IndexEntry)> {
        let heads = self.sources.iter().filter_map(|(shard, source)| Some((*shard, source.front()?)));
        heads.min_by_key(|(_, entry)| entry.stamp)
    }

    /// Entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is queued.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The cursor: for each directory with entries the position before which nothing of this domain is queued.
    #[must_use]
    pub fn cursor(&self) -> Vec<Position> {
        let heads = self.sources.iter().filter_map(|(shard, source)| Some((*shard, source.front()?)));
        heads
            .map(|(shard, entry)| Position { shard, segment: entry.segment, offset: entry.offset() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Offset, SegmentId};

    fn entry(stamp: u64) -> IndexEntry {
        IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 8 * stamp), 64)
    }

    #[test]
    fn stamps_come_out_in_order_over_directories() {
        let mut merge = Merge::default();
        for stamp in [2, 5, 9] {
            merge.push(ShardId(0), entry(stamp));
        }
        for stamp in [1, 7] {
            merge.push(ShardId(3), entry(stamp));
        }
        let mut order = Vec::new();
        while let Some((_, entry)) = merge.pop_below(Stamp(9)) {
            order.push(entry.stamp.0);
        }
        assert_eq!(order, [1, 2, 5, 7], "9 is not below the horizon");
        assert_eq!(merge.len(), 1);
    }

    #[test]
    fn what_comes_back_is_first_again() {
        let mut merge = Merge::default();
        merge.push(ShardId(0), entry(1));
        merge.push(ShardId(0), entry(2));
        let (shard, first) = merge.pop_below(Stamp(99)).unwrap();
        merge.insert(shard, first);
        assert_eq!(merge.pop_below(Stamp(99)).unwrap().1.stamp, Stamp(1));
    }
}
