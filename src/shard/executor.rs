//! One executor a core: starts the standing tasks of a shard, and ends them in order.
//!
//! At a shutdown sessions are told 421 and the transactions with primaries finish; then the logs are closed,
//! which makes all that was appended durable. Whoever is not done within [`SHUTDOWN_GRACE`] is left behind:
//! nothing that was promised depends on it.

use super::backlog::Lanes;
use super::callouts::Callouts;
use super::caps::Caps;
use super::checkpoint;
use super::checkpoints::Checkpoints;
use super::deferrals::Deferrals;
use super::epoch::Epochs;
use super::hosts::Hosts;
use super::interrupt::Interrupts;
use super::mesh::Mesh;
use super::places::Places;
use super::receiving::Receiving;
pub use super::replay::Found;
use super::replay::{self, Unsettled};
use super::socket::{Listener, LocalSpawn, TcpDialer};
use super::state::Shard;
use super::upstream::Proxying;
use super::verdicts::Verdicts;
use super::{accept, authentication, compaction, expiry_clock, housekeeping, operator};
use crate::bridge::operator::Request;
use crate::bridge::{Lookup, Snapshot, Usage};
use crate::limits::{JOURNAL_RESERVE_OCTETS, JOURNAL_SEGMENT_OCTETS, SHUTDOWN_GRACE};
use crate::metrics::Counters;
use async_channel::Receiver;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::time::Duration;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::{Clock, SystemClock};
use storage::crypt::Keys;
use storage::disk::dma::DmaDisk;
use storage::error::DiskError;
use storage::format::checkpoint::DirectoryRow;
use storage::format::segment_header::Purpose;
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::{Log, LogOptions};
use storage::notify::Notify;
use storage::position::ShardId;
use storage::shelf::Shelf;
use storage::store::{self, Backlog, Chain, Chains, Opened, StoreOptions};

/// Everything that one shard starts with.
#[derive(Debug)]
pub struct ShardStart {
    /// Its number.
    pub id: ShardId,
    /// Shards that run.
    pub shards: u16,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Time.
    pub clock: SystemClock,
    /// The store as it was opened.
    pub store: StoreFile,
    /// The same for the one shard that persists it from now on.
    pub identity: Option<StoreFile>,
    /// Stamps and floors.
    pub frontier: Arc<Frontier>,
    /// Where its logs go on.
    pub chains: Chains,
    /// The keys of mail at rest.
    pub keys: Arc<Keys>,
    /// What journals say must stay: no checkpoint is made in this life.
    pub incomplete: bool,
    /// Segments that it keeps.
    pub shelf: Shelf,
    /// What its domains have queued.
    pub backlogs: Vec<Backlog>,
    /// Notices about mail of its domains that a start found.
    pub notices: Vec<Found>,
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Connections of all shards.
    pub caps: Arc<Caps>,
    /// Whom `when_up = "defer"` sent away, over all shards.
    pub deferrals: Arc<Deferrals>,
    /// Notes.
    pub mesh: Mesh,
    /// What the next checkpoint says of each directory.
    pub directories: BTreeMap<ShardId, DirectoryRow>,
    /// Names.
    pub lookup: Lookup,
    /// Questions of the operator.
    pub operator: Receiver<Request>,
    /// Told once: the addresses that it listens on, or why not.
    pub started: async_channel::Sender<Result<Vec<SocketAddr>, StartError>>,
    /// The addresses to listen on, with the ports that the first shard was given.
    pub listen: Vec<SocketAddr>,
}

/// Why a shard does not start.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// A log cannot be made.
    #[error("the data directory cannot be used: {0}")]
    Disk(DiskError),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, String),
}

/// What a shard counted, told when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Messages acknowledged.
    pub messages: u64,
    /// Units acknowledged.
    pub accepted: u64,
    /// Units that primaries took.
    pub delivered: u64,
    /// Units that were bounced.
    pub bounced: u64,
    /// Units held.
    pub held: u64,
    /// Units that were past their time.
    pub expired: u64,
    /// Units whose record is damaged.
    pub damaged: u64,
}

impl Summary {
    /// Adds another shard's counts.
    pub const fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.bounced += other.bounced;
        self.held += other.held;
        self.expired += other.expired;
        self.damaged += other.damaged;
    }
}

/// Memory that is registered with the ring for disk writes; far below the usual limit on locked memory.
const REGISTERED_MEMORY_OCTETS: usize = 3 << 20;

