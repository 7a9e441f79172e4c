//! What a start has read so far, and what follows from it.

use super::backlog::Backlog;
use super::{Chain, Chains, Finding, FindingKind};
use crate::format::checkpoint::DirectoryRow;
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::tally::TallyRow;
use crate::journals::Journals;
use crate::log::Unnamed;
use crate::position::{SegmentId, ShardId, Stamp};
use crate::shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) shelves: Vec<Shelf>,
    pub(super) backlogs: Vec<Backlog>,
    /// Units of each domain: accepted, and ended by outcome.
    pub(super) totals: Vec<TallyRow>,
    pub(super) findings: Vec<Finding>,
    pub(super) last_stamp: Stamp,
    pub(super) last_stamps: BTreeMap<ShardId, Stamp>,
    pub(super) incomplete: bool,
    pub(super) recovered_unacknowledged: u64,
    /// Journals that are to be restated, by directory and number.
    pub(super) journals: Vec<(ShardId, SegmentId)>,
    /// Journals with nothing in them; after all is read those that may go before the checkpoint, the highest first.
    pub(super) empty_journals: Vec<(ShardId, SegmentId)>,
    /// The others with nothing in them, the highest first. They go with the journals that are restated.
    pub(super) kept_journals: Vec<(ShardId, SegmentId)>,
    /// What the files tell of journals that are not here.
    pub(super) chain: Journals,
    /// Copies whose rewrite a crash cut off.
    pub(super) cut_off: Vec<(ShardId, SegmentId)>,
    /// Segments may be gone of which no journal that can be read tells.
    pub(super) numbers_unknown: bool,
    /// Every chain goes on from here, or from higher up.
    pub(super) numbers_from: SegmentId,
    /// Tallies may be unknown: neither a copy nor its sources may go in this life.
    pub(super) journals_unread: bool,
    pub(super) directories: Vec<ShardId>,
    /// The highest number in use per directory and purpose.
    pub(super) numbers: BTreeMap<(ShardId, Purpose), SegmentId>,
    /// Numbers that a file or a ledger vouches for.
    pub(super) made: BTreeMap<(ShardId, Purpose), BTreeSet<SegmentId>>,
    /// Those of them that no further header need name: one does, or they are gone.
    pub(super) named: BTreeMap<(ShardId, Purpose), BTreeSet<SegmentId>>,
    /// What the header of each segment that stays names.
    pub(super) names: BTreeMap<(ShardId, Purpose), BTreeMap<SegmentId, Vec<SegmentId>>>,
}

impl Loaded {
    /// Where a shard goes on; `restated` is where the checkpoint of this start began.
    pub(super) fn chains(&self, shard: ShardId, restated: Option<(ShardId, SegmentId)>) -> Chains {
        let chain = |purpose| {
            let made = self.made.get(&(shard, purpose));
            let is_named = |segment: &SegmentId| {
                self.named.get(&(shard, purpose)).is_some_and(|named| named.contains(segment))
            };
            Chain {
                first: self.first_number(shard, purpose),
                previous: made.and_then(|made| made.last().copied()),
                unnamed: Unnamed {
                    now: made.into_iter().flatten().filter(|segment| !is_named(segment)).copied().collect(),
                    once_gone: self.names.get(&(shard, purpose)).cloned().unwrap_or_default(),
                },
            }
        };
        let (mail, journal) = (chain(Purpose::Mail), chain(Purpose::Journal));
        let oldest = restated.filter(|(directory, _)| *directory == shard).map(|(_, first)| first);
        let oldest_journal = oldest.unwrap_or(journal.first);
        Chains { directory: shard, mail, journal, oldest_journal }
    }

    fn first_number(&self, shard: ShardId, purpose: Purpose) -> SegmentId {
        let first = self.numbers.get(&(shard, purpose)).map_or(SegmentId(1), |last| SegmentId(last.0 + 1));
        first.max(self.numbers_from)
    }

    /// No segment that is made gets a number below `number`.
    pub(super) fn go_on_from(&mut self, number: SegmentId) {
        self.numbers_from = number;
    }

