//! The disk enters here: two traits and the durability contract that the log is built on.
//!
//! **The contract**, which one test body checks on every implementation:
//! 1. A write that completed is seen by later reads; it is on stable storage only after a [`File::sync`] that
//!    started later has completed. Until then a power cut may keep, lose or tear it in units of 512 octets,
//!    in any order with other unsynced writes.
//! 2. [`File::sync`] makes the file's content and size stable, *not its name*: that takes
//!    [`Disk::sync_directory`] on its directory, and so does a removal.
//! 3. A failed write or sync says nothing about what is on disk; the caller never tries it again (the system may
//!    have dropped the pages and marked them clean).
//! 4. [`Disk::create`] gives a file of exactly `size` octets that read as zeros, and does not run out of space
//!    later when they are written.
//! 5. [`File::give_back`] frees the room of a range of zeros that is never written again: it reads as zeros, and the file is as long as before, whether or not
//!    that succeeds, also behind a power cut.
//!
//! Offsets and lengths of writes are multiples of [`ALIGNMENT_OCTETS`]; reads may start and end anywhere. Paths are relative to the data directory.

pub mod copy;
#[cfg(feature = "glommio")]
pub mod dma;
pub mod plain;

use crate::error::DiskError;
use core::ops::Deref;

/// The unit of writes.
pub const ALIGNMENT_OCTETS: usize = crate::format::BLOCK_OCTETS;

/// A directory tree on stable storage.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: File;

    /// A new file of `size` zeros, open for reading and writing; [`DiskError::Exists`] if there is one.
    async fn create(&self, path: &str, size: u64) -> Result<Self::File, DiskError>;
    /// An existing file, open for reading and writing blocks.
    async fn open(&self, path: &str) -> Result<Self::File, DiskError>;
    /// Names in `directory`, unsorted.
    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError>;
    /// Makes `directory`; no error if it is there.
    async fn create_directory(&self, directory: &str) -> Result<(), DiskError>;
    /// Makes the names in `directory` durable, and their absence.
    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError>;
    /// Removes a file's name.
    async fn remove(&self, path: &str) -> Result<(), DiskError>;
    /// Octets that are free for us.
    async fn free_octets(&self) -> Result<u64, DiskError>;
}

/// An open file.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait File: 'static {
    /// Memory that can be written directly.
    type Block: Block;
    /// Memory that was read.
    type Octets: Deref<Target = [u8]>;

    /// A block of at least `octets`, its content undefined.
    fn allocate(&self, octets: usize) -> Self::Block;
    /// Writes the whole block at `offset`.
    async fn write(&self, block: Self::Block, offset: u64) -> Result<(), DiskError>;
    /// Reads `octets` at `offset`; fewer at the end of the file.
    async fn read(&self, offset: u64, octets: usize) -> Result<Self::Octets, DiskError>;
    /// Makes everything written so far durable.
    async fn sync(&self) -> Result<(), DiskError>;
    /// Frees the room of everything from `offset` to the end, which is zeros. Where the file system cannot, an error, and nothing is lost but the room.
    async fn give_back(&self, offset: u64) -> Result<(), DiskError>;
    /// The file's length in octets.
    async fn length(&self) -> Result<u64, DiskError>;
}

/// Aligned memory.
pub trait Block: AsRef<[u8]> + AsMut<[u8]> {
    /// Shortens the block to `octets`.
    fn truncate(&mut self, octets: usize);
}

/// Writes `content` into a new file, padded with zeros to whole blocks, and makes file and name durable.
pub async fn write_whole<D: Disk>(
    disk: &D,
    directory: &str,
    name: &str,
    content: &[u8],
) -> Result<(), DiskError> {
    let octets = crate::format::block_ceiling(content.len());
    let path = format!("{directory}/{name}");
    let file = disk.create(&path, octets as u64).await?;
    write_padded(&file, 0, content).await?;
    file.sync().await?;
    disk.sync_directory(directory).await
}

/// Writes `content` at `offset`, padded with zeros to whole blocks.
pub async fn write_padded<F: File>(file: &F, offset: u64, content: &[u8]) -> Result<(), DiskError> {
    let octets = crate::format::block_ceiling(content.len());
    let mut block = file.allocate(octets);
    block.truncate(octets);
    let memory = block.as_mut();
    memory[..content.len()].copy_from_slice(content);
    memory[content.len()..].fill(0);
    file.write(block, offset).await
}

/// Reads the whole of `path`.
pub async fn read_whole<D: Disk>(disk: &D, path: &str) -> Result<<D::File as File>::Octets, DiskError> {
    let file = disk.open(path).await?;
    let length = file.length().await?;
    let octets = usize::try_from(length).map_err(|_| DiskError::NoSpace)?;
    let content = file.read(0, octets).await?;
    if content.len() == octets {
        return Ok(content);
    }
    // Half of the store file is its older state: stamps and queue ids of the newer one would return (H1).
    let reason = format!("short: {} of {octets}", content.len());
    Err(DiskError::Io { operation: "read", reason })
}
