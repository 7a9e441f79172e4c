//! A small storage node on the simulated machine: shards with a mail log, a journal and a shelf, writers, and a
//! memory of what was promised, which outlives its crashes. It does with segments what a shard does.

use super::upkeep::Operations;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::crypt::Keys;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::message::{ChunkReference, DataFacts, Envelope, Extensions, Protocol};
use storage::format::segment_header::Purpose;
use storage::format::tally::Tally;
use storage::log::{Chore, Log, LogOptions, Message, Place, Progress};
use storage::position::{QueueId, SegmentId, ShardId, Stamp, UnixMillis};
use storage::segment;
use storage::shelf::Shelf;
use storage::sim::executor::{Spawner, yield_now};
use storage::sim::{Executor, Random, SimClock, SimDisk};
use storage::store::{Chains, Opened, StoreOptions, open};

pub(crate) const SEGMENT_OCTETS: u64 = 256 * 1024;
pub(crate) const DISK_OCTETS: u64 = 512 << 20;
pub(crate) const DOMAINS: [&str; 3] = ["one.test", "two.test", "three.test"];

/// Polls that a note from one shard to another takes.
const NOTE_POLLS: u32 = 150;

pub(crate) type SimLog = Log<SimDisk, SimClock>;

/// What the world outside remembers.
#[derive(Clone, Default)]
pub(crate) struct Promises {
    pub(crate) next_number: u64,
    /// Acknowledged messages: number -> what was promised.
    pub(crate) acknowledged: BTreeMap<u64, Rc<Promise>>,
    /// Messages that were answered with an error.
    pub(crate) refused: BTreeSet<u64>,
    /// Those of this life that have a stamp, and the shard that took it.
    pub(crate) failed: BTreeSet<(ShardId, Stamp)>,
    /// Those of them above which a later one was promised: they never come back (H8).
    pub(crate) voided: BTreeSet<Stamp>,
    /// The last promised stamp of each shard.
    pub(crate) promised: BTreeMap<ShardId, Stamp>,
    /// Settlements that were acknowledged.
    pub(crate) settled: BTreeSet<(Stamp, u16)>,
    /// Settlements that were begun: after a crash they may hold or not.
    pub(crate) settling: BTreeSet<(Stamp, u16)>,
    /// Units that an acknowledged fact holds, and no acknowledged one released.
    pub(crate) held: BTreeSet<(Stamp, u16)>,
    /// Units that may be held: a fact to hold was begun, and no fact to release is acknowledged.
    pub(crate) holding: BTreeSet<(Stamp, u16)>,
    /// Units of all messages that were ever begun.
    pub(crate) begun_units: u64,
    /// Messages that a crash tore before they were promised, and that are queued all the same.
    pub(crate) torn: BTreeSet<Stamp>,
    /// Stamps of acknowledged messages, to see that none returns.
    pub(crate) stamps: BTreeSet<Stamp>,
    pub(crate) largest_acknowledged: Stamp,
}

impl Promises {
    /// H8: a failed range is void once something behind it is promised. A ticket may be looked at late, so stamps tell
    /// what is behind.
    fn void(&mut self) {
        let Self { failed, voided, promised, .. } = self;
        failed.retain(|(shard, stamp)| {
            let is_void = promised.get(shard).is_some_and(|last| last > stamp);
            if is_void {
                voided.insert(*stamp);
            }
            !is_void
        });
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) number: u64,
    pub(crate) stamp: Stamp,
    pub(crate) shard: ShardId,
    pub(crate) place: Place,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: Vec<u8>,
}

pub(crate) type World = Rc<RefCell<Promises>>;

/// What a canary does wrong: each breaks one rule of those who work with the storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// H3: the chunks of a message pin nothing.
    MissingPin,
    /// H12: whatever arrived is dispatched, not only what is below every shard's frontier.
    DispatchAboveFrontier,
    /// A checkpoint does not wait for those who are telling keepers of facts that are journalled.
    HastyCheckpoint,
    /// A rewrite does not journal how the units of its copy ended.
    SilentCopy,
    /// The sources of a rewrite get their tallies before its copy is durable.
    HastyTally,
}

/// How a node is made.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) store: StoreOptions,
    /// Octets of a mail segment.
    pub(crate) mail_octets: u64,
    pub(crate) bug: Option<Bug>,
}

