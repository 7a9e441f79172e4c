//! A read-only walk over a data directory, for the offline tool: of a dead node, or of a copy.
//!
//! It decodes as much as it can and believes nothing: a lost header is replaced by what the index says, a lost
//! index is done without, a file that cannot be read is a problem and not an end. It never opens a file for
//! writing and never panics on what it reads. What it tells is in plain numbers and words, so that a tool needs to
//! name nothing else of this crate.
//!
//! A message costs some hundred octets of memory: its place, its units by domain, its chunks. Envelope and data are read
//! again when they are asked for.
//!
//! On a directory that a node works on, the newest records may look torn: they are on their way.

mod account;
mod audit;
mod compare;
mod cursors;
mod frames;
mod gather;
mod layout;
mod mail;
mod names;
mod records;
mod trace;
mod verify;

pub use crate::crypt::{KeyFileError, Keys};
pub use crate::disk::plain::PlainDisk as ReadOnly;
pub use crate::format::message::{Extensions, NoticeOf, RecipientDsn, Ret, Smtputf8, TlsFacts, Transfer};
pub use audit::Audit;
pub use cursors::{Cursor, Oldest};
pub use layout::{Extent, Layout};
pub use mail::{ChunkPlace, Mail, MailError};
pub use records::{Filter, Recipient, Record};
pub use trace::{TraceLine, traces};
pub use verify::Problem;

pub(crate) use account::{Loss, Standing};
pub(crate) use audit::{describe, outcomes as outcomes_of};
pub(crate) use gather::shards as shards_of;

use crate::disk::Disk;
use crate::disk::plain::PlainDisk;
use crate::error::DiskError;
use crate::facts::{Facts, Told};
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{Fact, Void};
use crate::format::message::ChunkReference;
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::journals::Journals;
use crate::position::{QueueId, SegmentId, ShardId, Stamp};
use compare::Compared;
use names::Names;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A data directory that was walked over once.
#[derive(Debug)]
pub struct Directory<D> {
    pub(crate) disk: D,
    pub(crate) keys: Arc<Keys>,
    pub(crate) store: Option<StoreFile>,
    pub(crate) shards: Vec<ShardId>,
    pub(crate) files: Vec<Walked>,
    pub(crate) facts: Facts,
    pub(crate) names: Names,
    /// Every fact with its place: file, offset.
    told: Vec<(u32, u64, Fact)>,
    /// Rows of tallies and ledgers that do not balance: file, offset, shard, domain.
    unbalanced: Vec<(usize, u64, ShardId, String)>,
    /// Valid chunk frames: octets of data by place.
    chunks: HashMap<(ShardId, SegmentId, u64), u32>,
    /// Ranges that were never acknowledged.
    pub(crate) voids: Vec<(ShardId, Void)>,
    /// Index files without their segment, and what they say.
    pub(crate) orphans: Vec<Orphan>,
    problems: Vec<Problem>,
}

/// One file of frames, as `list` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFile {
    /// Relative to the data directory.
    pub path: String,
    /// Its shard.
    pub shard: u16,
    /// `mail` or `journal`.
    pub purpose: &'static str,
    /// Its number.
    pub segment: u32,
    /// Its size.
    pub octets: u64,
    /// `ours`, `blank`, `damaged`, `foreign`, `newer`, or `unreadable`.
    pub header: &'static str,
    /// `valid`, `missing`, `unusable`, or `-` for a journal.
    pub index: &'static str,
    /// Valid frames.
    pub frames: u64,
    /// Messages among them; in a journal 0.
    pub messages: u64,
    /// Their units, without those of messages that are void; in a journal facts.
    pub units: u64,
    /// Units with a final fact in any journal.
    pub settled: u64,
    /// Lowest stamp of a message, or sequence of facts; 0 for none.
    pub first_stamp: u64,
    /// Highest one.
    pub last_stamp: u64,
}

/// A file and what verification needs of it.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) shown: LogFile,
    pub(crate) shard: ShardId,
    pub(crate) segment: SegmentId,
    pub(crate) purpose: Purpose,
    /// Its header, or what the index makes up for it.
    pub(crate) header: Option<SegmentHeader>,
    /// How its index differs from its frames; `None` without a valid index.
    index: Option<Compared>,
    pub(crate) messages: Vec<Known>,
    /// Units of each message by domain, message by message.
    groups: Vec<Group>,
    /// Chunks of each message, message by message.
    chunk_table: Vec<ChunkReference>,
    /// Frames whose key is not here.
    locked: u64,
    /// Messages of which neither key nor index is here: nobody knows their units.
    pub(crate) opaque: u64,
    /// Places that are no valid frames.
    pub(crate) lost: Vec<Lost>,
    /// Frames below this were known to be durable.
    durable_before: u64,
}

