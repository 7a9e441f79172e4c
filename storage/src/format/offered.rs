//! What was on its way to a primary (`FORMAT.md`, "Settlement"): told before the mail data can have left, so that a start knows of which
//! messages the outcome is not known (P4, RFC 1047). They stand among facts, in 16 octets, as outcomes that a program which does not know
//! them leaves out (H13): such a program offers the same messages again, and lists none.

use super::{Reader, Writer};
use crate::position::Stamp;

/// A message that is offered to the primary of one of its domains, or of which no outcome is open any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offered {
    /// The message.
    pub stamp: Stamp,
    /// The ordinal of its first recipient in that domain.
    pub first: u16,
    /// It may be with the primary. Else it is not, or its outcome is known: what was told before does not count.
    pub is_open: bool,
}

const CODE_AT: usize = 12;
const OPEN_CODE: u8 = 35;
const CLOSED_CODE: u8 = 36;

impl Offered {
    /// Octets of one.
    pub const OCTETS: usize = 16;

    /// Appends the 16 octets of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let code = if self.is_open { OPEN_CODE } else { CLOSED_CODE };
        Writer(out).u64(self.stamp.0).u16(self.first).zeros(2).u8(code).zeros(3);
    }

    /// Those in the payload of a settlement, in their order.
    pub fn decode_all(payload: &[u8]) -> impl Iterator<Item = Self> {
        payload.chunks_exact(Self::OCTETS).filter_map(|row| {
            let is_open = match row[CODE_AT] {
                OPEN_CODE => true,
                CLOSED_CODE => false,
                _ => return None,
            };
            let mut reader = Reader::new(row);
            Some(Self { stamp: Stamp(reader.u64()?), first: reader.u16()?, is_open })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::journal_entry::{Fact, Outcome};

    #[test]
    fn it_stands_among_facts_and_each_reads_its_own() {
        let fact = Fact { stamp: Stamp(7), ordinal: 1, outcome: Outcome::Delivered, code: 250 };
        let open = Offered { stamp: Stamp(0x0102_0304_0506_0708), first: 0x0a0b, is_open: true };
        let closed = Offered { stamp: Stamp(9), first: 0, is_open: false };
        let mut payload = Vec::new();
        open.encode(&mut payload);
        assert_eq!(
            payload,
            [8, 7, 6, 5, 4, 3, 2, 1, 0x0b, 0x0a, 0, 0, 35, 0, 0, 0],
            "the octets of FORMAT.md"
        );
        fact.encode(&mut payload);
        closed.encode(&mut payload);
        assert_eq!(Fact::decode_all(&payload), Some(vec![fact]));
        assert_eq!(Offered::decode_all(&payload).collect::<Vec<_>>(), [open, closed]);
        assert_eq!(Offered::decode_all(&payload[..47]).count(), 1, "half a row is none");
    }
}
