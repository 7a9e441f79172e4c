//! From one segment to the next: making it ahead of need, sealing the old one, leaving a latched one.

use super::append::push;
use super::{Log, LogOptions, Number, Progress, Sealed};
use crate::clock::Clock;
use crate::commit::Batch;
use crate::disk::{Disk, write_whole};
use crate::error::{AppendError, DiskError};
use crate::format::frame::{FrameKind, blank_header};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::frontier::IDLE;
use crate::position::{QueueId, Salt, SegmentId, Stamp};
use crate::segment::{ActiveSegment, index_name};
use std::collections::BTreeSet;
use std::rc::Rc;

/// What the housekeeper did.
#[derive(Debug)]
pub enum Chore {
    /// The log is closed.
    Closed,
    /// A chore failed and will be tried again: pause, then call again.
    Failed(DiskError),
    /// A segment is sealed; its index is written, unless the disk is full.
    Indexed(Sealed),
}

/// Makes the segment with this number, behind what that names.
pub(super) async fn create<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &LogOptions,
    number: &Number,
) -> Result<ActiveSegment<D::File>, DiskError> {
    if options.reserve_octets > 0 {
        let free = disk.free_octets().await?;
        if free < options.segment_octets.saturating_add(options.reserve_octets) {
            return Err(DiskError::NoSpace);
        }
    }
    let mail = options.purpose == Purpose::Mail;
    let header = SegmentHeader {
        purpose: options.purpose,
        segment: number.segment,
        shard: options.shard,
        store: options.store,
        salt: random_salt()?,
        size: options.segment_octets,
        created: clock.wall(),
        stamp_floor: options.frontier.horizon(),
        previous: number.previous,
        key: if mail { options.keys.mark(options.store) } else { None },
        sources: Vec::new(),
        others: number.others.clone(),
    };
    ActiveSegment::create(disk, header, &options.keys).await
}

/// A salt for a new segment.
pub(crate) fn random_salt() -> Result<Salt, DiskError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| DiskError::Io { operation: "random salt", reason: error.to_string() })?;
    Ok(Salt(salt))
}

impl<D: Disk, C: Clock> Log<D, C> {
    /// Seals the active segment and goes on in the next one.
    pub(super) async fn roll(&self) -> Progress {
        let next = match self.next_segment().await {
            Ok(next) => next,
            Err(error) => return self.stop(error),
        };
        self.install(next);
        self.state.borrow_mut().roll_wanted = false;
        self.resume();
        Progress::Rolled
    }

    /// Goes on behind a failure, in a fresh segment whose first record voids the failed range.
    pub(super) async fn leave_latched(&self) -> Progress {
        let next = match self.next_segment().await {
            Ok(next) => next,
            Err(error) => return self.stop(error),
        };
        self.install(next);
        let mut state = self.state.borrow_mut();
        for void in state.voids_owed.clone() {
            let header = blank_header(FrameKind::Void, Stamp::NONE, self.clock.wall(), QueueId(0));
            push(&mut state, header, &[&void.encode()]);
            state.contents.add_void(void);
        }
        // Nothing above the failed stamps is dispatched before the void is durable: the floor stays.
        let floor = self.options.frontier.floor(self.options.shard);
        state.filling.floor = (floor != IDLE).then_some(floor);
        state.latched = false;
        state.roll_wanted = false;
        drop(state);
        self.resume();
        Progress::Rolled
    }

    async fn next_segment(&self) -> Result<ActiveSegment<D::File>, DiskError> {
        let prepared = self.state.borrow_mut().prepared.take();
        if let Some(prepared) = prepared {
            return Ok(prepared);
        }
        let number = self.next_number()?;
        self.state.borrow_mut().rolls_to = number.segment;
        match create(&self.disk, &self.clock, &self.options, &number).await {
            Ok(made) => {
                self.made(&number);
                Ok(made)
            }
            Err(error) => {
                self.not_made(number);
                Err(error)
            }
        }
    }

    /// A number for a further segment, and what its header names. It is spent even if the segment cannot be
    /// made: what an attempt left behind is never taken for ours. Until [`Self::made`] or [`Self::not_made`] no other header
    /// names the same.
    ///
    /// # Errors
    /// See [`Frontier::number`](crate::frontier::Frontier::number).
    pub fn next_number(&self) -> Result<Number, DiskError> {
        let mut state = self.state.borrow_mut();
        let segment = self.options.frontier.number(state.next_segment)?;
        state.next_segment = SegmentId(segment.0 + 1);
        Ok(state.chain.number(segment))
    }

