//! The task of one lane: connect, keep the windows of its connections (`session`) full in the order of tickets (`order`), write down
//! what became of each message (`ending`), pause when nobody answers.
//!
//! A round begins with one connection and has more as the primary takes them (`backlog::pace`). A message is pushed behind those
//! before it on the same connection while these are in flight, or waits for those elsewhere, so A leaves before B (P3); when the session
//! breaks both go back to their places. What is in flight on all connections and what is not settled durably are bounded together (P4). Whatever ends a
//! session, a shutdown or another configuration for one, what is in flight gets its outcome first. After an outage the guard
//! says how many may go before they are answered, and what refusals mean (`guarded`).
//!
//! Greylisting is no outage (DESIGN.md 5): what is greylisted steps aside until the primary expects it, the rest goes on, in another session
//! before this one has too many errors. A 421 behind answers is a limit of the primary's; where it is all that comes of a session, and nothing was
//! taken or greylisted, the primary puts everything off.

mod acquainted;
mod ending;
mod guarded;
mod order;
mod reading;
mod round;
mod sealing;
mod session;
mod traced;

use super::connect::{Unserved, Way};
use super::delivery::Delivery;
use super::settle;
use crate::bridge::Snapshot;
use crate::bridge::operator::Failure;
use crate::config::Domain;
use crate::limits::{ORDER_LOOK_INTERVAL, RECONNECT_PAUSE};
use crate::shard::backlog::{Due, Health, Lane, Pace, Place, Sign, probe_pause};
use crate::shard::link::{Dialer, Spawn};
use crate::shard::state::Shard;
use crate::smtp::Moment;
use crate::smtp::client::{ClientFailure, Window};
use core::cell::Cell;
use core::time::Duration;
use futures_lite::future::or;
use round::Round;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::notify::Wait;
use storage::position::Stamp;
use storage::reader::Reader;

struct Task<D: Disk, C: Clock, N: Dialer, S: Spawn> {
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    spawn: S,
    reader: Reader<D>,
    /// What its connections share.
    round: Round<D>,
    failures: Cell<u32>,
    /// The round in hand delivered something.
    progressed: Cell<bool>,
    /// It had an answer to a message, whatever that was.
    answered: Cell<bool>,
    /// Something stepped aside in it since it is greylisted.
    greylisted: Cell<bool>,
    /// The message over which a session broke that had others in flight: it is tried alone (H44).
    suspect: Cell<Option<Stamp>>,
    /// Sessions of this try that were made only to ask whether a message or the primary ends sessions.
    questions: Cell<u32>,
    /// The last session broke, or everything was put off: one message at a time until one gets through.
    cautious: Cell<bool>,
    /// Seals are asked for again from then on.
    seals_from: Cell<Moment>,
    /// The same for mail that came with a chain of them.
    chains_from: Cell<Moment>,
    /// The end of the last maintenance behind which the lane began with care.
    resumed_s: Cell<u64>,
}

/// How a session with the primary ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// In the middle of a transaction, by us: there is nobody to take leave of.
    Cut,
    /// Everything due was handed over.
    Done,
    /// The session or the primary failed: pause before the next one.
    Failed,
    /// The guard stops the lane.
    Frozen,
    /// The shard shuts down, or the configuration is another.
    Interrupted,
    /// The primary ended the session by 421, behind answers: pause, unless something came of it.
    Limited,
    /// The primary puts everything off: as `Failed`.
    PutOff,
    /// The primary took us for the client of one message, and the next thing is another's: a new session, at once.
    Turned,
}

/// What [`Task::push_next`] came to.
enum Pushed {
    /// Nothing can go now.
    Nothing,
    /// Nothing yet, and a disk takes its time: it is looked around between two reads.
    Again,
    /// A message.
    One,
    /// The next message's client is another than the one whom this session speaks for.
    OfAnother,
}

