//! What the domains of a shard have queued: memory, no waiting, no delivering.
//!
//! One lane a domain: its queue, the facts on their way to the journal, and who is to be woken. Tasks that work on
//! it are in `replay`.

mod deferred;
mod queue;
mod schedule;
mod settlements;
mod sorted;
mod trouble;
mod untried;
mod waiting;

use super::mesh::{Moved, Said};
use crate::bridge::{DomainUsage, Usage};
use crate::limits::DELIVERIES_A_SHARD_MAX;
use core::cell::{Cell, RefCell};
pub(super) use queue::{Changed, Due, Ended, Queue, Seen, Walk};
pub(super) use schedule::probe_pause;
pub(super) use settlements::{Settlement, Settlements};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::checkpoint::Queued;
use storage::format::index_file::IndexEntry;
use storage::format::journal_entry::Authentication;
use storage::log::Arrival;
use storage::notify::Notify;
use storage::store::Backlog;
pub(super) use trouble::Trouble;
pub(super) use waiting::Place;

/// The lanes of a shard.
#[derive(Debug)]
pub(super) struct Lanes {
    usage: Arc<Usage>,
    lanes: RefCell<HashMap<Arc<str>, Rc<Lane>>>,
    /// Lanes that have mail and no task.
    waiting: RefCell<Vec<Rc<Lane>>>,
    starter: Notify,
    /// The configuration changed, or the shard shuts down.
    pub(super) stirred: Notify,
    /// Sessions with primaries that are open, or being opened.
    deliveries: Cell<u32>,
    delivery_ends: Notify,
}

/// The mail of one domain.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) domain: Arc<str>,
    pub(super) queue: RefCell<Queue>,
    /// What is queued and held of it.
    pub(super) usage: Arc<DomainUsage>,
    /// A task runs, or is about to.
    pub(super) running: Cell<bool>,
    /// A start found mail that waits.
    pub(super) found: Cell<bool>,
    /// Mail arrived.
    pub(super) arrived: Notify,
    /// The configuration changed, or the shard shuts down.
    pub(super) stirred: Notify,
    /// Facts that are on their way to the journal.
    pub(super) settlements: Settlements,
    /// Some of them are durable.
    pub(super) settled: Notify,
    /// How its primaries are doing.
    pub(super) trouble: RefCell<Trouble>,
}

/// Octets of storage that an entry keeps: what usage is raised by when it is stored, and lowered by in the end.
pub(super) const fn stored_octets(entry: &IndexEntry) -> u64 {
    entry.stored_octets()
}

