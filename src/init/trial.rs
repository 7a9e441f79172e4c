//! Whether this start is a trial of a new version, and its end: the blessing.
//!
//! systemd-boot counts: it starts `NAME+3.efi` as `NAME+2-1.efi`, and so on; at `+0-3` the entry is the last one that it takes. A version that has
//! greeted on port 25 with the data partition under it is renamed to `NAME.efi`: from then on it is the good one. Nothing else is ever
//! renamed, and never before.

use super::console::say;
use super::disk::{self, ESP_PARTITION};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the firmware keeps its variables.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// systemd-boot's: the file that was started, with its counters; there while it counts.
const COUNTED: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// A variable begins with its attributes.
const ATTRIBUTES_OCTETS: usize = 4;
const PLACE: &str = "/run/esp";

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

/// Makes the running version the good one.
pub(super) fn bless(counted: &Path) {
    match rename(counted) {
        Ok(good) => say(&format!("this version is good: {good}")),
        Err(error) => say(&format!("this version could not be marked as good: {error}")),
    }
}

fn rename(counted: &Path) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let name = counted.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let good = blessed(name).ok_or("it has no counter")?;
    let partition = disk::find(ESP_PARTITION)?;
    fs::create_dir_all(PLACE).map_err(text)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(&partition.device, PLACE, "vfat", flags, None).map_err(|error| error.to_string())?;
    let path = Path::new(PLACE).join(counted);
    let renamed = fs::rename(&path, path.with_file_name(&good)).map_err(text);
    let synced = File::open(PLACE)
        .map_err(text)
        .and_then(|place| rustix::fs::syncfs(place).map_err(|error| error.to_string()));
    let unmounted = unmount(PLACE, UnmountFlags::empty()).map_err(|error| error.to_string());
    renamed.and(synced).and(unmounted).map(|()| good)
}

/// The name without its counters; none where it has none.
fn blessed(name: &str) -> Option<String> {
    let (start, counters) = name.strip_suffix(".efi")?.rsplit_once('+')?;
    let mut numbers = counters.splitn(2, '-');
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|character| character.is_ascii_digit());
    numbers.all(is_number).then(|| format!("{start}.efi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_counter_is_taken_off() {
        assert_eq!(blessed("stratamx_1.0+2-1.efi").as_deref(), Some("stratamx_1.0.efi"));
        assert_eq!(blessed("stratamx_1.0+3.efi").as_deref(), Some("stratamx_1.0.efi"));
        assert_eq!(blessed("stratamx_1.0+rc1+0-3.efi").as_deref(), Some("stratamx_1.0+rc1.efi"));
        for none in
            ["stratamx_1.0.efi", "stratamx_1.0+rc1.efi", "stratamx+3", "stratamx+.efi", "stratamx+3-.efi"]
        {
            assert_eq!(blessed(none), None, "{none}");
        }
    }
}
