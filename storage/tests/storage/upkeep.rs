//! What a node does beside taking and delivering: holding, checkpoints, rewrites. As the shards do it, on one thread.

use super::node::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use storage::checkpoint;
use storage::clock::Clock;
use storage::compaction::plan::{Bounds, Candidate, plan};
use storage::compaction::rewrite::{Copy, RewriteError, Target, Workshop};
use storage::disk::{Disk, File};
use storage::error::DiskError;
use storage::format::BLOCK_OCTETS;
use storage::format::checkpoint::{DirectoryRow, HeldUnit};
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::log::Place;
use storage::position::{SegmentId, ShardId, Stamp};
use storage::segment::path;
use storage::shelf::Matters;
use storage::sim::executor::yield_now;
use storage::store::Opened;

/// A disk for a rewrite that is in too much of a hurry: nothing of the copy is synced, but its names.
#[derive(Clone)]
struct Hasty<D>(D);

/// A file of it.
struct HastyFile<F>(F);

impl<D: Disk> Disk for Hasty<D> {
    type File = HastyFile<D::File>;

    async fn create(&self, path: &str, size: u64) -> Result<Self::File, DiskError> {
        self.0.create(path, size).await.map(HastyFile)
    }

    async fn open(&self, path: &str) -> Result<Self::File, DiskError> {
        self.0.open(path).await.map(HastyFile)
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        self.0.list(directory).await
    }

    async fn create_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.0.create_directory(directory).await
    }

    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.0.sync_directory(directory).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.0.remove(path).await
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        self.0.free_octets().await
    }
}

impl<F: File> File for HastyFile<F> {
    type Block = F::Block;
    type Octets = F::Octets;

    fn allocate(&self, octets: usize) -> F::Block {
        self.0.allocate(octets)
    }

    async fn write(&self, block: F::Block, offset: u64) -> Result<(), DiskError> {
        self.0.write(block, offset).await
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<F::Octets, DiskError> {
        self.0.read(offset, octets).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        self.0.give_back(offset).await
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.0.length().await
    }
}

/// Operations that are under way.
#[derive(Default)]
pub(crate) struct Operations {
    next: Cell<u64>,
    active: RefCell<BTreeSet<u64>>,
}

/// One of them; it is over when this is dropped.
pub(crate) struct Operation(Rc<Operations>, u64);

impl Operations {
    pub(crate) fn begin(self: &Rc<Self>) -> Operation {
        self.next.set(self.next.get() + 1);
        self.active.borrow_mut().insert(self.next.get());
        Operation(Rc::clone(self), self.next.get())
    }

