//! One connection of a sender: octets from the link into the machine, replies back, verdicts between.
//!
//! No protocol is decided here and nothing of a message is kept here: the machine says what happened, the
//! verdict says what is welcome, the ingest makes it durable. Who errs too often waits for his replies: his task sleeps
//! until the shard's one sweep wakes it.

use super::callouts::Said;
use super::etrn;
use super::ingest::{Ingest, Taken};
use super::interrupt::{Interrupt, Reason};
use super::link::Link;
use super::measured;
use super::policy::{self, Standing};
use super::proxy::{Asked, Judged};
use super::receive_buffer::ReceiveBuffer;
use super::receiving::Handshake;
use super::state::Shard;
use super::tls::SessionLink;
use super::verdict;
use crate::bridge::{DomainRecipients, Snapshot};
use crate::config::{Domain, canonical_domain};
use crate::limits::{
    CALLOUT_TIMEOUT, CLOSE_TIMEOUT, DEFER_PROOF_AGE, PROXY_PAUSE, TARPIT_PAUSE, UNHURT_ERRORS_MAX,
    UNHURT_REFUSALS_MAX,
};
use crate::smtp::path::ForwardPath;
use crate::smtp::reply::{EARLY_TALKER_554, PRIMARY_IS_UP_451, Reply, UNKNOWN_RECIPIENT_550};
use crate::smtp::server::{RecipientVerdict, ServerEvent, ServerSession};
use core::future::pending;
use core::net::{IpAddr, SocketAddr};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Why a connection is over before its session closed it.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the client closed the connection")]
    Closed,
    #[error(transparent)]
    Link(#[from] io::Error),
    #[error("the client does not read its replies")]
    NotReading,
    #[error("the TLS handshake failed: {0}")]
    NotSecured(io::Error),
    #[error("the TLS handshake did not end")]
    HandshakeEnded,
}

struct Connection<L, D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    link: SessionLink<L>,
    session: ServerSession,
    /// At the other end of the link.
    client: IpAddr,
    buffer: ReceiveBuffer,
    ingest: Ingest<D, C>,
    interrupt: Rc<Interrupt>,
    /// Its place among the handshakes, from the 220 on.
    handshake: Option<Handshake>,
    /// Errors and refused recipients that were answered.
    answered: (u32, u32),
    /// Replies that were counted.
    counted: [u32; 4],
}

/// Serves one connection to its end.
pub(super) async fn serve<L: Link, D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, link: L, peer: SocketAddr) {
    let profile = Arc::clone(&shard.snapshot.borrow().profile);
    let client = peer.ip().to_canonical();
    let mut session = ServerSession::new(profile, shard.clock.now());
    if shard.snapshot.borrow().config.smtp.xclient_from.iter().any(|network| network.contains(client)) {
        session.allow_xclient();
    }
    let mut connection = Connection {
        session,
        buffer: ReceiveBuffer::new(Rc::clone(&shard.receiving.memory)),
        ingest: Ingest::new(Rc::clone(&shard), client),
        interrupt: shard.interrupts.register(),
        handshake: None,
        answered: (0, 0),
        counted: [0; 4],
        shard,
        client,
        link: SessionLink::Plain(link),
    };
    match connection.run().await {
        Ok(()) => tracing::debug!(%client, "session ended"),
        Err(gone) => tracing::debug!(%client, reason = %gone, "session ended"),
    }
}

impl<L: Link, D: Disk, C: Clock> Connection<L, D, C> {
    async fn run(&mut self) -> Result<(), Gone> {
        // RFC 5321 3.1 has the client wait for the greeting (P6). One look, no pause: that would cost every
        // honest sender.
        if self.link.has_unread() {
            self.link.read(self.buffer.space()).await?;
            let refusal = format!("{EARLY_TALKER_554}\r\n");
            self.link.write(refusal.as_bytes()).await?;
            return self.close().await;
        }
        loop {
            self.work().await;
            self.hold_replies().await;
            self.send_replies().await?;
            if self.session.is_closing() {
                return self.close().await;
            }
            if self.session.wants_handshake() {
                self.secure().await?;
            }
            if self.buffer.wants_spill() {
                self.ingest.spill(self.buffer.kept()).await;
                self.buffer.drop_kept();
            }
            self.receive().await?;
        }
    }

