//! The EFI system partition: mounted for as long as something is done there, and never longer.
//!
//! FAT has no journal. What makes a power cut harmless is that nothing there is ever changed but names in one directory: few enough files (the
//! running version, the new one, the one that is being written) that their entries share its first sector, which a disk writes whole. A cut while
//! clusters are given out may leave some that belong to nobody: the next start gives them back ([`repair`]).

use super::super::disk::{self, ESP_PARTITION};
use super::super::tool;
use crate::update::Image;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PLACE: &str = "/run/esp";
/// Below it: where the loader looks.
const ENTRIES: &str = "EFI/Linux";
/// What begins so is ours.
const OURS: &str = "stratamx_";
const FSCK: &str = "/sbin/fsck.fat";
/// One at a time: what is mounted twice is unmounted twice.
static MOUNTED: Mutex<()> = Mutex::new(());

/// The mounted partition.
#[derive(Debug)]
pub(crate) struct Esp {
    root: PathBuf,
    only: Option<MutexGuard<'static, ()>>,
}

/// A version on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// What the image says of itself; none: it cannot be read.
    pub(super) version: Option<String>,
    /// Starts that it has left; without a counter it has any number.
    pub(super) tries: u32,
}

impl Esp {
    /// Mounts it.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn open() -> Result<Self, String> {
        let only = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = disk::find(ESP_PARTITION)?;
        fs::create_dir_all(PLACE).map_err(|error| error.to_string())?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(&partition.device, PLACE, "vfat", flags, None)
            .map_err(|error| format!("the EFI system partition: {error}"))?;
        Ok(Self { root: PathBuf::from(PLACE), only: Some(only) })
    }

    /// A directory in its place.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), only: None }
    }

    /// Where a path of the loader is.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Where versions are.
    pub(super) fn directory(&self) -> PathBuf {
        self.root.join(ENTRIES)
    }

    /// The versions.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, String> {
        let directory = self.directory();
        let all = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut entries = Vec::new();
        for entry in all {
            let path = entry.map_err(|error| error.to_string())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !name.starts_with(OURS) || !name.ends_with(".efi") {
                continue;
            }
            let tries = tries(name).unwrap_or(u32::MAX);
            let image = File::open(&path).ok().and_then(|mut file| Image::read(&mut file).ok());
            entries.push(Entry { version: image.map(|image| image.version), tries, path });
        }
        Ok(entries)
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<(), String> {
        let root = File::open(&self.root).map_err(|error| error.to_string())?;
        rustix::fs::syncfs(root).map_err(|error| error.to_string())
    }

    /// Octets that can be written.
    pub(super) fn free(&self) -> Result<u64, String> {
        let free = rustix::fs::statvfs(&self.root).map_err(|error| error.to_string())?;
        Ok(free.f_bavail * free.f_frsize)
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        if self.only.is_some() {
            let _ = unmount(&self.root, UnmountFlags::empty());
        }
    }
}

/// Gives clusters back that belong to no file. Only while PID 1 has one thread that starts programs: the others' ends are everybody's.
pub(super) fn repair() -> Result<(), String> {
    let _only = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let device = disk::find(ESP_PARTITION)?.device;
    let output = Command::new(FSCK).args(["-a", "-w"]).arg(&device).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{FSCK}: {error}"))?;
    match output.status.code() {
        // 1: there was something to mend.
        Some(0 | 1) => Ok(()),
        _ => Err(format!("{FSCK}: {}", String::from_utf8_lossy(&output.stdout).trim())),
    }
}

/// The name without its counters; none where it has none.
pub(crate) fn blessed(name: &str) -> Option<String> {
    counters(name).map(|(start, _)| format!("{start}.efi"))
}

/// Starts that are left by the name; none: it is not counted.
fn tries(name: &str) -> Option<u32> {
    let (_, counters) = counters(name)?;
    // More than a number holds is any number.
    Some(counters.split('-').next()?.parse().unwrap_or(u32::MAX))
}

/// `NAME+LEFT.efi` or `NAME+LEFT-DONE.efi`, as systemd-boot counts.
fn counters(name: &str) -> Option<(&str, &str)> {
    let (start, counters) = name.strip_suffix(".efi")?.rsplit_once('+')?;
    let mut numbers = counters.splitn(2, '-');
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|character| character.is_ascii_digit());
    numbers.all(is_number).then_some((start, counters))
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), String> {
    tool::sync_directory(directory).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_counter_is_taken_off() {
        for (name, start, left) in [
            ("stratamx_1.0+2-1.efi", "stratamx_1.0.efi", 2),
            ("stratamx_1.0+3.efi", "stratamx_1.0.efi", 3),
            ("stratamx_1.0+0-3.efi", "stratamx_1.0.efi", 0),
            ("stratamx_1.0+rc1+0-3.efi", "stratamx_1.0+rc1.efi", 0),
            ("stratamx_1.0+99999999999.efi", "stratamx_1.0.efi", u32::MAX),
        ] {
            assert_eq!((blessed(name).as_deref(), tries(name)), (Some(start), Some(left)));
        }
        for none in
            ["stratamx_1.0.efi", "stratamx_1.0+rc1.efi", "stratamx+3", "stratamx+.efi", "stratamx+3-.efi"]
        {
            assert_eq!((blessed(none), tries(none)), (None, None), "{none}");
        }
    }
}
