//! A lane and who its primary is (H41): whoever serves is held against who is known before anything is offered to him, and is learned
//! when everything due was handed over and all is well.
//!
//! A stranger is met as whoever mail is ordered to: with canaries, and nothing that he refuses is final before he has shown himself. The
//! guard does the rest. He is not frozen for being one: DESIGN asks for canaries, an alert and copies, since most strangers are new
//! servers of the same people.

use super::super::acquaint::{self, Met};
use super::super::delivery::Delivery;
use super::super::watch::Watched;
use super::Task;
use crate::bridge::{Answer, Snapshot};
use crate::config::Domain;
use crate::shard::backlog::{Health, Sign};
use crate::shard::link::{Dialer, Spawn};
use storage::clock::Clock;
use storage::disk::Disk;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// Meets whoever serves the first connection of a round; false: the session ended over a question, and another one is made at once.
    pub(super) async fn meet(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        snapshot: &Snapshot,
        domain: &Domain,
    ) -> bool {
        if self.is_redirected() {
            return true;
        }
        let (acquaintance, now) = (&self.lane.usage.acquaintance, self.shard.clock.now());
        let is_calm = self.is_calm();
        let is_sure = is_calm && acquaintance.is_fresh(now);
        let mut answer = None;
        if !is_sure && acquaintance.may_compare(is_calm, now) {
            answer = self.ask_for_nobody(delivery, domain).await;
            if !delivery.is_alive() {
                return false;
            }
        }
        let met = acquaint::meet(&self.shard, domain, &self.lane.usage, delivery, answer, is_calm);
        self.take_care(&met, snapshot);
        if met.is_stranger && answer.is_none() && acquaintance.may_be_asked(&met.shown, now) {
            if let Some(answer) = self.ask_for_nobody(delivery, domain).await {
                acquaintance.note_answer(&met.shown, answer);
            }
            return delivery.is_alive();
        }
        if let (Some(answer), true, Some(known)) =
            (answer, is_calm && !met.is_stranger, snapshot.recipients_of(&domain.name))
        {
            acquaint::note_answer(&self.shard, domain, known, answer);
        }
        true
    }

    /// The same for one beside others, of whom nothing is asked.
    pub(super) fn meet_beside(
        &self,
        delivery: &Delivery<N::Link, C, D>,
        snapshot: &Snapshot,
        domain: &Domain,
    ) {
        if !self.is_redirected() {
            let is_calm = self.is_calm();
            let met = acquaint::meet(&self.shard, domain, &self.lane.usage, delivery, None, is_calm);
            self.take_care(&met, snapshot);
            if met.is_stranger {
                self.witness(snapshot, Sign::Served);
            }
        }
    }

    /// Everything due was handed over, and all is well: this is who the primary is.
    pub(super) async fn get_to_know(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        snapshot: &Snapshot,
        watched: &Watched<'_>,
    ) {
        if self.is_redirected() || self.lane.health.get() != Health::Up {
            return;
        }
        let acquaintance = &self.lane.usage.acquaintance;
        let (shown, domain) = (delivery.fingerprint().clone(), watched.domain);
        let was_strange = acquaintance.is_strange();
        if acquaintance.may_be_proven(&shown) && watched.takes_known_good(delivery).await {
            acquaintance.prove(&shown, self.shard.instants());
        }
        let mut answer = None;
        let now = self.shard.clock.now();
        if !acquaintance.is_strange() && watched.known.accepts_all(now).is_none() && acquaintance.may_ask(now)
        {
            answer = self.ask_for_nobody(delivery, domain).await;
        }
        // Somebody may have seen it fail meanwhile.
        if self.lane.health.get() != Health::Up {
            return;
        }
        answer
            .into_iter()
            .for_each(|answer| acquaint::note_answer(&self.shard, domain, watched.known, answer));
        acquaint::learn(&self.shard, domain, &self.lane.usage, &shown, answer);
        if was_strange && !acquaintance.is_strange() {
            tracing::warn!(domain = %domain.name, host = %delivery.host(), "who was another than before is the known primary from here on");
            // Mail may be carried through to it.
            self.witness(snapshot, Sign::Drained);
        }
    }

    /// Whether an outage would have been seen.
    fn is_calm(&self) -> bool {
        self.lane.guard.borrow().is_off() && !self.lane.health.get().is_outage()
    }

    /// A stranger is met as whoever mail is ordered to. A frozen lane asks him what it would ask any other.
    fn take_care(&self, met: &Met, snapshot: &Snapshot) {
        let is_first = met.is_stranger && self.lane.usage.acquaintance.takes_care(&met.shown);
        if is_first && !self.lane.guard.borrow().is_frozen() {
            self.witness(snapshot, Sign::Rerouted);
        }
    }

    /// What is said for a recipient that cannot exist. A host that ends the session over it is not asked again for a while.
    async fn ask_for_nobody(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        domain: &Domain,
    ) -> Option<Answer> {
        let nobody = acquaint::nobody(&self.shard, domain);
        let outcomes = delivery.probe(&[&nobody]).await;
        if !delivery.is_alive() {
            tracing::info!(domain = %domain.name, host = %delivery.host(), "the session ended over a recipient that does not exist");
            self.lane.usage.acquaintance.mute(self.shard.clock.now());
        }
        acquaint::answered(outcomes?.first()?)
    }
}
