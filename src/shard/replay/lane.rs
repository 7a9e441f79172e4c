//! The task of one lane: connect, send in order, write down what became of it, pause when nobody answers.

use super::addressee::addressees;
use super::connect::connect;
use super::damage::Remains;
use super::delivery::{Delivery, SendError};
use super::learn::learn;
use super::outcome::{Verdict, judge};
use super::{damage, settle};
use crate::bridge::Snapshot;
use crate::config::Domain;
use crate::limits::{FRONTIER_PAUSE_MAX, OUTSTANDING_MAX, RECONNECT_PAUSE};
use crate::shard::backlog::{Due, Lane, Place, Settlement, probe_pause, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::link::{Dialer, Spawn};
use crate::shard::state::Shard;
use core::cell::Cell;
use core::time::Duration;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::message::MessageView;
use storage::notify::Wait;
use storage::position::Stamp;
use storage::reader::Reader;

struct Task<D: Disk, C: Clock, N: Dialer, S: Spawn> {
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    spawn: S,
    reader: Reader<D>,
    failures: u32,
    /// The session in hand delivered something.
    progressed: Cell<bool>,
}

/// Whether the session with the primary broke, and over what.
#[derive(Clone, Copy)]
enum Broke {
    Not,
    /// Before it had data of the message: nobody's fault.
    Before,
    OverData,
}

/// How a session with the primary ended.
enum Ended {
    /// In the middle of a transaction, by us: there is nobody to take leave of.
    Cut,
    /// Nothing is queued any more.
    Done,
    /// The session or the primary failed: pause before the next one.
    Failed,
    /// The shard shuts down, or the configuration is another.
    Interrupted,
}

/// Runs a lane until its queue is empty.
pub(super) async fn run<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    spawn: S,
) {
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut task = Task { shard, lane, dialer, spawn, reader, failures: 0, progressed: Cell::new(false) };
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
            // What a start found is an outage's, until it was handed over.
            task.say_outage(&snapshot, true);
        }
        let now = task.shard.clock.now();
        let due = task.lane.queue.borrow().due(now, task.limit());
        match due {
            Due::Nothing => {
                task.say_outage(&snapshot, false);
                break;
            }
            Due::At(moment) => {
                let sleep = task.shard.clock.sleep(moment.saturating_sub(now));
                or(sleep, or(stirred, arrived)).await;
            }
            Due::Now => task.try_primaries(&snapshot, domain, stirred).await,
        }
    }
    task.lane.running.set(false);
}

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// The last stamp that may go: while a shard is missing, what came after its last known message waits (H2).
    fn limit(&self) -> Stamp {
        self.shard.frontier.held_back_above().unwrap_or(Stamp(u64::MAX))
    }

    /// One try: the first primary that answers gets the queue; if none does, a pause.
    ///
    /// `stirred` began before the configuration was read: a change on the way ends the pause (SIGHUP).
    async fn try_primaries(&mut self, snapshot: &Arc<Snapshot>, domain: &Domain, stirred: Wait<'_>) {
        self.progressed.set(false);
        self.shard.lanes.enter().await;
        let ended = match connect(&self.shard, &self.dialer, domain).await {
            Some(delivery) => self.drain(delivery, snapshot, domain).await,
            None => {
                self.lane.trouble.borrow_mut().unserved();
                Ended::Failed
            }
        };
        self.shard.lanes.leave();
        match ended {
            Ended::Cut | Ended::Done | Ended::Interrupted => self.failures = 0,
            Ended::Failed if self.progressed.get() => {
                // It serves, so much at a time: a limit of its own, not an outage.
                self.failures = 0;
                or(self.shard.clock.sleep(RECONNECT_PAUSE), stirred).await;
            }
            Ended::Failed => {
                self.say_outage(snapshot, true);
                self.failures += 1;
                let pause = probe_pause(self.failures, domain.retry_interval);
                self.lane.trouble.borrow_mut().failed(self.shard.clock.now() + pause);
                tracing::info!(domain = %domain.name, pause_s = pause.as_secs(), "the primary is not available");
                or(self.shard.clock.sleep(pause), stirred).await;
            }
        }
    }

    /// Who judges recipients goes by this.
    fn say_outage(&self, snapshot: &Snapshot, outage: bool) {
        if let Some(known) = snapshot.recipients_of(&self.lane.domain) {
            known.set_outage(outage);
        }
    }

    /// Sends what is queued until nothing is, or the session ends.
    async fn drain(
        &mut self,
        mut delivery: Delivery<N::Link, C>,
        snapshot: &Arc<Snapshot>,
        domain: &Domain,
    ) -> Ended {
        {
            let queue = self.lane.queue.borrow();
            let cursor = queue.cursor().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let (queued, memory_octets) = (queue.len(), queue.memory_octets());
            tracing::info!(domain = %domain.name, queued, memory_octets, cursor, "the primary is up: handing over");
        }
        let outage = snapshot.recipients_of(&self.lane.domain).is_some_and(|known| known.is_outage());
        self.lane.trouble.borrow_mut().served(outage);
        let mut held_back = Duration::from_millis(1);
        let ended = loop {
            // With another configuration the domain may have other primaries, or be gone (H14).
            if self.shard.is_shutting_down() || !Arc::ptr_eq(snapshot, &self.shard.snapshot.borrow()) {
                break Ended::Interrupted;
            }
            let looking = self.shard.looking.guard();
            let Some(place) = self.next() else {
                if !self.lane.queue.borrow().has_untried(self.limit()) {
                    tracing::info!(domain = %domain.name, "nothing is left to hand over now");
                    break Ended::Done;
                }
                // A record of another shard with a smaller stamp is not durable yet (H12).
                self.shard.clock.sleep(held_back).await;
                held_back = (held_back * 2).min(FRONTIER_PAUSE_MAX);
                continue;
            };
            held_back = Duration::from_millis(1);
            self.wait_for_settlements().await;
            match self.deliver(&mut delivery, place, &looking, domain).await {
                Some(ended) => break ended,
                None if !delivery.is_ready() => break self.session_failed(&delivery),
                None => {}
            }
        };
        let now = self.shard.clock.now();
        match ended {
            Ended::Done => {
                self.say_outage(snapshot, false);
                self.lane.trouble.borrow_mut().caught_up();
                self.lane.queue.borrow_mut().suspects_step_aside(now, domain.retry_interval);
            }
            // Nobody has spoken for the primary: those that it put off are in order again.
            Ended::Cut | Ended::Failed | Ended::Interrupted => {
                self.lane.queue.borrow_mut().restore_suspects()
            }
        }
        if !matches!(ended, Ended::Cut) {
            // Beside the lane: some never answer QUIT.
            self.spawn.spawn(delivery.close());
        }
        self.reader.forget_all();
        ended
    }

    fn session_failed(&self, delivery: &Delivery<N::Link, C>) -> Ended {
        let reason = delivery.failure().map(ToString::to_string);
        let told = reason.clone().unwrap_or_else(|| "the session with the primary ended".to_owned());
        self.lane.trouble.borrow_mut().note(self.shard.wall_s(), told);
        tracing::info!(domain = %self.lane.domain, reason, "the session with the primary ended");
        Ended::Failed
    }

    /// The next entry. The horizon is read before the inbox is emptied: whatever is below it has been told by
    /// then (H12).
    fn next(&self) -> Option<Place> {
        let horizon = self.shard.frontier.horizon();
        self.shard.empty_inbox();
        self.lane.queue.borrow_mut().next(horizon, self.shard.clock.now())
    }

    /// Sends one message; `Some` ends the session.
    async fn deliver(
        &self,
        delivery: &mut Delivery<N::Link, C>,
        place: Place,
        looking: &Guard,
        domain: &Domain,
    ) -> Option<Ended> {
        let (shard, entry) = place;
        let ordinals = self.lane.queue.borrow().open_units(&entry);
        let frame = match self.reader.read_entry(shard, &entry).await {
            Ok(frame) => frame,
            Err(error) => return self.unreadable(place, looking, &ordinals, error, domain).await,
        };
        let Ok(message) = frame.message() else {
            let error = ReadError::Damaged("message payload");
            return self.unreadable(place, looking, &ordinals, error, domain).await;
        };
        let recipients = addressees(&message, &ordinals);
        if recipients.len() != ordinals.len() {
            let error = ReadError::Damaged("recipients");
            return self.unreadable(place, looking, &ordinals, error, domain).await;
        }
        let sent = delivery.send(&message, &recipients, &self.reader, shard).await;
        let outcome = match sent {
            Ok(outcome) => outcome,
            Err(SendError::Read(error)) => {
                // The connection was given up in the middle of the data: a new one goes on behind.
                let _ = self.unreadable(place, looking, &ordinals, error, domain).await;
                return Some(Ended::Cut);
            }
        };
        if let Some(known) = self.shard.snapshot.borrow().recipients_of(&domain.name) {
            let mailboxes = recipients.iter().map(|addressee| addressee.mailbox);
            let delimiter = domain.recipients.subaddress_delimiter;
            learn(known, delimiter, mailboxes, &outcome, self.shard.instants());
        }
        let verdict = judge(entry.stamp, &ordinals, &outcome, domain.on_reject);
        self.tell(&frame.header.queue_id.to_string(), &message, place.1.stamp, &verdict);
        let broke = if delivery.is_ready() {
            Broke::Not
        } else if delivery.has_sent_data() {
            Broke::OverData
        } else {
            Broke::Before
        };
        let recipients: Vec<&str> = recipients.iter().map(|addressee| addressee.mailbox).collect();
        self.apply(place, looking, verdict, &recipients, broke, domain)
    }

    fn tell(&self, queue_id: &str, message: &MessageView<'_>, stamp: Stamp, verdict: &Verdict) {
        let count = |outcome| verdict.facts.iter().filter(|fact| fact.outcome == outcome).count();
        let (delivered, held) = (count(Outcome::Delivered), count(Outcome::Held));
        let counters = &self.shard.counters;
        counters.delivered.add(delivered as u64);
        counters.held.add(held as u64);
        counters.discarded.add(count(Outcome::Discarded) as u64);
        counters.deferred.add(verdict.deferred.len() as u64);
        counters.unknown.add(verdict.unknown.len() as u64);
        let (deferred, unknown) = (verdict.deferred.len(), verdict.unknown.len());
        let event = match () {
            () if unknown > 0 => "outcome unknown: sent again, may arrive twice",
            () if held > 0 => "refused by the primary: held",
            () if deferred > 0 => "deferred by the primary",
            () if !verdict.untried.is_empty() => "not sent: the session ended",
            () => "handed over",
        };
        let (from, code) = (message.reverse_path, verdict.code);
        let proven = self.lane.queue.borrow().is_reverse_path_proven(stamp);
        tracing::info!(
            queue_id, domain = %self.lane.domain, from, proven, delivered, deferred, held, unknown, code, "{event}"
        );
    }

    /// Writes down what became of an entry; `Some` ends the session.
    fn apply(
        &self,
        place: Place,
        looking: &Guard,
        verdict: Verdict,
        recipients: &[&str],
        broke: Broke,
        domain: &Domain,
    ) -> Option<Ended> {
        let (_, entry) = place;
        let (now, retry_interval) = (self.shard.clock.now(), domain.retry_interval);
        let got_through = verdict.facts.iter().any(|fact| fact.outcome == Outcome::Delivered);
        let mut queue = self.lane.queue.borrow_mut();
        for fact in &verdict.facts {
            queue.decide(&entry, fact.ordinal);
        }
        let held = verdict.facts.iter().filter(|fact| fact.outcome == Outcome::Held);
        let held: Vec<u16> = held.map(|fact| fact.ordinal).collect();
        queue.hold(place, &held, self.shard.wall_s());
        if got_through {
            self.progressed.set(true);
            queue.got_through(now, retry_interval);
        }
        let (code, is_open) = (verdict.code, verdict.is_open());
        let is_deferred = !verdict.deferred.is_empty();
        if !verdict.facts.is_empty() {
            self.record(place, looking, verdict.facts);
        }
        if !is_open {
            if queue.finish(&entry) {
                self.lane.usage.lower(stored_octets(&entry));
            }
            return None;
        }
        match broke {
            Broke::Before => {
                queue.put_back(place);
                return Some(Ended::Failed);
            }
            // Also a 421 in reply to the dot, which large providers give for one message's sake.
            Broke::OverData => {
                if queue.bring_back(place, now, retry_interval) {
                    tracing::warn!(domain = %domain.name, stamp = entry.stamp.0, "a message that breaks sessions steps aside");
                }
                return Some(Ended::Failed);
            }
            Broke::Not => {}
        }
        if got_through || !is_deferred {
            // The primary is well and took it for others: these recipients wait by themselves.
            queue.step_aside(place, now, retry_interval);
            return None;
        }
        let impaired = queue.put_off(place, recipients, now, retry_interval);
        if impaired {
            self.lane.trouble.borrow_mut().impaired(self.shard.wall_s(), code);
            tracing::warn!(domain = %domain.name, code, "the primary puts everything off");
        }
        impaired.then_some(Ended::Failed)
    }

    /// A record that cannot be read costs itself, never the lane.
    async fn unreadable(
        &self,
        place: Place,
        looking: &Guard,
        ordinals: &[u16],
        error: ReadError,
        domain: &Domain,
    ) -> Option<Ended> {
        let (directory, entry) = place;
        let (domain_name, segment, offset) = (&domain.name, entry.segment.0, entry.offset().0);
        if !matches!(error, ReadError::Damaged(_)) {
            tracing::error!(domain = domain_name, %error, %directory, segment, offset, "a record cannot be read; it steps aside");
            let now = self.shard.clock.now();
            self.lane.queue.borrow_mut().step_aside(place, now, domain.retry_interval);
            return None;
        }
        let Remains { queue_id, unverified_recipients } =
            damage::remains(&self.shard.disk, place, ordinals).await;
        let units = ordinals.len();
        tracing::error!(
            domain = domain_name, queue_id, %error, %directory, segment, offset, units, ?unverified_recipients,
            "a damaged record: its mail is lost"
        );
        self.shard.counters.damaged.add(units as u64);
        let fact = |ordinal: &u16| Fact {
            stamp: entry.stamp,
            ordinal: *ordinal,
            outcome: Outcome::Damaged,
            code: 0,
        };
        if self.lane.queue.borrow_mut().finish(&entry) {
            self.lane.usage.lower(stored_octets(&entry));
        }
        self.record(place, looking, ordinals.iter().map(fact).collect());
        None
    }

    /// Hands facts over to the journal, beside the delivery that goes on.
    fn record(&self, place: Place, looking: &Guard, facts: Vec<Fact>) {
        let settlement = Settlement { place, facts, looking: looking.clone() };
        if self.lane.settlements.add(settlement) {
            let (shard, lane) = (Rc::clone(&self.shard), Rc::clone(&self.lane));
            self.spawn.spawn(settle::write(shard, lane));
        }
    }

    /// Waits while as many messages as a crash may repeat (P4) are not settled durably; the one that goes out
    /// next is among them.
    async fn wait_for_settlements(&self) {
        loop {
            let settled = self.lane.settled.wait();
            if self.lane.settlements.outstanding() < OUTSTANDING_MAX {
                return;
            }
            settled.await;
        }
    }
}
