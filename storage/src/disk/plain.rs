//! A read-only disk over plain system calls, for the offline tools: they look at a dead node's directory and
//! must neither need io_uring nor be able to change anything. Its futures never wait.

use super::{Block, Disk, File};
use crate::error::DiskError;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A data directory, to be looked at.
#[derive(Clone, Debug)]
pub struct PlainDisk {
    root: PathBuf,
}

/// A file, to be read.
#[derive(Debug)]
pub struct PlainFile(fs::File);

impl PlainDisk {
    /// The directory `root`.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Disk for PlainDisk {
    type File = PlainFile;

    async fn create(&self, _path: &str, _size: u64) -> Result<PlainFile, DiskError> {
        Err(read_only())
    }

    #[expect(clippy::disallowed_methods, reason = "this file is the home of plain files")]
    async fn open(&self, path: &str) -> Result<PlainFile, DiskError> {
        fs::File::open(self.root.join(path)).map(PlainFile).map_err(|error| disk_error("open", &error))
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        names(&self.root.join(directory))
    }

    async fn create_directory(&self, _directory: &str) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn sync_directory(&self, _directory: &str) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn remove(&self, _path: &str) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        free_octets(&self.root)
    }
}

impl File for PlainFile {
    type Block = PlainBlock;
    type Octets = Vec<u8>;

    fn allocate(&self, octets: usize) -> PlainBlock {
        PlainBlock(vec![0; octets])
    }

    async fn write(&self, _block: PlainBlock, _offset: u64) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<Vec<u8>, DiskError> {
        let mut memory = vec![0; octets];
        let mut filled = 0;
        while filled < octets {
            match self.0.read_at(&mut memory[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(disk_error("read", &error)),
            }
        }
        memory.truncate(filled);
        Ok(memory)
    }

    async fn sync(&self) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn give_back(&self, _offset: u64) -> Result<(), DiskError> {
        Err(read_only())
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.0.metadata().map(|metadata| metadata.len()).map_err(|error| disk_error("stat", &error))
    }
}

/// Plain memory.
#[derive(Debug)]
pub struct PlainBlock(Vec<u8>);

impl AsRef<[u8]> for PlainBlock {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for PlainBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Block for PlainBlock {
    fn truncate(&mut self, octets: usize) {
        self.0.truncate(octets);
    }
}

/// The names in a directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| disk_error("list", &error))? {
        let entry = entry.map_err(|error| disk_error("list", &error))?;
        // A name that is not UTF-8 is none of ours.
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Octets that an unprivileged process may still use.
pub(super) fn free_octets(root: &Path) -> Result<u64, DiskError> {
    let status = rustix::fs::statvfs(root).map_err(|error| disk_error("statvfs", &error.into()))?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The error of one system call.
pub(super) fn disk_error(operation: &'static str, error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoSpace,
        io::ErrorKind::NotFound => DiskError::NotFound,
        io::ErrorKind::AlreadyExists => DiskError::Exists,
        _ => DiskError::Io { operation, reason: error.to_string() },
    }
}

fn read_only() -> DiskError {
    DiskError::Io { operation: "write", reason: "this view of the disk is read-only".to_owned() }
}
