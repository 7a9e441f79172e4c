//! Holds what a disk has against what was promised. It knows nothing of the workloads.

use super::node::*;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use storage::format::index_file::IndexEntry;
use storage::format::tally::TallyRow;
use storage::position::{QueueId, ShardId, Stamp};
use storage::reader::Reader;
use storage::shelf::Shelf;
use storage::sim::{SimClock, SimDisk};
use storage::store::{Finding, FindingKind, Opened, Queued, open};

/// What is wrong with an opened store, given what was promised; empty if all holds.
pub(crate) async fn check(disk: &SimDisk, opened: &Opened, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut open_units = BTreeSet::new();
    let mut held_units = BTreeSet::new();
    for backlog in &opened.backlogs {
        let queued: Vec<Queued> = backlog.clone().into_queued().collect();
        if !queued.windows(2).all(|pair| pair[0].entry.stamp < pair[1].entry.stamp) {
            wrong.push(format!("{} is out of order", backlog.domain));
        }
        for queued in &queued {
            let stamp = queued.entry.stamp;
            open_units.extend(queued.open_units().into_iter().map(|unit| (stamp, unit)));
            held_units.extend(queued.held_units().map(|known| (stamp, known.fact.ordinal)));
        }
    }
    let places = entries_of(opened);
    let returned = places.keys().filter(|stamp| world.borrow().voided.contains(stamp));
    wrong.extend(returned.map(|stamp| format!("H8: {stamp:?} was refused, is void, and came back")));
    let reader = Reader::new(disk.clone(), opened.store.store, Arc::default());
    let acknowledged = world.borrow().acknowledged.clone();
    for (number, promise) in acknowledged {
        for ordinal in 0..u16::try_from(promise.recipients.len()).unwrap() {
            let unit = (promise.stamp, ordinal);
            let settled = world.borrow().settled.contains(&unit);
            let settling = world.borrow().settling.contains(&unit);
            let (open, held) = (open_units.contains(&unit), held_units.contains(&unit));
            let world = world.borrow();
            let may_be_held = world.holding.contains(&unit);
            let must_be_held = world.held.contains(&unit) && !settling;
            match () {
                () if settled && (open || held) => {
                    wrong.push(format!("message {number}: settled unit {ordinal} came back"));
                }
                () if !settling && !open && !held => {
                    wrong.push(format!("message {number}: unit {ordinal} is lost"));
                }
                () if held && !may_be_held => {
                    wrong.push(format!("message {number}: {ordinal} was never held"))
                }
                () if must_be_held && !held => wrong.push(format!("message {number}: {ordinal} is not held")),
                () => {}
            }
        }
        let Some((shard, entry)) = places.get(&promise.stamp) else { continue };
        match read_back(&reader, *shard, entry).await {
            Ok(read) if read.recipients == promise.recipients && read.data == promise.data => {}
            Ok(_) => wrong.push(format!("message {number} was altered")),
            Err(error) => wrong.push(format!("message {number} cannot be read: {error}")),
        }
    }
    wrong
}

/// Ledgers balance, and together with what is here they count each unit once.
pub(crate) fn check_accounts(opened: &Opened, world: &Promises) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut accepted = 0;
    for (shard, ledger) in opened.shelves.iter().flat_map(Shelf::ledgers) {
        let counted: u64 = ledger.rows.iter().map(|row| row.accepted).sum();
        let ended: u64 = ledger.rows.iter().map(TallyRow::total).sum();
        if ended != counted {
            wrong.push(format!("ledger of {shard}: {counted} accepted, {ended} ended"));
        }
        accepted += counted;
    }
    let promised: usize = world.acknowledged.values().map(|promise| promise.recipients.len()).sum();
    let here: u64 = opened.shelves.iter().map(Shelf::units).sum();
    // What was on its way at a crash may have come or not.
    if !(promised as u64..=world.begun_units).contains(&(accepted + here)) {
        let begun = world.begun_units;
        wrong.push(format!("{accepted} units gone, {here} here, promised {promised}, begun {begun}"));
    }
    wrong
}

/// A crash tears what was not promised, and nothing else.
pub(crate) fn is_damage(finding: &Finding) -> bool {
    !matches!(&finding.kind, FindingKind::Damaged(record) if !record.was_durable)
}

/// A message as replay would read it.
#[derive(Debug)]
pub(crate) struct ReadBack {
    pub(crate) queue_id: QueueId,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: Vec<u8>,
}

pub(crate) async fn read_back(
    reader: &Reader<SimDisk>,
    shard: ShardId,
    entry: &IndexEntry,
) -> Result<ReadBack, String> {
    let frame = reader.read_entry(shard, entry).await.map_err(|error| error.to_string())?;
    let message = frame.message().map_err(|error| error.to_string())?;
    let mut data = Vec::new();
    for chunk in &message.chunks {
        let chunk = reader.read_chunk(shard, chunk).await.map_err(|error| error.to_string())?;
        data.extend_from_slice(chunk.payload());
    }
    data.extend_from_slice(message.tail);
    let recipients = message.recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
    Ok(ReadBack { queue_id: frame.header.queue_id, recipients, data })
}

/// Entries found at start, by stamp.
pub(crate) fn entries_of(opened: &Opened) -> BTreeMap<Stamp, (ShardId, IndexEntry)> {
    let all = opened.backlogs.iter();
    all.flat_map(|backlog| {
        let queued = backlog.clone().into_queued();
        queued.map(|queued| (queued.entry.stamp, (backlog.shard, queued.entry)))
    })
    .collect()
}

/// Opens the store on `disk` with no node running.
pub(crate) fn open_on(disk: &SimDisk, shards: u16) -> Result<Opened, storage::error::OpenError> {
    let (clock, disk) = (SimClock::default(), disk.clone());
    block_on(&clock.clone(), async move { open(&disk, &clock, &store_options(shards)).await })
}

/// Opens the store on `disk` and holds it against what was promised.
pub(crate) fn check_on(disk: &SimDisk, shards: u16, world: &World) -> Vec<String> {
    let (disk, world) = (disk.clone(), Rc::clone(world));
    let opened = match open_on(&disk, shards) {
        Ok(opened) => opened,
        Err(error) => return vec![error.to_string()],
    };
    block_on(&SimClock::default(), async move { check(&disk, &opened, &world).await })
}
