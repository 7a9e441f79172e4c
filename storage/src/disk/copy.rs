//! A writable disk over plain system calls, for the one thing offline that writes: the copy that a repair makes. It keeps
//! the disk contract; its futures never wait. It is another type than the read-only one, so that nobody writes by a slip.

use super::plain::{PlainBlock, PlainDisk, PlainFile, disk_error};
use super::{Disk, File};
use crate::error::DiskError;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A directory to write a copy into.
#[derive(Clone, Debug)]
pub struct CopyDisk {
    root: PathBuf,
    plain: PlainDisk,
}

/// A file of the copy.
#[derive(Debug)]
pub struct CopyFile {
    file: fs::File,
    plain: PlainFile,
}

impl CopyDisk {
    /// The directory `root`, which is made if it is not there, and must be empty.
    ///
    /// # Errors
    /// [`DiskError::Exists`] if something is in it; the system's.
    pub fn make(root: &Path) -> Result<Self, DiskError> {
        fs::create_dir_all(root).map_err(|error| disk_error("create directory", &error))?;
        if !super::plain::names(root)?.is_empty() {
            return Err(DiskError::Exists);
        }
        Ok(Self::at(root))
    }

    /// The directory `root` as it is.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf(), plain: PlainDisk::new(root.to_path_buf()) }
    }

    #[expect(clippy::disallowed_methods, reason = "this file is the home of the copy's files")]
    fn sync(path: &Path) -> Result<(), DiskError> {
        let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| disk_error("sync directory", &error))
    }
}

impl Disk for CopyDisk {
    type File = CopyFile;

    async fn create(&self, path: &str, size: u64) -> Result<CopyFile, DiskError> {
        let whole = self.root.join(path);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(&whole).map_err(|error| disk_error("create", &error))?;
        let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size);
        let made = match made {
            // Where the file system cannot set space aside, a full disk is told by a write.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(size),
            other => other.map_err(Into::into),
        };
        if let Err(error) = made {
            let _ = fs::remove_file(&whole);
            return Err(disk_error("preallocate", &error));
        }
        Ok(CopyFile { file, plain: self.plain.open(path).await? })
    }

    async fn open(&self, path: &str) -> Result<CopyFile, DiskError> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.root.join(path));
        let file = file.map_err(|error| disk_error("open", &error))?;
        Ok(CopyFile { file, plain: self.plain.open(path).await? })
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        self.plain.list(directory).await
    }

    async fn create_directory(&self, directory: &str) -> Result<(), DiskError> {
        fs::create_dir_all(self.root.join(directory)).map_err(|error| disk_error("create directory", &error))
    }

    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        Self::sync(&self.root.join(directory))
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        fs::remove_file(self.root.join(path)).map_err(|error| disk_error("remove", &error))
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        self.plain.free_octets().await
    }
}

impl File for CopyFile {
    type Block = PlainBlock;
    type Octets = Vec<u8>;

    fn allocate(&self, octets: usize) -> PlainBlock {
        self.plain.allocate(octets)
    }

    async fn write(&self, block: PlainBlock, offset: u64) -> Result<(), DiskError> {
        self.file.write_all_at(block.as_ref(), offset).map_err(|error| disk_error("write", &error))
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<Vec<u8>, DiskError> {
        self.plain.read(offset, octets).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_all().map_err(|error| disk_error("sync", &error))
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        let octets = self.length().await?.saturating_sub(offset);
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        if octets == 0 {
            return Ok(());
        }
        rustix::fs::fallocate(&self.file, flags, offset, octets)
            .map_err(|error| disk_error("give back", &error.into()))
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.plain.length().await
    }
}
