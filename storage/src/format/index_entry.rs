//! A message's units in one domain: an entry of the index, and what replay keeps in memory for each queued message.
//!
//! 32 octets in memory, as on disk, at a million queued messages. So the two sizes share one word: the frame's in units of
//! its alignment, which is exact, and that of the chunks in blocks as a small floating number, rounded up.

use super::frame::{FRAME_ALIGNMENT, FRAME_OCTETS_MAX, frame_octets};
use super::{BLOCK_OCTETS, Reader, Writer};
use crate::position::{Offset, SegmentId, Stamp};
use core::mem::size_of;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexEntry {
    /// Order.
    pub stamp: Stamp,
    /// Octets of frame and chunks: [`FRAME_BITS`] bits in units of 8, [`CHUNK_BITS`] bits as [`pack_blocks`] has them.
    sizes: u32,
    /// Its segment.
    pub segment: SegmentId,
    /// The frame's offset in units of [`FRAME_ALIGNMENT`].
    offset_in_eights: u32,
    /// When it was received, seconds since 1970.
    pub received_s: u32,
    /// Number of the message's first unit among the units of its segment.
    pub unit_base: u32,
    /// First ordinal of this domain.
    pub first: u16,
    /// Units of this domain.
    pub count: u16,
}

/// Octets of an entry on disk.
pub const ENTRY_OCTETS: usize = 32;
const _: () = assert!(size_of::<IndexEntry>() == ENTRY_OCTETS);

/// Bits of a frame's size: 1 MiB in units of 8 takes 18.
const FRAME_BITS: u32 = 18;
const FRAME_MASK: u32 = (1 << FRAME_BITS) - 1;
const _: () = assert!(FRAME_OCTETS_MAX / FRAME_ALIGNMENT <= FRAME_MASK as usize);

/// What is left for the chunks: 4 bits of exponent, 10 of mantissa.
const CHUNK_BITS: u32 = u32::BITS - FRAME_BITS;
const MANTISSA_BITS: u32 = 10;
const MANTISSA_MASK: u32 = (1 << MANTISSA_BITS) - 1;
const EXPONENT_MAX: u32 = (1 << (CHUNK_BITS - MANTISSA_BITS)) - 1;

impl IndexEntry {
    /// An entry for the frame at `offset`, of a message without chunks.
    ///
    /// # Panics
    /// If `offset` or `frame_octets` is not aligned, the offset beyond 32 GiB or the frame longer than a batch: no
    /// segment holds such a frame.
    #[must_use]
    pub fn new(stamp: Stamp, segment: SegmentId, offset: Offset, frame_octets: u32) -> Self {
        assert!(offset.0.is_multiple_of(FRAME_ALIGNMENT as u64));
        let offset_in_eights =
            u32::try_from(offset.0 / FRAME_ALIGNMENT as u64).expect("segments are below 32 GiB");
        Self {
            stamp,
            sizes: pack_frame(frame_octets).expect("frames are aligned and fit a batch"),
            segment,
            offset_in_eights,
            received_s: 0,
            unit_base: 0,
            first: 0,
            count: 0,
        }
    }

    /// The same entry, of a message whose chunks take `octets` on disk.
    #[must_use]
    pub fn with_chunks(mut self, octets: u64) -> Self {
        let blocks = octets.div_ceil(BLOCK_OCTETS as u64);
        self.sizes = self.sizes & FRAME_MASK | pack_blocks(blocks) << FRAME_BITS;
        self
    }

    /// The numbers of its units among those of its segment.
    #[must_use]
    pub fn units(&self) -> core::ops::Range<u32> {
        let first = self.unit_base + u32::from(self.first);
        first..first + u32::from(self.count)
    }

