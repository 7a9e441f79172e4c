//! Where the configuration comes from, and where it stays.
//!
//! Each file is of the first of these that has it:
//! 1. credentials of the hypervisor (SMBIOS type 11, [`credentials`]), at each start;
//! 2. files on the configuration partition, which any computer can write ([`exchange`]): `stratamx.toml`, `appliance.toml`, and what they name;
//! 3. a volume CIDATA, as clouds and hypervisors attach it ([`nocloud`]), when it is another one than was taken last;
//! 4. the revision that is in force;
//! 5. nothing: the server takes no mail yet, and its admin API can be reached.
//!
//! What comes by 1 to 3 is laid over the files in force, checked whole, and made a new *revision* ([`revision`]). Only then it leaves the partition: anybody who pulls the disk reads FAT, and a key or token that was once on it is a secret no
//! more. What is wrong is told, stays where it is, and the revision in force stays in force.
//!
mod credentials;
mod exchange;
mod network_config;
mod nocloud;

use super::console::say;
use super::revision::{self, CURRENT, Files, MACHINE_FILE, SERVER_FILE, files_of, names};
use super::settings::Settings;
use crate::update::configuration::Source;
use exchange::Exchange;
use nocloud::Seed;
use std::fs;
use std::path::{Path, PathBuf};

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

/// What is in force below `root`, after what came new was taken into it. `owner` may read it; `state` is where is kept what was taken once. A version on trial takes
/// nothing in (H13): the one before may come back, and not understand it. It stays where it is, for the next start.
///
/// # Errors
/// A sentence when there is nothing that can be in force.
pub(super) fn take(
    root: &Path,
    (state, is_on_trial): (&Path, bool),
    owner: u32,
    host_name: &str,
) -> Result<Taken, String> {
    let current = root.join(CURRENT);
    let in_force = files_of(&current)?;
    let hypervisor = credentials::read(Path::new("/sys/firmware/dmi/entries"));
    if !is_on_trial || !in_force.contains_key(SERVER_FILE) {
        take_in(root, state, owner, (&in_force, &hypervisor))?;
    }
    let mut files = files_of(&current)?;
    if !files.contains_key(SERVER_FILE) {
        files.insert(SERVER_FILE.to_owned(), nothing_given(host_name, None).into_bytes());
        let origin = revision::origin([Source::Appliance]);
        revision::write(root, &files, (owner, &origin)).map_err(|error| error.to_string())?;
    }
    let configured = if is_nothing(&files) { Configured::Nothing } else { Configured::Given };
    let directory = fs::canonicalize(current).map_err(|error| error.to_string())?;
    Ok(Taken { directory, configured, fixed: hypervisor.into_keys().collect() })
}

/// Lays what came new over what is in force, and takes it off the partition.
fn take_in(
    root: &Path,
    state: &Path,
    owner: u32,
    (in_force, hypervisor): (&Files, &Files),
) -> Result<(), String> {
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
        let offered = layered(in_force, seed.as_ref(), &files, hypervisor);
        let given = [
            (Source::Volume, seed.is_some()),
            (Source::Partition, !files.is_empty()),
            (Source::Hypervisor, !hypervisor.is_empty()),
        ];
        let sources = given.into_iter().filter_map(|(source, is_given)| is_given.then_some(source));
        let is_new = revision::lay_over(root, in_force, &offered, (owner, &revision::origin(sources)))?;
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
    Ok(())
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

#[cfg(test)]
mod tests;
