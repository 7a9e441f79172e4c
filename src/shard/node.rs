//! A node put together, on whatever machine: its store is opened, each shard is given its parts, its standing tasks run, and
//! they end in order. `executor` does it on glommio, the simulator on a disk, a clock and a network of its own: by the same code.
//!
//! What is the machine's enters here: a `Disk`, a `Clock`, a `Dialer`, a `Spawn`, links with [`Node::admit`], and what the
//! system says of its clock. No bound and no policy is decided here.
//!
//! At a shutdown sessions are told 421 and the transactions with primaries finish; then the logs are closed,
//! which makes all that was appended durable. Whoever is not done within [`SHUTDOWN_GRACE`] is left behind:
//! nothing that was promised depends on it.

use super::backlog::Lanes;
use super::callouts::Callouts;
use super::caps::Caps;
use super::checkpoints::Checkpoints;
use super::deferrals::Deferrals;
use super::epoch::Epochs;
pub use super::expiry_clock::Synchronisation;
use super::hosts::Hosts;
use super::interrupt::Interrupts;
use super::link::{Dialer, Link, Spawn};
use super::mesh::{self, Mesh};
use super::places::Places;
use super::receiving::Receiving;
pub use super::replay::Found;
use super::replay::{self, Unsettled};
use super::state::Shard;
use super::traces::Traces;
use super::upstream::Proxying;
use super::verdicts::Verdicts;
use super::{accept, authentication, checkpoint, compaction, housekeeping, operator};
use crate::bridge::operator::Request;
use crate::bridge::{Lookup, Snapshot, UnitEnd, Usage};
use crate::limits::{JOURNALS_RESERVED, SHUTDOWN_GRACE, TRACE_GRACE};
use crate::metrics::Counters;
use async_channel::Receiver;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::time::Duration;
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::crypt::Keys;
use storage::disk::Disk;
use storage::error::{DiskError, OpenError};
use storage::format::checkpoint::DirectoryRow;
use storage::format::segment_header::Purpose;
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::{Log, LogOptions};
use storage::notify::Notify;
use storage::position::ShardId;
use storage::shelf::Shelf;
use storage::store::{self, Backlog, Chain, Chains, Opened, StoreOptions};

/// What all shards of a life share, beside the store.
#[derive(Clone, Debug)]
pub struct Common {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// The keys of mail at rest.
    pub keys: Arc<Keys>,
    /// Names.
    pub lookup: Lookup,
    /// Octets of a journal segment.
    pub journal_octets: u64,
    /// Connections of all shards.
    pub caps: Arc<Caps>,
    /// Whom `when_up = "defer"` sent away, over all shards.
    pub deferrals: Arc<Deferrals>,
}

/// Everything that one shard starts with.
#[derive(Debug)]
pub struct Parts {
    id: ShardId,
    shards: u16,
    common: Common,
    store: StoreFile,
    /// The same for the one shard that persists it from now on.
    identity: Option<StoreFile>,
    frontier: Arc<Frontier>,
    chains: Chains,
    /// What journals say must stay: no checkpoint is made in this life.
    incomplete: bool,
    shelf: Shelf,
    backlogs: Vec<Backlog>,
    notices: Vec<Found>,
    mesh: Mesh,
    directories: BTreeMap<ShardId, DirectoryRow>,
}

impl Parts {
    /// The number of the shard.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }
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

/// Opens the store before any shard runs; also gives the notices that wait there. What became of all units before is noted in
/// `usage`.
///
/// # Errors
/// See [`OpenError`].
pub async fn open<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &StoreOptions,
    usage: &Arc<Usage>,
) -> Result<(Opened, Vec<Found>), OpenError> {
    let opened = store::open(disk, clock, options).await?;
    for row in &opened.totals {
        let usage = usage.domain(&row.domain);
        usage.accept(row.accepted);
        for (end, units) in UnitEnd::ALL.into_iter().zip(row.ended) {
            usage.end(end, units);
        }
    }
    let notices = replay::found(disk, opened.store.store, &options.keys, &opened.backlogs, usage).await;
    Ok((opened, notices))
}

