//! Room on the disk that is the database's own: a file of nothing, which gives way when there is no other.
//!
//! Nobody does what cannot be written down, so on a disk without a free octet nobody could delete the mail that fills it. The file has [`RESERVE_OCTETS`]; each time that
//! the database finds no room it becomes shorter by [`RESERVE_PIECE_OCTETS`], and what was tried succeeds when it is tried again. It is made whole again when there is
//! room for it and [`UPLOAD_FREE_MIN`] besides. Where the file system sets no room aside there is none, and what would be kept is refused.

use super::NAME;
use crate::limits::{RESERVE_OCTETS, RESERVE_PIECE_OCTETS, UPLOAD_FREE_MIN};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, fstatvfs, ftruncate, open};
use rustix::io::Result;
use std::os::fd::OwnedFd;
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    /// None: it cannot be made here.
    file: Option<OwnedFd>,
    left: u64,
}

impl Reserve {
    /// That of a directory; made, or made whole, where there is room.
    pub(super) fn open(directory: &Path) -> Self {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(directory.join(format!("{NAME}-reserve")), flags, Mode::RUSR | Mode::WUSR).ok();
        // What is a hole, in a copy for example, is no room.
        let left = file.as_ref().and_then(|file| fstat(file).ok());
        let left = left.map_or(0, |status| status.st_size.min(status.st_blocks.saturating_mul(512)));
        let mut reserve = Self { file, left: u64::try_from(left).unwrap_or(0) };
        reserve.refill();
        reserve
    }

    /// Gives up a piece. Whether there was one.
    pub(super) fn release(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let left = self.left.saturating_sub(RESERVE_PIECE_OCTETS);
        let is_released = self.left > 0 && ftruncate(file, left).is_ok();
        if is_released {
            self.left = left;
            tracing::warn!(left, "the disk is full: a piece of the database's reserve is given up");
        }
        is_released
    }

    /// Makes it whole, where something of it is gone and there is room.
    pub(super) fn refill(&mut self) {
        if self.left < RESERVE_OCTETS && self.fill().is_ok_and(|is_whole| is_whole) {
            self.left = RESERVE_OCTETS;
        }
    }

    fn fill(&self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let status = fstatvfs(file)?;
        if status.f_bavail.saturating_mul(status.f_frsize) < RESERVE_OCTETS + UPLOAD_FREE_MIN {
            return Ok(false);
        }
        fallocate(file, FallocateFlags::empty(), 0, RESERVE_OCTETS)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Directory;
    use super::*;

    #[test]
    fn it_gives_way_piece_by_piece_over_starts_and_is_made_whole_when_there_is_room() {
        let directory = Directory::new("store-reserve");
        let mut reserve = Reserve::open(&directory.0);
        assert_eq!(reserve.left, RESERVE_OCTETS, "the tests' disk has room");
        let blocks = fstat(reserve.file.as_ref().unwrap()).unwrap().st_blocks;
        assert!(u64::try_from(blocks).unwrap() * 512 >= RESERVE_OCTETS, "a hole is no room");
        assert!(reserve.release());
        let file = reserve.file.as_ref().unwrap();
        assert_eq!(
            fstat(file).unwrap().st_size,
            i64::try_from(RESERVE_OCTETS - RESERVE_PIECE_OCTETS).unwrap()
        );
        reserve.refill();
        assert_eq!(reserve.left, RESERVE_OCTETS);
        for _ in 0..RESERVE_OCTETS / RESERVE_PIECE_OCTETS {
            assert!(reserve.release());
        }
        assert!(!reserve.release(), "nothing is left of it");
    }
}
