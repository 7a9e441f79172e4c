//! H41: what a machine in a primary's place took, the node has a copy of, for a day from then. Judged by what the outside saw, and by the records
//! that a start finds kept on the disk.
//!
//! The node owes a copy of what another machine took in a domain if it could know both: the real primary had taken mail of the domain before, and mail of
//! it waited while nobody was there, so that there was an outage. What the real one has, too, is nobody's loss.

use super::View;
use crate::faults::START_MS;
use crate::history::{Taken, Told, Unit, domain_of, number_of};
use crate::plan::Rescue;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::format::index_file::IndexEntry;
use storage::position::{ShardId, UnixMillis};
use storage::reader::Reader;
use storage::segment::index_of;
use storage::shelf::Shelf;
use storage::sim::{Executor, SimClock, SimDisk};
use storage::store::{self, StoreOptions};
use stratamx::limits::STRANGER_AGE;

/// Units whose records a start finds kept, and can read; until when, in seconds since 1970.
type Kept = BTreeMap<Unit, u32>;

/// So long before the outage a domain's primary is known, at the latest.
const KNOWN_AFTER: Duration = Duration::from_secs(60);
/// A message that waited so long while nobody was there was tried.
const TRIED_AFTER: Duration = Duration::from_secs(60);

/// What is wrong, and how many units were judged.
pub(super) fn judge(view: &View<'_>, rescue: &Rescue, disk: &SimDisk) -> (Vec<String>, usize) {
    let kept = match kept(disk, view.plan.journal_octets, view.history.began.get()) {
        Ok(kept) => kept,
        Err(error) => return (vec![format!("H41: the copies cannot be read: {error}")], 0),
    };
    let mut wrong = Vec::new();
    let owed = owed(view, rescue);
    for (unit, at) in &owed {
        let (number, mailbox) = unit;
        let until = at.saturating_add(STRANGER_AGE);
        if until <= view.history.began.get() {
            continue;
        }
        match kept.get(unit) {
            None => wrong.push(format!(
                "H41: another machine took {number} to {mailbox} at {at:?}, and there is no copy"
            )),
            Some(until_s) if u64::from(*until_s) < START_MS / 1000 + until.as_secs() => {
                wrong.push(format!(
                    "H41: the copy of {number} to {mailbox}, taken at {at:?}, is kept until {until_s} only"
                ));
            }
            Some(_) => {}
        }
    }
    for sent in view.sent.values().filter(|sent| sent.told == Told::Primarys) {
        let of_it = |taken: &&Taken| taken.number == sent.number;
        if view.taken.iter().filter(of_it).any(|taken| taken.by_another)
            && is_owed(view, rescue, &sent.recipients)
        {
            wrong.push(format!(
                "H41: {} was carried through to another machine: nobody has a copy",
                sent.number
            ));
        }
    }
    (wrong, owed.len())
}

/// Units that are owed a copy, and when they were taken.
fn owed(view: &View<'_>, rescue: &Rescue) -> BTreeMap<Unit, Duration> {
    let mut owed = BTreeMap::new();
    let mut real = BTreeSet::new();
    for taken in view.taken {
        for mailbox in &taken.recipients {
            let unit = (taken.number, mailbox.clone());
            if !taken.by_another {
                real.insert(unit);
                continue;
            }
            // Of one whose outcome the node does not know another try will tell.
            if let Some(answered) = taken.answered.filter(|_| !super::is_unknown(view, taken))
                && is_owed(view, rescue, core::slice::from_ref(mailbox))
            {
                owed.entry(unit).or_insert(answered);
            }
        }
    }
    owed.retain(|unit, _| !real.contains(unit));
    owed
}

