//! Opening a store: identity, journals, segments; what is queued, what may be reclaimed, where stamps go on.
//!
//! Runs once, before any shard accepts. Everything is read through the disk trait, so the simulator crashes
//! and opens the very same code. On return the incarnation and a raised stamp ceiling are durable, so no queue
//! id and no stamp of an earlier life can come again (H1).
//!
//! A store opens on a full disk too: empty journals go before the checkpoint needs room, or where it finds none, an index that cannot be written
//! is done without, and a log that has no room for a segment starts without one.

mod backlog;
mod behind;
mod gather;
mod load;
mod loaded;

pub use backlog::{Backlog, Decided, Queued};

use crate::checkpoint;
use crate::clock::Clock;
use crate::crypt::Keys;
use crate::disk::Disk;
use crate::error::{AppendError, DiskError, OpenError};
use crate::format::checkpoint::DirectoryRow;
use crate::format::segment_header::Purpose;
use crate::format::store_file::StoreFile;
use crate::format::tally::{Tally, TallyRow};
use crate::frontier::{CEILING_STEP, Frontier, number_ceiling};
use crate::identity;
use crate::log::{Log, LogOptions, Unnamed};
use crate::position::{SHARDS_MAX, SegmentId, ShardId, Stamp};
use crate::segment::recover::DamagedRecord;
use crate::shelf::Shelf;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How to open.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Shards that will run; directories of more of them are read and reclaimed all the same.
    pub shards: u16,
    /// Octets of a journal segment.
    pub journal_octets: u64,
    /// The keys of mail at rest; none: new mail is not encrypted.
    pub keys: Arc<Keys>,
    /// Shard directories that may be missing (H2): mail above the last stamp known of them is held back.
    pub without: Vec<ShardId>,
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
    /// A segment of another store (row F).
    Foreign,
    /// A journal that cannot be read, or is not here; facts in it are unknown, so mail may be delivered again.
    Journal,
    /// A segment that another one was made behind is not there, and no tally that can be read says that it was unlinked. Where a
    /// journal is lost too, the tally may have stood there.
    Missing,
    /// A segment whose header is lost, and with it everything in it (row E); or that the device does not read.
    Unreadable,
}

/// Where a chain of segments goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The number of the first segment to make.
    pub first: SegmentId,
    /// The last one that was made.
    pub previous: Option<SegmentId>,
    /// Those that were made and that no header names, now or once others are gone.
    pub unnamed: Unnamed,
}

/// Where a shard goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chains {
    /// The directory that it writes into: its own, or one in place of its own that is missing (H2).
    pub directory: ShardId,
    /// Mail.
    pub mail: Chain,
    /// The journal.
    pub journal: Chain,
    /// The first journal of this life: the next checkpoint removes those from here on.
    pub oldest_journal: SegmentId,
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
    /// Where each running shard goes on.
    pub chains: Vec<Chains>,
    /// What is queued.
    pub backlogs: Vec<Backlog>,
    /// Units of each domain since the store was made, accepted and ended, as far as records, facts and tallies can be read.
    pub totals: Vec<TallyRow>,
    /// What an operator should read.
    pub findings: Vec<Finding>,
    /// Messages queued.
    pub messages: u64,
    /// Messages behind the last octet that a later commit knew to be durable: what was promised last, and what a crash left of a
    /// batch that was not promised yet (H8). They are queued like all others.
    pub recovered_unacknowledged: u64,
    /// A shard or a segment could not be read: what journals say about it must stay, so no checkpoint is made.
    pub incomplete: bool,
    /// What the next checkpoint says of each directory, but for those that a running shard writes into: the highest stamp that it
    /// holds or was known to hold, and its first journal that is not restated by then.
    pub directories: Vec<DirectoryRow>,
}

/// Opens the store on `disk`, or makes a new one.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &StoreOptions,
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
    let missing: Vec<ShardId> =
        (0..store.shards).map(ShardId).filter(|shard| !found.contains(shard)).collect();
    if let Some(shard) = missing.iter().find(|shard| !options.without.contains(shard)) {
        return Err(OpenError::MissingShard(*shard));
    }
    let mut loaded = load::load(disk, &store, &found, missing.is_empty(), options).await?;
    loaded.incomplete |= !missing.is_empty();
    if loaded.numbers_unknown || !missing.is_empty() {
        loaded.go_on_from(numbers_from(&store, loaded.last_number()));
    }
    store.number_ceiling = number_ceiling(store.number_ceiling, loaded.last_number());
    let next = Stamp(store.stamp_ceiling.0.max(loaded.last_stamp.0 + 1));
    let directories = writers(options.shards, &found, &missing, store.shards);
    save_identity(disk, &directories, &found, next, &mut store).await?;
    let frontier = Arc::new(Frontier::new(options.shards, next, store.stamp_ceiling));
    frontier.limit_numbers(store.number_ceiling);
    for shard in &missing {
        frontier.hold_back(loaded.last_stamp_of(*shard));
    }
    let rows = loaded.directory_rows(&directories);
    let oldest = checkpoint(disk, clock, options, (&store, &frontier, &rows), &mut loaded).await?;
    let chains = directories.iter().map(|directory| loaded.chains(*directory, oldest)).collect();
    let messages = loaded.backlogs.iter().map(|backlog| backlog.messages() as u64).sum();
    Ok(Opened {
        store,
        frontier,
        shelves: loaded.shelves,
        chains,
        backlogs: loaded.backlogs,
        totals: loaded.totals,
        findings: loaded.findings,
        messages,
        recovered_unacknowledged: loaded.recovered_unacknowledged,
        incomplete: loaded.incomplete,
        directories: rows,
    })
}

