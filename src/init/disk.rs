//! The data partition: found by its name in the partition table, grown to the end of its disk, formatted once, mounted, and proven.
//!
//! Promise: **nothing is served from anything else.** A server whose data directory is on the RAM disk says 250 to mail that is gone with the
//! next reset, and looks well until then. So the partition is found by the name `stratamx-data`, exactly one of it, and before each start of
//! the server the directory that it works in must be of that device and of its file system ([`Volume::prove`]).
//!
//! What happens to a partition's content is [`judge`], pure: only what was never written to is formatted.
//!
//! | superblock | verdict |
//! |---|---|
//! | XFS, complete | mounted |
//! | XFS, still being made | formatted: a power cut ended the first start, and nothing was served yet |
//! | nothing but zeros | formatted |
//! | anything else | refused: it may be somebody's |

use super::console::say;
use super::growth;
use super::tool;
use rustix::fs::{FsWord, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the data partition is mounted.
pub(super) const DATA: &str = "/data";
/// What it is called in the partition table.
const DATA_PARTITION: &str = "stratamx-data";
/// What the file system on it is called: XFS takes 12 octets.
const DATA_LABEL: &str = "stratamx";
/// The partition with the configuration, for people.
pub(super) const CONFIGURATION_PARTITION: &str = "stratamx-cfg";
/// The EFI system partition.
pub(super) const ESP_PARTITION: &str = "stratamx-esp";
/// linux/magic.h.
const XFS_SUPER_MAGIC: FsWord = 0x5846_5342;
/// What is looked at before a partition counts as empty.
const HEAD_OCTETS: usize = 1 << 20;
/// `sb_inprogress` of the superblock: set while mkfs works.
const XFS_IN_PROGRESS: usize = 126;
/// Sectors of sysfs, whatever the disk's are.
const SECTOR_OCTETS: u64 = 512;
/// Less than this at the end of a disk is not worth a new partition table.
const GROWTH_OCTETS_MIN: u64 = 16 << 20;

/// One partition as sysfs has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// The device below /dev.
    pub(super) device: PathBuf,
    /// Its directory in sysfs.
    sysfs: PathBuf,
}

/// What the content of a partition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Format,
    Mount,
    Refuse,
}

/// The mounted data partition.
#[derive(Debug)]
pub(super) struct Volume {
    device_number: u64,
}

/// The partition of this name, if there is exactly one.
///
/// # Errors
/// A sentence when there is none, or more than one: whose mail is on which disk nobody can tell then.
pub(super) fn find(name: &str) -> Result<Partition, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let sysfs = entry.path();
        let uevent = fs::read_to_string(sysfs.join("uevent")).unwrap_or_default();
        if uevent.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(name)) {
            found.push(Partition { device: Path::new("/dev").join(entry.file_name()), sysfs });
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("there is no partition named {name}")),
        more => {
            Err(format!("there are {} partitions named {name}; exactly one may be connected", more.len()))
        }
    }
}

/// Whether the data partition has appeared.
pub(super) fn data_is_there() -> bool {
    find(DATA_PARTITION).is_ok()
}

/// Makes the data partition ready and mounts it.
///
/// # Errors
/// A sentence; nothing may be served then.
pub(super) fn open_data() -> Result<Volume, String> {
    if let Err(error) = grow(&find(DATA_PARTITION)?) {
        say(&format!("the data partition keeps its size: {error}"));
    }
    let partition = find(DATA_PARTITION)?;
    let device = partition.device.display().to_string();
    match judge(&head(&partition.device).map_err(|error| format!("{device}: {error}"))?) {
        Verdict::Mount => {}
        Verdict::Format => {
            say(&format!("formatting {device}"));
            tool::run("/sbin/mkfs.xfs", &["-q", "-f", "-K", "-L", DATA_LABEL, &device])?;
        }
        Verdict::Refuse => {
            return Err(format!("{device} has something on it that is not ours; it is left alone"));
        }
    }
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    fs::create_dir_all(DATA).map_err(|error| error.to_string())?;
    mount(&partition.device, DATA, "xfs", flags, None)
        .map_err(|error| format!("{device} cannot be mounted: {error}"))?;
    let volume = Volume { device_number: device_number(&partition)? };
    volume.prove(Path::new(DATA))?;
    if let Err(error) = tool::run("/sbin/xfs_growfs", &["-d", DATA]) {
        say(&format!("the file system keeps its size: {error}"));
    }
    Ok(volume)
}

