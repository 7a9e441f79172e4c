//! A node on the simulated machine: shards over one store with their standing tasks, all on one thread.

use super::{Primary, SimShard, SimSpawn};
use crate::bridge::{Lookup, Snapshot, UnitEnd, Usage, lookup_channel};
use crate::config::{Config, OnExpiry, OnReject};
use crate::metrics::Counters;
use crate::shard::backlog::Lanes;
use crate::shard::callouts::Callouts;
use crate::shard::checkpoints::Checkpoints;
use crate::shard::epoch::Epochs;
use crate::shard::expiry_clock::Synchronisation;
use crate::shard::hosts::Hosts;
use crate::shard::interrupt::Interrupts;
use crate::shard::link::Spawn;
use crate::shard::mesh::Mesh;
use crate::shard::places::Places;
use crate::shard::receiving::Receiving;
use crate::shard::replay::{Found, Unsettled};
use crate::shard::state::Shard;
use crate::shard::upstream::Proxying;
use crate::shard::verdicts::Verdicts;
use crate::shard::{authentication, checkpoint, compaction, housekeeping, mesh, replay};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::format::checkpoint::DirectoryRow;
use storage::format::segment_header::Purpose;
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::{Log, LogOptions};
use storage::notify::Notify;
use storage::position::ShardId;
use storage::shelf::Shelf;
use storage::sim::{SimClock, SimDisk};
use storage::store::{self, Chain, Chains, StoreOptions};

/// How a node is made.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) shards: u16,
    pub(super) segment_octets: u64,
    pub(super) journal_octets: u64,
    pub(super) config: Config,
    pub(super) lookup: Lookup,
}

impl Plan {
    /// The same with one connection a domain, which keeps the order of all messages.
    pub(super) fn one_connection() -> Self {
        let mut plan = Self::one_shard();
        plan.config.domains[0].max_connections = 1;
        plan
    }

    /// One shard with the embedded configuration, which tries again each second.
    pub(super) fn one_shard() -> Self {
        let mut config = Config::embedded();
        config.storage.min_free_space_bytes = 0;
        config.domains[0].retry_interval = Duration::from_secs(1);
        // What is refused is seen at once; notices have tests of their own.
        config.domains[0].on_reject = OnReject::Hold;
        config.domains[0].on_expiry = OnExpiry::Hold;
        Self {
            shards: 1,
            segment_octets: 4 << 20,
            journal_octets: 4 << 20,
            config,
            lookup: lookup_channel().0,
        }
    }
}

/// What all shards of a life share.
struct Life {
    disk: SimDisk,
    clock: SimClock,
    store: StoreFile,
    frontier: Arc<Frontier>,
    snapshot: Arc<Snapshot>,
    directories: BTreeMap<ShardId, DirectoryRow>,
    incomplete: bool,
    plan: Plan,
}

/// Opens the store and starts shards with their standing tasks.
pub(super) async fn start(
    disk: SimDisk,
    clock: SimClock,
    spawn: &SimSpawn,
    primary: &Primary,
    mut plan: Plan,
) -> Vec<Rc<SimShard>> {
    // What compaction goes by.
    plan.config.storage.segment_size_bytes = plan.segment_octets;
    let options =
        StoreOptions { shards: plan.shards, journal_octets: plan.journal_octets, ..StoreOptions::default() };
    let opened = store::open(&disk, &clock, &options).await.expect("a store that crashed opens");
    let usage = Arc::<Usage>::default();
    for row in &opened.totals {
        usage.domain(&row.domain).accept(row.accepted);
        for (end, units) in UnitEnd::ALL.into_iter().zip(row.ended) {
            usage.domain(&row.domain).end(end, units);
        }
    }
    let notices = replay::found(&disk, opened.store.store, &Arc::default(), &opened.backlogs, &usage).await;
    let snapshot = Arc::new(Snapshot::new(plan.config.clone(), usage));
    let directories = opened.directories.into_iter().map(|row| (row.shard, row)).collect();
    let (store, frontier, incomplete) = (opened.store, opened.frontier, opened.incomplete);
    let life = Life { disk, clock, store, frontier, snapshot, directories, incomplete, plan };
    let mut shards = Vec::new();
    let parts = opened.shelves.into_iter().zip(opened.chains).zip(mesh::mesh(life.plan.shards));
    for (number, ((shelf, chains), mesh)) in (0..).map(ShardId).zip(parts) {
        shards.push(life.shard(number, shelf, chains, mesh).await);
    }
    for backlog in opened.backlogs {
        let owner = mesh::owner(&backlog.domain, life.plan.shards);
        shards[usize::from(owner.0)].lanes.take_backlog(backlog);
    }
    let mut unsettled: Vec<Vec<Found>> = shards.iter().map(|_| Vec::new()).collect();
    for notice in notices {
        unsettled[usize::from(notice.owner(life.plan.shards).0)].push(notice);
    }
    for (shard, found) in shards.iter().zip(unsettled) {
        stand(shard, primary, spawn, replay::take_found(&shard.lanes, found));
    }
    shards
}