/// Where numbers go on that cannot be known from what is readable; `last` is the highest that is known. Where a program wrote last that
/// knew no ceiling, at the next multiple of what it can have used beyond that: at 64 MiB each a PiB.
const fn numbers_from(store: &StoreFile, last: SegmentId) -> SegmentId {
    const NEVER_USED: u32 = 1 << 24;
    if store.number_ceiling.0 == 0 {
        SegmentId((last.0 / NEVER_USED + 1).saturating_mul(NEVER_USED))
    } else {
        store.number_ceiling
    }
}

/// The directory that each running shard writes into: its own; or, where that is missing, one whose number leaves the same
/// rest, so that the same shard keeps it. A missing directory is not made anew: its disk may be mounted over it.
fn writers(shards: u16, found: &[ShardId], missing: &[ShardId], known: u16) -> Vec<ShardId> {
    let stand_in = |shard: u16| {
        let same = |number: &u16| number % shards == shard;
        let there = found.iter().map(|directory| directory.0).filter(|number| *number >= shards);
        let fresh = known.max(shards)..;
        ShardId(there.clone().find(same).or_else(|| fresh.clone().find(same)).unwrap_or(shard))
    };
    let writer = |shard| if missing.contains(&ShardId(shard)) { stand_in(shard) } else { ShardId(shard) };
    (0..shards).map(writer).collect()
}

/// Raises incarnation and ceiling, and makes the directories that are new.
async fn save_identity<D: Disk>(
    disk: &D,
    writers: &[ShardId],
    found: &[ShardId],
    next: Stamp,
    store: &mut StoreFile,
) -> Result<(), OpenError> {
    store.sequence += 1;
    store.incarnation += 1;
    store.stamp_ceiling = Stamp(next.0 + CEILING_STEP);
    identity::save(disk, store).await.map_err(|error| at("store", error))?;
    let known = writers.iter().map(|directory| directory.0 + 1).max().unwrap_or(0).max(store.shards);
    let fresh = (store.shards..known).map(ShardId).filter(|shard| !found.contains(shard));
    let fresh: Vec<ShardId> = fresh.collect();
    if fresh.is_empty() && known == store.shards {
        return Ok(());
    }
    // The directories first: a store that knows a shard refuses to start without it (H2).
    for shard in &fresh {
        disk.create_directory(&shard.to_string()).await.map_err(|error| at(&shard.to_string(), error))?;
    }
    disk.sync_directory("").await.map_err(|error| at("", error))?;
    store.sequence += 1;
    store.shards = known;
    identity::save(disk, store).await.map_err(|error| at("store", error))
}

/// Restates what the journals said in one new journal of the first directory, then removes the old ones: a journal
/// does not outlive the segments that it speaks of. Returns the first journal of that.
async fn checkpoint<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &StoreOptions,
    (store, frontier, rows): (&StoreFile, &Arc<Frontier>, &[DirectoryRow]),
    loaded: &mut loaded::Loaded,
) -> Result<Option<(ShardId, SegmentId)>, OpenError> {
    let needed = !loaded.incomplete || !loaded.cut_off.is_empty();
    let Some(shard) = loaded.first_directory().filter(|_| needed) else { return Ok(None) };
    if !loaded.incomplete {
        remove_journals(disk, core::mem::take(&mut loaded.empty_journals)).await?;
    }
    let first = loaded.chains(shard, None).journal.first;
    let mut written = write_checkpoint(disk, clock, options, (store, frontier, rows), shard, loaded).await?;
    if written == Err(DiskError::NoSpace) && !loaded.incomplete && !loaded.kept_journals.is_empty() {
        // A finding that is none, should a crash follow now, costs less than a disk that stays full.
        let kept = core::mem::take(&mut loaded.kept_journals);
        loaded.journals.retain(|journal| !kept.contains(journal));
        remove_journals(disk, kept).await?;
        written = write_checkpoint(disk, clock, options, (store, frontier, rows), shard, loaded).await?;
    }
    for (shard, segment) in core::mem::take(&mut loaded.cut_off) {
        let path = crate::segment::path(shard, Purpose::Mail, segment);
        crate::segment::remove(disk, shard, segment).await.map_err(|error| at(&path, error))?;
    }
    match written {
        Ok(()) if loaded.incomplete => return Ok(None),
        Ok(()) => {}
        Err(DiskError::NoSpace) => return Ok(Some((shard, first))),
        Err(error) => return Err(at("journal", error)),
    }
    let restated = core::mem::take(&mut loaded.journals);
    for (shard, journal) in &restated {
        loaded.note_gone(*shard, Purpose::Journal, *journal);
    }
    remove_journals(disk, restated).await?;
    Ok(Some((shard, first)))
}