/// Whether the node knew the primary of their domain, and saw that it was gone.
fn is_owed(view: &View<'_>, rescue: &Rescue, mailboxes: &[String]) -> bool {
    let is_of = |others: &[String]| {
        let domains: BTreeSet<&str> = mailboxes.iter().map(|mailbox| domain_of(mailbox)).collect();
        others.iter().any(|other| domains.contains(domain_of(other)))
    };
    let knew = view.taken.iter().any(|taken| {
        let is_early = taken.answered.is_some_and(|at| at + KNOWN_AFTER <= rescue.gone_from);
        is_early && !taken.by_another && is_of(&taken.recipients)
    });
    let offered = view.history.offered.borrow();
    let waited = view.ours().filter(|sent| is_of(&sent.recipients)).any(|sent| {
        let is_in_time =
            sent.told_time >= rescue.gone_from && sent.told_time + TRIED_AFTER <= rescue.another_from;
        let own = sent.recipients.iter().filter(|mailbox| is_of(core::slice::from_ref(mailbox)));
        let mut offers = own.filter_map(|mailbox| offered.get(&(sent.number, mailbox.clone())));
        is_in_time && offers.all(|(_, time)| *time >= rescue.another_from)
    });
    knew && waited
}

/// What a start finds on this disk, which goes on without it.
fn kept(disk: &SimDisk, journal_octets: u64, now: Duration) -> Result<Kept, String> {
    let (disk, clock) = (disk.fork(), SimClock::default());
    let elapsed = u64::try_from(now.as_millis()).expect("small");
    clock.set_wall(UnixMillis(START_MS + elapsed));
    let mut executor = Executor::new(1, clock.clone());
    let found = async move {
        let options = StoreOptions { shards: 1, journal_octets, ..StoreOptions::default() };
        let opened = store::open(&disk, &clock, &options).await.map_err(|error| error.to_string())?;
        let reader = Reader::new(disk.clone(), opened.store.store, Arc::default());
        let mut kept = Kept::new();
        for shelf in &opened.shelves {
            of_shelf(shelf, &disk, &reader, opened.store.store, &mut kept).await?;
        }
        Ok(kept)
    };
    executor.run(100_000_000, found).ok_or("it does not end")?
}

async fn of_shelf(
    shelf: &Shelf,
    disk: &SimDisk,
    reader: &Reader<SimDisk>,
    store: storage::position::StoreId,
    kept: &mut Kept,
) -> Result<(), String> {
    for (directory, segment) in shelf.kept_segments() {
        let units = shelf.kept_units(directory, segment);
        let index = index_of(disk, store, &Arc::default(), directory, segment).await;
        for entry in index.map_err(|error| error.to_string())?.domains.iter().flat_map(|(_, entries)| entries)
        {
            let is_kept = |ordinal: &u16| units.of(entry.unit_base + u32::from(*ordinal));
            let ordinals: Vec<(u16, u32)> = (entry.first..entry.first + entry.count)
                .filter_map(|ordinal| is_kept(&ordinal).map(|run| (ordinal, run.until_s)))
                .collect();
            if !ordinals.is_empty() {
                of_record(reader, directory, entry, &ordinals, kept).await?;
            }
        }
    }
    Ok(())
}

/// All of a record that is kept can be read, its chunks, too.
async fn of_record(
    reader: &Reader<SimDisk>,
    directory: ShardId,
    entry: &IndexEntry,
    ordinals: &[(u16, u32)],
    kept: &mut Kept,
) -> Result<(), String> {
    let frame = reader.read_entry(directory, entry).await.map_err(|error| error.to_string())?;
    let message = frame.message().map_err(|error| error.to_string())?;
    for chunk in &message.chunks {
        reader.read_chunk(directory, chunk).await.map_err(|error| error.to_string())?;
    }
    // Notices have no sender.
    let Some(number) = number_of(message.reverse_path) else { return Ok(()) };
    for (ordinal, until_s) in ordinals {
        let unit = (number, message.recipients[usize::from(*ordinal)].to_owned());
        let known = kept.entry(unit).or_insert(0);
        *known = (*known).max(*until_s);
    }
    Ok(())
}