    /// Runs the machine over what is there.
    async fn work(&mut self) {
        while self.session.wants_input() {
            let step = self.session.handle_input(self.buffer.unfed(), self.shard.clock.now());
            match step.event {
                ServerEvent::Idle if step.consumed == 0 => return,
                ServerEvent::Data { start, end } => self.buffer.keep(start, end),
                ServerEvent::Chunk { start, end } => {
                    self.ingest.take_chunk(&self.buffer.unfed()[start..end]).await;
                }
                _ => {}
            }
            self.buffer.feed(step.consumed);
            match step.event {
                ServerEvent::Abandoned => {
                    self.buffer.drop_kept();
                    self.ingest.abandon();
                }
                ServerEvent::Data { .. } | ServerEvent::Chunk { .. } | ServerEvent::Idle => {}
                ServerEvent::Client => self.log_client(),
                ServerEvent::Etrn => {
                    let client = self.session.client().address.unwrap_or(self.client);
                    let answer = etrn::run(&self.shard, client, self.session.etrn_node()).await;
                    self.session.handle_etrn(&answer, self.shard.clock.now());
                }
                ServerEvent::MessageEnds(summary) => {
                    let ended = self.shard.clock.now();
                    let tail = self.buffer.kept();
                    let result = self.ingest.finish(&self.session, &summary, tail).await;
                    self.buffer.drop_kept();
                    let now = self.shard.clock.now();
                    measured::end_of_data(&self.shard.counters, code_of(&result), now.saturating_sub(ended));
                    match &result {
                        Ok(Taken::Ours(queue_id)) => self.session.handle_message(Ok(queue_id), now),
                        Ok(Taken::Told(reply)) | Err(reply) => {
                            self.session.handle_message(Err(reply.clone()), now);
                        }
                    }
                }
                ServerEvent::Recipient => {
                    let snapshot = self.shard.snapshot.borrow().clone();
                    let verdict = self.judge_recipient(&snapshot).await;
                    let accepted = !matches!(verdict, RecipientVerdict::Refuse(_));
                    self.session.handle_recipient(verdict, self.shard.clock.now());
                    if accepted {
                        self.ingest.take_recipient(&self.session);
                    }
                }
                ServerEvent::Sender => {
                    let free = self.shard.free_octets().await;
                    let snapshot = self.shard.snapshot.borrow().clone();
                    let now = self.shard.clock.now();
                    let client = self.session.client().address.unwrap_or(self.client);
                    let verdict = verdict::sender(free, &snapshot)
                        .and_then(|()| self.shard.receiving.admit_message(client, &snapshot, now));
                    self.session.handle_sender(verdict, now);
                }
                ServerEvent::StartTls => {
                    let admitted = self.shard.receiving.admit_handshake(&self.shard.snapshot.borrow());
                    if admitted.is_err() {
                        measured::refused_handshake(&self.shard.counters);
                    }
                    let verdict = admitted.map(|place| self.handshake = Some(place));
                    self.session.handle_start_tls(verdict, self.shard.clock.now());
                }
            }
        }
    }

