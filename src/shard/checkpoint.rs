//! The live checkpoint: journals get short while the shards run. What the steps are for stands in
//! [`storage::checkpoint`]; here is who does them.
//!
//! Shard 0 begins a cycle when a shard has too many journals, and ends it when all have restated what is theirs. A
//! cycle that a shard could not do its part in is given up: nothing was dropped, and the next one begins anew.

use super::checkpoints::Step;
use super::mesh::{Begin, Note};
use super::state::Shard;
use crate::limits::{CHECKPOINT_PAUSE, OLDER_JOURNALS_MAX};
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use storage::checkpoint;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::checkpoint::DirectoryRow;
use storage::position::{SegmentId, ShardId, Stamp};

impl<D: Disk, C: Clock> Shard<D, C> {
    /// Asks for a checkpoint if the journal has grown to several files, or cannot grow any more.
    pub(super) async fn consider_checkpoint(&self, pressed: bool) {
        let Some(active) = self.journal.active_segment() else { return };
        let older = active.0.saturating_sub(self.checkpoints.oldest.get().0);
        let enough = if pressed { 1 } else { OLDER_JOURNALS_MAX };
        if older < enough || self.checkpoints.suspended {
            return;
        }
        // Shard 0 may have ended: then so shall we.
        let _ = self.mesh.senders[0].send(Note::CheckpointWanted).await;
    }
}

/// Shard 0 leads cycles until it shuts down.
pub(super) async fn lead<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    while !shard.is_shutting_down() {
        let (news, shutdown) = (shard.checkpoints.news.wait(), shard.shutdown.wait());
        if !shard.checkpoints.wanted.replace(false) {
            or(news, shutdown).await;
            continue;
        }
        match cycle(&shard).await {
            Ok(()) => tracing::info!("checkpoint: what older journals said is restated, they go"),
            Err(AppendError::Closed) => return,
            Err(error) => tracing::warn!(%error, "no checkpoint could be made; journals grow until one can"),
        }
        let shutdown = shard.shutdown.wait();
        or(shard.clock.sleep(CHECKPOINT_PAUSE), shutdown).await;
    }
}

/// One cycle, from its sequence to its end.
async fn cycle<D: Disk, C: Clock>(shard: &Shard<D, C>) -> Result<(), AppendError> {
    let sequence = shard.frontier.sequence()?;
    let (done, dones) = async_channel::bounded(usize::from(shard.shards));
    for sender in &shard.mesh.senders {
        let begin = Begin { sequence, done: done.clone() };
        sender.send(Note::CheckpointBegins(begin)).await.map_err(|_| AppendError::Closed)?;
    }
    drop(done);
    let mut directories: BTreeMap<ShardId, DirectoryRow> = shard.directories.borrow().clone();
    let mut result = Ok(());
    for _ in 0..shard.shards {
        match dones.recv().await.map_err(|_| AppendError::Closed)? {
            Ok(row) => {
                let known = directories.entry(row.shard).or_insert(row);
                *known = DirectoryRow { last_stamp: known.last_stamp.max(row.last_stamp), ..row };
            }
            Err(error) => result = Err(error),
        }
    }
    result?;
    checkpoint::complete(&shard.journal, sequence, directories.into_values().collect()).await?;
    for sender in &shard.mesh.senders {
        // From here what older journals say stands elsewhere. Who has ended leaves them for the next start.
        let _ = sender.send(Note::CheckpointComplete(sequence)).await;
    }
    Ok(())
}

/// A shard does what it is told until it shuts down.
pub(super) async fn follow<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    while !shard.is_shutting_down() {
        let (news, shutdown) = (shard.checkpoints.news.wait(), shard.shutdown.wait());
        let step = shard.checkpoints.steps.borrow_mut().pop_front();
        match step {
            Some(Step::Begin(begin)) => take_part(&shard, begin).await,
            Some(Step::Forget(sequence)) => forget(&shard, sequence).await,
            None => or(news, shutdown).await,
        }
    }
}

async fn take_part<D: Disk, C: Clock>(shard: &Shard<D, C>, begin: Begin) {
    let Begin { sequence, done } = begin;
    let result = restate(shard, sequence).await;
    if result.is_err() {
        // Nobody is to wait for us: the cycle is given up anyway.
        mark(shard, sequence).await;
    }
    let _ = done.send(result.map(|first| shard.directory_row(first))).await;
}

/// Returns the first journal that still counts when the cycle is complete.
async fn restate<D: Disk, C: Clock>(shard: &Shard<D, C>, sequence: Stamp) -> Result<SegmentId, AppendError> {
    let Some(active) = shard.journal.active_segment() else { return Err(AppendError::NoSpace) };
    // Keepers are told of facts when these are durable. All that the journals before this one say has been told when
    // those who are telling now are done.
    shard.telling.settle().await;
    mark(shard, sequence).await;
    wait_until(shard, || shard.checkpoints.marks.borrow().get(&sequence) >= Some(&shard.shards)).await?;
    shard.checkpoints.marks.borrow_mut().retain(|other, _| *other > sequence);
    wait_until(shard, || shard.checkpoints.leaving.borrow().is_empty()).await?;
    let mut queued = shard.lanes.queued();
    let (outcomes, ledgers) = {
        let shelf = shard.shelf.borrow();
        queued.kept = shelf.kept();
        (shelf.outcomes(), shelf.ledgers().clone())
    };
    checkpoint::restate(&shard.journal, sequence, &outcomes, &ledgers, &queued).await?;
    // What was decided about held units, and was on its way when that was looked at, is durable too.
    shard.telling.settle().await;
    let up_to = SegmentId(active.0.saturating_sub(1));
    shard.checkpoints.up_to.set(Some((sequence, up_to)));
    Ok(active)
}

/// Tells every keeper, behind all facts that it was told.
async fn mark<D: Disk, C: Clock>(shard: &Shard<D, C>, sequence: Stamp) {
    for sender in &shard.mesh.senders {
        let _ = sender.send(Note::CheckpointMark(sequence)).await;
    }
}

/// Completes when `holds`, which is looked at when the shard's checkpoints have news.
///
/// # Errors
/// [`AppendError::Closed`]: the shard shuts down.
pub(super) async fn wait_until<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    holds: impl Fn() -> bool,
) -> Result<(), AppendError> {
    loop {
        let (news, shutdown) = (shard.checkpoints.news.wait(), shard.shutdown.wait());
        if shard.is_shutting_down() {
            return Err(AppendError::Closed);
        }
        if holds() {
            return Ok(());
        }
        or(news, shutdown).await;
    }
}

/// The cycle is complete: removes this shard's older journals.
async fn forget<D: Disk, C: Clock>(shard: &Shard<D, C>, sequence: Stamp) {
    let Some((_, up_to)) = shard.checkpoints.up_to.get().filter(|(of, _)| *of == sequence) else { return };
    let oldest = shard.checkpoints.oldest.get();
    match checkpoint::remove_journals(&shard.disk, shard.directory, oldest..=up_to).await {
        Ok(()) => {
            (oldest.0..=up_to.0).for_each(|journal| shard.journal.gone(SegmentId(journal)));
            shard.checkpoints.oldest.set(SegmentId(up_to.0 + 1));
        }
        Err(error) => tracing::warn!(%error, "an older journal cannot be removed; the next checkpoint does"),
    }
}
