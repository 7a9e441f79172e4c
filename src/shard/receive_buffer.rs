//! The one receive buffer of a session: octets land in it and are looked at where they lie.
//!
//! `start <= fed <= filled`: before `fed` the session has looked; from `start` mail data is kept, which is
//! part of a message that is not complete. Its size is counted in the [`Budget`] of the shard. Ranges are only valid until the next call of [`ReceiveBuffer::space`].

use super::receiving::Budget;
use crate::limits::{
    INLINE_DATA_OCTETS, RECEIVE_OCTETS_KEPT, RECEIVE_OCTETS_MAX, RECEIVE_OCTETS_MIN, RECEIVE_OCTETS_PRESSED,
};
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    budget: Rc<Budget>,
    memory: Vec<u8>,
    /// Start and end of the mail data that is kept.
    kept: Option<(usize, usize)>,
    fed: usize,
    filled: usize,
    /// The last read left no room: there is more where it came from.
    was_filled: bool,
}

impl ReceiveBuffer {
    /// A small one, counted in `budget`.
    pub(super) fn new(budget: Rc<Budget>) -> Self {
        budget.change(0, RECEIVE_OCTETS_MIN);
        Self { budget, memory: vec![0; RECEIVE_OCTETS_MIN], kept: None, fed: 0, filled: 0, was_filled: false }
    }

    /// What the session has not looked at.
    #[must_use]
    pub(super) fn unfed(&self) -> &[u8] {
        &self.memory[self.fed..self.filled]
    }

    /// The session has looked at `octets` more.
    pub(super) fn feed(&mut self, octets: usize) {
        assert!(octets <= self.filled - self.fed);
        self.fed += octets;
    }

    /// Mail data at this range of [`Self::unfed`] is to be kept; ranges of one message are contiguous.
    pub(super) fn keep(&mut self, start: usize, end: usize) {
        let (start, end) = (self.fed + start, self.fed + end);
        assert!(end <= self.filled);
        match &mut self.kept {
            Some((_, kept_end)) => {
                assert_eq!(*kept_end, start, "mail data is contiguous");
                *kept_end = end;
            }
            None => self.kept = Some((start, end)),
        }
    }

    /// The mail data that is kept.
    #[must_use]
    pub(super) fn kept(&self) -> &[u8] {
        self.kept.map_or(&[], |(start, end)| &self.memory[start..end])
    }

    /// Nothing is kept any more.
    pub(super) fn drop_kept(&mut self) {
        self.kept = None;
    }

    /// All that was received and not looked at is gone.
    pub(super) fn drop_unfed(&mut self) {
        self.fed = self.filled;
    }

    /// Whether the data that is kept is to be spilled: there is enough of it, or no room for more.
    #[must_use]
    pub(super) fn wants_spill(&self) -> bool {
        let kept = self.kept().len();
        let may_be_stuck = (RECEIVE_OCTETS_PRESSED..RECEIVE_OCTETS_MAX).contains(&self.memory.len());
        let is_stuck = may_be_stuck && kept >= self.memory.len() / 2;
        kept >= INLINE_DATA_OCTETS || (is_stuck && self.grown() == self.memory.len())
    }

