//! Payloads of a checkpoint (`FORMAT.md`, "Outcomes", "Held", "Checkpoint"): what older journals said, as far as it
//! still matters, in a few octets, so that they can go.

use super::journal_entry::Outcome;
use super::{Reader, Writer};
use crate::position::{SegmentId, ShardId, Stamp};

/// Final outcomes of consecutive units of one segment: half an octet a unit, 0 for none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcomes {
    /// The segment's directory.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The first unit, an even number.
    pub first: u32,
    /// Two units an octet, the lower one in the lower half.
    pub halves: Vec<u8>,
}

/// A unit that waits for the operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HeldUnit {
    /// The message.
    pub stamp: Stamp,
    /// The recipient.
    pub ordinal: u16,
    /// The SMTP reply code for which it is held; 0 for none.
    pub code: u16,
    /// Since when, in seconds since 1970.
    pub since_s: u32,
}

/// The end of a checkpoint. Facts of holding and releasing with a lower sequence than its own are restated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// What it says of each shard directory.
    pub directories: Vec<DirectoryRow>,
}

/// What the end of a checkpoint says of one shard directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryRow {
    /// The directory.
    pub shard: ShardId,
    /// The highest stamp that it was known to hold.
    pub last_stamp: Stamp,
    /// The first of its journals that still counts: those before it may be gone, and none from here on. `None` where an
    /// older program wrote.
    pub first_journal: Option<SegmentId>,
}

/// Units of one frame of outcomes.
const UNITS_A_FRAME: u32 = 1 << 20;

impl Outcomes {
    /// All outcomes of a segment, in as many parts as frames take.
    #[must_use]
    pub fn parts(shard: ShardId, segment: SegmentId, halves: &[u8]) -> Vec<Self> {
        let parts = (0..).zip(halves.chunks(UNITS_A_FRAME as usize / 2));
        let part = |(number, halves): (u32, &[u8])| Self {
            shard,
            segment,
            first: number * UNITS_A_FRAME,
            halves: halves.to_vec(),
        };
        parts.map(part).collect()
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.first.is_multiple_of(2), "an octet holds two units");
        let mut out = Vec::with_capacity(12 + self.halves.len());
        Writer(&mut out).u16(self.shard.0).u16(0).u32(self.segment.0).u32(self.first).octets(&self.halves);
        out
    }

    /// The outcomes in `payload`.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let shard = ShardId(reader.u16()?);
        reader.u16()?;
        let segment = SegmentId(reader.u32()?);
        let first = reader.u32()?;
        first.is_multiple_of(2).then(|| Self { shard, segment, first, halves: reader.rest().to_vec() })
    }

    /// Units that ended, each with its outcome.
    pub fn units(&self) -> impl Iterator<Item = (u32, Outcome)> {
        let halves = self.halves.iter().flat_map(|octet| [octet & 15, octet >> 4]);
        (self.first..).zip(halves).filter_map(|(unit, half)| Some((unit, final_outcome(half)?)))
    }
}

/// The half octet of a unit whose message a rewrite took along: it is counted where it went.
pub const MOVED: u8 = 15;

/// The half octet of a unit; 0 behind their end.
#[must_use]
pub fn half(halves: &[u8], unit: u32) -> u8 {
    let octet = halves.get(unit as usize / 2).copied().unwrap_or(0);
    if unit.is_multiple_of(2) { octet & 15 } else { octet >> 4 }
}

/// Sets the half octet of a unit.
pub fn set_half(halves: &mut Vec<u8>, unit: u32, half: u8) {
    let place = unit as usize / 2;
    if halves.len() <= place {
        halves.resize(place + 1, 0);
    }
    let shift = if unit.is_multiple_of(2) { 0 } else { 4 };
    halves[place] = halves[place] & !(15 << shift) | half << shift;
}

/// The final outcome that half an octet tells.
#[must_use]
pub fn final_outcome(half: u8) -> Option<Outcome> {
    Outcome::from_code(half).filter(|outcome| outcome.is_final())
}

const HELD_OCTETS: usize = 16;

impl HeldUnit {
    /// Appends the 16 octets of this unit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).u64(self.stamp.0).u16(self.ordinal).u16(self.code).u32(self.since_s);
    }

    /// All units of a payload.
    #[must_use]
    pub fn decode_all(payload: &[u8]) -> Option<Vec<Self>> {
        if !payload.len().is_multiple_of(HELD_OCTETS) {
            return None;
        }
        let decode = |entry: &[u8]| {
            let mut reader = Reader::new(entry);
            let stamp = Stamp(reader.u64()?);
            let (ordinal, code) = (reader.u16()?, reader.u16()?);
            Some(Self { stamp, ordinal, code, since_s: reader.u32()? })
        };
        payload.chunks_exact(HELD_OCTETS).map(decode).collect()
    }
}

impl Checkpoint {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for DirectoryRow { shard, last_stamp, first_journal } in &self.directories {
            let first = first_journal.map_or(0, |journal| journal.0);
            Writer(&mut out).u16(shard.0).u16(0).u32(first).u64(last_stamp.0);
        }
        out
    }

    /// The checkpoint in `payload`.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        if !payload.len().is_multiple_of(16) {
            return None;
        }
        let decode = |row: &[u8]| {
            let mut reader = Reader::new(row);
            let shard = ShardId(reader.u16()?);
            reader.u16()?;
            let first_journal = Some(SegmentId(reader.u32()?)).filter(|journal| journal.0 != 0);
            Some(DirectoryRow { shard, last_stamp: Stamp(reader.u64()?), first_journal })
        };
        Some(Self { directories: payload.chunks_exact(16).map(decode).collect::<Option<_>>()? })
    }
}
