//! What the kernel complains of, in its own log: reads and writes of a disk that failed, and the file system on it.
//!
//! Records of `/dev/kmsg` are `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg). They are counted from the start of the machine on; what
//! the kernel's ring has lost since is lost here too.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

/// Where the kernel's log is.
const LOG: &str = "/dev/kmsg";
/// The kernel's own bound of a record.
const RECORD_OCTETS_MAX: usize = 8192;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Complaints {
    /// Reads and writes of the disk that failed.
    pub(super) io: u64,
    /// Of the file system of the partition.
    pub(super) file_system: u64,
    /// It has given up: nothing is written any more.
    pub(super) is_shut_down: bool,
}

impl Complaints {
    /// Takes one record: whether it is about this disk, or the file system of this partition.
    pub(super) fn take(&mut self, record: &str, disk: &str, partition: &str) -> bool {
        let Some((head, text)) = record.split_once(';') else { return false };
        // Programs can write into the log too; the facility of the kernel is 0.
        let priority = head.split(',').next().and_then(|priority| priority.parse::<u32>().ok());
        if priority.is_none_or(|priority| priority > LEAST_OF_KERNEL) {
            return false;
        }
        let text = text.lines().next().unwrap_or_default();
        if let Some((_, behind)) = text.split_once(" error, dev ") {
            // "I/O error", "critical medium error", "critical target error" ...
            let device = behind.split([',', ' ']).next().unwrap_or_default();
            let is_asked_in_vain = UNSUPPORTED.iter().any(|operation| behind.contains(operation));
            let is_it = is_disk(device, disk) && !is_asked_in_vain;
            self.io += u64::from(is_it);
            return is_it;
        }
        // "nvme nvme0: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 1 timeout, aborting ..."
        if let Some((controller, behind)) =
            text.strip_prefix("nvme ").and_then(|text| text.split_once(": I/O "))
        {
            let is_it = is_namespace(disk, controller) && behind.contains("timeout");
            self.io += u64::from(is_it);
            return is_it;
        }
        let own = text.strip_prefix("XFS (").and_then(|text| text.strip_prefix(partition));
        let Some(said) = own.and_then(|text| text.strip_prefix("): ")) else { return false };
        let is_shut_down = said.contains("shut down") || said.contains("Shutting down");
        let is_it = is_shut_down || said.contains("orruption") || said.contains("error");
        self.is_shut_down |= is_shut_down;
        self.file_system += u64::from(is_it);
        is_it
    }
}

/// Facility 0, all eight levels.
const LEAST_OF_KERNEL: u32 = 7;
/// What a disk may refuse because it cannot do it; no data is lost by that.
const UNSUPPORTED: [&str; 3] = ["(DISCARD)", "(WRITE_ZEROES)", "(SECURE_ERASE)"];

/// Whether a name of the log is this disk: one path to an NVMe drive of several is `nvme0c1n1`, and the drive `nvme0n1`.
fn is_disk(device: &str, disk: &str) -> bool {
    let whole = || {
        let (controller, behind) = device.split_once('c')?;
        let (_, namespace) = behind.split_once('n')?;
        Some(controller.starts_with("nvme") && format!("{controller}n{namespace}") == disk)
    };
    device == disk || whole().unwrap_or(false)
}

/// Whether a drive is one of this controller.
fn is_namespace(disk: &str, controller: &str) -> bool {
    disk.strip_prefix(controller)
        .and_then(|rest| rest.strip_prefix('n'))
        .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// Reads the log for ever, from its beginning; each record is handed over.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn follow(mut heard: impl FnMut(&str)) -> io::Result<()> {
    let mut log = File::open(LOG)?;
    let mut record = vec![0; RECORD_OCTETS_MAX];
    loop {
        match log.read(&mut record) {
            Ok(0) => return Ok(()),
            Ok(count) => heard(&String::from_utf8_lossy(&record[..count])),
            // Records were overwritten before they were read: the next one is the oldest that is left.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_about_this_disk_and_its_file_system_are_counted_and_no_others() {
        let mut complaints = Complaints::default();
        for (record, is_it) in [
            (
                "3,700,5099,-;I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1\n SUBSYSTEM=block",
                true,
            ),
            ("2,701,5100,-;critical medium error, dev sda, sector 9 op 0x0:(READ)", true),
            ("3,702,5101,-;I/O error, dev sdab, sector 2048", false),
            ("3,703,5102,-;I/O error, dev sdb, sector 2048", false),
            ("6,704,5103,-;XFS (sda3): Mounting V5 Filesystem", false),
            ("6,705,5104,-;XFS (sda3): Ending clean mount", false),
            ("1,706,5105,-;XFS (sda3): Metadata corruption detected at xfs_agf_read_verify", true),
            ("1,707,5106,-;XFS (sda31): Metadata corruption detected", false),
            ("14,708,5107,-;stratamx: mail says I/O error, dev sda, sector 1", false),
            ("3,709,5108,-;critical target error, dev sda, sector 8 op 0x3:(DISCARD) flags 0x0", false),
            (
                "4,710,5109,-;nvme nvme0: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 1 timeout, aborting",
                false,
            ),
            ("no record", false),
        ] {
            assert_eq!(complaints.take(record, "sda", "sda3"), is_it, "{record}");
        }
        assert_eq!(complaints, Complaints { io: 2, file_system: 1, is_shut_down: false });
        let mut complaints = Complaints::default();
        for (record, is_it) in [
            ("3,1,1,-;I/O error, dev nvme0n1, sector 8 op 0x0:(READ)", true),
            ("3,2,2,-;I/O error, dev nvme0c1n1, sector 8 op 0x0:(READ)", true),
            ("3,3,3,-;I/O error, dev nvme0c1n2, sector 8 op 0x0:(READ)", false),
            ("4,4,4,-;nvme nvme0: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 1 timeout, aborting", true),
            ("4,5,5,-;nvme nvme01: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 1 timeout, aborting", false),
        ] {
            assert_eq!(complaints.take(record, "nvme0n1", "nvme0n1p3"), is_it, "{record}");
        }
        let record = "1,9,9,-;XFS (sda3): Filesystem has been shut down due to log error (0x2).";
        assert!(complaints.take(record, "sda", "sda3") && complaints.is_shut_down);
    }
}
