//! A disk that counts: what was read and written through it, over all files. Tests hold a bound against it, benches
//! replay what a log wrote.

use crate::disk::{ALIGNMENT_OCTETS, Disk, File};
use crate::error::DiskError;
use core::cell::RefCell;
use std::rc::Rc;

/// Any disk, with a meter.
#[derive(Clone, Debug)]
pub struct MeteredDisk<D> {
    disk: D,
    meter: Rc<RefCell<Meter>>,
}

/// A file of a [`MeteredDisk`].
#[derive(Debug)]
pub struct MeteredFile<F> {
    file: F,
    log: bool,
    meter: Rc<RefCell<Meter>>,
}

/// What went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Files opened.
    pub opens: u64,
    /// Reads.
    pub reads: u64,
    /// Octets that the device has to give for them: whole blocks.
    pub octets_read: u64,
    /// The lengths of all commits, in order: writes to files named `.log`, behind their headers.
    pub commits: Vec<u32>,
    /// Syncs of files.
    pub syncs: u64,
}

impl<D> MeteredDisk<D> {
    /// `disk`, with a meter at zero.
    #[must_use]
    pub fn new(disk: D) -> Self {
        Self { disk, meter: Rc::default() }
    }

    /// What went through since the last call.
    #[must_use]
    pub fn take(&self) -> Meter {
        self.meter.take()
    }

    fn file<F>(&self, path: &str, file: F) -> MeteredFile<F> {
        MeteredFile { file, log: path.ends_with(".log"), meter: Rc::clone(&self.meter) }
    }
}

impl<D: Disk> Disk for MeteredDisk<D> {
    type File = MeteredFile<D::File>;

    async fn create(&self, path: &str, size: u64) -> Result<Self::File, DiskError> {
        Ok(self.file(path, self.disk.create(path, size).await?))
    }

    async fn open(&self, path: &str) -> Result<Self::File, DiskError> {
        self.meter.borrow_mut().opens += 1;
        Ok(self.file(path, self.disk.open(path).await?))
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(directory).await
    }

    async fn create_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.disk.create_directory(directory).await
    }

    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.disk.sync_directory(directory).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path).await
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        self.disk.free_octets().await
    }
}

impl<F: File> File for MeteredFile<F> {
    type Block = F::Block;
    type Octets = F::Octets;

    fn allocate(&self, octets: usize) -> F::Block {
        self.file.allocate(octets)
    }

    async fn write(&self, block: F::Block, offset: u64) -> Result<(), DiskError> {
        if self.log && offset != 0 {
            let octets = u32::try_from(block.as_ref().len()).expect("a batch is far below 4 GiB");
            self.meter.borrow_mut().commits.push(octets);
        }
        self.file.write(block, offset).await
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<F::Octets, DiskError> {
        let read = self.file.read(offset, octets).await?;
        let block = ALIGNMENT_OCTETS as u64;
        let end = (offset + read.len() as u64).next_multiple_of(block);
        let mut meter = self.meter.borrow_mut();
        meter.reads += 1;
        meter.octets_read += end - (offset - offset % block).min(end);
        Ok(read)
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.meter.borrow_mut().syncs += 1;
        self.file.sync().await
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        self.file.give_back(offset).await
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.file.length().await
    }
}
