//! The file `store`: the identity of a data directory (`FORMAT.md`, "Store file"). Two slots of a block each,
//! written in turns, so that a torn write leaves the other one.

use super::{BLOCK_OCTETS, Reader, Writer, checksum};
use crate::position::{SegmentId, Stamp, StoreId};

/// What the store remembers apart from its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreFile {
    /// Counts the writes of this file; the higher slot is the truth.
    pub sequence: u64,
    /// Random, for life.
    pub store: StoreId,
    /// Counts the starts; part of every queue id.
    pub incarnation: u64,
    /// No stamp at or above this was ever used (H1): persisted ahead of use.
    pub stamp_ceiling: Stamp,
    /// No segment, of whatever directory and purpose, ever had this number or a higher one: persisted ahead of use. A start that
    /// cannot read what its journals say of segments that are gone goes on from here. 0 where an older program wrote.
    pub number_ceiling: SegmentId,
    /// Shard directories that must exist: all that ever did (H2).
    pub shards: u16,
}

/// Octets of the file.
pub const STORE_FILE_OCTETS: usize = 2 * BLOCK_OCTETS;
const MAGIC: &[u8; 8] = b"SMXSTORE";
const VERSION: u16 = 1;
const FIELDS_OCTETS: usize = 60;

impl StoreFile {
    /// One slot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_OCTETS);
        let mut writer = Writer(&mut block);
        writer.octets(MAGIC).u16(VERSION).u16(self.shards).u64(self.sequence).octets(&self.store.0);
        writer.u64(self.incarnation).u64(self.stamp_ceiling.0).u32(self.number_ceiling.0).zeros(4);
        assert_eq!(block.len(), FIELDS_OCTETS);
        let checksum = checksum::plain(&block);
        Writer(&mut block).u32(checksum);
        block.resize(BLOCK_OCTETS, 0);
        block
    }

    /// The offset of the slot that this state belongs into.
    #[must_use]
    pub const fn slot(&self) -> u64 {
        (self.sequence % 2) * BLOCK_OCTETS as u64
    }

    /// The newest readable slot of the file.
    #[must_use]
    pub fn decode(file: &[u8]) -> Option<Self> {
        file.chunks(BLOCK_OCTETS).take(2).filter_map(Self::decode_slot).max_by_key(|slot| slot.sequence)
    }

    /// The version of a slot that a newer program wrote, if there is one. The other slot, though readable, may
    /// then remember a ceiling that was passed.
    #[must_use]
    pub fn newer(file: &[u8]) -> Option<u16> {
        let slots = file.chunks(BLOCK_OCTETS).take(2).filter_map(checked);
        slots.map(|(version, _)| version).filter(|version| *version > VERSION).max()
    }

    fn decode_slot(block: &[u8]) -> Option<Self> {
        let (version, mut reader) = checked(block)?;
        if version > VERSION {
            return None;
        }
        let shards = reader.u16()?;
        Some(Self {
            shards,
            sequence: reader.u64()?,
            store: StoreId(reader.array()?),
            incarnation: reader.u64()?,
            stamp_ceiling: Stamp(reader.u64()?),
            number_ceiling: SegmentId(reader.u32()?),
        })
    }
}

/// The version of a slot whose checksum holds, and the fields behind it.
fn checked(block: &[u8]) -> Option<(u16, Reader<'_>)> {
    let (fields, rest) = block.split_at_checked(FIELDS_OCTETS)?;
    if rest.get(..4)? != checksum::plain(fields).to_le_bytes() {
        return None;
    }
    let mut reader = Reader::new(fields);
    if reader.take(MAGIC.len())? != MAGIC {
        return None;
    }
    Some((reader.u16()?, reader))
}
