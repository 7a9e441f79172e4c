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
use storage::store::Queued;
use storage::store::{Opened, open};

/// What is wrong with an opened store, given what was promised; empty if all holds.
pub(crate) async fn check(disk: &SimDisk, opened: &Opened, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut open_units = BTreeSet::new();
    for backlog in &opened.backlogs {
        let queued: Vec<Queued> = backlog.clone().into_queued().collect();
        if !queued.windows(2).all(|pair| pair[0].entry.stamp < pair[1].entry.stamp) {
            wrong.push(format!("{} is out of order", backlog.domain));
        }
        for queued in &queued {
            open_units.extend(queued.open_units().into_iter().map(|unit| (queued.entry.stamp, unit)));
        }
    }
    let places = entries_of(opened);
    let reader = Reader::new(disk.clone(), opened.store.store, Arc::default());
    let acknowledged = world.borrow().acknowledged.clone();
    for (number, promise) in acknowledged {
        for ordinal in 0..u16::try_from(promise.recipients.len()).unwrap() {
            let unit = (promise.stamp, ordinal);
            let settled = world.borrow().settled.contains(&unit);
            let settling = world.borrow().settling.contains(&unit);
            match open_units.contains(&unit) {
                true if settled => wrong.push(format!("message {number}: settled unit {ordinal} came back")),
                false if !settling => wrong.push(format!("message {number}: unit {ordinal} is lost")),
                _ => {}
            }
        }
        let Some((shard, entry)) = places.get(&promise.stamp) else { continue };
        match read_back(&reader, *shard, entry).await {
            Ok(read) if read.recipients == promise.recipients && read.data == promise.data => {}
            Ok(_) => wrong.push(format!("message {number} was altered")),
            Err(error) => wrong.push(format!("message {number} cannot be read: {error}")),
        }
    }
    wrong.extend(check_ledgers(opened, &world.borrow()));
    wrong
}

/// A ledger counts just the promised units of the segments that are gone.
fn check_ledgers(opened: &Opened, world: &Promises) -> Vec<String> {
    let mut wrong = Vec::new();
    for (shard, ledger) in opened.shelves.iter().flat_map(Shelf::ledgers) {
        let gone = |promise: &&Rc<Promise>| promise.shard == *shard && ledger.covers(promise.place.segment);
        let promised: usize = world.acknowledged.values().filter(gone).map(|p| p.recipients.len()).sum();
        let counted: u64 = ledger.rows.iter().map(|row| row.accepted).sum();
        let ended: u64 = ledger.rows.iter().map(TallyRow::total).sum();
        if counted != promised as u64 || ended != counted {
            wrong.push(format!("ledger of {shard}: {counted} accepted, {ended} ended, promised {promised}"));
        }
    }
    wrong
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
