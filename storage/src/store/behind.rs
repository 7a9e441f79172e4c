//! What later segments of a directory say about earlier ones, while these are read from the last to the first.

use crate::facts::Facts;
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::Void;
use crate::position::{SegmentId, ShardId, Stamp};
use crate::segment::contents::leave_out;
use crate::shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub(super) struct Behind {
    voids: Vec<Void>,
    /// Messages that a rewrite took out of a source, and that are found in its copy.
    moved: BTreeMap<SegmentId, BTreeSet<Stamp>>,
    /// Sources of rewrites that a crash cut off: they have all of it.
    still_sources: BTreeSet<SegmentId>,
    pub(super) previous: BTreeSet<SegmentId>,
}

impl Behind {
    /// A rewrite that some of its sources were tallied for: the others are at an end too.
    pub(super) fn note_rewrite(&mut self, sources: &[SegmentId], index: &SegmentIndex) {
        let entries = index.domains.iter().flat_map(|(_, entries)| entries);
        let stamps: BTreeSet<Stamp> = entries.map(|entry| entry.stamp).collect();
        for source in sources {
            self.moved.entry(*source).or_default().extend(&stamps);
        }
    }

    /// A rewrite that a crash cut off never happened.
    pub(super) fn note_cut_off(&mut self, sources: &[SegmentId]) {
        self.still_sources.extend(sources);
    }

    /// Takes out entries that a void record of a later segment covers (H8).
    pub(super) fn apply(&mut self, segment: SegmentId, index: &mut SegmentIndex) {
        for void in self.voids.iter().filter(|void| void.segment == segment) {
            leave_out(index, void);
        }
        self.voids.extend(&index.voids);
    }

    /// Marks what a rewrite moved away, and takes it out: by its copy, or by what a checkpoint restated when the copy is
    /// gone too.
    pub(super) fn leave(
        &self,
        shelf: &mut Shelf,
        facts: &Facts,
        (shard, segment): (ShardId, SegmentId),
        index: &mut SegmentIndex,
    ) {
        let copied = self.moved.get(&segment);
        let is_restated = !self.still_sources.contains(&segment);
        for (_, entries) in &mut index.domains {
            entries.retain(|entry| {
                let by_copy = copied.is_some_and(|moved| moved.contains(&entry.stamp));
                let moved = by_copy || is_restated && facts.is_moved(shard, segment, entry.units().start);
                if moved {
                    shelf.moved_away(shard, segment, entry.units());
                }
                !moved
            });
        }
    }
}
