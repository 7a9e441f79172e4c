//! From one segment to the next: making it ahead of need, sealing the old one, leaving a latched one.

use super::append::push;
use super::{Log, LogOptions, Progress, Sealed};
use crate::clock::Clock;
use crate::commit::Batch;
use crate::disk::{Disk, write_whole};
use crate::error::{AppendError, DiskError};
use crate::format::frame::{FrameHeader, FrameKind, PLAIN};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::frontier::IDLE;
use crate::position::{Offset, QueueId, Salt, SegmentId, Stamp};
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

/// Makes the segment `segment`.
pub(super) async fn create<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    options: &LogOptions,
    segment: SegmentId,
) -> Result<ActiveSegment<D::File>, DiskError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| DiskError::Io { operation: "random salt", reason: error.to_string() })?;
    let header = SegmentHeader {
        purpose: options.purpose,
        segment,
        shard: options.shard,
        store: options.store,
        salt: Salt(salt),
        size: options.segment_octets,
        created: clock.wall(),
        stamp_floor: options.frontier.horizon(),
    };
    ActiveSegment::create(disk, header).await
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
            let header = FrameHeader {
                kind: FrameKind::Void,
                payload_length: 0,
                stamp: Stamp::NONE,
                received: self.clock.wall(),
                queue_id: QueueId(0),
                durable_before: Offset(0),
                payload_checksum: 0,
                key_id: PLAIN,
            };
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
        let (prepared, number) = {
            let mut state = self.state.borrow_mut();
            (state.prepared.take(), state.next_segment)
        };
        if let Some(prepared) = prepared {
            return Ok(prepared);
        }
        // The number is spent even if the attempt fails: what it left behind is never taken for ours.
        self.state.borrow_mut().next_segment = SegmentId(number.0 + 1);
        create(&self.disk, &self.clock, &self.options, number).await
    }

    fn install(&self, next: ActiveSegment<D::File>) {
        let mut state = self.state.borrow_mut();
        assert!(state.filling.is_empty() || state.latched);
        assert!(next.header.segment > state.active.header.segment);
        state.filling = Batch::new(next.appended().0);
        let old = core::mem::replace(&mut state.active, next);
        let contents = core::mem::take(&mut state.contents);
        let units = contents.units();
        let index = Rc::new(contents.into_index());
        debug_assert!(index.units == units);
        state.sealed.push_back(Sealed { segment: old.header.segment, salt: old.header.salt, index });
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
        state.prepared.is_none() && state.filling.base.0 > state.active.header.size / 2
    }

    async fn prepare(&self) -> Result<(), DiskError> {
        let number = {
            let mut state = self.state.borrow_mut();
            let number = state.next_segment;
            state.next_segment = SegmentId(number.0 + 1);
            number
        };
        let prepared = create(&self.disk, &self.clock, &self.options, number).await?;
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
        let overtaken = state.next_segment != SegmentId(prepared.header.segment.0 + 1);
        if !overtaken {
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
