//! From spans of mail data to a record: the message is ours from the moment that its ticket completes.
//!
//! A message up to [`INLINE_DATA_OCTETS`] waits whole in the receive buffer and is copied once, into the
//! log's block. A larger one is appended as chunk records while it arrives; each pins its segment until the
//! message is settled, or abandoned. What comes by BDAT is stuffed on its way into a buffer of its own, in the
//! same budget: there is one stored form of mail data.

use super::authentication::{Accepted, Inquiry};
use super::measured;
use super::mesh::Outstanding;
use super::proxy::{Carriage, Proxy};
use super::receiving::Counted;
use super::replay::late;
use super::state::Shard;
use crate::limits::{
    INLINE_DATA_OCTETS, OWN_RECEIVED_FIELDS_MAX, RECEIVE_OCTETS_MAX, RECEIVE_OCTETS_PRESSED,
    RECEIVED_FIELDS_MAX,
};
use crate::message::received::{self, TraceFacts};
use crate::message::tls::TlsFacts;
use crate::metrics::Origin;
use crate::smtp::chunk::DotStuffer;
use crate::smtp::data::{DataSummary, Transfer};
use crate::smtp::dsn::{MailDsn, RcptDsn, Ret};
use crate::smtp::reply::{INSUFFICIENT_STORAGE_452, LOOP_554, Reply, STORAGE_FAILURE_451};
use crate::smtp::server::{ServerSession, Transaction};
use core::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::commit::Ticket;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::message::{
    self, ChunkReference, DataFacts, Envelope, Extensions, Protocol, RecipientDsn, Smtputf8, domain_of,
};
use storage::log::Message;
use storage::position::{QueueId, SegmentId, Stamp, UnixMillis};

/// The message that a session is receiving.
#[derive(Debug)]
pub(super) struct Ingest<D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    client: IpAddr,
    tls: Option<TlsFacts>,
    queue_id: Option<QueueId>,
    chunks: Vec<ChunkReference>,
    /// A verdict that was reached while data came in, told at its end.
    refusal: Option<Reply>,
    header_checked: bool,
    /// An octet above 127 is in the header section.
    header_8bit: bool,
    /// What came by BDAT and is not in a chunk record yet, stuffed.
    stuffed: Counted,
    stuffer: DotStuffer,
    trace: Vec<u8>,
    inquiry: Inquiry,
    /// What is carried through to a primary.
    pub(super) proxy: Proxy,
}

/// Whose a message is that was taken.
#[derive(Debug)]
pub(super) enum Taken {
    /// Ours.
    Ours(QueueId),
    /// The primary has answered for it.
    Told(Reply),
}

/// Octets that are stuffed at a time: they become four thirds of it at most.
const STUFF_OCTETS: usize = 32 * 1024;
const _: () = assert!(INLINE_DATA_OCTETS + STUFF_OCTETS / 3 * 4 + 4 <= RECEIVE_OCTETS_MAX);

impl<D: Disk, C: Clock> Ingest<D, C> {
    /// For a session with `client`.
    pub(super) fn new(shard: Rc<Shard<D, C>>, client: IpAddr) -> Self {
        Self {
            stuffed: Counted::new(Rc::clone(&shard.receiving.memory)),
            shard,
            client,
            tls: None,
            queue_id: None,
            chunks: Vec::new(),
            refusal: None,
            header_checked: false,
            header_8bit: false,
            stuffer: DotStuffer::default(),
            trace: Vec::new(),
            inquiry: Inquiry::default(),
            proxy: Proxy::default(),
        }
    }

    /// A recipient was accepted.
    pub(super) fn take_recipient(&mut self, session: &ServerSession) {
        let client = session.client().address.unwrap_or(self.client);
        self.inquiry.take_recipient(&self.shard, client, session);
        if self.proxy.wants_trace() {
            let queue_id = self.queue_id().to_string();
            self.write_trace(session, &queue_id, self.shard.clock.wall());
        }
    }

    /// The session goes through TLS from now on.
    pub(super) fn secured(&mut self, tls: Option<TlsFacts>) {
        self.tls = tls;
    }

