//! The configuration partition, which any computer can write: FAT, called STRATAMX. Mounted for a moment.

use super::super::console::say;
use super::super::disk::{self, CONFIGURATION_PARTITION};
use super::super::revision::{Files, files_of, names};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Where it is mounted.
const PLACE: &str = "/run/config";
/// What is told about what was taken.
const RECEIPT: &str = "IMPORTED.TXT";
/// What the names of files begin with that were taken, and are to be wiped: none of those that are for us.
const TAKEN: &str = ".taken-";
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
        // What a power cut kept from being wiped was taken, and is nobody's file any more.
        wipe_taken(Path::new(PLACE));
        Ok(Self)
    }

    /// What is there for us.
    ///
    /// # Errors
    /// A sentence when it is too much.
    pub(super) fn files(&self) -> Result<Files, String> {
        files_of(Path::new(PLACE))
    }

    /// Takes what was imported off the partition: overwritten first, since FAT only forgets where a file was.
    pub(super) fn clean(&self, files: &Files) {
        if files.is_empty() {
            return;
        }
        let place = Path::new(PLACE);
        for (number, name) in files.keys().enumerate() {
            // Under a name that is not for us it is never half a file, whatever a power cut leaves of it.
            if let Err(error) = fs::rename(place.join(name), place.join(format!("{TAKEN}{number}"))) {
                say(&format!("{name} stays on the configuration partition: {error}"));
            }
        }
        rustix::fs::sync();
        wipe_taken(place);
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

/// Overwrites and removes what was taken.
fn wipe_taken(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TAKEN) {
            continue;
        }
        let path = entry.path();
        let wiped = File::options().write(true).open(&path).and_then(|mut file| {
            let octets = file.metadata()?.len();
            io::copy(&mut io::repeat(0).take(octets), &mut file)?;
            file.sync_all()
        });
        if let Err(error) = wiped.and_then(|()| fs::remove_file(&path)) {
            say(&format!("{} stays on the configuration partition: {error}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::revision::is_name;
    use super::*;

    #[test]
    fn what_was_taken_is_overwritten_and_goes_and_is_never_offered_again() {
        let place = std::env::temp_dir().join(format!("stratamx-exchange-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        let taken = format!("{TAKEN}0");
        assert!(!is_name(&taken));
        // Half of it was wiped before the power failed.
        fs::write(place.join(&taken), "\0\0\0secret").unwrap();
        fs::write(place.join("stratamx.toml"), "stays").unwrap();
        let mut handle = File::open(place.join(&taken)).unwrap();
        wipe_taken(&place);
        let mut octets = Vec::new();
        handle.read_to_end(&mut octets).unwrap();
        assert_eq!(octets, [0; 9]);
        assert!(!place.join(&taken).exists());
        assert_eq!(fs::read_to_string(place.join("stratamx.toml")).unwrap(), "stays");
        fs::remove_dir_all(&place).unwrap();
    }
}