/// Deals what was opened out to the shards of `meshes`: each domain to its owner, each segment to its keeper.
///
/// # Panics
/// If the store was opened for another number of shards.
#[must_use]
pub fn deal(opened: Opened, notices: Vec<Found>, meshes: Vec<Mesh>, common: &Common) -> Vec<Parts> {
    let shards = u16::try_from(meshes.len()).expect("as many as the store was opened for");
    assert_eq!((opened.shelves.len(), opened.chains.len()), (meshes.len(), meshes.len()));
    let mut identity = Some(opened.store);
    let directories: BTreeMap<_, _> = opened.directories.into_iter().map(|row| (row.shard, row)).collect();
    let dealt = opened.shelves.into_iter().zip(opened.chains).zip(meshes);
    let mut parts: Vec<Parts> = (0..)
        .map(ShardId)
        .zip(dealt)
        .map(|(id, ((shelf, chains), mesh))| Parts {
            id,
            shards,
            common: common.clone(),
            store: opened.store,
            identity: identity.take(),
            frontier: Arc::clone(&opened.frontier),
            chains,
            incomplete: opened.incomplete,
            shelf,
            backlogs: Vec::new(),
            notices: Vec::new(),
            mesh,
            directories: directories.clone(),
        })
        .collect();
    for backlog in opened.backlogs {
        parts[usize::from(mesh::owner(&backlog.domain, shards).0)].backlogs.push(backlog);
    }
    for notice in notices {
        parts[usize::from(notice.owner(shards).0)].notices.push(notice);
    }
    parts
}

/// A shard whose logs are open: nothing of it runs yet.
#[derive(Debug)]
pub struct Ready<D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    /// What a life before left it to end.
    unsettled: Vec<Unsettled>,
}

/// A shard that runs.
#[derive(Debug)]
pub struct Node<D: Disk, C: Clock> {
    pub(super) shard: Rc<Shard<D, C>>,
    /// Nothing is ever sent: each committer keeps the other end until it ends.
    committed: Receiver<()>,
    /// The same, of the trace.
    traced: Receiver<()>,
}

impl<D: Disk, C: Clock> Ready<D, C> {
    /// Opens the logs of a shard; nothing runs yet.
    ///
    /// # Errors
    /// A log cannot be made.
    pub async fn set_up(
        parts: Parts,
        disk: D,
        clock: C,
        synchronisation: fn() -> Synchronisation,
    ) -> Result<Self, DiskError> {
        // The journal first: its room is not mail's.
        let journal = open_log(&parts, Purpose::Journal, &disk, &clock).await?;
        let mail = open_log(&parts, Purpose::Mail, &disk, &clock).await?;
        let Parts { id, shards, common, store, chains, .. } = parts;
        let lanes = Lanes::new(Arc::clone(&common.snapshot.usage));
        let shard = Rc::new(Shard {
            id,
            directory: chains.directory,
            shards,
            clock,
            disk,
            mail,
            journal,
            shelf: RefCell::new(parts.shelf),
            frontier: parts.frontier,
            snapshot: RefCell::new(common.snapshot),
            counters: Counters::default(),
            receiving: Receiving::new(common.caps, common.deferrals),
            callouts: Callouts::default(),
            proxying: Proxying::default(),
            interrupts: Interrupts::default(),
            mesh: parts.mesh,
            lookup: common.lookup,
            verdicts: Verdicts::default(),
            copies_clock: RefCell::default(),
            chores: Notify::default(),
            lanes,
            hosts: Hosts::default(),
            places: Places::default(),
            expiry_clock: RefCell::default(),
            synchronisation,
            shutting_down: Cell::new(false),
            shutdown: Notify::default(),
            store: store.store,
            keys: common.keys,
            incarnation: store.incarnation,
            identity: Cell::new(parts.identity),
            numbers: Cell::new(0),
            free: Cell::new((Duration::ZERO, None)),
            directories: RefCell::new(parts.directories),
            checkpoints: Checkpoints::new(chains.oldest_journal, parts.incomplete),
            telling: Epochs::default(),
            looking: Epochs::default(),
            codes: RefCell::default(),
            traces: Traces::default(),
        });
        for backlog in parts.backlogs {
            shard.lanes.take_backlog(backlog);
        }
        let unsettled = replay::take_found(&shard.lanes, parts.notices);
        Ok(Self { shard, unsettled })
    }