/// Runs a lane until its queue is empty.
pub(super) async fn run<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    spawn: S,
) {
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let (round, failures, progressed, answered, greylisted) = Default::default();
    let (suspect, cautious, seals_from, chains_from, resumed_s) = Default::default();
    let task = Rc::new(Task {
        shard,
        lane,
        dialer,
        spawn,
        reader,
        round,
        failures,
        progressed,
        answered,
        greylisted,
        suspect,
        questions: Cell::new(0),
        cautious,
        seals_from,
        chains_from,
        resumed_s,
    });
    let lane = Rc::clone(&task.lane);
    while !task.shard.is_shutting_down() {
        let stirred = lane.stirred.wait();
        let arrived = lane.arrived.wait();
        let snapshot = Arc::clone(&task.shard.snapshot.borrow());
        let Some(domain) = snapshot.domain(&lane.domain) else {
            // H14: mail of a domain that is not protected any more waits for it to come back.
            tracing::warn!(domain = %task.lane.domain, "queued mail of a domain that is not configured waits");
            stirred.await;
            continue;
        };
        if lane.found.take() {
            task.witness(&snapshot, Sign::Found);
        }
        task.resume(&snapshot);
        task.lane.tell_clear();
        let now = task.shard.clock.now();
        let due = task.lane.queue.borrow().due(now, task.limit());
        match due {
            Due::Nothing => {
                // Else it was held, dropped or past its time: that says nothing of the primary.
                if lane.health.get() == Health::Recovering {
                    task.witness(&snapshot, Sign::Drained);
                }
                break;
            }
            Due::At(_) | Due::Now if task.held_for().is_some() => task.wait_for_orders(stirred).await,
            Due::At(moment) if !task.lane.guard.borrow().is_frozen() => {
                let sleep = task.shard.clock.sleep(moment.saturating_sub(now));
                or(sleep, or(stirred, arrived)).await;
            }
            Due::At(_) | Due::Now => task.try_primaries(&snapshot, domain, stirred).await,
        }
    }
    task.lane.running.set(false);
}

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// The last stamp that may go: while a shard is missing, what came after its last known message waits (H2).
    fn limit(&self) -> Stamp {
        self.shard.frontier.held_back_above().unwrap_or(Stamp(u64::MAX))
    }

    /// How long the operator has nothing handed over.
    fn held_for(&self) -> Option<Duration> {
        self.lane.usage.orders.get().held_for(self.shard.wall_s().into())
    }

    /// Whether mail goes to other hosts than the primaries.
    fn is_redirected(&self) -> bool {
        self.round.standing.borrow().redirect.is_some()
    }

    /// Behind a maintenance in which nobody was met the primary may be another one: it is met as after an outage (H22, H40).
    fn resume(&self, snapshot: &Snapshot) {
        let now = self.shard.clock.now();
        let Some(ended_s) = self.lane.usage.resumes(self.shard.wall_s().into(), now) else { return };
        if self.resumed_s.replace(ended_s) != ended_s {
            self.witness(snapshot, Sign::Rerouted);
        }
    }

    /// Sleeps while that holds, and looks at it now and then: wall time may be set.
    async fn wait_for_orders(&self, stirred: Wait<'_>) {
        let Some(held) = self.held_for() else { return };
        self.lane.next_try.set(Some(self.shard.clock.now() + held));
        or(self.shard.clock.sleep(held.min(ORDER_LOOK_INTERVAL)), stirred).await;
    }

    /// One try: the first primary that answers gets the queue; if none does, a pause.
    ///
    /// `stirred` began before the configuration was read: a change on the way ends the pause (SIGHUP).
    async fn try_primaries(self: &Rc<Self>, snapshot: &Arc<Snapshot>, domain: &Domain, stirred: Wait<'_>) {
        for was in [&self.progressed, &self.answered, &self.greylisted] {
            was.set(false);
        }
        self.questions.set(0);
        self.lane.next_try.set(None);
        let ended = self.hand_over(snapshot, domain).await;
        match ended {
            Ended::Cut | Ended::Done | Ended::Interrupted | Ended::Turned => {
                self.failures.set(0);
                return;
            }
            Ended::Failed | Ended::Limited if self.progressed.get() || self.greylisted.get() => {
                self.cautious.set(true);
                // It serves, so much at a time: a limit of its own, not an outage.
                self.failures.set(0);
                or(self.shard.clock.sleep(RECONNECT_PAUSE), stirred).await;
                return;
            }
            Ended::Frozen if self.lane.guard.borrow().is_frozen() => self.witness(snapshot, Sign::Frozen),
            // An operator thawed it meanwhile.
            Ended::Failed | Ended::Frozen => {}
            Ended::Limited | Ended::PutOff => {
                self.witness(snapshot, Sign::PutOff);
                if self.progressed.get() {
                    // It took something before: what failed until then is over.
                    self.failures.set(0);
                }
            }
        }
        self.cautious.set(true);
        // Whoever comes back is met with one connection.
        self.lane.pace.set(Pace::default());
        self.failures.set(self.failures.get() + 1);
        let pause = probe_pause(self.failures.get(), domain.retry_interval);
        let state = self.lane.health.get().state();
        self.lane.next_try.set(Some(self.shard.clock.now() + pause));
        tracing::info!(domain = %domain.name, %state, pause_s = pause.as_secs(), "the primary is tried again later");
        or(self.shard.clock.sleep(pause), stirred).await;
    }

    /// Connects and drains; again at once, for as long as each session speaks for one client only.
    async fn hand_over(self: &Rc<Self>, snapshot: &Arc<Snapshot>, domain: &Domain) -> Ended {
        let mut place = self.shard.places.take(self.lane.health.get().is_outage()).await;
        let mut is_first = true;
        loop {
            let standing = self.lane.usage.orders.get();
            self.round.standing.replace(standing);
            let is_careful = self.cautious.get() || self.suspect.get().is_some();
            let window = if is_careful { Window::cautious() } else { Window::default() };
            let (shard, dialer, insists) = (&*self.shard, &self.dialer, self.lane.insists.take());
            let way = Way { shard, dialer, domain, lane: Some(&self.lane), insists, window };
            let is_probe = self.lane.health.get().is_outage();
            let connected = way.connect().await;
            self.contacted(connected.as_ref().map(|_| ()), is_probe);
            let mut delivery = match connected {
                Ok(delivery) => delivery,
                Err(unserved) => {
                    let is_pacing = unserved == Unserved::Busy;
                    self.witness(snapshot, if is_pacing { Sign::Paced } else { Sign::Unserved });
                    return Ended::Failed;
                }
            };
            place = self.shard.places.found_up(place);
            // Not of one that another configuration has replaced meanwhile.
            if Arc::ptr_eq(snapshot, &self.shard.snapshot.borrow()) && !self.is_redirected() {
                self.lane.usage.passage.prove(self.shard.clock.now());
                self.lane.usage.passage.set_trusted(delivery.offers_xclient());
            }
            if !self.meet(&mut delivery, snapshot, domain).await {
                self.close(delivery, Ended::Turned, domain);
                continue;
            }
            self.witness(snapshot, Sign::Served);
            if core::mem::take(&mut is_first) {
                self.tell_up(&delivery, domain);
            }
            let profile = delivery.profile();
            self.lane.pacing.borrow_mut().set_rate(profile.rate());
            self.round.begin(profile);
            self.lane.is_offering.set(true);
            self.drain(delivery, snapshot, domain, false).await;
            let ended = self.round.over().await;
            self.close_round(ended, domain);
            if matches!(ended, Ended::Failed) && !self.progressed.get() && !self.greylisted.get() {
                // It greets, and that is all.
                self.witness(snapshot, Sign::Unserved);
            }
            if !matches!(ended, Ended::Turned) {
                return ended;
            }
        }
    }

    /// Most connections that the primary may have.
    fn connections_max(&self, domain: &Domain) -> usize {
        let configured = usize::try_from(domain.max_connections).unwrap_or(usize::MAX);
        configured.min(self.round.profile.get().connections_max())
    }

    /// Something was learned of how many connections the primary takes.
    fn paced(&self, learn: impl FnOnce(&mut Pace, Moment)) {
        let mut pace = self.lane.pace.get();
        learn(&mut pace, self.shard.clock.now());
        self.lane.pace.set(pace);
    }

    fn tell_up(&self, delivery: &Delivery<N::Link, C, D>, domain: &Domain) {
        let queue = self.lane.queue.borrow();
        let cursor = queue.cursor().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (queued, memory_octets) = (queue.len(), queue.memory_octets());
        let (host, tls) = (delivery.host(), delivery.tls());
        tracing::info!(
            domain = %domain.name, %host, tls, queued, memory_octets, cursor, "the primary is up: handing over"
        );
    }

    /// What is left to do when a session is over.
    fn close(&self, delivery: Delivery<N::Link, C, D>, ended: Ended, domain: &Domain) {
        if delivery.distrusts_chunks() {
            tracing::warn!(
                domain = %domain.name, host = %delivery.host(),
                "the primary offers CHUNKING and does not keep in step with a refused chunk: DATA for a day"
            );
            self.shard.hosts.distrust(delivery.host(), self.shard.clock.now());
        }
        if !matches!(ended, Ended::Cut) {
            // Beside the lane: some never answer QUIT.
            self.spawn.spawn(delivery.close());
        }
    }

    /// What is left to do when the last one is.
    fn close_round(&self, ended: Ended, domain: &Domain) {
        let now = self.shard.clock.now();
        let mut queue = self.lane.queue.borrow_mut();
        let mut order = self.round.order.borrow_mut();
        for stamp in order.waiting().collect::<Vec<_>>() {
            order.leave(stamp);
            let (place, _) = queue.out(stamp);
            queue.put_back(place);
        }
        assert_eq!(order.in_flight(), 0, "what is in flight has an outcome before its connection is closed");
        self.lane.usage.passage.set_handing_over(self.lane.settlements.outstanding());
        self.lane.guard.borrow_mut().session_ended();
        match ended {
            Ended::Done => {
                self.suspect.set(None);
                queue.suspects_step_aside(now, domain.retry_interval);
            }
            // Nobody has spoken for the primary: those that it put off are in order again.
            Ended::Cut
            | Ended::Failed
            | Ended::Frozen
            | Ended::Interrupted
            | Ended::Limited
            | Ended::PutOff => queue.restore_suspects(),
            // It goes on in the next session.
            Ended::Turned => {}
        }
        // A task may run as soon as it is spawned.
        drop((queue, order));
        self.lane.is_offering.set(false);
        // None is on its way.
        self.lane.offers.borrow_mut().close(|_| true);
        if self.lane.offers.borrow().has_closed() {
            self.spawn.spawn(settle::close_offers(Rc::clone(&self.shard), Rc::clone(&self.lane)));
        }
        self.reader.forget_all();
    }

    /// What went wrong last, for the operator.
    fn note(&self, reason: String) {
        self.lane.failure.replace(Some(Failure { at_s: self.shard.wall_s(), reason }));
    }

    fn session_failed(&self, delivery: &Delivery<N::Link, C, D>) -> Ended {
        let reason = delivery.failure().map(ToString::to_string);
        self.note(reason.clone().unwrap_or_else(|| "the session with the primary ended".to_owned()));
        tracing::info!(domain = %self.lane.domain, reason, "the session with the primary ended");
        match delivery.failure() {
            Some(ClientFailure::ServiceClosing(_)) if self.answered.get() => Ended::Limited,
            _ => Ended::Failed,
        }
    }

    /// The next entry. The horizon is read before the inbox is emptied: whatever is below it has been told by
    /// then (H12).
    fn next(&self) -> Option<Place> {
        let horizon = self.shard.frontier.horizon();
        self.shard.empty_inbox();
        self.lane.queue.borrow_mut().next(horizon, self.shard.clock.now())
    }
}
