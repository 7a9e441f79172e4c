//! Bringing notices: a task on the shard that owns the reserved domain, with a few sessions beside each other.
//!
//! Each session takes what is next, oldest first, connects to where it goes, and goes on with the next one on the same connection as long
//! as that goes the same way. Who cannot be reached, or puts it off, makes a notice step aside: its gap doubles from 5 minutes to 4 hours,
//! and others for the same destination step aside without a try for [`DESTINATION_PAUSE`]. What ends a notice: it is
//! taken; it is refused for good; nobody takes mail where it goes; its time is over ([`crate::limits::NOTICE_RETENTION`]).
//!
//! Hosts that are slow on purpose hold up nobody else: a destination has few sessions (`destinations`); data has to be on its way within
//! [`NOTICE_PATIENCE`], else the session is given up. Its reply has the time of RFC 5321 4.5.3.2.6, since who gave up there would send it again; but a
//! session that waits for one beyond that gives its place to others, up to [`NOTICE_SLOW_SESSIONS_MAX`] at a time. More are given up, too.

use super::super::connect::Way;
use super::super::delivery::{Delivery, Done, Job, Unusable};
use super::super::profile::Profile;
use super::super::route::{self, NoRoute};
use super::super::settle;
use super::destinations::{Destinations, Entry, Of, Target};
use crate::bridge::{LookupError, Snapshot};
use crate::config::{Domain, Primaries, canonical_domain};
use crate::limits::{
    DEFERRED_GAP_MIN, FRONTIER_PAUSE_MAX, NOTICE_PATIENCE, NOTICE_SESSIONS_MAX, NOTICE_SLOW_SESSIONS_MAX,
};
use crate::shard::backlog::{Due, Lane, Place, Settlement, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::link::{Dialer, Link, Spawn};
use crate::shard::state::Shard;
use crate::smtp::client::{RecipientOutcome, Window};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::notify::Notify;
use storage::position::Stamp;
use storage::reader::Reader;

/// How long a destination that could not be reached is not tried for another notice.
const DESTINATION_PAUSE: Duration = DEFERRED_GAP_MIN;

struct Bringer<D: Disk, C: Clock, N: Dialer> {
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    /// Sessions that hold others up.
    sessions: Cell<u32>,
    /// Those that have waited for so long that they do not.
    slow: Cell<u32>,
    /// A place is.
    free: Notify,
    destinations: RefCell<Destinations>,
}

/// Where a notice goes.
enum Destination {
    /// There.
    Hosts(Target),
    /// Nobody knows now.
    Later(String),
    /// Nobody takes it there.
    Nobody(String),
}

/// A connection, and where it leads. Whoever has one has entered there.
type Open<N, C, D> = (Target, Delivery<<N as Dialer>::Link, C, D>);

/// One session after the other, with a place.
struct Session<N: Dialer, C, D: Disk> {
    open: Option<Open<N, C, D>>,
    /// It has given its place to others.
    is_slow: bool,
}

/// Runs until no notice is left.
pub(in crate::shard) async fn run<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    lane: Rc<Lane>,
    dialer: N,
    spawn: S,
) {
    let (sessions, slow, free, destinations) = Default::default();
    let bringer = Rc::new(Bringer { shard, lane, dialer, sessions, slow, free, destinations });
    let (shard, lane) = (&bringer.shard, &bringer.lane);
    while !shard.is_shutting_down() {
        let changed = or(lane.stirred.wait(), or(lane.arrived.wait(), bringer.free.wait()));
        let busy = bringer.sessions.get();
        let limit = shard.frontier.held_back_above().unwrap_or(Stamp(u64::MAX));
        let now = shard.clock.now();
        let due = lane.queue.borrow().due(now, limit);
        match due {
            Due::Nothing if busy + bringer.slow.get() == 0 => break,
            Due::Now if busy < NOTICE_SESSIONS_MAX => match bringer.next() {
                Some(first) => {
                    bringer.sessions.set(busy + 1);
                    let bringer = Rc::clone(&bringer);
                    spawn.spawn(async move { bringer.session(first).await });
                }
                // A record of another shard with a smaller stamp is not durable yet (H12).
                None => shard.clock.sleep(FRONTIER_PAUSE_MAX).await,
            },
            Due::Now | Due::Nothing => changed.await,
            Due::At(moment) => or(shard.clock.sleep(moment.saturating_sub(now)), changed).await,
        }
    }
    lane.running.set(false);
}

impl<D: Disk, C: Clock, N: Dialer> Bringer<D, C, N> {
    fn next(&self) -> Option<Place> {
        let horizon = self.shard.frontier.horizon();
        self.shard.empty_inbox();
        self.lane.queue.borrow_mut().next(horizon, self.shard.clock.now())
    }