    /// The highest number that this start knows or will begin a chain with, of all directories and purposes.
    pub(super) fn last_number(&self) -> SegmentId {
        let known = self.numbers.values().copied().max().unwrap_or_default();
        SegmentId(known.0.max(self.numbers_from.0).saturating_add(1))
    }

    /// The directory that the checkpoint of this start is written into.
    pub(super) fn first_directory(&self) -> Option<ShardId> {
        self.directories.first().copied()
    }

    /// The checkpoint used journal numbers up to `segment`; its journals name all before it, but for what did not fit.
    pub(super) fn journals_end(&mut self, shard: ShardId, segment: SegmentId, unnamed: &BTreeSet<SegmentId>) {
        self.note_header(shard, (Purpose::Journal, segment), None);
        let made = self.made.get(&(shard, Purpose::Journal)).into_iter().flatten();
        let named: Vec<SegmentId> = made.filter(|made| !unnamed.contains(made)).copied().collect();
        self.note_named(shard, Purpose::Journal, named);
    }

    /// What the checkpoint of this start says of each directory: all journals that are there are restated.
    pub(super) fn directory_rows(&self, known: &[ShardId]) -> Vec<DirectoryRow> {
        let row = |shard: &ShardId| DirectoryRow {
            shard: *shard,
            last_stamp: self.last_stamp_of(*shard),
            first_journal: Some(self.first_number(*shard, Purpose::Journal)),
        };
        let all: BTreeSet<ShardId> = known.iter().chain(&self.directories).copied().collect();
        all.iter().map(row).collect()
    }

    /// The highest stamp that is known of a directory.
    pub(super) fn last_stamp_of(&self, shard: ShardId) -> Stamp {
        self.last_stamps.get(&shard).copied().unwrap_or_default()
    }

    pub(super) fn note_used(&mut self, shard: ShardId, purpose: Purpose, segment: SegmentId) {
        let highest = self.numbers.entry((shard, purpose)).or_insert(segment);
        *highest = (*highest).max(segment);
    }

    pub(super) fn note_made(&mut self, shard: ShardId, purpose: Purpose, segment: SegmentId) {
        self.note_used(shard, purpose, segment);
        self.made.entry((shard, purpose)).or_default().insert(segment);
    }

    /// No further header need name these.
    pub(super) fn note_named(
        &mut self,
        shard: ShardId,
        purpose: Purpose,
        segments: impl IntoIterator<Item = SegmentId>,
    ) {
        self.named.entry((shard, purpose)).or_default().extend(segments);
    }

    /// It is tallied or restated: what its header names is named by that no more, and no header need name it.
    pub(super) fn note_gone(&mut self, shard: ShardId, purpose: Purpose, segment: SegmentId) {
        self.note_named(shard, purpose, [segment]);
        self.names.entry((shard, purpose)).or_default().remove(&segment);
    }

    /// A segment that stays was made, and what its header names if that can be read.
    pub(super) fn note_header(
        &mut self,
        shard: ShardId,
        (purpose, segment): (Purpose, SegmentId),
        header: Option<&SegmentHeader>,
    ) {
        self.note_made(shard, purpose, segment);
        let names: Vec<SegmentId> = header.into_iter().flat_map(SegmentHeader::before).collect();
        self.note_named(shard, purpose, names.iter().copied());
        self.names.entry((shard, purpose)).or_default().insert(segment, names);
    }

    pub(super) fn note_stamp(&mut self, shard: ShardId, stamp: Stamp) {
        self.last_stamp = self.last_stamp.max(stamp);
        let highest = self.last_stamps.entry(shard).or_default();
        *highest = (*highest).max(stamp);
    }

    /// A journal, or a part of one, cannot be read: a checkpoint may have stood there.
    pub(super) fn journal_unread(&mut self, shard: ShardId, journal: SegmentId, path: String) {
        self.chain.doubt(shard, journal);
        self.journal_lost(path);
    }

    /// What a journal says, or a part of it, is not known.
    pub(super) fn journal_lost(&mut self, path: String) {
        self.numbers_unknown = true;
        self.found(path, FindingKind::Journal);
    }

    pub(super) fn found(&mut self, path: String, kind: FindingKind) {
        self.findings.push(Finding { path, kind });
    }
}
