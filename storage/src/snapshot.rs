//! What of a data directory belongs together while a server works on it: a copy of this opens like the directory behind a
//! crash, without stopping anybody.
//!
//! # Promise
//! A unit that was promised before [`take`] began and had no final fact when it returned is queued in the copy (P2). What ended meanwhile may
//! be queued there too, so a primary may be offered it again; what was taken meanwhile may be there or not.
//!
//! # How
//! Three looks, each of which only reads:
//! 1. *mail*: every segment of every shard directory is opened. From here on an unlink takes none of them away.
//! 2. *facts*: every journal, the newest of a directory first, as far as it is written now. So of each directory the copy has a prefix of its facts. A
//!    checkpoint names journals of all directories, so one that comes or goes meanwhile starts all anew. A tally says that its segment is gone, and that mail which waited in it lies where a rewrite put it: durable before the tally,
//!    so it is there at the third look.
//! 3. *mail again*: segments that came since, as far as they are written now. One that came and went between the looks had nothing left to settle, but
//!    for what went into a later one: a number that is missing in the chain starts all anew.
//!
//! A file that is still written to is read *as far as it is written*, found from its end: everything below the last octet that is there was durable, or on its way
//! in the same batch. Reading it from its beginning would find frames behind a block that was read too early, which looks like damage (H6). What is written later
//! reads as zeros. The store file comes last: its ceilings are above all that was used before (H1).

use crate::disk::{Disk, File, read_whole};
use crate::error::DiskError;
use crate::format::block_ceiling;
use crate::format::segment_header::Purpose;
use crate::format::store_file::StoreFile;
use crate::inspect::shards_of;
use crate::position::{SegmentId, ShardId};
use crate::segment::{index_name, indexed_by, name, parse_name};
use crate::store::shard_of;
use std::collections::{BTreeMap, BTreeSet};

/// What belongs together; its files are open, so nothing takes them away.
#[derive(Debug)]
pub struct Snapshot<F> {
    /// In an order in which they may be written: a copy that is cut off does not open, since `store` is last.
    pub members: Vec<Member<F>>,
    /// The identity of the directory, in lower-case hexadecimal digits.
    pub store: String,
}

/// One file.
#[derive(Debug)]
pub struct Member<F> {
    /// Relative to the data directory.
    pub path: String,
    /// Its size.
    pub octets: u64,
    content: Content<F>,
}

#[derive(Debug)]
enum Content<F> {
    File {
        file: F,
        /// From here on it is zeros, whatever is written there now.
        filled: u64,
    },
    Memory(Vec<u8>),
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("{path}: {error}")]
    Disk {
        /// The file or directory.
        path: String,
        /// Its error.
        error: DiskError,
    },
    /// A shard directory that the store knows is not there (H2).
    #[error("{0} is missing: without it this is no copy")]
    MissingShard(ShardId),
    /// A newer program wrote it.
    #[error("store: written by a newer version, which must copy it")]
    Newer,
    /// There is no store.
    #[error("there is no mail store here")]
    Nothing,
    /// Files came and went each time.
    #[error("segments come and go too fast; try again")]
    Restless,
}

/// How often it is tried.
const TRIES: usize = 20;
/// What is looked at, at a time, for the end of what is written.
const STRETCH_OCTETS: u64 = 256 << 10;
const STORE: &str = "store";

impl<F: File> Member<F> {
    /// Its octets from `offset` on, at most so many; none behind its end.
    ///
    /// # Errors
    /// The disk's.
    pub async fn read(&self, offset: u64, octets: usize) -> Result<Vec<u8>, DiskError> {
        let octets = usize::try_from(self.octets.saturating_sub(offset)).unwrap_or(usize::MAX).min(octets);
        let mut read = match &self.content {
            Content::Memory(content) => {
                content.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).copied().collect()
            }
            Content::File { file, filled } => {
                let wanted = usize::try_from(filled.saturating_sub(offset)).unwrap_or(usize::MAX).min(octets);
                let read = file.read(offset, wanted).await?;
                if read.len() < wanted {
                    let reason = format!("short: {} of {wanted}", read.len());
                    return Err(DiskError::Io { operation: "read", reason });
                }
                read.to_vec()
            }
        };
        read.resize(octets, 0);
        Ok(read)
    }
}

