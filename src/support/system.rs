//! What the kernel tells of the machine and of this process, and what lies in the data directory.

use super::Bundle;
use crate::limits::{SUPPORT_FILE_OCTETS_MAX, SUPPORT_LISTED_MAX};
use core::fmt::Write as _;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Of the kernel; none holds what a process was given as secret (not its environment, not its memory).
const FILES: [&str; 18] = [
    "/etc/os-release",
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/net/dev",
    "/proc/net/snmp",
    "/proc/net/sockstat",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/proc/self/status",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/uptime",
    "/proc/version",
];

/// Adds it, and what could not be had.
pub fn add(bundle: &mut Bundle, data_dir: &Path, missing: &mut Vec<String>) {
    for path in FILES {
        match read(path) {
            Ok(octets) => {
                bundle.add(&format!("system/{}", path.trim_start_matches('/').replace('/', "-")), &octets)
            }
            Err(error) => missing.push(format!("{path}: {error}")),
        }
    }
    bundle.add("data-directory.txt", listed(data_dir).as_bytes());
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    file.take(SUPPORT_FILE_OCTETS_MAX as u64).read_to_end(&mut octets)?;
    Ok(octets)
}

/// Names, sizes and times of files: two levels, as a store has them.
fn listed(data_dir: &Path) -> String {
    let mut out = format!("{}\n", data_dir.display());
    if let Ok(status) = rustix::fs::statvfs(data_dir) {
        let octets = |blocks: u64| blocks.saturating_mul(status.f_frsize);
        let (free, all) = (octets(status.f_bavail), octets(status.f_blocks));
        let _ = writeln!(
            out,
            "{free} octets free of {all}; {} inodes free of {}",
            status.f_favail, status.f_files
        );
    }
    let mut left = SUPPORT_LISTED_MAX;
    list(data_dir, "", &mut left, &mut out);
    if left == 0 {
        out.push_str("and more\n");
    }
    out
}

fn list(directory: &Path, prefix: &str, left: &mut usize, out: &mut String) {
    let Ok(entries) = fs::read_dir(directory) else {
        let _ = writeln!(out, "{prefix} cannot be read");
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = format!("{prefix}{}", entry.file_name().display());
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && prefix.is_empty() => {
                list(&entry.path(), &format!("{name}/"), left, out);
            }
            Ok(metadata) => {
                use std::os::unix::fs::MetadataExt as _;
                let _ = writeln!(
                    out,
                    "{:>12} {:o} {} {name}",
                    metadata.len(),
                    metadata.mode() & 0o7777,
                    metadata.mtime()
                );
            }
            Err(error) => {
                let _ = writeln!(out, "{name}: {error}");
            }
        }
    }
}
