//! What the domains of a shard have queued: memory, no waiting, no delivering.
//!
//! One lane a domain: its queue, the facts on their way to the journal, how its primary is, and who is to be woken. Tasks that work on
//! it are in `replay`.

mod deferred;
mod guard;
mod health;
mod offers;
mod pace;
mod pacing;
mod queue;
mod schedule;
mod settlements;
mod sorted;
mod untried;
mod waiting;

use super::mesh::{Late, Moved, Said};
use crate::bridge::operator::Failure;
use crate::bridge::{DomainUsage, Instants, Usage};
use crate::limits::{OUTSTANDING_MAX, UPSTREAM_OUTCOME_TIMEOUT};
use crate::smtp::Moment;
use core::cell::{Cell, RefCell};
use futures_lite::future::or;
pub(super) use guard::{Answer, Drained, Evidence, Guard, KNOWN_GOOD_MIN, Probed, Ruling};
pub(super) use health::{Health, Sign, is_pacing};
pub(super) use offers::{Named, Offers, Rows};
pub(super) use pace::Pace;
pub(super) use pacing::{Key, Pacing, Rate};
pub(super) use queue::{Broken, Changed, Due, Ended, Pass, Queue, Seen, Stretch, Walk};
pub(super) use schedule::probe_pause;
pub(super) use settlements::{Settlement, Settlements};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use storage::checkpoint::Queued;
use storage::format::index_file::IndexEntry;
use storage::format::journal_entry::Authentication;
use storage::log::Arrival;
use storage::notify::Notify;
use storage::position::{SegmentId, ShardId, Stamp};
use storage::store::Backlog;
pub(super) use waiting::Place;

/// The lanes of a shard.
#[derive(Debug)]
pub(super) struct Lanes {
    usage: Arc<Usage>,
    lanes: RefCell<HashMap<Arc<str>, Rc<Lane>>>,
    /// Lanes that have mail and no task.
    waiting: RefCell<Vec<Rc<Lane>>>,
    starter: Notify,
    /// Messages that primaries took late.
    late: RefCell<Vec<Late>>,
    took_late: Notify,
    /// The configuration changed, or the shard shuts down.
    pub(super) stirred: Notify,
}

/// A message about to arrive that the primary may have.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    stamp: Stamp,
    /// Until then it may say so.
    until: Moment,
    /// It owes a reply.
    is_owed: bool,
}

/// The mail of one domain.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) domain: Arc<str>,
    pub(super) queue: RefCell<Queue>,
    /// How its primary is.
    pub(super) health: Cell<Health>,
    /// What the primary's refusals mean.
    pub(super) guard: RefCell<Guard>,
    /// Somebody wants to know whether the primary is back, whatever is known of its host.
    pub(super) insists: Cell<bool>,
    /// What is queued and held of it.
    pub(super) usage: Arc<DomainUsage>,
    /// A task runs, or is about to.
    pub(super) running: Cell<bool>,
    /// A start found mail that waits.
    pub(super) found: Cell<bool>,
    /// Mail arrived.
    pub(super) arrived: Notify,
    /// So many messages did in this life.
    arrivals: Cell<u64>,
    /// The configuration changed, or the shard shuts down.
    pub(super) stirred: Notify,
    /// Messages about to arrive that the primary may have.
    upstream: RefCell<Vec<Awaited>>,
    /// Facts that are on their way to the journal.
    pub(super) settlements: Settlements,
    /// Some of them are durable.
    pub(super) settled: Notify,
    /// What the journal knows of messages that may be with the primary.
    pub(super) offers: RefCell<Offers>,
    /// They are being handed over.
    pub(super) is_offering: Cell<bool>,
    /// What went wrong with its primaries last.
    pub(super) failure: RefCell<Option<Failure>>,
    /// What the log was told of how its primaries are secured, and still holds.
    pub(super) complaints: RefCell<BTreeSet<String>>,
    /// Until then it waits for its primary, if it does.
    pub(super) next_try: Cell<Option<Moment>>,
    /// How many connections it may have.
    pub(super) pace: Cell<Pace>,
    /// How much each of its recipients may be sent.
    pub(super) pacing: RefCell<Pacing>,
    /// A segment that could not be read, tried several times: until then its records are tried once.
    pub(super) unwell: Cell<Option<(ShardId, SegmentId, Moment)>>,
}

