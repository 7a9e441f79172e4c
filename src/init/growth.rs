//! A partition table that grows with its disk, and a power cut that leaves the old one or the new one.
//!
//! A GPT is there twice, at the start of a disk and at its end; the kernel takes the one whose checksums hold (that at the end only with `gpt` on its
//! command line, which the image has). The crate that makes a table writes parts
//! of both in turns, and a cut in between would leave neither. So what it writes is recorded ([`Recorder`]), and written to the disk afterwards: all that
//! belongs to the end, synced, then all that belongs to the start, synced. At each instant one of the two is whole.

use gpt::disk::LogicalBlockSize;
use gpt::{GptConfig, GptError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

/// Moves the end of the last partition to that of the disk, if it is called `name`. Whether there was anything to do.
///
/// # Errors
/// A sentence; the table is whole.
pub(super) fn grow(disk: &File, block: u64, name: &str) -> Result<bool, String> {
    let text = |error: io::Error| error.to_string();
    let Some(writes) = plan(disk, block, name)? else { return Ok(false) };
    let middle = length(disk).map_err(text)? / 2;
    let (end, start): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.at > middle);
    for half in [end, start] {
        for write in half {
            disk.write_all_at(&write.octets, write.at).map_err(text)?;
        }
        disk.sync_all().map_err(text)?;
    }
    Ok(true)
}

/// One write to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recorded {
    at: u64,
    octets: Vec<u8>,
}

/// What has to be written; none where nothing has.
fn plan(disk: &File, block: u64, name: &str) -> Result<Option<Vec<Recorded>>, String> {
    let block = match block {
        512 => LogicalBlockSize::Lb512,
        4096 => LogicalBlockSize::Lb4096,
        other => return Err(format!("its disk has sectors of {other} octets")),
    };
    let text = |error: GptError| error.to_string();
    let recorder =
        Recorder { disk: disk.try_clone().map_err(|error| error.to_string())?, at: 0, writes: Vec::new() };
    let config = GptConfig::new().writable(true).logical_block_size(block);
    let mut table = config.open_from_device(recorder).map_err(text)?;
    // With headers for the disk as it is now, the room at its end counts.
    let mut partitions = table.partitions().clone();
    table.update_partitions(partitions.clone()).map_err(text)?;
    let last_usable = table.header().last_usable;
    let last = partitions.values_mut().filter(|part| part.is_used()).max_by_key(|part| part.last_lba);
    match last {
        Some(last) if last.name == name && last.last_lba < last_usable => last.last_lba = last_usable,
        _ => return Ok(None),
    }
    table.update_partitions(partitions).map_err(text)?;
    Ok(Some(table.write().map_err(text)?.writes))
}

/// A block device has no length in its metadata: its end is looked for.
fn length(mut disk: &File) -> io::Result<u64> {
    disk.seek(SeekFrom::End(0))
}

/// A disk that is read, and whose writes are kept aside; reads see them.
#[derive(Debug)]
struct Recorder {
    disk: File,
    at: u64,
    writes: Vec<Recorded>,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.disk.read_at(buffer, self.at)?;
        for write in &self.writes {
            let begin = write.at.max(self.at);
            let end = (write.at + write.octets.len() as u64).min(self.at + count as u64);
            if begin < end {
                let place = |offset: u64| usize::try_from(offset).map_err(io::Error::other);
                let (from, to, size) =
                    (place(begin - write.at)?, place(begin - self.at)?, place(end - begin)?);
                buffer[to..to + size].copy_from_slice(&write.octets[from..from + size]);
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Recorder {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.writes.push(Recorded { at: self.at, octets: octets.to_vec() });
        self.at += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(offset) => self.at.saturating_add_signed(offset),
            SeekFrom::End(offset) => length(&self.disk)?.saturating_add_signed(offset),
        };
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const NAME: &str = "stratamx-data";

    /// A table for a small disk, on a disk that has become larger.
    fn disk(test: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("stratamx-grow-{test}-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        gpt::mbr::ProtectiveMBR::with_lb_size((64 << 20) / 512 - 1).overwrite_lba0(&mut &file).unwrap();
        let config = GptConfig::new().writable(true);
        let mut table = config.create_from_device(file.try_clone().unwrap(), None).unwrap();
        for name in ["stratamx-cfg", NAME] {
            table.add_partition(name, 8 << 20, gpt::partition_types::LINUX_FS, 0, None).unwrap();
        }
        table.write().unwrap();
        file.set_len(256 << 20).unwrap();
        (path, file)
    }

    /// How large the data partition is, in octets, by the rule of the kernel and the firmware: the table at the end of the disk counts where
    /// the checksums of the first one do not hold. The crate looks at the first one's header only, so then it has none.
    fn size(disk: &File) -> u64 {
        let open = || GptConfig::new().open_from_device(disk.try_clone().unwrap());
        let table = open().unwrap_or_else(|_| {
            disk.write_all_at(&[0; 512], 512).unwrap();
            open().expect("one of the two is whole")
        });
        let names: Vec<_> = table.partitions().values().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["stratamx-cfg", NAME]);
        table.partitions().values().last().unwrap().bytes_len(LogicalBlockSize::Lb512).unwrap()
    }

    #[test]
    fn the_last_partition_grows_with_its_disk() {
        let (path, disk) = disk("whole");
        assert_eq!(size(&disk), 8 << 20);
        assert!(!grow(&disk, 512, "another").unwrap(), "only the one that is ours");
        assert!(grow(&disk, 512, NAME).unwrap());
        assert!(size(&disk) > 200 << 20);
        assert!(
            GptConfig::new().only_valid_headers(true).open_from_device(disk.try_clone().unwrap()).is_ok()
        );
        assert!(!grow(&disk, 512, NAME).unwrap(), "there is nothing left to grow into");
        assert!(grow(&disk, 520, NAME).is_err());
        std::fs::remove_file(path).unwrap();
    }

    /// The writes of each half in any order and any number: the other half is whole.
    #[test]
    fn a_power_cut_leaves_the_old_table_or_the_new_one() {
        let (path, whole) = disk("cut");
        let writes = plan(&whole, 512, NAME).unwrap().unwrap();
        let middle = length(&whole).unwrap() / 2;
        let (end, start): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.at > middle);
        assert!(!end.is_empty() && !start.is_empty());
        let (mut old, mut new) = (0, 0);
        for (half, before) in [(&end, &Vec::new()), (&start, &end)] {
            for cut in 0..=half.len() {
                for reversed in [false, true] {
                    let cut_path = path.with_extension("copy");
                    std::fs::copy(&path, &cut_path).unwrap();
                    let disk = File::options().read(true).write(true).open(&cut_path).unwrap();
                    before.iter().for_each(|write| disk.write_all_at(&write.octets, write.at).unwrap());
                    let mut order: Vec<_> = half.iter().collect();
                    if reversed {
                        order.reverse();
                    }
                    order
                        .iter()
                        .take(cut)
                        .for_each(|write| disk.write_all_at(&write.octets, write.at).unwrap());
                    *(if size(&disk) == 8 << 20 { &mut old } else { &mut new }) += 1;
                    std::fs::remove_file(cut_path).unwrap();
                }
            }
        }
        assert!(old > 0 && new > 0, "{old} {new}");
        std::fs::remove_file(path).unwrap();
    }
}
