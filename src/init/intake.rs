//! Where the configuration comes from, and where it stays.
//!
//! Each file is of the first of these that has it:
//! 1. credentials of the hypervisor (SMBIOS type 11, [`credentials`]), at each start;
//! 2. files on the configuration partition, which any computer can write ([`exchange`]): `stratamx.toml`, `appliance.toml`, and what they name;
//! 3. a volume CIDATA, as clouds and hypervisors attach it ([`nocloud`]), when it is another one than was taken last;
//! 4. the revision that is in force;
//! 5. nothing: the server takes no mail yet, and its admin API can be reached.
//!
//! What comes by 1 to 3 is laid over the files in force, checked whole, and made a new *revision* below `/data/config`, durable before `current`
//! points to it. Only then it leaves the partition: anybody who pulls the disk reads FAT, and a key or token that was once on it is a secret no
//! more. What is wrong is told, stays where it is, and the revision in force stays in force.
//!
//! A revision's directory is root's, so that the server, whose files they are, changes none for another; the machine's own file is root's too.

mod credentials;
mod exchange;
mod network_config;
mod nocloud;

use super::console::say;
use super::settings::Settings;
use super::tool::{sync_directory, write_for};
use crate::config::Config;
use crate::limits::{CONFIGURATION_FILE_OCTETS_MAX, CONFIGURATION_FILES_MAX, CONFIGURATION_REVISIONS_MAX};
use exchange::Exchange;
use nocloud::Seed;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The server's configuration.
pub(super) const SERVER_FILE: &str = "stratamx.toml";
/// The machine's.
pub(super) const MACHINE_FILE: &str = "appliance.toml";
/// Ourselves, as the server.
const SERVER: &str = "/bin/stratamx";

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

/// What is in force.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) directory: PathBuf,
    pub(super) configured: Configured,
    /// Files that the hypervisor gives again at each start.
    pub(super) fixed: Vec<String>,
}

/// What is in force below `root`, after what came new was taken into it. `owner` may read it; `state` is where is kept what was taken once.
///
/// # Errors
/// A sentence when there is nothing that can be in force.
pub(super) fn take(root: &Path, state: &Path, owner: u32, host_name: &str) -> Result<Taken, String> {
    let current = root.join("current");
    let in_force = files_of(&current)?;
    let hypervisor = credentials::read(Path::new("/sys/firmware/dmi/entries"));
    let seed = nocloud::find(state).unwrap_or_else(|error| {
        say(&format!("the volume CIDATA: {error}"));
        None
    });
    let partition = match Exchange::open() {
        Ok(exchange) => Some(exchange),
        Err(error) => {
            say(&format!("the configuration partition: {error}"));
            None
        }
    };
    let given = partition.as_ref().map_or(Ok(Files::new()), Exchange::files);
    let taken = given.and_then(|files| {
        let offered = layered(&in_force, seed.as_ref(), &files, &hypervisor);
        let is_new = lay_over(root, &in_force, &offered, owner)?;
        Ok((files, is_new.then(|| names(&offered))))
    });
    match taken {
        Ok((files, news)) => {
            if let Some(partition) = &partition {
                partition.clean(&files);
            }
            if let Some(seed) = &seed {
                seed.remember(state);
            }
            if let Some(names) = news {
                say(&format!("configuration taken: {names}"));
            }
        }
        Err(error) if in_force.contains_key(SERVER_FILE) => {
            say(&format!("a configuration that cannot be used, the one in force stays: {error}"));
        }
        Err(error) => return Err(error),
    }
    let mut files = files_of(&current)?;
    if !files.contains_key(SERVER_FILE) {
        files.insert(SERVER_FILE.to_owned(), nothing_given(host_name, None).into_bytes());
        write_revision(root, &files, owner).map_err(|error| error.to_string())?;
    }
    let configured = if is_nothing(&files) { Configured::Nothing } else { Configured::Given };
    let directory = fs::canonicalize(current).map_err(|error| error.to_string())?;
    Ok(Taken { directory, configured, fixed: hypervisor.into_keys().collect() })
}

/// Whether the data partition was formatted at an earlier start; none where nobody knows.
pub(super) fn was_formatted() -> Option<bool> {
    exchange::was_formatted()
}

