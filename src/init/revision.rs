//! A revision of the configuration on the disk: a directory of files, whole and durable before `current` points to it.
//!
//! Its directory is root's, so that the server, whose files they are, changes none for another; the machine's own file is root's too. Beside the files is
//! written how they came about ([`ORIGIN`]), and why they were given back, if they were ([`GIVEN_BACK`]); an older revision has neither. A directory without
//! a file of the configuration is no revision.
//!
//! # Promises
//! - What is in force is one link, and is changed by one rename: a power cut leaves the one before or the new one.
//! - What cannot be written whole, as on a full disk, leaves nothing behind.
//! - The last [`CONFIGURATION_REVISIONS_MAX`] are kept, and those that somebody works in. Of the others the files go, one by one, and nothing that lies
//!   deeper: mail may be led to from there by a mount ([`super::place`]).

use super::health::partition;
use super::reaping;
use super::settings::Settings;
use super::tool::{now_s, sync_directory, write_for};
use crate::config::Config;
use crate::limits::{
    APPLIANCE_RESERVE_MIN, CONFIGURATION_CHECK_PATIENCE, CONFIGURATION_FILE_OCTETS_MAX,
    CONFIGURATION_FILES_MAX, CONFIGURATION_OCTETS_MAX, CONFIGURATION_REVISIONS_MAX,
};
use crate::update::configuration::{Origin, Source};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The server's configuration.
pub(super) const SERVER_FILE: &str = "stratamx.toml";
/// The machine's.
pub(super) const MACHINE_FILE: &str = "appliance.toml";
/// The link to the one in force.
pub(super) const CURRENT: &str = "current";
/// How it came about.
const ORIGIN: &str = ".origin.json";
/// Why it was given back.
const GIVEN_BACK: &str = ".given-back";
/// What is ours on the configuration partition, in lower case, and never taken from anywhere.
pub(super) const OURS: [&str; 3] = ["readme.txt", "imported.txt", "formatted.txt"];
/// Ourselves, as the server.
const SERVER: &str = "/bin/stratamx";

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Who may read the files, and how they came about.
pub(super) type By<'a> = (u32, &'a Origin);

/// Of these sources, now.
pub(super) fn origin(sources: impl IntoIterator<Item = Source>) -> Origin {
    Origin { sources: sources.into_iter().collect(), at_s: Some(now_s()), ..Origin::default() }
}