impl From<&StoreOptions> for Shape {
    fn from(store: &StoreOptions) -> Self {
        Self { store: store.clone(), mail_octets: SEGMENT_OCTETS, bug: None }
    }
}

/// One shard of a node.
#[derive(Clone)]
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) bug: Option<Bug>,
    pub(crate) disk: SimDisk,
    pub(crate) mail: Rc<SimLog>,
    pub(crate) journal: Rc<SimLog>,
    pub(crate) shelf: Rc<RefCell<Shelf>>,
    /// The first journal that the next checkpoint removes.
    pub(crate) oldest_journal: Rc<Cell<SegmentId>>,
}

/// One life of the node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    pub(crate) spawner: Spawner,
    pub(crate) opened: Rc<Opened>,
    pub(crate) shards: Vec<Shard>,
    /// What the commit tasks met besides commits.
    pub(crate) troubles: Rc<RefCell<Vec<String>>>,
    /// Who names places of records.
    pub(crate) looking: Rc<Operations>,
    /// A checkpoint is under way: one at a time.
    pub(crate) busy: Rc<Cell<bool>>,
    /// Sources of rewrites that have no tally yet.
    pub(crate) leaving: Rc<RefCell<BTreeSet<(ShardId, SegmentId)>>>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) mail_octets: u64,
    pub(crate) bug: Option<Bug>,
    /// What became durable and was not dispatched yet, by domain.
    pub(crate) inbox: Inbox,
}

/// The owners of all domains, as the dispatcher sees them.
pub(crate) type Inbox = Rc<RefCell<BTreeSet<(Stamp, Arc<str>)>>>;

pub(crate) fn store_options(shards: u16) -> StoreOptions {
    StoreOptions { shards, journal_octets: SEGMENT_OCTETS, ..StoreOptions::default() }
}

fn log_options(purpose: Purpose, chains: &Chains, opened: &Opened, shape: &Shape) -> LogOptions {
    let is_mail = purpose == Purpose::Mail;
    let chain = if is_mail { chains.mail.clone() } else { chains.journal.clone() };
    LogOptions {
        purpose,
        shard: chains.directory,
        store: opened.store.store,
        segment_octets: if is_mail { shape.mail_octets } else { shape.store.journal_octets },
        reserve_octets: if is_mail { 2 * shape.store.journal_octets } else { 0 },
        first_segment: chain.first,
        previous: chain.previous,
        unnamed: chain.unnamed,
        keys: Arc::clone(&shape.store.keys),
        frontier: Arc::clone(&opened.frontier),
    }
}

impl Node {
    /// A node over a store that is open; `None` if a log cannot be made.
    pub(crate) async fn over(
        mut opened: Opened,
        shape: &Shape,
        disk: &SimDisk,
        clock: &SimClock,
        spawner: &Spawner,
    ) -> Option<Self> {
        let mut node = Self {
            disk: disk.clone(),
            clock: clock.clone(),
            spawner: spawner.clone(),
            opened: Rc::new(open_nothing(&opened)),
            shards: Vec::new(),
            troubles: Rc::default(),
            looking: Rc::default(),
            busy: Rc::default(),
            leaving: Rc::default(),
            keys: Arc::clone(&shape.store.keys),
            mail_octets: shape.mail_octets,
            bug: shape.bug,
            inbox: Rc::default(),
        };
        for (shard, shelf) in std::mem::take(&mut opened.shelves).into_iter().enumerate() {
            let chains = opened.chains[shard].clone();
            let id = chains.directory;
            let shelf = Rc::new(RefCell::new(shelf));
            let mut pair = Vec::new();
            // The journal first: its room is not mail's.
            for purpose in [Purpose::Journal, Purpose::Mail] {
                let options = log_options(purpose, &chains, &opened, shape);
                let log = Log::open(disk.clone(), clock.clone(), options).await;
                let log = Rc::new(log.ok()?);
                spawner.spawn(drive(Rc::clone(&log), node.clone()));
                let kept = (purpose == Purpose::Mail).then(|| Rc::clone(&shelf));
                spawner.spawn(housekeep(Rc::clone(&log), clock.clone(), kept));
                pair.push(log);
            }
            let mail = pair.pop().unwrap();
            let oldest_journal = Rc::new(Cell::new(chains.oldest_journal));
            let journal = pair.pop().unwrap();
            let (disk, bug) = (disk.clone(), shape.bug);
            node.shards.push(Shard { id, bug, disk, mail, journal, shelf, oldest_journal });
        }
        node.opened = Rc::new(opened);
        // Until all is at rest: the journals have their next segments.
        clock.sleep(std::time::Duration::from_millis(1)).await;
        Some(node)
    }

