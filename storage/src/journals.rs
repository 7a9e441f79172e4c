//! Journals that are not here though nothing says that they may be gone (`FORMAT.md`, "Recovery"): a file that vanished takes its
//! facts along, and nobody would hear of it.
//!
//! Journals go by checkpoints only, and the end of a checkpoint says for each directory which one is the first that still counts.
//! So each journal from there on that a header names as made before it is here, and a directory into which mail was taken
//! since that checkpoint has one of them: a shard makes its journal before its mail.
//!
//! What it cannot tell: that the newest journal is gone, if nothing was made behind it. The next one is made ahead, by
//! housekeeping and not before anything else, so most often the newest one is empty; `FORMAT.md` says when it is not. And
//! where a directory is missing it tells nothing: the last checkpoint may stand there.

use crate::facts::Facts;
use crate::format::segment_header::SegmentHeader;
use crate::position::{SegmentId, ShardId, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// What the files of all directories tell of their journals.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    directories: BTreeMap<ShardId, Chain>,
}

/// What those of one directory tell.
#[derive(Debug, Default)]
struct Chain {
    /// Those that are here: all but blank files, which nobody has finished making, or which were made blank.
    here: BTreeSet<SegmentId>,
    /// Those that the header of another one names.
    named: BTreeSet<SegmentId>,
    /// Those of which not all could be read: the end of a checkpoint may have stood there.
    doubtful: BTreeSet<SegmentId>,
    /// The highest stamp floor of its mail segments: the newest was made when that was the next stamp.
    mail_floor: Stamp,
}

impl Journals {
    /// A journal that is here, with its header if that can be read.
    pub(crate) fn take(&mut self, shard: ShardId, journal: SegmentId, header: Option<&SegmentHeader>) {
        let chain = self.directories.entry(shard).or_default();
        chain.here.insert(journal);
        chain.named.extend(header.into_iter().flat_map(SegmentHeader::before));
    }

    /// Not all of a journal could be read.
    pub(crate) fn doubt(&mut self, shard: ShardId, journal: SegmentId) {
        self.directories.entry(shard).or_default().doubtful.insert(journal);
    }

    /// A mail segment of the directory.
    pub(crate) fn take_mail(&mut self, shard: ShardId, header: &SegmentHeader) {
        let floor = &mut self.directories.entry(shard).or_default().mail_floor;
        *floor = (*floor).max(header.stamp_floor);
    }

    /// Those that are lost, by directory and number. Where the last checkpoint itself went with a journal, also those that it said
    /// may be gone. None can be told while a directory is missing: the last checkpoint may stand there.
    pub(crate) fn lost(&self, facts: &Facts, is_whole: bool) -> Vec<(ShardId, SegmentId)> {
        if !is_whole || self.last_checkpoint_is_unknown(facts) {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for (shard, chain) in &self.directories {
            let Some(first) = facts.first_journal(*shard) else { continue };
            lost.extend(
                chain
                    .named
                    .range(first..)
                    .filter(|named| !chain.here.contains(named))
                    .map(|named| (*shard, *named)),
            );
            if chain.mail_floor > facts.checkpoint() && chain.here.range(first..).next().is_none() {
                lost.push((*shard, first));
            }
        }
        lost
    }

    /// Of journals without a frame those that may go before a checkpoint has made room for itself, the highest first: none that is
    /// named as made before another one, and none without which its directory would look as if it had lost its journals.
    pub(crate) fn needless(
        &self,
        facts: &Facts,
        empty: &BTreeSet<(ShardId, SegmentId)>,
    ) -> Vec<(ShardId, SegmentId)> {
        let last_full = |(shard, chain): (&ShardId, &Chain)| {
            let full = chain.here.iter().rev().find(|journal| !empty.contains(&(*shard, **journal)));
            full.map(|journal| (*shard, *journal))
        };
        let last_full: BTreeMap<ShardId, SegmentId> = self.directories.iter().filter_map(last_full).collect();
        let may_go = |(shard, journal): &&(ShardId, SegmentId)| {
            let Some(chain) = self.directories.get(shard) else { return true };
            let first = facts.first_journal(*shard).unwrap_or_default();
            let is_last = last_full.get(shard).is_none_or(|full| full < journal);
            let is_blank = !chain.here.contains(journal);
            is_blank || is_last && first < *journal && chain.here.range(first..*journal).next().is_some()
        };
        empty.iter().rev().filter(may_go).copied().collect()
    }

    /// What lies before the first journal that counts was written before the checkpoint that says so.
    fn last_checkpoint_is_unknown(&self, facts: &Facts) -> bool {
        let in_doubt = |(shard, chain): (&ShardId, &Chain)| {
            let first = facts.first_journal(*shard).unwrap_or_default();
            chain.doubtful.range(first..).next().is_some()
        };
        self.directories.iter().any(in_doubt)
    }
}