    /// Octets of a BDAT chunk, in order. A failure is told at the end of the data.
    pub(super) async fn take_chunk(&mut self, octets: &[u8]) {
        for piece in octets.chunks(STUFF_OCTETS) {
            self.stuffed.with(|stuffed| self.stuffer.stuff(piece, stuffed));
            let octets = self.stuffed.octets().len();
            // As the receive buffer does: what is under way goes to the log in smaller chunks while memory is short.
            let is_pressed = octets >= RECEIVE_OCTETS_PRESSED && self.shard.receiving.memory.is_short();
            if octets >= INLINE_DATA_OCTETS || is_pressed {
                let mut stuffed = self.stuffed.take();
                self.spill(stuffed.octets()).await;
                stuffed.with(Vec::clear);
                self.stuffed = stuffed;
            }
        }
    }

    /// Appends `data` as a chunk. A failure is told at the end of the data.
    pub(super) async fn spill(&mut self, data: &[u8]) {
        self.check_header(data, false);
        if self.refusal.is_some() {
            return;
        }
        self.inquiry.take(data);
        self.proxy.take_data(&self.shard, &self.trace, data).await;
        let queue_id = self.queue_id();
        match self.shard.mail.append_chunk(queue_id, data).await {
            Ok(chunk) => {
                self.shard.shelf.borrow_mut().pin(self.shard.directory, chunk.segment);
                self.chunks.push(chunk);
            }
            Err(error) => self.refusal = Some(reply_of(error)),
        }
    }

