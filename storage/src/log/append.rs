//! Putting records into the filling batch.

use super::{Arrival, Log, State};
use crate::clock::Clock;
use crate::commit::{BATCH_OCTETS, Ticket};
use crate::crypt::TAG_OCTETS;
use crate::disk::{Disk, File};
use crate::error::AppendError;
use crate::format::checkpoint::HeldUnit;
use crate::format::frame::{FrameHeader, FrameKind, blank_header, frame_octets};
use crate::format::journal_entry::{Authentication, Fact};
use crate::format::kept::KeptRun;
use crate::format::message::{ChunkReference, DataFacts, Envelope, encode_head};
use crate::format::offered::Offered;
use crate::format::tally::Tally;
use crate::frontier::IDLE;
use crate::position::{Offset, QueueId, SegmentId, Stamp, UnixMillis};

/// A message to be stored; with chunks, its closing record.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its name.
    pub queue_id: QueueId,
    /// When it came.
    pub received: UnixMillis,
    /// From whom, for whom.
    pub envelope: &'a Envelope<'a>,
    /// Facts about the whole data.
    pub data: &'a DataFacts,
    /// Data that went ahead.
    pub chunks: &'a [ChunkReference],
    /// Our Received field.
    pub trace: &'a [u8],
    /// The data behind the chunks, as it came.
    pub tail: &'a [u8],
}

/// A message that has its place and its stamp, and is durable once the ticket says so.
#[derive(Debug)]
pub struct Receipt {
    /// Its order.
    pub stamp: Stamp,
    /// Where it is.
    pub place: Place,
    /// Completes when the message is ours.
    pub ticket: Ticket,
}

/// Where a message's units are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The segment of its closing record.
    pub segment: SegmentId,
    /// The number of its first unit there.
    pub unit_base: u32,
}

impl<D: Disk, C: Clock> Log<D, C> {
    /// Appends a message. The stamp is taken here, when the closing record enters the batch (H19).
    ///
    /// # Errors
    /// See [`AppendError`]; nothing is promised then.
    pub async fn append_message(&self, message: &Message<'_>) -> Result<Receipt, AppendError> {
        let mut head = core::mem::take(&mut self.state.borrow_mut().head);
        let Message { envelope, data, chunks, trace, tail, .. } = message;
        encode_head(&mut head, envelope, data, chunks, trace, tail.len());
        let result = self.place_message(message, &head).await;
        // The memory goes back for the next message; one that waited meanwhile merely allocated its own.
        self.state.borrow_mut().head = head;
        result
    }

    async fn place_message(&self, message: &Message<'_>, head: &[u8]) -> Result<Receipt, AppendError> {
        let payload = head.len() + message.tail.len();
        self.wait_for_room(payload).await?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        // H8: a chunk in a failed range may be gone though nobody was told.
        for chunk in message.chunks {
            if state.voids.iter().any(|void| void.covers(chunk.segment, chunk.offset.0)) {
                return Err(AppendError::Failed);
            }
        }
        let shard = self.options.shard;
        let stamp = self.take_stamp()?;
        // What the release of the batch before this one publishes. Its own first stamp, not the floor in force
        // now: else a shard that is never idle would never lift its floor.
        state.filling.floor.get_or_insert(stamp);
        let mut header = blank_header(FrameKind::Message, stamp, message.received, message.queue_id);
        header.unit_base = state.contents.units();
        let (offset, header) = push(state, header, &[head, message.tail]);
        let segment = state.active().header.segment;
        let recipients = message.envelope.recipients;
        let place = Place { segment, unit_base: header.unit_base };
        for (domain, entry) in
            state.contents.add_message(segment, offset, &header, recipients, message.chunks)
        {
            let domain = state.intern(domain);
            state.arrivals.push(Arrival { domain, shard, entry });
        }
        let ticket = state.filling.ticket();
        self.work.notify_all();
        Ok(Receipt { stamp, place, ticket })
    }