impl Life {
    async fn log(&self, purpose: Purpose, directory: ShardId, chain: Chain) -> Rc<Log<SimDisk, SimClock>> {
        let segment_octets = match purpose {
            Purpose::Mail => self.plan.segment_octets,
            Purpose::Journal => self.plan.journal_octets,
        };
        let options = LogOptions {
            purpose,
            shard: directory,
            store: self.store.store,
            segment_octets,
            reserve_octets: 0,
            first_segment: chain.first,
            previous: chain.previous,
            unnamed: chain.unnamed,
            frontier: Arc::clone(&self.frontier),
            keys: Arc::default(),
        };
        Rc::new(Log::open(self.disk.clone(), self.clock.clone(), options).await.expect("a log opens"))
    }

    async fn shard(&self, id: ShardId, shelf: Shelf, chains: Chains, mesh: Mesh) -> Rc<SimShard> {
        Rc::new(Shard {
            id,
            directory: chains.directory,
            shards: self.plan.shards,
            clock: self.clock.clone(),
            disk: self.disk.clone(),
            // The journal first: its room is not mail's.
            journal: self.log(Purpose::Journal, chains.directory, chains.journal).await,
            mail: self.log(Purpose::Mail, chains.directory, chains.mail).await,
            shelf: RefCell::new(shelf),
            frontier: Arc::clone(&self.frontier),
            snapshot: RefCell::new(Arc::clone(&self.snapshot)),
            counters: Counters::default(),
            receiving: Receiving::default(),
            callouts: Callouts::default(),
            proxying: Proxying::default(),
            interrupts: Interrupts::default(),
            mesh,
            lookup: self.plan.lookup.clone(),
            verdicts: Verdicts::default(),
            chores: Notify::default(),
            lanes: Lanes::new(Arc::clone(&self.snapshot.usage)),
            hosts: Hosts::default(),
            places: Places::default(),
            expiry_clock: RefCell::default(),
            synchronisation: || Synchronisation::Synchronised,
            shutting_down: Cell::new(false),
            shutdown: Notify::default(),
            store: self.store.store,
            keys: Arc::default(),
            incarnation: self.store.incarnation,
            identity: Cell::new((id == ShardId(0)).then_some(self.store)),
            numbers: Cell::new(0),
            free: Cell::new((Duration::ZERO, 0)),
            directories: RefCell::new(self.directories.clone()),
            checkpoints: Checkpoints::new(chains.oldest_journal, self.incomplete),
            telling: Epochs::default(),
            looking: Epochs::default(),
        })
    }
}

/// Starts the standing tasks.
fn stand(shard: &Rc<SimShard>, primary: &Primary, spawn: &SimSpawn, unsettled: Vec<Unsettled>) {
    spawn.spawn(housekeeping::commit_mail(Rc::clone(shard)));
    spawn.spawn(housekeeping::commit_journal(Rc::clone(shard)));
    spawn.spawn(housekeeping::unlink(Rc::clone(shard)));
    spawn.spawn(housekeeping::sweep(Rc::clone(shard)));
    for (log, purpose) in [(&shard.mail, Purpose::Mail), (&shard.journal, Purpose::Journal)] {
        spawn.spawn(housekeeping::keep_house(Rc::clone(shard), Rc::clone(log), purpose));
    }
    spawn.spawn(housekeeping::read_inbox(Rc::clone(shard)));
    spawn.spawn(compaction::run(Rc::clone(shard)));
    if shard.id == ShardId(0) {
        spawn.spawn(checkpoint::lead(Rc::clone(shard)));
    }
    spawn.spawn(checkpoint::follow(Rc::clone(shard)));
    spawn.spawn(authentication::run(Rc::clone(shard)));
    spawn.spawn(replay::expire(Rc::clone(shard)));
    spawn.spawn(replay::answer_callouts(Rc::clone(shard), primary.clone(), spawn.clone()));
    spawn.spawn(replay::carry(Rc::clone(shard), primary.clone(), spawn.clone()));
    spawn.spawn(replay::settle_late(Rc::clone(shard)));
    spawn.spawn(replay::start_lanes(Rc::clone(shard), primary.clone(), spawn.clone(), unsettled));
}