    /// Memory to read into, never empty as long as kept data is spilled when [`Self::wants_spill`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        let start = self.kept.map_or(self.fed, |(start, _)| start.min(self.fed));
        if start == self.filled {
            self.clear();
            self.was_filled = false;
        } else if start > 0 && self.filled + self.memory.len() / 4 > self.memory.len() {
            self.memory.copy_within(start..self.filled, 0);
            self.fed -= start;
            self.filled -= start;
            self.kept = self.kept.map(|(from, to)| (from - start, to - start));
        }
        if self.filled + self.memory.len() / 4 > self.memory.len() {
            self.resize(self.grown());
        }
        &mut self.memory[self.filled..]
    }

    /// `octets` were read into [`Self::space`].
    pub(super) fn fill(&mut self, octets: usize) {
        assert!(octets <= self.memory.len() - self.filled);
        self.filled += octets;
        self.was_filled = self.filled == self.memory.len();
    }

    fn resize(&mut self, octets: usize) {
        self.budget.change(self.memory.len(), octets);
        self.memory.resize(octets, 0);
    }

    /// What it would grow to.
    fn grown(&self) -> usize {
        let octets = (self.memory.len() * 4).min(RECEIVE_OCTETS_MAX);
        let may_grow = octets <= RECEIVE_OCTETS_PRESSED || self.budget.has_room(octets - self.memory.len());
        if may_grow { octets } else { self.memory.len() }
    }

    fn clear(&mut self) {
        self.fed = 0;
        self.filled = 0;
        self.kept = None;
        if self.was_filled {
            // What is looked at at once, as chunks of BDAT are, needs no room to stay, but long reads.
            self.resize(self.grown().min(RECEIVE_OCTETS_PRESSED).max(self.memory.len()));
        } else if self.memory.len() > RECEIVE_OCTETS_KEPT {
            self.budget.change(self.memory.len(), RECEIVE_OCTETS_MIN);
            self.memory = vec![0; RECEIVE_OCTETS_MIN];
        }
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        self.budget.change(self.memory.len(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut ReceiveBuffer, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let space = buffer.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            buffer.fill(count);
            rest = &rest[count..];
        }
    }

    #[test]
    fn a_message_up_to_the_bound_stays_whole_where_memory_is_not_short() {
        let mut buffer = ReceiveBuffer::new(Rc::default());
        for part in vec![b'x'; INLINE_DATA_OCTETS - 1].chunks(60_000) {
            read(&mut buffer, part);
            buffer.keep(0, part.len());
            buffer.feed(part.len());
            assert!(!buffer.wants_spill(), "{} octets", buffer.kept().len());
        }
        read(&mut buffer, b"x");
        buffer.keep(0, 1);
        buffer.feed(1);
        assert!(buffer.wants_spill());
    }

    #[test]
    fn what_is_looked_at_at_once_is_read_in_larger_pieces_while_there_is_more() {
        let mut buffer = ReceiveBuffer::new(Rc::default());
        let mut room = 0;
        for _ in 0..4 {
            room = buffer.space().len();
            buffer.fill(room);
            buffer.feed(room);
        }
        assert_eq!(room, RECEIVE_OCTETS_PRESSED);
        buffer.space();
        buffer.fill(1);
        buffer.feed(1);
        assert_eq!(buffer.space().len(), RECEIVE_OCTETS_MIN, "it was the last");
    }

    #[test]
    fn kept_data_survives_moves_and_growth() {
        let mut buffer = ReceiveBuffer::new(Rc::default());
        read(&mut buffer, b"DATA\r\n");
        buffer.feed(6);
        let data: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        for part in data.chunks(777) {
            read(&mut buffer, part);
            buffer.keep(0, part.len());
            buffer.feed(part.len());
        }
        assert_eq!(buffer.kept(), data);
        read(&mut buffer, b".\r\nQUIT\r\n");
        buffer.feed(3);
        assert_eq!(buffer.unfed(), b"QUIT\r\n");
        assert_eq!(buffer.kept(), data);
        buffer.drop_kept();
        buffer.feed(6);
        assert_eq!(buffer.space().len(), RECEIVE_OCTETS_MIN, "a large buffer is given back");
    }

    #[test]
    fn p7_without_memory_a_message_passes_in_smaller_chunks() {
        let budget = Rc::new(Budget::new(100 * 1024));
        let mut buffers: Vec<_> = (0..2).map(|_| ReceiveBuffer::new(Rc::clone(&budget))).collect();
        let data: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut spilled = [Vec::new(), Vec::new()];
        for part in data.chunks(997) {
            for (buffer, spilled) in buffers.iter_mut().zip(&mut spilled) {
                read(buffer, part);
                buffer.keep(0, part.len());
                buffer.feed(part.len());
                if buffer.wants_spill() {
                    assert!(buffer.kept().len() <= RECEIVE_OCTETS_PRESSED);
                    spilled.extend_from_slice(buffer.kept());
                    buffer.drop_kept();
                }
            }
            // Two may have what each may always have, and no more.
            assert!(budget.has_room(0) || !budget.has_room(2 * RECEIVE_OCTETS_PRESSED));
        }
        for (buffer, spilled) in buffers.iter().zip(&mut spilled) {
            spilled.extend_from_slice(buffer.kept());
            assert_eq!(*spilled, data);
        }
        assert!(budget.is_short());
        drop(buffers);
        assert!(budget.has_room(100 * 1024) && !budget.is_short(), "all is given back");
    }
}
