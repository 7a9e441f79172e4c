//! Bytes on disk: encode and decode, nothing else. `FORMAT.md` draws every structure; the code computes its
//! offsets from sizes and points there. All integers are little-endian.
//!
//! Nothing here names a file, a clock or a lock; decoding never panics, whatever the bytes.

pub mod checkpoint;
pub mod checksum;
mod envelope;
pub mod frame;
pub mod index_directory;
pub mod index_entry;
pub mod index_file;
pub mod journal_entry;
pub mod kept;
pub mod message;
pub mod offered;
pub mod segment_header;
pub mod store_file;
pub mod tally;
pub mod trace;
mod wire;

/// Size of a block: the unit of O_DIRECT and of a commit.
pub const BLOCK_OCTETS: usize = 4096;

/// The same, as it stands in headers.
pub(crate) const BLOCK_OCTETS_U32: u32 = 4096;
const _: () = assert!(BLOCK_OCTETS_U32 as usize == BLOCK_OCTETS);

/// `octets` rounded up to whole blocks.
#[must_use]
pub const fn block_ceiling(octets: usize) -> usize {
    octets.next_multiple_of(BLOCK_OCTETS)
}

pub use wire::{Reader, Writer};