/// A message that was found.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) stamp: Stamp,
    pub(crate) queue_id: QueueId,
    pub(crate) offset: u64,
    pub(crate) unit_base: u32,
    /// Of the frame with its padding.
    octets: u32,
    received_s: u32,
    first_group: u32,
    first_chunk: u32,
    chunks: u32,
    groups: u16,
}

/// Units of a message in one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// Its number among [`Names`].
    pub(crate) domain: u32,
    pub(crate) units: u16,
}

/// Something that is no valid frame.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Where it starts.
    pub(crate) offset: u64,
    /// Where the next valid frame starts, or the file ends.
    pub(crate) to: u64,
    pub(crate) what: String,
    /// Frames behind it knew it to be durable: it was promised.
    pub(crate) was_durable: bool,
    /// The message, if its header can be read.
    pub(crate) message: Option<LostMessage>,
}

/// What is left of a message whose payload is damaged.
#[derive(Debug)]
pub(crate) struct LostMessage {
    pub(crate) stamp: Stamp,
    pub(crate) queue_id: QueueId,
    pub(crate) unit_base: u32,
    /// Its units as far as the damaged envelope tells them.
    pub(crate) groups: Vec<Group>,
    pub(crate) envelope: String,
}

/// An index whose segment is not here.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) shard: ShardId,
    pub(crate) segment: SegmentId,
    pub(crate) index: Option<SegmentIndex>,
}

impl Walked {
    pub(crate) fn groups_of(&self, message: &Known) -> &[Group] {
        let first = message.first_group as usize;
        &self.groups[first..first + usize::from(message.groups)]
    }

    pub(crate) fn units_of(&self, message: &Known) -> u32 {
        self.groups_of(message).iter().map(|group| u32::from(group.units)).sum()
    }

    /// The numbers of a message's units.
    fn numbers_of(&self, message: &Known) -> core::ops::Range<u32> {
        message.unit_base..message.unit_base.saturating_add(self.units_of(message))
    }

    fn chunks_of(&self, message: &Known) -> &[ChunkReference] {
        let first = message.first_chunk as usize;
        &self.chunk_table[first..first + message.chunks as usize]
    }

    /// Frames whose key is not here.
    pub(crate) const fn locked(&self) -> u64 {
        self.locked
    }

    /// Segments that a rewrite took these messages from.
    pub(crate) fn sources(&self) -> &[SegmentId] {
        self.header.as_ref().map_or(&[], |header| &header.sources)
    }

    fn is_mail(&self) -> bool {
        self.purpose == Purpose::Mail
    }
}

impl Directory<PlainDisk> {
    /// Walks over the data directory at `root`. What is encrypted with a key that is not among `keys` stays locked.
    ///
    /// # Errors
    /// The directory itself cannot be listed; everything else is a [`Problem`].
    pub async fn at(root: PathBuf, keys: Arc<Keys>) -> Result<Self, DiskError> {
        Self::walk(PlainDisk::new(root), keys).await
    }
}

impl<D: Disk> Directory<D> {
    /// Walks over the data directory on `disk`.
    ///
    /// # Errors
    /// As [`Directory::at`].
    pub async fn walk(disk: D, keys: Arc<Keys>) -> Result<Self, DiskError> {
        Self::walk_with(disk, keys, &mut |_, _| {}).await
    }

    /// The same, and tells how far it came: octets of files that were read, octets of all.
    ///
    /// # Errors
    /// As [`Directory::at`].
    pub async fn walk_with(
        disk: D,
        keys: Arc<Keys>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, DiskError> {
        gather::gather(disk, keys, progress).await
    }

    /// All segments and journals, by shard, purpose and number.
    pub fn files(&self) -> impl Iterator<Item = &LogFile> {
        self.files.iter().map(|file| &file.shown)
    }

    /// Whether there is nothing of a data directory here.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.store.is_none() && self.shards.is_empty()
    }