    async fn session(&self, first: Place) {
        let shard = &self.shard;
        let _place = shard.places.take(false).await;
        let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
        let (mut session, mut next) = (Session { open: None, is_slow: false }, Some(first));
        while let Some(place) = next {
            if shard.is_shutting_down() {
                self.lane.queue.borrow_mut().put_back(place);
                break;
            }
            self.bring(place, &mut session, &reader).await;
            reader.forget_all();
            next = if session.is_slow { None } else { self.next_for(&session) };
        }
        self.leave(&mut session).await;
        let held = if session.is_slow { &self.slow } else { &self.sessions };
        held.set(held.get() - 1);
        self.free.notify_all();
    }

    /// What waits for where the session is, else what is next.
    fn next_for(&self, session: &Session<N, C, D>) -> Option<Place> {
        let there = session.open.as_ref().map(|(there, _)| there);
        let parked = there.and_then(|there| self.destinations.borrow_mut().next(there));
        match parked {
            Some(stamp) => Some(self.lane.queue.borrow().out(stamp).0),
            None => self.next(),
        }
    }

    /// The session is nowhere any more.
    async fn leave(&self, session: &mut Session<N, C, D>) {
        if let Some((there, delivery)) = session.open.take() {
            self.left(&there);
            delivery.close().await;
        }
    }

    /// What waited for it is in order again.
    fn left(&self, there: &Target) {
        let parked = self.destinations.borrow_mut().leave(there);
        let mut queue = self.lane.queue.borrow_mut();
        for stamp in parked {
            let (place, _) = queue.out(stamp);
            queue.put_back(place);
        }
    }

    /// One notice. What is open behind it is good for another one.
    async fn bring(&self, place: Place, session: &mut Session<N, C, D>, reader: &Reader<D>) {
        let looking = self.shard.looking.guard();
        let ordinals = self.lane.queue.borrow().open_units(&place.1);
        let job = match reader.read_entry(place.0, &place.1).await {
            Ok(frame) => Job::new(place, ordinals, looking.clone(), frame),
            Err(error) => Err(Unusable { error, looking: looking.clone() }),
        };
        let job = match job {
            Ok(job) => job,
            Err(Unusable { error, .. }) => {
                return self.unreadable(place, &looking, &error).await;
            }
        };
        if !self.is_settled(&job).await {
            return self.lane.queue.borrow_mut().put_back(place);
        }
        let snapshot = Arc::clone(&self.shard.snapshot.borrow());
        let target = match self.destination(&job, &snapshot).await {
            Destination::Hosts(target) => target,
            Destination::Later(reason) => return self.later(&job, &reason),
            Destination::Nobody(reason) => return self.lost(&job, &reason, 0).await,
        };
        let is_there = |(there, delivery): &Open<N, C, D>| *there == target && is_good(delivery);
        let is_new = !session.open.as_ref().is_some_and(is_there);
        if is_new && !self.goes_there(&job, &target, session, &snapshot).await {
            return;
        }
        let done = self.deliver(job, session, reader).await;
        let Some((_, delivery)) = &session.open else { return };
        let is_answered = self.end(done, delivery.profile()).await;
        if !delivery.is_alive() {
            if is_new && !is_answered {
                // It greets and answers nothing: others for it do not wait so long.
                self.silence(&target);
            }
            self.leave(session).await;
        }
    }

    /// Connects the session to where the notice goes; false: it waits for others there, or for a better time.
    async fn goes_there(
        &self,
        job: &Job<D>,
        target: &Target,
        session: &mut Session<N, C, D>,
        snapshot: &Snapshot,
    ) -> bool {
        self.leave(session).await;
        if self.destinations.borrow().is_silent(target, self.shard.clock.now()) {
            self.later(job, "nobody serves us there");
            return false;
        }
        let entry = self.destinations.borrow_mut().enter(target, job.place.1.stamp);
        match entry {
            Entry::Entered => {}
            Entry::Full => self.later(job, "many go there already"),
            Entry::Parked => {}
        }
        if entry != Entry::Entered {
            return false;
        }
        let Some(delivery) = self.connected(job, target, snapshot).await else {
            self.silence(target);
            self.left(target);
            self.later(job, "nobody serves us there");
            return false;
        };
        self.destinations.borrow_mut().serves(target);
        session.open = Some((target.clone(), delivery));
        true
    }

