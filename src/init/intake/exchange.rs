//! The configuration partition, which any computer can write: FAT, called STRATAMX. Mounted for a moment.

use super::super::console::say;
use super::super::disk::{self, CONFIGURATION_PARTITION};
use super::super::revision::{Files, files_of, names};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::Path;

/// Where it is mounted.
const PLACE: &str = "/run/config";
/// What is told about what was taken.
const RECEIPT: &str = "IMPORTED.TXT";
/// That the data partition was formatted.
const FORMATTED: &str = "FORMATTED.TXT";
const FORMATTED_TEXT: &str = "The appliance has formatted its data partition. With this file here it never does so again,\r\n\
    whatever becomes of what is on it; without it an empty one is formatted at the next start.\r\n";

/// Whether the data partition was formatted at an earlier start; none where nobody knows.
pub(super) fn was_formatted() -> Option<bool> {
    let exchange = Exchange::open().map_err(|error| say(&format!("the configuration partition: {error}")));
    exchange.ok().map(|_mounted| Path::new(PLACE).join(FORMATTED).exists())
}

/// From here on it was.
pub(super) fn tell_formatted() {
    let written = Exchange::open().and_then(|_mounted| {
        // Its being there is what counts.
        let written = fs::write(Path::new(PLACE).join(FORMATTED), FORMATTED_TEXT);
        rustix::fs::sync();
        written.map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        say(&format!("that the data partition was formatted is not kept: {error}"));
    }
}

/// Mounted until it is dropped.
#[derive(Debug)]
pub(super) struct Exchange;

impl Exchange {
    /// Mounts it.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open() -> Result<Self, String> {
        let partition = disk::find(CONFIGURATION_PARTITION)?;
        fs::create_dir_all(PLACE).map_err(|error| error.to_string())?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(&partition.device, PLACE, "vfat", flags, None).map_err(|error| error.to_string())?;
        Ok(Self)
    }

    /// What is there for us.
    ///
    /// # Errors
    /// A sentence when it is too much.
    pub(super) fn files(&self) -> Result<Files, String> {
        let mut files = files_of(Path::new(PLACE))?;
        files.retain(|name, octets| !is_wiped(name, octets));
        Ok(files)
    }

    /// Takes what was imported off the partition: overwritten first, since FAT only forgets where a file was.
    pub(super) fn clean(&self, files: &Files) {
        if files.is_empty() {
            return;
        }
        for (name, octets) in files {
            let path = Path::new(PLACE).join(name);
            let wiped = File::options().write(true).open(&path).and_then(|mut file| {
                file.rewind()?;
                file.write_all(&vec![0; octets.len()])?;
                file.sync_all()
            });
            if let Err(error) = wiped.and_then(|()| fs::remove_file(&path)) {
                say(&format!("{name} stays on the configuration partition: {error}"));
            }
        }
        let receipt = format!(
            "These files were taken by the appliance and are on its data partition now:\r\n{}\r\n\r\n\
             To change the configuration put new ones here and restart; files that are not here stay as they are.\r\n",
            names(files)
        );
        let _ = fs::write(Path::new(PLACE).join(RECEIPT), receipt);
        rustix::fs::sync();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = unmount(PLACE, UnmountFlags::empty());
    }
}

/// What a power cut left of a file that was taken is no file: it goes now.
fn is_wiped(name: &str, octets: &[u8]) -> bool {
    let is_wiped = !octets.is_empty() && octets.iter().all(|octet| *octet == 0);
    if is_wiped {
        let _ = fs::remove_file(Path::new(PLACE).join(name));
    }
    is_wiped
}