    /// Shard directories that are there.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards.len()
    }

    /// All that is wrong, by file and offset.
    #[must_use]
    pub fn verify(&self) -> Vec<Problem> {
        verify::verify(self)
    }

    /// Recounts the ledger (P2) from records, facts and tallies; see [`Audit`].
    #[must_use]
    pub fn audit(&self) -> Audit {
        audit::audit(self)
    }

    /// Before which place everything of a domain is settled, a row for each domain and shard directory.
    #[must_use]
    pub fn cursors(&self) -> Vec<Cursor> {
        cursors::cursors(self)
    }

    /// Shows `visit` each record that `filter` lets pass, in the order of files and offsets.
    ///
    /// # Errors
    /// The disk's, of a file that could be read before.
    pub async fn records(&self, filter: &Filter, visit: impl FnMut(&Record)) -> Result<(), DiskError> {
        records::records(self, filter, visit).await
    }

    /// Shard directories that are here, and those that the store knows.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.iter().copied().chain(self.missing_shards())
    }

    /// Shard directories that the store knows and that are not here.
    pub(crate) fn missing_shards(&self) -> impl Iterator<Item = ShardId> {
        let known = self.store.map_or(0, |store| store.shards);
        (0..known).map(ShardId).filter(|shard| !self.shards.contains(shard))
    }

    /// Segments of which something here says that they were made, and that are neither here nor tallied: the segment and
    /// who says so.
    pub(crate) fn lost_segments(&self) -> Vec<(ShardId, SegmentId, String)> {
        let mut found = Vec::new();
        let mut note = |shard, segment, says: String| {
            let is_here = |file: &Walked| file.is_mail() && (file.shard, file.segment) == (shard, segment);
            if !self.facts.is_gone(shard, segment) && !self.files.iter().any(is_here) {
                found.push((shard, segment, says));
            }
        };
        for orphan in &self.orphans {
            note(orphan.shard, orphan.segment, "its index is here".to_owned());
        }
        for file in self.files.iter().filter(|file| file.is_mail()) {
            let header = file.header.as_ref();
            for before in header.into_iter().flat_map(SegmentHeader::before) {
                note(file.shard, before, format!("{} was made behind it", file.shown.path));
            }
        }
        found
    }

    /// Journals that are not here though no checkpoint says that they may be gone. None is told while a directory is missing.
    pub(crate) fn lost_journals(&self) -> Vec<(ShardId, SegmentId)> {
        let mut journals = Journals::default();
        for file in &self.files {
            let header = file.header.as_ref();
            if file.is_mail() {
                header.into_iter().for_each(|header| journals.take_mail(file.shard, header));
                continue;
            }
            if file.shown.header == "blank" {
                continue;
            }
            journals.take(file.shard, file.segment, header);
            let failed = self.problems.iter().any(|problem| problem.path == file.shown.path);
            if header.is_none() || failed || file.lost.iter().any(|lost| lost.was_durable) {
                journals.doubt(file.shard, file.segment);
            }
        }
        journals.lost(&self.facts, self.missing_shards().next().is_none())
    }

    /// Whether a chunk of the message is not here, or in a segment that is not.
    pub(crate) fn lacks_chunk(
        &self,
        file: &Walked,
        message: &Known,
        is_here: impl Fn(SegmentId) -> bool,
    ) -> bool {
        let chunk = |chunk: &ChunkReference| self.chunks.get(&(file.shard, chunk.segment, chunk.offset.0));
        let lacks = |of: &ChunkReference| chunk(of) != Some(&of.octets) || !is_here(of.segment);
        file.chunks_of(message).iter().any(lacks)
    }

    /// Whether what starts there was never acknowledged (H8).
    pub(crate) fn is_void(&self, file: &Walked, offset: u64) -> bool {
        self.voids.iter().any(|(shard, void)| *shard == file.shard && void.covers(file.segment, offset))
    }

    pub(crate) fn is_settled(&self, file: &Walked, message: &Known) -> bool {
        self.settled_units(file, message) >= file.units_of(message)
    }

    fn settled_units(&self, file: &Walked, message: &Known) -> u32 {
        let count = (0..file.units_of(message)).filter(|unit| {
            let ordinal = u16::try_from(*unit).unwrap_or(u16::MAX);
            let told = self.told_of(file, message.stamp, message.unit_base, ordinal);
            told.is_some_and(|told| told.fact.outcome.is_final())
        });
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    }

    /// What is known of one unit: what a checkpoint restated, else the fact that stands.
    pub(crate) fn told_of(&self, file: &Walked, stamp: Stamp, unit_base: u32, ordinal: u16) -> Option<Told> {
        let unit = unit_base.saturating_add(ordinal.into());
        let told = self.facts.of(stamp).find(|told| told.fact.ordinal == ordinal).copied();
        let Some(outcome) = self.facts.restated(file.shard, file.segment, unit) else { return told };
        // A checkpoint tells neither code nor time; the fact that it restated may still be there.
        let fact = Fact { stamp, ordinal, outcome, code: 0 };
        let restated = Told { fact, sequence: Stamp::NONE, since_s: 0 };
        Some(told.filter(|told| told.fact.outcome == outcome).unwrap_or(restated))
    }
}