    /// The segment with this number is durable: those made from here on name it.
    pub fn made(&self, number: &Number) {
        self.state.borrow_mut().chain.made(number);
    }

    /// The segment with this number could not be made: what its header was to name is named by the next one.
    pub fn not_made(&self, number: Number) {
        self.state.borrow_mut().chain.not_made(number);
    }

    /// The segment with this number is tallied, or the journal with it restated, so its file may go: what only its header
    /// named is named by the next one.
    pub fn gone(&self, segment: SegmentId) {
        self.state.borrow_mut().chain.gone(segment);
    }

    /// Those that no header names yet.
    pub(crate) fn unnamed(&self) -> BTreeSet<SegmentId> {
        self.state.borrow().chain.unnamed.clone()
    }

    fn install(&self, next: ActiveSegment<D::File>) {
        let mut state = self.state.borrow_mut();
        assert!(state.filling.is_empty() || state.latched);
        state.filling = Batch::new(next.appended().0);
        let number = next.header.segment;
        let old = state.active.replace(next);
        let contents = core::mem::take(&mut state.contents);
        if let Some(old) = old {
            assert!(number > old.header.segment);
            let index = Rc::new(contents.into_index());
            state.sealed.push_back(Sealed { segment: old.header.segment, salt: old.header.salt, index });
        }
        drop(state);
        self.chores.notify_all();
    }

    fn resume(&self) {
        self.state.borrow_mut().refusal = None;
        self.room.notify_all();
        self.work.notify_all();
    }

    fn stop(&self, error: DiskError) -> Progress {
        let refusal = if error == DiskError::NoSpace { AppendError::NoSpace } else { AppendError::Failed };
        self.state.borrow_mut().refusal = Some(refusal);
        self.room.notify_all();
        Progress::Stopped(refusal, error)
    }

    /// Does the next chore: writes the index of a sealed segment, or makes the next segment once the active
    /// one is half full.
    pub async fn housekeep(&self) -> Chore {
        loop {
            let wait = self.chores.wait();
            let sealed = self.state.borrow_mut().sealed.pop_front();
            if let Some(sealed) = sealed {
                return self.index(sealed).await;
            }
            if self.state.borrow().closing {
                return Chore::Closed;
            }
            if self.wants_next() {
                match self.prepare().await {
                    Ok(()) => continue,
                    Err(error) => return Chore::Failed(error),
                }
            }
            wait.await;
        }
    }

    fn wants_next(&self) -> bool {
        let state = self.state.borrow();
        let Some(active) = &state.active else { return false };
        // A journal has the next one at once: that is the space in which a full disk settles, and so drains.
        let early = self.options.purpose == Purpose::Journal;
        state.prepared.is_none() && (early || state.filling.base.0 > active.header.size / 2)
    }

    async fn prepare(&self) -> Result<(), DiskError> {
        let number = self.next_number()?;
        let prepared = match create(&self.disk, &self.clock, &self.options, &number).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.not_made(number);
                return Err(error);
            }
        };
        if self.keep_prepared(prepared, &number) {
            return Ok(());
        }
        let path = crate::segment::path(self.options.shard, self.options.purpose, number.segment);
        self.not_made(number);
        self.disk.remove(&path).await
    }

    /// Keeps a segment that was made ahead, unless a roll has overtaken it with a later number: ids must grow
    /// along the chain.
    fn keep_prepared(&self, prepared: ActiveSegment<D::File>, number: &Number) -> bool {
        let mut state = self.state.borrow_mut();
        let overtaken = state.rolls_to > number.segment;
        if !overtaken {
            state.chain.made(number);
            state.prepared = Some(prepared);
        }
        !overtaken
    }

    async fn index(&self, sealed: Sealed) -> Chore {
        if self.options.purpose == Purpose::Journal {
            return Chore::Indexed(sealed);
        }
        let directory = self.options.shard.to_string();
        let name = index_name(sealed.segment);
        let content = sealed.index.encode(self.options.shard, sealed.segment, &sealed.salt);
        let mut written = write_whole(&self.disk, &directory, &name, &content).await;
        if written == Err(DiskError::Exists) {
            // What an attempt before this one left; derived data, so it may go.
            let _ = self.disk.remove(&format!("{directory}/{name}")).await;
            written = write_whole(&self.disk, &directory, &name, &content).await;
        }
        match written {
            // On a full disk the segment must be reclaimable all the same: that is what makes room. The index is
            // derived, the next start scans.
            Ok(()) | Err(DiskError::NoSpace) => Chore::Indexed(sealed),
            Err(error) => {
                self.state.borrow_mut().sealed.push_front(sealed);
                Chore::Failed(error)
            }
        }
    }
}
