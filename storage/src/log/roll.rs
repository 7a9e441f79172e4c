//! From one segment to the next: making it ahead of need, sealing the old one, leaving a latched one.

use super::append::push;
use super::{Log, LogOptions, Progress, Sealed};
use crate::clock::Clock;
use crate::commit::Batch;
use crate::disk::{Disk, write_whole};
use crate::error::{AppendError, DiskError};
use crate::format::frame::{FrameKind, blank_header};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::frontier::IDLE;
use crate::position::{QueueId, Salt, SegmentId, Stamp};
use crate::segment::{ActiveSegment, index_name};
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

/// Makes the segment `segment`, behind `previous`.
pub(super) async fn create<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &LogOptions,
    segment: SegmentId,
    previous: Option<SegmentId>,
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
        segment,
        shard: options.shard,
        store: options.store,
        salt: random_salt()?,
        size: options.segment_octets,
        created: clock.wall(),
        stamp_floor: options.frontier.horizon(),
        previous,
        key: if mail { options.keys.mark(options.store) } else { None },
        sources: Vec::new(),
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
        let (number, previous) = self.next_number()?;
        self.state.borrow_mut().rolls_to = number;
        let made = create(&self.disk, &self.clock, &self.options, number, previous).await?;
        self.made(number);
        Ok(made)
    }

    /// A number for a further segment, and the one before it in the chain. It is spent even if the segment cannot be
    /// made: what an attempt left behind is never taken for ours.
    ///
    /// # Errors
    /// See [`Frontier::number`](crate::frontier::Frontier::number).
    pub fn next_number(&self) -> Result<(SegmentId, Option<SegmentId>), DiskError> {
        let mut state = self.state.borrow_mut();
        let number = self.options.frontier.number(state.next_segment)?;
        state.next_segment = SegmentId(number.0 + 1);
        Ok((number, state.previous))
    }

    /// The segment with this number is durable: those made from here on name it.
    pub fn made(&self, segment: SegmentId) {
        self.state.borrow_mut().previous = Some(segment);
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
        let (number, previous) = self.next_number()?;
        let prepared = create(&self.disk, &self.clock, &self.options, number, previous).await?;
        if self.keep_prepared(prepared) {
            return Ok(());
        }
        let path = crate::segment::path(self.options.shard, self.options.purpose, number);
        self.disk.remove(&path).await
    }

    /// Keeps a segment that was made ahead, unless a roll has overtaken it with a later number: ids must grow
    /// along the chain.
    fn keep_prepared(&self, prepared: ActiveSegment<D::File>) -> bool {
        let mut state = self.state.borrow_mut();
        let number = prepared.header.segment;
        let overtaken = state.rolls_to > number;
        if !overtaken {
            state.previous = Some(number);
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