impl Lane {
    fn new(domain: Arc<str>, usage: Arc<DomainUsage>) -> Self {
        Self {
            domain,
            queue: RefCell::default(),
            health: Cell::default(),
            guard: RefCell::default(),
            insists: Cell::default(),
            usage,
            running: Cell::new(false),
            found: Cell::new(false),
            arrived: Notify::default(),
            arrivals: Cell::default(),
            stirred: Notify::default(),
            upstream: RefCell::default(),
            settlements: Settlements::default(),
            settled: Notify::default(),
            offers: RefCell::default(),
            is_offering: Cell::default(),
            failure: RefCell::default(),
            complaints: RefCell::default(),
            next_try: Cell::default(),
            unwell: Cell::default(),
            pace: Cell::default(),
            pacing: RefCell::default(),
        }
    }

    /// Whether a message that arrives may be with the primary. Asked once.
    fn awaited(&self, stamp: Stamp) -> Option<Awaited> {
        let mut upstream = self.upstream.borrow_mut();
        let place = upstream.iter().position(|awaited| awaited.stamp == stamp)?;
        Some(upstream.swap_remove(place))
    }

    /// Facts about so many messages are durable, or what else they waited for.
    pub(super) fn settled(&self, messages: usize) {
        self.settlements.written(messages);
        self.usage.passage.handed_over(u32::try_from(messages).unwrap_or(u32::MAX));
        self.settled.notify_all();
    }

    /// The rows to be written for a message that wants to leave, if any, and for those behind it while mail is handed over.
    pub(super) fn begin_offers(&self, wanted: Option<Named>, is_in_flight: impl Fn(Stamp) -> bool) -> Rows {
        let queue = self.queue.borrow();
        let next = if self.is_offering.get() { queue.upcoming(OUTSTANDING_MAX as usize) } else { Vec::new() };
        self.offers.borrow_mut().begin(wanted, &next, is_in_flight)
    }