/// Finds what belongs together.
///
/// # Errors
/// See [`SnapshotError`].
pub async fn take<D: Disk>(disk: &D) -> Result<Snapshot<D::File>, SnapshotError> {
    for _ in 0..TRIES {
        if let Some(snapshot) = attempt(disk).await? {
            return Ok(snapshot);
        }
    }
    Err(SnapshotError::Restless)
}

/// One shard directory's mail.
struct Chain<F> {
    shard: ShardId,
    segments: BTreeMap<SegmentId, F>,
    /// Those that were sealed when they were opened.
    indexes: BTreeMap<SegmentId, F>,
    traces: BTreeMap<String, F>,
    /// The highest number that was there at the first look.
    last: SegmentId,
}

async fn attempt<D: Disk>(disk: &D) -> Result<Option<Snapshot<D::File>>, SnapshotError> {
    let shards = shards_of(disk).await.map_err(|error| at("", error))?;
    let mut chains = Vec::new();
    for shard in &shards {
        chains.push(Chain::open(disk, *shard).await?);
    }
    let mut members = Vec::new();
    if !journals(disk, &shards, &mut members).await? {
        return Ok(None);
    }
    for chain in &mut chains {
        if !chain.follow(disk).await? {
            return Ok(None);
        }
    }
    for chain in chains {
        chain.into_members(&mut members).await?;
    }
    let (store, identity) = store(disk, &shards).await?;
    let path = STORE.to_owned();
    members.push(Member { path, octets: store.len() as u64, content: Content::Memory(store) });
    Ok(Some(Snapshot { members, store: identity }))
}

impl<F: File> Chain<F> {
    /// The first look. What goes while it is listed has its tally before.
    async fn open<D: Disk<File = F>>(disk: &D, shard: ShardId) -> Result<Self, SnapshotError> {
        let names = list(disk, shard).await?;
        let segments: BTreeSet<SegmentId> = names.iter().filter_map(|name| mail_of(name)).collect();
        let indexed: BTreeSet<SegmentId> = names.iter().filter_map(|name| indexed_by(name)).collect();
        let last = segments.last().copied().unwrap_or_default();
        let mut chain = Self {
            shard,
            segments: BTreeMap::new(),
            indexes: BTreeMap::new(),
            traces: BTreeMap::new(),
            last,
        };
        for segment in segments {
            let Some(file) = open(disk, shard, &name(Purpose::Mail, segment)).await? else { continue };
            chain.segments.insert(segment, file);
            if indexed.contains(&segment)
                && let Some(index) = open(disk, shard, &index_name(segment)).await?
            {
                chain.indexes.insert(segment, index);
            }
        }
        for name in names.into_iter().filter(|name| name.starts_with("trace-")) {
            if let Some(file) = open(disk, shard, &name).await? {
                chain.traces.insert(name, file);
            }
        }
        Ok(chain)
    }