    /// The true end of data: makes the message durable. `tail` is what DATA brought and was not spilled.
    ///
    /// # Errors
    /// The reply that the sender gets instead of 250; nothing was promised then.
    pub(super) async fn finish(
        &mut self,
        session: &ServerSession,
        summary: &DataSummary,
        tail: &[u8],
    ) -> Result<Taken, Reply> {
        let mut stuffed = self.stuffed.take();
        stuffed.with(|stuffed| self.stuffer.finish(stuffed));
        let tail = if summary.transfer == Transfer::Data { tail } else { stuffed.octets() };
        self.check_header(tail, true);
        let queue_id = self.queue_id();
        let result = match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => self.hand_over(session, summary, tail, queue_id).await,
        };
        if !matches!(result, Ok(Taken::Ours(_))) {
            self.abandon();
        }
        self.proxy.abandon();
        self.reset();
        result
    }

    /// To the primary, if it is carried through; else, and if that fails, it is ours.
    async fn hand_over(
        &mut self,
        session: &ServerSession,
        summary: &DataSummary,
        tail: &[u8],
        queue_id: QueueId,
    ) -> Result<Taken, Reply> {
        self.proxy.take_data(&self.shard, &self.trace, tail).await;
        let units = session.transaction().recipient_count();
        let carried_for = self.proxy.domain();
        let news = match self.proxy.finish(&self.shard, units).await {
            Carriage::Told(reply) => {
                let (from, domain) = (session.transaction().reverse_path(), carried_for.as_deref());
                let octets = summary.unstuffed_octets;
                tracing::info!(%queue_id, domain, from, recipients = units, octets, %reply, "carried through");
                return Ok(Taken::Told(reply));
            }
            Carriage::Failed | Carriage::None => {
                return self
                    .append(session, summary, tail, queue_id, None)
                    .await
                    .map(|()| Taken::Ours(queue_id));
            }
            Carriage::Owed => Outstanding::Owed,
            Carriage::Unknown => Outstanding::Lost,
        };
        self.shard.counters.unknown.add(units as u64);
        tracing::warn!(%queue_id, domain = carried_for.as_deref(), "the primary does not say whether it took a message: it is ours too, and may arrive twice");
        let pending = carried_for.map(|domain| (domain, news));
        self.append(session, summary, tail, queue_id, pending).await.map(|()| Taken::Ours(queue_id))
    }

    fn write_trace(&mut self, session: &ServerSession, id: &str, received: UnixMillis) {
        let transaction = session.transaction();
        let one = transaction.recipients().next().filter(|_| transaction.recipient_count() == 1);
        self.trace.clear();
        TraceFacts {
            helo: session.greeted_as(),
            client_address: session.client().address.unwrap_or(self.client),
            hostname: &self.shard.snapshot.borrow().config.hostname,
            with: self.protocol(transaction.smtputf8(), session.is_extended()),
            tls: self.tls,
            queue_id: id,
            for_recipient: one,
            received_unix_seconds: i64::try_from(received.0 / 1000).unwrap_or(i64::MAX),
        }
        .write_to(&mut self.trace);
    }

    /// The transaction is gone: its chunks are garbage.
    pub(super) fn abandon(&mut self) {
        let mut shelf = self.shard.shelf.borrow_mut();
        for chunk in self.chunks.drain(..) {
            shelf.unpin(self.shard.directory, chunk.segment);
        }
        drop(shelf);
        self.proxy.abandon();
        self.shard.chores.notify_all();
        self.reset();
    }

    async fn append(
        &mut self,
        session: &ServerSession,
        summary: &DataSummary,
        tail: &[u8],
        queue_id: QueueId,
        pending: Option<(Arc<str>, Outstanding)>,
    ) -> Result<(), Reply> {
        let transaction = session.transaction();
        let mut recipients: Vec<_> = transaction.recipients().zip(transaction.recipients_dsn()).collect();
        // Units of one domain are a contiguous range; within a domain the order of RCPT stays.
        recipients.sort_by(|a, b| domain_of(a.0).cmp(domain_of(b.0)));
        let (recipients, dsn): (Vec<&str>, Vec<RcptDsn<'_>>) = recipients.into_iter().unzip();
        let received = self.shard.clock.wall();
        let id = queue_id.to_string();
        let extended = session.is_extended();
        let client = session.client().address.unwrap_or(self.client);
        self.write_trace(session, &id, received);
        let envelope = Envelope {
            reverse_path: transaction.reverse_path(),
            recipients: &recipients,
            client,
            helo: session.greeted_as(),
            protocol: if extended { Protocol::Esmtp } else { Protocol::Smtp },
            body_8bit: transaction.body() == crate::smtp::command::Body::EightBitMime,
            extensions: Extensions {
                tls: self.tls.map(stored),
                ..extensions(transaction, &dsn, summary.transfer, self.header_8bit)
            },
        };
        let data = DataFacts {
            stored_octets: summary.stored_octets,
            unstuffed_octets: summary.unstuffed_octets,
            stuffed_lines: summary.stuffed_lines,
            has_8bit: summary.has_8bit,
            has_nul: summary.has_nul,
        };
        let message = Message {
            queue_id,
            received,
            envelope: &envelope,
            data: &data,
            chunks: &self.chunks,
            trace: &self.trace,
            tail,
        };
        let receipt = self.shard.mail.append_message(&message).await.map_err(reply_of)?;
        // While the record is on its way to the disk: it costs nobody time.
        self.inquiry.take(tail);
        self.wait_for(receipt.stamp, receipt.ticket, pending).await?;
        // From here the message is ours.
        self.keep_pins(receipt.place.segment, receipt.place.unit_base, recipients.len());
        let origin = if self.tls.is_some() { Origin::Tls } else { Origin::Plain };
        let octets = summary.unstuffed_octets;
        measured::accepted(&self.shard.counters, origin, recipients.len() as u64, octets);
        tracing::info!(
            queue_id = %id,
            from = transaction.reverse_path(),
            recipients = recipients.len(),
            octets,
            %client,
            tls = self.tls.map(tracing::field::display),
            "accepted"
        );
        let inquiry = core::mem::take(&mut self.inquiry);
        inquiry.ask(&self.shard, session, Accepted { queue_id, stamp: receipt.stamp });
        Ok(())
    }

    /// Until a record is durable; where the primary may have the message, also until that is journalled.
    async fn wait_for(
        &mut self,
        stamp: Stamp,
        ticket: Ticket,
        pending: Option<(Arc<str>, Outstanding)>,
    ) -> Result<(), Reply> {
        let Some((domain, news)) = pending else { return ticket.await.map_err(reply_of) };
        let marked = late::mark(&self.shard, &domain, stamp, news).await;
        if let Err(error) = ticket.await {
            late::late(&self.shard, &domain, stamp, None, None).await;
            return Err(reply_of(error));
        }
        marked.told(&domain).await;
        if news == Outstanding::Owed {
            self.proxy.is_ours(stamp);
        }
        Ok(())
    }

    /// Hands the session's pins over to the message.
    fn keep_pins(&mut self, segment: SegmentId, unit_base: u32, units: usize) {
        if self.chunks.is_empty() {
            return;
        }
        let mut shelf = self.shard.shelf.borrow_mut();
        let units = u32::try_from(units).expect("recipients are bounded");
        let mut kept: Vec<SegmentId> = Vec::new();
        for chunk in self.chunks.drain(..) {
            // One pin a segment is enough, and none for its own.
            if chunk.segment == segment || kept.contains(&chunk.segment) {
                shelf.unpin(self.shard.directory, chunk.segment);
            } else {
                kept.push(chunk.segment);
            }
        }
        if !kept.is_empty() {
            shelf.keep_pins(self.shard.directory, segment, unit_base, units, kept);
        }
    }

    /// Refuses what has been going in circles (RFC 5321 6.3). Header fields stand in what is spilled first, 32 KiB at least, or
    /// are not looked for. `is_all`: nothing comes behind it.
    fn check_header(&mut self, data: &[u8], is_all: bool) {
        if core::mem::replace(&mut self.header_checked, true) {
            return;
        }
        let header = received::header_section(data);
        // What nobody looked at may have them.
        self.header_8bit = !header.is_ascii() || (header.len() == data.len() && !is_all);
        let own = received::count_own(header, &self.shard.snapshot.borrow().config.hostname);
        if received::count_received(header) > RECEIVED_FIELDS_MAX || own > OWN_RECEIVED_FIELDS_MAX {
            self.refusal = Some(LOOP_554);
        }
    }

    /// RFC 3848, 6531 4.3. HELO has no keyword for TLS; the comment tells it.
    fn protocol(&self, smtputf8: bool, extended: bool) -> received::Protocol {
        match (smtputf8, extended, self.tls) {
            (true, _, Some(_)) => received::Protocol::Utf8Smtps,
            (true, _, None) => received::Protocol::Utf8Smtp,
            (false, true, Some(_)) => received::Protocol::Esmtps,
            (false, true, None) => received::Protocol::Esmtp,
            (false, false, _) => received::Protocol::Smtp,
        }
    }

    fn queue_id(&mut self) -> QueueId {
        *self.queue_id.get_or_insert_with(|| self.shard.next_queue_id())
    }

    fn reset(&mut self) {
        self.queue_id = None;
        self.refusal = None;
        self.header_checked = false;
        self.header_8bit = false;
        drop(self.stuffed.take());
        self.stuffer = DotStuffer::default();
        self.inquiry = Inquiry::default();
        debug_assert!(self.chunks.is_empty());
    }
}

