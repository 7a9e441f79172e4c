//! The disk of the world: the simulated one, whose syncs and writes also take their time now and then.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::{Disk, File};
use storage::error::DiskError;
use storage::sim::{SimClock, SimDisk};

/// See the module.
#[derive(Clone)]
pub struct SlowDisk<D> {
    disk: D,
    clock: SimClock,
    /// How long a sync takes.
    pub sync_time: Rc<Cell<Duration>>,
}

/// A file of it.
pub struct SlowFile<F> {
    file: F,
    clock: SimClock,
    sync_time: Rc<Cell<Duration>>,
}

impl SlowDisk<SimDisk> {
    pub fn new(disk: SimDisk, clock: &SimClock) -> Self {
        Self { disk, clock: clock.clone(), sync_time: Rc::default() }
    }
}

impl<D: Disk> SlowDisk<D> {
    fn file<F>(&self, file: F) -> SlowFile<F> {
        SlowFile { file, clock: self.clock.clone(), sync_time: Rc::clone(&self.sync_time) }
    }
}

impl<D: Disk> Disk for SlowDisk<D> {
    type File = SlowFile<D::File>;

    async fn create(&self, path: &str, size: u64) -> Result<Self::File, DiskError> {
        Ok(self.file(self.disk.create(path, size).await?))
    }

    async fn open(&self, path: &str) -> Result<Self::File, DiskError> {
        Ok(self.file(self.disk.open(path).await?))
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

impl<F: File> File for SlowFile<F> {
    type Block = F::Block;
    type Octets = F::Octets;

    fn allocate(&self, octets: usize) -> F::Block {
        self.file.allocate(octets)
    }

    async fn write(&self, block: F::Block, offset: u64) -> Result<(), DiskError> {
        self.file.write(block, offset).await
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<F::Octets, DiskError> {
        self.file.read(offset, octets).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let time = self.sync_time.get();
        if !time.is_zero() {
            self.clock.sleep(time).await;
        }
        self.file.sync().await
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        self.file.give_back(offset).await
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.file.length().await
    }
}
