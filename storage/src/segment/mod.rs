//! Segments: one preallocated file of frames each. An [`ActiveSegment`] is written; once rolled it is sealed:
//! it has an index and is only read, until nothing in it is unsettled and it is unlinked.

pub mod contents;
pub mod lookup;
pub mod recover;
pub mod scan;
pub mod sealing;
pub mod writer;

pub use writer::ActiveSegment;

use crate::crypt::Keys;
use crate::disk::{Disk, read_whole};
use crate::error::DiskError;
use crate::format::index_file::SegmentIndex;
use crate::format::segment_header::Purpose;
use crate::position::{SegmentId, ShardId, StoreId};
use recover::FirstBlock;

/// The path of a segment or journal file.
#[must_use]
pub fn path(shard: ShardId, purpose: Purpose, segment: SegmentId) -> String {
    format!("{shard}/{}", name(purpose, segment))
}

/// The name of a segment or journal file in its shard's directory.
#[must_use]
pub fn name(purpose: Purpose, segment: SegmentId) -> String {
    match purpose {
        Purpose::Mail => format!("segment-{:08x}.log", segment.0),
        Purpose::Journal => format!("journal-{:08x}.log", segment.0),
    }
}

/// The name of a sealed segment's index.
#[must_use]
pub fn index_name(segment: SegmentId) -> String {
    format!("segment-{:08x}.index", segment.0)
}

/// No store gets so far; a file with such a name is not ours, and none has a number behind it that it could not have.
const NUMBERS_MAX: u32 = u32::MAX - (1 << 20);

/// The purpose and number that a file's name tells; `None` for other files.
#[must_use]
pub fn parse_name(name: &str) -> Option<(Purpose, SegmentId)> {
    let (purpose, rest) = match name.split_once('-')? {
        ("segment", rest) => (Purpose::Mail, rest),
        ("journal", rest) => (Purpose::Journal, rest),
        _ => return None,
    };
    let number = rest.strip_suffix(".log")?;
    let valid = number.len() == 8 && number.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if !valid {
        return None;
    }
    let number = u32::from_str_radix(number, 16).ok().filter(|number| *number <= NUMBERS_MAX);
    number.map(|number| (purpose, SegmentId(number)))
}

/// The segment whose index has this name; `None` for other files.
#[must_use]
pub fn indexed_by(name: &str) -> Option<SegmentId> {
    let log = format!("{}.log", name.strip_suffix(".index")?);
    parse_name(&log).filter(|(purpose, _)| *purpose == Purpose::Mail).map(|(_, segment)| segment)
}

/// Removes a mail segment and its index, durably; no error if they are not there.
///
/// # Errors
/// The disk's.
pub async fn remove<D: Disk>(disk: &D, shard: ShardId, segment: SegmentId) -> Result<(), DiskError> {
    // The index first: without its segment it would look like the trace of a loss.
    for path in [format!("{shard}/{}", index_name(segment)), path(shard, Purpose::Mail, segment)] {
        match disk.remove(&path).await {
            Ok(()) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    disk.sync_directory(&shard.to_string()).await
}

/// The index of a sealed segment: read, or else made from its records.
///
/// # Errors
/// The disk's; neither can be read.
pub async fn index_of<D: Disk>(
    disk: &D,
    store: StoreId,
    keys: &Keys,
    shard: ShardId,
    segment: SegmentId,
) -> Result<SegmentIndex, DiskError> {
    let first = recover::first_block(disk, &path(shard, Purpose::Mail, segment), store).await;
    let header = first.as_ref().ok().and_then(|first| first.header.as_ref());
    if let Ok(content) = read_whole(disk, &format!("{shard}/{}", index_name(segment))).await {
        let salt = header.map(|header| header.salt).or_else(|| SegmentIndex::salt_of(&content));
        let index = salt.and_then(|salt| SegmentIndex::decode(&content, shard, segment, &salt));
        if let Some(index) = index {
            return Ok(index);
        }
    }
    let FirstBlock { file, header, .. } = first?;
    let lost = || DiskError::Io { operation: "read index", reason: "header and index are lost".to_owned() };
    Ok(recover::scan(&file, &header.ok_or_else(lost)?, keys).await?.index)
}