/// From here on it was.
pub(super) fn tell_formatted() {
    exchange::tell_formatted();
}

/// What is offered, the hypervisor's word last.
fn layered(in_force: &Files, seed: Option<&Seed>, partition: &Files, hypervisor: &Files) -> Files {
    let mut offered = Files::new();
    if let Some(seed) = seed {
        let is_unconfigured = !in_force.contains_key(SERVER_FILE) || is_nothing(in_force);
        if let Some(host_name) = seed.host_name.as_deref().filter(|_| is_unconfigured) {
            offered.insert(SERVER_FILE.to_owned(), nothing_given(host_name, None).into_bytes());
        }
        if let Some(network) = &seed.network {
            // The rest of the machine's own file stays as it is.
            let text = in_force.get(MACHINE_FILE).map(|text| String::from_utf8_lossy(text));
            let settings = text.and_then(|text| Settings::parse(&text).ok()).unwrap_or_default();
            let settings = Settings { network: network.clone(), ..settings };
            if let Ok(text) = toml::to_string(&settings) {
                offered.insert(MACHINE_FILE.to_owned(), text.into_bytes());
            }
        }
        offered.extend(seed.files.clone());
    }
    offered.extend(partition.clone());
    offered.extend(hypervisor.clone());
    offered
}

/// Puts one file of the configuration in force, as a new revision.
///
/// # Errors
/// A sentence; the revision in force stays in force.
pub(super) fn change(root: &Path, name: &str, text: String, owner: u32) -> Result<(), String> {
    let in_force = files_of(&root.join("current"))?;
    let offered = Files::from([(name.to_owned(), text.into_bytes())]);
    lay_over(root, &in_force, &offered, owner).map(drop)
}

const NOTHING_GIVEN: &str = "# Made by the appliance, since it was given no configuration.\n";

/// Whether nobody has configured the server yet.
fn is_nothing(files: &Files) -> bool {
    files.get(SERVER_FILE).is_some_and(|text| text.starts_with(NOTHING_GIVEN.as_bytes()))
}

/// Protects nobody; domains come through the admin API. Mail that is there already may have keys.
pub(super) fn nothing_given(host_name: &str, key_file: Option<&str>) -> String {
    let storage = key_file.map_or(String::new(), |file| format!("\n[storage]\nkey_file = \"{file}\"\n"));
    format!(
        "{NOTHING_GIVEN}hostname = \"{host_name}\"\npostmaster = \"postmaster@{host_name}\"\ndomain = []\n\n\
         [smtp]\nlisten = [\"0.0.0.0:25\", \"[::]:25\"]\n\n[admin]\nlisten = \"0.0.0.0:8025\"\ntls = \"own\"\n{storage}"
    )
}

/// A configuration with another host name, and otherwise as it is, comments and all.
///
/// # Errors
/// A sentence when it is not to be had without changing anything else.
pub(super) fn with_host_name(text: &str, host_name: &str) -> Result<String, String> {
    let parse = |text: &str| text.parse::<toml::Table>().map_err(|error| format!("{SERVER_FILE}: {error}"));
    let mut wanted = parse(text)?;
    let value = |text: &str| toml::Value::String(text.to_owned());
    let old = wanted.insert("hostname".to_owned(), value(host_name));
    let is_ours = text.starts_with(NOTHING_GIVEN);
    let is_key = |line: &str, key: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = lines.iter_mut().find(|line| is_key(line, "hostname")).filter(|_| old.is_some());
    match line {
        Some(line) => *line = format!("hostname = \"{host_name}\""),
        None => lines.insert(0, format!("hostname = \"{host_name}\"")),
    }
    if let Some(line) = lines.iter_mut().find(|line| is_ours && is_key(line, "postmaster")) {
        *line = format!("postmaster = \"postmaster@{host_name}\"");
        wanted.insert("postmaster".to_owned(), value(&format!("postmaster@{host_name}")));
    }
    let changed = lines.join("\n") + "\n";
    if parse(&changed)? == wanted {
        return Ok(changed);
    }
    Err(format!("{SERVER_FILE} has its host name in a way that is not understood here: change it there"))
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
pub(super) fn write_revision(root: &Path, files: &Files, owner: u32) -> std::io::Result<()> {
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
        && !exchange::OURS.contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests;
