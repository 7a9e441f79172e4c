//! The one segment of a log that is being written.
//!
//! Its three boundaries only grow, and `appended >= written >= durable` is asserted where they move. It is
//! made whole before its first record: preallocated, header written and synced, name made durable, so that no
//! acknowledgement can come out of a file that a power cut would take away.

use crate::crypt::{Cipher, CipherPlace, Keys};
use crate::disk::{Block, Disk, File};
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::checksum::Seed;
use crate::format::segment_header::SegmentHeader;
use crate::position::{Appended, Durable, Offset, Written};
use crate::segment::sealing::Sealing;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub struct ActiveSegment<F> {
    /// What its first block says.
    pub header: SegmentHeader,
    /// The seed of its checksums.
    pub seed: Seed,
    /// The cipher of its mail.
    cipher: Option<Cipher>,
    /// The file; shared with a write in flight.
    pub file: Rc<F>,
    appended: Appended,
    written: Written,
    durable: Durable,
}

impl<F: File> ActiveSegment<F> {
    /// Makes the file that `header` describes, durable in content and name.
    ///
    /// # Errors
    /// The disk's; a half-made file is removed as far as that is possible, and recovery ignores it else.
    ///
    /// # Panics
    /// If `header` names a key that is not among `keys`.
    pub async fn create<D: Disk<File = F>>(
        disk: &D,
        header: SegmentHeader,
        keys: &Keys,
    ) -> Result<Self, DiskError> {
        let directory = header.shard.to_string();
        let path = super::path(header.shard, header.purpose, header.segment);
        let file = disk.create(&path, header.size).await?;
        if let Err(error) = Self::initialise(disk, &file, &header, &directory).await {
            // Best effort: without a valid header, recovery sees an empty file and gives its number to nobody.
            let _ = disk.remove(&path).await;
            return Err(error);
        }
        let start = Offset(BLOCK_OCTETS as u64);
        Ok(Self {
            seed: Seed::new(&header.salt, header.segment),
            cipher: cipher_of(&header, keys),
            header,
            file: Rc::new(file),
            appended: Appended(start),
            written: Written(start),
            durable: Durable(start),
        })
    }

    async fn initialise<D: Disk<File = F>>(
        disk: &D,
        file: &F,
        header: &SegmentHeader,
        directory: &str,
    ) -> Result<(), DiskError> {
        let mut block = file.allocate(BLOCK_OCTETS);
        block.truncate(BLOCK_OCTETS);
        block.as_mut().copy_from_slice(&header.encode());
        file.write(block, 0).await?;
        file.sync().await?;
        disk.sync_directory(directory).await
    }

    /// How its frames are protected.
    #[must_use]
    pub const fn sealing(&self) -> Sealing<'_> {
        Sealing { seed: &self.seed, cipher: self.cipher.as_ref() }
    }

    /// Everything below is in a batch.
    #[must_use]
    pub const fn appended(&self) -> Appended {
        self.appended
    }

    /// Everything below is on stable storage.
    #[must_use]
    pub const fn durable(&self) -> Durable {
        self.durable
    }

    /// A batch of `octets` leaves; the next one starts behind it.
    pub fn batch_leaves(&mut self, base: Offset, octets: u64) {
        assert_eq!(self.appended.0, base, "batches are contiguous");
        assert!(octets.is_multiple_of(BLOCK_OCTETS as u64));
        self.appended = Appended(base.plus(octets));
        assert!(self.appended.0.0 <= self.header.size);
    }

    /// The write of everything below `end` completed.
    pub fn batch_written(&mut self, end: Offset) {
        assert!(end > self.written.0);
        assert!(end <= self.appended.0);
        self.written = Written(end);
    }

    /// A sync that started after that write completed.
    pub fn batch_durable(&mut self, end: Offset) {
        assert!(end > self.durable.0);
        assert!(end <= self.written.0);
        self.durable = Durable(end);
    }
}

/// The cipher of a segment whose key was chosen from these.
fn cipher_of(header: &SegmentHeader, keys: &Keys) -> Option<Cipher> {
    let mark = header.key?;
    let cipher = keys.cipher(mark.key_id, &CipherPlace::of(header));
    Some(cipher.expect("a header is made with a key that is at hand"))
}
