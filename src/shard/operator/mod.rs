//! Answers to the operator: one task a shard, over the lanes that it owns.
//!
//! One question at a time, but for searches, exports, traces, replays and test messages, which have tasks of their own; each bounded by its page, with a turn for others between steps; what is read from the disk is
//! read beside the deliveries, never instead of one. A question that comes while the queue of questions is full waits in
//! the admin thread. An answer that nobody waits for any more is dropped.
//!
//! What is done to messages changes the queue first, so that no delivery picks them up meanwhile, and is told when its
//! facts are durable; a crash before that leaves each message as it was, or as it was asked for.

mod act;
mod copies;
mod export;
mod figures;
mod find;
mod pick;
mod replay;
mod replayed;
mod row;
mod sift;
mod together;
mod traced;
pub(super) mod view;

use super::link::{Dialer, Spawn};
use super::mesh::owner;
use super::replay::test_message;
use super::state::Shard;
use crate::bridge::operator::{Copy, MessageDetail, Replayed, Request, ShardStatus, SinceStart, Thawed};
use crate::limits::{OPERATOR_EXPORTS_MAX, TRACES_READ_MAX};
use crate::metrics::{Admission, GuardEvent};
use async_channel::{Receiver, Sender};
use core::cell::{Cell, RefCell};
use futures_lite::future::or;
use replayed::Remembered;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Answers until the shard shuts down.
pub(super) async fn run<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    requests: Receiver<Request>,
    dialer: N,
    spawn: S,
) {
    let (exports, shows) = (Rc::<Cell<u32>>::default(), Rc::<Cell<u32>>::default());
    let (tests, traces) = (Rc::<Cell<u32>>::default(), Rc::<Cell<u32>>::default());
    let remembered = Rc::<RefCell<Remembered>>::default();
    while !shard.is_shutting_down() {
        let shutdown = shard.shutdown.wait();
        let next = or(async { requests.recv().await.ok() }, async {
            shutdown.await;
            None
        });
        // Or there is nobody who asks: no listener is configured.
        let Some(request) = next.await else { break };
        remembered.borrow_mut().forget(shard.clock.now());
        if let Request::Show(id, answer) = request {
            // It may search for long, and whoever asks whether the server is ready does not wait for it.
            let (shard, shows) = (Rc::clone(&shard), Rc::clone(&shows));
            if shows.get() < OPERATOR_EXPORTS_MAX {
                spawn.spawn(show(shard, id, answer, shows));
            }
            continue;
        }
        if let Request::Try(domain, hosts, recipient, answer) = request {
            if owns(&shard, &domain) && tests.get() < OPERATOR_EXPORTS_MAX {
                let (shard, dialer, beside) = (Rc::clone(&shard), dialer.clone(), spawn.clone());
                let tests = Rc::clone(&tests);
                tests.set(tests.get() + 1);
                spawn.spawn(async move {
                    let said = test_message(&shard, &dialer, &beside, &domain, hosts, &recipient).await;
                    tests.set(tests.get() - 1);
                    let _ = answer.try_send(Some(said));
                });
            } else {
                let _ = answer.try_send(None);
            }
            continue;
        }
        if let Request::Trace(wanted, answer) = request {
            let (shard, traces) = (Rc::clone(&shard), Rc::clone(&traces));
            if traces.get() < TRACES_READ_MAX {
                traces.set(traces.get() + 1);
                spawn.spawn(async move {
                    let page = traced::run(&shard, &wanted).await;
                    traces.set(traces.get() - 1);
                    let _ = answer.try_send(page);
                });
            }
            continue;
        }
        if let Request::Export(id, domain, parts) = request {
            if owns(&shard, &domain) {
                let (shard, exports) = (Rc::clone(&shard), Rc::clone(&exports));
                spawn.spawn(export::run(shard, id, domain, parts, exports));
            }
            continue;
        }
        if let Request::Replay(domain, copies, answer) = request {
            if owns(&shard, &domain) {
                let (shard, remembered) = (Rc::clone(&shard), Rc::clone(&remembered));
                spawn.spawn(replay(shard, domain, copies, answer, remembered));
            } else {
                let _ = answer.try_send(None);
            }
            continue;
        }
        answer(&shard, request).await;
    }
    // Whoever waits for an answer learns that none comes.
    requests.close();
    while requests.try_recv().is_ok() {}
}

