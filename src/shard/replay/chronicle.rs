//! The trace: what became of each message, kept for people who ask ([`storage::trace`]).
//!
//! It costs mail nothing. At acceptance nothing is written, since the record has those facts while it is here; with its settlement they
//! are told once, behind the facts that are durable. A task of its own writes rows together, a second behind what they tell, and has
//! them synced twice a minute: a kill takes up to a second of rows, a power cut up to half a minute.
//!
//! Failure answers: rows that find no room, in memory or on the disk, are lost, counted, and told to the log when that begins. The disk
//! is tried again a minute later. Traces have a share of the free space, and less while mail is short of it: the oldest day goes
//! first. Whether a day is old enough to go is decided by a clock that is vouched for (H5).

use super::names::Names;
use crate::limits::{
    TRACE_CHORES_INTERVAL, TRACE_FAILURE_PAUSE, TRACE_FREE_SPACE_MULTIPLE, TRACE_PAUSE, TRACE_SHARE_DIVISOR,
    TRACE_SYNC_INTERVAL,
};
use crate::shard::backlog::{Lane, Settlement};
use crate::shard::expiry_clock::{ExpiryClock, agreement};
use crate::shard::state::Shard;
use crate::shard::traces::{Became, Told};
use crate::smtp::Moment;
use core::time::Duration;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::DiskError;
use storage::format::trace::What;
use storage::position::{QueueId, UnixMillis};
use storage::reader::Reader;
use storage::trace::{Pending, TraceJournal};

/// Whether anything is traced.
pub(in crate::shard) fn is_on<D: Disk, C: Clock>(shard: &Shard<D, C>) -> bool {
    !shard.snapshot.borrow().config.storage.trace_retention.is_zero()
}

/// What became of units is told.
pub(super) fn tell<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &str, told: &Told, became: &[Became]) {
    shard.counters.traces_lost.add(shard.traces.add(told, domain, became));
}

/// Facts are durable: they are told, with what was said about them, or with what their records say. Those are still here: each settlement
/// looks at its own.
pub(super) async fn settled<D: Disk, C: Clock>(shard: &Shard<D, C>, lane: &Lane, gathered: &[Settlement]) {
    if !is_on(shard) {
        return;
    }
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    for settlement in gathered {
        let facts = settlement.facts.iter();
        let became: Vec<Became> =
            facts.map(|fact| (fact.ordinal, What::Outcome(fact.outcome), fact.code)).collect();
        if became.is_empty() {
            continue;
        }
        match &settlement.told {
            Some(told) => tell(shard, &lane.domain, told, &became),
            None => tell(shard, &lane.domain, &look_up(shard, &reader, settlement).await, &became),
        }
    }
}

async fn look_up<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    reader: &Reader<D>,
    settlement: &Settlement,
) -> Told {
    let (at, (directory, entry)) = (shard.clock.wall(), settlement.place);
    let read = reader.read_entry(directory, &entry).await;
    let told = read.ok().and_then(|frame| {
        let key = (frame.header.queue_id, entry.stamp, entry.received_s);
        let ordinals = settlement.facts.iter().map(|fact| fact.ordinal);
        Some(Told::of_record(&frame.message().ok()?, key, ordinals, at))
    });
    match told {
        Some(told) => told,
        None => {
            let queue_id = Names::new(&shard.disk).queue_id(settlement.place).await;
            Told::unreadable(queue_id.unwrap_or(QueueId(0)), entry.stamp, at)
        }
    }
}

/// Writes rows until the shard has ended.
pub(in crate::shard) async fn run<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    let mut task = Task {
        journal: None,
        synced: shard.clock.now(),
        is_dirty: false,
        looked: shard.clock.now(),
        expiry: ExpiryClock::default(),
        is_failing: false,
        not_before: Moment::ZERO,
        shard: Rc::clone(&shard),
    };
    loop {
        let arrived = shard.traces.arrived.wait();
        if shard.traces.is_empty() && !shard.traces.is_urgent() {
            let sleep = shard.clock.sleep(task.pause());
            or(arrived, sleep).await;
        }
        let enough = shard.traces.enough.wait();
        if !shard.traces.is_empty() && !shard.traces.is_urgent() {
            or(enough, shard.clock.sleep(TRACE_PAUSE)).await;
        }
        let is_closing = shard.traces.is_closing();
        let (mut rows, waiting) = shard.traces.take();
        // Around midnight: what is told of yesterday's tries goes into yesterday's file, not in turns.
        rows.sort_by_key(|row| day_of(row.at));
        task.write(&rows).await;
        drop(waiting);
        task.sync(is_closing).await;
        if is_closing {
            return;
        }
        task.look().await;
    }
}

struct Task<D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    /// Opened with the first row, or look.
    journal: Option<TraceJournal<D>>,
    synced: Moment,
    is_dirty: bool,
    looked: Moment,
    expiry: ExpiryClock,
    /// The log knows that rows are lost.
    is_failing: bool,
    /// The disk is left alone until then.
    not_before: Moment,
}

