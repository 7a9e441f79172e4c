//! Payloads of settlements and voids (`FORMAT.md`, "Settlement", "Void"). The stamp of a journal's frame is the
//! sequence of the facts in it: hold and release take the highest.

use super::{Reader, Writer};
use crate::position::{SegmentId, Stamp};

/// What became of a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// A notice about it was made.
    Bounced,
    /// Its record is unreadable.
    Damaged,
    /// An operator removed it.
    Deleted,
    /// The primary took it.
    Delivered,
    /// Refused and, as configured, dropped.
    Discarded,
    /// Its retention ended.
    Expired,
    /// It waits for the operator: not an end.
    Held,
    /// An operator let it go on: not an end.
    Released,
}

/// All outcomes that end a unit, in the order of a tally's counts.
pub const FINAL_OUTCOMES: [Outcome; 6] = [
    Outcome::Bounced,
    Outcome::Damaged,
    Outcome::Deleted,
    Outcome::Delivered,
    Outcome::Discarded,
    Outcome::Expired,
];

impl Outcome {
    /// Whether the unit is settled by it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Held | Self::Released)
    }

    /// Its number on disk; a final one fits four bits.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Bounced => 2,
            Self::Discarded => 3,
            Self::Expired => 4,
            Self::Deleted => 5,
            Self::Damaged => 6,
            Self::Held => 16,
            Self::Released => 17,
        }
    }

    /// The counterpart of [`Self::code`].
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Delivered,
            2 => Self::Bounced,
            3 => Self::Discarded,
            4 => Self::Expired,
            5 => Self::Deleted,
            6 => Self::Damaged,
            16 => Self::Held,
            17 => Self::Released,
            _ => return None,
        })
    }
}

/// A fact about one unit: the message's stamp and the recipient's ordinal in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fact {
    /// The message.
    pub stamp: Stamp,
    /// The recipient.
    pub ordinal: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// The SMTP reply code that decided it; 0 for none.
    pub code: u16,
}

const FACT_OCTETS: usize = 16;

impl Fact {
    /// Appends the 16 octets of this fact.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).u64(self.stamp.0).u16(self.ordinal).u16(self.code).u8(self.outcome.code()).zeros(3);
    }

    /// All facts of a settlement payload; those of outcomes that a newer version added are left out.
    #[must_use]
    pub fn decode_all(payload: &[u8]) -> Option<Vec<Self>> {
        if !payload.len().is_multiple_of(FACT_OCTETS) {
            return None;
        }
        Some(payload.chunks_exact(FACT_OCTETS).filter_map(Self::decode).collect())
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(entry);
        let stamp = Stamp(reader.u64()?);
        let ordinal = reader.u16()?;
        let code = reader.u16()?;
        Some(Self { stamp, ordinal, code, outcome: Outcome::from_code(reader.u8()?)? })
    }
}

/// The payload of a void record: `from..to` of `segment` holds nothing that was acknowledged (H8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Void {
    /// The latched segment.
    pub segment: SegmentId,
    /// First octet of the failed batch.
    pub from: u64,
    /// End of the segment.
    pub to: u64,
}

impl Void {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Writer(&mut out).u32(self.segment.0).u32(0).u64(self.from).u64(self.to);
        out
    }

    /// The void in `payload`.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let segment = SegmentId(reader.u32()?);
        reader.u32()?;
        Some(Self { segment, from: reader.u64()?, to: reader.u64()? })
    }

    /// Whether a frame of `segment` at `offset` lies in the range.
    #[must_use]
    pub const fn covers(&self, segment: SegmentId, offset: u64) -> bool {
        self.segment.0 == segment.0 && self.from <= offset && offset < self.to
    }
}
