//! What a session still has to write: commands that it made, and bodies that are only pointed at.
//!
//! Everything leaves by one vectored write where the socket takes it. A limit serves the senders who drip.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::body::Body;

/// Pieces that one write carries at most.
const PIECES_MAX: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Octets of the first piece that have left.
    sent: usize,
    octets: usize,
}

#[derive(Debug)]
enum Piece {
    Octets(Vec<u8>),
    Body { body: Body, stuffed: bool, octets: usize },
}

impl Piece {
    fn octets(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Body { octets, .. } => *octets,
        }
    }
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// Octets that are to leave, behind those that are there.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.octets += octets.len();
        match self.pieces.back_mut() {
            Some(Piece::Octets(last)) => last.extend_from_slice(octets),
            _ => self.pieces.push_back(Piece::Octets(octets.to_vec())),
        }
    }

    /// A body, as DATA has it or as BDAT has it.
    pub(crate) fn push_body(&mut self, body: &Body, stuffed: bool) {
        let octets = body.pieces(stuffed).map(<[u8]>::len).sum();
        if octets > 0 {
            self.octets += octets;
            self.pieces.push_back(Piece::Body { body: body.clone(), stuffed, octets });
        }
    }

    /// Nothing of it is to be sent any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the next octets, at most `limit`, to `write`, which tells how many left.
    pub(crate) fn write<E>(
        &mut self,
        limit: usize,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let (mut count, mut skip, mut left) = (0, self.sent, limit);
        for octets in self.pieces.iter().flat_map(Piece::slices) {
            if count == PIECES_MAX || left == 0 {
                break;
            }
            let start = skip.min(octets.len());
            skip -= start;
            let rest = &octets[start..];
            let rest = &rest[..rest.len().min(left)];
            if !rest.is_empty() {
                slices[count] = IoSlice::new(rest);
                left -= rest.len();
                count += 1;
            }
        }
        let written = write(&slices[..count])?;
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, octets: usize) {
        self.octets -= octets;
        self.sent += octets;
        while let Some(first) = self.pieces.front()
            && self.sent >= first.octets()
        {
            self.sent -= first.octets();
            self.pieces.pop_front();
        }
    }
}

impl Piece {
    fn slices(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Octets(octets) => Box::new(core::iter::once(&octets[..])),
            Self::Body { body, stuffed, .. } => Box::new(body.pieces(*stuffed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Texts;

    #[test]
    fn all_octets_leave_once_and_in_order_whatever_a_write_takes() {
        let texts = Texts::new(1, 2_000);
        for step in [1, 7, 500, 1_000_000] {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for number in 0..12 {
                let body = texts.body(number, 1_000 * usize::try_from(number).unwrap());
                outbox.push(b"DATA\r\n");
                outbox.push_body(&body, true);
                outbox.push(b".");
                outbox.push(b"\r\n");
                expected.extend_from_slice(b"DATA\r\n");
                expected.extend(body.pieces(true).flatten());
                expected.extend_from_slice(b".\r\n");
            }
            let mut left = Vec::new();
            while !outbox.is_empty() {
                let take = |slices: &[IoSlice<'_>]| {
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                    let taken = all.len().min(step);
                    left.extend_from_slice(&all[..taken]);
                    assert!(taken > 0);
                    Ok::<usize, ()>(taken)
                };
                outbox.write(usize::MAX, take).unwrap();
            }
            assert!(left == expected, "steps of {step}");
            assert!(outbox.pieces.is_empty());
        }
    }

    #[test]
    fn a_limit_is_kept() {
        let mut outbox = Outbox::default();
        outbox.push_body(&Texts::new(1, 9_000).body(0, 9_000), false);
        let written =
            outbox.write(100, |slices| Ok::<usize, ()>(slices.iter().map(|slice| slice.len()).sum()));
        assert_eq!(written, Ok(100));
    }
}