    /// While it waits for a primary's answer the session reads nothing.
    async fn judge_recipient<'a>(&mut self, snapshot: &'a Snapshot) -> RecipientVerdict<'a> {
        let free = self.shard.free_octets().await;
        let candidate = self.session.transaction().candidate();
        let verdict = verdict::recipient(candidate, free, snapshot);
        if matches!(verdict, RecipientVerdict::Refuse(_)) {
            return verdict;
        }
        let mut standing = policy::standing(candidate, snapshot, self.shard.instants());
        if let Standing::Refused(reply) = standing {
            return RecipientVerdict::Refuse(reply);
        }
        if let ForwardPath::Mailbox(mailbox) = candidate
            && let Some(name) = canonical_domain(mailbox.domain())
            && let (Some(domain), Some(known)) = (snapshot.domain(&name), snapshot.recipients_of(&name))
        {
            let mailbox = format!("{}@{}", mailbox.local_part(), domain.name);
            let client = self.session.client().address.unwrap_or(self.client);
            let asked = Asked { domain, mailbox: mailbox.clone(), client };
            let (shard, session, interrupt) = (&self.shard, &mut self.session, &self.interrupt);
            match self.ingest.proxy.judge(shard, session, interrupt, snapshot, asked).await {
                Judged::Accepted => return verdict,
                Judged::Refused(reply) => return RecipientVerdict::Refuse(reply),
                Judged::Deferrable if self.defers(snapshot, domain, known, &mailbox).await => {
                    return RecipientVerdict::Refuse(PRIMARY_IS_UP_451);
                }
                Judged::Deferrable | Judged::Ours => self.ingest.proxy.take_whole(),
            }
            if standing == Standing::Asked {
                standing = self.ask_primary(domain, known, mailbox).await;
            }
        } else {
            // Postmaster of our own name goes to a domain that the configuration names: with others it is ours.
            self.ingest.proxy.take_whole();
        }
        if let Standing::Refused(reply) = standing { RecipientVerdict::Refuse(reply) } else { verdict }
    }

    /// `when_up = "defer"`: whether the sender is sent to the primary. It has greeted somebody just now, or greets us; and he has not
    /// shown that he cannot go there (H24).
    async fn defers(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        known: &DomainRecipients,
        mailbox: &str,
    ) -> bool {
        let usage = snapshot.usage_of(&domain.name);
        if !usage.passage.is_proven(self.shard.clock.now(), DEFER_PROOF_AGE) {
            self.ask_primary(domain, known, mailbox.to_owned()).await;
            let now = self.shard.clock.now();
            if !usage.passage.is_proven(now, DEFER_PROOF_AGE) {
                usage.passage.pause(now + PROXY_PAUSE);
                return false;
            }
        }
        let client = self.session.client().address.unwrap_or(self.client);
        let reverse_path = self.session.transaction().reverse_path();
        !self.shard.receiving.deferrals.takes(client, reverse_path, mailbox, self.shard.clock.now())
    }

    async fn ask_primary(&mut self, domain: &Domain, known: &DomainRecipients, mailbox: String) -> Standing {
        let until = self.shard.clock.now() + CALLOUT_TIMEOUT;
        let callout = self.shard.callouts.ask(domain.name.as_str().into(), mailbox);
        match self.interrupt.guard(Some(until), callout).await {
            Ok(Said::Accepted | Said::Nothing) => Standing::Known,
            Ok(Said::Refused) => Standing::Refused(UNKNOWN_RECIPIENT_550),
            // It was only waited for a place: nothing was said.
            Err(Reason::Deadline) if known.can_be_asked(self.shard.clock.now()) => Standing::Known,
            Ok(Said::Unreachable) | Err(Reason::Deadline) => policy::unknown(domain),
            Err(Reason::Shutdown) => {
                self.session.handle_shutdown();
                policy::unknown(domain)
            }
        }
    }

    /// XCLIENT: whose word the session goes by now.
    fn log_client(&self) {
        let told = self.session.client();
        let (client, name, helo) = (told.address, told.name.as_deref(), told.helo.as_deref());
        tracing::info!(by = %self.client, ?client, name, port = told.port, helo, "XCLIENT");
    }

    async fn send_replies(&mut self) -> Result<(), Gone> {
        while !self.session.output().is_empty() {
            let deadline = self.session.poll_timeout();
            let write = self.link.write(self.session.output());
            match self.interrupt.guard(Some(deadline), write).await {
                Ok(written) => self.session.output_sent(written?),
                Err(Reason::Shutdown) => self.session.handle_shutdown(),
                Err(Reason::Deadline) => return Err(Gone::NotReading),
            }
        }
        Ok(())
    }

    /// Has the TLS handshake, which the client was just told to begin.
    async fn secure(&mut self) -> Result<(), Gone> {
        // P6: the machine refuses who talks behind STARTTLS; whatever else were here must not reach it inside TLS.
        self.buffer.drop_unfed();
        let config = self.shard.snapshot.borrow().tls.clone().ok_or(Gone::HandshakeEnded)?;
        let _counted = self.handshake.take();
        // In memory of its own: few sessions are in a handshake, and none would do without its room else.
        let handshake = Box::pin(self.link.secure(config));
        let ended = match self.interrupt.guard(Some(self.session.poll_timeout()), handshake).await {
            Ok(result) => result.map_err(Gone::NotSecured),
            Err(Reason::Shutdown | Reason::Deadline) => Err(Gone::HandshakeEnded),
        };
        measured::handshake(&self.shard.counters, ended.is_ok());
        let tls = ended?;
        self.ingest.secured(tls);
        self.session.handle_secured(self.shard.clock.now());
        Ok(())
    }

    /// Keeps back the replies to who errs too often, or tries too many recipients: guessing has to cost time.
    async fn hold_replies(&mut self) {
        let (errors, refusals) = (self.session.errors(), self.session.refused_recipients());
        let is_worse = |now: u32, before: u32, unhurt: u32| now > before && now > unhurt;
        let is_held = is_worse(errors, self.answered.0, UNHURT_ERRORS_MAX)
            || is_worse(refusals, self.answered.1, UNHURT_REFUSALS_MAX);
        measured::replies(
            &self.shard.counters,
            refusals - self.answered.1,
            &mut self.counted,
            self.session.replies(),
        );
        self.answered = (errors, refusals);
        if !is_held {
            return;
        }
        let until = self.shard.clock.now() + TARPIT_PAUSE;
        if self.interrupt.guard(Some(until), pending::<()>()).await == Err(Reason::Shutdown) {
            self.session.handle_shutdown();
        }
    }

    /// Ends the link, in bounded time: there may be something to send that the client does not take.
    async fn close(&mut self) -> Result<(), Gone> {
        let until = self.shard.clock.now() + CLOSE_TIMEOUT;
        loop {
            match self.interrupt.guard(Some(until), self.link.shutdown()).await {
                Ok(result) => return Ok(result?),
                // It is closing, and there may be a 250 on its way.
                Err(Reason::Shutdown) => {}
                Err(Reason::Deadline) => return Err(Gone::NotReading),
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Gone> {
        let deadline = self.session.poll_timeout();
        let read = self.link.read(self.buffer.space());
        match self.interrupt.guard(Some(deadline), read).await {
            Ok(Ok(0)) => return Err(Gone::Closed),
            Ok(octets) => self.buffer.fill(octets?),
            Err(Reason::Shutdown) => self.session.handle_shutdown(),
            Err(Reason::Deadline) => self.session.handle_timeout(self.shard.clock.now()),
        }
        Ok(())
    }
}

/// The code that the end of mail data is answered by; `None`: the message is ours.
fn code_of(result: &Result<Taken, Reply>) -> Option<u16> {
    match result {
        Ok(Taken::Ours(_)) => None,
        Ok(Taken::Told(reply)) | Err(reply) => Some(reply.code().value()),
    }
}
