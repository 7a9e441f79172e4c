//! Recovery of one segment: a lettered decision table, total over its inputs, and what each row does.
//!
//! Nothing is truncated and nothing is appended to: a segment that was active is scanned to the end of its
//! preallocated area, sealed with what was found, and new mail goes into a new segment. The room of the zeros behind that is given back ([`Scanned::tail`]).
//!
//! | row | header | index | what is done |
//! |---|---|---|---|
//! | A | ours | valid | the index is believed; the segment is not read |
//! | B | ours | missing, torn or foreign | scanned; the index is written |
//! | C | damaged | valid by its own checksum | the index is believed; it tells the salt for reading records |
//! | D | blank | any but valid | a crash while it was made: nothing was ever in it; removed |
//! | E | damaged | missing, torn or foreign | without the salt nothing in it can be believed: kept, reported |
//! | F | foreign store | any | not ours: kept, reported |
//! | G | newer version | any | this program must not touch it: the store does not open |
//! | H | blank | valid | the content was lost after the seal: as C |
//!
//! *Blank* is a file without a header and with nothing but zeros behind it, or a header that landed there by mistake: what a crash leaves of one that was
//! being made, its first block torn or not there at all. *Damaged* has something behind it: the header was durable
//! before the first record was, so these records may have been promised.

use super::contents::Contents;
use super::scan::{Found, Walk, walk};
use crate::crypt::Keys;
use crate::disk::{Disk, File};
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::frame::FrameHeader;
use crate::format::index_file::SegmentIndex;
use crate::format::segment_header::{HeaderError, SegmentHeader};
use crate::position::{Offset, StoreId};

/// What the first block of a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderState {
    /// Not a header, in front of nothing but zeros.
    Blank,
    /// Not a header, in front of something.
    Damaged,
    /// A header of another store.
    Foreign,
    /// A header of a newer version.
    Newer,
    /// A header of this store.
    Ours,
}

/// What the index file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexState {
    /// Missing, torn, or of another segment.
    Unusable,
    /// Valid.
    Valid,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the table in the module's documentation says what each letter does")]
pub enum Row {
    A,
    B,
    C,
    D,
    E,
    F,
    G,
    H,
}

/// The row for a segment.
#[must_use]
pub const fn decide(header: HeaderState, index: IndexState) -> Row {
    match (header, index) {
        (HeaderState::Ours, IndexState::Valid) => Row::A,
        (HeaderState::Ours, IndexState::Unusable) => Row::B,
        (HeaderState::Damaged, IndexState::Valid) => Row::C,
        (HeaderState::Blank, IndexState::Unusable) => Row::D,
        (HeaderState::Damaged, IndexState::Unusable) => Row::E,
        (HeaderState::Foreign, _) => Row::F,
        (HeaderState::Newer, _) => Row::G,
        (HeaderState::Blank, IndexState::Valid) => Row::H,
    }
}

/// What a first block is, and the header if it is ours. Blank or damaged is for [`first_block`] to tell.
#[must_use]
pub fn header_state(block: &[u8], store: StoreId) -> (HeaderState, Option<SegmentHeader>) {
    match SegmentHeader::decode(block) {
        Ok(header) if header.store == store => (HeaderState::Ours, Some(header)),
        Ok(_) => (HeaderState::Foreign, None),
        Err(HeaderError::Newer(_)) => (HeaderState::Newer, None),
        Err(HeaderError::Damaged) if block.iter().all(|octet| *octet == 0) => (HeaderState::Blank, None),
        Err(HeaderError::Damaged) => (HeaderState::Damaged, None),
    }
}

/// A record that is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedRecord {
    /// Where it starts.
    pub offset: Offset,
    /// What its header says, if that is readable.
    pub header: Option<FrameHeader>,
    /// Octets.
    pub octets: u64,
    /// Whether it lies below what was known to be durable: then it was promised.
    pub was_durable: bool,
}

/// What a scan of a whole segment found.
#[derive(Debug)]
pub struct Scanned {
    /// Its index.
    pub index: SegmentIndex,
    /// Lost records.
    pub damaged: Vec<DamagedRecord>,
    /// The walk itself.
    pub walk: Walk,
    /// Octets of the file.
    size: u64,
    /// Octets that the header says the file has.
    stated: u64,
}

/// What stays behind the last octet that is something, as a share of the segment: should the device have told zeros where there is something, it most likely is there.
const TAIL_KEPT_ONE_IN: u64 = 64;

impl Scanned {
    /// Where the zeros begin that nobody will write any more, and whose room is of no use; `None` while something of the segment could not be read,
    /// or where the file is not as long as its header says: nobody looked at what is behind that.
    #[must_use]
    pub fn tail(&self) -> Option<u64> {
        let gaps = self.walk.gaps.iter().map(|gap| gap.range.end);
        let damaged = self.damaged.iter().map(|record| record.offset.0.saturating_add(record.octets));
        let end = gaps.chain(damaged).fold(self.walk.end, u64::max);
        let kept = end.saturating_add(self.size / TAIL_KEPT_ONE_IN).next_multiple_of(BLOCK_OCTETS as u64);
        let is_whole = self.walk.unreadable == 0 && self.size == self.stated;
        (is_whole && kept < self.size).then_some(kept)
    }
}

