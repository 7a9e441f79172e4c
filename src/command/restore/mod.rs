//! `stratamx restore`: puts what `stratamx backup` made where a server finds it, or proves that it could.
//!
//! # Promise
//! What is restored is what the archive says, octet by octet, or it does not open: the store file and the database get their names when all
//! sums are right and all is durable. Nothing that is there is written over: both directories are new or empty.
//! In the end the store is audited, as `stratamx-segment audit` does it.
//!
//! # What it cannot know
//! What became of mail after the archive was made. What was handed over since is in the restored queue, and is handed over once more; so the server
//! that it was made of has to stand still. Both is told.
//!
//! # Failure answers
//! An archive that is cut off, altered, of a newer format, or that names other places than an archive does: refused, and what was unpacked of it is
//! removed. A queue that does not balance is told, stays, and is exit status 1.
//!
//! # An appliance
//! It has no directories of an operator: the archive is handed to its API ([`mod@remote`]), and PID 1 takes it back, by this program again ([`mod@machine`]).

mod audit;
mod machine;
mod remote;
mod unpack;

use super::Exit;
use super::backup::Manifest;
use super::client::{Remote, fail, print, print_json, size};
use crate::update::restore::Queue;
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use unpack::{Restored, Targets};

/// What is to be done.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("here").multiple(true).args(["check", "data_dir", "configuration"]))]
#[command(group = ArgGroup::new("what").required(true).args(["file", "status", "count"]))]
pub struct Wanted {
    /// What stratamx backup made; - for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only look whether all of it is there and right
    #[arg(long, conflicts_with_all = ["data_dir", "configuration"], requires = "file")]
    check: bool,
    /// Restore queue, domains and tokens into this directory, which is not there yet or empty
    #[arg(long, value_name = "DIR", requires = "file")]
    data_dir: Option<PathBuf>,
    /// Restore the configuration into this directory, which is not there yet or empty
    #[arg(long, value_name = "DIR", requires = "file")]
    configuration: Option<PathBuf>,
    /// With --url of an appliance: its configuration stays as it is
    #[arg(long, conflicts_with = "here", requires = "file")]
    keep_configuration: bool,
    /// With --url of an appliance: without asking
    #[arg(long, conflicts_with = "here", requires = "file")]
    yes: bool,
    /// With --url of an appliance: what became of the last restore
    #[arg(long, conflicts_with = "here")]
    status: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
    /// As PID 1 of an appliance asks: what it needs to know, keys included
    #[arg(long, hide = true, conflicts_with_all = ["check", "configuration"])]
    machine: bool,
    /// As PID 1 asks: what waits in the store of this configuration
    #[arg(long, hide = true, value_name = "FILE")]
    count: Option<PathBuf>,
}

/// Runs the command: on the files of this machine, or over the admin API of an appliance.
#[must_use]
pub fn run(remote: Remote, wanted: &Wanted) -> Exit {
    let is_here = wanted.check || wanted.data_dir.is_some() || wanted.configuration.is_some();
    match (&wanted.file, &wanted.count) {
        (_, Some(configuration)) => machine::count(configuration),
        (Some(file), _) if wanted.machine => machine::look(file, wanted.data_dir.clone()),
        (Some(file), _) if is_here => here(file, wanted),
        _ if !remote.is_elsewhere() => {
            eprintln!(
                "stratamx: where to? On this machine: --data-dir and --configuration, or --check; onto an appliance: --url and --token"
            );
            Exit::Usage
        }
        (Some(file), _) => remote::restore(remote, file, wanted),
        (None, _) => remote::status(remote, wanted.json),
    }
}