impl Lanes {
    /// No lanes yet; what they will hold is counted in `usage`.
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        Self {
            usage,
            lanes: RefCell::default(),
            waiting: RefCell::default(),
            starter: Notify::default(),
            stirred: Notify::default(),
            deliveries: Cell::new(0),
            delivery_ends: Notify::default(),
        }
    }

    /// Queues mail that is durable and counted. Never waits.
    pub(super) fn take_arrivals(&self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let lane = self.lane(&arrival.domain);
            lane.queue.borrow_mut().arrive(arrival.shard, arrival.entry, &[]);
            lane.arrived.notify_all();
            self.wake(lane);
        }
    }

    /// Queues what a start found, and counts it.
    pub(super) fn take_backlog(&self, backlog: Backlog) {
        let lane = self.lane(&backlog.domain.as_str().into());
        let directory = backlog.shard;
        let mut queue = lane.queue.borrow_mut();
        for queued in backlog.into_queued() {
            let entry = queued.entry;
            if queue.knows(entry.stamp) {
                // A copy of the record in another directory (H10).
                lane.usage.accepted_twice(entry.count.into());
                continue;
            }
            lane.usage.raise(stored_octets(&entry));
            let said = Authentication { stamp: entry.stamp, bits: queued.authentication };
            for held in queued.held_units() {
                queue.hold((directory, entry), &[held.fact.ordinal], held.since_s);
            }
            // Else all that is left of it is held.
            if queued.decided.len() < usize::from(entry.count) {
                let decided: Vec<u16> = queued.decided.iter().map(|known| known.fact.ordinal).collect();
                queue.arrive(directory, entry, &decided);
                lane.found.set(true);
                self.wake(Rc::clone(&lane));
            }
            if said.bits != 0 {
                queue.annotate(said);
            }
        }
    }

    /// Notes what authentication said.
    pub(super) fn annotate(&self, all: &[Said]) {
        let lanes = self.lanes.borrow();
        for Said { domains, authentication } in all {
            for lane in domains.iter().filter_map(|domain| lanes.get(domain)) {
                lane.queue.borrow_mut().annotate(*authentication);
            }
        }
    }

    /// Records lie elsewhere now.
    pub(super) fn relocate(&self, moved: &Moved) {
        let lanes = self.lanes.borrow();
        for (domain, entries) in &moved.domains {
            let Some(lane) = lanes.get(domain) else { continue };
            let mut queue = lane.queue.borrow_mut();
            for entry in entries {
                // Those that it does not know ended while they were copied.
                queue.relocate(moved.shard, *entry);
            }
        }
    }

    /// What a checkpoint restates of the queues.
    pub(super) fn queued(&self) -> Queued {
        let mut queued = Queued::default();
        for lane in self.lanes.borrow().values() {
            let queue = lane.queue.borrow();
            queued.held.extend(queue.held());
            queued.authentications.extend(queue.authentications());
        }
        // A message in several domains, or held in part, is told once.
        queued.authentications.sort_unstable();
        queued.authentications.dedup();
        queued
    }

    /// The lane of a domain, if it ever had mail in this life.
    pub(super) fn of(&self, domain: &str) -> Option<Rc<Lane>> {
        self.lanes.borrow().get(domain).map(Rc::clone)
    }

    /// The counts of a domain that may have no lane.
    pub(super) fn usage_of(&self, domain: &str) -> Arc<DomainUsage> {
        self.usage.domain(domain)
    }

    /// Something was put back into the queue of a lane.
    pub(super) fn requeued(&self, lane: &Rc<Lane>) {
        lane.arrived.notify_all();
        self.wake(Rc::clone(lane));
    }

    /// Notes what went wrong with a domain's primaries.
    pub(super) fn note_trouble(&self, domain: &str, at_s: u32, reason: String) {
        if let Some(lane) = self.of(domain) {
            lane.trouble.borrow_mut().note(at_s, reason);
        }
    }

    /// All lanes there are.
    pub(super) fn all(&self) -> Vec<Rc<Lane>> {
        self.lanes.borrow().values().map(Rc::clone).collect()
    }

    /// All lanes look at their circumstances again.
    pub(super) fn stir(&self) {
        for lane in self.lanes.borrow().values() {
            lane.stirred.notify_all();
        }
        self.starter.notify_all();
        self.stirred.notify_all();
    }

    /// Everything of a domain is due, whatever it waits for; its lane looks at once. Gives how many messages are
    /// queued, those among them that are being sent.
    pub(super) fn flush(&self, domain: &str) -> u64 {
        let lane = self.lanes.borrow().get(domain).map(Rc::clone);
        let Some(lane) = lane else { return 0 };
        let pending = lane.queue.borrow_mut().flush();
        lane.stirred.notify_all();
        pending as u64
    }

    /// Facts that are not durable yet.
    pub(super) fn outstanding(&self) -> u32 {
        self.lanes.borrow().values().map(|lane| lane.settlements.outstanding()).sum()
    }

    /// Waits for a place among the sessions with primaries and takes it; the counterpart is [`Self::leave`].
    pub(super) async fn enter(&self) {
        loop {
            let ends = self.delivery_ends.wait();
            if self.deliveries.get() < DELIVERIES_A_SHARD_MAX {
                self.deliveries.set(self.deliveries.get() + 1);
                return;
            }
            ends.await;
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.deliveries.set(self.deliveries.get() - 1);
        self.delivery_ends.notify_all();
    }

    /// Lanes that have mail and no task, once there are any. The caller starts their tasks.
    pub(super) async fn waiting(&self) -> Vec<Rc<Lane>> {
        let wait = self.starter.wait();
        if self.waiting.borrow().is_empty() {
            wait.await;
        }
        self.waiting.take()
    }

    fn lane(&self, domain: &Arc<str>) -> Rc<Lane> {
        if let Some(lane) = self.lanes.borrow().get(domain) {
            return Rc::clone(lane);
        }
        let lane = Rc::new(Lane {
            domain: Arc::clone(domain),
            queue: RefCell::default(),
            usage: self.usage.domain(domain),
            running: Cell::new(false),
            found: Cell::new(false),
            arrived: Notify::default(),
            stirred: Notify::default(),
            settlements: Settlements::default(),
            settled: Notify::default(),
            trouble: RefCell::default(),
        });
        self.lanes.borrow_mut().insert(Arc::clone(domain), Rc::clone(&lane));
        lane
    }

    fn wake(&self, lane: Rc<Lane>) {
        if !lane.running.replace(true) {
            self.waiting.borrow_mut().push(lane);
            self.starter.notify_all();
        }
    }
}