    /// Starts the standing tasks.
    pub fn stand<N: Dialer, S: Spawn>(
        self,
        dialer: &N,
        spawn: &S,
        requests: Receiver<Request>,
    ) -> Node<D, C> {
        let own = Rc::clone(&self.shard);
        let shard = || Rc::clone(&own);
        let (ends_with_mail, committed) = async_channel::bounded(1);
        let ends_with_journal = ends_with_mail.clone();
        let (mail, journal) = (housekeeping::commit_mail(shard()), housekeeping::commit_journal(shard()));
        spawn.spawn(async move {
            mail.await;
            drop(ends_with_mail);
        });
        spawn.spawn(async move {
            journal.await;
            drop(ends_with_journal);
        });
        for (log, purpose) in [(&self.shard.mail, Purpose::Mail), (&self.shard.journal, Purpose::Journal)] {
            spawn.spawn(housekeeping::keep_house(shard(), Rc::clone(log), purpose));
        }
        spawn.spawn(housekeeping::unlink(shard()));
        spawn.spawn(housekeeping::read_inbox(shard()));
        spawn.spawn(housekeeping::sweep(shard()));
        spawn.spawn(compaction::run(shard()));
        spawn.spawn(checkpoint::follow(shard()));
        if self.shard.id == ShardId(0) {
            spawn.spawn(checkpoint::lead(shard()));
        }
        spawn.spawn(authentication::run(shard()));
        spawn.spawn(replay::expire(shard()));
        spawn.spawn(replay::answer_callouts(shard(), dialer.clone(), spawn.clone()));
        spawn.spawn(replay::carry(shard(), dialer.clone(), spawn.clone()));
        spawn.spawn(replay::settle_late(shard()));
        spawn.spawn(replay::start_lanes(
            Rc::clone(&self.shard),
            dialer.clone(),
            spawn.clone(),
            self.unsettled,
        ));
        spawn.spawn(operator::run(shard(), requests, dialer.clone(), spawn.clone()));
        let (ends_with_trace, traced) = async_channel::bounded(1);
        let trace = replay::trace(shard());
        spawn.spawn(async move {
            trace.await;
            drop(ends_with_trace);
        });
        Node { shard: self.shard, committed, traced }
    }
}

impl<D: Disk, C: Clock> Node<D, C> {
    /// Serves a sender's connection in a task of its own, or turns it away.
    pub async fn admit<L: Link, S: Spawn>(&self, link: L, peer: SocketAddr, spawn: &S) {
        accept::admit(&self.shard, link, peer, spawn).await;
    }

    /// Runs until the shard is told to shut down and has ended; what it counted.
    pub async fn serve(&self) -> Summary {
        let shard = &self.shard;
        while !shard.is_shutting_down() {
            let shutdown = shard.shutdown.wait();
            shutdown.await;
        }
        let deadline = shard.clock.now() + SHUTDOWN_GRACE;
        while shard.clock.now() < deadline && (shard.interrupts.alive() > 0 || shard.lanes.outstanding() > 0)
        {
            shard.clock.sleep(Duration::from_millis(10)).await;
        }
        shard.mail.close();
        shard.journal.close();
        let _ = self.committed.recv().await;
        shard.traces.close();
        let traced = async {
            let _ = self.traced.recv().await;
        };
        or(traced, shard.clock.sleep(TRACE_GRACE)).await;
        let counters = &shard.counters;
        Summary {
            messages: counters.messages.sum(),
            accepted: counters.accepted.value(),
            delivered: counters.delivered.value(),
            bounced: counters.bounced.value(),
            held: counters.held.value(),
            expired: counters.expired.value(),
            damaged: counters.damaged.value(),
        }
    }
}

async fn open_log<D: Disk, C: Clock>(
    parts: &Parts,
    purpose: Purpose,
    disk: &D,
    clock: &C,
) -> Result<Rc<Log<D, C>>, DiskError> {
    let journal_octets = parts.common.journal_octets;
    let (chain, segment_octets, reserve_octets): (&Chain, u64, u64) = match purpose {
        Purpose::Journal => (&parts.chains.journal, journal_octets, 0),
        Purpose::Mail => {
            let octets = parts.common.snapshot.config.storage.segment_size_bytes;
            (&parts.chains.mail, octets, JOURNALS_RESERVED * journal_octets)
        }
    };
    let options = LogOptions {
        purpose,
        shard: parts.chains.directory,
        store: parts.store.store,
        segment_octets,
        reserve_octets,
        first_segment: chain.first,
        previous: chain.previous,
        unnamed: chain.unnamed.clone(),
        frontier: Arc::clone(&parts.frontier),
        keys: Arc::clone(&parts.common.keys),
    };
    Log::open(disk.clone(), clock.clone(), options).await.map(Rc::new)
}
