//! Opening a store: identity, journals, segments; what is queued, what may be reclaimed, where stamps go on.
//!
//! Runs once, before any shard accepts. Everything is read through the disk trait, so the simulator crashes
//! and opens the very same code. On return the incarnation and a raised stamp ceiling are durable, so no queue
//! id and no stamp of an earlier life can come again (H1).

mod load;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{DiskError, OpenError};
use crate::facts::Facts;
use crate::format::index_file::IndexEntry;
use crate::format::journal_entry::{Fact, Outcome, Tally};
use crate::format::segment_header::Purpose;
use crate::format::store_file::StoreFile;
use crate::frontier::{CEILING_STEP, Frontier};
use crate::identity;
use crate::log::{Log, LogOptions, Progress};
use crate::position::{SHARDS_MAX, SegmentId, ShardId, Stamp};
use crate::segment::parse_name;
use crate::segment::recover::DamagedRecord;
use crate::shelf::Shelf;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How to open.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Shards that will run; directories of more of them are read and reclaimed all the same.
    pub shards: u16,
    /// Octets of a journal segment.
    pub journal_octets: u64,
}

/// A message's units in one domain, as they are after all facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queued {
    /// Where and what.
    pub entry: IndexEntry,
    /// Facts about units of it, when there are any: settled ones and held ones.
    pub facts: Vec<Fact>,
}

/// All that one domain has queued in one shard directory, in stamp order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// The domain.
    pub domain: String,
    /// The directory.
    pub shard: ShardId,
    /// Its entries with an unsettled unit.
    pub queued: Vec<Queued>,
}

/// Something that an operator should read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub kind: FindingKind,
}

/// See [`Finding`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FindingKind {
    /// A record is lost.
    Damaged(DamagedRecord),
    /// A segment whose header is lost, and with it everything in it (row E).
    Unreadable,
    /// A segment of another store (row F).
    Foreign,
    /// A journal that cannot be read; facts in it are unknown, so mail may be delivered again.
    Journal,
}

/// A store that is open.
#[derive(Debug)]
pub struct Opened {
    /// Its identity, as it is on disk now.
    pub store: StoreFile,
    /// Stamps and floors.
    pub frontier: Arc<Frontier>,
    /// What each running shard keeps on disk, with orphaned directories given to `directory % shards`.
    pub shelves: Vec<Shelf>,
    /// The first segment numbers of each running shard: mail, journal.
    pub first_segments: Vec<(SegmentId, SegmentId)>,
    /// What is queued.
    pub backlogs: Vec<Backlog>,
    /// Tallies of unlinked segments.
    pub tallies: Vec<Tally>,
    /// What an operator should read.
    pub findings: Vec<Finding>,
    /// Messages queued.
    pub messages: u64,
}

/// Opens the store on `disk`, or makes a new one.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: StoreOptions,
) -> Result<Opened, OpenError> {
    if options.shards == 0 || options.shards > SHARDS_MAX {
        return Err(OpenError::TooManyShards(options.shards));
    }
    let found = directories(disk).await?;
    let mut store = match identity::load(disk).await? {
        Some(store) => store,
        None if found.is_empty() => identity::fresh()?,
        None => return Err(OpenError::Identity("store".to_owned())),
    };
    for shard in (0..store.shards).map(ShardId) {
        if !found.contains(&shard) {
            return Err(OpenError::MissingShard(shard));
        }
    }
    let mut loaded = load::load(disk, &store, &found, options.shards).await?;
    let next = Stamp(store.stamp_ceiling.0.max(loaded.last_stamp.0 + 1));
    let fresh: Vec<ShardId> =
        (0..options.shards).map(ShardId).filter(|shard| !found.contains(shard)).collect();
    store.sequence += 1;
    store.incarnation += 1;
    store.stamp_ceiling = Stamp(next.0 + CEILING_STEP);
    identity::save(disk, &store).await.map_err(|error| at("store", error))?;
    if !fresh.is_empty() {
        // The directories first: a store that knows a shard refuses to start without it (H2).
        for shard in &fresh {
            disk.create_directory(&shard.to_string()).await.map_err(|error| at(&shard.to_string(), error))?;
        }
        disk.sync_directory("").await.map_err(|error| at("", error))?;
        store.sequence += 1;
        store.shards = store.shards.max(options.shards);
        identity::save(disk, &store).await.map_err(|error| at("store", error))?;
    }
    let frontier = Arc::new(Frontier::new(options.shards, next, store.stamp_ceiling));
    checkpoint(disk, clock, options, &store, &frontier, &mut loaded).await?;
    let first_segments = (0..options.shards).map(|shard| loaded.next_segments(ShardId(shard))).collect();
    let messages = loaded.backlogs.iter().map(|backlog| backlog.queued.len() as u64).sum();
    Ok(Opened {
        store,
        frontier,
        shelves: loaded.shelves,
        first_segments,
        backlogs: loaded.backlogs,
        tallies: loaded.facts.tallies().cloned().collect(),
        findings: loaded.findings,
        messages,
    })
}

