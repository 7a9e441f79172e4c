//! A copy of a damaged data directory that opens again; the source is only read.
//!
//! - A segment keeps its number, its salt and the place of every frame, so nothing that points to one is touched and
//!   encrypted mail is copied without its key. What is no valid frame is left out: zeros stand there.
//! - A message that is lost, or of which a chunk is lost while a unit is open, is left out and told. Its units are at an end
//!   in the ledger of their directory: damaged, or as the facts say. A void record in a segment of the copy's own takes
//!   back the numbers that they had, so that no later count misses them.
//! - A segment that is lost altogether counts as gone; its units by its index, if that is here.
//! - Journals are restated in one, as each start of a server does it; so reply codes of settled units are not kept.
//! - Indexes are made anew. The file `store` comes last: a copy that was cut off does not open.

mod books;
mod segments;

#[cfg(feature = "glommio")]
pub use crate::clock::SystemClock;
pub use crate::disk::copy::CopyDisk;

use crate::checkpoint;
use crate::clock::Clock;
use crate::disk::{Disk, read_whole};
use crate::error::{AppendError, DiskError};
use crate::format::segment_header::Purpose;
use crate::format::store_file::StoreFile;
use crate::frontier::{CEILING_STEP, Frontier, number_ceiling};
use crate::identity;
use crate::inspect::{Directory, Problem};
use crate::log::{Log, LogOptions, Unnamed};
use crate::position::{SegmentId, ShardId, Stamp};
use books::Books;
use std::collections::HashMap;
use std::sync::Arc;

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// Segments that were copied.
    pub segments: u64,
    /// Frames in them.
    pub frames: u64,
    /// Units whose record is lost and that had not ended.
    pub damaged: u64,
    /// What was left out: the place in the source, and what is known of it.
    pub left_out: Vec<Problem>,
}

/// Why there is no copy. What was written of it does not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RepairError {
    /// A disk failed.
    #[error("{path}: {error}")]
    Disk {
        /// The file or directory.
        path: String,
        /// Its error.
        error: DiskError,
    },
    /// Nothing tells which store this is.
    #[error("neither `store` nor the header of any file can be read: nothing tells which store this is")]
    Identity,
    /// A shard directory that the store knows is not there (H2).
    #[error("{0} is missing: mount it, or say that the copy is to be made without it")]
    MissingShard(ShardId),
    /// A newer program wrote this.
    #[error("{0}: written by a newer version, which must repair it")]
    Newer(String),
    /// The journal of the copy cannot be written.
    #[error("the journal of the copy: {0}")]
    Journal(AppendError),
}

/// Octets of the copy's journal: a batch fits twice.
const JOURNAL_OCTETS: u64 = 4 << 20;

