//! A connection in memory.

use crate::shard::link::Link;
use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use storage::notify::Notify;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    octets: RefCell<VecDeque<u8>>,
    closed: Cell<bool>,
    changed: Notify,
    /// Octets that it holds at most; then who writes waits.
    capacity: Cell<Option<usize>>,
}

impl Pipe {
    fn take(&self, memory: &mut [u8]) -> usize {
        let mut octets = self.octets.borrow_mut();
        let count = memory.len().min(octets.len());
        memory[..count].iter_mut().zip(octets.drain(..count)).for_each(|(to, from)| *to = from);
        if count > 0 && self.capacity.get().is_some() {
            self.changed.notify_all();
        }
        count
    }
}

/// One end of a connection in memory.
pub(super) struct MemoryLink {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    /// Counts writes.
    pub(super) writes: Rc<Cell<u32>>,
}

impl MemoryLink {
    pub(super) fn pair() -> (Self, Self) {
        let (one, two) = (Rc::<Pipe>::default(), Rc::<Pipe>::default());
        let other = Self { incoming: Rc::clone(&two), outgoing: Rc::clone(&one), writes: Rc::default() };
        (Self { incoming: one, outgoing: two, writes: Rc::default() }, other)
    }
}

impl MemoryLink {
    /// Each direction holds no more than so many octets.
    pub(super) fn narrow(&self, capacity: usize) {
        self.incoming.capacity.set(Some(capacity));
        self.outgoing.capacity.set(Some(capacity));
    }
}

impl Link for MemoryLink {
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        loop {
            let changed = self.incoming.changed.wait();
            let count = self.incoming.take(memory);
            if count > 0 || self.incoming.closed.get() {
                return Ok(count);
            }
            changed.await;
        }
    }

    fn has_unread(&self) -> bool {
        !self.incoming.octets.borrow().is_empty()
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let pipe = &self.outgoing;
        loop {
            let changed = pipe.changed.wait();
            let room =
                pipe.capacity.get().map(|capacity| capacity.saturating_sub(pipe.octets.borrow().len()));
            let count = room.map_or(octets.len(), |room| room.min(octets.len()));
            if count > 0 || octets.is_empty() || pipe.closed.get() {
                pipe.octets.borrow_mut().extend(&octets[..count]);
                pipe.changed.notify_all();
                self.writes.set(self.writes.get() + 1);
                return Ok(if pipe.closed.get() { octets.len() } else { count });
            }
            changed.await;
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.outgoing.closed.set(true);
        self.outgoing.changed.notify_all();
        Ok(())
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.outgoing.closed.set(true);
        self.outgoing.changed.notify_all();
        // Nobody reads any more: who writes need not wait.
        self.incoming.closed.set(true);
        self.incoming.changed.notify_all();
    }
}
