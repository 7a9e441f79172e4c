//! The archive: out of the server's reach, looked at by a program that is not root, and overwritten in the end.

use super::super::reaping::{self, Said};
use super::super::revisions::bounded;
use crate::limits::{RESTORE_COUNT_PATIENCE, RESTORE_OCTETS_MAX, RESTORE_PATIENCE, RESTORE_TOLD_OCTETS_MAX};
use crate::update::restore::{FILE, Looked, Queue};
use core::time::Duration;
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Ourselves, as the image has us.
const PROGRAM: &str = "/bin/stratamx";
/// What is overwritten at a time.
const PIECE_OCTETS: usize = 1 << 20;

/// Moves the server's file to `place`, and makes it root's. What it names is not followed, and nobody else has a name for it: what is refused stays
/// where it is.
///
/// # Errors
/// A sentence.
pub(super) fn take(mail: &Path, place: &Path) -> Result<u64, String> {
    let source = mail.join(FILE);
    let failed = |error: &dyn core::fmt::Display| format!("{FILE}: {error}");
    let is_file = fs::symlink_metadata(&source).map_err(|error| failed(&error))?.is_file();
    if !is_file {
        return Err(failed(&"it is no file"));
    }
    fs::rename(&source, place).map_err(|error| failed(&error))?;
    // From here on the server has no way to its name; it is looked at here.
    let taken = open(place, false).and_then(|file| {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 || metadata.len() > RESTORE_OCTETS_MAX {
            return Err(io::Error::other("it is no file, has another name, or is too large"));
        }
        fchown(&file, Some(rustix::process::geteuid().as_raw()), None)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()?;
        Ok(metadata.len())
    });
    taken.map_err(|error| {
        let _ = erase(place);
        failed(&error)
    })
}

fn open(path: &Path, writes: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(!writes).write(writes).custom_flags(flags).open(path)
}

/// Overwrites what it has on the disk, as far as that goes, and removes it: whatever is there, it is gone behind this. One that is not there is gone.
///
/// # Errors
/// Of the file system: it is still there.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    let removed = match open(path, true) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(file) => {
            // A block that cannot be written keeps nobody from removing the rest.
            let _ = overwrite(&file);
            fs::remove_file(path)
        }
        Err(_) => fs::remove_file(path).or_else(|_| fs::remove_dir_all(path)),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Holes stay holes: they hold nothing, and there may be no room to fill them.
fn overwrite(file: &File) -> io::Result<()> {
    let (end, zeros) = (file.metadata()?.len(), vec![0; PIECE_OCTETS]);
    let mut at = 0;
    while at < end {
        let data = match seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole is behind it.
            Err(Errno::NXIO) => break,
            data => data?,
        };
        let hole = seek(file, SeekFrom::Hole(data))?.min(end);
        at = data;
        while at < hole {
            let count = usize::try_from(hole - at).unwrap_or(PIECE_OCTETS).min(PIECE_OCTETS);
            file.write_all_at(&zeros[..count], at)?;
            at += count as u64;
        }
    }
    file.sync_all()
}

/// What the program says of an archive, which it reads to its end as the server's user; with a directory of his it unpacks it there, and counts.
///
/// # Errors
/// A sentence: what is wrong with it.
pub(super) fn look(archive: &Path, data_dir: Option<&Path>, owner: u32) -> Result<Looked, String> {
    let file = open(archive, false).map_err(|error| format!("the archive: {error}"))?;
    let mut command = Command::new(PROGRAM);
    command.args(["restore", "-", "--machine"]).current_dir("/").uid(owner).gid(owner).stdin(file);
    if let Some(data_dir) = data_dir {
        command.arg("--data-dir").arg(data_dir);
    }
    said(&mut command, RESTORE_PATIENCE).map_err(|error| format!("the backup {error}"))
}

/// What waits in the store that a server has worked on, by his configuration and in his environment.
///
/// # Errors
/// A sentence.
pub(crate) fn count(
    directory: &Path,
    configuration: &str,
    environment: &[(&'static str, String)],
    owner: u32,
) -> Result<Queue, String> {
    let mut command = Command::new(PROGRAM);
    command.args(["restore", "--count", configuration]).current_dir(directory).uid(owner).gid(owner);
    command.envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    said(&mut command, RESTORE_COUNT_PATIENCE)?.queue.ok_or_else(|| "nothing was counted".to_owned())
}

fn said(command: &mut Command, patience: Duration) -> Result<Looked, String> {
    let said = reaping::lasting(command, RESTORE_TOLD_OCTETS_MAX, patience);
    let Said { is_done, out, errors } = said.map_err(|error| format!("cannot be looked at: {error}"))?;
    if !is_done {
        // What strangers wrote commands no terminal.
        let words = bounded(errors.trim_start_matches("stratamx: ").trim_start_matches("-: "));
        let unknown = || "cannot be looked at: the program failed over it".to_owned();
        return Err(if words.is_empty() { unknown() } else { words });
    }
    serde_json::from_slice(&out).map_err(|error| format!("cannot be looked at: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_one_name_is_taken_and_it_is_overwritten() {
        let root = std::env::temp_dir().join(format!("stratamx-archive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (mail, place) = (root.join("mail"), root.join("archive"));
        fs::create_dir_all(&mail).unwrap();
        let source = mail.join(FILE);
        assert!(take(&mail, &place).unwrap_err().contains("No such file"));
        std::os::unix::fs::symlink("/etc/passwd", &source).unwrap();
        assert!(take(&mail, &place).unwrap_err().contains("no file"));
        fs::remove_file(&source).unwrap();
        fs::write(&source, "secret").unwrap();
        fs::hard_link(&source, mail.join("another")).unwrap();
        assert!(take(&mail, &place).unwrap_err().contains("has another name"));
        assert!(!place.exists() && !source.exists());
        fs::write(&source, "secret").unwrap();
        assert_eq!(take(&mail, &place), Ok(6));
        let handle = File::open(&place).unwrap();
        erase(&place).unwrap();
        assert_eq!(io::read_to_string(handle).unwrap(), "\0\0\0\0\0\0");
        erase(&place).unwrap();
        // More than any disk has, and nearly nothing of it there; and what is no file at all.
        let sparse = File::create(&place).unwrap();
        sparse.set_len(1 << 40).unwrap();
        sparse.write_all_at(b"secret", 1 << 39).unwrap();
        let handle = File::open(&place).unwrap();
        erase(&place).unwrap();
        let mut octets = [1; 6];
        handle.read_exact_at(&mut octets, 1 << 39).unwrap();
        assert_eq!((octets, place.exists()), ([0; 6], false));
        assert!(handle.metadata().unwrap().blocks() < 1 << 20, "the hole was filled");
        fs::create_dir_all(place.join("within")).unwrap();
        erase(&place).unwrap();
        assert!(!place.exists());
        fs::remove_dir_all(root).unwrap();
    }
}
