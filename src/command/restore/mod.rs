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

mod audit;
mod unpack;

use super::Exit;
use super::backup::Manifest;
use super::client::{fail, print, print_json, size};
use audit::Queue;
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use unpack::{Restored, Targets};

/// What is to be done.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["check", "data_dir", "configuration"]))]
pub struct Wanted {
    /// What stratamx backup made; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only look whether all of it is there and right
    #[arg(long, conflicts_with_all = ["data_dir", "configuration"])]
    check: bool,
    /// Restore queue, domains and tokens into this directory, which is not there yet or empty
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Restore the configuration into this directory, which is not there yet or empty
    #[arg(long, value_name = "DIR")]
    configuration: Option<PathBuf>,
    /// For scripts
    #[arg(long)]
    json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(wanted: &Wanted) -> Exit {
    let targets = Targets { data_dir: wanted.data_dir.clone(), configuration: wanted.configuration.clone() };
    let restored = match unpack::unpack(&wanted.file, &targets) {
        Ok(restored) => restored,
        Err(error) => return fail(&format!("{}: {error}", wanted.file.display())),
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
        "machine_keys": restored.machine_keys,
        "missing": restored.missing(),
        "queue": queue,
    })
}

/// For people.
fn told(wanted: &Wanted, restored: &Restored, queue: Option<&Queue>) -> String {
    let Manifest { hostname, version, made_at_s, .. } = &restored.manifest;
    let made_at = i64::try_from(*made_at_s).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let made_at = made_at.map(|made_at| made_at.to_string()).unwrap_or_default();
    let mut out = format!(
        "{hostname}, {made_at}, by stratamx {version}: {} files, {}\n",
        restored.files,
        size(restored.octets)
    );
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
