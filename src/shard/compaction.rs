//! Rewriting sparse segments, beside everything else: a task of each shard, over the directories that it keeps.
//!
//! Now and then it looks at the sealed segments, asks the plan, and has at most one copy made, at a bounded rate. The order
//! of the steps behind the copy stands in [`storage::compaction`].

use super::checkpoint::wait_until;
use super::mesh::{Moved, Note, owner};
use super::state::Shard;
use crate::limits::{
    COMPACTION_ENDED_PERCENT, COMPACTION_INTERVAL, COMPACTION_INTERVAL_PRESSED, COMPACTION_OCTETS_A_SECOND,
    DISK_RETRY_PAUSE,
};
use core::time::Duration;
use futures_lite::future::or;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use storage::checkpoint;
use storage::clock::Clock;
use storage::compaction::horizon::SegmentFacts;
use storage::compaction::plan::{Bounds, Candidate, Job, plan};
use storage::compaction::rewrite::{Copy, RewriteError, Target, Workshop};
use storage::disk::{Disk, File};
use storage::error::AppendError;
use storage::format::BLOCK_OCTETS;
use storage::format::checkpoint::Outcomes;
use storage::format::kept::KeptRun;
use storage::format::segment_header::{KeyMark, Purpose, SegmentHeader};
use storage::position::{SegmentId, ShardId};
use storage::segment;
use storage::shelf::Matters;

/// Compacts until the shard shuts down.
pub(super) async fn run<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    let mut compactor = Compactor {
        workshop: Workshop { disk: shard.disk.clone(), store: shard.store, keys: Arc::clone(&shard.keys) },
        shard,
        before: HashMap::new(),
        files: HashMap::new(),
        refused: HashMap::new(),
    };
    if compactor.shard.checkpoints.suspended {
        // A journal may say how mail ended, by segment, that nobody could read: where that mail lies must not change.
        return;
    }
    loop {
        let shutdown = compactor.shard.shutdown.wait();
        if compactor.shard.is_shutting_down() {
            return;
        }
        let pressed = compactor.is_pressed().await;
        let pause = if pressed { COMPACTION_INTERVAL_PRESSED } else { COMPACTION_INTERVAL };
        compactor.before = compactor.ended();
        or(compactor.shard.clock.sleep(pause), shutdown).await;
        while !compactor.shard.is_shutting_down() && compactor.step().await {}
    }
}

struct Compactor<D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    workshop: Workshop<D>,
    /// Units that had ended when the pause began, by segment: one that lost more since is not quiet.
    before: HashMap<SegmentId, u64>,
    /// Size of a segment's file, and the key of its mail.
    files: HashMap<SegmentId, (u64, Option<KeyMark>)>,
    /// Segments that could not be rewritten, with the units that had ended then.
    refused: HashMap<SegmentId, u64>,
}

impl<D: Disk, C: Clock> Compactor<D, C> {
    fn ended(&self) -> HashMap<SegmentId, u64> {
        let shelf = self.shard.shelf.borrow();
        let own = shelf.sealed().filter(|(shard, ..)| *shard == self.shard.directory);
        own.map(|(_, segment, facts)| (segment, facts.ended)).collect()
    }

    async fn is_pressed(&self) -> bool {
        let wanted = self.shard.snapshot.borrow().config.storage.min_free_space_bytes;
        self.shard.free_octets().await < wanted.saturating_mul(2)
    }

    /// One look, and one copy if it is worth it. Returns whether there was one.
    async fn step(&mut self) -> bool {
        let pressed = self.is_pressed().await;
        let free = self.shard.free_octets().await;
        let candidates = self.candidates().await;
        let copy_octets = self.shard.snapshot.borrow().config.storage.segment_size_bytes;
        let Some(job) = plan(&candidates, &Bounds { copy_octets, free, pressed }) else { return false };
        if !self.pin_sources(&job) {
            return false;
        }
        match self.rewrite(&job).await {
            Ok(()) => true,
            Err(error) => {
                // What is left of a copy names them: then they stay pinned, and untallied, for this life.
                if !matches!(error, RewriteError::Left(_)) {
                    let mut shelf = self.shard.shelf.borrow_mut();
                    job.segments.iter().for_each(|source| shelf.unpin(job.shard, *source));
                }
                tracing::warn!(%error, shard = %job.shard, "sparse segments stay as they are");
                for segment in &job.segments {
                    let ended = self.before.get(segment).copied().unwrap_or(0);
                    self.refused.insert(*segment, ended);
                }
                false
            }
        }
    }