    /// What becomes of a notice on the connection of its session.
    async fn deliver(&self, job: Job<D>, session: &mut Session<N, C, D>, reader: &Reader<D>) -> Done<D> {
        let Session { open: Some((_, delivery)), is_slow } = session else {
            unreachable!("the session was just connected, or found good");
        };
        let until = self.shard.clock.now() + NOTICE_PATIENCE;
        delivery.hurry(until);
        delivery.push(job);
        loop {
            let is_patient = *is_slow;
            let advanced = async { Some(delivery.advance(reader).await) };
            let late = async {
                if is_patient {
                    core::future::pending::<()>().await;
                }
                self.shard.clock.sleep(until.saturating_sub(self.shard.clock.now())).await;
                None
            };
            match or(advanced, late).await {
                Some(Some(done)) => return done,
                Some(None) => {}
                None => {
                    *is_slow = true;
                    self.goes_slowly(delivery);
                }
            }
        }
    }

    /// A session waits for long: others go on in its place. Where too many do that it is given up.
    fn goes_slowly(&self, delivery: &mut Delivery<N::Link, C, D>) {
        self.sessions.set(self.sessions.get() - 1);
        self.slow.set(self.slow.get() + 1);
        if self.slow.get() > NOTICE_SLOW_SESSIONS_MAX {
            delivery.give_up();
        }
        self.free.notify_all();
    }

    fn silence(&self, target: &Target) {
        let now = self.shard.clock.now();
        let parked = self.destinations.borrow_mut().silence(target, now + DESTINATION_PAUSE);
        let retry_interval = self.shard.snapshot.borrow().config.delivery.retry_interval;
        let mut queue = self.lane.queue.borrow_mut();
        for stamp in parked {
            let (place, _) = queue.out(stamp);
            queue.step_aside(place, now, retry_interval);
        }
    }

    /// The units that it is about may be on their way to the journal: waits for them. False: the shard ends before.
    async fn is_settled(&self, job: &Job<D>) -> bool {
        let Some((domain, stamp)) = &job.notice else { return true };
        let usage = Arc::clone(&self.shard.snapshot.borrow().usage);
        while usage.owing().has(domain, stamp.0) {
            if self.shard.is_shutting_down() {
                return false;
            }
            self.shard.clock.sleep(FRONTIER_PAUSE_MAX).await;
        }
        true
    }

    async fn destination(&self, job: &Job<D>, snapshot: &Snapshot) -> Destination {
        let mailbox = job.mailboxes.first().map_or("", String::as_str);
        let domain = mailbox.rsplit_once('@').and_then(|(_, domain)| canonical_domain(domain));
        let Some(domain) = domain else { return Destination::Nobody("it has no domain".to_owned()) };
        let config = &snapshot.config;
        let about = job.notice.as_ref().and_then(|(about, _)| snapshot.domain(about));
        let smarthost = about.map_or(&config.delivery.smarthost, |about| &about.smarthost);
        let there = |hosts, of| Destination::Hosts(Target { hosts, of });
        if snapshot.domain(&domain).is_some() {
            // What an operator has ordered about a domain of ours holds for this mail, too.
            let standing = snapshot.usage_of(&domain).orders.get();
            if standing.held_for(self.shard.wall_s().into()).is_some() {
                return Destination::Later("the domain is held for maintenance".to_owned());
            }
            if let Some(redirect) = &standing.redirect {
                return there(redirect.to.clone(), Of::Protected(domain.into_owned()));
            }
        }
        let of = match (snapshot.domain(&domain).map(|protected| &protected.primaries), smarthost) {
            // It is ours to hand over, as any mail for that domain.
            (Some(Primaries::Hosts(hosts)), _) => {
                return there(hosts.clone(), Of::Protected(domain.into_owned()));
            }
            (None, Some(smarthost)) => return there(vec![smarthost.clone()], Of::Smarthost),
            (Some(Primaries::Exchangers), _) => Of::Protected(domain.clone().into_owned()),
            (None, None) => Of::Exchangers,
        };
        match route::exchangers(&domain, &config.hostname, &self.shard.asking()).await {
            Ok(hosts) => there(hosts, of),
            Err(NoRoute::Lookup(LookupError::Temporary(reason))) => Destination::Later(reason),
            Err(error) => Destination::Nobody(error.to_string()),
        }
    }

    async fn connected(
        &self,
        job: &Job<D>,
        target: &Target,
        snapshot: &Snapshot,
    ) -> Option<Delivery<N::Link, C, D>> {
        let name =
            job.mailboxes.first().and_then(|mailbox| mailbox.rsplit_once('@')).map_or("", |(_, name)| name);
        let (delivery, hosts) = (&snapshot.config.delivery, target.hosts.clone());
        let domain = match (&target.of, &target.hosts[..]) {
            (Of::Protected(domain), _) => {
                snapshot.domain(domain).map(|protected| protected.of_own_notices(delivery))
            }
            (Of::Smarthost, [host]) => Some(Domain::of_smarthost(name, host.clone(), delivery)),
            _ => None,
        };
        let domain = domain.unwrap_or_else(|| Domain::of_notices(name, hosts, delivery));
        let (shard, dialer, window) = (&*self.shard, &self.dialer, Window::cautious());
        let way = Way { shard, dialer, domain: &domain, lane: None, insists: false, window };
        way.connect().await.ok()
    }

