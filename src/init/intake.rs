//! Where the configuration comes from, and where it stays.
//!
//! In this order:
//! 1. credentials of the hypervisor (SMBIOS type 11, `io.systemd.credential:NAME=TEXT`, or `io.systemd.credential.binary:` with Base64);
//! 2. files on the configuration partition, which any computer can write: `stratamx.toml`, `appliance.toml`, and what they name;
//! 3. the revision that is in force;
//! 4. nothing: the server takes no mail yet, and its admin API can be reached.
//!
//! What comes by 1 or 2 is laid over the files in force, checked whole, and made a new *revision* below `/data/config`, durable before `current`
//! points to it. Only then it leaves the partition: anybody who pulls the disk reads FAT, and a key or token that was once on it is a secret no
//! more. What is wrong is told, stays where it is, and the revision in force stays in force.

use super::console::say;
use super::disk::{self, CONFIGURATION_PARTITION};
use super::settings::Settings;
use super::tool::{sync_directory, write_durably};
use crate::config::Config;
use crate::limits::{CONFIGURATION_FILE_OCTETS_MAX, CONFIGURATION_FILES_MAX, CONFIGURATION_REVISIONS_MAX};
use base64::Engine as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The server's configuration.
pub(super) const SERVER_FILE: &str = "stratamx.toml";
/// The machine's.
pub(super) const MACHINE_FILE: &str = "appliance.toml";
/// What is told about what was taken; never taken itself.
const RECEIPT: &str = "IMPORTED.TXT";
/// Where the configuration partition is mounted, for a moment.
const PLACE: &str = "/run/config";
/// Ourselves, as the server.
const SERVER: &str = "/bin/stratamx";
const CREDENTIAL_TEXT: &str = "io.systemd.credential:";
const CREDENTIAL_BASE64: &str = "io.systemd.credential.binary:";
/// The header of an SMBIOS structure of type 11; its strings come behind.
const SMBIOS_STRINGS_AT: usize = 5;

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Configured {
    /// By whoever runs the machine.
    Given,
    /// By nobody yet.
    Nothing,
}

/// The directory in force below `root`, after what came new was taken into it. `owner` may read it.
///
/// # Errors
/// A sentence when there is nothing that can be in force.
pub(super) fn take(root: &Path, owner: u32, hostname: &str) -> Result<(PathBuf, Configured), String> {
    let current = root.join("current");
    let in_force = files_of(&current)?;
    let mut offered = credentials(Path::new("/sys/firmware/dmi/entries"));
    let mut partition = None;
    if !offered.contains_key(SERVER_FILE) {
        match open_partition() {
            Ok(files) => {
                offered = files.clone();
                partition = Some(files);
            }
            Err(error) => say(&format!("the configuration partition: {error}")),
        }
    }
    let taken = lay_over(root, &in_force, &offered, owner);
    if let Some(files) = partition {
        if taken.is_ok() {
            clean(&files);
        }
        let _ = unmount(PLACE, UnmountFlags::empty());
    }
    match taken {
        Ok(true) => say(&format!("configuration taken: {}", names(&offered))),
        Ok(false) => {}
        Err(error) if in_force.contains_key(SERVER_FILE) => {
            say(&format!("a configuration that cannot be used, the one in force stays: {error}"));
        }
        Err(error) => return Err(error),
    }
    if !files_of(&current)?.contains_key(SERVER_FILE) {
        let mut files = files_of(&current)?;
        files.insert(SERVER_FILE.to_owned(), nothing_given(hostname).into_bytes());
        write_revision(root, &files, owner).map_err(|error| error.to_string())?;
    }
    let configured = match fs::read(current.join(SERVER_FILE)) {
        Ok(text) if text.starts_with(NOTHING_GIVEN.as_bytes()) => Configured::Nothing,
        _ => Configured::Given,
    };
    Ok((fs::canonicalize(current).map_err(|error| error.to_string())?, configured))
}

const NOTHING_GIVEN: &str = "# Made by the appliance, since it was given no configuration.\n";

/// Protects nobody; domains come through the admin API.
fn nothing_given(hostname: &str) -> String {
    format!(
        "{NOTHING_GIVEN}hostname = \"{hostname}\"\npostmaster = \"postmaster@{hostname}\"\ndomain = []\n\n\
         [smtp]\nlisten = [\"0.0.0.0:25\", \"[::]:25\"]\n\n[admin]\nlisten = \"0.0.0.0:8025\"\ntls = \"own\"\n"
    )
}