    /// The next stamp; a floor at or below it is published before.
    fn take_stamp(&self) -> Result<Stamp, AppendError> {
        let (frontier, shard) = (&self.options.frontier, self.options.shard);
        let idle = frontier.floor(shard) == IDLE;
        if idle {
            frontier.publish_pending(shard);
        }
        let stamp = frontier.take(shard);
        if stamp.is_err() && idle {
            // Nothing of ours is pending: a floor that no release lifts would hold every drain.
            frontier.publish(shard, IDLE);
        }
        stamp
    }

    /// Appends a part of a large message's data. It carries no stamp and pins its segment for as long as the
    /// caller says so to the shelf.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_chunk(&self, queue_id: QueueId, data: &[u8]) -> Result<ChunkReference, AppendError> {
        self.wait_for_room(data.len()).await?;
        let mut state = self.state.borrow_mut();
        let header = blank_header(FrameKind::Chunk, Stamp::NONE, self.clock.wall(), queue_id);
        let (offset, _) = push(&mut state, header, &[data]);
        let octets = u32::try_from(data.len()).expect("a chunk fits a batch");
        let segment = state.active().header.segment;
        drop(state);
        self.work.notify_all();
        Ok(ChunkReference { segment, offset, octets })
    }

    /// Appends facts about units to a journal.
    ///
    /// # Errors
    /// See [`AppendError`]. A fact stays true: try again.
    pub async fn append_facts(&self, facts: &[Fact]) -> Result<Ticket, AppendError> {
        self.append_settlement(facts, &[], &[], |_| true).await
    }

    /// The same with what is kept of the units that they are about, and with what is offered from now on: all durable, or nothing.
    ///
    /// A row of `offered` is no fact: what is told last counts, and who waits for room in a full batch may be passed by another. So those for which
    /// `still_holds` says no when the frame has its place are left out.
    ///
    /// # Errors
    /// See [`AppendError`]. A fact stays true: try again.
    pub async fn append_settlement(
        &self,
        facts: &[Fact],
        kept: &[KeptRun],
        offered: &[Offered],
        still_holds: impl Fn(&Offered) -> bool,
    ) -> Result<Ticket, AppendError> {
        let mut payload = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut payload));
        kept.iter().for_each(|run| run.encode(&mut payload));
        self.wait_for_room(payload.len() + Offered::OCTETS * offered.len()).await?;
        let sequence = self.options.frontier.sequence()?;
        offered.iter().filter(|row| still_holds(row)).for_each(|row| row.encode(&mut payload));
        Ok(self.push_to_journal(FrameKind::Settlement, sequence, &payload))
    }

    /// Appends what a checkpoint restates of what is offered.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_offered(&self, sequence: Stamp, offered: &[Offered]) -> Result<Ticket, AppendError> {
        let mut payload = Vec::new();
        offered.iter().for_each(|offered| offered.encode(&mut payload));
        self.append_restated(FrameKind::Settlement, sequence, &payload).await
    }

    /// Appends what is kept to a journal; with a checkpoint's sequence where that restates it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_kept(
        &self,
        sequence: Option<Stamp>,
        kept: &[KeptRun],
    ) -> Result<Ticket, AppendError> {
        let mut payload = Vec::new();
        kept.iter().for_each(|run| run.encode(&mut payload));
        match sequence {
            Some(sequence) => self.append_restated(FrameKind::Settlement, sequence, &payload).await,
            None => self.append_to_journal(FrameKind::Settlement, &payload).await,
        }
    }

    /// Appends what authentication said of messages to a journal; with a checkpoint's sequence where that restates it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_authentications(
        &self,
        sequence: Option<Stamp>,
        authentications: &[Authentication],
    ) -> Result<Ticket, AppendError> {
        let mut payload = Vec::new();
        authentications.iter().for_each(|authentication| authentication.encode(&mut payload));
        match sequence {
            Some(sequence) => self.append_restated(FrameKind::Settlement, sequence, &payload).await,
            None => self.append_to_journal(FrameKind::Settlement, &payload).await,
        }
    }

    /// Appends the tally of a segment that is about to be unlinked, in as many frames as it takes. All but the
    /// last are durable on return.
    ///
    /// # Errors
    /// See [`AppendError`]. A tally that was begun may be begun again.
    pub async fn append_tally(&self, tally: &Tally) -> Result<Ticket, AppendError> {
        let mut payloads = tally.encode();
        let last = payloads.pop().expect("a tally has a part");
        for payload in payloads {
            self.append_to_journal(FrameKind::Tally, &payload).await?.await?;
        }
        self.append_to_journal(FrameKind::Tally, &last).await
    }

    /// Appends what a checkpoint restates: a payload of [`FrameKind::Outcomes`], [`FrameKind::Ledger`],
    /// [`FrameKind::Held`] or [`FrameKind::Checkpoint`], with the sequence of the checkpoint.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_restated(
        &self,
        kind: FrameKind,
        sequence: Stamp,
        payload: &[u8],
    ) -> Result<Ticket, AppendError> {
        self.wait_for_room(payload.len()).await?;
        Ok(self.push_to_journal(kind, sequence, payload))
    }

    /// Appends the units that a checkpoint restates as held.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append_held(&self, sequence: Stamp, held: &[HeldUnit]) -> Result<Ticket, AppendError> {
        let mut payload = Vec::new();
        held.iter().for_each(|unit| unit.encode(&mut payload));
        self.append_restated(FrameKind::Held, sequence, &payload).await
    }

    async fn append_to_journal(&self, kind: FrameKind, payload: &[u8]) -> Result<Ticket, AppendError> {
        self.wait_for_room(payload.len()).await?;
        let sequence = self.options.frontier.sequence()?;
        Ok(self.push_to_journal(kind, sequence, payload))
    }

    fn push_to_journal(&self, kind: FrameKind, sequence: Stamp, payload: &[u8]) -> Ticket {
        let mut state = self.state.borrow_mut();
        push(&mut state, blank_header(kind, sequence, self.clock.wall(), QueueId(0)), &[payload]);
        let ticket = state.filling.ticket();
        drop(state);
        self.work.notify_all();
        ticket
    }

    /// Completes when a frame with `payload` octets fits into the filling batch. The caller places it before
    /// its next await.
    async fn wait_for_room(&self, payload: usize) -> Result<(), AppendError> {
        let largest =
            BATCH_OCTETS.min(usize::try_from(self.options.segment_octets / 2).unwrap_or(usize::MAX));
        // Encrypted or not, the same records fit.
        let payload = payload + TAG_OCTETS;
        if frame_octets(payload) > largest {
            return Err(AppendError::TooLarge);
        }
        loop {
            let wait = self.room.wait();
            {
                let mut state = self.state.borrow_mut();
                if state.closing {
                    return Err(AppendError::Closed);
                }
                if let Some(refusal) = state.refusal {
                    return Err(refusal);
                }
                let end = state.active().header.size;
                if !state.roll_wanted && state.filling.fits(payload, end) {
                    return Ok(());
                }
                // Either the batch is full, which its leaving cures, or the segment is.
                let fresh_batch = crate::format::block_ceiling(frame_octets(payload)) as u64;
                let next_base = state.filling.base.plus(state.filling.padded());
                if next_base.0 + fresh_batch > end {
                    state.roll_wanted = true;
                }
            }
            self.work.notify_all();
            wait.await;
        }
    }
}

/// Copies a frame into the filling batch; returns its offset and its header as written.
pub(super) fn push<D: Disk>(
    state: &mut State<D>,
    mut header: FrameHeader,
    parts: &[&[u8]],
) -> (Offset, FrameHeader) {
    let State { active, filling, .. } = state;
    let active = active.as_ref().expect("without a segment nothing is appended");
    header.durable_before = active.durable().0;
    let offset = filling.push(|| active.file.allocate(BATCH_OCTETS), &active.sealing(), &mut header, parts);
    (offset, header)
}