async fn answer<D: Disk, C: Clock>(shard: &Rc<Shard<D, C>>, request: Request) {
    // An asker that has stopped waiting needs no answer.
    match request {
        Request::Act(action, selection, answer) => {
            if let Some(done) = act::run(shard, action, selection).await {
                let _ = answer.try_send(done);
            }
        }
        Request::Copies(wanted, answer) => drop(answer.try_send(copies::run(shard, &wanted).await)),
        Request::Domains(names, answer) => drop(answer.try_send(view::domains(shard, &names))),
        Request::Drill(domain, wanted, answer) => {
            let begun = owns(shard, &domain) && drill(shard, &domain, wanted);
            let _ = answer.try_send(begun);
        }
        Request::Export(..)
        | Request::Replay(..)
        | Request::Show(..)
        | Request::Trace(..)
        | Request::Try(..) => {
            unreachable!("taken by the caller")
        }
        Request::Flush(domain, answer) => {
            let pending = if owns(shard, &domain) { flush(shard, &domain) } else { 0 };
            let _ = answer.try_send(pending);
        }
        Request::List(filter, answer) => drop(answer.try_send(view::list(shard, &filter).await)),
        Request::Measure(names, shown, answer) => {
            drop(answer.try_send(figures::measure(shard, &names, shown).await));
        }
        Request::Ordered(domain, is_rerouted, answer) => {
            if owns(shard, &domain) {
                shard.lanes.ordered(&domain, is_rerouted);
            }
            let _ = answer.try_send(());
        }
        Request::Status(answer) => drop(answer.try_send(status(shard).await)),
        Request::Thaw(domain, answer) => {
            let thawed = if owns(shard, &domain) { thaw(shard, &domain) } else { Thawed::default() };
            let _ = answer.try_send(thawed);
        }
    }
}

/// Looks for a message; without an answer it was not found in time.
async fn show<D: Disk, C: Clock>(
    shard: Rc<Shard<D, C>>,
    id: String,
    answer: Sender<Vec<MessageDetail>>,
    shows: Rc<Cell<u32>>,
) {
    shows.set(shows.get() + 1);
    if let Ok(shown) = view::show(&shard, &id).await {
        let _ = answer.try_send(shown);
    }
    shows.set(shows.get() - 1);
}

/// Queues copies once more, unless others of the domain are.
async fn replay<D: Disk, C: Clock>(
    shard: Rc<Shard<D, C>>,
    domain: Arc<str>,
    copies: Vec<Copy>,
    answer: Sender<Option<Replayed>>,
    remembered: Rc<RefCell<Remembered>>,
) {
    let begun = remembered.borrow_mut().begin(&domain);
    let done = match begun {
        Ok(()) => {
            let done = replay::run(&shard, &domain, copies, &remembered).await;
            remembered.borrow_mut().end(&domain);
            done
        }
        Err(reason) => Replayed { refused: Some(reason.to_owned()), ..Replayed::default() },
    };
    // An asker that has stopped waiting needs no answer.
    let _ = answer.try_send(Some(done));
}

fn owns<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &str) -> bool {
    owner(domain, shard.shards) == shard.id
}

/// Begins a drill, or ends it: whether it begins.
fn drill<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &str,
    wanted: Option<(String, core::time::Duration)>,
) -> bool {
    let (drill, now) = (&shard.lanes.usage_of(domain).drill, shard.clock.now());
    let Some((mailbox, lasts)) = wanted else {
        drill.end();
        return false;
    };
    drill.begin(&mailbox, now + lasts, now)
}

fn flush<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &str) -> u64 {
    let pending = shard.lanes.flush(domain);
    tracing::info!(domain, pending, "flushed by an operator");
    pending
}

fn thaw<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &str) -> Thawed {
    let was_frozen = shard.lanes.thaw(domain, shard.clock.now());
    let was_changed = shard.lanes.vouch(domain, shard.instants());
    if was_frozen {
        shard.counters.guard.of(GuardEvent::Thawed).add(1);
    }
    if was_frozen || was_changed {
        tracing::info!(%domain, was_frozen, was_changed, "thawed by an operator");
    }
    Thawed { was_frozen, was_changed }
}

async fn status<D: Disk, C: Clock>(shard: &Shard<D, C>) -> ShardStatus {
    let counters = &shard.counters;
    ShardStatus {
        since_start: SinceStart {
            connections: counters.connections.of(Admission::Accepted).value(),
            messages: counters.messages.sum(),
            accepted: counters.accepted.value(),
            delivered: counters.delivered.value(),
            deferred: counters.deferred.value(),
        },
        free_octets: shard.free_octets().await,
    }
}