    /// Whether somebody said something about it, or it never left for want of ours.
    async fn end(&self, Done { job, result, .. }: Done<D>, profile: Profile) -> bool {
        let outcome = match result {
            Ok(outcome) => outcome.recipients.into_iter().next(),
            Err(error) => {
                self.unreadable(job.place, &job.looking, &error).await;
                return true;
            }
        };
        let is_answered =
            !matches!(outcome, None | Some(RecipientOutcome::NotTried | RecipientOutcome::Unknown));
        match outcome {
            Some(RecipientOutcome::Delivered(reply)) => {
                let (queue_id, to) = (job.queue_id.to_string(), job.mailboxes.join(", "));
                tracing::info!(queue_id, to, code = reply.code, "a notice was brought");
                self.shard.counters.delivered.add(1);
                self.settle(job.place, &job.looking, Outcome::Delivered, reply.code).await;
            }
            // Some of its 5xx are over in time.
            Some(RecipientOutcome::Rejected { reply, .. }) if profile.means_later(&reply) => {
                self.later(&job, &reply.to_string());
            }
            Some(RecipientOutcome::Rejected { reply, .. }) => {
                self.lost(&job, &reply.to_string(), reply.code).await;
            }
            Some(RecipientOutcome::Deferred { reply, .. }) => self.later(&job, &reply.to_string()),
            Some(RecipientOutcome::Unknown) => {
                self.later(&job, "outcome unknown: sent again, may arrive twice");
            }
            Some(RecipientOutcome::NotTried) | None => self.later(&job, "the session ended"),
        }
        is_answered
    }

    /// It ends, and nobody is told: it has the null reverse-path (RFC 5321 6.1).
    async fn lost(&self, job: &Job<D>, reason: &str, code: u16) {
        let (queue_id, to) = (job.queue_id.to_string(), job.mailboxes.join(", "));
        tracing::warn!(queue_id, to, reason, "a notice cannot be brought: dropped");
        self.shard.counters.notices_lost.add(1);
        self.settle(job.place, &job.looking, Outcome::Discarded, code).await;
    }

    fn later(&self, job: &Job<D>, reason: &str) {
        let (queue_id, to) = (job.queue_id.to_string(), job.mailboxes.join(", "));
        tracing::info!(queue_id, to, reason, "a notice is tried again later");
        let retry_interval = self.shard.snapshot.borrow().config.delivery.retry_interval;
        self.lane.queue.borrow_mut().step_aside(job.place, self.shard.clock.now(), retry_interval);
    }

    async fn unreadable(&self, place: Place, looking: &Guard, error: &ReadError) {
        let stamp = place.1.stamp.0;
        if !matches!(error, ReadError::Damaged(_)) {
            tracing::error!(%error, stamp, "a notice cannot be read; it is tried again later");
            let retry_interval = self.shard.snapshot.borrow().config.delivery.retry_interval;
            self.lane.queue.borrow_mut().step_aside(place, self.shard.clock.now(), retry_interval);
            return;
        }
        tracing::error!(%error, stamp, "a damaged notice: its sender is not told");
        self.shard.counters.damaged.add(1);
        self.settle(place, looking, Outcome::Damaged, 0).await;
    }

    /// It ends; that is durable on return.
    async fn settle(&self, place: Place, looking: &Guard, outcome: Outcome, code: u16) {
        let entry = place.1;
        let ordinals = self.lane.queue.borrow().open_units(&entry);
        let fact = |ordinal: &u16| Fact { stamp: entry.stamp, ordinal: *ordinal, outcome, code };
        let facts = ordinals.iter().map(fact).collect();
        let is_last = self.lane.queue.borrow_mut().finish(&entry);
        if is_last {
            self.lane.usage.lower(stored_octets(&entry));
        }
        let settlement = Settlement { place, facts, told: None, looking: looking.clone() };
        settle::settle(&self.shard, &self.lane, &[settlement]).await;
    }
}

/// Whether a connection takes another notice.
fn is_good<L: Link, C: Clock, D: Disk>(delivery: &Delivery<L, C, D>) -> bool {
    delivery.is_alive() && !delivery.is_used_up()
}