    /// Tells sessions if nothing of what arrived here waits in order: their next message may be carried through.
    pub(super) fn tell_clear(&self) {
        if !self.queue.borrow().has_in_order() {
            self.usage.passage.set_clear(self.arrivals.get());
        }
    }
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
            late: RefCell::default(),
            took_late: Notify::default(),
            stirred: Notify::default(),
        }
    }

    /// Queues mail that is durable and counted. Never waits.
    pub(super) fn take_arrivals(&self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let lane = self.lane(&arrival.domain);
            lane.arrivals.set(lane.arrivals.get() + 1);
            let mut queue = lane.queue.borrow_mut();
            match lane.awaited(arrival.entry.stamp).filter(|awaited| awaited.is_owed) {
                Some(Awaited { until, .. }) => queue.arrive_aside(arrival.shard, arrival.entry, until),
                None => queue.arrive(arrival.shard, arrival.entry, &[]),
            }
            drop(queue);
            lane.arrived.notify_all();
            self.wake(lane);
        }
    }

    /// Queues what a start found, and counts it.
    pub(super) fn take_backlog(&self, backlog: Backlog) {
        let lane = self.lane(&backlog.domain.as_str().into());
        let directory = backlog.shard;
        let (mut queue, mut messages) = (lane.queue.borrow_mut(), 0);
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
                // Whoever comes now comes behind it (H42).
                lane.usage.passage.arrive();
                lane.arrivals.set(lane.arrivals.get() + 1);
                lane.found.set(true);
                self.wake(Rc::clone(&lane));
            }
            if said.bits != 0 {
                queue.annotate(said);
            }
            if queued.may_repeat {
                lane.offers.borrow_mut().found(entry.stamp, entry.first);
                messages += 1;
            }
        }
        drop(queue);
        if messages > 0 {
            tracing::warn!(
                domain = %lane.domain, messages,
                "messages were being handed over when the process before ended: the primary may have them, they are sent again"
            );
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
            queued.offered.extend(lane.offers.borrow().restated());
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
        lane.insists.set(true);
        lane.stirred.notify_all();
        pending as u64
    }

    /// The operator lets a lane go on that the guard stopped. Gives whether it was stopped.
    pub(super) fn thaw(&self, domain: &str, now: Moment) -> bool {
        let lane = self.lanes.borrow().get(domain).map(Rc::clone);
        let Some(lane) = lane else { return false };
        let was_frozen = lane.guard.borrow_mut().thaw(now);
        if was_frozen {
            lane.health.set(lane.health.get().after(Sign::Thawed));
            lane.queue.borrow_mut().flush();
            lane.stirred.notify_all();
        }
        was_frozen
    }

    /// The operator says that whoever is met is the primary. Gives whether it was another.
    pub(super) fn vouch(&self, domain: &str, at: Instants) -> bool {
        let was_changed = self.usage.domain(domain).acquaintance.vouch(at) > 0;
        if let Some(lane) = self.of(domain).filter(|_| was_changed) {
            lane.stirred.notify_all();
        }
        was_changed
    }

    /// Something else is ordered about a domain; `is_rerouted`: where its mail goes.
    pub(super) fn ordered(&self, domain: &str, is_rerouted: bool) {
        self.usage.domain(domain).passage.forget();
        let lane = self.lanes.borrow().get(domain).map(Rc::clone);
        let Some(lane) = lane else { return };
        if is_rerouted {
            lane.guard.borrow_mut().rerouted();
            lane.health.set(lane.health.get().after(Sign::Rerouted));
        }
        lane.insists.set(true);
        lane.stirred.notify_all();
    }

    /// A lane that is nobody's, for a session that is none of a lane's; no host remembers it.
    pub(super) fn stray() -> Rc<Lane> {
        Rc::new(Lane::new("".into(), Arc::default()))
    }

    /// A message of the domain will arrive that its primary may have. If a reply is owed it waits aside until then.
    pub(super) fn await_upstream(&self, domain: &Arc<str>, stamp: Stamp, until: Moment, is_owed: bool) {
        let lane = self.lane(domain);
        let (mut upstream, mut offers) = (lane.upstream.borrow_mut(), lane.offers.borrow_mut());
        upstream.retain(|other| {
            // The shard that had it has ended.
            let is_overdue = other.until + UPSTREAM_OUTCOME_TIMEOUT <= until;
            if is_overdue {
                offers.settled(other.stamp, true);
            }
            !is_overdue
        });
        // The arrival may have overtaken this.
        if !lane.queue.borrow().knows(stamp) {
            upstream.push(Awaited { stamp, until, is_owed });
        }
        // All its recipients are of this domain.
        offers.expected(stamp, 0);
    }

    /// The primary did not say that it took a message: it is offered again. `is_refused`: it has said that it did not.
    pub(super) fn upstream_is_over(&self, domain: &str, stamp: Stamp, is_refused: bool) {
        let Some(lane) = self.of(domain) else { return };
        if lane.awaited(stamp).is_some() {
            // Its record did not become durable.
            lane.offers.borrow_mut().settled(stamp, true);
            return;
        }
        let mut queue = lane.queue.borrow_mut();
        if is_refused && !queue.is_out(stamp) {
            lane.offers.borrow_mut().refused(stamp);
        }
        queue.try_again(stamp);
        drop(queue);
        lane.stirred.notify_all();
    }

    /// The primary took it, late.
    pub(super) fn upstream_took(&self, late: Late) {
        self.late.borrow_mut().push(late);
        self.took_late.notify_all();
    }

    /// What primaries took late, once there is some, or the shard shuts down.
    pub(super) async fn taken_late(&self) -> Vec<Late> {
        let (wait, stirred) = (self.took_late.wait(), self.stirred.wait());
        if self.late.borrow().is_empty() {
            or(wait, stirred).await;
        }
        self.late.take()
    }

    /// Facts that are not durable yet.
    pub(super) fn outstanding(&self) -> u32 {
        self.lanes.borrow().values().map(|lane| lane.settlements.outstanding()).sum()
    }

    /// Lanes that have mail and no task, once there are any. The caller starts their tasks.
    pub(super) async fn waiting(&self) -> Vec<Rc<Lane>> {
        let wait = self.starter.wait();
        if self.waiting.borrow().is_empty() {
            wait.await;
        }
        self.waiting.take()
    }

    /// The lane of a domain, made where there is none.
    #[cfg(test)]
    pub(super) fn made(&self, domain: &str) -> Rc<Lane> {
        self.lane(&domain.into())
    }

    fn lane(&self, domain: &Arc<str>) -> Rc<Lane> {
        if let Some(lane) = self.lanes.borrow().get(domain) {
            return Rc::clone(lane);
        }
        let lane = Rc::new(Lane::new(Arc::clone(domain), self.usage.domain(domain)));
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