/// A shard that runs.
#[derive(Debug)]
pub struct ShardHandle(ExecutorJoinHandle<Summary>);

impl ShardHandle {
    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked.
    pub fn join(self) -> Result<Summary, String> {
        self.0.join().map_err(|error| error.to_string())
    }
}

/// Opens the store on an executor of its own, before any shard runs; also gives the notices that wait there, which are noted in
/// `usage`.
///
/// # Errors
/// A sentence for the operator.
pub fn open_store(
    data_dir: PathBuf,
    options: StoreOptions,
    clock: SystemClock,
    usage: Arc<Usage>,
) -> Result<(Opened, Vec<Found>), String> {
    let opening = LocalExecutorBuilder::new(Placement::Unbound).name("open").io_memory(1 << 20).spawn(
        move || async move {
            let disk = DmaDisk::attach(&data_dir).await.map_err(|error| error.to_string())?;
            let opened = store::open(&disk, &clock, &options).await.map_err(|error| error.to_string())?;
            let (store, backlogs) = (opened.store.store, &opened.backlogs);
            let notices = replay::found(&disk, store, &options.keys, backlogs, &usage).await;
            Ok((opened, notices))
        },
    );
    let opening = opening.map_err(|error| no_executor(&error.to_string()))?;
    opening.join().map_err(|error| error.to_string())?
}

fn no_executor(error: &str) -> String {
    format!("io_uring cannot be used: {error} (a kernel from 5.8 on and 8 MiB of locked memory are needed)")
}

/// Starts a shard on a thread of its own, on the core `cpu`, or on any where there are fewer.
///
/// # Errors
/// A sentence for the operator: no ring, or no locked memory.
pub fn start(cpu: Option<usize>, start: ShardStart) -> Result<ShardHandle, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", start.id.0))
        .io_memory(REGISTERED_MEMORY_OCTETS)
        .spawn(move || run(start))
        .map(ShardHandle)
        .map_err(|error| no_executor(&error.to_string()))
}

async fn run(start: ShardStart) -> Summary {
    let (started, requests) = (start.started.clone(), start.operator.clone());
    match set_up(start).await {
        Ok((shard, listeners, unsettled)) => {
            let addresses = listeners.iter().filter_map(|listener| listener.address().ok()).collect();
            // The starter waits for this; if it is gone, a shutdown is on its way.
            let _ = started.send(Ok(addresses)).await;
            serve(shard, listeners, requests, unsettled).await
        }
        Err(error) => {
            let _ = started.send(Err(error)).await;
            Summary::default()
        }
    }
}

type RealShard = Shard<DmaDisk, SystemClock>;

/// A shard before its tasks, what it listens on, and what a life before left it to end.
type Ready = (Rc<RealShard>, Vec<Listener>, Vec<Unsettled>);

async fn set_up(start: ShardStart) -> Result<Ready, StartError> {
    let disk = DmaDisk::attach(&start.data_dir).await.map_err(StartError::Disk)?;
    let open = async |purpose, chain: Chain, segment_octets| {
        let options = LogOptions {
            purpose,
            shard: start.chains.directory,
            store: start.store.store,
            segment_octets,
            reserve_octets: if purpose == Purpose::Mail { JOURNAL_RESERVE_OCTETS } else { 0 },
            first_segment: chain.first,
            previous: chain.previous,
            unnamed: chain.unnamed,
            frontier: Arc::clone(&start.frontier),
            keys: Arc::clone(&start.keys),
        };
        Log::open(disk.clone(), start.clock, options).await.map(Rc::new).map_err(StartError::Disk)
    };
    let segment_octets = start.snapshot.config.storage.segment_size_bytes;
    // The journal first: its room is not mail's.
    let journal = open(Purpose::Journal, start.chains.journal.clone(), JOURNAL_SEGMENT_OCTETS).await?;
    let mail = open(Purpose::Mail, start.chains.mail.clone(), segment_octets).await?;
    let bind = |address: &SocketAddr| {
        Listener::bind(*address).map_err(|error| StartError::Listen(*address, error.to_string()))
    };
    let listeners = start.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let lanes = Lanes::new(Arc::clone(&start.snapshot.usage));
    let shard = Rc::new(Shard {
        id: start.id,
        directory: start.chains.directory,
        shards: start.shards,
        clock: start.clock,
        disk,
        mail,
        journal,
        shelf: RefCell::new(start.shelf),
        frontier: start.frontier,
        snapshot: RefCell::new(start.snapshot),
        counters: Counters::default(),
        receiving: Receiving::new(start.caps, start.deferrals),
        callouts: Callouts::default(),
        proxying: Proxying::default(),
        interrupts: Interrupts::default(),
        mesh: start.mesh,
        lookup: start.lookup,
        verdicts: Verdicts::default(),
        chores: Notify::default(),
        lanes,
        hosts: Hosts::default(),
        places: Places::default(),
        expiry_clock: RefCell::default(),
        synchronisation: expiry_clock::synchronisation,
        shutting_down: Cell::new(false),
        shutdown: Notify::default(),
        store: start.store.store,
        keys: start.keys,
        incarnation: start.store.incarnation,
        identity: Cell::new(start.identity),
        numbers: Cell::new(0),
        free: Cell::new((Duration::ZERO, 0)),
        directories: RefCell::new(start.directories),
        checkpoints: Checkpoints::new(start.chains.oldest_journal, start.incomplete),
        telling: Epochs::default(),
        looking: Epochs::default(),
    });
    for backlog in start.backlogs {
        shard.lanes.take_backlog(backlog);
    }
    let unsettled = replay::take_found(&shard.lanes, start.notices);
    Ok((shard, listeners, unsettled))
}