impl<D: Disk, C: Clock> Drop for Ingest<D, C> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// What service extensions add to the envelope, as it is stored.
fn extensions<'a>(
    transaction: &'a Transaction,
    dsn: &[RcptDsn<'a>],
    transfer: Transfer,
    header_8bit: bool,
) -> Extensions<'a> {
    let MailDsn { ret, envid } = transaction.dsn();
    let said = |dsn: &RcptDsn<'a>| RecipientDsn { notify: dsn.notify.bits(), orcpt: dsn.orcpt.into() };
    let anything = dsn.iter().any(|dsn| *dsn != RcptDsn::default());
    Extensions {
        smtputf8: transaction.smtputf8().then_some(Smtputf8 { header_8bit }),
        ret: ret.map(|ret| match ret {
            Ret::Full => message::Ret::Full,
            Ret::Headers => message::Ret::Headers,
        }),
        envid: envid.into(),
        recipients: if anything { dsn.iter().map(said).collect() } else { Vec::new() },
        transfer: match transfer {
            Transfer::Data => message::Transfer::Data,
            Transfer::Bdat { line_end_added } => message::Transfer::Bdat { line_end_added },
        },
        tls: None,
        notice: None,
        replay_of: None,
    }
}

/// TLS as a record has it.
fn stored(tls: TlsFacts) -> message::TlsFacts {
    message::TlsFacts { version: tls.version, cipher_suite: tls.cipher_suite }
}

/// The one reply for each storage error: always 4xx, the sender is not at fault.
fn reply_of(error: AppendError) -> Reply {
    match error {
        AppendError::NoSpace => INSUFFICIENT_STORAGE_452,
        AppendError::Closed => crate::smtp::reply::SHUTTING_DOWN_421,
        AppendError::Failed | AppendError::NoStamps | AppendError::TooLarge => STORAGE_FAILURE_451,
    }
}