    /// The shelf that keeps the segments of directory `shard`.
    pub(crate) fn keeper(&self, shard: ShardId) -> &Shard {
        &self.shards[usize::from(shard.0) % self.shards.len()]
    }

    /// Delivers a unit: its owner journals it, the keeper of its segment hears of it.
    pub(crate) async fn deliver(&self, owner: &Shard, world: &World, promise: &Promise, ordinal: u16) {
        self.end(owner, world, promise, ordinal, Outcome::Delivered).await;
    }

    /// The same with any final outcome.
    pub(crate) async fn end(
        &self,
        owner: &Shard,
        world: &World,
        promise: &Promise,
        ordinal: u16,
        outcome: Outcome,
    ) {
        // A rewrite may have moved it since it was promised.
        let _looking = self.looking.begin();
        let promise = Rc::clone(&world.borrow().acknowledged[&promise.number]);
        if settle_as(&owner.journal, world, promise.stamp, ordinal, outcome).await {
            if owner.id != self.keeper(promise.shard).id {
                // The note takes a while from shard to shard.
                for _ in 0..NOTE_POLLS {
                    yield_now().await;
                }
            }
            let unit = promise.place.unit_base + u32::from(ordinal);
            let mut shelf = self.keeper(promise.shard).shelf.borrow_mut();
            shelf.settle(promise.shard, promise.place.segment, unit, outcome);
        }
    }

    /// Unlinks what may go, as a shard does it; tells what went.
    pub(crate) async fn reclaim(&self) -> Vec<(ShardId, SegmentId)> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            loop {
                let removable = shard.shelf.borrow_mut().take_removable();
                let Some((directory, segment)) = removable else { break };
                let store = self.opened.store.store;
                let index = segment::index_of(&shard.disk, store, &self.keys, directory, segment).await;
                let Ok(index) = index else { break };
                let tally = shard.shelf.borrow().tally(directory, segment, &index).unwrap();
                let telling = self.looking.begin();
                if !journal_tally(shard, &tally).await {
                    shard.shelf.borrow_mut().put_back(tally.shard, tally.segment);
                    break;
                }
                shard.shelf.borrow_mut().tallied(&tally);
                self.shards.iter().filter(|of| of.id == directory).for_each(|of| of.mail.gone(segment));
                self.leaving.borrow_mut().remove(&(tally.shard, tally.segment));
                drop(telling);
                gone.push((tally.shard, tally.segment));
                if segment::remove(&shard.disk, tally.shard, tally.segment).await.is_err() {
                    break;
                }
            }
        }
        gone
    }

    /// Waits until the shard has left the segment that it writes now, by sending small messages.
    pub(crate) async fn fill(&self, shard: &Shard, world: &World) {
        let before = shard.mail.active_segment();
        while shard.mail.active_segment() == before {
            assert!(send(shard, world, &["a@one.test"], 20_000, 0).await);
        }
        // The index of the old one is written by another task.
        self.clock.sleep(std::time::Duration::from_secs(5)).await;
    }
}

async fn journal_tally(shard: &Shard, tally: &Tally) -> bool {
    match shard.journal.append_tally(tally).await {
        Ok(ticket) => ticket.await.is_ok(),
        Err(_) => false,
    }
}

/// Stands in until the logs have been made.
fn open_nothing(opened: &Opened) -> Opened {
    Opened {
        store: opened.store,
        frontier: Arc::clone(&opened.frontier),
        shelves: Vec::new(),
        chains: Vec::new(),
        backlogs: Vec::new(),
        recovered_unacknowledged: 0,
        incomplete: false,
        directories: Vec::new(),
        findings: Vec::new(),
        messages: 0,
        totals: Vec::new(),
    }
}

