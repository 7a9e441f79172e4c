//! Checkpoints: what journals said, as far as it still matters, restated in a few octets, so that they can go.
//!
//! Facts about units are journalled by the shard that owns their domain, while the shard that keeps their segment
//! knows which of them still matter. So a checkpoint is one cycle over all shards, under one sequence S, taken first:
//!
//! 1. Each shard waits until the keepers were told of every fact in the journals before its active one, and then says so to
//!    each keeper, behind these.
//! 2. A keeper that heard it from all restates how the units of its segments ended, and its ledgers; an owner
//!    restates what it holds. All under the sequence S, durable.
//! 3. When all have, the end of the checkpoint is journalled with S. From here facts of holding and releasing below S
//!    mean nothing, and the journals that were meant in step 1 go, oldest first.
//!
//! A crash on the way leaves both, which is the same union (H10). Opening a store does the same for all journals that
//! it finds, in one.

use crate::clock::Clock;
use crate::commit::Ticket;
use crate::disk::Disk;
use crate::error::{AppendError, DiskError};
use crate::format::checkpoint::{Checkpoint, DirectoryRow, HeldUnit, Outcomes};
use crate::format::frame::FrameKind;
use crate::format::journal_entry::Authentication;
use crate::format::kept::KeptRun;
use crate::format::offered::Offered;
use crate::format::segment_header::Purpose;
use crate::format::tally::Ledger;
use crate::log::Log;
use crate::position::{SegmentId, ShardId, Stamp};
use crate::segment::parse_name;
use core::ops::RangeInclusive;
use std::collections::BTreeMap;

/// Held units, authentications, runs of what is kept, or offered messages, of one frame.
const HELD_A_FRAME: usize = 16 * 1024;

/// What an owner restates of its queues, and a keeper of copies that it keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// Units that are held.
    pub held: Vec<HeldUnit>,
    /// What authentication said of messages that are not settled.
    pub authentications: Vec<Authentication>,
    /// Copies of delivered mail.
    pub kept: Vec<KeptRun>,
    /// Messages that may be with their primary.
    pub offered: Vec<Offered>,
}

/// Restates outcomes, ledgers and what is queued; all durable on return.
///
/// # Errors
/// See [`AppendError`]; what was restated is true all the same.
pub async fn restate<D: Disk, C: Clock>(
    journal: &Log<D, C>,
    sequence: Stamp,
    outcomes: &[Outcomes],
    ledgers: &BTreeMap<ShardId, Ledger>,
    queued: &Queued,
) -> Result<(), AppendError> {
    // Tickets are looked at in the end, so that the commits are as few as they can be.
    let mut tickets: Vec<Ticket> = Vec::new();
    for part in outcomes {
        tickets.push(journal.append_restated(FrameKind::Outcomes, sequence, &part.encode()).await?);
    }
    for (shard, ledger) in ledgers {
        for payload in ledger.encode(*shard) {
            tickets.push(journal.append_restated(FrameKind::Ledger, sequence, &payload).await?);
        }
    }
    for units in queued.held.chunks(HELD_A_FRAME) {
        tickets.push(journal.append_held(sequence, units).await?);
    }
    for authentications in queued.authentications.chunks(HELD_A_FRAME) {
        tickets.push(journal.append_authentications(Some(sequence), authentications).await?);
    }
    for kept in queued.kept.chunks(HELD_A_FRAME) {
        tickets.push(journal.append_kept(Some(sequence), kept).await?);
    }
    for offered in queued.offered.chunks(HELD_A_FRAME) {
        tickets.push(journal.append_offered(sequence, offered).await?);
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(())
}

/// Journals that the checkpoint `sequence` is complete; durable on return.
///
/// # Errors
/// See [`AppendError`]; the older journals still count.
pub async fn complete<D: Disk, C: Clock>(
    journal: &Log<D, C>,
    sequence: Stamp,
    directories: Vec<DirectoryRow>,
) -> Result<(), AppendError> {
    let payload = Checkpoint { directories }.encode();
    journal.append_restated(FrameKind::Checkpoint, sequence, &payload).await?.await
}

/// Removes the journals of a directory in this range of numbers, oldest first and each durably: a released unit's
/// older fact of being held must not outlive the newer one.
///
/// # Errors
/// The disk's; what is left is removed by the next checkpoint.
pub async fn remove_journals<D: Disk>(
    disk: &D,
    shard: ShardId,
    range: RangeInclusive<SegmentId>,
) -> Result<(), DiskError> {
    let directory = shard.to_string();
    let names = disk.list(&directory).await?;
    let journals = names.iter().filter_map(|name| parse_name(name));
    let mut old: Vec<SegmentId> = journals
        .filter(|(purpose, segment)| *purpose == Purpose::Journal && range.contains(segment))
        .map(|(_, segment)| segment)
        .collect();
    old.sort_unstable();
    for segment in old {
        disk.remove(&crate::segment::path(shard, Purpose::Journal, segment)).await?;
        disk.sync_directory(&directory).await?;
    }
    Ok(())
}
