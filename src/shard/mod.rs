//! The data plane: one shard a core, everything of it on one executor, nothing shared but stamps, floors and
//! the notes of the [`mesh`].
//!
//! A shard accepts connections, speaks SMTP, appends to its own log and delivers the mail of the domains that
//! hash to it, from all shards' logs. This is the walk of a message:
//!
//! ```text
//! accept -> connection -> smtp::server      what does the client say?
//!               |-> verdict                 is it welcome?
//!               `-> ingest -> storage::log  durable -> 250
//!                                |
//!            committer: arrivals of a batch -> mesh -> replay of the owner
//!                                                         |-> dial -> delivery -> smtp::client -> primary
//!                                                         `-> journal: settled -> mesh -> shelf -> unlink
//! ```
//!
//! Generic over [`Disk`], [`Clock`], [`Dialer`], [`Link`](link::Link) and [`Spawn`]; only `executor` and `socket` know
//! glommio.

pub mod accept;
pub mod caps;
mod connection;
pub mod executor;
mod housekeeping;
mod ingest;
pub mod interrupt;
pub mod link;
pub mod mesh;
mod receive_buffer;
mod replay;
pub mod socket;
mod verdict;

use crate::bridge::{Lookup, Snapshot};
use crate::limits::FREE_SPACE_INTERVAL;
use crate::metrics::Counters;
use crate::smtp::Moment;
use core::cell::{Cell, RefCell};
use interrupt::Interrupts;
use mesh::{Mesh, Note, SettledUnit};
use replay::Replay;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::Log;
use storage::notify::Notify;
use storage::position::{QueueId, ShardId};
use storage::shelf::Shelf;

/// What the tasks of a shard share.
#[derive(Debug)]
pub struct Shard<D: Disk, C: Clock> {
    /// Its number.
    pub id: ShardId,
    /// Shards that run.
    pub shards: u16,
    /// Time.
    pub clock: C,
    /// The data directory.
    pub disk: D,
    /// The log of messages.
    pub mail: Rc<Log<D, C>>,
    /// The log of facts.
    pub journal: Rc<Log<D, C>>,
    /// The segments that it keeps.
    pub shelf: RefCell<Shelf>,
    /// Stamps and floors of all shards.
    pub frontier: Arc<Frontier>,
    /// The configuration in force.
    pub snapshot: RefCell<Arc<Snapshot>>,
    /// What it counts.
    pub counters: Counters,
    /// Interrupts of its sessions.
    pub interrupts: Interrupts,
    /// Other shards.
    pub mesh: Mesh,
    /// The lookup thread.
    pub lookup: Lookup,
    /// A segment may have become free.
    pub chores: Notify,
    replay: Replay,
    shutting_down: Cell<bool>,
    shutdown: Notify,
    incarnation: u64,
    /// With the one shard that raises the stamp ceiling.
    identity: Cell<Option<StoreFile>>,
    numbers: Cell<u64>,
    free: Cell<(Moment, u64)>,
}

impl<D: Disk, C: Clock> Shard<D, C> {
    /// The name of the next message.
    pub fn next_queue_id(&self) -> QueueId {
        self.numbers.set(self.numbers.get() + 1);
        QueueId::new(self.incarnation, self.id, self.numbers.get())
    }

    /// Free octets of the data directory, asked for once a second at most.
    pub async fn free_octets(&self) -> u64 {
        let now = self.clock.now();
        let (asked, free) = self.free.get();
        if now < asked + FREE_SPACE_INTERVAL && asked != Moment::ZERO {
            return free;
        }
        let free = self.disk.free_octets().await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot tell the free space; mail is refused until that works");
            0
        });
        self.free.set((now, free));
        free
    }

    /// Whether sessions are told to go.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.get()
    }

    /// Works off the notes that are there. Never waits: see [`mesh`].
    pub fn empty_inbox(&self) {
        while let Ok(note) = self.mesh.inbox.try_recv() {
            self.take_note(note);
        }
    }

    /// Works off one note.
    pub fn take_note(&self, note: Note) {
        match note {
            Note::Arrivals(arrivals) => self.replay.take_arrivals(arrivals),
            Note::Configuration(snapshot) => {
                *self.snapshot.borrow_mut() = snapshot;
                self.replay.stir();
            }
            Note::Settled(units) => self.settle(&units),
            Note::Shutdown => self.shut_down(),
        }
    }

    fn settle(&self, units: &[SettledUnit]) {
        let mut shelf = self.shelf.borrow_mut();
        for unit in units {
            shelf.settle(unit.shard, unit.segment, unit.unit, &unit.domain, unit.outcome);
        }
        drop(shelf);
        self.chores.notify_all();
    }

    fn shut_down(&self) {
        if !self.shutting_down.replace(true) {
            self.interrupts.shut_down();
            self.shutdown.notify_all();
            self.chores.notify_all();
            self.replay.stir();
        }
    }
}