    /// Waits for all that have begun.
    pub(crate) async fn settle(&self) {
        let last = self.next.get();
        while self.active.borrow().range(..=last).next().is_some() {
            yield_now().await;
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.0.active.borrow_mut().remove(&self.1);
    }
}

/// A start knows where messages lie: a rewrite that a crash cut off never happened.
pub(crate) fn refresh_places(opened: &Opened, world: &World) {
    let mut world = world.borrow_mut();
    for backlog in &opened.backlogs {
        for queued in backlog.clone().into_queued() {
            let stamp = queued.entry.stamp;
            let mut promises = world.acknowledged.values_mut();
            let Some(promise) = promises.find(|promise| promise.stamp == stamp) else { continue };
            let place = Place { segment: queued.entry.segment, unit_base: queued.entry.unit_base };
            *promise = Rc::new(Promise { place, shard: backlog.shard, ..Promise::clone(promise) });
        }
    }
}

/// Holds a unit, or lets it go again; `true` once that is durable.
pub(crate) async fn hold(node: &Node, owner: &Shard, world: &World, unit: (Stamp, u16), held: bool) -> bool {
    let _looking = node.looking.begin();
    {
        let mut world = world.borrow_mut();
        if held {
            world.holding.insert(unit);
        } else {
            world.held.remove(&unit);
        }
    }
    let outcome = if held { Outcome::Held } else { Outcome::Released };
    let fact = Fact { stamp: unit.0, ordinal: unit.1, outcome, code: 0 };
    let Ok(ticket) = owner.journal.append_facts(&[fact]).await else { return false };
    if ticket.await.is_err() {
        return false;
    }
    let mut world = world.borrow_mut();
    if held {
        world.held.insert(unit);
    } else {
        world.holding.remove(&unit);
    }
    true
}

/// A whole cycle over all shards; `false` if another one is under way or it failed.
pub(crate) async fn checkpoint_all(node: &Node, world: &World) -> bool {
    if node.opened.incomplete || node.busy.replace(true) {
        return false;
    }
    let done = checkpoint_cycle(node, world).await.is_some();
    node.busy.set(false);
    done
}

async fn checkpoint_cycle(node: &Node, world: &World) -> Option<()> {
    let sequence = node.opened.frontier.sequence().ok()?;
    let up_to: Vec<SegmentId> = node
        .shards
        .iter()
        .map(|shard| Some(SegmentId(shard.journal.active_segment()?.0 - 1)))
        .collect::<Option<_>>()?;
    if node.bug != Some(Bug::HastyCheckpoint) {
        node.looking.settle().await;
    }
    for shard in &node.shards {
        // Until its sources have their tallies a copy means nothing to a start, nor do outcomes in it.
        while !node.leaving.borrow().is_empty() {
            yield_now().await;
        }
        let (outcomes, ledgers) = {
            let shelf = shard.shelf.borrow();
            (shelf.outcomes(), shelf.ledgers().clone())
        };
        // The first one owns every domain, as far as holding goes.
        let held = if shard.id == ShardId(0) { held_units(world) } else { Vec::new() };
        let queued = checkpoint::Queued { held, ..checkpoint::Queued::default() };
        checkpoint::restate(&shard.journal, sequence, &outcomes, &ledgers, &queued).await.ok()?;
    }
    if node.bug != Some(Bug::HastyCheckpoint) {
        node.looking.settle().await;
    }
    let last = world.borrow().largest_acknowledged;
    let first = &node.shards[0];
    let mut rows: BTreeMap<ShardId, DirectoryRow> =
        node.opened.directories.iter().map(|row| (row.shard, *row)).collect();
    for (shard, up_to) in node.shards.iter().zip(&up_to) {
        let known = rows.get(&shard.id).map_or(Stamp::NONE, |row| row.last_stamp);
        let last_stamp = if shard.id == first.id { last } else { known };
        let first_journal = Some(SegmentId(up_to.0 + 1));
        rows.insert(shard.id, DirectoryRow { shard: shard.id, last_stamp, first_journal });
    }
    checkpoint::complete(&first.journal, sequence, rows.into_values().collect()).await.ok()?;
    for (shard, up_to) in node.shards.iter().zip(up_to) {
        let range = shard.oldest_journal.get()..=up_to;
        checkpoint::remove_journals(&shard.disk, shard.id, range).await.ok()?;
        shard.oldest_journal.set(SegmentId(up_to.0 + 1));
    }
    Some(())
}

/// What an owner would have in memory: all that was decided to be held, durable or on its way.
fn held_units(world: &World) -> Vec<HeldUnit> {
    let world = world.borrow();
    let unit =
        |(stamp, ordinal): &(Stamp, u16)| HeldUnit { stamp: *stamp, ordinal: *ordinal, code: 0, since_s: 1 };
    world.held.iter().map(unit).collect()
}

/// The size of a segment's file, and whether it is encrypted as new ones are.
async fn file_of(node: &Node, shard: ShardId, segment: SegmentId) -> Result<(u64, bool), DiskError> {
    let file = node.disk.open(&path(shard, Purpose::Mail, segment)).await?;
    let header = SegmentHeader::decode(&file.read(0, BLOCK_OCTETS).await?);
    let mark = node.keys.mark(node.opened.store.store);
    Ok((file.length().await?, header.is_ok_and(|header| header.key == mark)))
}

/// Messages that a copy took along are found in it from here on.
fn move_places(world: &World, shard: ShardId, copy: &Copy) {
    for promise in world.borrow_mut().acknowledged.values_mut().filter(|promise| promise.shard == shard) {
        let from = (promise.place.segment, promise.place.unit_base);
        let moved = copy.moves.iter().find(|(source, moved)| (*source, moved.from_base) == from);
        if let Some((_, moved)) = moved {
            let place = Place { segment: moved.to, unit_base: moved.to_base };
            *promise = Rc::new(Promise { place, ..Promise::clone(promise) });
        }
    }
}

/// One rewrite of what is sparse in the shard's directory; tells the sources.
pub(crate) async fn compact(node: &Node, shard: &Shard, world: &World) -> Vec<SegmentId> {
    compact_beside(node, shard, world, async |_| yield_now().await).await
}

/// The same beside something else, which is done behind each write of the copy.
pub(crate) async fn compact_beside(
    node: &Node,
    shard: &Shard,
    world: &World,
    beside: impl AsyncFn(u64),
) -> Vec<SegmentId> {
    let Some((sources, copy)) = rewrite_beside(node, shard, world, beside).await else { return Vec::new() };
    node.reclaim().await;
    while sources.iter().any(|source| node.leaving.borrow().contains(&(shard.id, *source))) {
        node.clock.sleep(std::time::Duration::from_secs(1)).await;
        node.reclaim().await;
    }
    shard.shelf.borrow_mut().unpin(shard.id, copy);
    sources
}

/// The same as far as nobody looks for mail in the sources any more: these, and their copy, which is pinned.
pub(crate) async fn rewrite(
    node: &Node,
    shard: &Shard,
    world: &World,
) -> Option<(Vec<SegmentId>, SegmentId)> {
    rewrite_beside(node, shard, world, async |_| yield_now().await).await
}

async fn rewrite_beside(
    node: &Node,
    shard: &Shard,
    world: &World,
    pause: impl AsyncFn(u64),
) -> Option<(Vec<SegmentId>, SegmentId)> {
    if node.opened.incomplete {
        // How units of a source ended may stand in a journal that could not be read, and names the source.
        return None;
    }
    let workshop =
        Workshop { disk: node.disk.clone(), store: node.opened.store.store, keys: Arc::clone(&node.keys) };
    let mut candidates = Vec::new();
    let sealed: Vec<_> = shard.shelf.borrow().sealed().collect();
    for (directory, segment, facts) in sealed {
        let fit = facts.sealed && !facts.moving && (facts.unsettled > 0 || facts.pins > 0);
        let closers = shard.shelf.borrow().closers(directory, segment);
        let Some(closers) = closers.filter(|_| directory == shard.id && fit) else { continue };
        let is_open = |unit| shard.shelf.borrow().outcome(directory, segment, unit).is_none();
        let Ok(live) = workshop.live_octets(directory, segment, is_open).await else { continue };
        let Ok((octets, current_key)) = file_of(node, directory, segment).await else { continue };
        let quiet = true;
        candidates.push(Candidate { shard: directory, segment, octets, live, quiet, current_key, closers });
    }
    let bounds = Bounds { copy_octets: node.mail_octets, free: u64::MAX, pressed: false };
    let job = plan(&candidates, &bounds)?;
    let number = shard.mail.next_number().ok()?;
    let segment = number.segment;
    let target = Target { shard: shard.id, number: number.clone(), created: node.clock.wall() };
    let matters = |source, unit| match shard.shelf.borrow().outcome(shard.id, source, unit) {
        None => Matters::Owed,
        Some(_) => Matters::Not,
    };
    let copied = if node.bug == Some(Bug::HastyTally) {
        let Workshop { disk, store, keys } = workshop;
        let hasty = Workshop { disk: Hasty(disk), store, keys };
        hasty.rewrite(target, &job.segments, matters, pause).await
    } else {
        workshop.rewrite(target, &job.segments, matters, pause).await
    };
    let copy = match copied {
        Ok(copy) => copy,
        Err(RewriteError::Left(_)) => {
            shard.mail.not_made(number);
            job.segments.iter().for_each(|source| shard.shelf.borrow_mut().pin(shard.id, *source));
            return None;
        }
        Err(_) => {
            shard.mail.not_made(number);
            return None;
        }
    };
    shard.mail.made(&number);
    // It outlives its sources.
    shard.shelf.borrow_mut().pin(shard.id, segment);
    shard.shelf.borrow_mut().copied(shard.id, segment, &copy.index, &copy.moves);
    move_places(world, shard.id, &copy);
    node.looking.settle().await;
    let ended = shard.shelf.borrow().outcomes_of(shard.id, segment);
    let Ok(sequence) = node.opened.frontier.sequence() else { return None };
    let ended = if node.bug == Some(Bug::SilentCopy) { Vec::new() } else { ended };
    while checkpoint::restate(&shard.journal, sequence, &ended, &Default::default(), &Default::default())
        .await
        .is_err()
    {
        // Until the outcomes of the copy are journalled its sources stay.
        node.clock.sleep(std::time::Duration::from_secs(1)).await;
    }
    node.leaving.borrow_mut().extend(job.segments.iter().map(|source| (shard.id, *source)));
    for source in &job.segments {
        shard.shelf.borrow_mut().leave(shard.id, *source);
    }
    Some((job.segments, segment))
}
