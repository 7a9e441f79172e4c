//! Delivered mail is queued once more, from the copies that were kept.
//!
//! Each copy becomes a record of its own, with a stamp and a queue id of its own, since a settlement is for ever and identity is the stamp
//! (H10): envelope, trace field and data are those of the original, which is named in the envelope. From there it is mail like any other:
//! accepted, counted, kept in order, expired; but nothing proves its sender any more, so what is refused of it is held (P5), and it takes
//! no quota: the operator wants it. Told is what is durable.
//!
//! That a unit was queued once more is journalled behind that, and known to the keeper of its segment: the same command does not do it again.
//! Until the keeper knows, and for pages from before that, the owner does ([`super::replayed`]).
//! A crash in between forgets that of [`OPERATOR_REPLAYS_OUTSTANDING`] messages at most. A copy that went meanwhile is counted and passed over.

use super::copies::entry_of;
use super::replayed::Remembered;
use crate::bridge::operator::{Copy, Replayed};
use crate::limits::OPERATOR_REPLAYS_OUTSTANDING;
use crate::metrics::Origin;
use crate::shard::measured;
use crate::shard::mesh::Note;
use crate::shard::state::Shard;
use async_channel::Sender;
use core::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::{AppendError, ReadError};
use storage::format::kept::KeptRun;
use storage::format::message::{ChunkReference, Envelope, Extensions, MessageView};
use storage::log::{Message, Receipt};
use storage::position::{QueueId, SegmentId, ShardId};
use storage::reader::Reader;

/// A record that is on its way to the disk.
struct Underway {
    receipt: Receipt,
    chunks: Vec<ChunkReference>,
    queue_id: QueueId,
    original: QueueId,
    copy: Copy,
}

/// Why a copy is not queued once more.
enum Failure {
    /// It cannot be read.
    Gone(ReadError),
    /// Nothing can be stored.
    Refused(AppendError),
}

/// See the module.
pub(super) async fn run<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    all: Vec<Copy>,
    remembered: &RefCell<Remembered>,
) -> Replayed {
    let mut done = Replayed::default();
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() && done.refused.is_none() {
        // A rewrite of segments leaves none of these places before their keepers are told.
        let _looking = shard.looking.guard();
        let (mut underway, mut octets) = (Vec::new(), 0_u64);
        for mut copy in all.by_ref().take(OPERATOR_REPLAYS_OUTSTANDING) {
            if remembered.borrow().is_stale(&copy) {
                done.refused = Some("these copies were looked for too long ago".to_owned());
                break;
            }
            octets = octets.saturating_add(copy.size);
            let min_free = shard.snapshot.borrow().config.storage.min_free_space_bytes;
            if shard.free_octets().await < min_free.saturating_add(octets) {
                done.refused = Some("the disk is short of space".to_owned());
                break;
            }
            remembered.borrow_mut().claim(&mut copy);
            if copy.ordinals.is_empty() {
                continue;
            }
            let failure = match append(shard, &reader, copy.clone()).await {
                Ok(one) => {
                    underway.push(one);
                    continue;
                }
                Err(failure) => failure,
            };
            remembered.borrow_mut().release(&copy);
            match failure {
                Failure::Gone(error) => {
                    tracing::warn!(%error, %domain, "a copy cannot be queued once more");
                    done.gone += 1;
                }
                Failure::Refused(error) => {
                    done.refused = Some(error.to_string());
                    break;
                }
            }
        }
        finish(shard, domain, underway, &mut done, remembered).await;
        reader.forget_all();
    }
    done
}

async fn append<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    reader: &Reader<D>,
    copy: Copy,
) -> Result<Underway, Failure> {
    let directory = ShardId(copy.directory);
    let frame = reader.read_entry(directory, &entry_of(&copy)).await.map_err(Failure::Gone)?;
    let message = frame.message().map_err(Failure::Gone)?;
    let (queue_id, original) = (shard.next_queue_id(), frame.header.queue_id);
    let mut chunks = Vec::new();
    let result = append_all(shard, reader, (&copy, &message), (queue_id, original), &mut chunks).await;
    match result {
        Ok(receipt) => Ok(Underway { receipt, chunks, queue_id, original, copy }),
        Err(failure) => {
            abandon(shard, chunks);
            Err(failure)
        }
    }
}