pub(super) fn names(files: &Files) -> String {
    files.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// Makes a new revision if what is offered changes anything. Whether it does.
///
/// # Errors
/// A sentence; the one in force stays.
pub(super) fn lay_over(root: &Path, in_force: &Files, offered: &Files, by: By<'_>) -> Result<bool, String> {
    let mut files = in_force.clone();
    files.extend(offered.clone());
    if files == *in_force {
        return Ok(false);
    }
    check(root, &files, by.0)?;
    write(root, &files, by).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(true)
}

/// Whether a server and a machine can be made of these files.
///
/// # Errors
/// A sentence that names the file and the key.
pub(super) fn check(root: &Path, files: &Files, owner: u32) -> Result<(), String> {
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
    let written = write_files(&trial, files, owner).map_err(|error| format!("{}: {error}", trial.display()));
    let load = || {
        let config = Config::load(&trial.join(SERVER_FILE)).map_err(|error| error.to_string())?;
        let min_free = config.storage.min_free_space_bytes;
        // What is in force already is nothing that this change brings.
        let before = Config::load(&root.join(CURRENT).join(SERVER_FILE)).ok();
        if before.is_some_and(|before| before.storage.min_free_space_bytes == min_free) {
            return Ok(());
        }
        has_room(min_free, partition().size_octets)
    };
    let checked = written.and_then(|()| load()).and_then(|()| checked(&trial, owner));
    let _ = fs::remove_dir_all(&trial);
    checked
}

/// Whether what mail leaves free is a reserve for everything else, and leaves mail some room: see the low-space policy (`limits::space`). `size` is that of the
/// data partition; 0: nobody knows.
fn has_room(min_free: u64, size: u64) -> Result<(), String> {
    let mib = |octets: u64| octets >> 20;
    if min_free < APPLIANCE_RESERVE_MIN {
        return Err(format!(
            "storage.min_free_space: the machine needs {} MiB for configuration, tokens and its database when mail has filled the disk; \"{}MiB\" or more",
            mib(APPLIANCE_RESERVE_MIN),
            mib(APPLIANCE_RESERVE_MIN)
        ));
    }
    if size > 0 && min_free.saturating_add(APPLIANCE_RESERVE_MIN) > size {
        return Err(format!(
            "storage.min_free_space: of a data partition of {} MiB {} MiB leave no room for mail; less, or a larger disk",
            mib(size),
            mib(min_free)
        ));
    }
    Ok(())
}

/// What the server itself says of a configuration with its keys, certificates and lists: as its user, in their directory.
fn checked(directory: &Path, owner: u32) -> Result<(), String> {
    if std::process::id() != 1 {
        // Not on the machine that it is made for.
        return Ok(());
    }
    let mut command = Command::new(SERVER);
    command.args(["check", "--config", SERVER_FILE]).current_dir(directory).uid(owner).gid(owner);
    let most = CONFIGURATION_OCTETS_MAX as u64;
    let said = reaping::lasting(command.stdin(Stdio::null()), most, CONFIGURATION_CHECK_PATIENCE);
    let said = said.map_err(|error| format!("{SERVER}: {error}"))?;
    match (said.is_done, said.errors.is_empty()) {
        (true, _) => Ok(()),
        (false, false) => Err(said.errors),
        (false, true) => Err(format!("{SERVER} check does not end, or ends without a word")),
    }
}

/// Makes a revision and puts it in force. Its number.
///
/// # Errors
/// Of the file system; the one in force stays.
pub(super) fn write(root: &Path, files: &Files, by: By<'_>) -> io::Result<u64> {
    let kept: Vec<u64> = in_force(root).into_iter().collect();
    superfluous(root, &kept).into_iter().for_each(|number| remove(&root.join(number.to_string())));
    let number = make(root, files, by)?;
    put_in_force(root, number)?;
    Ok(number)
}

/// Makes one, durable and not in force. Its number.
///
/// # Errors
/// Of the file system; nothing of it stays.
pub(super) fn make(root: &Path, files: &Files, (owner, origin): By<'_>) -> io::Result<u64> {
    let number = directories(root).last().map_or(1, |last| last + 1);
    let new = root.join("new");
    let _ = fs::remove_dir_all(&new);
    let made = write_files(&new, files, owner).and_then(|()| {
        let text = serde_json::to_vec(origin)?;
        write_for(&new, ORIGIN, &text, 0o600, None)?;
        fs::rename(&new, root.join(number.to_string()))?;
        sync_directory(root)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&new);
    }
    made.map(|()| number)
}

/// Durable on return.
///
/// # Errors
/// Of the file system; the one in force stays.
pub(super) fn put_in_force(root: &Path, number: u64) -> io::Result<()> {
    let link = root.join("current.new");
    let _ = fs::remove_file(&link);
    symlink(number.to_string(), &link)?;
    fs::rename(&link, root.join(CURRENT))?;
    sync_directory(root)
}

/// The number of the one in force.
pub(super) fn in_force(root: &Path) -> Option<u64> {
    fs::read_link(root.join(CURRENT)).ok()?.to_str()?.parse().ok()
}

/// Writes down why one is given back. Nothing comes of an error: it is in force no more, whatever is told of it.
pub(super) fn give_back(root: &Path, number: u64, why: &str) {
    let _ = write_for(&root.join(number.to_string()), GIVEN_BACK, why.as_bytes(), 0o600, None);
}

/// Why it was given back, if it was.
pub(super) fn given_back(root: &Path, number: u64) -> Option<String> {
    fs::read_to_string(root.join(number.to_string()).join(GIVEN_BACK)).ok()
}

/// How it came about, as far as that is known.
pub(super) fn origin_of(root: &Path, number: u64) -> Origin {
    let text = fs::read(root.join(number.to_string()).join(ORIGIN)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// All that there are, the oldest first.
pub(super) fn all(root: &Path) -> Vec<u64> {
    let mut all = directories(root);
    all.retain(|number| {
        let mut entries = fs::read_dir(root.join(number.to_string())).into_iter().flatten().flatten();
        entries.any(|entry| {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            is_file && entry.file_name().to_str().is_some_and(is_name)
        })
    });
    all
}

fn directories(root: &Path) -> Vec<u64> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The oldest ones, but for these.
pub(super) fn superfluous(root: &Path, kept: &[u64]) -> Vec<u64> {
    let mut all = all(root);
    // One more comes.
    all.truncate((all.len() + 1).saturating_sub(CONFIGURATION_REVISIONS_MAX));
    all.retain(|number| !kept.contains(number));
    all
}

/// Removes one. What cannot be removed stays.
pub(super) fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // Where mail was led to: empty, or not ours.
            let _ = fs::remove_dir(entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

fn write_files(directory: &Path, files: &Files, owner: u32) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // The server's user goes through it, and makes nothing in it.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for (name, octets) in files {
        let owner = Some(owner).filter(|_| name != MACHINE_FILE);
        write_for(directory, name, octets, 0o600, owner)?;
    }
    sync_directory(directory)
}

/// The files of a directory that are for us. One that is not there has none.
///
/// # Errors
/// A sentence when there are too many, or one is too large.
pub(super) fn files_of(directory: &Path) -> Result<Files, String> {
    let (mut files, mut left) = (Files::new(), CONFIGURATION_OCTETS_MAX);
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
        left = left
            .checked_sub(octets.len())
            .ok_or_else(|| format!("the files have more than {CONFIGURATION_OCTETS_MAX} octets together"))?;
        files.insert(name, octets);
        if files.len() > CONFIGURATION_FILES_MAX {
            return Err(format!("there are more than {CONFIGURATION_FILES_MAX} files"));
        }
    }
    Ok(files)
}

/// What may be a file of a revision: no path, nothing hidden, and not what we or other computers leave on the partition.
pub(super) fn is_name(name: &str) -> bool {
    let usual = |character: char| character.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&character);
    !name.starts_with('.')
        && !name.is_empty()
        && name.len() <= NAME_OCTETS_MAX
        && name.chars().all(usual)
        && !OURS.contains(&name.to_ascii_lowercase().as_str())
}

/// With what is written beside it before it is renamed it has to be a name still.
const NAME_OCTETS_MAX: usize = 200;

#[cfg(test)]
mod tests;
