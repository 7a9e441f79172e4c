//! What is remembered of a disk from one start to the next: that it told how it is, what it counted, and when something failed last. A file of the state directory.
//!
//! A count by itself says little: a block that was replaced years ago is no reason to replace the disk, one more of them each week is. So growth is told, and a
//! complaint for some days, also when the machine was restarted behind it.

use super::super::tool::write_durably;
use super::smart::Smart;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// In the state directory.
const FILE: &str = "disk.json";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// Which disk it is of, by model and serial number.
    pub(super) disk: String,
    /// It has told how it is.
    pub(super) has_told: bool,
    pub(super) media_errors: u64,
    pub(super) reallocated: u64,
    /// When one of these was seen to grow last, in seconds since 1970.
    pub(super) grown_s: Option<u64>,
    /// When the kernel complained last.
    pub(super) complained_s: Option<u64>,
}

impl Memory {
    /// That of the last start; of none nothing.
    pub(super) fn read(directory: &Path) -> Self {
        let text = fs::read(directory.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn keep(&self, directory: &Path) -> io::Result<()> {
        write_durably(directory, FILE, &serde_json::to_vec(self)?, 0o600)
    }

    /// What a disk says now. Another one than before begins anew.
    pub(super) fn told(&mut self, smart: &Smart, now_s: u64) {
        let disk = [&smart.model, &smart.serial].map(|name| name.clone().unwrap_or_default()).join(" ");
        let (media_errors, reallocated) = (smart.media_errors.unwrap_or(0), smart.reallocated.unwrap_or(0));
        if disk == self.disk && (media_errors > self.media_errors || reallocated > self.reallocated) {
            self.grown_s = Some(now_s);
        }
        let (grown_s, complained_s) = if disk == self.disk || self.disk.is_empty() {
            (self.grown_s, self.complained_s)
        } else {
            (None, None)
        };
        *self = Self { disk, has_told: true, media_errors, reallocated, grown_s, complained_s };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_remembered_over_starts_and_another_disk_begins_anew() {
        let smart = |serial: &str, media_errors| Smart {
            serial: Some(serial.to_owned()),
            media_errors: Some(media_errors),
            ..Smart::default()
        };
        let mut memory = Memory { complained_s: Some(5), ..Memory::default() };
        memory.told(&smart("one", 7), 10);
        assert_eq!((memory.grown_s, memory.complained_s), (None, Some(5)), "what it had before is its past");
        memory.told(&smart("one", 7), 20);
        assert_eq!(memory.grown_s, None);
        memory.told(&smart("one", 8), 30);
        assert_eq!(memory.grown_s, Some(30));
        let directory = std::env::temp_dir().join(format!("stratamx-disk-memory-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(Memory::read(&directory), Memory::default());
        memory.keep(&directory).unwrap();
        let mut again = Memory::read(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(again, memory);
        again.told(&smart("other", 9), 40);
        assert_eq!((again.grown_s, again.complained_s, again.has_told), (None, None, true));
    }
}