impl<D: Disk, C: Clock> Task<D, C> {
    /// Until there is something to do without rows.
    fn pause(&self) -> Duration {
        let now = self.shard.clock.now();
        let look = self.looked + TRACE_CHORES_INTERVAL;
        let due = if self.is_dirty { look.min(self.synced + TRACE_SYNC_INTERVAL) } else { look };
        due.saturating_sub(now)
    }

    async fn write(&mut self, rows: &[Pending]) {
        if self.shard.clock.now() < self.not_before {
            self.shard.counters.traces_lost.add(rows.len() as u64);
            return;
        }
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let day = day_of(first.at);
            let same = rest.iter().take_while(|row| day_of(row.at) == day).count();
            match self.write_some(&rest[..same], day).await {
                Ok(written) => {
                    self.shard.counters.traces.add(written as u64);
                    if core::mem::take(&mut self.is_failing) {
                        tracing::info!("what becomes of messages is traced again");
                    }
                    rest = &rest[written..];
                }
                Err(error) => {
                    self.shard.counters.traces_lost.add(rest.len() as u64);
                    // Each try may leave a file behind.
                    self.not_before = self.shard.clock.now() + TRACE_FAILURE_PAUSE;
                    if !core::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(%error, rows = rest.len(), "what became of messages cannot be traced; mail goes on");
                    }
                    return;
                }
            }
        }
    }

    async fn write_some(&mut self, rows: &[Pending], day: u32) -> Result<usize, DiskError> {
        let wanted = self.journal().await?.wants(rows, day);
        if let Some(octets) = wanted {
            self.make_room(octets).await?;
        }
        if !core::mem::replace(&mut self.is_dirty, true) {
            self.synced = self.shard.clock.now();
        }
        self.journal().await?.write(rows, day).await
    }

    async fn journal(&mut self) -> Result<&mut TraceJournal<D>, DiskError> {
        let shard = &self.shard;
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => {
                let keys = Arc::clone(&shard.keys);
                TraceJournal::open(shard.disk.clone(), shard.directory, shard.store, keys).await?
            }
        };
        Ok(self.journal.insert(journal))
    }

    /// Room for a further file, within our share, and none that mail needs.
    async fn make_room(&mut self, octets: u64) -> Result<(), DiskError> {
        let shard = Rc::clone(&self.shard);
        let Some(free) = shard.free_if_known().await else { return Err(DiskError::NoSpace) };
        let wanted = free_wanted(&shard);
        let journal = self.journal().await?;
        let share = (free + journal.octets()) / TRACE_SHARE_DIVISOR / u64::from(shard.shards);
        // Nothing goes for a file that has no room without it.
        if octets > share || free < wanted.saturating_add(octets) {
            return Err(DiskError::NoSpace);
        }
        while journal.octets() + octets > share && journal.remove_oldest().await? {}
        Ok(())
    }

    async fn sync(&mut self, is_closing: bool) {
        let now = self.shard.clock.now();
        if !self.is_dirty || (!is_closing && now < self.synced + TRACE_SYNC_INTERVAL) {
            return;
        }
        (self.is_dirty, self.synced) = (false, now);
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.sync().await
        {
            tracing::warn!(%error, "what became of messages in the last half minute may not outlast a power cut");
        }
    }

    /// Files that are old enough go, and more while mail is short of space.
    async fn look(&mut self) {
        let shard = Rc::clone(&self.shard);
        let now = shard.clock.now();
        if now < self.looked + TRACE_CHORES_INTERVAL {
            return;
        }
        self.looked = now;
        if let Err(error) = self.clear().await {
            tracing::warn!(%error, "an old trace cannot be removed");
        }
    }

    async fn clear(&mut self) -> Result<(), DiskError> {
        let shard = Rc::clone(&self.shard);
        let (retention, trust) = {
            let snapshot = shard.snapshot.borrow();
            (snapshot.config.storage.trace_retention, snapshot.config.delivery.expiry_clock)
        };
        let (now, wall, synchronised) = (shard.clock.now(), shard.clock.wall(), (shard.synchronisation)());
        let agreed = agreement(retention.max(Duration::from_secs(86_400)));
        let may_go = self.expiry.observe(now, wall, synchronised, trust, agreed).0;
        let kept_days = u32::try_from(retention.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX);
        let oldest_kept = day_of(wall).saturating_sub(kept_days);
        let wanted = free_wanted(&shard);
        let journal = self.journal().await?;
        while may_go && journal.oldest_day().is_some_and(|day| day < oldest_kept) {
            journal.remove_oldest().await?;
        }
        // One a look: what goes is seen by the next one.
        if journal.oldest_day().is_some() && shard.free_if_known().await.is_some_and(|free| free < wanted) {
            journal.remove_oldest().await?;
        }
        Ok(())
    }
}

/// Free octets that mail wants for itself.
fn free_wanted<D: Disk, C: Clock>(shard: &Shard<D, C>) -> u64 {
    let snapshot = shard.snapshot.borrow();
    let storage = &snapshot.config.storage;
    storage.min_free_space_bytes.max(storage.segment_size_bytes).saturating_mul(TRACE_FREE_SPACE_MULTIPLE)
}

/// Days since 1970.
fn day_of(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / 86_400_000).unwrap_or(u32::MAX)
}
