//! The standing tasks of a shard: commits, indexes, unlinks, the inbox, the sweep of deadlines.

use super::backlog::stored_octets;
use super::keeping;
use super::measured;
use super::mesh::{Note, owner};
use super::state::Shard;
use crate::limits::{DISK_RETRY_PAUSE, SWEEP_INTERVAL};
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::{AppendError, DiskError};
use storage::format::segment_header::Purpose;
use storage::log::{Arrival, Chore, Log, Progress};
use storage::position::{SegmentId, ShardId};
use storage::segment;
use storage::shelf::Unbalanced;

/// Drives the commits of the mail log: owners are told before the senders are.
pub(super) async fn commit_mail<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    loop {
        match shard.mail.commit().await {
            Progress::Committed(mut commit) => {
                measured::committed(&shard.counters.mail, &commit.cost);
                if let Some(last) = commit.arrivals.last() {
                    let mut row = shard.directory_row(shard.checkpoints.oldest.get());
                    row.last_stamp = last.entry.stamp;
                    shard.directories.borrow_mut().insert(shard.directory, row);
                }
                tell_owners(&shard, core::mem::take(&mut commit.arrivals)).await;
                shard.mail.release(commit);
            }
            Progress::Closed => return,
            other => {
                measured::not_committed(&shard.counters.mail, &other);
                report(&shard, other).await;
            }
        }
    }
}

/// Drives the commits of the journal.
pub(super) async fn commit_journal<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    loop {
        match shard.journal.commit().await {
            Progress::Committed(commit) => {
                measured::committed(&shard.counters.journal, &commit.cost);
                shard.journal.release(commit);
            }
            Progress::Closed => return,
            other => {
                measured::not_committed(&shard.counters.journal, &other);
                report(&shard, other).await;
                shard.consider_checkpoint(false).await;
            }
        }
    }
}

async fn report<D: Disk, C: Clock>(shard: &Shard<D, C>, progress: Progress) {
    match progress {
        Progress::Latched(segment, error) => {
            tracing::error!(%segment, %error, "a segment is given up; new mail goes to the next one");
        }
        Progress::Stopped(refusal, error) => {
            tracing::error!(%error, %refusal, "no new segment can be made; mail is refused until that works");
            shard.clock.sleep(DISK_RETRY_PAUSE).await;
        }
        Progress::Closed | Progress::Committed(_) | Progress::Rolled => {}
    }
}

/// Makes further stamps (H1) and numbers of segments safe to use, long before the ones in hand are spent.
async fn raise_ceilings<D: Disk, C: Clock>(shard: &Shard<D, C>) {
    let Some(mut identity) = shard.identity.get() else { return };
    let Some(ceilings) = shard.frontier.ceilings_wanted() else { return };
    identity.sequence += 1;
    identity.stamp_ceiling = ceilings.stamp;
    identity.number_ceiling = ceilings.number;
    match storage::save_identity(&shard.disk, &identity).await {
        Ok(()) => {
            shard.identity.set(Some(identity));
            shard.frontier.ceilings_raised(&ceilings);
        }
        Err(error) => {
            tracing::error!(%error, "the ceilings in the store file cannot be raised; trying again")
        }
    }
}

async fn tell_owners<D: Disk, C: Clock>(shard: &Shard<D, C>, arrivals: Vec<Arrival>) {
    let mut by_owner: BTreeMap<ShardId, Vec<Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        // Before the 250, so that the next RCPT of the same sender is judged by it.
        let usage = shard.snapshot.borrow().usage_of(&arrival.domain);
        usage.raise(stored_octets(&arrival.entry));
        usage.accept(arrival.entry.count.into());
        usage.passage.arrive();
        by_owner.entry(owner(&arrival.domain, shard.shards)).or_default().push(arrival);
    }
    for (owner, arrivals) in by_owner {
        if owner == shard.id {
            shard.lanes.take_arrivals(arrivals);
        } else if shard.mesh.senders[usize::from(owner.0)].send(Note::Arrivals(arrivals)).await.is_err() {
            // The owner has ended: the mail is durable, the next start queues it.
            tracing::debug!(%owner, "the owner has ended");
        }
    }
}