fn names(files: &Files) -> String {
    files.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// Makes a new revision if what is offered changes anything. Whether it does.
fn lay_over(root: &Path, in_force: &Files, offered: &Files, owner: u32) -> Result<bool, String> {
    let mut files = in_force.clone();
    files.extend(offered.clone());
    if files == *in_force {
        return Ok(false);
    }
    check(root, &files, owner)?;
    write_revision(root, &files, owner).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(true)
}

/// Whether a server and a machine can be made of these files.
fn check(root: &Path, files: &Files, owner: u32) -> Result<(), String> {
    if files.len() > CONFIGURATION_FILES_MAX {
        return Err(format!("with those in force there are more than {CONFIGURATION_FILES_MAX} files"));
    }
    if let Some(text) = files.get(MACHINE_FILE) {
        Settings::parse(&String::from_utf8_lossy(text))?;
    }
    if !files.contains_key(SERVER_FILE) {
        return Ok(());
    }
    let trial = root.join("trial");
    let _ = fs::remove_dir_all(&trial);
    write_files(&trial, files, owner).map_err(|error| format!("{}: {error}", trial.display()))?;
    let loaded = Config::load(&trial.join(SERVER_FILE)).map(drop).map_err(|error| error.to_string());
    let loaded = loaded.and_then(|()| checked(&trial, owner));
    let _ = fs::remove_dir_all(&trial);
    loaded
}

/// What the server itself says of a configuration with its keys, certificates and lists: as its user, in their directory.
fn checked(directory: &Path, owner: u32) -> Result<(), String> {
    if std::process::id() != 1 {
        // Not on the machine that it is made for.
        return Ok(());
    }
    let mut command = Command::new(SERVER);
    command.args(["check", "--config", SERVER_FILE]).current_dir(directory).uid(owner).gid(owner);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{SERVER}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Durable before `current` points to it.
fn write_revision(root: &Path, files: &Files, owner: u32) -> std::io::Result<()> {
    let mut revisions: Vec<u64> =
        fs::read_dir(root)?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    revisions.sort_unstable();
    let number = revisions.last().map_or(1, |last| last + 1);
    let (new, link) = (root.join("new"), root.join("current.new"));
    let _ = fs::remove_dir_all(&new);
    write_files(&new, files, owner)?;
    fs::rename(&new, root.join(number.to_string()))?;
    sync_directory(root)?;
    let _ = fs::remove_file(&link);
    symlink(number.to_string(), &link)?;
    fs::rename(&link, root.join("current"))?;
    sync_directory(root)?;
    let superfluous = (revisions.len() + 1).saturating_sub(CONFIGURATION_REVISIONS_MAX);
    for old in revisions.iter().take(superfluous) {
        fs::remove_dir_all(root.join(old.to_string()))?;
    }
    Ok(())
}

fn write_files(directory: &Path, files: &Files, owner: u32) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    chown(directory, Some(owner), Some(owner))?;
    for (name, octets) in files {
        write_durably(directory, name, octets, 0o600)?;
        chown(directory.join(name), Some(owner), Some(owner))?;
    }
    sync_directory(directory)
}

/// The files of a directory that are for us. One that is not there has none.
///
/// # Errors
/// A sentence when there are too many, or one is too large.
fn files_of(directory: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_name(&name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let mut octets = Vec::new();
        let most = CONFIGURATION_FILE_OCTETS_MAX as u64 + 1;
        let read = File::open(entry.path()).and_then(|file| file.take(most).read_to_end(&mut octets));
        read.map_err(|error| format!("{name}: {error}"))?;
        if octets.len() > CONFIGURATION_FILE_OCTETS_MAX {
            return Err(format!("{name} is larger than {CONFIGURATION_FILE_OCTETS_MAX} octets"));
        }
        files.insert(name, octets);
    }
    if files.len() > CONFIGURATION_FILES_MAX {
        return Err(format!("there are more than {CONFIGURATION_FILES_MAX} files"));
    }
    Ok(files)
}

/// What may be a file of a revision: no path, nothing hidden, and not what we or other computers leave on the partition.
fn is_name(name: &str) -> bool {
    let usual = |character: char| character.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&character);
    !name.starts_with('.')
        && !name.is_empty()
        && name.chars().all(usual)
        && !["readme.txt", "imported.txt"].contains(&name.to_ascii_lowercase().as_str())
}

/// Mounts the configuration partition and reads it.
fn open_partition() -> Result<Files, String> {
    let partition = disk::find(CONFIGURATION_PARTITION)?;
    fs::create_dir_all(PLACE).map_err(|error| error.to_string())?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(&partition.device, PLACE, "vfat", flags, None).map_err(|error| error.to_string())?;
    let mut files = files_of(Path::new(PLACE))?;
    files.retain(|name, octets| !is_wiped(name, octets));
    Ok(files)
}

/// What a power cut left of a file that was taken is no file: it goes now.
fn is_wiped(name: &str, octets: &[u8]) -> bool {
    let is_wiped = !octets.is_empty() && octets.iter().all(|octet| *octet == 0);
    if is_wiped {
        let _ = fs::remove_file(Path::new(PLACE).join(name));
    }
    is_wiped
}

/// Takes what was imported off the partition: overwritten first, since FAT only forgets where a file was.
fn clean(files: &Files) {
    if files.is_empty() {
        return;
    }
    for (name, octets) in files {
        let path = Path::new(PLACE).join(name);
        let wiped = File::options().write(true).open(&path).and_then(|mut file| {
            file.rewind()?;
            file.write_all(&vec![0; octets.len()])?;
            file.sync_all()
        });
        if let Err(error) = wiped.and_then(|()| fs::remove_file(&path)) {
            say(&format!("{name} stays on the configuration partition: {error}"));
        }
    }
    let receipt = format!(
        "These files were taken by the appliance and are on its data partition now:\r\n{}\r\n\r\n\
         To change the configuration put new ones here and restart; files that are not here stay as they are.\r\n",
        names(files)
    );
    let _ = fs::write(Path::new(PLACE).join(RECEIPT), receipt);
    rustix::fs::sync();
}

/// Files that the hypervisor hands over.
fn credentials(entries: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(entries).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("11-") {
            continue;
        }
        let raw = fs::read(entry.path().join("raw")).unwrap_or_default();
        for text in raw.get(SMBIOS_STRINGS_AT..).unwrap_or_default().split(|octet| *octet == 0) {
            if let Some((name, octets)) = credential(text) {
                files.insert(name, octets);
            }
        }
    }
    files
}

fn credential(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = core::str::from_utf8(text).ok()?;
    let (name, octets) = if let Some(rest) = text.strip_prefix(CREDENTIAL_BASE64) {
        let (name, value) = rest.split_once('=')?;
        (name, base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?)
    } else {
        let (name, value) = text.strip_prefix(CREDENTIAL_TEXT)?.split_once('=')?;
        (name, value.as_bytes().to_vec())
    };
    is_name(name).then(|| (name.to_owned(), octets))
}

#[cfg(test)]
mod tests;
