//! Files of the control plane: what tells that one has changed, and writing one whole or not at all.

use rustix::fs::{Mode, OFlags, fsync, open, rename, stat};
use std::io;
use std::path::Path;

/// What tells that a file is another than before: size, inode, and time of change. None: it cannot be looked at.
pub(super) type Look = Option<(i64, u64, i64, u64)>;

/// One look at a file.
pub(super) fn look(path: &Path) -> Look {
    let status = stat(path).ok()?;
    Some((status.st_size, status.st_ino, status.st_mtime, status.st_mtime_nsec))
}

/// Writes `name` in `directory`, readable by us alone. A crash leaves the file before, or none.
pub(super) fn keep(directory: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = open(&new, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = octets;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    fsync(&file)?;
    rename(&new, directory.join(name))?;
    fsync(open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
    Ok(())
}