async fn serve(
    shard: Rc<RealShard>,
    listeners: Vec<Listener>,
    requests: Receiver<Request>,
    unsettled: Vec<Unsettled>,
) -> Summary {
    let commits = [
        glommio::spawn_local(housekeeping::commit_mail(Rc::clone(&shard))),
        glommio::spawn_local(housekeeping::commit_journal(Rc::clone(&shard))),
    ];
    for (log, purpose) in [(&shard.mail, Purpose::Mail), (&shard.journal, Purpose::Journal)] {
        let chores = housekeeping::keep_house(Rc::clone(&shard), Rc::clone(log), purpose);
        glommio::spawn_local(chores).detach();
    }
    glommio::spawn_local(housekeeping::unlink(Rc::clone(&shard))).detach();
    glommio::spawn_local(housekeeping::read_inbox(Rc::clone(&shard))).detach();
    glommio::spawn_local(housekeeping::sweep(Rc::clone(&shard))).detach();
    glommio::spawn_local(compaction::run(Rc::clone(&shard))).detach();
    glommio::spawn_local(checkpoint::follow(Rc::clone(&shard))).detach();
    if shard.id == ShardId(0) {
        glommio::spawn_local(checkpoint::lead(Rc::clone(&shard))).detach();
    }
    glommio::spawn_local(authentication::run(Rc::clone(&shard))).detach();
    glommio::spawn_local(replay::expire(Rc::clone(&shard))).detach();
    glommio::spawn_local(replay::answer_callouts(Rc::clone(&shard), TcpDialer, LocalSpawn)).detach();
    glommio::spawn_local(replay::carry(Rc::clone(&shard), TcpDialer, LocalSpawn)).detach();
    glommio::spawn_local(replay::settle_late(Rc::clone(&shard))).detach();
    let lanes = replay::start_lanes(Rc::clone(&shard), TcpDialer, LocalSpawn, unsettled);
    glommio::spawn_local(lanes).detach();
    glommio::spawn_local(operator::run(Rc::clone(&shard), requests, TcpDialer, LocalSpawn)).detach();
    for listener in listeners {
        let accepting = accept::run(Rc::clone(&shard), listener, LocalSpawn);
        glommio::spawn_local(accepting).detach();
    }
    wait_for_shutdown(&shard).await;
    shard.mail.close();
    shard.journal.close();
    for commit in commits {
        commit.await;
    }
    let counters = &shard.counters;
    Summary {
        messages: counters.messages.value(),
        accepted: counters.accepted.value(),
        delivered: counters.delivered.value(),
        bounced: counters.bounced.value(),
        held: counters.held.value(),
        expired: counters.expired.value(),
        damaged: counters.damaged.value(),
    }
}

async fn wait_for_shutdown(shard: &RealShard) {
    while !shard.is_shutting_down() {
        let shutdown = shard.shutdown.wait();
        shutdown.await;
    }
    let deadline = shard.clock.now() + SHUTDOWN_GRACE;
    while shard.clock.now() < deadline && (shard.interrupts.alive() > 0 || shard.lanes.outstanding() > 0) {
        shard.clock.sleep(Duration::from_millis(10)).await;
    }
}
