//! What became of messages, kept for people: files of rows by day, beside the segments of a shard (`FORMAT.md`, "Trace").
//!
//! It promises little, so that it costs little: nothing of P1 to P8 rests on it, no start reads it, and whoever loses it loses answers
//! to questions, never mail. A row is written once, behind what it tells.
//!
//! - A kill takes what was not written; a power cut also what was not synced, and nothing else: a write fills up the last block of
//!   the one before while that is not durable, and a durable block is never written again.
//! - A file that failed is given up, and nothing is appended behind a restart. Octets that are no row end the rows of their block; a block that
//!   begins with such octets ends those of the file.

mod journal;
mod scan;

use crate::disk::Disk;
use crate::error::DiskError;
use crate::position::ShardId;
pub use journal::{Pending, TraceJournal};
pub use scan::{Found, ScanError, TraceScan};

/// A file, in the order in which they are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TraceFile {
    /// Days since 1970.
    pub day: u32,
    /// Its directory.
    pub shard: ShardId,
    /// Its number there.
    pub number: u32,
}

impl TraceFile {
    /// Its name in the directory.
    #[must_use]
    pub fn name(&self) -> String {
        format!("trace-{:05}-{:08x}.log", self.day, self.number)
    }

    /// Relative to the data directory.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.shard, self.name())
    }

    /// The file with this name in a directory, if it is one of ours.
    #[must_use]
    pub fn parse(shard: ShardId, name: &str) -> Option<Self> {
        let (day, number) = name.strip_prefix("trace-")?.strip_suffix(".log")?.split_once('-')?;
        let file = Self { day: day.parse().ok()?, shard, number: u32::from_str_radix(number, 16).ok()? };
        // One name a file.
        (file.name() == name).then_some(file)
    }
}

/// The files of a directory, in order.
///
/// # Errors
/// The disk's.
pub async fn files<D: Disk>(disk: &D, shard: ShardId) -> Result<Vec<TraceFile>, DiskError> {
    let names = disk.list(&shard.to_string()).await?;
    let mut files: Vec<TraceFile> = names.iter().filter_map(|name| TraceFile::parse(shard, name)).collect();
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        let file = TraceFile { day: 20_780, shard: ShardId(3), number: 0x1f };
        assert_eq!(file.path(), "shard-03/trace-20780-0000001f.log");
        assert_eq!(TraceFile::parse(ShardId(3), &file.name()), Some(file));
        for name in
            ["trace-20780-1f.log", "trace-20780-0000001F.log", "trace-+0780-0000001f.log", "trace-", ""]
        {
            assert_eq!(TraceFile::parse(ShardId(3), name), None, "{name}");
        }
    }
}