    /// The third look; whether nothing came and went since the first.
    async fn follow<D: Disk<File = F>>(&mut self, disk: &D) -> Result<bool, SnapshotError> {
        let names = list(disk, self.shard).await?;
        let segments: BTreeSet<SegmentId> = names.iter().filter_map(|name| mail_of(name)).collect();
        let Some(newest) = segments.last().copied().filter(|newest| *newest > self.last) else {
            return Ok(true);
        };
        for number in self.last.0 + 1..=newest.0 {
            let segment = SegmentId(number);
            match open(disk, self.shard, &name(Purpose::Mail, segment)).await? {
                Some(file) => drop(self.segments.insert(segment, file)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The newest first: what it says of others was durable there before.
    async fn into_members(self, members: &mut Vec<Member<F>>) -> Result<(), SnapshotError> {
        let Self { shard, segments, mut indexes, traces, .. } = self;
        for (segment, file) in segments.into_iter().rev() {
            let index = indexes.remove(&segment);
            let path = format!("{shard}/{}", name(Purpose::Mail, segment));
            members.push(member(path, file, index.is_some()).await?);
            if let Some(index) = index {
                members.push(member(format!("{shard}/{}", index_name(segment)), index, true).await?);
            }
        }
        for (name, file) in traces {
            members.push(member(format!("{shard}/{name}"), file, false).await?);
        }
        Ok(())
    }
}

/// The second look; whether none came or went meanwhile.
async fn journals<D: Disk>(
    disk: &D,
    shards: &[ShardId],
    members: &mut Vec<Member<D::File>>,
) -> Result<bool, SnapshotError> {
    let before = journals_of(disk, shards).await?;
    for (shard, number) in before.iter().rev() {
        let journal = name(Purpose::Journal, *number);
        // Restated in one that came since.
        let Some(file) = open(disk, *shard, &journal).await? else { return Ok(false) };
        members.push(member(format!("{shard}/{journal}"), file, false).await?);
    }
    Ok(journals_of(disk, shards).await? == before)
}

async fn journals_of<D: Disk>(
    disk: &D,
    shards: &[ShardId],
) -> Result<BTreeSet<(ShardId, SegmentId)>, SnapshotError> {
    let mut journals = BTreeSet::new();
    for shard in shards {
        let names = list(disk, *shard).await?;
        journals.extend(names.iter().filter_map(|name| journal_of(name)).map(|number| (*shard, number)));
    }
    Ok(journals)
}

async fn member<F: File>(path: String, file: F, whole: bool) -> Result<Member<F>, SnapshotError> {
    let octets = file.length().await.map_err(|error| at(&path, error))?;
    let filled =
        if whole { octets } else { filled(&file, octets).await.map_err(|error| at(&path, error))? };
    Ok(Member { path, octets, content: Content::File { file, filled } })
}

/// Where the last block ends that is not zeros.
async fn filled<F: File>(file: &F, octets: u64) -> Result<u64, DiskError> {
    let mut end = octets;
    while end > 0 {
        let start = end.saturating_sub(STRETCH_OCTETS);
        let read = file.read(start, usize::try_from(end - start).expect("a stretch")).await?;
        if let Some(last) = read.iter().rposition(|octet| *octet != 0) {
            return Ok((start + block_ceiling(last + 1) as u64).min(octets));
        }
        end = start;
    }
    Ok(0)
}

/// The store file and whose it is.
async fn store<D: Disk>(disk: &D, shards: &[ShardId]) -> Result<(Vec<u8>, String), SnapshotError> {
    let content = match read_whole(disk, STORE).await {
        Ok(content) => content.to_vec(),
        Err(DiskError::NotFound) => return Err(SnapshotError::Nothing),
        Err(error) => return Err(at(STORE, error)),
    };
    if StoreFile::newer(&content).is_some() {
        return Err(SnapshotError::Newer);
    }
    let store = StoreFile::decode(&content).ok_or(SnapshotError::Nothing)?;
    let missing = (0..store.shards).map(ShardId).find(|shard| !shards.contains(shard));
    match missing {
        Some(shard) => Err(SnapshotError::MissingShard(shard)),
        None => Ok((content, store.store.0.iter().map(|octet| format!("{octet:02x}")).collect())),
    }
}

/// Opens what may be gone.
async fn open<D: Disk>(disk: &D, shard: ShardId, name: &str) -> Result<Option<D::File>, SnapshotError> {
    let path = format!("{shard}/{name}");
    match disk.open(&path).await {
        Ok(file) => Ok(Some(file)),
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(at(&path, error)),
    }
}

async fn list<D: Disk>(disk: &D, shard: ShardId) -> Result<Vec<String>, SnapshotError> {
    let directory = shard.to_string();
    disk.list(&directory).await.map_err(|error| at(&directory, error))
}

fn mail_of(name: &str) -> Option<SegmentId> {
    parse_name(name).filter(|(purpose, _)| *purpose == Purpose::Mail).map(|(_, segment)| segment)
}

fn journal_of(name: &str) -> Option<SegmentId> {
    parse_name(name).filter(|(purpose, _)| *purpose == Purpose::Journal).map(|(_, segment)| segment)
}

/// Whether a path of an archive names a member: nothing else is written where mail lives.
#[must_use]
pub fn is_member(path: &str) -> bool {
    let Some((shard, name)) = path.split_once('/') else { return path == STORE };
    let is_trace = || {
        let middle = name.strip_prefix("trace-").and_then(|rest| rest.strip_suffix(".log"));
        middle.is_some_and(|middle| middle.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-'))
    };
    shard_of(shard).is_some() && (parse_name(name).is_some() || indexed_by(name).is_some() || is_trace())
}

fn at(path: &str, error: DiskError) -> SnapshotError {
    SnapshotError::Disk { path: path.to_owned(), error }
}
