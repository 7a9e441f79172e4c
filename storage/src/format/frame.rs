//! Frames: the 64-octet header in front of every payload (`FORMAT.md`, "Frame").
//!
//! A frame starts at a multiple of [`FRAME_ALIGNMENT`]. Its header and its payload have a checksum each, both
//! seeded with the segment's salt, the segment's id and the frame's offset, so that a damaged payload still
//! leaves a readable header: what was lost can be named.

use super::{Reader, checksum::Seed};
use crate::position::{Offset, QueueId, Stamp, UnixMillis};

/// What a payload is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrameKind {
    /// A message: envelope, trace field and mail data, or the close of chunks.
    Message,
    /// A part of a large message's mail data; without a stamp.
    Chunk,
    /// A range of an earlier segment whose frames were never acknowledged (H8).
    Void,
    /// Facts about units.
    Settlement,
    /// What an unlinked segment held and how it ended, or a part of that.
    Tally,
    /// Outcomes of the units of one segment, restated by a checkpoint.
    Outcomes,
    /// The sum of many tallies, restated by a checkpoint.
    Ledger,
    /// Units that are held, restated by a checkpoint.
    Held,
    /// The end of a checkpoint: what it restated is complete.
    Checkpoint,
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The payload's kind.
    pub kind: FrameKind,
    /// Octets of payload.
    pub payload_length: u32,
    /// Order of a message, or of a fact; [`Stamp::NONE`] on chunks.
    pub stamp: Stamp,
    /// When it was received, by the wall clock; a field apart from the stamp (H5).
    pub received: UnixMillis,
    /// The message that it belongs to; 0 outside mail.
    pub queue_id: QueueId,
    /// What the writer knew to be durable in this segment when it wrote this: a gap below is damage, a gap
    /// above is a batch that a crash tore.
    pub durable_before: Offset,
    /// Seeded CRC32 of the payload.
    pub payload_checksum: u32,
    /// The key that the payload is encrypted with, or [`PLAIN`].
    pub key_id: u32,
    /// Of a message: the number of its first unit among the units of its segment; else 0. It stands here so that
    /// a scan that lost a record still numbers the others rightly.
    pub unit_base: u32,
}

/// Octets of a frame header.
pub const FRAME_HEADER_OCTETS: usize = 64;
/// Frames start at multiples of this.
pub const FRAME_ALIGNMENT: usize = 8;
/// Octets of a frame with its padding at most.
pub const FRAME_OCTETS_MAX: usize = 1 << 20;
/// The first four octets of a frame.
pub const FRAME_MAGIC: &[u8; 4] = b"SMXF";

/// A header whose other fields are those of a record of `kind`; the log fills in the rest.
#[must_use]
pub const fn blank_header(
    kind: FrameKind,
    stamp: Stamp,
    received: UnixMillis,
    queue_id: QueueId,
) -> FrameHeader {
    FrameHeader {
        kind,
        payload_length: 0,
        stamp,
        received,
        queue_id,
        durable_before: Offset(0),
        payload_checksum: 0,
        key_id: PLAIN,
        unit_base: 0,
    }
}

/// The key id of a payload that is not encrypted.
pub const PLAIN: u32 = 0;

const CHECKSUM_START: usize = 8;
const ENCODING: u8 = 1;
const _: () = assert!(FRAME_HEADER_OCTETS.is_multiple_of(FRAME_ALIGNMENT));

/// Octets that a frame with `payload_length` takes in the log, its padding included.
#[must_use]
pub const fn frame_octets(payload_length: usize) -> usize {
    (FRAME_HEADER_OCTETS + payload_length).next_multiple_of(FRAME_ALIGNMENT)
}

impl FrameKind {
    /// Its number on disk.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Chunk => 2,
            Self::Void => 3,
            Self::Settlement => 4,
            Self::Tally => 5,
            Self::Outcomes => 6,
            Self::Ledger => 7,
            Self::Held => 8,
            Self::Checkpoint => 9,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Message),
            2 => Some(Self::Chunk),
            3 => Some(Self::Void),
            4 => Some(Self::Settlement),
            5 => Some(Self::Tally),
            6 => Some(Self::Outcomes),
            7 => Some(Self::Ledger),
            8 => Some(Self::Held),
            9 => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

impl FrameHeader {
    /// The header of a frame at `offset`.
    #[must_use]
    pub fn encode(&self, seed: &Seed, offset: Offset) -> [u8; FRAME_HEADER_OCTETS] {
        let mut octets = [0_u8; FRAME_HEADER_OCTETS];
        octets[..4].copy_from_slice(FRAME_MAGIC);
        octets[8] = self.kind.code();
        octets[9] = ENCODING;
        octets[12..16].copy_from_slice(&self.payload_length.to_le_bytes());
        octets[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        octets[24..32].copy_from_slice(&self.received.0.to_le_bytes());
        octets[32..40].copy_from_slice(&self.queue_id.0.to_le_bytes());
        octets[40..48].copy_from_slice(&self.durable_before.0.to_le_bytes());
        octets[48..52].copy_from_slice(&self.payload_checksum.to_le_bytes());
        octets[52..56].copy_from_slice(&self.key_id.to_le_bytes());
        octets[56..60].copy_from_slice(&self.unit_base.to_le_bytes());
        let mut hasher = seed.hasher(offset);
        hasher.update(&octets[CHECKSUM_START..]);
        octets[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
        octets
    }

    /// The header at the start of `octets`, if these are a frame of this segment at this offset.
    #[must_use]
    pub fn decode(octets: &[u8], seed: &Seed, offset: Offset) -> Option<Self> {
        let octets = octets.get(..FRAME_HEADER_OCTETS)?;
        let mut reader = Reader::new(octets);
        if reader.take(FRAME_MAGIC.len())? != FRAME_MAGIC {
            return None;
        }
        let stored = reader.u32()?;
        let mut hasher = seed.hasher(offset);
        hasher.update(&octets[CHECKSUM_START..]);
        if hasher.finalize() != stored {
            return None;
        }
        let kind = FrameKind::from_code(reader.u8()?)?;
        if reader.u8()? != ENCODING {
            return None;
        }
        reader.take(2)?;
        let payload_length = reader.u32()?;
        if frame_octets(payload_length as usize) > FRAME_OCTETS_MAX {
            return None;
        }
        Some(Self {
            kind,
            payload_length,
            stamp: Stamp(reader.u64()?),
            received: UnixMillis(reader.u64()?),
            queue_id: QueueId(reader.u64()?),
            durable_before: Offset(reader.u64()?),
            payload_checksum: reader.u32()?,
            key_id: reader.u32()?,
            unit_base: reader.u32()?,
        })
    }

    /// Whether `payload` is what was written behind this header at `offset`, encrypted or not.
    #[must_use]
    pub fn matches(&self, payload: &[u8], seed: &Seed, offset: Offset) -> bool {
        let mut hasher = seed.hasher(offset);
        hasher.update(payload);
        payload.len() == self.payload_length as usize && hasher.finalize() == self.payload_checksum
    }
}