/// Scans a segment for its index.
///
/// # Errors
/// The disk's.
pub async fn scan<F: File>(file: &F, header: &SegmentHeader, keys: &Keys) -> Result<Scanned, DiskError> {
    let mut contents = Contents::default();
    let mut lost: Vec<(Offset, FrameHeader)> = Vec::new();
    let walk = walk(file, header, keys, |found| match found {
        Found::Frame { offset, header: frame, payload } => {
            if !contents.add_frame(header.segment, offset, &frame, payload) {
                lost.push((offset, frame));
            }
        }
        // No store opens without the keys of its segments: a frame that stays locked is a damaged one.
        Found::DamagedPayload { offset, header, .. } | Found::Locked { offset, header } => {
            lost.push((offset, header));
        }
    })
    .await?;
    let mut damaged: Vec<DamagedRecord> = Vec::new();
    for (offset, frame) in lost {
        let octets = u64::from(frame.payload_length) + crate::format::frame::FRAME_HEADER_OCTETS as u64;
        let was_durable = offset.0 < walk.durable_before;
        damaged.push(DamagedRecord { offset, header: Some(frame), octets, was_durable });
    }
    for gap in &walk.gaps {
        let octets = gap.range.end - gap.range.start;
        let was_durable = gap.range.start < walk.durable_before;
        damaged.push(DamagedRecord { offset: Offset(gap.range.start), header: None, octets, was_durable });
    }
    for _ in damaged.iter().filter(|record| record.was_durable) {
        contents.add_damaged();
    }
    let size = file.length().await?;
    Ok(Scanned { index: contents.into_index(), damaged, walk, size, stated: header.size })
}

/// The first block of a file, as much of it as there is, and what it is.
///
/// # Errors
/// The disk's.
pub async fn first_block<D: Disk>(
    disk: &D,
    path: &str,
    store: StoreId,
) -> Result<FirstBlock<D::File>, DiskError> {
    let file = disk.open(path).await?;
    let block = file.read(0, BLOCK_OCTETS).await?.to_vec();
    if (block.len() as u64) < file.length().await?.min(BLOCK_OCTETS as u64) {
        return Err(DiskError::Io { operation: "read", reason: format!("short: {} octets", block.len()) });
    }
    let (mut state, header) = header_state(&block, store);
    if matches!(state, HeaderState::Blank | HeaderState::Damaged) {
        let blank = is_blank_behind(&file, store).await?;
        state = if blank { HeaderState::Blank } else { HeaderState::Damaged };
    }
    Ok(FirstBlock { file, block, state, header })
}

/// See [`first_block`].
#[derive(Debug)]
pub struct FirstBlock<F> {
    /// The file.
    pub file: F,
    /// Its first block.
    pub block: Vec<u8>,
    /// What that is.
    pub state: HeaderState,
    /// The header, if it is ours.
    pub header: Option<SegmentHeader>,
}

/// Whether there is nothing behind the first block: zeros, and headers of this store. A header is the first write of a file, alone
/// until it is durable, so one that stands elsewhere was misdirected by the disk, and the file never held a record. What cannot be
/// read to its end is not known to be blank.
async fn is_blank_behind<F: File>(file: &F, store: StoreId) -> Result<bool, DiskError> {
    const WINDOW_OCTETS: usize = 1 << 20;
    let length = file.length().await?;
    let mut at = BLOCK_OCTETS as u64;
    while at < length {
        let window = file.read(at, WINDOW_OCTETS).await?;
        let is_nothing = |block: &[u8]| {
            block.iter().all(|octet| *octet == 0)
                || SegmentHeader::decode(block).is_ok_and(|header| header.store == store)
        };
        if window.is_empty() || !window.chunks(BLOCK_OCTETS).all(is_nothing) {
            return Ok(false);
        }
        at += window.len() as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use HeaderState::*;
    use IndexState::*;

    #[test]
    fn every_input_hits_exactly_one_row() {
        let table = [
            (Ours, Valid, Row::A),
            (Ours, Unusable, Row::B),
            (Damaged, Valid, Row::C),
            (Blank, Unusable, Row::D),
            (Damaged, Unusable, Row::E),
            (Foreign, Valid, Row::F),
            (Foreign, Unusable, Row::F),
            (Newer, Valid, Row::G),
            (Newer, Unusable, Row::G),
            (Blank, Valid, Row::H),
        ];
        for header in [Blank, Damaged, Foreign, Newer, Ours] {
            for index in [Valid, Unusable] {
                let rows: Vec<_> = table.iter().filter(|row| row.0 == header && row.1 == index).collect();
                assert_eq!(rows.len(), 1);
                assert_eq!(decide(header, index), rows[0].2);
            }
        }
    }
}
