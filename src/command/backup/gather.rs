//! What goes into an archive, and how each part is read while a server may be at work on it.

use super::super::keys;
use super::archive::Archive;
use super::manifest::{
    APPLIANCE_FILE, CONFIGURATION_FILE, CONFIGURATION_FILES, CONTROL, DATABASE, FORMAT, MACHINE_KEYS,
    MANIFEST, Manifest, Named, QUEUE,
};
use crate::config::{self, Config, Source};
use crate::control::machine::settings;
use crate::update::{SOCKET_VARIABLE, restore};
use futures_lite::future::block_on;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use storage::inspect::ReadOnly;
use storage::snapshot::{self, Member, Snapshot, SnapshotError};

/// Of the data directory: the process's own, the store, and what is read otherwise.
const NOT_CONTROL: [&str; 3] = ["lock", "probe", "store"];
/// What the database is written to, for a moment.
const DATABASE_COPY: &str = "backup-control-";
/// What is read of a file of the store at a time.
const PIECE_OCTETS: usize = 1 << 20;
/// What was handed in, and is nobody's yet: an image of an update, another backup.
const HANDED_IN: [&str; 2] = [crate::update::FILE, restore::FILE];

/// Everything.
///
/// # Errors
/// A sentence.
pub(super) fn all(
    config: &Config,
    source: &Source,
    queue: bool,
    archive: &mut Archive<'_>,
) -> Result<(), String> {
    let made_at_s = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let (configuration, files) = configuration(config, source)?;
    let snapshot = if queue { store(&config.data_dir)? } else { None };
    let named = files.iter().map(|(path, content)| Named { path: path.clone(), held: content.is_some() });
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: config.hostname.clone(),
        made_at_s,
        configuration: configuration.is_some(),
        files: named.collect(),
        store: snapshot.as_ref().map(|snapshot| snapshot.store.clone()),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| error.to_string())?;
    archive.add_octets(MANIFEST, &text)?;
    // Whoever waits for it sees that it comes.
    archive.flush()?;
    if let Some(text) = configuration {
        archive.add_octets(CONFIGURATION_FILE, &text)?;
    }
    for (number, (_, content)) in files.iter().enumerate() {
        if let Some(content) = content {
            archive.add_octets(&format!("{CONFIGURATION_FILES}/{number}"), content)?;
        }
    }
    if let Some(path) =
        keys::machines().filter(|path| config.storage.key_file.is_none() && (queue || path.exists()))
    {
        let text = config::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        archive.add_octets(MACHINE_KEYS, &text)?;
    }
    if let Some(socket) = std::env::var_os(SOCKET_VARIABLE) {
        let text = settings(Path::new(&socket)).map_err(|error| format!("appliance.toml: {error}"))?;
        text.map_or(Ok(()), |text| archive.add_octets(APPLIANCE_FILE, text.as_bytes()))?;
    }
    control(&config.data_dir, archive)?;
    for member in snapshot.iter().flat_map(|snapshot| &snapshot.members) {
        archive.add(&format!("{QUEUE}/{}", member.path), member.octets, Reading { member, offset: 0 })?;
    }
    Ok(())
}

/// Files that the configuration names, and what is in them if they are there.
type Contents = Vec<(String, Option<Vec<u8>>)>;

/// The text of the configuration, and the files that it names.
fn configuration(config: &Config, source: &Source) -> Result<(Option<Vec<u8>>, Contents), String> {
    let Source::File(path) = source else { return Ok((None, Vec::new())) };
    let read = |path: &Path| config::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for path in config.files() {
        let name = path.to_str().ok_or_else(|| format!("{}: its name is no UTF-8", path.display()))?;
        // A first token of the server's own making, or a certificate that is still to come.
        let content = if path.exists() { Some(read(path)?) } else { None };
        files.push((name.to_owned(), content));
    }
    Ok((Some(read(path)?), files))
}