impl Volume {
    /// Whether a directory is of the data partition and its file system.
    ///
    /// # Errors
    /// A sentence: nothing may be written there.
    pub(super) fn prove(&self, directory: &Path) -> Result<(), String> {
        let named = directory.display();
        let metadata = fs::metadata(directory).map_err(|error| format!("{named}: {error}"))?;
        let kind = statfs(directory).map_err(|error| format!("{named}: {error}"))?.f_type;
        if kind != XFS_SUPER_MAGIC {
            return Err(format!("{named} is not on XFS ({kind:#x})"));
        }
        if metadata.dev() != self.device_number {
            return Err(format!("{named} is not on the data partition"));
        }
        Ok(())
    }

    /// Unmounts it; where somebody holds on to it, what is written is synced at least.
    pub(super) fn close(self) {
        rustix::fs::sync();
        if let Err(error) = unmount(DATA, UnmountFlags::empty()) {
            say(&format!("{DATA} stays mounted: {error}"));
        }
    }
}

/// See the module.
fn judge(head: &[u8]) -> Verdict {
    if head.starts_with(b"XFSB") {
        return if head.get(XFS_IN_PROGRESS).is_some_and(|flag| *flag == 0) {
            Verdict::Mount
        } else {
            Verdict::Format
        };
    }
    if head.len() == HEAD_OCTETS && head.iter().all(|octet| *octet == 0) {
        Verdict::Format
    } else {
        Verdict::Refuse
    }
}

fn head(device: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(device)?.take(HEAD_OCTETS as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// As `stat` has it of what is on the device.
fn device_number(partition: &Partition) -> Result<u64, String> {
    let metadata = fs::metadata(&partition.device).map_err(|error| error.to_string())?;
    Ok(metadata.rdev())
}

/// Moves the end of the partition to that of its disk, if nothing is behind it: an image is small and a disk is large.
fn grow(partition: &Partition) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let sysfs = fs::canonicalize(&partition.sysfs).map_err(text)?;
    let disk = sysfs.parent().ok_or("it has no disk")?;
    let number = |path: PathBuf| -> Result<u64, String> {
        fs::read_to_string(path)
            .map_err(text)?
            .trim()
            .parse()
            .map_err(|_| "sysfs is not understood".to_owned())
    };
    let end = number(sysfs.join("start"))? + number(sysfs.join("size"))?;
    if (number(disk.join("size"))?.saturating_sub(end)) * SECTOR_OCTETS < GROWTH_OCTETS_MIN {
        return Ok(());
    }
    let device = Path::new("/dev").join(disk.file_name().ok_or("it has no disk")?);
    let file = File::options().read(true).write(true).open(&device).map_err(text)?;
    let block = number(disk.join("queue/logical_block_size"))?;
    if !growth::grow(&file, block, DATA_PARTITION)? {
        return Ok(());
    }
    say("the data partition grows to the end of its disk");
    tool::busybox(&["blockdev", "--rereadpt", &device.display().to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_to_is_formatted() {
        let mut head = vec![0; HEAD_OCTETS];
        assert_eq!(judge(&head), Verdict::Format);
        head[HEAD_OCTETS - 1] = 1;
        assert_eq!(judge(&head), Verdict::Refuse, "one octet of somebody's");
        head[..4].copy_from_slice(b"XFSB");
        assert_eq!(judge(&head), Verdict::Mount);
        head[XFS_IN_PROGRESS] = 1;
        assert_eq!(judge(&head), Verdict::Format, "mkfs was cut off: nothing was served yet");
        assert_eq!(judge(b"XFSB"), Verdict::Format, "no room for a superblock");
        assert_eq!(judge(&[0; 512]), Verdict::Refuse, "a disk that reads short is not an empty one");
    }

    #[test]
    fn a_directory_elsewhere_is_not_proven() {
        let directory = std::env::temp_dir();
        let elsewhere = Volume { device_number: u64::MAX };
        assert!(elsewhere.prove(&directory).is_err());
        assert!(elsewhere.prove(Path::new("/proc")).unwrap_err().contains("not on XFS"));
        assert!(elsewhere.prove(Path::new("/no/such/directory")).is_err());
    }
}