/// Writes the facts that still matter into one new journal, then removes the old ones: a journal does not
/// outlive the segments that it speaks of. A crash on the way leaves both, which is the same union (H10).
async fn checkpoint<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: StoreOptions,
    store: &StoreFile,
    frontier: &Arc<Frontier>,
    loaded: &mut load::Loaded,
) -> Result<(), OpenError> {
    if loaded.journals.is_empty() {
        return Ok(());
    }
    let shard = ShardId(0);
    let options = LogOptions {
        purpose: Purpose::Journal,
        shard,
        store: store.store,
        segment_octets: options.journal_octets,
        first_segment: loaded.next_segments(shard).1,
        frontier: Arc::clone(frontier),
    };
    let log = match Log::open(disk.clone(), clock.clone(), options).await {
        Ok(log) => log,
        // The old journals say all of it; a later start makes one of them.
        Err(DiskError::NoSpace) => return Ok(()),
        Err(error) => return Err(at("journal", error)),
    };
    let written = futures_lite::future::zip(write_facts(&log, loaded), drive(&log)).await;
    let (Ok(()), Ok(())) = written else {
        let error =
            DiskError::Io { operation: "checkpoint", reason: "the journal cannot be written".to_owned() };
        return Err(at("journal", error));
    };
    loaded.journals_end(shard, log.active_segment());
    for (shard, segment) in core::mem::take(&mut loaded.journals) {
        let path = crate::segment::path(shard, Purpose::Journal, segment);
        disk.remove(&path).await.map_err(|error| at(&path, error))?;
    }
    for shard in directories(disk).await? {
        disk.sync_directory(&shard.to_string()).await.map_err(|error| at(&shard.to_string(), error))?;
    }
    Ok(())
}

async fn write_facts<D: Disk, C: Clock>(log: &Log<D, C>, loaded: &load::Loaded) -> Result<(), ()> {
    const FACTS_A_FRAME: usize = 4 * 1024;
    let result = async {
        // Tickets are looked at in the end, so that the commits are as few as they can be.
        let mut tickets = Vec::new();
        for facts in loaded.kept.chunks(FACTS_A_FRAME) {
            tickets.push(log.append_facts(facts).await?);
        }
        for tally in loaded.facts.tallies() {
            tickets.push(log.append_tally(tally).await?);
        }
        for ticket in tickets {
            ticket.await?;
        }
        Ok::<(), crate::error::AppendError>(())
    }
    .await;
    log.close();
    result.map_err(|_| ())
}

/// Drives the commits of a log until it is closed.
async fn drive<D: Disk, C: Clock>(log: &Log<D, C>) -> Result<(), ()> {
    loop {
        match log.commit().await {
            Progress::Committed(commit) => log.release(commit),
            Progress::Rolled => {}
            Progress::Closed => return Ok(()),
            Progress::Latched(..) | Progress::Stopped(..) => log.close(),
        }
    }
}

/// The shard directories there are.
async fn directories<D: Disk>(disk: &D) -> Result<Vec<ShardId>, OpenError> {
    let names = disk.list("").await.map_err(|error| at("", error))?;
    let mut shards: Vec<ShardId> = names.iter().filter_map(|name| shard_of(name)).collect();
    shards.sort_unstable();
    Ok(shards)
}

/// The shard that a directory's name tells.
#[must_use]
pub fn shard_of(name: &str) -> Option<ShardId> {
    let number: u16 = name.strip_prefix("shard-")?.parse().ok()?;
    (ShardId(number).to_string() == name && number < SHARDS_MAX).then_some(ShardId(number))
}

fn at(path: &str, error: DiskError) -> OpenError {
    OpenError::Disk { path: path.to_owned(), error }
}

/// Numbers in use per shard and purpose.
type Numbers = BTreeMap<(ShardId, Purpose), SegmentId>;

/// Notes the numbers that file names use.
fn note_numbers(numbers: &mut Numbers, shard: ShardId, names: &[String]) {
    for (purpose, segment) in names.iter().filter_map(|name| parse_name(name)) {
        let highest = numbers.entry((shard, purpose)).or_insert(segment);
        *highest = (*highest).max(segment);
    }
}

impl Queued {
    /// Ordinals that nobody has decided about.
    #[must_use]
    pub fn open_units(&self) -> Vec<u16> {
        let range = self.entry.first..self.entry.first + self.entry.count;
        range.filter(|ordinal| !self.facts.iter().any(|fact| fact.ordinal == *ordinal)).collect()
    }

    /// Ordinals that wait for the operator.
    #[must_use]
    pub fn held_units(&self) -> Vec<u16> {
        let held = self.facts.iter().filter(|fact| fact.outcome == Outcome::Held);
        held.map(|fact| fact.ordinal).collect()
    }
}

/// Whether facts settle every unit of an entry.
fn all_settled(facts: &Facts, entry: &IndexEntry) -> bool {
    let range = entry.first..entry.first + entry.count;
    let settled =
        facts.of(entry.stamp).filter(|fact| fact.outcome.is_final() && range.contains(&fact.ordinal));
    settled.count() == usize::from(entry.count)
}
