//! The first block of a segment or journal file (`FORMAT.md`, "Segment header").

use super::{BLOCK_OCTETS, BLOCK_OCTETS_U32, Reader, Writer, checksum};
use crate::position::{Salt, SegmentId, ShardId, Stamp, StoreId, UnixMillis};

/// What a file of frames is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Messages, chunks and voids.
    Mail,
    /// Settlements and tallies.
    Journal,
}

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// What the file holds.
    pub purpose: Purpose,
    /// Its number.
    pub segment: SegmentId,
    /// The shard that wrote it.
    pub shard: ShardId,
    /// The store that it belongs to.
    pub store: StoreId,
    /// The salt of its checksums.
    pub salt: Salt,
    /// Preallocated size in octets, this block included.
    pub size: u64,
    /// When it was made.
    pub created: UnixMillis,
    /// Every stamp in it is at least this.
    pub stamp_floor: Stamp,
}

/// Why a header is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// Not a header, or damaged.
    Damaged,
    /// Written by a newer version.
    Newer(u16),
}

/// The format's version.
pub const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"STRATAMX";
const CHECKSUM_AT: usize = BLOCK_OCTETS - 4;

impl SegmentHeader {
    /// One block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_OCTETS);
        let purpose = match self.purpose {
            Purpose::Mail => 1,
            Purpose::Journal => 2,
        };
        let mut writer = Writer(&mut block);
        writer.octets(MAGIC).u16(VERSION).u16(purpose).u32(BLOCK_OCTETS_U32);
        writer.u32(self.segment.0).u16(self.shard.0).u16(0);
        writer.octets(&self.store.0).octets(&self.salt.0);
        writer.u64(self.size).u64(self.created.0).u64(self.stamp_floor.0);
        block.resize(CHECKSUM_AT, 0);
        let checksum = checksum::plain(&block);
        Writer(&mut block).u32(checksum);
        assert_eq!(block.len(), BLOCK_OCTETS);
        block
    }

    /// The header in `block`.
    pub fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        let block = block.get(..BLOCK_OCTETS).ok_or(HeaderError::Damaged)?;
        let mut reader = Reader::new(block);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(HeaderError::Damaged);
        }
        let (body, stored) = block.split_at(CHECKSUM_AT);
        if checksum::plain(body).to_le_bytes() != stored {
            return Err(HeaderError::Damaged);
        }
        Self::decode_fields(&mut reader).ok_or(HeaderError::Damaged)?
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Result<Self, HeaderError>> {
        let version = reader.u16()?;
        if version > VERSION {
            return Some(Err(HeaderError::Newer(version)));
        }
        let purpose = match reader.u16()? {
            1 => Purpose::Mail,
            2 => Purpose::Journal,
            _ => return None,
        };
        if reader.u32()? as usize != BLOCK_OCTETS {
            return None;
        }
        let segment = SegmentId(reader.u32()?);
        let shard = ShardId(reader.u16()?);
        reader.u16()?;
        Some(Ok(Self {
            purpose,
            segment,
            shard,
            store: StoreId(reader.array()?),
            salt: Salt(reader.array()?),
            size: reader.u64()?,
            created: UnixMillis(reader.u64()?),
            stamp_floor: Stamp(reader.u64()?),
        }))
    }
}
