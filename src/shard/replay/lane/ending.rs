//! What becomes of a message that was in flight: learned from, told, settled, put in order again or aside.

use super::super::bounce::{Bounce, Proof, bounce, wants_relayed};
use super::super::delivery::{Delivery, Done, Fault, Job};
use super::super::greylisting::{Greylisted, greylisted};
use super::super::learn::learn;
use super::super::notice::{self, Cause, Debt, Owed};
use super::super::outcome::{Verdict, judge};
use super::super::profile::{is_over_rate, is_too_much};
use super::super::settle;
use super::session::key_of;
use super::{Ended, Task};
use crate::config::Domain;
use crate::limits::{PACED_RECIPIENT_PAUSE, RECORD_READ_PAUSE, SESSIONS_ASKING_MAX};
use crate::shard::backlog::{Broken, Pass, Place, Queue, Settlement, Sign, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::link::{Dialer, Spawn};
use crate::shard::measured;
use crate::shard::traces::Told;
use crate::smtp::client::{RecipientOutcome, Stage, TransactionOutcome};
use crate::smtp::dsn::Notify;
use crate::smtp::reply::ReceivedReply;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// A message is over; `Some` ends the session. `ending`: it ends anyhow.
    pub(super) async fn end(
        &self,
        delivery: &mut Delivery<N::Link, C, D>,
        done: Done<D>,
        ending: Option<Ended>,
        domain: &Domain,
    ) -> Option<Ended> {
        let Done { job, result, fault, pushed } = done;
        let stamp = job.place.1.stamp;
        if result.as_ref().is_err_and(ReadError::may_heal) && !self.shard.is_shutting_down() {
            // Before anything of its recipients may go on.
            self.shard.clock.sleep(RECORD_READ_PAUSE).await;
        }
        let fault = self.blamed(fault);
        self.round.order.borrow_mut().leave(stamp);
        self.round.changed.notify_all();
        if result.is_err() || fault != Fault::None {
            self.lane.guard.borrow_mut().withdraw();
        }
        let outcome = match result {
            Ok(outcome) => self.as_meant(&job, outcome),
            Err(error) => {
                // The connection was given up in the middle of the data: a new one goes on behind.
                self.unreadable(job.place, (&job.looking, error, true), domain).await;
                return Some(Ended::Cut);
            }
        };
        let took = self.shard.clock.now().saturating_sub(pushed);
        let lag_s = self.shard.wall_s().saturating_sub(job.place.1.received_s);
        measured::answered(&self.shard.counters, &outcome, took, lag_s);
        if let Some(known) = self.shard.snapshot.borrow().recipients_of(&domain.name)
            && !self.is_redirected()
        {
            let mailboxes = job.mailboxes.iter().map(String::as_str);
            let delimiter = domain.recipients.subaddress_delimiter;
            learn(known, delimiter, mailboxes, &outcome, self.shard.instants());
        }
        let is_taken = outcome.recipients.iter().any(|to| matches!(to, RecipientOutcome::Delivered(_)));
        let rulings = self.weigh(&job, &outcome, domain);
        let greylisted = self.note_answer(&outcome, fault);
        let (bounces, relays) = self.bounces(&job, domain, delivery.passes_dsn());
        let told = (&bounces[..], &relays[..]);
        let verdict = judge(stamp, &job.ordinals, &outcome, &rulings, domain.on_reject, told);
        let told = self.traced(&job, &outcome, &verdict, delivery.host());
        self.tell(&job, &verdict, delivery);
        let host = delivery.host();
        let owed = self.debt(&job, &verdict.owed, |reply| Cause::Refused { host, reply });
        let relayed = self.debt(&job, &verdict.relayed, |reply| Cause::Relayed { host, reply });
        let mut ended = self.apply(&job, (verdict, told), greylisted, (fault, ending), domain);
        if let Some(debt) = owed {
            self.spawn.spawn(notice::pay(Rc::clone(&self.shard), Rc::clone(&self.lane), debt));
        }
        if let Some(debt) = relayed {
            let (shard, lane) = (Rc::clone(&self.shard), Rc::clone(&self.lane));
            lane.settlements.owe();
            self.spawn.spawn(async move {
                notice::pay(shard, Rc::clone(&lane), debt).await;
                lane.settled(1);
            });
        }
        if fault == Fault::Another && delivery.is_alive() {
            // Its client cannot be named in this session.
            ended = ended.or(Some(Ended::Turned));
        }
        if fault == Fault::None {
            self.shard.hosts.still_serves(delivery.host(), self.shard.clock.now());
            self.pass(stamp);
            if is_taken {
                let (open, limit) = (self.round.serving(), self.connections_max(domain));
                self.paced(|pace, now| pace.succeed(open, limit, now));
            }
            if self.suspect.get().is_none() && !self.cautious.get() {
                delivery.end_caution();
            }
        }
        ended
    }

    /// Whether the message had an answer, and one that counts as a canary's: who is sent away to come again is none. Gives whether it
    /// was greylisted.
    fn note_answer(&self, outcome: &TransactionOutcome, fault: Fault) -> Option<Greylisted> {
        let has = |is_so: fn(&RecipientOutcome) -> bool| outcome.recipients.iter().any(is_so);
        let is_taken = has(|to| matches!(to, RecipientOutcome::Delivered(_)));
        let is_answered = has(|to| !matches!(to, RecipientOutcome::NotTried | RecipientOutcome::Unknown));
        let greylisted = greylisted(outcome);
        self.answered.set(self.answered.get() || is_answered);
        if fault == Fault::None {
            let mut guard = self.lane.guard.borrow_mut();
            let is_canary = is_taken || (is_answered && greylisted.is_none());
            if is_canary { guard.answered() } else { guard.withdraw() }
        }
        greylisted
    }

    /// Who was alone on his connection was not alone in the lane.
    fn blamed(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Own if self.round.had_company() => Fault::Suspect,
            Fault::Early if self.round.had_company() => Fault::Another,
            fault => fault,
        }
    }

    /// What the replies mean from this primary: some of its 5xx are over in time. Its limits are heeded by all connections.
    fn as_meant(&self, job: &Job<D>, mut outcome: TransactionOutcome) -> TransactionOutcome {
        let (profile, now) = (self.round.profile.get(), self.shard.clock.now());
        for (recipient, mailbox) in outcome.recipients.iter_mut().zip(&job.mailboxes) {
            if let RecipientOutcome::Rejected { stage, reply } = recipient
                && profile.means_later(reply)
            {
                *recipient = RecipientOutcome::Deferred { stage: *stage, reply: reply.clone() };
            }
            let RecipientOutcome::Deferred { stage, reply } = recipient else { continue };
            if is_over_rate(reply) {
                self.lane.pacing.borrow_mut().put_off(key_of(mailbox), PACED_RECIPIENT_PAUSE, now);
            } else if *stage != Stage::Recipient && is_too_much(reply) {
                self.paced(|pace, now| pace.too_much(now));
            }
        }
        outcome
    }

    /// A message had its outcome in a session that goes on. If it is the one that had to be tried alone, or that one ended
    /// otherwise meanwhile, there is none any more.
    fn pass(&self, stamp: Stamp) {
        self.pass_by(stamp, &self.lane.queue.borrow());
    }

    fn pass_by(&self, stamp: Stamp, queue: &Queue) {
        let Some(suspect) = self.suspect.get() else { return };
        if suspect == stamp || !queue.waits(suspect) {
            self.suspect.set(None);
        }
    }

    /// What becomes of each recipient if it is refused for good and to be bounced; and whether its sender is told if it is taken.
    fn bounces(&self, job: &Job<D>, domain: &Domain, passes_dsn: bool) -> (Vec<Bounce>, Vec<bool>) {
        let entry = &job.place.1;
        let said = self.lane.queue.borrow().authentication(entry.stamp);
        let proof = Proof::of(said, entry, domain.authenticate, self.shard.wall_s());
        let has_room = notice::has_room(&self.shard);
        let of = |notify: &Notify| match bounce(&job.reverse_path, *notify, proof) {
            Bounce::Notice if !has_room => Bounce::Hold,
            bounce => bounce,
        };
        let is_told =
            |notify: &Notify| !passes_dsn && has_room && wants_relayed(&job.reverse_path, *notify, proof);
        (job.notify.iter().map(of).collect(), job.notify.iter().map(is_told).collect())
    }

    /// The notice that this answer makes us owe about units, for what became of them.
    fn debt(
        &self,
        job: &Job<D>,
        units: &[(u16, ReceivedReply)],
        cause: impl Fn(ReceivedReply) -> Cause,
    ) -> Option<Debt> {
        let unit = |(ordinal, reply): &(u16, ReceivedReply)| Owed {
            ordinal: *ordinal,
            code: reply.code,
            cause: cause(reply.clone()),
        };
        let units: Vec<Owed> = units.iter().map(unit).collect();
        (!units.is_empty()).then(|| Debt::new(&self.shard, &self.lane, job.place, &job.looking, units))
    }

    fn tell(&self, job: &Job<D>, verdict: &Verdict, delivery: &Delivery<N::Link, C, D>) {
        let count = |outcome| verdict.facts.iter().filter(|fact| fact.outcome == outcome).count();
        let (delivered, held) = (verdict.delivered(), count(Outcome::Held));
        let bounced = count(Outcome::Bounced) + verdict.owed.len();
        let counters = &self.shard.counters;
        counters.delivered.add(delivered as u64);
        self.lane.usage.take(delivery.transport(), delivered as u64);
        let is_redirected = self.round.standing.borrow().redirect.is_some();
        if is_redirected {
            self.lane.usage.note_redirected(delivered as u64);
        }
        counters.held.add(held as u64);
        counters.bounced.add(count(Outcome::Bounced) as u64);
        counters.discarded.add(count(Outcome::Discarded) as u64);
        counters.deferred.add(verdict.deferred.len() as u64);
        counters.unknown.add(verdict.unknown.len() as u64);
        let (deferred, unknown) = (verdict.deferred.len(), verdict.unknown.len());
        let event = match () {
            () if unknown > 0 => "outcome unknown: sent again, may arrive twice",
            () if !verdict.parked.is_empty() => "refused by the primary: not final yet",
            () if held > 0 => "refused by the primary: held",
            () if !verdict.owed.is_empty() => "refused by the primary: its sender is told",
            () if bounced > 0 => "refused by the primary: its sender wants no notice",
            () if deferred > 0 => "deferred by the primary",
            () if !verdict.untried.is_empty() => "not sent: the session ended",
            () if is_redirected => "handed over, to where it was redirected",
            () => "handed over",
        };
        let (from, code) = (job.reverse_path.as_str(), verdict.code);
        let (queue_id, tls) = (job.queue_id.to_string(), delivery.tls());
        let proven = self.lane.queue.borrow().is_reverse_path_proven(job.place.1.stamp);
        let again = self.lane.offers.borrow().is_doubtful(job.place.1.stamp);
        tracing::info!(
            queue_id, domain = %self.lane.domain, from, proven, delivered, deferred, held, bounced, unknown, again, code,
            tls,
            "{event}"
        );
    }

    /// Writes down what became of an entry; `Some` ends the session.
    fn apply(
        &self,
        job: &Job<D>,
        (verdict, told): (Verdict, Option<Box<Told>>),
        greylisted: Option<Greylisted>,
        (fault, ending): (Fault, Option<Ended>),
        domain: &Domain,
    ) -> Option<Ended> {
        let (place, entry) = (job.place, job.place.1);
        let (now, retry_interval) = (self.shard.clock.now(), domain.retry_interval);
        let got_through = verdict.got_through();
        let mut queue = self.lane.queue.borrow_mut();
        decide(&mut queue, place, &verdict, self.shard.wall_s());
        if got_through {
            self.progressed.set(true);
            self.cautious.set(false);
            queue.got_through(now, retry_interval);
            let snapshot = Arc::clone(&self.shard.snapshot.borrow());
            self.witness(&snapshot, Sign::Took);
        }
        let (code, has_rest) = (verdict.code, !verdict.untried.is_empty());
        let part = part_of(job, &verdict);
        self.heard(entry.stamp, &verdict);
        self.give_back_shares(job, &verdict);
        let greylisted = greylisted.filter(|_| verdict.unknown.is_empty());
        let is_over = !verdict.is_open() && !queue.has_pass(entry.stamp);
        if !verdict.facts.is_empty() {
            self.record(place, &job.looking, verdict.facts, told);
        }
        if is_over {
            if queue.finish(&entry) {
                self.lane.usage.lower(stored_octets(&entry));
            }
            return None;
        }
        if let Some(Greylisted { stated }) = greylisted.filter(|_| !has_rest || fault != Fault::None) {
            // Also where that ended the session: it had too many errors, and it was not this one's data.
            queue.greylist(place, stated, now, retry_interval);
            self.greylisted.set(true);
            self.pass_by(entry.stamp, &queue);
            return self.lane.guard.borrow().is_frozen().then_some(Ended::Frozen);
        }
        match fault {
            Fault::None => {}
            Fault::Another | Fault::Suspect => {
                if fault == Fault::Suspect {
                    // Of several connections that broke each names one: up to the last of them everything goes alone, so the
                    // one that breaks sessions is met whichever it is.
                    self.suspect.set(self.suspect.get().max(Some(entry.stamp)));
                }
                queue.put_back(place);
                return None;
            }
            Fault::Early => return self.broke_early(&mut queue, job, &part, (has_rest, code), domain),
            // Also a 421 in reply to the dot, which large providers give for one message's sake.
            Fault::Own => {
                self.suspect.set(Some(entry.stamp));
                if queue.bring_back(place, now, retry_interval) {
                    self.suspect.set(None);
                    tracing::warn!(domain = %domain.name, stamp = entry.stamp.0, "a message that breaks sessions steps aside");
                }
                return None;
            }
        }
        let is_frozen = || self.lane.guard.borrow().is_frozen().then_some(Ended::Frozen);
        if has_rest {
            // It is next, in its place (RFC 9422), whatever was said of those that were offered.
            queue.had_turn(&entry, part);
            queue.put_back(place);
            return is_frozen();
        }
        let Pass { deferred, has_parked, got_through, .. } = queue.whole_pass(entry.stamp, part);
        if got_through || deferred.is_empty() || has_parked {
            // The primary is well and took it for others, or refused them: these recipients wait by themselves.
            queue.step_aside(place, now, retry_interval);
            return is_frozen();
        }
        if ending.is_some() {
            // It was in flight when the primary was found to put everything off, or we were told to go: it is in order again.
            queue.put_back(place);
            return None;
        }
        self.put_off(&mut queue, place, &deferred, code, domain)
    }

    /// What did not leave is nobody's share of a rate: it is counted when it does.
    fn give_back_shares(&self, job: &Job<D>, verdict: &Verdict) {
        let all = job.ordinals.iter().zip(&job.mailboxes);
        let untried = all.filter(|(ordinal, _)| verdict.untried.contains(ordinal));
        let keys: Vec<_> = untried.map(|(_, mailbox)| key_of(mailbox)).collect();
        self.lane.pacing.borrow_mut().withdraw(&keys);
    }

    /// All of a message was put off.
    fn put_off(
        &self,
        queue: &mut Queue,
        place: Place,
        deferred: &[String],
        code: u16,
        domain: &Domain,
    ) -> Option<Ended> {
        let recipients: Vec<&str> = deferred.iter().map(String::as_str).collect();
        queue
            .put_off(place, &recipients, self.shard.clock.now(), domain.retry_interval)
            .then(|| self.all_is_put_off(code))
    }

    /// It is the primary, not a message.
    fn all_is_put_off(&self, code: u16) -> Ended {
        self.note(format!("the primary puts everything off ({code})"));
        tracing::warn!(domain = %self.lane.domain, code, "the primary puts everything off");
        Ended::PutOff
    }

    /// What the journal is to know of what was on its way.
    fn heard(&self, stamp: Stamp, verdict: &Verdict) {
        let mut offers = self.lane.offers.borrow_mut();
        match () {
            () if !verdict.unknown.is_empty() => offers.unknown(stamp),
            () if verdict.got_through() => offers.answered(stamp),
            () => offers.known(stamp),
        }
    }

    /// The session ended in a message's turn, before its data.
    fn broke_early(
        &self,
        queue: &mut Queue,
        job: &Job<D>,
        part: &Pass,
        (has_rest, code): (bool, u16),
        domain: &Domain,
    ) -> Option<Ended> {
        let is_answered = !has_rest && !part.deferred.is_empty() && code != CLOSING;
        let has_others =
            queue.has_untried(self.limit()) || self.round.order.borrow().waiting().next().is_some();
        let mailboxes: Vec<&str> = job.mailboxes.iter().map(String::as_str).collect();
        let (now, told) = (self.shard.clock.now(), (is_answered, has_others));
        self.cautious.set(true);
        let stamp = job.place.1.stamp;
        let broken = queue.broke_early(job.place, &mailboxes, told, now, domain.retry_interval);
        if matches!(broken, Broken::Aside | Broken::Suspected) && self.suspect.get() == Some(stamp) {
            // It was one of several in flight before that: what comes next need not go alone for its sake.
            self.suspect.set(None);
        }
        match broken {
            // How the session ended says the rest.
            Broken::Primary if !is_answered => None,
            Broken::Aside | Broken::Waits => None,
            // So many sessions at once are enough: the next try looks further.
            Broken::Suspected if self.questions.replace(self.questions.get() + 1) >= SESSIONS_ASKING_MAX => {
                None
            }
            Broken::Suspected => {
                tracing::info!(domain = %domain.name, stamp = stamp.0, "sessions end over a message: the next one tells whether it is the primary");
                Some(Ended::Turned)
            }
            Broken::Primary => Some(self.all_is_put_off(code)),
        }
    }

    /// Hands facts over to the journal, beside the delivery that goes on.
    pub(super) fn record(&self, place: Place, looking: &Guard, facts: Vec<Fact>, told: Option<Box<Told>>) {
        let settlement = Settlement { place, facts, told, looking: looking.clone() };
        if self.lane.settlements.add(settlement) {
            let (shard, lane) = (Rc::clone(&self.shard), Rc::clone(&self.lane));
            self.spawn.spawn(settle::write(shard, lane));
        }
    }
}