/// Its chunks, then the record that closes it.
async fn append_all<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    reader: &Reader<D>,
    (copy, message): (&Copy, &MessageView<'_>),
    (queue_id, original): (QueueId, QueueId),
    chunks: &mut Vec<ChunkReference>,
) -> Result<Receipt, Failure> {
    for chunk in &message.chunks {
        let stored = reader.read_chunk(ShardId(copy.directory), chunk).await.map_err(Failure::Gone)?;
        let chunk = shard.mail.append_chunk(queue_id, stored.payload()).await.map_err(Failure::Refused)?;
        shard.shelf.borrow_mut().pin(shard.directory, chunk.segment);
        chunks.push(chunk);
    }
    let ordinals = || copy.ordinals.iter().map(|ordinal| usize::from(*ordinal));
    let recipients: Vec<&str> =
        ordinals().filter_map(|ordinal| message.recipients.get(ordinal).copied()).collect();
    if recipients.len() != copy.ordinals.len() {
        return Err(Failure::Gone(ReadError::Damaged("recipients")));
    }
    let said = &message.extensions;
    let dsn = ordinals().filter_map(|ordinal| said.recipients.get(ordinal).cloned()).collect();
    let envelope = Envelope {
        reverse_path: message.reverse_path,
        recipients: &recipients,
        client: message.client,
        helo: message.helo,
        protocol: message.protocol,
        body_8bit: message.body_8bit,
        extensions: Extensions { recipients: dsn, replay_of: Some(original), ..said.clone() },
    };
    let message = Message {
        queue_id,
        received: shard.clock.wall(),
        envelope: &envelope,
        data: &message.data,
        chunks,
        trace: message.trace,
        tail: message.tail,
    };
    shard.mail.append_message(&message).await.map_err(Failure::Refused)
}

/// Its chunks are garbage.
fn abandon<D: Disk, C: Clock>(shard: &Shard<D, C>, chunks: Vec<ChunkReference>) {
    let mut shelf = shard.shelf.borrow_mut();
    chunks.iter().for_each(|chunk| shelf.unpin(shard.directory, chunk.segment));
    drop(shelf);
    shard.chores.notify_all();
}

/// Waits until they are durable, and notes that.
async fn finish<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    underway: Vec<Underway>,
    done: &mut Replayed,
    remembered: &RefCell<Remembered>,
) {
    let (mut runs, mut units) = (Vec::new(), Vec::new());
    for Underway { receipt, chunks, queue_id, original, copy } in underway {
        if let Err(error) = receipt.ticket.await {
            abandon(shard, chunks);
            remembered.borrow_mut().release(&copy);
            done.refused = Some(error.to_string());
            continue;
        }
        keep_pins(shard, receipt.place, copy.ordinals.len(), chunks);
        let recipients = copy.ordinals.len() as u64;
        tracing::info!(%queue_id, %original, %domain, recipients, octets = copy.size, "queued once more");
        done.messages += 1;
        done.units += recipients;
        done.octets += copy.size;
        for ordinal in &copy.ordinals {
            let run = KeptRun {
                shard: ShardId(copy.directory),
                segment: SegmentId(copy.segment),
                first: copy.unit_base + u32::from(*ordinal),
                count: 1,
                delivered_s: copy.delivered_s,
                until_s: copy.until_s,
                replayed: true,
            };
            run.add_to(&mut runs);
            units.push((copy.stamp, *ordinal));
        }
        measured::accepted(&shard.counters, Origin::Replay, recipients, copy.size);
        shard.lanes.usage_of(domain).note_replayed(recipients);
    }
    let (knowing, known) = async_channel::bounded(1);
    note(shard, runs, knowing).await;
    remembered.borrow_mut().tell(units, known);
}

/// Hands the pins over to the message, as for one that a session brought.
fn keep_pins<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    place: storage::log::Place,
    units: usize,
    chunks: Vec<ChunkReference>,
) {
    let mut shelf = shard.shelf.borrow_mut();
    let mut kept: Vec<SegmentId> = Vec::new();
    for chunk in chunks {
        if chunk.segment == place.segment || kept.contains(&chunk.segment) {
            shelf.unpin(shard.directory, chunk.segment);
        } else {
            kept.push(chunk.segment);
        }
    }
    if !kept.is_empty() {
        let units = u32::try_from(units).expect("recipients are bounded");
        shelf.keep_pins(shard.directory, place.segment, place.unit_base, units, kept);
    }
}

/// Journals that the units were queued once more, and tells the keepers of their segments; they drop `known`.
async fn note<D: Disk, C: Clock>(shard: &Shard<D, C>, runs: Vec<KeptRun>, known: Sender<()>) {
    if runs.is_empty() {
        return;
    }
    let _telling = shard.telling.guard();
    let journalled = match shard.journal.append_kept(None, &runs).await {
        Ok(ticket) => ticket.await,
        Err(error) => Err(error),
    };
    if let Err(error) = journalled {
        // They are queued all the same; the keepers know until the next start.
        tracing::warn!(%error, "that copies were queued once more cannot be journalled");
    }
    let mut by_keeper: BTreeMap<ShardId, Vec<KeptRun>> = BTreeMap::new();
    for run in runs {
        by_keeper.entry(ShardId(run.shard.0 % shard.shards)).or_default().push(run);
    }
    for (keeper, runs) in by_keeper {
        let note = Note::Replayed(runs, known.clone());
        if keeper == shard.id {
            shard.take_note(note);
        } else if shard.mesh.senders[usize::from(keeper.0)].send(note).await.is_err() {
            tracing::debug!(%keeper, "the keeper has ended; the next start reads the journal");
        }
    }
}
