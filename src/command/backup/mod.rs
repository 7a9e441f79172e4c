//! `stratamx backup`: the configuration, what the control plane knows, and the queue in one file, while the server works or stands still.
//!
//! # The file
//! A tar archive (POSIX ustar, long names by PAX) under zstd, checksummed by both. In this order:
//!
//! | entry | what |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: of which server, when, by which version, what it holds |
//! | `configuration/stratamx.toml` | the configuration file |
//! | `configuration/files/N` | file `N` of those that it names; the manifest tells its path |
//! | `configuration/mail-keys` | the keys of mail at rest that an appliance made |
//! | `configuration/appliance.toml` | the settings of an appliance (its network), of PID 1; they belong to the machine, and a restore puts them nowhere in force |
//! | `control/NAME` | the control plane's files of the data directory; the database by its own snapshot |
//! | `queue/PATH` | the store ([`storage::snapshot`]), `store` last |
//! | `SHA256SUMS` | the sums of all others, as sha256sum writes them. An archive without it was cut off |
//!
//! # Promise
//! What was queued when it began and is queued when it ends is queued in it; nothing of mail is stopped. It holds keys, tokens and mail, so it is made for its owner alone.
//! What is handed over after it was made is handed over once more by who restores it.
//!
//! # Failure answers
//! A file that goes away meanwhile starts the snapshot anew; what cannot be read, a missing shard and a full disk are told, and there is no file under the name.
//! As root it is made by the owner of the data directory, so that nothing in there becomes root's.

mod archive;
mod gather;
mod manifest;
mod remote;

pub(super) use archive::hexadecimal;
pub(super) use gather::{is_control, open as open_file};
pub(super) use manifest::{
    APPLIANCE_FILE, CONFIGURATION_FILE, CONFIGURATION_FILES, CONTROL, DATABASE, FORMAT, MACHINE_KEYS,
    MANIFEST, Manifest, QUEUE, SUMS,
};

use super::Exit;
use super::client::{Remote, fail, print, print_json, size};
use crate::config::{Config, Source};
use archive::Archive;
use clap::Args;
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is to be done.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// The file that is made; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave the queue out: configuration, domains, tokens, what was learned
    #[arg(long)]
    without_queue: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    /// Not known of one that another process makes.
    files: Option<u64>,
    /// Of the files.
    octets: Option<u64>,
    /// Of the archive.
    written: u64,
}

/// Less than those that mail is for.
const NICE: i32 = 10;
/// Standard output.
const STANDARD: &str = "-";

/// Runs the command: over the admin API where that is named, else on the files of the configuration.
#[must_use]
pub fn run(remote: Remote, wanted: &Wanted) -> Exit {
    let made = if remote.is_elsewhere() { remote::fetch(remote, wanted) } else { here(&remote, wanted) };
    match made {
        Err(exit) => exit,
        Ok(_) if wanted.file == Path::new(STANDARD) => Exit::Done,
        Ok(made) if wanted.json => print_json(
            &json!({ "file": wanted.file, "files": made.files, "octets": made.octets, "written": made.written }),
        ),
        Ok(made) => print(&format!(
            "{}: {}{}. It holds keys, tokens and mail: keep it where nobody else reads\n",
            wanted.file.display(),
            size(made.written),
            made.files.map_or_else(String::new, |files| format!(", {files} files"))
        )),
    }
}

/// On this machine.
fn here(remote: &Remote, wanted: &Wanted) -> Result<Made, Exit> {
    let (config, source) = super::configuration(remote.config.as_deref())?;
    let failed = |error: String| fail(&error);
    let owner = std::fs::metadata(&config.data_dir)
        .map_err(|error| failed(format!("data_dir: {}: {error}", config.data_dir.display())))?;
    let (user, group) = (owner.uid(), owner.gid());
    take_descriptors();
    let mut target = Target::open(&wanted.file).map_err(failed)?;
    let made = if geteuid().is_root() && user != 0 {
        as_owner(remote, wanted, (user, group), &mut target)
    } else {
        let _ = rustix::process::nice(NICE);
        write(&config, &source, !wanted.without_queue, &mut target)
    };
    let made = made.and_then(|made| target.finish().map(|()| made));
    made.map_err(failed)
}

/// Every file of a store stays open while it is copied: as many as the process may have.
fn take_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With fewer a large store is refused, and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Writes the archive.
fn write(config: &Config, source: &Source, queue: bool, out: &mut dyn Write) -> Result<Made, String> {
    let mut archive = Archive::begin(out)?;
    gather::all(config, source, queue, &mut archive)?;
    archive.finish()
}

/// The same by the owner of the data directory: what is made in there, if only for a moment, is his.
fn as_owner(
    remote: &Remote,
    wanted: &Wanted,
    (user, group): (u32, u32),
    out: &mut dyn Write,
) -> Result<Made, String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("backup").arg(STANDARD).uid(user).gid(group);
    if wanted.without_queue {
        command.arg("--without-queue");
    }
    if let Some(config) = &remote.config {
        command.arg("--config").arg(config);
    }
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("cannot start as the owner of data_dir: {error}"))?;
    let mut piped = child.stdout.take().ok_or("there is no pipe to the process")?;
    let copied = io::copy(&mut piped, out);
    drop(piped);
    let ended = child.wait().map_err(|error| error.to_string())?;
    let written = copied.map_err(|error| format!("cannot write: {error}"))?;
    if ended.success() {
        return Ok(Made { written, ..Made::default() });
    }
    Err("the owner of data_dir could not make it, for the reason above".to_owned())
}

/// Where it goes: a file that has its name when it is whole.
#[derive(Debug)]
enum Target {
    File { file: File, part: PathBuf, path: PathBuf },
    Standard,
}

impl Target {
    /// # Errors
    /// A sentence.
    fn open(path: &Path) -> Result<Self, String> {
        if path == Path::new(STANDARD) {
            return Ok(Self::Standard);
        }
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
        if path.exists() {
            return Err(failed(&"is there already; another name keeps both"));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(CWD, &part, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(&error))?;
        Ok(Self::File { file: file.into(), part, path: path.to_owned() })
    }

    /// Durable, under its name.
    fn finish(&self) -> Result<(), String> {
        let Self::File { file, part, path } = self else { return Ok(()) };
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
        file.sync_all().map_err(|error| failed(&error))?;
        rustix::fs::rename(part, path).map_err(|error| failed(&error))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory.unwrap_or(Path::new(".")), flags, Mode::empty());
        directory.and_then(|directory| rustix::fs::fsync(&directory)).map_err(|error| failed(&error))
    }
}

impl Write for Target {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(octets),
            Self::Standard => io::stdout().write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Standard => io::stdout().flush(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Self::File { part, .. } = self {
            // Under its name there is nothing of it.
            let _ = rustix::fs::unlink(&*part);
        }
    }
}
