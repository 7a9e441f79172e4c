//! Mail that is carried through to a primary that is well, while its sender waits: its verdicts become ours, so that none of its filters
//! is bypassed and no notice is ever owed (`when_up = "proxy"`).
//!
//! A recipient is carried if `course` says so. Each RCPT is answered by the primary, the data goes there as it comes, and beside it into our log,
//! un-promised (H21). What the primary says to the end of data the sender is told; then the record is abandoned. If the primary fails
//! underneath, at whatever point, the transaction is *taken whole*: its recipients that were accepted are ours, the record is made durable, and the
//! sender gets our 250, never an error. A sender who goes before the true end of data leaves nothing on either side.
//!
//! ```text
//!   Undecided --RCPT--> Carried --data--> Carried(data) --end--> its reply is told
//!       |                  | gone, late, another domain, a refusal that cannot be true
//!       +------------------+--> Whole --end--> ours
//!   Undecided --RCPT, MAIL is refused there--> Refused: each RCPT of the domain gets that reply
//! ```
//! Not everything is a verdict. A primary that refuses as unknown a recipient whom it took lately is half restored (H22), and so is one that
//! refuses two such in a row for another reason than its policy about senders: nothing of that is passed on, and nobody is carried for
//! `retry_interval`. So it is after distinct senders and recipients, three in a row, were put off (H23), and for a minute after one that went wrong.
//! Whom it refuses at XCLIENT has its answer to MAIL; who cannot be named there, or needs what it does not offer, is taken, and nothing is
//! wrong with it. At most 16 messages of a domain wait for the answer to their end, those of its lane among them (P4). What waits for a reply has a patience of 30 s at RCPT and 60 s at the end of data; the message whose reply is later than that
//! is ours, and marked: the connection keeps its 10 minutes, and a 250 that comes yet settles it (`replay::late`).

mod course;
mod refusal;

use super::interrupt::{Interrupt, Reason};
use super::state::Shard;
use super::upstream::{Answer, Command, OwnedRecipient, OwnedSender, Upstream};
use crate::bridge::Snapshot;
use crate::config::{Domain, WhenUp};
use crate::limits::{HEADER_KEPT_OCTETS_MAX, PROXY_DATA_TIMEOUT, PROXY_PAUSE, PROXY_RCPT_TIMEOUT};
use crate::message::authentication_results::forged;
use crate::message::received::header_section;
use crate::smtp::Moment;
use crate::smtp::client::{RecipientOutcome, Stage, TransactionOutcome, TrueClient};
use crate::smtp::reply::{ReceivedReply, Reply};
use crate::smtp::server::ServerSession;
use core::net::IpAddr;
use course::{Circumstances, Course, SoFar, course};
use refusal::{Refusal, told};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::position::Stamp;

/// The carried part of a session.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    upstream: Option<Upstream>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No recipient was judged.
    #[default]
    Undecided,
    /// The primary refused the sender, or all commands of this transaction: what it said.
    Refused(ReceivedReply),
    /// Carried through to the upstream.
    Carried(Carried),
    /// Ours, and the primary owes a reply to its end.
    Owed,
    /// Ours.
    Whole,
}

#[derive(Debug)]
struct Carried {
    /// The reverse-path.
    sender: String,
    /// What became of each recipient so far; those that were accepted are `NotTried`.
    outcomes: Vec<(String, RecipientOutcome)>,
    has_data: bool,
    /// The beginning of the data, until its header section is whole: what it says in our name is left out (RFC 8601 5).
    held: Option<Vec<u8>>,
    /// It refused DATA: the reply is told at the end of the data.
    refusal: Option<ReceivedReply>,
}

impl Carried {
    /// What goes now of the data so far.
    fn piece(&mut self, trace: &[u8], data: &[u8], hostname: &str) -> Option<Vec<u8>> {
        if !core::mem::replace(&mut self.has_data, true) {
            self.held = Some(trace.to_vec());
        }
        let Some(held) = &mut self.held else { return Some(data.to_vec()) };
        held.extend_from_slice(data);
        let is_whole = held.len() > HEADER_KEPT_OCTETS_MAX || header_section(held).len() < held.len();
        if is_whole { self.rest(hostname) } else { None }
    }

    /// What was held, without what is forged.
    fn rest(&mut self, hostname: &str) -> Option<Vec<u8>> {
        let mut held = self.held.take()?;
        for range in forged(&held, hostname).into_iter().rev() {
            held.drain(range);
        }
        Some(held)
    }
}

