//! What the lane does at the word of its guard, and what it tells of its primary's health.

use super::super::connect::Unserved;
use super::super::delivery::{Delivery, Job};
use super::super::watch::Watched;
use super::{Ended, Task};
use crate::bridge::Snapshot;
use crate::config::Domain;
use crate::metrics::{Contact, GuardEvent};
use crate::shard::backlog::{Drained, Health, Probed, Ruling, Sign};
use crate::shard::link::{Dialer, Spawn};
use crate::smtp::client::TransactionOutcome;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// Something was seen of the primary: health, guard and who judges recipients go by it.
    pub(super) fn witness(&self, snapshot: &Snapshot, sign: Sign) {
        let before = self.lane.health.get();
        let health = before.after(sign);
        self.lane.health.set(health);
        match sign {
            Sign::Found | Sign::PutOff | Sign::Unserved => self.lane.guard.borrow_mut().outage(),
            Sign::Rerouted => self.lane.guard.borrow_mut().rerouted(),
            _ => {}
        }
        // Nothing is learned from a stranger, nobody is asked, and nothing is carried through.
        let is_strange = self.lane.usage.acquaintance.is_strange() && !self.is_redirected();
        if let Some(known) = snapshot.recipients_of(&self.lane.domain) {
            known.set_outage(health.is_outage() || is_strange);
        }
        // What a primary of another configuration is like says nothing of those that are in force.
        if core::ptr::eq(snapshot, &raw const **self.shard.snapshot.borrow()) {
            self.lane.usage.passage.set_up(health == Health::Up && !is_strange && !self.is_redirected());
        }
        if health == before {
            return;
        }
        let counters = &self.shard.counters;
        match (before, health) {
            (_, Health::Frozen) => counters.guard.of(GuardEvent::Frozen).add(1),
            (Health::Frozen, _) => counters.guard.of(GuardEvent::Thawed).add(1),
            _ => {}
        }
        let (domain, was, is) = (&self.lane.domain, before.state(), health.state());
        if health == Health::Frozen {
            self.note("the bounce guard: it refuses recipients whom it should take".to_owned());
            tracing::error!(%domain, %was, "the primary refuses whom it should take: nothing goes there until it takes them again");
        } else {
            tracing::info!(%domain, %was, %is, "the primary's state changed");
        }
    }

    /// Counts a try to have a session.
    pub(super) fn contacted(&self, came_to: Result<(), &Unserved>, is_probe: bool) {
        let contact = match came_to {
            Ok(()) => Contact::Served,
            Err(Unserved::Busy) => Contact::Paced,
            Err(Unserved::Refused) => Contact::Unserved,
        };
        self.shard.counters.sessions.of(contact).add(1);
        if is_probe {
            self.shard.counters.probes.of(contact).add(1);
        }
    }

    /// Everything due was handed over; `None`: there is more, since parked units are judged now.
    pub(super) async fn drained(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        snapshot: &Snapshot,
        domain: &Domain,
    ) -> Option<Ended> {
        let Some(watched) = self.watched(snapshot, domain) else { return Some(Ended::Done) };
        let waits_for_answers = self.lane.queue.borrow().has_newly_greylisted();
        if waits_for_answers && self.lane.guard.borrow().is_watching() {
            // They are what it is watched for.
            tracing::info!(domain = %domain.name, "what is left to hand over is greylisted, and expected again");
            return Some(Ended::Done);
        }
        let known_good = watched.known_good_count();
        let waits = self.lane.queue.borrow().len() > 0;
        let drained = self.lane.guard.borrow_mut().drained(known_good, waits, watched.at.now);
        match drained {
            Drained::Over => {
                self.witness(snapshot, Sign::Drained);
                self.get_to_know(delivery, snapshot, &watched).await;
                tracing::info!(domain = %domain.name, "nothing is left to hand over now");
                return Some(Ended::Done);
            }
            Drained::Sweep => {}
            // We ask in our own name.
            Drained::Probe if !delivery.speaks_for_us() => return Some(Ended::Turned),
            Drained::Probe => match watched.probe(&self.lane, delivery).await {
                Probed::Refusing => return Some(Ended::Frozen),
                Probed::Undecided if !delivery.is_alive() => return Some(self.session_failed(delivery)),
                // Parked units stay where they are until their gap is over, and then it is asked again.
                Probed::Undecided => return Some(Ended::Done),
                Probed::Well => {}
            },
        }
        tracing::info!(domain = %domain.name, "what was refused is offered once more: the answer is final now");
        self.lane.queue.borrow_mut().flush();
        None
    }

    /// A frozen lane asks, and goes on when the primary takes whom it should.
    pub(super) async fn ask_while_frozen(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        snapshot: &Snapshot,
        domain: &Domain,
    ) -> Option<Ended> {
        if !self.lane.guard.borrow().is_frozen() {
            return None;
        }
        let watched = self.watched(snapshot, domain)?;
        match watched.probe(&self.lane, delivery).await {
            Probed::Well => {
                self.witness(snapshot, Sign::Thawed);
                None
            }
            _ if !delivery.is_alive() => Some(self.session_failed(delivery)),
            // An operator thawed it meanwhile.
            _ if !self.lane.guard.borrow().is_frozen() => None,
            Probed::Refusing | Probed::Undecided => Some(Ended::Frozen),
        }
    }

    fn watched<'a>(&self, snapshot: &'a Snapshot, domain: &'a Domain) -> Option<Watched<'a>> {
        let known = snapshot.recipients_of(&domain.name)?;
        Some(Watched { domain, known, at: self.shard.instants() })
    }

    /// What the guard says of each recipient's answer.
    pub(super) fn weigh(&self, job: &Job<D>, outcome: &TransactionOutcome, domain: &Domain) -> Vec<Ruling> {
        let is_proven = self.lane.queue.borrow().is_reverse_path_proven(job.place.1.stamp);
        let snapshot = Arc::clone(&self.shard.snapshot.borrow());
        let mut guard = self.lane.guard.borrow_mut();
        match self.watched(&snapshot, domain) {
            Some(watched) => watched.weigh(&mut guard, &job.mailboxes, outcome, is_proven),
            // The domain has just gone from the configuration: nothing is final (H14).
            None => vec![Ruling::Park; job.mailboxes.len()],
        }
    }
}
