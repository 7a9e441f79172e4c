//! The segments that a shard keeps: what is settled in each, who pins it, and which may go.
//!
//! One bit a unit; a domain's outcomes are counted on the way, so that the tally of a segment is at hand when
//! it is unlinked. A shard also keeps the segments of directories whose shard does not run any more.
//!
//! Facts about units of the active segment arrive before it is sealed and its number of units is known; they
//! wait in the same bitmap.

use crate::compaction::horizon::{SegmentFacts, may_unlink};
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{DomainTally, FINAL_OUTCOMES, Outcome, Tally};
use crate::position::{SegmentId, ShardId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub struct Shelf {
    holdings: BTreeMap<(ShardId, SegmentId), Holding>,
    removable: Vec<(ShardId, SegmentId)>,
}

#[derive(Debug, Default)]
struct Holding {
    /// Units in all; known once sealed.
    units: Option<u64>,
    settled: Vec<u64>,
    settled_count: u64,
    pins: u64,
    /// Segments with voids about this one, pinned as long as it is there.
    voided_by: Vec<SegmentId>,
    /// Messages closed here with chunks elsewhere, by their first unit.
    pinning: BTreeMap<u32, Pinning>,
    outcomes: BTreeMap<String, [u64; FINAL_OUTCOMES.len()]>,
}

#[derive(Debug)]
struct Pinning {
    units: u32,
    left: u32,
    segments: Vec<SegmentId>,
}

impl Holding {
    fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            sealed: self.units.is_some(),
            unsettled: self.units.unwrap_or(0).saturating_sub(self.settled_count),
            pins: self.pins,
        }
    }

    fn is_marked(&self, unit: u32) -> bool {
        let (word, bit) = (unit as usize / 64, unit % 64);
        self.settled.get(word).is_some_and(|word| word & 1 << bit != 0)
    }

    /// Sets the unit's bit; `false` if it was set.
    fn mark(&mut self, unit: u32) -> bool {
        let (word, bit) = (unit as usize / 64, unit % 64);
        if self.settled.len() <= word {
            self.settled.resize(word + 1, 0);
        }
        let fresh = self.settled[word] & 1 << bit == 0;
        self.settled[word] |= 1 << bit;
        fresh
    }
}

impl Shelf {
    /// A message that is arriving, or queued, has a chunk in this segment.
    pub fn pin(&mut self, shard: ShardId, segment: SegmentId) {
        self.holdings.entry((shard, segment)).or_default().pins += 1;
    }

    /// The counterpart of [`Self::pin`].
    pub fn unpin(&mut self, shard: ShardId, segment: SegmentId) {
        let holding = self.holdings.get_mut(&(shard, segment)).expect("a pinned segment stays on the shelf");
        assert!(holding.pins > 0);
        holding.pins -= 1;
        self.consider(shard, segment);
    }

    /// The message whose units start at `unit_base` of `segment` keeps the pins on `chunk_segments` that its
    /// session had, until all its units are settled. Some may be: owners hear of a message before its session.
    pub fn keep_pins(
        &mut self,
        shard: ShardId,
        segment: SegmentId,
        unit_base: u32,
        units: u32,
        chunk_segments: Vec<SegmentId>,
    ) {
        let holding = self.holdings.entry((shard, segment)).or_default();
        let settled = (unit_base..unit_base + units).filter(|unit| holding.is_marked(*unit)).count();
        let left = units - u32::try_from(settled).expect("no more than units");
        if left == 0 {
            for chunk in chunk_segments {
                self.unpin(shard, chunk);
            }
            return;
        }
        let pinning = Pinning { units, left, segments: chunk_segments };
        let earlier = holding.pinning.insert(unit_base, pinning);
        assert!(earlier.is_none(), "a message pins once");
    }

    /// The segment is sealed, with this index.
    pub fn seal(&mut self, shard: ShardId, segment: SegmentId, index: &SegmentIndex) {
        let holding = self.holdings.entry((shard, segment)).or_default();
        // Units of a voided range were numbered and are nobody's.
        let live = index.domains.iter().flat_map(|(_, entries)| entries).map(|entry| u64::from(entry.count));
        holding.units = Some(live.sum());
        for void in &index.voids {
            // H8: an index that leaves voided entries out may have to be rebuilt; it takes the void for that.
            if let Some(voided) = self.holdings.get_mut(&(shard, void.segment)) {
                voided.voided_by.push(segment);
                self.pin(shard, segment);
            }
        }
        self.consider(shard, segment);
    }

    /// A sealed segment found at start: as [`Self::seal`], with its pins. All segments are put on the shelf
    /// before facts are told.
    pub fn restore(&mut self, shard: ShardId, segment: SegmentId, index: &SegmentIndex) {
        for pin in &index.pins {
            let chunks: Vec<SegmentId> = pin.segments.iter().map(|(chunk, _)| *chunk).collect();
            for chunk in &chunks {
                self.pin(shard, *chunk);
            }
            self.keep_pins(shard, segment, pin.unit_base, pin.units, chunks);
        }
        self.seal(shard, segment, index);
    }