/// What becomes of a recipient.
#[derive(Debug)]
pub(super) enum Judged {
    /// The primary accepted it.
    Accepted,
    /// The primary refused it.
    Refused(Reply),
    /// It is for us to judge: whatever else is known of it.
    Ours,
    /// `when_up = "defer"`, and the primary is up.
    Deferrable,
}

/// What became of a message whose data was carried.
#[derive(Debug)]
pub(super) enum Carriage {
    /// The primary's reply to it.
    Told(Reply),
    /// Ours: the primary cannot have it.
    Failed,
    /// Ours, and the primary may have it too.
    Unknown,
    /// Ours, and the primary owes a reply.
    Owed,
    /// It was not carried.
    None,
}

/// The recipient that is judged.
pub(super) struct Asked<'a> {
    pub(super) domain: &'a Domain,
    /// With A-labels.
    pub(super) mailbox: String,
    pub(super) client: IpAddr,
}

impl Proxy {
    /// What becomes of the recipient that the session proposes. Waits for the primary, in bounded time.
    pub(super) async fn judge<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        session: &mut ServerSession,
        interrupt: &Interrupt,
        snapshot: &Snapshot,
        asked: Asked<'_>,
    ) -> Judged {
        let until = shard.clock.now() + PROXY_RCPT_TIMEOUT;
        let Asked { domain, mailbox, client } = asked;
        let client = TrueClient::new(client, session.greeted_as(), session.is_extended());
        let way = self.course(shard, snapshot, (domain, &mailbox), client.as_ref());
        match way {
            Course::Defer => return Judged::Deferrable,
            Course::Carry => {
                let carrying = self.carry(shard, session, snapshot, (domain, mailbox), until);
                match interrupt.guard(None, carrying).await {
                    Ok(judged) => return judged,
                    Err(Reason::Shutdown | Reason::Deadline) => session.handle_shutdown(),
                }
            }
            Course::Take | Course::TakeAll => {}
        }
        self.take_whole();
        Judged::Ours
    }

    fn course<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        snapshot: &Snapshot,
        (domain, mailbox): (&Domain, &str),
        client: Option<&TrueClient>,
    ) -> Course {
        let usage = snapshot.usage_of(&domain.name);
        let passage = &usage.passage;
        let is_here = self.upstream.as_ref().is_some_and(|upstream| *upstream.domain == *domain.name);
        let so_far = match &self.state {
            State::Undecided => SoFar::Nothing,
            State::Refused(_) | State::Carried(_) => SoFar::Carried(is_here),
            State::Owed | State::Whole => SoFar::Taken,
        };
        let is_free = passage.is_free()
            && !passage.is_paused(shard.clock.now())
            && usage.lets_pass(shard.wall_s().into(), shard.clock.now())
            // For him there is an outage.
            && !usage.drill.holds(mailbox, shard.clock.now());
        let mut is_trusted = false;
        if domain.when_up == WhenUp::Proxy && so_far == SoFar::Nothing && is_free && passage.is_trusted() {
            is_trusted = client.is_some_and(|client| self.has_upstream(shard, &domain.name, client));
        }
        course(&Circumstances { when_up: domain.when_up, so_far, is_free, is_trusted })
    }

    /// Whether there is an upstream for this domain and client, or a place for one.
    fn has_upstream<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        domain: &str,
        client: &TrueClient,
    ) -> bool {
        let is_same = |upstream: &Upstream| *upstream.domain == *domain && upstream.client == *client;
        if !self.upstream.as_ref().is_some_and(is_same) {
            self.upstream = shard.proxying.open(domain, client.clone());
        }
        self.upstream.is_some()
    }

    async fn carry<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        session: &ServerSession,
        snapshot: &Snapshot,
        (domain, mailbox): (&Domain, String),
        until: Moment,
    ) -> Judged {
        if matches!(self.state, State::Undecided) {
            let sender = sender_of(session);
            let reverse_path = sender.reverse_path.clone();
            match self.ask(|answer| Command::Sender(sender, until, answer)).await {
                Answer::Reply(reply) if reply.is_positive() => {
                    let (outcomes, has_data, held, refusal) = Default::default();
                    let sender = reverse_path;
                    self.state = State::Carried(Carried { sender, outcomes, has_data, held, refusal });
                }
                Answer::Reply(reply) => self.state = State::Refused(reply),
                Answer::Unfit => {
                    // There is nothing wrong with the primary: this one cannot be carried.
                    self.take_whole();
                    return Judged::Ours;
                }
                Answer::Gone | Answer::Late | Answer::Written => {
                    return self.failed(shard, snapshot, domain);
                }
            }
        }
        if let State::Refused(reply) = &self.state {
            let reply = reply.clone();
            let reverse_path = session.transaction().reverse_path();
            let of = Refusal::new(shard, snapshot, domain, reverse_path, &mailbox);
            return match of.meaning(&reply, Stage::Sender) {
                Some(refusal) => Judged::Refused(refusal),
                None => self.untrue(),
            };
        }
        let candidate = session.transaction().candidate_dsn();
        let recipient = OwnedRecipient {
            mailbox: mailbox.clone(),
            notify: candidate.notify,
            orcpt: candidate.orcpt.to_owned(),
        };
        let answer = self.ask(|answer| Command::Recipient(recipient, until, answer)).await;
        let State::Carried(carried) = &mut self.state else { return Judged::Ours };
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Unfit => {
                self.take_whole();
                return Judged::Ours;
            }
            Answer::Gone | Answer::Late | Answer::Written => return self.failed(shard, snapshot, domain),
        };
        if reply.is_positive() {
            carried.outcomes.push((mailbox, RecipientOutcome::NotTried));
            snapshot.usage_of(&domain.name).passage.note_accepted();
            return Judged::Accepted;
        }
        let of = Refusal::new(shard, snapshot, domain, &carried.sender, &mailbox);
        let Some(refusal) = of.meaning(&reply, Stage::Recipient) else { return self.untrue() };
        let stage = Stage::Recipient;
        carried.outcomes.push((
            mailbox,
            if reply.is_permanent() {
                RecipientOutcome::Rejected { stage, reply }
            } else {
                RecipientOutcome::Deferred { stage, reply }
            },
        ));
        Judged::Refused(refusal)
    }

    /// Whether what comes is carried: then it begins with the trace header.
    pub(super) const fn wants_trace(&self) -> bool {
        matches!(&self.state, State::Carried(carried) if !carried.has_data)
    }

    /// Mail data, as it is stored; the first of it behind the trace header.
    pub(super) async fn take_data<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        trace: &[u8],
        data: &[u8],
    ) {
        let State::Carried(carried) = &mut self.state else { return };
        if carried.refusal.is_some() {
            return;
        }
        let Some(octets) = carried.piece(trace, data, &shard.snapshot.borrow().config.hostname) else {
            return;
        };
        self.bring(shard, octets).await;
    }

    async fn bring<D: Disk, C: Clock>(&mut self, shard: &Shard<D, C>, octets: Vec<u8>) {
        let until = shard.clock.now() + PROXY_DATA_TIMEOUT;
        let answer = self.ask(|answer| Command::Data(octets, until, answer)).await;
        let State::Carried(carried) = &mut self.state else { return };
        match answer {
            Answer::Written => {}
            Answer::Reply(reply) => carried.refusal = Some(reply),
            Answer::Gone | Answer::Late | Answer::Unfit => self.fail(shard),
        }
    }

    /// The end of the data: what the primary says to it.
    pub(super) async fn finish<D: Disk, C: Clock>(&mut self, shard: &Shard<D, C>, units: usize) -> Carriage {
        let State::Carried(carried) = &mut self.state else { return Carriage::None };
        let rest = carried.rest(&shard.snapshot.borrow().config.hostname);
        if let Some(octets) = rest {
            // All of it is header section.
            self.bring(shard, octets).await;
        }
        let State::Carried(carried) = &mut self.state else { return Carriage::Failed };
        let until = shard.clock.now() + PROXY_DATA_TIMEOUT;
        let answer = match carried.refusal.take() {
            Some(reply) => Answer::Reply(reply),
            None => self.ask(|answer| Command::End(until, answer)).await,
        };
        let State::Carried(carried) = core::mem::take(&mut self.state) else { return Carriage::None };
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Late => {
                self.fail(shard);
                self.state = State::Owed;
                return Carriage::Owed;
            }
            Answer::Unfit => return Carriage::Failed,
            Answer::Gone | Answer::Written => {
                self.fail(shard);
                return Carriage::Unknown;
            }
        };
        let Some(verdict) = told(&reply) else {
            // Nobody knows what it means, or what comes next.
            self.fail(shard);
            self.upstream = None;
            return Carriage::Unknown;
        };
        if let Some(upstream) = &self.upstream {
            self.learn(shard, &upstream.domain, carried, &reply, units);
        }
        Carriage::Told(verdict)
    }

    fn learn<D: Disk, C: Clock>(
        &self,
        shard: &Shard<D, C>,
        domain: &str,
        carried: Carried,
        reply: &ReceivedReply,
        units: usize,
    ) {
        let snapshot = shard.snapshot.borrow().clone();
        let (Some(domain), Some(known)) = (snapshot.domain(domain), snapshot.recipients_of(domain)) else {
            return;
        };
        if !reply.is_positive() {
            let taken = carried.outcomes.iter().find(|(_, outcome)| *outcome == RecipientOutcome::NotTried);
            let mailbox = taken.map_or("", |(mailbox, _)| mailbox);
            let of = Refusal::new(shard, &snapshot, domain, &carried.sender, mailbox);
            of.note_put_off(reply);
            return;
        }
        let passage = &snapshot.usage_of(&domain.name).passage;
        passage.note_proxied(units as u64);
        passage.note_taken();
        passage.prove(shard.clock.now());
        shard.counters.proxied.add(units as u64);
        let (mailboxes, outcomes): (Vec<_>, Vec<_>) = carried.outcomes.into_iter().unzip();
        let delivered = |outcome| match outcome {
            RecipientOutcome::NotTried => RecipientOutcome::Delivered(reply.clone()),
            refused => refused,
        };
        let outcome = TransactionOutcome { recipients: outcomes.into_iter().map(delivered).collect() };
        let delimiter = domain.recipients.subaddress_delimiter;
        super::replay::learn(
            known,
            delimiter,
            mailboxes.iter().map(String::as_str),
            &outcome,
            shard.instants(),
        );
    }

    /// The message that the primary owes a reply about is ours, by this stamp.
    pub(super) fn is_ours(&mut self, stamp: Stamp) {
        if let Some(upstream) = self.upstream.take() {
            upstream.is_ours(stamp);
        }
    }

    /// Of which domain is what is carried.
    pub(super) fn domain(&self) -> Option<Arc<str>> {
        self.upstream.as_ref().map(|upstream| Arc::clone(&upstream.domain))
    }

    /// The transaction is over, or gone: the next one begins anew.
    pub(super) fn abandon(&mut self) {
        self.take_whole();
        self.state = State::Undecided;
    }

    /// What the primary says cannot be true of it when it is whole: the transaction is ours.
    fn untrue(&mut self) -> Judged {
        self.take_whole();
        Judged::Ours
    }

    /// What was carried is ours; the primary forgets it.
    pub(super) fn take_whole(&mut self) {
        if matches!(self.state, State::Owed) {
            self.upstream = None;
        }
        let is_there = !matches!(self.state, State::Undecided | State::Whole);
        self.state = State::Whole;
        if is_there && !self.upstream.as_ref().is_some_and(Upstream::forget) {
            self.upstream = None;
        }
    }

    fn failed<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        snapshot: &Snapshot,
        domain: &Domain,
    ) -> Judged {
        tracing::info!(domain = %domain.name, "the primary does not carry on: mail is taken for it");
        snapshot.usage_of(&domain.name).passage.pause(shard.clock.now() + PROXY_PAUSE);
        (self.upstream, self.state) = (None, State::Whole);
        Judged::Ours
    }

    /// It went wrong behind RCPT.
    fn fail<D: Disk, C: Clock>(&mut self, shard: &Shard<D, C>) {
        if let Some(upstream) = &self.upstream {
            let usage = shard.snapshot.borrow().usage_of(&upstream.domain);
            usage.passage.pause(shard.clock.now() + PROXY_PAUSE);
        }
        self.state = State::Whole;
    }

    async fn ask(&self, command: impl FnOnce(async_channel::Sender<Answer>) -> Command) -> Answer {
        match &self.upstream {
            Some(upstream) => upstream.ask(command).await,
            None => Answer::Gone,
        }
    }
}

fn sender_of(session: &ServerSession) -> OwnedSender {
    let transaction = session.transaction();
    let dsn = transaction.dsn();
    OwnedSender {
        reverse_path: transaction.reverse_path().to_owned(),
        declared_octets: transaction.declared_size(),
        has_8bit: transaction.body() == crate::smtp::command::Body::EightBitMime,
        smtputf8: transaction.smtputf8(),
        ret: dsn.ret,
        envid: dsn.envid.to_owned(),
    }
}
