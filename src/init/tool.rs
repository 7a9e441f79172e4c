//! Programs that PID 1 has others do things by, and files that survive a power cut.
//!
//! Other people's programs do what they do well: busybox (addresses, DHCP, time), mkfs.xfs, xfs_growfs, smartctl ([`super::health`]). They are part of the image and are run
//! with fixed arguments; nothing of the configuration goes through a shell.

use super::reaping;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// One binary, many small programs.
pub(super) const BUSYBOX: &str = "/bin/busybox";

/// Runs a program to its end.
///
/// # Errors
/// A sentence with what it said.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let named = || format!("{program} {}", arguments.join(" "));
    let output = reaping::output(Command::new(program).args(arguments).stdin(Stdio::null()));
    let output = output.map_err(|error| format!("{}: {error}", named()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}: {}", named(), output.status, said.trim()))
}

/// Runs a program of busybox.
///
/// # Errors
/// As [`run`].
pub(super) fn busybox(arguments: &[&str]) -> Result<(), String> {
    run(BUSYBOX, arguments)
}

/// Writes a file whole or not at all: beside its place, synced, then renamed, then the directory synced.
///
/// # Errors
/// Of the file system; the old file is there then.
pub(super) fn write_durably(directory: &Path, name: &str, octets: &[u8], mode: u32) -> io::Result<()> {
    write_for(directory, name, octets, mode, None)
}

/// The same, for somebody: nobody ever sees a file there that he cannot read. What is new is made anew, never followed to: in a directory of the
/// server's a link may lie in its place.
///
/// # Errors
/// As [`write_durably`].
pub(super) fn write_for(
    directory: &Path,
    name: &str,
    octets: &[u8],
    mode: u32,
    owner: Option<u32>,
) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(octets)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fchown(&file, owner, owner)?;
    file.sync_all()?;
    fs::rename(&new, directory.join(name))?;
    sync_directory(directory)
}

/// Makes names in a directory durable.
///
/// # Errors
/// Of the file system.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Seconds since 1970, as far as the machine knows.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
