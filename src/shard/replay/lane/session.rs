//! One connection of a lane: keeps its window full with what may leave on it, and has others opened while there is work for them.
//!
//! Whatever happens to one connection is its own matter as long as another serves: it is paced, and its messages go back to
//! their places. What is about the primary or about us, a frozen guard, everything put off, another configuration, ends all. So
//! does a suspect (H44), which is tried alone in the next round.
//!
//! A lane has its share of the shard by messages and not by connections: behind each message a connection lets as many turns pass
//! as its lane has connections, so that the ten messages of one domain are handed over between those of another that has 100,000.

use super::order::{ConnectionId, Recipients};
use super::{Ended, Pushed, Task};
use crate::bridge::Snapshot;
use crate::bridge::folded;
use crate::config::Domain;
use crate::limits::{FRONTIER_PAUSE_MAX, OUTSTANDING_MAX, READ_AHEAD_STEP};
use crate::shard::backlog::{Due, Key, Place, stored_octets};
use crate::shard::link::{Dialer, Spawn};
use crate::shard::replay::connect;
use crate::shard::replay::delivery::{Delivery, Job, Use};
use crate::shard::replay::settle;
use core::time::Duration;
use futures_lite::future::{or, yield_now};
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;

/// Which connection it is.
pub(super) struct Member<'a> {
    snapshot: &'a Arc<Snapshot>,
    domain: &'a Domain,
    id: ConnectionId,
    /// It is beside another one, and has a place that others may need more.
    is_further: bool,
}

