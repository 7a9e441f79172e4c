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
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// The segment of the same shard and purpose that was made before it: the chain that tells a lost file from
    /// a number that was never used. `None` for the first.
    pub previous: Option<SegmentId>,
    /// The key of its mail, and how to tell that it is that key; `None` if it is not encrypted.
    pub key: Option<KeyMark>,
    /// The segments that a rewrite copied its messages from; none in a segment that took new mail.
    pub sources: Vec<SegmentId>,
    /// Further segments of the same shard and purpose that were made before it, and that no other header names: a rewrite
    /// beside the mail that comes makes two at a time.
    pub others: Vec<SegmentId>,
}

/// Which key encrypts a segment, without telling it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyMark {
    /// Its number in the key file, never 0.
    pub key_id: u32,
    /// Derived from the key: another key under the same number is noticed before anything is read with it.
    pub check: [u8; 16],
}

/// Most segments that one rewrite takes up: what fits behind the fields of a header.
pub const SOURCES_MAX: usize = 512;
/// Most further segments that one header names: what fits behind the sources.
pub const OTHERS_MAX: usize = 480;

const _: () = assert!(FIELDS_OCTETS + 4 * (SOURCES_MAX + OTHERS_MAX) <= CHECKSUM_AT);

/// Why a header is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// Not a header, or damaged.
    Damaged,
    /// Of a version that this program does not read: a newer one, or one that was never released.
    Newer(u16),
}

/// The format's version.
pub const VERSION: u16 = 2;
const MAGIC: &[u8; 8] = b"STRATAMX";
const CHECKSUM_AT: usize = BLOCK_OCTETS - 4;
const FIELDS_OCTETS: usize = 112;

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
        let key = self.key.unwrap_or(KeyMark { key_id: 0, check: [0; 16] });
        writer.u32(key.key_id).u32(self.previous.map_or(0, |previous| previous.0)).octets(&key.check);
        assert!(self.sources.len() <= SOURCES_MAX);
        assert!(self.others.len() <= OTHERS_MAX);
        for named in [&self.sources, &self.others] {
            writer.u32(u32::try_from(named.len()).expect("asserted"));
        }
        for named in self.sources.iter().chain(&self.others) {
            writer.u32(named.0);
        }
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
        if version != VERSION {
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
        let mut header = Self {
            purpose,
            segment,
            shard,
            store: StoreId(reader.array()?),
            salt: Salt(reader.array()?),
            size: reader.u64()?,
            created: UnixMillis(reader.u64()?),
            stamp_floor: Stamp(reader.u64()?),
            previous: None,
            key: None,
            sources: Vec::new(),
            others: Vec::new(),
        };
        let key_id = reader.u32()?;
        header.previous = Some(SegmentId(reader.u32()?)).filter(|previous| previous.0 != 0);
        let check = reader.array()?;
        header.key = (key_id != 0).then_some(KeyMark { key_id, check });
        let (sources, others) = (reader.u32()? as usize, reader.u32()? as usize);
        if sources > SOURCES_MAX || others > OTHERS_MAX {
            return None;
        }
        for _ in 0..sources {
            header.sources.push(SegmentId(reader.u32()?));
        }
        for _ in 0..others {
            header.others.push(SegmentId(reader.u32()?));
        }
        Some(Ok(header))
    }

    /// All segments of the same shard and purpose that it says were made before it.
    pub fn before(&self) -> impl Iterator<Item = SegmentId> {
        self.previous.into_iter().chain(self.others.iter().copied())
    }
}