/// On this machine.
fn here(file: &Path, wanted: &Wanted) -> Exit {
    let targets = Targets { data_dir: wanted.data_dir.clone(), configuration: wanted.configuration.clone() };
    let restored = match unpack::unpack(file, &targets) {
        Ok(restored) => restored,
        Err(error) => return fail(&format!("{}: {error}", file.display())),
    };
    let queue = match wanted.data_dir.as_deref().filter(|_| restored.manifest.store.is_some()) {
        Some(data_dir) => match audit::audit(data_dir, &restored.keys) {
            Ok(queue) => Some(queue),
            Err(error) => return fail(&error),
        },
        None => None,
    };
    let printed = if wanted.json {
        print_json(&as_json(wanted, &restored, queue.as_ref()))
    } else {
        print(&told(wanted, &restored, queue.as_ref()))
    };
    match queue {
        Some(queue) if !queue.problems.is_empty() => fail(
            "the restored queue is damaged: stratamx-segment repair makes one that opens of what is right in it",
        ),
        _ => printed,
    }
}

fn as_json(wanted: &Wanted, restored: &Restored, queue: Option<&Queue>) -> serde_json::Value {
    let queue = queue
        .map(|queue| json!({ "backlog": queue.backlog, "held": queue.held, "problems": queue.problems }));
    json!({
        "hostname": restored.manifest.hostname,
        "version": restored.manifest.version,
        "made_at_s": restored.manifest.made_at_s,
        "files": restored.files,
        "octets": restored.octets,
        "data_dir": wanted.data_dir,
        "configuration": wanted.configuration,
        "elsewhere": restored.elsewhere,
        "has_configuration": restored.manifest.configuration,
        "has_key_file": restored.contents.has_key_file,
        "machine_keys": restored.machine_keys,
        "named": restored.manifest.files,
        "settings": restored.settings,
        "missing": restored.missing(),
        "queue": queue,
    })
}

/// What it is, in a line.
fn introduced(restored: &Restored) -> String {
    let Manifest { hostname, version, .. } = &restored.manifest;
    let (files, octets) = (restored.files, size(restored.octets));
    format!("{hostname}, {}, by stratamx {version}: {files} files, {octets}\n", made_at(restored))
}

fn made_at(restored: &Restored) -> String {
    let seconds = i64::try_from(restored.manifest.made_at_s).ok();
    let made_at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    made_at.map(|made_at| made_at.to_string()).unwrap_or_default()
}

/// For people.
fn told(wanted: &Wanted, restored: &Restored, queue: Option<&Queue>) -> String {
    let made_at = made_at(restored);
    let mut out = introduced(restored);
    if wanted.check {
        out.push_str("all of it is there, and as it was written\n");
    }
    if let Some(configuration) = &wanted.configuration {
        out.push_str(&format!("configuration: {}\n", configuration.display()));
    }
    for (path, place) in &restored.elsewhere {
        out.push_str(&format!("  {path} is in {place}: put it back, or name it there\n"));
    }
    if let Some(place) = &restored.machine_keys {
        out.push_str(&format!(
            "  the appliance's keys of mail at rest are in {place}: storage.key_file has to name it\n"
        ));
    }
    if let Some(place) = &restored.settings {
        out.push_str(&format!(
            "  the appliance's own settings are in {place}, and nothing reads them there: stratamx configuration apply puts them in force on an appliance\n"
        ));
    }
    for path in restored.missing() {
        out.push_str(&format!("  {path} is named, and was not there\n"));
    }
    if let Some(data_dir) = &wanted.data_dir {
        out.push_str(&format!("data: {}\n", data_dir.display()));
        if !restored.manifest.configuration {
            out.push_str("  the server ran by its embedded configuration: there is no configuration file\n");
        }
    }
    if let Some(Queue { backlog, held, problems }) = queue {
        out.push_str(&format!("queue: mail for {backlog} recipients waits, for {held} it is held\n"));
        for problem in problems {
            out.push_str(&format!("  {problem}\n"));
        }
        out.push_str(&format!(
            "What was handed over after {made_at} is in it, and is handed over once more. The server that it was made of must not run beside this one.\n"
        ));
    }
    out
}

/// Whether a directory is not there yet, or empty.
fn is_free(directory: &Path) -> bool {
    match directory.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