/// What is final of a message that is out, and what is held of it.
fn decide(queue: &mut Queue, place: Place, verdict: &Verdict, wall_s: u32) {
    let told = verdict.owed.iter().chain(&verdict.relayed).map(|owed| owed.0);
    for ordinal in verdict.facts.iter().map(|fact| fact.ordinal).chain(told) {
        queue.decide(&place.1, ordinal);
    }
    let held = verdict.facts.iter().filter(|fact| fact.outcome == Outcome::Held);
    let held: Vec<u16> = held.map(|fact| fact.ordinal).collect();
    queue.hold(place, &held, wall_s);
}

/// The service closes the channel, whatever it was asked for (RFC 5321 3.8).
const CLOSING: u16 = 421;

/// What a transaction adds to the pass over its message.
fn part_of<D: Disk>(job: &Job<D>, verdict: &Verdict) -> Pass {
    let mailbox =
        |(ordinal, mailbox): (&u16, &String)| verdict.deferred.contains(ordinal).then(|| mailbox.clone());
    Pass {
        tried: [&verdict.deferred[..], &verdict.parked, &verdict.unknown].concat(),
        deferred: job.ordinals.iter().zip(&job.mailboxes).filter_map(mailbox).collect(),
        has_parked: !verdict.parked.is_empty(),
        got_through: verdict.got_through(),
    }
}
