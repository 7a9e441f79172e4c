//! Group commit: a batch gathers records while the one before is written and synced; it leaves when that one completes, or
//! a little later if it has fewer (`log::gathering`). One sender alone waits for one sync, a thousand share one.
//!
//! A [`Batch`] is aligned memory with a known place in its segment, so records are copied once, straight
//! to where they will be written from, and checksummed on the way. Each batch is padded to whole blocks: a
//! durable block is never written again.

use crate::disk::Block;
use crate::error::AppendError;
use crate::format::frame::{FRAME_OCTETS_MAX, FrameHeader, frame_octets};
use crate::format::{BLOCK_OCTETS, block_ceiling};
use crate::position::{Offset, Stamp};
use crate::segment::sealing::{Sealing, write_frame};
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::rc::Rc;

/// Octets that a batch can hold. The largest record (inline data, envelope, trace) must fit.
pub const BATCH_OCTETS: usize = FRAME_OCTETS_MAX;
const _: () = assert!(BATCH_OCTETS.is_multiple_of(BLOCK_OCTETS));

/// Records on their way into one segment.
#[derive(Debug)]
pub struct Batch<B> {
    block: Option<B>,
    /// Where the batch will lie; a multiple of the block size.
    pub base: Offset,
    used: usize,
    /// Records that were put in.
    pub records: u32,
    /// What becomes of it.
    pub fate: Rc<Fate>,
    /// The lowest stamp that is not durable before this batch is.
    pub floor: Option<Stamp>,
}

/// The outcome of one batch, shared by those who wait for it.
#[derive(Debug, Default)]
pub struct Fate {
    outcome: Cell<Option<Result<(), AppendError>>>,
    wakers: RefCell<Vec<Waker>>,
}

/// Completes when the batch that holds a record is durable, and released by the host of the log.
#[derive(Debug)]
#[must_use = "a record is promised only when its ticket says so"]
pub struct Ticket {
    fate: Rc<Fate>,
    /// Its place among the wakers, once it has waited.
    slot: Option<usize>,
}

impl<B: Block> Batch<B> {
    /// An empty batch at `base`.
    #[must_use]
    pub fn new(base: Offset) -> Self {
        assert!(base.0.is_multiple_of(BLOCK_OCTETS as u64));
        Self { block: None, base, used: 0, records: 0, fate: Rc::new(Fate::default()), floor: None }
    }

    /// Whether nothing was put in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Where the next frame goes.
    #[must_use]
    pub const fn next(&self) -> Offset {
        self.base.plus(self.used as u64)
    }

    /// Octets that the batch takes on disk.
    #[must_use]
    pub const fn padded(&self) -> u64 {
        block_ceiling(self.used) as u64
    }

    /// Whether a frame with `payload` octets fits, in a segment that ends at `end`.
    #[must_use]
    pub const fn fits(&self, payload: usize, end: u64) -> bool {
        let used = self.used + frame_octets(payload);
        used <= BATCH_OCTETS && self.base.0 + block_ceiling(used) as u64 <= end
    }

    /// Copies a frame in; the caller asked [`Self::fits`]. Returns its offset.
    pub fn push(
        &mut self,
        allocate: impl FnOnce() -> B,
        seal: &Sealing<'_>,
        header: &mut FrameHeader,
        parts: &[&[u8]],
    ) -> Offset {
        let offset = self.next();
        let plain: usize = parts.iter().map(|part| part.len()).sum();
        let payload = plain + seal.overhead();
        let octets = frame_octets(payload);
        assert!(self.used + octets <= BATCH_OCTETS);
        assert!(offset.0.is_multiple_of(8));
        let memory = self.block.get_or_insert_with(allocate).as_mut();
        let frame = &mut memory[self.used..self.used + octets];
        header.payload_length = u32::try_from(payload).expect("a batch is far below 4 GiB");
        write_frame(frame, seal, header, offset, parts);
        self.used += octets;
        self.records += 1;
        offset
    }

    /// The memory to write, padded to whole blocks with zeros; `None` if the batch is empty.
    pub fn seal(&mut self) -> Option<B> {
        let mut block = self.block.take()?;
        let padded = block_ceiling(self.used);
        block.as_mut()[self.used..padded].fill(0);
        block.truncate(padded);
        Some(block)
    }

    /// A ticket for what is in this batch.
    pub fn ticket(&self) -> Ticket {
        Ticket { fate: Rc::clone(&self.fate), slot: None }
    }
}

impl Fate {
    /// Tells all who wait. Only the first word counts.
    pub fn settle(&self, outcome: Result<(), AppendError>) {
        if self.outcome.get().is_none() {
            self.outcome.set(Some(outcome));
            for waker in self.wakers.take() {
                waker.wake();
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.fate.outcome.get() {
            return Poll::Ready(outcome);
        }
        let fate = Rc::clone(&self.fate);
        let mut wakers = fate.wakers.borrow_mut();
        match self.slot {
            Some(slot) => wakers[slot].clone_from(context.waker()),
            None => {
                self.slot = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}
