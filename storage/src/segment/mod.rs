//! Segments: one preallocated file of frames each. An [`ActiveSegment`] is written; once rolled it is sealed:
//! it has an index and is only read, until nothing in it is unsettled and it is unlinked.

pub mod contents;
pub mod lookup;
pub mod recover;
pub mod scan;
pub mod writer;

pub use writer::ActiveSegment;

use crate::format::segment_header::Purpose;
use crate::position::{SegmentId, ShardId};

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
    u32::from_str_radix(number, 16).ok().map(|id| (purpose, SegmentId(id)))
}
