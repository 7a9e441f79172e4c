//! What the domains of a shard have queued: memory, no waiting, no delivering.
//!
//! One lane a domain: its queue, the facts on their way to the journal, and who is to be woken. Tasks that work on
//! it are in `replay`.

mod queue;
mod schedule;
mod settlements;

use crate::limits::DELIVERIES_A_SHARD_MAX;
use core::cell::{Cell, RefCell};
pub(super) use queue::{Due, Place, Queue};
pub(super) use schedule::probe_pause;
pub(super) use settlements::Settlements;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::log::Arrival;
use storage::notify::Notify;
use storage::store::Backlog;

/// The lanes of a shard.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: RefCell<HashMap<Arc<str>, Rc<Lane>>>,
    /// Lanes that have mail and no task.
    waiting: RefCell<Vec<Rc<Lane>>>,
    starter: Notify,
    /// Sessions with primaries that are open, or being opened.
    deliveries: Cell<u32>,
    delivery_ends: Notify,
}

/// The mail of one domain.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) domain: Arc<str>,
    pub(super) queue: RefCell<Queue>,
    /// A task runs, or is about to.
    pub(super) running: Cell<bool>,
    /// Mail arrived.
    pub(super) arrived: Notify,
    /// The configuration changed, or the shard shuts down.
    pub(super) stirred: Notify,
    /// Facts that are on their way to the journal.
    pub(super) settlements: Settlements,
    /// Some of them are durable.
    pub(super) settled: Notify,
}

impl Lanes {
    /// Queues mail that is durable. Never waits.
    pub(super) fn take_arrivals(&self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let lane = self.lane(&arrival.domain);
            lane.queue.borrow_mut().arrive(arrival.shard, arrival.entry, Vec::new());
            lane.arrived.notify_all();
            self.wake(lane);
        }
    }

    /// Queues what a start found.
    pub(super) fn take_backlog(&self, backlog: Backlog) {
        let lane = self.lane(&backlog.domain.as_str().into());
        let directory = backlog.shard;
        for queued in backlog.into_queued() {
            if queued.open_units().is_empty() {
                // All that is left of it is held.
                continue;
            }
            let decided = queued.decided.iter().map(|known| known.fact.ordinal).collect();
            lane.queue.borrow_mut().arrive(directory, queued.entry, decided);
            self.wake(Rc::clone(&lane));
        }
    }

    /// All lanes look at their circumstances again.
    pub(super) fn stir(&self) {
        for lane in self.lanes.borrow().values() {
            lane.stirred.notify_all();
        }
        self.starter.notify_all();
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
            running: Cell::new(false),
            arrived: Notify::default(),
            stirred: Notify::default(),
            settlements: Settlements::default(),
            settled: Notify::default(),
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
