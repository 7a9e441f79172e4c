//! A small storage node on the simulated machine: shards with a mail log and a journal, writers, and a memory
//! of what was promised, which outlives its crashes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::message::{ChunkReference, DataFacts, Envelope, Protocol};
use storage::format::segment_header::Purpose;
use storage::log::{Chore, Log, LogOptions, Message, Progress};
use storage::position::{QueueId, ShardId, Stamp, UnixMillis};
use storage::reader::Reader;
use storage::sim::executor::Spawner;
use storage::sim::{Executor, Random, SimClock, SimDisk};
use storage::store::{Opened, StoreOptions, open};

pub(crate) const SEGMENT_OCTETS: u64 = 256 * 1024;
pub(crate) const DISK_OCTETS: u64 = 512 << 20;
pub(crate) const DOMAINS: [&str; 3] = ["one.test", "two.test", "three.test"];

pub(crate) type SimLog = Log<SimDisk, SimClock>;

/// What the world outside remembers.
#[derive(Default)]
pub(crate) struct Promises {
    pub(crate) next_number: u64,
    /// Acknowledged messages: number -> what was promised.
    pub(crate) acknowledged: BTreeMap<u64, Promise>,
    /// Settlements that were acknowledged.
    pub(crate) settled: BTreeSet<(Stamp, u16)>,
    /// Settlements that were begun: after a crash they may hold or not.
    pub(crate) settling: BTreeSet<(Stamp, u16)>,
    /// Stamps of acknowledged messages, to see that none returns.
    pub(crate) stamps: BTreeSet<Stamp>,
    pub(crate) largest_acknowledged: Stamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) stamp: Stamp,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: Vec<u8>,
}

pub(crate) type World = Rc<RefCell<Promises>>;

/// One life of the node.
pub(crate) struct Node {
    pub(crate) logs: Vec<(Rc<SimLog>, Rc<SimLog>)>,
    pub(crate) opened: Opened,
    pub(crate) clock: SimClock,
}

pub(crate) fn options(purpose: Purpose, shard: ShardId, opened: &Opened) -> LogOptions {
    let (mail, journal) = opened.first_segments[shard.0 as usize];
    LogOptions {
        purpose,
        shard,
        store: opened.store.store,
        segment_octets: SEGMENT_OCTETS,
        first_segment: if purpose == Purpose::Mail { mail } else { journal },
        frontier: Arc::clone(&opened.frontier),
    }
}

impl Node {
    pub(crate) async fn start(disk: &SimDisk, clock: &SimClock, shards: u16, spawner: &Spawner) -> Self {
        let opened = open(disk, clock, StoreOptions { shards, journal_octets: SEGMENT_OCTETS }).await;
        let opened = opened.expect("a store that crashed opens");
        let mut logs = Vec::new();
        for shard in (0..shards).map(ShardId) {
            let mut pair = Vec::new();
            for purpose in [Purpose::Mail, Purpose::Journal] {
                let options = options(purpose, shard, &opened);
                let log = Log::open(disk.clone(), clock.clone(), options).await.expect("a log opens");
                let log = Rc::new(log);
                spawner.spawn(drive(Rc::clone(&log), clock.clone()));
                spawner.spawn(housekeep(Rc::clone(&log), clock.clone()));
                pair.push(log);
            }
            let journal = pair.pop().unwrap();
            logs.push((pair.pop().unwrap(), journal));
        }
        Self { logs, opened, clock: clock.clone() }
    }
}

pub(crate) async fn drive(log: Rc<SimLog>, clock: SimClock) {
    loop {
        match log.commit().await {
            Progress::Committed(commit) => log.release(commit),
            Progress::Rolled | Progress::Latched(..) => {}
            Progress::Stopped(..) => clock.sleep(std::time::Duration::from_secs(1)).await,
            Progress::Closed => return,
        }
    }
}

pub(crate) async fn housekeep(log: Rc<SimLog>, clock: SimClock) {
    loop {
        match log.housekeep().await {
            Chore::Closed => return,
            Chore::Failed(_) => clock.sleep(std::time::Duration::from_secs(1)).await,
            Chore::Indexed(_) => {}
        }
    }
}

