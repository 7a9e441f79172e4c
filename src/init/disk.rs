//! The data partition: found by its name in the partition table, grown to the end of its disk, formatted once, mounted, and proven.
//!
//! Promise: **nothing is served from anything else.** A server whose data directory is on the RAM disk says 250 to mail that is gone with the
//! next reset, and looks well until then. So the partition is found by the name `stratamx-data`, exactly one of it, and before each start of
//! the server the directory that it works in must be of that device and of its file system ([`Volume::prove`]).
//!
//! Of two disks with such a partition none is taken: the first that appears would be one today and the other tomorrow, and mail would lie on both. Disks
//! on USB appear late, so where there is USB they are waited for until nothing new comes ([`settle`]).
//!
//! What happens to a partition's content is [`judge`], pure: only what was never written to is formatted, and once: that it was is kept on another partition,
//! so a head that was lost later is no new disk.
//!
//! | content | formatted before | verdict |
//! |---|---|---|
//! | XFS, complete | | mounted |
//! | XFS, still being made | no | formatted: a power cut ended the first start, and nothing was served yet |
//! | the first 64 MiB nothing but zeros | no | formatted |
//! | either of them | yes, or nobody knows | refused: a file system was there |
//! | anything else | | refused: it may be somebody's |

use super::console::say;
use super::growth;
use super::tool;
use crate::limits::{DEVICE_PATIENCE, DEVICES_QUIET};
use core::time::Duration;
use rustix::fs::{FsWord, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where the data partition is mounted.
pub(super) const DATA: &str = "/data";
/// Between two looks for disks.
const LOOK: Duration = Duration::from_millis(100);
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
const HEAD_OCTETS: usize = 64 << 20;
/// The superblock, of it.
const SUPERBLOCK_OCTETS: usize = 512;
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
    /// What was there is not any more.
    Lost,
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
    one_of(name, found)
}

/// See [`find`].
fn one_of(name: &str, mut found: Vec<Partition>) -> Result<Partition, String> {
    found.sort_by(|one, other| one.device.cmp(&other.device));
    match (found.len(), found.pop()) {
        (1, Some(one)) => Ok(one),
        (_, None) => Err(format!("there is no partition named {name}")),
        (count, Some(last)) => {
            let mut names: Vec<String> = found.iter().map(|one| one.device.display().to_string()).collect();
            names.push(last.device.display().to_string());
            let names = names.join(" and ");
            Err(format!("there are {count} partitions named {name}, {names}; exactly one may be connected"))
        }
    }
}

/// Whether the data partition has appeared.
pub(super) fn data_is_there() -> bool {
    find(DATA_PARTITION).is_ok()
}

/// What disk and data partition are called below /dev.
pub(super) fn names() -> Option<(String, String)> {
    let partition = find(DATA_PARTITION).ok()?;
    let disk = fs::canonicalize(&partition.sysfs).ok()?.parent()?.file_name()?.to_str()?.to_owned();
    Some((disk, partition.device.file_name()?.to_str()?.to_owned()))
}

/// Waits until no more disks appear, where there may be some that come late: a second one must be seen before the first is taken.
pub(super) fn settle() {
    let has_usb = fs::read_dir("/sys/bus/usb/devices").is_ok_and(|mut entries| entries.next().is_some());
    let end = Instant::now() + DEVICE_PATIENCE;
    let (mut before, mut since) = (devices(), Instant::now());
    while has_usb && since.elapsed() < DEVICES_QUIET && Instant::now() < end {
        std::thread::sleep(LOOK);
        let now = devices();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

/// The names of all disks and partitions, sorted: another list is other disks.
pub(super) fn devices() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Makes the data partition ready and mounts it. `was_formatted`: by us, at an earlier start; none where nobody knows.
///
/// # Errors
/// A sentence; nothing may be served then.
pub(super) fn open_data(was_formatted: Option<bool>) -> Result<Volume, String> {
    if let Err(error) = grow(&find(DATA_PARTITION)?) {
        say(&format!("the data partition keeps its size: {error}"));
    }
    let partition = find(DATA_PARTITION)?;
    let device = partition.device.display().to_string();
    match judge(&head(&partition.device).map_err(|error| format!("{device}: {error}"))?, was_formatted) {
        Verdict::Mount => {}
        Verdict::Format => {
            say(&format!("formatting {device}"));
            tool::run("/sbin/mkfs.xfs", &["-q", "-f", "-K", "-L", DATA_LABEL, &device])?;
        }
        Verdict::Lost => {
            return Err(format!(
                "{device} was formatted before and has no file system now; if it is to be formatted anew, \
                 delete FORMATTED.TXT on the partition STRATAMX"
            ));
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
fn judge(head: &[u8], was_formatted: Option<bool>) -> Verdict {
    let fresh = if was_formatted == Some(false) { Verdict::Format } else { Verdict::Lost };
    if head.starts_with(b"XFSB") {
        let is_whole = head.get(XFS_IN_PROGRESS).is_some_and(|flag| *flag == 0);
        return if is_whole { Verdict::Mount } else { fresh };
    }
    if head.len() == HEAD_OCTETS && head.iter().all(|octet| *octet == 0) { fresh } else { Verdict::Refuse }
}

/// The superblock of XFS, where it is one; else as much as has to be empty.
fn head(device: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut file = File::open(device)?;
    file.by_ref().take(SUPERBLOCK_OCTETS as u64).read_to_end(&mut head)?;
    if head.iter().all(|octet| *octet == 0) {
        file.take((HEAD_OCTETS - head.len()) as u64).read_to_end(&mut head)?;
    }
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
        let (never, once) = (Some(false), Some(true));
        let mut head = vec![0; HEAD_OCTETS];
        assert_eq!(judge(&head, never), Verdict::Format);
        assert_eq!(judge(&head, once), Verdict::Lost, "the head of a file system was lost");
        assert_eq!(judge(&head, None), Verdict::Lost, "nobody knows");
        head[HEAD_OCTETS - 1] = 1;
        assert_eq!(judge(&head, never), Verdict::Refuse, "one octet of somebody's");
        head[..4].copy_from_slice(b"XFSB");
        assert_eq!(judge(&head, never), Verdict::Mount);
        assert_eq!(judge(&head, once), Verdict::Mount);
        head[XFS_IN_PROGRESS] = 1;
        assert_eq!(judge(&head, never), Verdict::Format, "mkfs was cut off: nothing was served yet");
        assert_eq!(judge(&head, once), Verdict::Lost, "a superblock that was damaged later");
        assert_eq!(judge(b"XFSB", never), Verdict::Format, "no room for a superblock");
        assert_eq!(judge(&[0; 512], never), Verdict::Refuse, "a disk that reads short is not an empty one");
    }

    #[test]
    fn of_two_data_partitions_none_is_taken() {
        let partition = |device: &str| Partition { device: device.into(), sysfs: PathBuf::new() };
        let (one, other) = (partition("/dev/sda3"), partition("/dev/nvme0n1p3"));
        assert_eq!(one_of("data", vec![one.clone()]), Ok(one.clone()));
        assert!(one_of("data", Vec::new()).unwrap_err().contains("no partition named data"));
        let either = [vec![one.clone(), other.clone()], vec![other, one]];
        let told = either.map(|found| one_of("data", found).unwrap_err());
        assert_eq!(told[0], told[1], "whichever came first");
        assert!(told[0].contains("/dev/nvme0n1p3 and /dev/sda3"), "{}", told[0]);
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
