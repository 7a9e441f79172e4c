//! Whether this start is a trial of a new version, and its end: the blessing.
//!
//! systemd-boot counts: it starts `NAME+3.efi` as `NAME+2-1.efi`, and so on; at `+0-3` the entry is the last one that it takes. A version that has
//! proven itself ([`super::update::SelfTest`]) with the data partition under it is renamed to `NAME.efi`: from then on it is the good one. Nothing else is ever
//! renamed, and never before.

use super::console::say;
use super::update::{Esp, blessed};
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the firmware keeps its variables.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// systemd-boot's: the file that was started, with its counters; there while it counts.
const COUNTED: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// A variable begins with its attributes.
const ATTRIBUTES_OCTETS: usize = 4;

/// The counted file that was started, as a path on the ESP; none when nothing is on trial.
pub(super) fn counted() -> Option<PathBuf> {
    let _ = mount("efivarfs", VARIABLES, "efivarfs", MountFlags::NOSUID | MountFlags::NOEXEC, None);
    let variable = fs::read(Path::new(VARIABLES).join(COUNTED)).ok()?;
    let units =
        variable.get(ATTRIBUTES_OCTETS..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()?;
    let path = PathBuf::from(text.replace('\\', "/").trim_start_matches('/'));
    blessed(path.file_name()?.to_str()?)?;
    Some(path)
}

/// Makes the running version the good one. Whether it is; where it is not the loader counts on, so it has to be tried again.
pub(super) fn bless(counted: &Path) -> bool {
    let done = rename(counted);
    match &done {
        Ok(good) => say(&format!("this version is good: {good}")),
        Err(error) => say(&format!("this version could not be marked as good, and stays on trial: {error}")),
    }
    done.is_ok()
}

fn rename(counted: &Path) -> Result<String, String> {
    let name = counted.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let good = blessed(name).ok_or("it has no counter")?;
    let esp = Esp::open()?;
    let path = esp.path(counted);
    let (good_path, text) = (path.with_file_name(&good), |error: std::io::Error| error.to_string());
    // One that was tried before may have been renamed, and not synced.
    if path.try_exists().map_err(text)? || !good_path.try_exists().map_err(text)? {
        fs::rename(&path, good_path).map_err(text)?;
    }
    esp.sync().map(|()| good)
}