async fn drive(log: Rc<SimLog>, node: Node) {
    let Node { clock, troubles, inbox, .. } = node;
    loop {
        match log.commit().await {
            Progress::Committed(commit) => {
                // The owners hear of it before the floor passes it (H12).
                let told = commit.arrivals.iter();
                inbox.borrow_mut().extend(told.map(|told| (told.entry.stamp, Arc::clone(&told.domain))));
                log.release(commit);
            }
            Progress::Rolled => {}
            Progress::Latched(segment, error) => {
                troubles.borrow_mut().push(format!("latched {segment}: {error}"));
            }
            Progress::Stopped(refusal, error) => {
                troubles.borrow_mut().push(format!("stopped {refusal}: {error}"));
                clock.sleep(std::time::Duration::from_secs(1)).await;
            }
            Progress::Closed => return,
        }
    }
}

async fn housekeep(log: Rc<SimLog>, clock: SimClock, shelf: Option<Rc<RefCell<Shelf>>>) {
    loop {
        match log.housekeep().await {
            Chore::Closed => return,
            Chore::Failed(_) => clock.sleep(std::time::Duration::from_secs(1)).await,
            Chore::Indexed(sealed) => {
                if let Some(shelf) = &shelf {
                    shelf.borrow_mut().seal(log.shard(), sealed.segment, &sealed.index);
                }
            }
        }
    }
}

/// Octets that message `number` must have.
pub(crate) fn data_of(number: u64, octets: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut data = vec![0; octets.next_multiple_of(8)];
    for eight in data.chunks_exact_mut(8) {
        eight.copy_from_slice(&random.next().to_le_bytes());
    }
    data.truncate(octets);
    data
}

pub(crate) const ENVELOPE: Envelope<'static> = Envelope {
    reverse_path: "sender@example.org",
    recipients: &[],
    client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    helo: "client.example",
    protocol: Protocol::Esmtp,
    body_8bit: false,
    extensions: Extensions::NONE,
};

/// A message that is arriving: its chunks are pinned as a session does it.
pub(crate) struct Arriving {
    pub(crate) number: u64,
    shard: Shard,
    chunks: Vec<ChunkReference>,
    data: Vec<u8>,
}

impl Arriving {
    pub(crate) fn new(shard: &Shard, world: &World) -> Self {
        let mut world = world.borrow_mut();
        world.next_number += 1;
        Self { number: world.next_number, shard: shard.clone(), chunks: Vec::new(), data: Vec::new() }
    }

