//! Handing mail over: one lane a domain with backlog, run by the shard that owns the domain.
//!
//! A lane's task lives while there is something to deliver. It opens a session with the first primary that
//! answers and sends what is queued in the order of stamps, merged over all shards' logs; a stamp goes out
//! only when every shard's durable frontier has passed it. While nobody answers it tries again by the
//! schedule. What each primary's answer means is in `outcome`, what waits and what steps aside in `queue`.
//!
//! Not built yet: parallel lanes, the bounce guard, canaries; they grow here.

mod delivery;
mod lane;
mod outcome;
mod queue;
mod route;
mod schedule;
mod settle;

use super::Shard;
use super::link::{Dialer, Spawn};
use core::cell::{Cell, RefCell};
use queue::Queue;
use settle::Settlements;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::log::Arrival;
use storage::notify::Notify;
use storage::store::Backlog;

/// The lanes of a shard.
#[derive(Debug, Default)]
pub(super) struct Replay {
    lanes: RefCell<HashMap<Arc<str>, Rc<Lane>>>,
    /// Lanes that have mail and no task.
    waiting: RefCell<Vec<Rc<Lane>>>,
    starter: Notify,
}

/// The mail of one domain.
#[derive(Debug)]
struct Lane {
    domain: Arc<str>,
    queue: RefCell<Queue>,
    /// A task runs, or is about to.
    running: Cell<bool>,
    /// Mail arrived.
    arrived: Notify,
    /// The configuration changed, or the shard shuts down.
    stirred: Notify,
    /// Facts that are on their way to the journal.
    settlements: Settlements,
    /// Some of them are durable.
    settled: Notify,
}

impl Replay {
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
        for queued in backlog.queued {
            if queued.open_units().is_empty() {
                // All that is left of it is held.
                continue;
            }
            let decided = queued.facts.iter().map(|fact| fact.ordinal).collect();
            lane.queue.borrow_mut().arrive(backlog.shard, queued.entry, decided);
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

/// Starts tasks for lanes that have mail, until the shard shuts down.
pub(super) async fn start_lanes<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    dialer: N,
    spawn: S,
) {
    while !shard.is_shutting_down() {
        let wait = shard.replay.starter.wait();
        let waiting = shard.replay.waiting.take();
        if waiting.is_empty() {
            wait.await;
        }
        for lane in waiting {
            spawn.spawn(lane::run(Rc::clone(&shard), lane, dialer.clone(), spawn.clone()));
        }
    }
}
