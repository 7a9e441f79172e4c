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
}

impl Pipe {
    fn take(&self, memory: &mut [u8]) -> usize {
        let mut octets = self.octets.borrow_mut();
        let count = memory.len().min(octets.len());
        memory[..count].iter_mut().zip(octets.drain(..count)).for_each(|(to, from)| *to = from);
        count
    }
}

/// One end of a connection in memory.
pub(super) struct MemoryLink {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
}

impl MemoryLink {
    pub(super) fn pair() -> (Self, Self) {
        let (one, two) = (Rc::<Pipe>::default(), Rc::<Pipe>::default());
        let other = Self { incoming: Rc::clone(&two), outgoing: Rc::clone(&one) };
        (Self { incoming: one, outgoing: two }, other)
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
        self.outgoing.octets.borrow_mut().extend(octets);
        self.outgoing.changed.notify_all();
        Ok(octets.len())
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
    }
}