    /// A unit has a final outcome. Told twice, it counts once.
    pub fn settle(&mut self, shard: ShardId, segment: SegmentId, unit: u32, domain: &str, outcome: Outcome) {
        let Some(place) = FINAL_OUTCOMES.iter().position(|final_outcome| *final_outcome == outcome) else {
            return;
        };
        let holding = self.holdings.entry((shard, segment)).or_default();
        if !holding.mark(unit) {
            return;
        }
        holding.settled_count += 1;
        if let Some(counts) = holding.outcomes.get_mut(domain) {
            counts[place] += 1;
        } else {
            let mut counts = [0; FINAL_OUTCOMES.len()];
            counts[place] = 1;
            holding.outcomes.insert(domain.to_owned(), counts);
        }
        let mut unpinned = Vec::new();
        // Units are numbered message by message: this one's message is the last that starts at or before it.
        let message = holding.pinning.range_mut(..=unit).next_back();
        if let Some((base, pinning)) = message.filter(|(base, pinning)| unit - **base < pinning.units) {
            let base = *base;
            pinning.left -= 1;
            if pinning.left == 0 {
                unpinned = holding.pinning.remove(&base).map_or_else(Vec::new, |pinning| pinning.segments);
            }
        }
        for chunk in unpinned {
            self.unpin(shard, chunk);
        }
        self.consider(shard, segment);
    }

    /// A segment that may go, with the tally to journal before. It stays on the shelf until
    /// [`Self::removed`].
    pub fn take_removable(&mut self) -> Option<Tally> {
        let (shard, segment) = loop {
            let place = self.removable.pop()?;
            // Pinned since it was listed, or listed at start before its pins were known: it comes back when
            // they go.
            if self.holdings.get(&place).is_some_and(|holding| may_unlink(holding.facts())) {
                break place;
            }
        };
        let holding = &self.holdings[&(shard, segment)];
        let domains = holding
            .outcomes
            .iter()
            .map(|(domain, ended)| DomainTally { domain: domain.clone(), ended: *ended })
            .collect();
        Some(Tally { shard, segment, domains })
    }

    /// The unlink failed; it will be tried again.
    pub fn put_back(&mut self, shard: ShardId, segment: SegmentId) {
        self.removable.push((shard, segment));
    }

    /// The segment's file is gone.
    pub fn removed(&mut self, shard: ShardId, segment: SegmentId) {
        let Some(holding) = self.holdings.remove(&(shard, segment)) else { return };
        for voider in holding.voided_by {
            self.unpin(shard, voider);
        }
    }

    /// Segments on the shelf.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holdings.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    fn consider(&mut self, shard: ShardId, segment: SegmentId) {
        let holding = &self.holdings[&(shard, segment)];
        let listed = self.removable.contains(&(shard, segment));
        if !listed && may_unlink(holding.facts()) {
            self.removable.push((shard, segment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index_file::IndexEntry;
    use crate::position::{Offset, Stamp};

    const SHARD: ShardId = ShardId(0);
    const CHUNKS: SegmentId = SegmentId(1);
    const CLOSE: SegmentId = SegmentId(2);

    fn index_of(units: u16) -> SegmentIndex {
        let mut entry = IndexEntry::new(Stamp(7), CLOSE, Offset(4096), 128);
        entry.count = units;
        SegmentIndex {
            domains: vec![("example.test".to_owned(), vec![entry])],
            units: units.into(),
            ..SegmentIndex::default()
        }
    }

    #[test]
    fn h3_chunks_outlive_their_segment_until_the_message_is_settled() {
        let mut shelf = Shelf::default();
        shelf.pin(SHARD, CHUNKS);
        shelf.seal(SHARD, CHUNKS, &SegmentIndex::default());
        assert_eq!(shelf.take_removable(), None, "the message is still arriving");
        shelf.keep_pins(SHARD, CLOSE, 0, 2, vec![CHUNKS]);
        shelf.seal(SHARD, CLOSE, &index_of(2));
        shelf.settle(SHARD, CLOSE, 0, "example.test", Outcome::Delivered);
        shelf.settle(SHARD, CLOSE, 0, "example.test", Outcome::Delivered);
        assert_eq!(shelf.take_removable(), None, "one of two recipients, told twice");
        shelf.settle(SHARD, CLOSE, 1, "example.test", Outcome::Discarded);
        let mut gone: Vec<_> = std::iter::from_fn(|| shelf.take_removable()).collect();
        gone.sort_by_key(|tally| tally.segment);
        assert_eq!(gone.iter().map(|tally| tally.segment).collect::<Vec<_>>(), [CHUNKS, CLOSE]);
        assert_eq!(gone[1].domains[0].ended.iter().sum::<u64>(), 2);
    }

    #[test]
    fn h3_abandoned_chunks_free_their_segment() {
        let mut shelf = Shelf::default();
        shelf.pin(SHARD, CHUNKS);
        shelf.seal(SHARD, CHUNKS, &SegmentIndex::default());
        shelf.unpin(SHARD, CHUNKS);
        assert_eq!(shelf.take_removable().map(|tally| tally.segment), Some(CHUNKS));
    }

    #[test]
    fn held_mail_keeps_its_segment() {
        let mut shelf = Shelf::default();
        shelf.settle(SHARD, CLOSE, 0, "example.test", Outcome::Held);
        shelf.seal(SHARD, CLOSE, &index_of(1));
        assert_eq!(shelf.take_removable(), None);
    }
}