    /// All sources stay until they are left, also if their mail ends while it is copied; none is pinned if one may be going already.
    fn pin_sources(&self, job: &Job) -> bool {
        let mut shelf = self.shard.shelf.borrow_mut();
        for (place, source) in job.segments.iter().enumerate() {
            if !shelf.pin_source(job.shard, *source) {
                job.segments[..place].iter().for_each(|pinned| shelf.unpin(job.shard, *pinned));
                return false;
            }
        }
        true
    }

    /// What is worth a closer look.
    async fn candidates(&mut self) -> Vec<Candidate> {
        // A directory whose shard does not run has no log that numbers: its segments drain and go.
        let own = self.shard.directory;
        let sealed: BTreeMap<SegmentId, SegmentFacts> = {
            let shelf = self.shard.shelf.borrow();
            let all =
                shelf.sealed().filter(|(shard, _, facts)| *shard == own && facts.sealed && !facts.moving);
            all.map(|(_, segment, facts)| (segment, facts)).collect()
        };
        self.files.retain(|segment, _| sealed.contains_key(segment));
        self.refused.retain(|segment, _| sealed.contains_key(segment));
        let mut wanted: Vec<SegmentId> = Vec::new();
        let newest = self.shard.keys.mark(self.shard.store);
        for (segment, facts) in &sealed {
            if self.refused.get(segment) == Some(&facts.ended) || facts.unsettled + facts.pins == 0 {
                continue;
            }
            let Some((_, key)) = self.file_of(own, *segment).await else { continue };
            let current_key = key == newest;
            let units = facts.ended + facts.unsettled;
            let many_ended = facts.ended * 100 >= units * COMPACTION_ENDED_PERCENT;
            if many_ended || !current_key || facts.pins > 0 {
                wanted.push(*segment);
            }
        }
        let mut candidates = BTreeMap::new();
        while let Some(segment) = wanted.pop() {
            let (Some(facts), Some((octets, key))) =
                (sealed.get(&segment), self.files.get(&segment).copied())
            else {
                continue;
            };
            let current_key = key == newest;
            let closers = self.shard.shelf.borrow().closers(own, segment);
            let Some(closers) = closers.filter(|_| !candidates.contains_key(&segment)) else { continue };
            let matters = |unit| self.shard.shelf.borrow().matters(own, segment, unit) != Matters::Not;
            let Ok(live) = self.workshop.live_octets(own, segment, matters).await else { continue };
            let quiet = self.before.get(&segment) == Some(&facts.ended);
            // What it cannot go without is looked at too, however full it is.
            wanted.extend(&closers);
            candidates.insert(
                segment,
                Candidate { shard: own, segment, octets, live, quiet, current_key, closers },
            );
        }
        candidates.into_values().collect()
    }

    /// The size of a segment's file and the key of its mail: read once, they never change.
    async fn file_of(&mut self, shard: ShardId, segment: SegmentId) -> Option<(u64, Option<KeyMark>)> {
        if let Some(known) = self.files.get(&segment) {
            return Some(*known);
        }
        let file = self.shard.disk.open(&segment::path(shard, Purpose::Mail, segment)).await.ok()?;
        let header = SegmentHeader::decode(&file.read(0, BLOCK_OCTETS).await.ok()?).ok()?;
        self.files.insert(segment, (header.size, header.key));
        Some((header.size, header.key))
    }