/// Copies what can be read of `source` into `target`, which is empty. `without` names shard directories that may be missing.
/// `progress` hears octets copied, octets in all.
///
/// # Errors
/// See [`RepairError`].
pub async fn repair<D: Disk, E: Disk, C: Clock>(
    source: &Directory<D>,
    target: &E,
    clock: &C,
    without: &[u16],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Repaired, RepairError> {
    refuse_newer(source).await?;
    if let Some(shard) = source.missing_shards().find(|shard| !without.contains(&shard.0)) {
        return Err(RepairError::MissingShard(shard));
    }
    let store = identity_of(source)?;
    let shards: Vec<ShardId> = source.all_shards().collect();
    for shard in &shards {
        let made = target.create_directory(&shard.to_string()).await;
        made.map_err(|error| at(&shard.to_string(), error))?;
    }
    target.sync_directory("").await.map_err(|error| at("", error))?;
    let books = Books::of(source);
    let mut repaired =
        Repaired { left_out: books.left_out.clone(), damaged: books.damaged, ..Repaired::default() };
    let starts = segments::copy(source, target, &books, &store, progress, &mut repaired).await?;
    segments::voids(source, target, clock, &books, &store, &starts).await?;
    if let Some(first) = shards.iter().min() {
        restate(source, target, clock, &books, (&store, *first)).await?;
    }
    identity::save(target, &store).await.map_err(|error| at("store", error))?;
    Ok(repaired)
}

async fn refuse_newer<D: Disk>(source: &Directory<D>) -> Result<(), RepairError> {
    let content = read_whole(&source.disk, "store").await;
    if content.is_ok_and(|content| StoreFile::newer(&content).is_some()) {
        return Err(RepairError::Newer("store".to_owned()));
    }
    match source.files().find(|file| file.header == "newer") {
        Some(file) => Err(RepairError::Newer(file.path.clone())),
        None => Ok(()),
    }
}

/// The identity of the copy: that of the source, with a ceiling above everything that is seen.
fn identity_of<D: Disk>(source: &Directory<D>) -> Result<StoreFile, RepairError> {
    let messages = || source.files.iter().flat_map(|file| &file.messages);
    let headers = || source.files.iter().filter_map(|file| file.header.as_ref());
    let last = messages().map(|message| message.stamp).chain(headers().map(|header| header.stamp_floor));
    let last = last.max().unwrap_or_default().max(source.facts.last());
    let shards = source.shards.iter().map(|shard| shard.0 + 1).max().unwrap_or(0);
    let known = match source.store {
        Some(store) => store,
        None => {
            let mut votes: HashMap<[u8; 16], (usize, StoreFile)> = HashMap::new();
            for header in headers() {
                let fresh = StoreFile {
                    sequence: 0,
                    store: header.store,
                    // The highest that any queue id tells (20 of its bits); the next start adds one.
                    incarnation: messages().map(|message| message.queue_id.0 >> 44).max().unwrap_or(0),
                    // Stamps may have been used that left nothing behind.
                    stamp_ceiling: Stamp(last.0 + CEILING_STEP),
                    number_ceiling: SegmentId(0),
                    shards,
                };
                votes.entry(header.store.0).or_insert((0, fresh)).0 += 1;
            }
            let most = votes.into_values().max_by_key(|(count, _)| *count);
            most.ok_or(RepairError::Identity)?.1
        }
    };
    let next = known.stamp_ceiling.max(last.after());
    let last_number = source.files.iter().map(|file| file.segment).max().unwrap_or_default();
    Ok(StoreFile {
        sequence: known.sequence + 1,
        stamp_ceiling: Stamp(next.0 + CEILING_STEP),
        shards: known.shards.max(shards),
        number_ceiling: number_ceiling(known.number_ceiling, last_number),
        ..known
    })
}

/// Writes all that the journals say, as far as it still matters.
async fn restate<D: Disk, E: Disk, C: Clock>(
    source: &Directory<D>,
    target: &E,
    clock: &C,
    books: &Books,
    (store, shard): (&StoreFile, ShardId),
) -> Result<(), RepairError> {
    let next = Stamp(store.stamp_ceiling.0 - CEILING_STEP);
    let frontier = Arc::new(Frontier::new(shard.0 + 1, next, store.stamp_ceiling));
    let options = LogOptions {
        purpose: Purpose::Journal,
        shard,
        store: store.store,
        segment_octets: JOURNAL_OCTETS,
        reserve_octets: 0,
        first_segment: SegmentId(books::last_journal(source, shard).0 + 1),
        previous: None,
        unnamed: Unnamed::default(),
        frontier: Arc::clone(&frontier),
        keys: Arc::clone(&source.keys),
    };
    let log =
        Log::open(target.clone(), clock.clone(), options).await.map_err(|error| at("journal", error))?;
    let written = async {
        let result = async {
            let sequence = frontier.sequence()?;
            checkpoint::restate(&log, sequence, &books.outcomes, &books.ledgers, &books.queued).await?;
            checkpoint::complete(&log, sequence, books.directories.clone()).await
        }
        .await;
        log.close();
        result
    };
    let (written, driven) = futures_lite::future::zip(written, log.drive()).await;
    driven.map_err(|error| at("journal", error))?;
    written.map_err(RepairError::Journal)
}

fn at(path: &str, error: DiskError) -> RepairError {
    RepairError::Disk { path: path.to_owned(), error }
}