/// A message whose turn it is.
struct Picked<D: Disk> {
    stamp: Stamp,
    /// None: it has to be read again.
    job: Option<Job<D>>,
    /// Those whose share it was counted to.
    keys: Vec<Key>,
}

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// Sends what is queued until nothing is, or the session or the round ends.
    pub(super) async fn drain(
        self: &Rc<Self>,
        mut delivery: Delivery<N::Link, C, D>,
        snapshot: &Arc<Snapshot>,
        domain: &Domain,
        is_further: bool,
    ) {
        let member = Member { snapshot, domain, id: self.round.join(), is_further };
        let mut held_back = FIRST_PAUSE;
        let mut ending =
            if is_further { None } else { self.ask_while_frozen(&mut delivery, snapshot, domain).await };
        let mut stays = true;
        let ended = loop {
            self.look_around(&member);
            if stays && ending.is_none() && self.is_surplus(&member) {
                ending = Some(Ended::Done);
            }
            if stays && ending.is_some() {
                stays = false;
                self.round.leave();
            }
            let over = ending.or(self.round.ending());
            let (changed, settled, arrived) =
                (self.round.changed.wait(), self.lane.settled.wait(), self.lane.arrived.wait());
            let news = or(changed, or(settled, arrived));
            if over.is_none() && delivery.has_room() {
                match self.push_next(&member, &mut delivery).await {
                    Pushed::Nothing => {}
                    Pushed::Again => continue,
                    Pushed::One => {
                        held_back = FIRST_PAUSE;
                        self.let_others_go().await;
                        continue;
                    }
                    Pushed::OfAnother => {
                        ending = Some(Ended::Turned);
                        continue;
                    }
                }
            }
            if delivery.in_flight() > 0 {
                ending = ending.or(self.go_on(&member, &mut delivery, over, news).await);
            } else if let Some(over) = over {
                break over;
            } else if !delivery.is_alive() {
                break self.session_failed(&delivery);
            } else {
                ending = self.idle(&member, &mut delivery, &mut held_back, news).await;
            }
        };
        if stays {
            self.round.leave();
        }
        if matches!(ended, Ended::Failed | Ended::Limited) && self.round.serving() > 0 {
            self.paced(|pace, now| pace.too_much(now));
        }
        self.close(delivery, ended, domain);
        self.round.closed(Some(ended));
    }

    /// Until the oldest message in flight has its outcome, or there may be another to push.
    async fn go_on(
        self: &Rc<Self>,
        member: &Member<'_>,
        delivery: &mut Delivery<N::Link, C, D>,
        over: Option<Ended>,
        news: impl Future<Output = ()>,
    ) -> Option<Ended> {
        if over.is_none() {
            self.widen(member, delivery).await;
        }
        let has_room = over.is_none() && delivery.has_room();
        let advanced = async { delivery.advance(&self.reader).await };
        let more = async {
            if has_room {
                news.await
            } else {
                core::future::pending().await
            }
            None
        };
        let done = or(advanced, more).await?;
        // Another connection may have ended the round meanwhile.
        let over = over.or(self.round.ending());
        match self.end(delivery, done, over, member.domain).await? {
            ended @ (Ended::Frozen | Ended::PutOff) => {
                self.round.end_all(ended);
                None
            }
            ended => Some(ended),
        }
    }

    /// Nothing is in flight here, and nothing can be pushed.
    async fn idle(
        &self,
        member: &Member<'_>,
        delivery: &mut Delivery<N::Link, C, D>,
        held_back: &mut Duration,
        news: impl Future<Output = ()>,
    ) -> Option<Ended> {
        let has_more = self.has_more();
        if !has_more && self.round.serving() > 1 {
            // The others have the rest.
            return Some(Ended::Done);
        }
        self.hurry();
        let now = self.shard.clock.now();
        let is_due = || self.lane.queue.borrow().due(now, self.limit()) == Due::Now;
        let is_full = !self.may_repeat_more() && is_due();
        if has_more || self.round.order.borrow().in_flight() > 0 || is_full {
            // Somebody had his share, another connection has what comes first, as much is outstanding as may be, or a record of
            // another shard with a smaller stamp is not durable yet (H12).
            let paced = self.round.paced.take().map_or(Duration::MAX, |due| due.saturating_sub(now));
            or(self.shard.clock.sleep(paced.min(*held_back)), news).await;
            *held_back = (*held_back * 2).min(FRONTIER_PAUSE_MAX);
            return None;
        }
        self.drained(delivery, member.snapshot, member.domain).await
    }

    /// What ends all connections is seen by whoever looks first.
    fn look_around(&self, member: &Member<'_>) {
        self.lane.usage.passage.set_handing_over(self.outstanding());
        // With another configuration the domain may have other primaries, or be gone (H14).
        if self.shard.is_shutting_down() || !Arc::ptr_eq(member.snapshot, &self.shard.snapshot.borrow()) {
            self.round.end_all(Ended::Interrupted);
        }
        let standing = self.lane.usage.orders.get();
        let is_held = standing.held_for(self.shard.wall_s().into()).is_some();
        if is_held || !Arc::ptr_eq(&standing, &self.round.standing.borrow()) {
            self.round.end_all(Ended::Interrupted);
        }
        if self.lane.guard.borrow().is_frozen() {
            self.round.end_all(Ended::Frozen);
        }
        if self.suspect.get().is_some() && self.round.had_company() {
            self.round.end_all(Ended::Failed);
        }
    }

    /// Whether this connection is one too many.
    fn is_surplus(&self, member: &Member<'_>) -> bool {
        let serving = self.round.serving();
        let limit = self.connections_max(member.domain);
        serving > 1
            && (self.lane.pace.get().is_surplus(serving, limit)
                || (member.is_further && self.shard.places.are_short()))
    }

    /// Something waits that is not in flight.
    fn has_more(&self) -> bool {
        self.lane.queue.borrow().has_untried(self.limit())
            || self.round.order.borrow().waiting().next().is_some()
    }

    /// What is in flight on all connections and what is not settled.
    pub(super) fn outstanding(&self) -> u32 {
        let in_flight = u32::try_from(self.round.order.borrow().in_flight()).unwrap_or(u32::MAX);
        self.lane.settlements.outstanding().saturating_add(in_flight)
    }

    /// P4: beside that, and what is carried through, there is room.
    fn may_repeat_more(&self) -> bool {
        self.lane.usage.passage.has_room(self.outstanding(), OUTSTANDING_MAX)
    }

    /// Whether one more may be offered now, as far as it is not about that one.
    fn may_offer(&self) -> bool {
        self.may_repeat_more() && self.lane.guard.borrow().room() > 0
    }

    /// Nothing is under way but facts: they need no company.
    fn hurry(&self) {
        if self.round.order.borrow().in_flight() == 0 {
            self.lane.settlements.hurry();
        }
    }

    /// Turns for other lanes.
    async fn let_others_go(&self) {
        for _ in 0..self.round.serving() {
            yield_now().await;
        }
    }

    /// Hands the first message that may leave on this connection to it, reading ahead as far as it takes.
    async fn push_next(&self, member: &Member<'_>, delivery: &mut Delivery<N::Link, C, D>) -> Pushed {
        for _ in 0..READ_AHEAD_STEP {
            if !self.may_offer() {
                return Pushed::Nothing;
            }
            if !self.lane.usage.passage.may_hand_over(self.outstanding() + 1, OUTSTANDING_MAX) {
                // Another one was carried through to its end this moment.
                return Pushed::Nothing;
            }
            let picked = self.pick(member.id);
            self.lane.usage.passage.set_handing_over(self.outstanding());
            let Picked { stamp, job, keys } = match picked {
                Some(picked) => picked,
                None if self.take_next(member.domain).await => {
                    if self.lane.unwell.get().is_some() {
                        return Pushed::Again;
                    }
                    continue;
                }
                None => return Pushed::Nothing,
            };
            let job = match job {
                Some(job) => Some(job),
                None => self.read(stamp, member.domain).await,
            };
            let Some(job) = job else {
                self.lane.guard.borrow_mut().withdraw();
                self.lane.pacing.borrow_mut().withdraw(&keys);
                continue;
            };
            if !delivery.takes(&job) {
                self.take_back(job.place, &keys);
                return Pushed::OfAnother;
            }
            if !self.is_told(&job.place.1).await {
                self.take_back(job.place, &keys);
                return Pushed::Nothing;
            }
            delivery.push(job);
            return Pushed::One;
        }
        Pushed::Nothing
    }

    /// Whether the journal knows that a message is about to leave (P4): always, but at the very end of the process.
    async fn is_told(&self, entry: &IndexEntry) -> bool {
        if self.lane.offers.borrow_mut().leaves(entry.stamp) {
            return true;
        }
        let is_in_flight = |stamp| self.round.order.borrow().is_in_flight(stamp);
        settle::offer(&self.shard, &self.lane, (entry.stamp, entry.first), is_in_flight).await
            && self.lane.offers.borrow_mut().leaves(entry.stamp)
    }

    /// What was picked does not leave.
    fn take_back(&self, place: Place, keys: &[Key]) {
        self.round.order.borrow_mut().leave(place.1.stamp);
        self.lane.guard.borrow_mut().withdraw();
        self.lane.pacing.borrow_mut().withdraw(keys);
        self.lane.queue.borrow_mut().put_back(place);
        self.round.changed.notify_all();
    }

    /// The next message by its ticket. The guard is told that it is offered.
    fn pick(&self, id: ConnectionId) -> Option<Picked<D>> {
        let (now, queued) = (self.shard.clock.now(), self.lane.queue.borrow().first_untried());
        let drilled = self.lane.usage.drill.held(now).map(|(mailbox, until)| (key_of(&mailbox), until));
        let mut pacing = self.lane.pacing.borrow_mut();
        let (mut first_due, mut charged) = (None, Vec::new());
        let picked = self.round.order.borrow_mut().pick(id, queued, |keys| {
            let held_until = drilled.filter(|(key, _)| keys.contains(key)).map_or(now, |(_, until)| until);
            let due = pacing.due(keys, now).max(held_until);
            if due > now {
                first_due = Some(first_due.map_or(due, |other: Duration| other.min(due)));
                return false;
            }
            pacing.offer(keys, now);
            charged = keys.to_vec();
            true
        });
        self.round.paced.set(first_due);
        let (stamp, job) = picked?;
        self.lane.guard.borrow_mut().offer();
        Some(Picked { stamp, job, keys: charged })
    }

    /// Takes a message from the queue and reads it; false if there is none, or no room for one.
    async fn take_next(&self, domain: &Domain) -> bool {
        let queued = self.lane.queue.borrow().first_untried();
        if !self.round.order.borrow().has_room(queued) {
            return false;
        }
        let Some((_, entry)) = self.next() else { return false };
        let is_aside = self.lane.queue.borrow().out(entry.stamp).1;
        self.round.order.borrow_mut().take(entry.stamp, is_aside);
        let Some(job) = self.read(entry.stamp, domain).await else { return true };
        let names = job.mailboxes.iter().map(|mailbox| name_of(mailbox));
        let is_drilled = self.lane.usage.drill.held(self.shard.clock.now()).is_some();
        let is_counting = self.lane.pacing.borrow().is_counting() || is_drilled;
        let counted = job.mailboxes.iter().filter(|_| is_counting);
        let keys = counted.map(|mailbox| key_of(mailbox)).collect();
        let recipients = Recipients::of(names);
        let octets = usize::try_from(stored_octets(&entry)).unwrap_or(usize::MAX);
        self.round.order.borrow_mut().read(entry.stamp, recipients, keys, job, octets);
        self.round.changed.notify_all();
        true
    }

    /// Opens one more connection while there is work that could go on it.
    async fn widen(self: &Rc<Self>, member: &Member<'_>, delivery: &Delivery<N::Link, C, D>) {
        let limit = self.connections_max(member.domain);
        let may_open = || {
            let (open, now) = (self.round.open(), self.shard.clock.now());
            self.lane.pace.get().may_open(open, limit, now) && self.may_offer()
        };
        if self.cautious.get() || self.suspect.get().is_some() || !may_open() {
            return;
        }
        let queued = || self.lane.queue.borrow().first_untried();
        let could_go = || self.round.order.borrow().could_go(queued());
        if !could_go() && self.round.order.borrow().waiting().count() < READ_AHEAD_STEP {
            self.take_next(member.domain).await;
        }
        if !could_go() || !may_open() {
            return;
        }
        let Some(place) = self.shard.places.take_further() else { return };
        if !self.shard.hosts.open_further(delivery.host(), self.round.profile.get().connections_max()) {
            return;
        }
        self.round.opening();
        let (task, how, snapshot) = (Rc::clone(self), delivery.another(), Arc::clone(member.snapshot));
        self.spawn.spawn(async move {
            task.go_beside(how, &snapshot).await;
            drop(place);
        });
    }

    /// The life of a further connection.
    async fn go_beside(self: &Rc<Self>, how: Use, snapshot: &Arc<Snapshot>) {
        let host = how.host;
        let opened = async { Some(connect::beside(&self.shard, &self.dialer, how).await) };
        let deserted = async {
            self.round.deserted().await;
            None
        };
        match (or(opened, deserted).await, snapshot.domain(&self.lane.domain)) {
            // Nobody waits for it any more.
            (None, _) | (Some(Some(_)), None) => self.round.closed(None),
            (Some(Some(delivery)), Some(domain)) => {
                let connections = self.round.serving() + 1;
                tracing::info!(domain = %domain.name, %host, connections, "a further connection to the primary");
                self.meet_beside(&delivery, snapshot, domain);
                self.drain(delivery, snapshot, domain, true).await;
            }
            (Some(None), _) => {
                let serving = self.round.serving();
                self.paced(|pace, now| pace.refused(serving, now));
                self.round.closed(None);
            }
        }
        self.shard.hosts.close_further(host);
    }
}

/// Before the next look, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// A recipient, as rates go by him.
pub(super) fn key_of(mailbox: &str) -> Key {
    Key::of(&name_of(mailbox))
}

/// The name of a recipient, as order and rates go by it.
fn name_of(mailbox: &str) -> String {
    folded(mailbox.rsplit_once('@').map_or(mailbox, |(local_part, _)| local_part)).into_owned()
}
