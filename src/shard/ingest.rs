//! From spans of mail data to a record: the message is ours from the moment that its ticket completes.
//!
//! A message up to [`INLINE_DATA_OCTETS`](crate::limits::INLINE_DATA_OCTETS) waits whole in the receive buffer and is copied once, into the
//! log's block. A larger one is appended as chunk records while it arrives; each pins its segment until the
//! message is settled, or abandoned.

use super::state::Shard;
use crate::limits::RECEIVED_FIELDS_MAX;
use crate::message::received::{self, TraceFacts};
use crate::message::tls::TlsFacts;
use crate::smtp::data::DataSummary;
use crate::smtp::reply::{INSUFFICIENT_STORAGE_452, LOOP_554, Reply, STORAGE_FAILURE_451};
use crate::smtp::server::ServerSession;
use core::net::IpAddr;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::message::{ChunkReference, DataFacts, Envelope, Protocol, domain_of};
use storage::log::Message;
use storage::position::{QueueId, SegmentId};

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
    trace: Vec<u8>,
}

impl<D: Disk, C: Clock> Ingest<D, C> {
    /// For a session with `client`.
    pub(super) fn new(shard: Rc<Shard<D, C>>, client: IpAddr) -> Self {
        Self {
            shard,
            client,
            tls: None,
            queue_id: None,
            chunks: Vec::new(),
            refusal: None,
            header_checked: false,
            trace: Vec::new(),
        }
    }

    /// The session goes through TLS from now on.
    pub(super) fn secured(&mut self, tls: Option<TlsFacts>) {
        self.tls = tls;
    }

    /// Appends `data` as a chunk. A failure is told at the end of the data.
    pub(super) async fn spill(&mut self, data: &[u8]) {
        self.check_header(data);
        if self.refusal.is_some() {
            return;
        }
        let queue_id = self.queue_id();
        match self.shard.mail.append_chunk(queue_id, data).await {
            Ok(chunk) => {
                self.shard.shelf.borrow_mut().pin(self.shard.directory, chunk.segment);
                self.chunks.push(chunk);
            }
            Err(error) => self.refusal = Some(reply_of(error)),
        }
    }

    /// The true end of data: makes the message durable.
    ///
    /// # Errors
    /// The reply that the sender gets instead of 250; nothing was promised then.
    pub(super) async fn finish(
        &mut self,
        session: &ServerSession,
        summary: &DataSummary,
        tail: &[u8],
    ) -> Result<QueueId, Reply> {
        self.check_header(tail);
        let queue_id = self.queue_id();
        let result = match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => self.append(session, summary, tail, queue_id).await,
        };
        if result.is_err() {
            self.abandon();
        }
        self.reset();
        result.map(|()| queue_id)
    }

    /// The transaction is gone: its chunks are garbage.
    pub(super) fn abandon(&mut self) {
        let mut shelf = self.shard.shelf.borrow_mut();
        for chunk in self.chunks.drain(..) {
            shelf.unpin(self.shard.directory, chunk.segment);
        }
        drop(shelf);
        self.shard.chores.notify_all();
        self.reset();
    }

    async fn append(
        &mut self,
        session: &ServerSession,
        summary: &DataSummary,
        tail: &[u8],
        queue_id: QueueId,
    ) -> Result<(), Reply> {
        let transaction = session.transaction();
        let mut recipients: Vec<&str> = transaction.recipients().collect();
        // Units of one domain are a contiguous range; within a domain the order of RCPT stays.
        recipients.sort_by(|a, b| domain_of(a).cmp(domain_of(b)));
        let received = self.shard.clock.wall();
        let id = queue_id.to_string();
        let extended = session.is_extended();
        self.trace.clear();
        TraceFacts {
            helo: session.greeted_as(),
            client_address: self.client,
            hostname: &self.shard.snapshot.borrow().config.hostname,
            with: self.protocol(extended),
            tls: self.tls,
            queue_id: &id,
            for_recipient: if recipients.len() == 1 { recipients.first().copied() } else { None },
            received_unix_seconds: i64::try_from(received.0 / 1000).unwrap_or(i64::MAX),
        }
        .write_to(&mut self.trace);
        let envelope = Envelope {
            reverse_path: transaction.reverse_path(),
            recipients: &recipients,
            client: self.client,
            helo: session.greeted_as(),
            protocol: if extended { Protocol::Esmtp } else { Protocol::Smtp },
            body_8bit: transaction.body() == crate::smtp::command::Body::EightBitMime,
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
        receipt.ticket.await.map_err(reply_of)?;
        // From here the message is ours.
        self.keep_pins(receipt.place.segment, receipt.place.unit_base, recipients.len());
        let counters = &self.shard.counters;
        counters.messages.add(1);
        counters.accepted.add(recipients.len() as u64);
        tracing::info!(
            queue_id = %id,
            from = transaction.reverse_path(),
            recipients = recipients.len(),
            octets = summary.unstuffed_octets,
            client = %self.client,
            tls = self.tls.map(tracing::field::display),
            "accepted"
        );
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

    /// Refuses what has been going in circles (RFC 5321 6.3). Header fields stand in the first 256 KiB or
    /// are not looked for.
    fn check_header(&mut self, data: &[u8]) {
        if core::mem::replace(&mut self.header_checked, true) {
            return;
        }
        let header = received::header_section(data);
        if received::count_received(header) > RECEIVED_FIELDS_MAX {
            self.refusal = Some(LOOP_554);
        }
    }

    /// RFC 3848. HELO has no keyword for TLS; the comment tells it.
    fn protocol(&self, extended: bool) -> received::Protocol {
        match (extended, self.tls) {
            (true, Some(_)) => received::Protocol::Esmtps,
            (true, None) => received::Protocol::Esmtp,
            (false, _) => received::Protocol::Smtp,
        }
    }

    fn queue_id(&mut self) -> QueueId {
        *self.queue_id.get_or_insert_with(|| self.shard.next_queue_id())
    }

    fn reset(&mut self) {
        self.queue_id = None;
        self.refusal = None;
        self.header_checked = false;
        debug_assert!(self.chunks.is_empty());
    }
}

impl<D: Disk, C: Clock> Drop for Ingest<D, C> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// The one reply for each storage error: always 4xx, the sender is not at fault.
fn reply_of(error: AppendError) -> Reply {
    match error {
        AppendError::NoSpace => INSUFFICIENT_STORAGE_452,
        AppendError::Closed => crate::smtp::reply::SHUTTING_DOWN_421,
        AppendError::Failed | AppendError::NoStamps | AppendError::TooLarge => STORAGE_FAILURE_451,
    }
}
