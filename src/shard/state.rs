//! What the tasks of a shard share, and how it takes notes. No task is started here and nothing of I/O waits here
//! but the question for free space.

use super::backlog::Lanes;
use super::callouts::Callouts;
use super::checkpoints::{Checkpoints, Step};
use super::codes::Codes;
use super::epoch::Epochs;
use super::expiry_clock::{ExpiryClock, Synchronisation};
use super::hosts::Hosts;
use super::interrupt::Interrupts;
use super::mesh::{Late, Mesh, Note, Outstanding, SettledUnit};
use super::places::Places;
use super::receiving::Receiving;
use super::traces::Traces;
use super::upstream::Proxying;
use super::verdicts::Verdicts;
use crate::bridge::{Instants, Lookup, Snapshot};
use crate::limits::{FREE_SPACE_INTERVAL, UPSTREAM_OUTCOME_TIMEOUT};
use crate::metrics::Counters;
use crate::smtp::Moment;
use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::crypt::Keys;
use storage::disk::Disk;
use storage::format::checkpoint::DirectoryRow;
use storage::format::kept::KeptRun;
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::Log;
use storage::notify::Notify;
use storage::position::{QueueId, SegmentId, ShardId, StoreId};
use storage::shelf::Shelf;

/// What the tasks of a shard share.
#[derive(Debug)]
pub(super) struct Shard<D: Disk, C: Clock> {
    /// Its number.
    pub(super) id: ShardId,
    /// The directory that it writes into.
    pub(super) directory: ShardId,
    /// Shards that run.
    pub(super) shards: u16,
    /// Time.
    pub(super) clock: C,
    /// The data directory.
    pub(super) disk: D,
    /// The log of messages.
    pub(super) mail: Rc<Log<D, C>>,
    /// The log of facts.
    pub(super) journal: Rc<Log<D, C>>,
    /// The segments that it keeps.
    pub(super) shelf: RefCell<Shelf>,
    /// Stamps and floors of all shards.
    pub(super) frontier: Arc<Frontier>,
    /// The configuration in force.
    pub(super) snapshot: RefCell<Arc<Snapshot>>,
    /// What it counts.
    pub(super) counters: Counters,
    /// What its receiving sessions share.
    pub(super) receiving: Receiving,
    /// Questions to primaries about recipients.
    pub(super) callouts: Callouts,
    /// Connections that carry mail through.
    pub(super) proxying: Proxying,
    /// Interrupts of its sessions.
    pub(super) interrupts: Interrupts,
    /// Other shards.
    pub(super) mesh: Mesh,
    /// The lookup thread.
    pub(super) lookup: Lookup,
    /// What authentication says of its messages.
    pub(super) verdicts: Verdicts,
    /// Whether copies of delivered mail may go (H5).
    pub(super) copies_clock: RefCell<ExpiryClock>,
    /// A segment may have become free.
    pub(super) chores: Notify,
    /// What its domains have queued.
    pub(super) lanes: Lanes,
    /// Hosts that its lanes connect to.
    pub(super) hosts: Hosts,
    /// Places for sessions with them.
    pub(super) places: Places,
    /// Whether mail may expire (H5).
    pub(super) expiry_clock: RefCell<ExpiryClock>,
    /// Asks the system about its clock.
    pub(super) synchronisation: fn() -> Synchronisation,
    pub(super) shutting_down: Cell<bool>,
    pub(super) shutdown: Notify,
    /// The identity of the data directory.
    pub(super) store: StoreId,
    /// The keys of mail at rest.
    pub(super) keys: Arc<Keys>,
    pub(super) incarnation: u64,
    /// With the one shard that raises the ceilings in the store file.
    pub(super) identity: Cell<Option<StoreFile>>,
    pub(super) numbers: Cell<u64>,
    pub(super) free: Cell<(Moment, Option<u64>)>,
    /// What the next checkpoint says of each directory, as far as this shard knows; the stamp is exact for its own.
    pub(super) directories: RefCell<BTreeMap<ShardId, DirectoryRow>>,
    /// Checkpoints of the journals.
    pub(super) checkpoints: Checkpoints,
    /// Facts that are being journalled, and told to the keepers.
    pub(super) telling: Epochs,
    /// Deliveries and settlements that name places of records.
    pub(super) looking: Epochs,
    /// What was said last of messages that wait.
    pub(super) codes: RefCell<Codes>,
    /// What became of messages, on its way to the disk.
    pub(super) traces: Traces,
}

impl<D: Disk, C: Clock> Shard<D, C> {
    /// The name of the next message.
    pub(super) fn next_queue_id(&self) -> QueueId {
        self.numbers.set(self.numbers.get() + 1);
        QueueId::new(self.incarnation, self.directory, self.numbers.get())
    }

    /// What a checkpoint says of the directory that it writes into, whose journals before `first` are restated.
    pub(super) fn directory_row(&self, first: SegmentId) -> DirectoryRow {
        let known = self.directories.borrow().get(&self.directory).map(|row| row.last_stamp);
        let last_stamp = known.unwrap_or_default();
        DirectoryRow { shard: self.directory, last_stamp, first_journal: Some(first) }
    }

    /// Wall time in seconds since 1970, as an entry has it.
    pub(super) fn wall_s(&self) -> u32 {
        u32::try_from(self.clock.wall().0 / 1000).unwrap_or(u32::MAX)
    }

