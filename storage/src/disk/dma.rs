//! The real disk: O_DIRECT files on io_uring by glommio. One [`DmaDisk`] belongs to one executor.
//!
//! Names are looked up, listed and made by plain system calls: that happens at start and at a roll, never for
//! a message. Removal and directory syncs, which can take milliseconds, go through the ring.

use super::{Block, Disk, File};
use crate::error::DiskError;
use core::ops::Deref;
use glommio::GlommioError;
use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions, ReadResult};
use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A data directory on a real file system.
#[derive(Clone, Debug)]
pub struct DmaDisk {
    root: Rc<PathBuf>,
}

/// Held as long as the process may touch the data directory; a second process is refused.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: fs::File,
}

/// Why a data directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{0}: another process works on this data directory")]
    Busy(PathBuf),
    /// It cannot be made or opened.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

const PROBE: &str = "probe";

impl DirectoryLock {
    /// Makes `root` if needed and locks it.
    ///
    /// # Errors
    /// [`LockError::Busy`] while another process holds the lock.
    #[expect(clippy::disallowed_methods, reason = "this file is the home of real files")]
    pub fn acquire(root: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io(root.to_path_buf(), error);
        make_durably(root).map_err(io)?;
        let file = fs::File::create(root.join("lock")).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Busy(root.to_path_buf())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

/// Makes a directory and those above it; each new name is durable on return, like all that will be inside.
#[expect(clippy::disallowed_methods, reason = "this file is the home of real files")]
fn make_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::File::open(parent)?.sync_all()
}

impl DmaDisk {
    /// The disk of this executor over `root`.
    ///
    /// glommio asks by the first file that it opens on a device whether reads may be polled; an empty one is
    /// taken for yes, and every later read fails with EOPNOTSUPP. So a file that has content comes first.
    ///
    /// # Errors
    /// The probe file cannot be written or opened with O_DIRECT.
    #[expect(clippy::disallowed_methods, reason = "this file is the home of real files")]
    pub async fn attach(root: &Path) -> Result<Self, DiskError> {
        // glommio opens directories relative to descriptor -1: only absolute paths work.
        let root = fs::canonicalize(root).map_err(|error| from_io("find", &error))?;
        let probe = root.join(PROBE);
        if fs::metadata(&probe).map_or(0, |metadata| metadata.len()) == 0 {
            let file = fs::File::create(&probe).map_err(|error| from_io("create probe", &error))?;
            io::Write::write_all(&mut &file, &[b'\n'; 4096])
                .map_err(|error| from_io("write probe", &error))?;
            file.sync_all().map_err(|error| from_io("sync probe", &error))?;
        }
        let file = DmaFile::open(&probe).await.map_err(|error| from_glommio("open probe", error))?;
        file.close().await.map_err(|error| from_glommio("close probe", error))?;
        Ok(Self { root: Rc::new(root) })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for DmaDisk {
    type File = DmaSegmentFile;

    async fn create(&self, path: &str, size: u64) -> Result<DmaSegmentFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let path = self.path(path);
        let file = options.dma_open(&path).await.map_err(|error| from_glommio("create", error))?;
        if let Err(error) = file.pre_allocate(size, false).await {
            // The half-made file would stand in the way of the next try; its own error matters less.
            let _ = fs::remove_file(&path);
            return Err(from_glommio("preallocate", error));
        }
        Ok(DmaSegmentFile { file: Rc::new(file), length: size })
    }

    async fn open(&self, path: &str) -> Result<DmaSegmentFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.dma_open(self.path(path)).await.map_err(|error| from_glommio("open", error))?;
        let length = file.file_size().await.map_err(|error| from_glommio("stat", error))?;
        Ok(DmaSegmentFile { file: Rc::new(file), length })
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        super::plain::names(&self.path(directory))
    }

    async fn create_directory(&self, directory: &str) -> Result<(), DiskError> {
        fs::create_dir_all(self.path(directory)).map_err(|error| from_io("create directory", &error))
    }

    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        let directory = Directory::open(self.path(directory))
            .await
            .map_err(|error| from_glommio("open directory", error))?;
        directory.sync().await.map_err(|error| from_glommio("sync directory", error))?;
        directory.close().await.map_err(|error| from_glommio("close directory", error))
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        glommio::io::remove(self.path(path)).await.map_err(|error| from_glommio("remove", error))
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        super::plain::free_octets(&self.root)
    }
}

/// A file with O_DIRECT.
#[derive(Debug)]
pub struct DmaSegmentFile {
    file: Rc<DmaFile>,
    /// All files are preallocated: no write changes it.
    length: u64,
}

impl File for DmaSegmentFile {
    type Block = DmaBlock;
    type Octets = DmaOctets;

    fn allocate(&self, octets: usize) -> DmaBlock {
        DmaBlock(self.file.alloc_dma_buffer(octets))
    }

    async fn write(&self, block: DmaBlock, offset: u64) -> Result<(), DiskError> {
        let octets = block.0.len();
        let written =
            self.file.write_at(block.0, offset).await.map_err(|error| from_glommio("write", error))?;
        if written == octets {
            return Ok(());
        }
        // A preallocated file cannot end early; whatever this is, the range is not what we wrote.
        Err(DiskError::Io { operation: "write", reason: format!("short: {written} of {octets}") })
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<DmaOctets, DiskError> {
        // glommio rounds an unaligned read outwards and, at the end of the file, counts what it rounded: the
        // rest of its buffer, old memory, would pass for the file's.
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let octets = octets.min(left);
        if octets == 0 {
            return Ok(DmaOctets(None));
        }
        let read = self.file.read_at(offset, octets).await.map_err(|error| from_glommio("read", error))?;
        if read.len() < octets {
            // The file was cut off behind our back: what is missing is not the end of it.
            return Err(DiskError::Io {
                operation: "read",
                reason: format!("short: {} of {octets}", read.len()),
            });
        }
        Ok(DmaOctets(Some(read)))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.file.fdatasync().await.map_err(|error| from_glommio("sync", error))
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        let octets = self.length.saturating_sub(offset);
        if octets == 0 {
            return Ok(());
        }
        self.file.deallocate(offset, octets).await.map_err(|error| from_glommio("give back", error))
    }

    async fn length(&self) -> Result<u64, DiskError> {
        Ok(self.length)
    }
}

/// What was read; nothing at the end of the file.
#[derive(Debug)]
pub struct DmaOctets(Option<ReadResult>);

impl Deref for DmaOctets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Aligned memory of glommio's allocator.
#[derive(Debug)]
pub struct DmaBlock(DmaBuffer);

impl AsRef<[u8]> for DmaBlock {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for DmaBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

impl Block for DmaBlock {
    fn truncate(&mut self, octets: usize) {
        self.0.trim_to_size(octets);
    }
}

fn from_glommio(operation: &'static str, error: GlommioError<()>) -> DiskError {
    from_io(operation, &io::Error::from(error))
}

fn from_io(operation: &'static str, error: &io::Error) -> DiskError {
    super::plain::disk_error(operation, error)
}