/// Puts sealed segments on the shelf and keeps the next one ready.
pub(super) async fn keep_house<D: Disk, C: Clock>(
    shard: Rc<Shard<D, C>>,
    log: Rc<Log<D, C>>,
    purpose: Purpose,
) {
    loop {
        match log.housekeep().await {
            Chore::Closed => return,
            Chore::Failed(error) => {
                tracing::warn!(%error, "an index or the next segment cannot be made; trying again");
                if purpose == Purpose::Journal && error == DiskError::NoSpace {
                    // There is room in the journals that a checkpoint makes needless.
                    shard.consider_checkpoint(true).await;
                }
                shard.clock.sleep(DISK_RETRY_PAUSE).await;
                if shard.is_shutting_down() {
                    return;
                }
            }
            Chore::Indexed(sealed) => {
                if purpose == Purpose::Mail {
                    shard.shelf.borrow_mut().seal(shard.directory, sealed.segment, &sealed.index);
                    shard.chores.notify_all();
                }
            }
        }
    }
}

/// Unlinks segments in which nothing is left to do, each after its tally is durable.
pub(super) async fn unlink<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    // Files that could not be removed; tried again before each further one.
    let mut leftovers: Vec<(ShardId, SegmentId)> = Vec::new();
    loop {
        let wait = shard.chores.wait();
        if shard.is_shutting_down() {
            return;
        }
        for (directory, segment) in core::mem::take(&mut leftovers) {
            if segment::remove(&shard.disk, directory, segment).await.is_err() {
                leftovers.push((directory, segment));
            }
        }
        let removable = shard.shelf.borrow_mut().take_removable();
        let Some((directory, segment)) = removable else {
            wait.await;
            continue;
        };
        if let Err(error) = tally(&shard, directory, segment).await {
            tracing::warn!(%error, shard = %directory, segment = segment.0, "a settled segment cannot go; trying again");
            shard.shelf.borrow_mut().put_back(directory, segment);
            shard.clock.sleep(DISK_RETRY_PAUSE).await;
            continue;
        }
        // What was tallied is gone whatever becomes of its file; the next start removes what is left here.
        if let Err(error) = segment::remove(&shard.disk, directory, segment).await {
            tracing::warn!(%error, shard = %directory, segment = segment.0, "a file cannot be removed; trying again");
            leftovers.push((directory, segment));
            continue;
        }
        tracing::debug!(segment = segment.0, shard = %directory, "removed: all its mail is settled");
    }
}

/// Why a settled segment has no tally.
#[derive(Debug, thiserror::Error)]
enum TallyError {
    /// It cannot be journalled.
    #[error("the tally cannot be journalled: {0}")]
    Append(#[from] AppendError),
    /// Neither its index nor its records can be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Records and facts disagree about it.
    #[error("records and facts disagree: {0}")]
    Unbalanced(#[from] Unbalanced),
}

/// Makes the tally of a settled segment durable: from there the segment is gone.
async fn tally<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    directory: ShardId,
    segment: SegmentId,
) -> Result<(), TallyError> {
    let index = segment::index_of(&shard.disk, shard.store, &shard.keys, directory, segment).await?;
    let tally = shard.shelf.borrow().tally(directory, segment, &index)?;
    // A checkpoint that drops the journal with it waits until the shelf knows.
    let _telling = shard.telling.guard();
    shard.journal.append_tally(&tally).await?.await?;
    shard.shelf.borrow_mut().tallied(&tally);
    shard.checkpoints.has_left(directory, segment);
    if directory == shard.directory {
        shard.mail.gone(segment);
    }
    Ok(())
}

/// Works off notes until the shard ends.
pub(super) async fn read_inbox<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    while let Ok(note) = shard.mesh.inbox.recv().await {
        shard.take_note(note);
        shard.empty_inbox();
    }
}

/// Looks at deadlines, at the ceilings of stamps and numbers, and at copies that are kept, now and then.
pub(super) async fn sweep<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    while !shard.is_shutting_down() {
        let shutdown = shard.shutdown.wait();
        or(shard.clock.sleep(SWEEP_INTERVAL), shutdown).await;
        shard.interrupts.sweep(shard.clock.now());
        raise_ceilings(&shard).await;
        keeping::look(&shard).await;
    }
}