/// What belongs together of the store; none before its first start.
fn store(data_dir: &Path) -> Result<Option<Snapshot<<ReadOnly as storage::disk::Disk>::File>>, String> {
    let disk = ReadOnly::new(data_dir.to_owned());
    match block_on(snapshot::take(&disk)) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(SnapshotError::Nothing) => Ok(None),
        Err(error) => Err(format!("{}: {error}", data_dir.display())),
    }
}

/// The control plane's files.
fn control(data_dir: &Path, archive: &mut Archive<'_>) -> Result<(), String> {
    let failed = |path: &Path, error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let entries = fs::read_dir(data_dir).map_err(|error| failed(data_dir, &error))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_control(name))
        .collect();
    names.sort_unstable();
    for name in names {
        let path = data_dir.join(&name);
        let file = match open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        let octets = file.metadata().map_err(|error| failed(&path, &error))?.len();
        archive.add(&format!("{CONTROL}/{name}"), octets, file)?;
    }
    if data_dir.join(DATABASE).exists() {
        let copy = database(data_dir).map_err(|error| format!("{DATABASE}: {error}"))?;
        let octets = copy.metadata().map_err(|error| error.to_string())?.len();
        archive.add(&format!("{CONTROL}/{DATABASE}"), octets, copy)?;
    }
    Ok(())
}

/// Whether a file at the top of the data directory is the control plane's, whole, and not the database, which is read otherwise.
pub(in crate::command) fn is_control(name: &str) -> bool {
    let is_passing = name.ends_with(".new") || name.starts_with('.') || HANDED_IN.contains(&name);
    !is_passing
        && !NOT_CONTROL.contains(&name)
        && !name.starts_with(DATABASE)
        && !name.starts_with(DATABASE_COPY)
}

/// Copies that crashes left: of processes that are no more.
fn remove_stale(data_dir: &Path) {
    let names = fs::read_dir(data_dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    for name in names {
        let process = name.strip_prefix(DATABASE_COPY).and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| {
            process == std::process::id() || !Path::new(&format!("/proc/{process}")).exists()
        }) {
            let _ = rustix::fs::unlink(data_dir.join(name));
        }
    }
}

/// The database as it is at one moment; the server goes on. The copy has no name any more.
fn database(data_dir: &Path) -> Result<File, String> {
    let copy: PathBuf = data_dir.join(format!("{DATABASE_COPY}{}", std::process::id()));
    remove_stale(data_dir);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let made = Connection::open_with_flags(data_dir.join(DATABASE), flags).and_then(|connection| {
        connection.busy_timeout(crate::limits::STORE_LOCK_PATIENCE)?;
        let path = copy.to_string_lossy();
        connection.execute("VACUUM INTO ?1", [path.as_ref()]).map(drop)
    });
    let opened =
        made.map_err(|error| error.to_string()).and_then(|()| open(&copy).map_err(|error| error.to_string()));
    let _ = rustix::fs::unlink(&copy);
    opened
}

pub(in crate::command) fn open(path: &Path) -> io::Result<File> {
    Ok(File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
}

/// A file of the store, from its beginning.
struct Reading<'a, F> {
    member: &'a Member<F>,
    offset: u64,
}

impl<F: storage::disk::File> Read for Reading<'_, F> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let wanted = octets.len().min(PIECE_OCTETS);
        let read = block_on(self.member.read(self.offset, wanted)).map_err(io::Error::other)?;
        octets[..read.len()].copy_from_slice(&read);
        self.offset += read.len() as u64;
        Ok(read.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_control_planes() {
        for name in ["admin-token", "fingerprints", "orders.json", "self-signed.pem"] {
            assert!(is_control(name), "{name}");
        }
        for name in [
            "lock",
            "probe",
            "store",
            "control.sqlite",
            "control.sqlite-wal",
            "orders.json.new",
            "update.efi",
            "restore.tar.zst",
            "backup-control-17",
        ] {
            assert!(!is_control(name), "{name}");
        }
    }
}
