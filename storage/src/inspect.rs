//! A read-only walk over a data directory, for the offline tool: of a dead node, or of a copy.
//!
//! It decodes as much as it can and believes nothing: a lost header is replaced by what the index says, a lost
//! index is done without, a file that cannot be read is a problem and not an end. It never opens a file for
//! writing and never panics on what it reads. What it tells is in plain numbers and words, so that a tool needs to
//! name nothing else of this crate.
//!
//! On a directory that a node works on, the newest records may look torn: they are on their way.

mod gather;
mod records;
mod verify;

pub use crate::crypt::{KeyFileError, Keys};
pub use crate::disk::plain::PlainDisk as ReadOnly;
pub use records::{Filter, Recipient, Record};
pub use verify::Problem;

use crate::disk::Disk;
use crate::disk::plain::PlainDisk;
use crate::error::DiskError;
use crate::facts::Facts;
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{Fact, Outcome, Void};
use crate::format::message::ChunkReference;
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::position::{QueueId, SegmentId, ShardId, Stamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A data directory that was walked over once.
#[derive(Debug)]
pub struct Directory<D> {
    disk: D,
    keys: Arc<Keys>,
    store: Option<StoreFile>,
    shards: Vec<ShardId>,
    files: Vec<Walked>,
    facts: Facts,
    /// Every fact with its place: file, offset.
    told: Vec<(usize, u64, Fact)>,
    /// Valid chunk frames: octets by place.
    chunks: HashMap<(ShardId, SegmentId, u64), u32>,
    /// Ranges that were never acknowledged.
    voids: Vec<(ShardId, Void)>,
    /// Index files without their segment.
    orphans: Vec<(ShardId, SegmentId)>,
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
struct Walked {
    shown: LogFile,
    shard: ShardId,
    segment: SegmentId,
    purpose: Purpose,
    /// Its header, or what the index makes up for it.
    header: Option<SegmentHeader>,
    stored_index: Option<SegmentIndex>,
    /// What an index of the frames found would say.
    found_index: SegmentIndex,
    messages: Vec<Known>,
    /// Frames whose key is not here.
    locked: u64,
    /// Places that are no valid frames: offset, what, and whether frames behind knew them to be durable.
    lost: Vec<(u64, String, bool)>,
}

/// A message that was found.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    queue_id: QueueId,
    offset: u64,
    unit_base: u32,
    domains: Vec<(String, u16)>,
    chunks: Vec<ChunkReference>,
}

impl Known {
    fn units(&self) -> usize {
        self.domains.iter().map(|(_, units)| usize::from(*units)).sum()
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
        gather::gather(disk, keys).await
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

    /// Shows `visit` each record that `filter` lets pass, in the order of files and offsets.
    ///
    /// # Errors
    /// The disk's, of a file that could be read before.
    pub async fn records(&self, filter: &Filter, visit: impl FnMut(&Record)) -> Result<(), DiskError> {
        records::records(self, filter, visit).await
    }

    /// Whether what starts there was never acknowledged (H8).
    fn is_void(&self, file: &Walked, offset: u64) -> bool {
        self.voids.iter().any(|(shard, void)| *shard == file.shard && void.covers(file.segment, offset))
    }

    fn is_settled(&self, file: &Walked, message: &Known) -> bool {
        self.settled_units(file, message) >= message.units()
    }

    fn settled_units(&self, file: &Walked, message: &Known) -> usize {
        let ordinals = 0..u16::try_from(message.units()).unwrap_or(u16::MAX);
        let outcome = |ordinal: &u16| {
            self.outcome((file.shard, file.segment), message.stamp, message.unit_base, *ordinal)
        };
        ordinals.filter(|ordinal| outcome(ordinal).is_some_and(Outcome::is_final)).count()
    }

    /// What is known of one unit: what a checkpoint restated, else the fact that stands.
    fn outcome(
        &self,
        (shard, segment): (ShardId, SegmentId),
        stamp: Stamp,
        unit_base: u32,
        ordinal: u16,
    ) -> Option<Outcome> {
        let restated = self.facts.restated(shard, segment, unit_base.saturating_add(ordinal.into()));
        let told = || self.facts.of(stamp).find(|told| told.fact.ordinal == ordinal);
        restated.or_else(|| told().map(|told| told.fact.outcome))
    }
}