    async fn rewrite(&self, job: &Job) -> Result<(), RewriteError> {
        let shard = &self.shard;
        let number = shard.mail.next_number()?;
        let segment = number.segment;
        let target = Target { shard: job.shard, number: number.clone(), created: shard.clock.wall() };
        let matters = |source, unit| shard.shelf.borrow().matters(job.shard, source, unit);
        let pause = async |octets: u64| {
            let millis = octets.saturating_mul(1000) / COMPACTION_OCTETS_A_SECOND;
            shard.clock.sleep(Duration::from_millis(millis)).await;
        };
        let copy = match self.workshop.rewrite(target, &job.segments, matters, pause).await {
            Ok(copy) => copy,
            Err(error) => {
                shard.mail.not_made(number);
                return Err(error);
            }
        };
        shard.mail.made(&number);
        if copy.damaged > 0 {
            tracing::error!(
                shard = %job.shard, segment = segment.0, units = copy.damaged,
                "kept records of delivered mail are damaged: nothing keeps them any more"
            );
        }
        tracing::info!(
            shard = %job.shard, segment = segment.0, sources = job.segments.len(), messages = copy.moves.len(),
            octets = copy.octets, "sparse segments are rewritten"
        );
        self.commit(job, segment, copy).await;
        Ok(())
    }

    async fn restate(&self, ended: &[Outcomes], kept: &[KeptRun]) -> Result<(), AppendError> {
        let sequence = self.shard.frontier.sequence()?;
        let kept = checkpoint::Queued { kept: kept.to_vec(), ..checkpoint::Queued::default() };
        checkpoint::restate(&self.shard.journal, sequence, ended, &BTreeMap::new(), &kept).await
    }

    /// From the copy on disk to sources that may go.
    async fn commit(&self, job: &Job, to: SegmentId, copy: Copy) {
        let shard = &self.shard;
        // It outlives its sources: one that had no tally when the copy is gone would count for both.
        shard.shelf.borrow_mut().pin(job.shard, to);
        shard.shelf.borrow_mut().copied(job.shard, to, &copy.index, &copy.moves);
        let (guard, unused) = async_channel::bounded::<()>(1);
        for (owner, moved) in by_owner(job.shard, copy, shard.shards) {
            let note = Note::Moved(Arc::new(moved), guard.clone());
            if owner == shard.id {
                shard.take_note(note);
            } else if shard.mesh.senders[usize::from(owner.0)].send(note).await.is_err() {
                tracing::debug!(%owner, "the owner has ended");
            }
        }
        drop(guard);
        // Nothing is ever sent: it ends when nobody is at the old places any more.
        let shutdown = shard.shutdown.wait();
        let over = async {
            let _ = unused.recv().await;
        };
        or(over, shutdown).await;
        if shard.is_shutting_down() {
            // The sources have no tally: the next start removes the copy.
            return;
        }
        // What they told about the old places comes before that.
        shard.empty_inbox();
        let (ended, kept) = {
            let shelf = shard.shelf.borrow();
            (shelf.outcomes_of(job.shard, to), shelf.kept_of(job.shard, to))
        };
        while let Err(error) = self.restate(&ended, &kept).await {
            if shard.is_shutting_down() {
                return;
            }
            tracing::error!(%error, "how mail ended cannot be journalled; sparse segments stay until it can");
            shard.clock.sleep(DISK_RETRY_PAUSE).await;
        }
        // From here until the tallies nothing is restated: it would say that the sources are left, and no start believed it.
        shard.checkpoints.begin_to_leave(job.shard, &job.segments);
        for source in &job.segments {
            let mut shelf = shard.shelf.borrow_mut();
            shelf.leave(job.shard, *source);
            shelf.unpin(job.shard, *source);
        }
        shard.chores.notify_all();
        if wait_until(shard, || shard.checkpoints.leaving.borrow().is_empty()).await.is_ok() {
            shard.shelf.borrow_mut().unpin(job.shard, to);
            shard.chores.notify_all();
        }
    }
}

fn by_owner(shard: ShardId, copy: Copy, shards: u16) -> HashMap<ShardId, Moved> {
    let mut owners: HashMap<ShardId, Moved> = HashMap::new();
    for (domain, entries) in copy.index.domains {
        let moved = owners.entry(owner(&domain, shards)).or_insert(Moved { shard, domains: Vec::new() });
        moved.domains.push((domain.into(), entries));
    }
    owners
}