    /// Where the frame is.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        Offset(self.offset_in_eights as u64 * FRAME_ALIGNMENT as u64)
    }

    /// Octets of the frame with header and padding.
    #[must_use]
    pub const fn frame_octets(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the alignment is 8")]
        let unit = FRAME_ALIGNMENT as u32;
        (self.sizes & FRAME_MASK) * unit
    }

    /// Octets that the message takes on disk over all segments, chunks included: exact without chunks, else rounded up by less
    /// than a block, and above 4 MiB by less than a fifth of a percent. A message is counted so in each of its domains.
    #[must_use]
    pub const fn stored_octets(&self) -> u64 {
        self.frame_octets() as u64 + self.chunk_blocks() as u64 * BLOCK_OCTETS as u64
    }

    const fn chunk_blocks(&self) -> u32 {
        unpack_blocks(self.sizes >> FRAME_BITS)
    }

    /// Appends the entry as it stands in the index; the segment is that of the file.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.u64(self.stamp.0).u32(self.offset_in_eights).u32(self.frame_octets());
        writer.u32(self.received_s).u32(self.unit_base).u16(self.first).u16(self.count);
        writer.u32(self.chunk_blocks());
    }

    /// The next entry of an index of `segment`; `None` if it is cut off or no such frame can be.
    pub fn decode(reader: &mut Reader<'_>, segment: SegmentId) -> Option<Self> {
        let stamp = Stamp(reader.u64()?);
        let offset_in_eights = reader.u32()?;
        let frame = pack_frame(reader.u32()?)?;
        Some(Self {
            stamp,
            segment,
            offset_in_eights,
            received_s: reader.u32()?,
            unit_base: reader.u32()?,
            first: reader.u16()?,
            count: reader.u16()?,
            sizes: frame | pack_blocks(reader.u32()?.into()) << FRAME_BITS,
        })
    }
}

/// Octets that a chunk with `octets` of data takes in its segment.
#[must_use]
pub const fn chunk_octets(octets: u32) -> u64 {
    frame_octets(octets as usize) as u64
}

fn pack_frame(octets: u32) -> Option<u32> {
    let unit = u32::try_from(FRAME_ALIGNMENT).ok()?;
    (octets.is_multiple_of(unit) && octets / unit <= FRAME_MASK).then_some(octets / unit)
}

/// The smallest number of the form `mantissa << exponent` that is at least `blocks`, or the largest one there is (128 GiB).
fn pack_blocks(blocks: u64) -> u32 {
    for exponent in 0..=EXPONENT_MAX {
        let mantissa = blocks.div_ceil(1 << exponent);
        if let Ok(mantissa) = u32::try_from(mantissa)
            && mantissa <= MANTISSA_MASK
        {
            return exponent << MANTISSA_BITS | mantissa;
        }
    }
    EXPONENT_MAX << MANTISSA_BITS | MANTISSA_MASK
}

const fn unpack_blocks(packed: u32) -> u32 {
    (packed & MANTISSA_MASK) << (packed >> MANTISSA_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_OCTETS as u64;

    fn entry(frame_octets: u32) -> IndexEntry {
        IndexEntry::new(Stamp(1), SegmentId(1), Offset(4096), frame_octets)
    }

    #[test]
    fn both_sizes_fit_one_word() {
        let table = [
            (0, 0),
            (1, BLOCK),
            (BLOCK, BLOCK),
            (BLOCK + 1, 2 * BLOCK),
            (1023 * BLOCK, 1023 * BLOCK),
            (1023 * BLOCK + 1, 1024 * BLOCK),
            (1024 * BLOCK + 1, 1026 * BLOCK),
            (u64::MAX, (1023 << 15) * BLOCK),
        ];
        for frame in [64, 1 << 20] {
            for (chunks, expected) in table {
                let entry = entry(frame).with_chunks(chunks);
                assert_eq!(entry.frame_octets(), frame);
                assert_eq!(entry.stored_octets(), u64::from(frame) + expected, "{chunks}");
            }
        }
    }

    #[test]
    fn sizes_are_rounded_up_by_little_and_come_back_from_disk() {
        let mut octets = 1;
        while octets < 100 << 30 {
            let entry = entry(4096).with_chunks(octets);
            let stored = entry.stored_octets() - 4096;
            assert!(stored >= octets, "{octets}");
            assert!(stored - octets < BLOCK.max(octets / 511), "{octets}: {stored}");
            let mut disk = Vec::new();
            entry.encode(&mut disk);
            assert_eq!(disk.len(), ENTRY_OCTETS);
            assert_eq!(IndexEntry::decode(&mut Reader::new(&disk), SegmentId(1)), Some(entry));
            octets = octets * 9 / 7 + 1;
        }
    }

    #[test]
    fn an_impossible_frame_is_refused() {
        let mut disk = Vec::new();
        entry(64).encode(&mut disk);
        for octets in [65_u32, (FRAME_MASK + 1) * 8] {
            disk[12..16].copy_from_slice(&octets.to_le_bytes());
            assert_eq!(IndexEntry::decode(&mut Reader::new(&disk), SegmentId(1)), None);
        }
    }
}