/// Octets that message `number` must have.
pub(crate) fn data_of(number: u64, octets: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..octets).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// Appends one message; `true` if it was promised.
pub(crate) async fn send(
    log: &SimLog,
    world: &World,
    recipients: &[&str],
    octets: usize,
    chunks: usize,
) -> bool {
    let number = {
        let mut world = world.borrow_mut();
        world.next_number += 1;
        world.next_number
    };
    let before = world.borrow().largest_acknowledged;
    let data = data_of(number, octets);
    let queue_id = QueueId(number);
    let mut references: Vec<ChunkReference> = Vec::new();
    let chunk_octets = if chunks == 0 { 0 } else { octets / (chunks + 1) };
    for chunk in data.chunks(chunk_octets.max(1)).take(chunks) {
        match log.append_chunk(queue_id, chunk).await {
            Ok(reference) => references.push(reference),
            Err(_) => return false,
        }
    }
    let facts =
        DataFacts { stored_octets: octets as u64, unstuffed_octets: octets as u64, ..DataFacts::default() };
    let envelope = Envelope {
        reverse_path: "sender@example.org",
        recipients,
        client: IpAddr::from([127, 0, 0, 1]),
        helo: "client.example",
        protocol: Protocol::Esmtp,
        body_8bit: false,
    };
    let message = Message {
        queue_id,
        received: UnixMillis(1_000),
        envelope: &envelope,
        data: &facts,
        chunks: &references,
        trace: b"Received: by test\r\n",
        tail: &data[chunk_octets * chunks..],
    };
    let Ok(receipt) = log.append_message(&message).await else { return false };
    let stamp = receipt.stamp;
    if receipt.ticket.await.is_err() {
        return false;
    }
    // P3: everything that was acknowledged before this one began has a smaller stamp.
    assert!(stamp > before, "stamp {stamp:?} is not above {before:?}, acknowledged before it began");
    let recipients = recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
    let mut world = world.borrow_mut();
    assert!(world.stamps.insert(stamp), "H1: stamp {stamp:?} was given twice");
    world.largest_acknowledged = world.largest_acknowledged.max(stamp);
    world.acknowledged.insert(number, Promise { stamp, recipients, data });
    true
}

/// Journals that a unit was delivered.
pub(crate) async fn settle(journal: &SimLog, world: &World, stamp: Stamp, ordinal: u16) {
    world.borrow_mut().settling.insert((stamp, ordinal));
    let fact = Fact { stamp, ordinal, outcome: Outcome::Delivered, code: 250 };
    let Ok(ticket) = journal.append_facts(&[fact]).await else { return };
    if ticket.await.is_ok() {
        world.borrow_mut().settled.insert((stamp, ordinal));
    }
}

/// What is wrong with an opened store, given what was promised; empty if all holds.
pub(crate) async fn check(disk: &SimDisk, opened: &Opened, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut open_units = BTreeSet::new();
    let mut places = BTreeMap::new();
    for backlog in &opened.backlogs {
        for pair in backlog.queued.windows(2) {
            if pair[0].entry.stamp >= pair[1].entry.stamp {
                wrong.push(format!("{} is out of order", backlog.domain));
            }
        }
        for queued in &backlog.queued {
            places.insert(queued.entry.stamp, (backlog.shard, queued.entry));
            open_units.extend(queued.open_units().into_iter().map(|unit| (queued.entry.stamp, unit)));
        }
    }
    let reader = Reader::new(disk.clone());
    let acknowledged: Vec<_> = world.borrow().acknowledged.clone().into_iter().collect();
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
            Ok((recipients, data)) if recipients == promise.recipients && data == promise.data => {}
            Ok(_) => wrong.push(format!("message {number} was altered")),
            Err(error) => wrong.push(format!("message {number} cannot be read: {error}")),
        }
    }
    wrong
}

async fn read_back(
    reader: &Reader<SimDisk>,
    shard: ShardId,
    entry: &storage::format::index_file::IndexEntry,
) -> Result<(Vec<String>, Vec<u8>), String> {
    let frame = reader.read_entry(shard, entry).await.map_err(|error| error.to_string())?;
    let message = frame.message().map_err(|error| error.to_string())?;
    let mut data = Vec::new();
    for chunk in &message.chunks {
        let chunk = reader.read_chunk(shard, chunk).await.map_err(|error| error.to_string())?;
        data.extend_from_slice(chunk.payload());
    }
    data.extend_from_slice(message.tail);
    Ok((message.recipients.iter().map(|recipient| (*recipient).to_owned()).collect(), data))
}

/// Runs a future to its end on a fresh executor without crashing.
pub(crate) fn block_on<T: 'static>(
    clock: &SimClock,
    future: impl std::future::Future<Output = T> + 'static,
) -> T {
    Executor::new(1, clock.clone()).run(u64::MAX, future).expect("it ends")
}