    pub(crate) async fn chunk(&mut self, data: &[u8]) -> bool {
        match self.shard.mail.append_chunk(QueueId(self.number), data).await {
            Ok(chunk) => {
                if self.shard.bug != Some(Bug::MissingPin) {
                    self.shard.shelf.borrow_mut().pin(self.shard.id, chunk.segment);
                }
                self.chunks.push(chunk);
                self.data.extend_from_slice(data);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn abandon(self) {
        if self.shard.bug == Some(Bug::MissingPin) {
            return;
        }
        for chunk in self.chunks {
            self.shard.shelf.borrow_mut().unpin(self.shard.id, chunk.segment);
        }
    }

    /// Appends the closing record and waits; `true` if the message was promised.
    pub(crate) async fn close(mut self, world: &World, recipients: &[&str], tail: &[u8]) -> bool {
        let before = world.borrow().largest_acknowledged;
        world.borrow_mut().begun_units += recipients.len() as u64;
        self.data.extend_from_slice(tail);
        let stored_octets = self.data.len() as u64;
        let facts = DataFacts { stored_octets, unstuffed_octets: stored_octets, ..DataFacts::default() };
        let message = Message {
            queue_id: QueueId(self.number),
            received: UnixMillis(1_000),
            envelope: &Envelope { recipients, ..ENVELOPE },
            data: &facts,
            chunks: &self.chunks,
            trace: b"Received: by test\r\n",
            tail,
        };
        let (mut taken, mut failed) = (None, None);
        if let Ok(receipt) = self.shard.mail.append_message(&message).await {
            match receipt.ticket.await {
                Ok(()) => taken = Some((receipt.stamp, receipt.place)),
                Err(_) => failed = Some((self.shard.id, receipt.stamp)),
            }
        }
        let Some((stamp, place)) = taken else {
            let mut world = world.borrow_mut();
            world.refused.insert(self.number);
            world.failed.extend(failed);
            world.void();
            self.abandon();
            return false;
        };
        // P3: everything that was acknowledged before this one began has a smaller stamp.
        assert!(stamp > before, "stamp {stamp:?} is not above {before:?}, acknowledged before it began");
        self.keep_pins(place, recipients.len());
        let mut world = world.borrow_mut();
        assert!(world.stamps.insert(stamp), "H1: stamp {stamp:?} was given twice");
        world.largest_acknowledged = world.largest_acknowledged.max(stamp);
        let recipients = recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
        let number = self.number;
        let promise = Promise { number, stamp, shard: self.shard.id, place, recipients, data: self.data };
        let promised = world.promised.entry(promise.shard).or_default();
        *promised = (*promised).max(stamp);
        world.void();
        world.acknowledged.insert(number, Rc::new(promise));
        true
    }

    fn keep_pins(&self, place: Place, units: usize) {
        if self.shard.bug == Some(Bug::MissingPin) {
            return;
        }
        let mut shelf = self.shard.shelf.borrow_mut();
        let mut kept: Vec<SegmentId> = Vec::new();
        for chunk in &self.chunks {
            if chunk.segment == place.segment || kept.contains(&chunk.segment) {
                shelf.unpin(self.shard.id, chunk.segment);
            } else {
                kept.push(chunk.segment);
            }
        }
        if !kept.is_empty() {
            let units = u32::try_from(units).unwrap();
            shelf.keep_pins(self.shard.id, place.segment, place.unit_base, units, kept);
        }
    }
}

/// Sends one message; `true` if it was promised.
pub(crate) async fn send(
    shard: &Shard,
    world: &World,
    recipients: &[&str],
    octets: usize,
    chunks: usize,
) -> bool {
    let mut arriving = Arriving::new(shard, world);
    let data = data_of(arriving.number, octets);
    let chunk_octets = if chunks == 0 { 0 } else { octets / (chunks + 1) };
    for chunk in data.chunks(chunk_octets.max(1)).take(chunks) {
        if !arriving.chunk(chunk).await {
            world.borrow_mut().refused.insert(arriving.number);
            arriving.abandon();
            return false;
        }
    }
    arriving.close(world, recipients, &data[chunk_octets * chunks..]).await
}

/// Journals how a unit ended; `true` once that is durable.
async fn settle_as(journal: &SimLog, world: &World, stamp: Stamp, ordinal: u16, outcome: Outcome) -> bool {
    world.borrow_mut().settling.insert((stamp, ordinal));
    let fact = Fact { stamp, ordinal, outcome, code: 250 };
    let Ok(ticket) = journal.append_facts(&[fact]).await else { return false };
    if ticket.await.is_err() {
        return false;
    }
    world.borrow_mut().settled.insert((stamp, ordinal));
    true
}

/// Runs a future to its end on a fresh executor without crashing.
pub(crate) fn block_on<T: 'static>(clock: &SimClock, future: impl Future<Output = T> + 'static) -> T {
    Executor::new(1, clock.clone()).run(u64::MAX, future).expect("it ends")
}

/// One life of a node on `disk`: starts it, runs `story`, kills it.
pub(crate) fn live_on<T, F>(disk: &SimDisk, shards: u16, story: impl FnOnce(Node) -> F + 'static) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    live_with(disk, store_options(shards), story)
}

/// The same with other options.
pub(crate) fn live_with<T, F>(
    disk: &SimDisk,
    options: StoreOptions,
    story: impl FnOnce(Node) -> F + 'static,
) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    live_in_shape(disk, Shape::from(&options), story)
}

/// The same with segments of another size, too.
pub(crate) fn live_in_shape<T, F>(disk: &SimDisk, shape: Shape, story: impl FnOnce(Node) -> F + 'static) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let (spawner, disk) = (executor.spawner(), disk.clone());
    let life = async move {
        let opened = open(&disk, &clock, &shape.store).await.expect("a store that crashed opens");
        story(Node::over(opened, &shape, &disk, &clock, &spawner).await.expect("logs open")).await
    };
    executor.run(u64::MAX, life).expect("the story ends")
}
