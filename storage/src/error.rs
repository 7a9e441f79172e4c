//! Errors of the storage crate: one enum an operation, variants by the caller's next step.

use crate::crypt::KeyError;
use crate::position::{SegmentId, ShardId};
use core::fmt;

/// What a disk operation failed with. [`DiskError::NoSpace`] heals by itself; every other error of a write
/// or sync is final for its file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiskError {
    /// The name exists already.
    #[error("file exists already")]
    Exists,
    /// The device or the file system refused.
    #[error("{operation}: {reason}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        reason: String,
    },
    /// ENOSPC or EDQUOT.
    #[error("no space left")]
    NoSpace,
    /// There is no such name.
    #[error("no such file")]
    NotFound,
}

/// Why a record was not taken. Nothing of it is promised, though a crash may bring it back (H8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The log is closed: the server is going down.
    #[error("the log is closed")]
    Closed,
    /// A write or sync failed. The segment is latched; try again on the next one.
    #[error("the write failed")]
    Failed,
    /// No room on the disk for a further segment.
    #[error("no space left")]
    NoSpace,
    /// The stamp ceiling could not be raised in time.
    #[error("no stamps left below the persisted ceiling")]
    NoStamps,
    /// Longer than a batch; the caller's bound is wrong.
    #[error("record too large")]
    TooLarge,
}

/// Why a store does not open. The server does not start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{path}: {error}")]
    Disk {
        /// The file or directory.
        path: String,
        /// Its error.
        error: DiskError,
    },
    /// The file `store` is damaged in both of its slots, or missing beside shard directories.
    #[error("{0}: the store's identity is missing or damaged; restore it, or move the data directory aside")]
    Identity(String),
    /// A segment is encrypted with a key that we do not have.
    #[error("{path}: {error}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with the key.
        error: KeyError,
    },
    /// A shard directory that the store knows is not there (H2).
    #[error("{0} is missing: mount it again; without it, mail that it holds would look delivered")]
    MissingShard(ShardId),
    /// A newer version wrote this.
    #[error(
        "{path}: format version {version} is not one that this program reads: a newer one wrote it, or one before the first release"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        version: u16,
    },
    /// More shards than a queue id can tell apart.
    #[error("{0} shards are more than a store can have")]
    TooManyShards(u16),
}

/// Why a record cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Its bytes are not what was written: this record is lost, the log goes on.
    #[error("damaged record: {0}")]
    Damaged(&'static str),
    /// The disk failed; it may heal.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its key is not in the key file.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ReadError {
    /// Whether the same read may succeed in a while. A key that is missing is given by a reload, and not meanwhile.
    #[must_use]
    pub const fn may_heal(&self) -> bool {
        matches!(self, Self::Disk(_))
    }
}

/// A segment as people read it in messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentName(pub ShardId, pub SegmentId);

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/segment-{:08x}", self.0, self.1.0)
    }
}