/// Writes it into a new journal of `shard`. Where that stopped nothing is lost: the old journals say all of it, and a later start
/// makes one of them.
async fn write_checkpoint<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &StoreOptions,
    (store, frontier, rows): (&StoreFile, &Arc<Frontier>, &[DirectoryRow]),
    shard: ShardId,
    loaded: &mut loaded::Loaded,
) -> Result<Result<(), DiskError>, OpenError> {
    let chain = loaded.chains(shard, None).journal;
    // Spent, whatever comes of it.
    loaded.note_used(shard, Purpose::Journal, chain.first);
    let log_options = LogOptions {
        purpose: Purpose::Journal,
        shard,
        store: store.store,
        segment_octets: options.journal_octets,
        reserve_octets: 0,
        first_segment: chain.first,
        previous: chain.previous,
        unnamed: chain.unnamed,
        frontier: Arc::clone(frontier),
        keys: Arc::clone(&options.keys),
    };
    let log =
        Log::open(disk.clone(), clock.clone(), log_options).await.map_err(|error| at("journal", error))?;
    let written = futures_lite::future::zip(restate(&log, frontier, rows, loaded), log.drive()).await;
    if let Some(last) = log.active_segment() {
        loaded.journals_end(shard, last, &log.unnamed());
    }
    Ok(match written {
        // A log that starts without a segment refuses, and its commit task has nothing to do.
        (Err(AppendError::NoSpace), _) => Err(DiskError::NoSpace),
        (Err(error), Ok(())) => Err(DiskError::Io { operation: "checkpoint", reason: error.to_string() }),
        (_, driven) => driven,
    })
}

async fn remove_journals<D: Disk>(disk: &D, journals: Vec<(ShardId, SegmentId)>) -> Result<(), OpenError> {
    let shards: BTreeSet<ShardId> = journals.iter().map(|(shard, _)| *shard).collect();
    for shard in shards {
        // A process that was killed may have removed others: their order must hold through a power cut too.
        let directory = shard.to_string();
        disk.sync_directory(&directory).await.map_err(|error| at(&directory, error))?;
    }
    for (shard, segment) in journals {
        let removed = checkpoint::remove_journals(disk, shard, segment..=segment).await;
        removed.map_err(|error| at(&crate::segment::path(shard, Purpose::Journal, segment), error))?;
    }
    Ok(())
}

async fn restate<D: Disk, C: Clock>(
    log: &Log<D, C>,
    frontier: &Frontier,
    rows: &[DirectoryRow],
    loaded: &loaded::Loaded,
) -> Result<(), AppendError> {
    let result = async {
        for (shard, segment) in &loaded.cut_off {
            let tally = Tally { shard: *shard, segment: *segment, rows: Vec::new() };
            log.append_tally(&tally).await?.await?;
        }
        if loaded.incomplete {
            return Ok(());
        }
        let sequence = frontier.sequence()?;
        let mut queued = backlog::restated(&loaded.backlogs);
        for shelf in &loaded.shelves {
            queued.kept = shelf.kept();
            checkpoint::restate(log, sequence, &shelf.outcomes(), shelf.ledgers(), &queued).await?;
            queued = checkpoint::Queued::default();
        }
        checkpoint::complete(log, sequence, rows.to_vec()).await
    }
    .await;
    log.close();
    result
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::StoreId;

    #[test]
    fn h1_numbers_go_on_above_all_that_is_known_also_where_a_program_without_a_ceiling_wrote() {
        let store = |ceiling| StoreFile {
            sequence: 1,
            store: StoreId([1; 16]),
            incarnation: 1,
            stamp_ceiling: Stamp(1),
            number_ceiling: SegmentId(ceiling),
            shards: 1,
        };
        for (ceiling, last, from) in [
            (77, 5, 77),
            (0, 5, 1 << 24),
            (0, 1 << 24, 2 << 24),
            (0, (3 << 24) + 5, 4 << 24),
            (0, u32::MAX - 1, u32::MAX),
        ] {
            assert_eq!(numbers_from(&store(ceiling), SegmentId(last)), SegmentId(from), "{ceiling} {last}");
        }
    }
}