    /// Now, as what is said about recipients has it.
    pub(super) fn instants(&self) -> Instants {
        Instants { wall_s: self.wall_s(), now: self.clock.now() }
    }

    /// Free octets of the data directory; none while that cannot be told.
    pub(super) async fn free_octets(&self) -> u64 {
        self.free_if_known().await.unwrap_or(0)
    }

    /// Free octets of the data directory, asked for once a second at most; `None`: that cannot be told.
    pub(super) async fn free_if_known(&self) -> Option<u64> {
        let now = self.clock.now();
        let (asked, free) = self.free.get();
        if now < asked + FREE_SPACE_INTERVAL && asked != Moment::ZERO {
            return free;
        }
        let told = self.disk.free_octets().await.inspect_err(|error| {
            tracing::error!(%error, "cannot tell the free space; mail is refused until that works");
        });
        let free = told.ok();
        self.free.set((now, free));
        free
    }

    /// Whether sessions are told to go.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down.get()
    }

    /// Works off the notes that are there. Never waits: see `mesh`.
    pub(super) fn empty_inbox(&self) {
        while let Ok(note) = self.mesh.inbox.try_recv() {
            self.take_note(note);
        }
    }

    /// Works off one note.
    pub(super) fn take_note(&self, note: Note) {
        match note {
            Note::Arrivals(arrivals) => self.lanes.take_arrivals(arrivals),
            Note::Authenticated(said) => self.lanes.annotate(&said),
            Note::Configuration(snapshot, _taken) => {
                self.forget_passages(&snapshot);
                *self.snapshot.borrow_mut() = snapshot;
                self.expiry_clock.borrow_mut().reload();
                self.copies_clock.borrow_mut().reload();
                self.lanes.stir();
            }
            Note::CheckpointBegins(begin) => self.checkpoints.take_step(Step::Begin(begin)),
            Note::CheckpointComplete(sequence) => self.checkpoints.take_step(Step::Forget(sequence)),
            Note::CheckpointMark(sequence) => self.checkpoints.take_mark(sequence),
            Note::CheckpointWanted => self.checkpoints.want(),
            Note::Flush(domain, pending) => {
                let count = self.lanes.flush(&domain);
                // The asker has room for all answers, unless it has stopped waiting.
                let _ = pending.try_send(count);
            }
            Note::Moved(moved, unused) => {
                self.lanes.relocate(&moved);
                // Whoever works on an old place began before this.
                self.looking.end(unused);
            }
            Note::Replayed(runs, _known) => {
                let mut shelf = self.shelf.borrow_mut();
                runs.iter().for_each(|run| shelf.keep(run));
            }
            Note::Settled(units) => self.settle(&units),
            Note::Upstream(late) => self.take_late(&late),
            Note::Shutdown => self.shut_down(),
        }
    }

    /// What is known of primaries that are others now, or reached otherwise, is not known of them.
    fn forget_passages(&self, next: &Snapshot) {
        let now = self.snapshot.borrow();
        for domain in &next.config.domains {
            let is_same = now
                .domain(&domain.name)
                .is_some_and(|before| before.primaries == domain.primaries && before.tls == domain.tls);
            if now.domain(&domain.name).is_some_and(|before| before.primaries != domain.primaries) {
                next.usage_of(&domain.name).acquaintance.forget();
            }
            if !is_same {
                next.usage_of(&domain.name).passage.forget();
            }
        }
    }

    /// A message of a domain that this shard owns is ours though its primary may have it (H21).
    fn take_late(&self, late: &Late) {
        let Late { domain, stamp, news, .. } = late;
        let until = self.clock.now() + UPSTREAM_OUTCOME_TIMEOUT;
        match news {
            Outstanding::Lost => self.lanes.await_upstream(domain, *stamp, until, false),
            Outstanding::Owed => self.lanes.await_upstream(domain, *stamp, until, true),
            Outstanding::Replied(200..=299) => self.lanes.upstream_took(late.clone()),
            // It has said that it did not take it. 421 is about the session, and what is no reply to the end of data says nothing.
            Outstanding::Replied(400..=420 | 422..=599) => {
                self.lanes.upstream_is_over(domain, *stamp, true);
            }
            Outstanding::Replied(_) | Outstanding::Silent => {
                self.lanes.upstream_is_over(domain, *stamp, false);
            }
        }
    }

    pub(super) fn settle(&self, units: &[SettledUnit]) {
        let mut shelf = self.shelf.borrow_mut();
        for unit in units {
            if let Some((delivered_s, until_s)) = unit.kept {
                let (shard, segment, first) = (unit.shard, unit.segment, unit.unit);
                shelf.keep(&KeptRun {
                    shard,
                    segment,
                    first,
                    count: 1,
                    delivered_s,
                    until_s,
                    replayed: false,
                });
            }
            shelf.settle(unit.shard, unit.segment, unit.unit, unit.outcome);
        }
        drop(shelf);
        self.chores.notify_all();
    }

    fn shut_down(&self) {
        if !self.shutting_down.replace(true) {
            self.interrupts.shut_down();
            self.shutdown.notify_all();
            self.chores.notify_all();
            self.lanes.stir();
        }
    }
}
