//! An archive, taken apart: each entry has one place that it may go to, and what says that all is whole goes last.

use super::super::backup::{
    APPLIANCE_FILE, CONFIGURATION_FILE, CONFIGURATION_FILES, CONTROL, DATABASE, FORMAT, MACHINE_KEYS,
    MANIFEST, Manifest, QUEUE, SUMS, hexadecimal, is_control, open_file,
};
use super::is_free;
use crate::config::Config;
use crate::limits::{BACKUP_MANIFEST_OCTETS_MAX, CONFIGURATION_FILE_OCTETS_MAX};
use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, openat, rename, syncfs};
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use storage::crypt::Keys;
use storage::snapshot::is_member;
use tar::{Archive, Entry};
use zstd::Decoder;

/// Where it goes; nowhere: it is only looked at.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) configuration: Option<PathBuf>,
}

/// What it was.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) manifest: Manifest,
    pub(super) files: u64,
    pub(super) octets: u64,
    /// Keys of mail at rest, if the configuration named some.
    pub(super) keys: Arc<Keys>,
    /// Files that stood outside of the configuration's directory, and where they are now.
    pub(super) elsewhere: Vec<(String, String)>,
    /// Where the keys are that an appliance made; the configuration has to name them.
    pub(super) machine_keys: Option<String>,
    /// Where the settings of an appliance are.
    pub(super) settings: Option<String>,
    pub(super) contents: Contents,
}

/// What stands in the configuration.
#[derive(Default)]
pub(super) struct Contents {
    /// The file itself.
    pub(super) configuration: Option<Vec<u8>>,
    /// Those that it names, by their numbers in the manifest.
    pub(super) named: BTreeMap<usize, Vec<u8>>,
    /// The text of the key file of mail at rest, whoever made it.
    pub(super) keys: Option<Vec<u8>>,
    /// Whether the configuration names it.
    pub(super) has_key_file: bool,
}

impl core::fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Contents(not shown)")
    }
}

impl Restored {
    /// Files that the configuration names, and that were not there.
    pub(super) fn missing(&self) -> Vec<&str> {
        self.manifest.files.iter().filter(|named| !named.held).map(|named| named.path.as_str()).collect()
    }
}

/// Where files are that stood outside of the configuration's directory.
const ELSEWHERE: &str = "elsewhere";
/// The store file and the database, until all is right.
const UNPROVEN: &str = ".unproven";
/// An appliance's keys, in the configuration's directory.
const MACHINE_KEYS_FILE: &str = "mail-keys";
/// An appliance's settings, there too.
const SETTINGS_FILE: &str = "appliance.toml";
/// What is read and written at a time; of it what is zeros is left out.
const PIECE_OCTETS: usize = 64 << 10;

/// Takes it apart.
///
/// # Errors
/// A sentence; what was written is removed.
pub(super) fn unpack(file: &Path, targets: &Targets) -> Result<Restored, String> {
    for directory in [&targets.data_dir, &targets.configuration].into_iter().flatten() {
        if !is_free(directory) {
            return Err(format!("nothing was restored: {} is not empty", directory.display()));
        }
    }
    let mut unpacking = Unpacking::default();
    let unpacked = unpacking.run(file, targets);
    if unpacked.is_err() {
        unpacking.undo();
    }
    unpacked
}

#[derive(Debug, Default)]
struct Unpacking {
    /// Names of entries and their sums.
    sums: BTreeMap<String, String>,
    files: u64,
    octets: u64,
    configuration: Option<Vec<u8>>,
    machine_keys: Option<Vec<u8>>,
    settings: Option<Vec<u8>>,
    named: BTreeMap<usize, Vec<u8>>,
    /// Made by us, in order.
    made: Vec<PathBuf>,
    /// What gets its name last.
    last: Vec<(PathBuf, PathBuf)>,
    elsewhere: Vec<(String, String)>,
}

impl Unpacking {
    fn run(&mut self, file: &Path, targets: &Targets) -> Result<Restored, String> {
        let from: Box<dyn Read> = if file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(open_file(file).map_err(|error| error.to_string())?)
        };
        let zstd = Decoder::new(from).map_err(|error| error.to_string())?;
        let mut tar = Archive::new(zstd);
        let mut entries = tar.entries().map_err(|error| cut_off(&error))?;
        let first = entries.next().ok_or("is no archive of stratamx backup")?;
        let manifest = self.manifest(first.map_err(|error| cut_off(&error))?)?;
        let mut listed = None;
        for entry in entries {
            let entry = entry.map_err(|error| cut_off(&error))?;
            if listed.is_some() {
                return Err(format!("there is more behind {SUMS}"));
            }
            let name = name_of(&entry)?;
            if name == SUMS {
                listed = Some(self.text(entry, BACKUP_MANIFEST_OCTETS_MAX)?);
            } else {
                self.entry(&name, entry, &manifest, targets)?;
            }
        }
        let listed = listed.ok_or("is cut off: its sums are not there")?;
        // To its end: the checksum of the whole stands there.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|error| cut_off(&error))?;
        self.compare(&listed)?;
        let (keys, has_key_file) = self.key_file(&manifest);
        let contents = Contents { keys: keys.map(<[u8]>::to_vec), has_key_file, ..Contents::default() };
        let keys = parsed(contents.keys.as_deref())?;
        self.settle(&manifest, targets)?;
        let elsewhere = core::mem::take(&mut self.elsewhere);
        let place = |content: &Option<Vec<u8>>, name: &str| {
            let put = targets.configuration.as_ref().filter(|_| content.is_some());
            put.map(|directory| directory.join(name).display().to_string())
        };
        let machine_keys = place(&self.machine_keys, MACHINE_KEYS_FILE);
        let settings = place(&self.settings, SETTINGS_FILE);
        let (configuration, named) = (self.configuration.take(), core::mem::take(&mut self.named));
        let contents = Contents { configuration, named, ..contents };
        let (files, octets) = (self.files, self.octets);
        Ok(Restored { manifest, files, octets, keys, elsewhere, machine_keys, settings, contents })
    }

    fn manifest(&mut self, entry: Entry<'_, impl Read>) -> Result<Manifest, String> {
        let no_archive = || "is no archive of stratamx backup".to_owned();
        if name_of(&entry)? != MANIFEST {
            return Err(no_archive());
        }
        let octets = self.content(MANIFEST, entry, BACKUP_MANIFEST_OCTETS_MAX)?;
        let value: serde_json::Value = serde_json::from_slice(&octets).map_err(|_| no_archive())?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(format!(
                    "is of format {format}; this version reads {FORMAT}: a newer one is needed"
                ));
            }
            None => return Err(no_archive()),
        }
        serde_json::from_value(value).map_err(|error| format!("{MANIFEST}: {error}"))
    }

    /// One of those between the manifest and the sums.
    fn entry(
        &mut self,
        name: &str,
        entry: Entry<'_, impl Read>,
        manifest: &Manifest,
        targets: &Targets,
    ) -> Result<(), String> {
        let strange = || format!("{name}: nothing of that name belongs into an archive");
        if self.sums.contains_key(name) {
            return Err(format!("{name} is there twice"));
        }
        if name == CONFIGURATION_FILE {
            self.configuration = Some(self.content(name, entry, CONFIGURATION_FILE_OCTETS_MAX)?);
            return Ok(());
        }
        if name == MACHINE_KEYS {
            self.machine_keys = Some(self.content(name, entry, CONFIGURATION_FILE_OCTETS_MAX)?);
            return Ok(());
        }
        if name == APPLIANCE_FILE {
            self.settings = Some(self.content(name, entry, CONFIGURATION_FILE_OCTETS_MAX)?);
            return Ok(());
        }
        let (place, rest) =
            name.rsplit_once('/').filter(|_| name.starts_with(CONFIGURATION_FILES)).unwrap_or(("", name));
        if place == CONFIGURATION_FILES {
            let number: usize = rest.parse().map_err(|_| strange())?;
            manifest.files.get(number).filter(|named| named.held).ok_or_else(strange)?;
            let content = self.content(name, entry, CONFIGURATION_FILE_OCTETS_MAX)?;
            self.named.insert(number, content);
            return Ok(());
        }
        let below = |place: &str| name.strip_prefix(place).and_then(|rest| rest.strip_prefix('/'));
        let path = match (below(CONTROL), below(QUEUE)) {
            (Some(control), None)
                if !control.contains('/') && (is_control(control) || control == DATABASE) =>
            {
                control
            }
            (None, Some(member)) if is_member(member) && manifest.store.is_some() => member,
            _ => return Err(strange()),
        };
        let target = targets.data_dir.as_ref().map(|data_dir| data_dir.join(path));
        self.write(name, entry, target)
    }

    /// A file of the data directory, or only its sum.
    fn write(
        &mut self,
        name: &str,
        mut entry: Entry<'_, impl Read>,
        target: Option<PathBuf>,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("{name}: {error}");
        let octets = entry.size();
        let mut file = match &target {
            Some(path) => {
                self.directory(path.parent().unwrap_or(Path::new(".")))?;
                let is_last =
                    [DATABASE, "store"].iter().any(|last| path.file_name() == Some((*last).as_ref()));
                let mut first = path.as_os_str().to_owned();
                if is_last {
                    first.push(UNPROVEN);
                    self.last.push((PathBuf::from(first.clone()), path.clone()));
                }
                Some(self.create(Path::new(&first))?)
            }
            None => None,
        };
        let (mut sum, mut piece, mut offset) = (Context::new(&SHA256), vec![0; PIECE_OCTETS], 0_u64);
        loop {
            let read = fill(&mut entry, &mut piece).map_err(|error| cut_off(&error))?;
            let octets = &piece[..read];
            sum.update(octets);
            if let Some(file) = file.as_mut().filter(|_| octets.iter().any(|octet| *octet != 0)) {
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(octets)).map_err(failed)?;
            }
            offset += read as u64;
            if read < piece.len() {
                break;
            }
        }
        if let Some(file) = &file {
            file.set_len(octets).map_err(failed)?;
        }
        self.note(name, sum, octets);
        Ok(())
    }

    /// A small entry.
    fn content(&mut self, name: &str, entry: Entry<'_, impl Read>, most: usize) -> Result<Vec<u8>, String> {
        let size = entry.size();
        let mut octets = Vec::new();
        entry.take(most as u64 + 1).read_to_end(&mut octets).map_err(|error| cut_off(&error))?;
        if octets.len() > most {
            return Err(format!("{name} is larger than {most} octets"));
        }
        let mut sum = Context::new(&SHA256);
        sum.update(&octets);
        self.note(name, sum, size);
        Ok(octets)
    }

    fn text(&mut self, entry: Entry<'_, impl Read>, most: usize) -> Result<String, String> {
        let mut text = String::new();
        entry.take(most as u64).read_to_string(&mut text).map_err(|error| cut_off(&error))?;
        Ok(text)
    }

    fn note(&mut self, name: &str, sum: Context, octets: u64) {
        self.sums.insert(name.to_owned(), hexadecimal(sum.finish().as_ref()));
        self.files += 1;
        self.octets += octets;
    }

    /// Every entry has its sum, and every sum its entry.
    fn compare(&self, listed: &str) -> Result<(), String> {
        let mut wanted = BTreeMap::new();
        for line in listed.lines() {
            let (sum, name) = line.split_once("  ").ok_or_else(|| format!("{SUMS} makes no sense"))?;
            wanted.insert(name, sum);
        }
        for (name, sum) in &self.sums {
            if wanted.remove(name.as_str()) != Some(sum) {
                return Err(format!("{name} is not what was written"));
            }
        }
        wanted.keys().next().map_or(Ok(()), |name| Err(format!("{name} is missing")))
    }

    /// The text of the key file of mail at rest, and whether the configuration names it.
    fn key_file(&self, manifest: &Manifest) -> (Option<&[u8]>, bool) {
        let text = self.configuration.as_deref().map(String::from_utf8_lossy);
        // One of another version may have keys that this one does not know.
        let Some(config) = text.and_then(|text| Config::parse(&text, "stratamx.toml").ok()) else {
            return (None, false);
        };
        let Some(path) = &config.storage.key_file else { return (self.machine_keys.as_deref(), false) };
        let number = manifest.files.iter().position(|named| Path::new(&named.path) == path);
        (number.and_then(|number| self.named.get(&number)).map(Vec::as_slice), true)
    }

    /// All is right: the rest gets its place.
    fn settle(&mut self, manifest: &Manifest, targets: &Targets) -> Result<(), String> {
        if let Some(directory) = &targets.configuration {
            self.configuration_into(directory, manifest)?;
        }
        for directory in [&targets.data_dir, &targets.configuration].into_iter().flatten() {
            self.directory(directory)?;
            self.give(directory, targets.data_dir.as_deref().unwrap_or(directory))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat(CWD, directory, flags, Mode::empty());
            opened.and_then(syncfs).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        for (from, to) in core::mem::take(&mut self.last) {
            rename(&from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
            self.made.push(to);
        }
        if let Some(directory) = &targets.data_dir {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat(CWD, directory, flags, Mode::empty());
            opened.and_then(syncfs).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        Ok(())
    }

    fn configuration_into(&mut self, directory: &Path, manifest: &Manifest) -> Result<(), String> {
        let Some(text) = self.configuration.clone() else {
            return Err("holds no configuration: its server ran by the embedded one".to_owned());
        };
        self.directory(directory)?;
        self.put(&directory.join("stratamx.toml"), &text)?;
        if let Some(keys) = self.machine_keys.clone() {
            self.put(&directory.join(MACHINE_KEYS_FILE), &keys)?;
        }
        if let Some(settings) = self.settings.clone() {
            self.put(&directory.join(SETTINGS_FILE), &settings)?;
        }
        for (number, content) in self.named.clone() {
            let path = Path::new(&manifest.files[number].path);
            let inside: PathBuf =
                path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            let is_here =
                path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            let place =
                if is_here { directory.join(&inside) } else { directory.join(ELSEWHERE).join(&inside) };
            if !is_here {
                self.elsewhere.push((path.display().to_string(), place.display().to_string()));
            }
            self.directory(place.parent().unwrap_or(directory))?;
            self.put(&place, &content)?;
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, octets: &[u8]) -> Result<(), String> {
        let mut file = self.create(path)?;
        file.write_all(octets).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A new file, ours alone.
    fn create(&mut self, path: &Path) -> Result<File, String> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
        let file = made.map_err(|error| format!("{}: {error}", path.display()))?;
        self.made.push(path.to_owned());
        Ok(file.into())
    }

    /// A directory, and those that it is in.
    fn directory(&mut self, path: &Path) -> Result<(), String> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        self.directory(path.parent().unwrap_or(Path::new("")))?;
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        self.made.push(path.to_owned());
        Ok(())
    }

    /// What root has made is whose data directory it is: the server reads its configuration too. That one is whose directory it is in, if it is new.
    fn give(&self, directory: &Path, data_dir: &Path) -> Result<(), String> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", directory.display());
        let owner = if self.made.iter().any(|made| made == data_dir) {
            data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
        } else {
            data_dir
        };
        let owner = fs::metadata(owner).map_err(|error| failed(&error))?;
        let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        for path in self.made.iter().filter(|made| made.starts_with(directory)) {
            chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// What was made goes again.
    fn undo(&self) {
        for path in self.made.iter().rev() {
            // What it cannot remove it says by being there: the next try is refused.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

fn parsed(keys: Option<&[u8]>) -> Result<Arc<Keys>, String> {
    let Some(octets) = keys else { return Ok(Arc::new(Keys::default())) };
    let keys = Keys::parse(&String::from_utf8_lossy(octets));
    keys.map(Arc::new).map_err(|error| format!("the keys of mail at rest: {error}"))
}

fn name_of(entry: &Entry<'_, impl Read>) -> Result<String, String> {
    let path = entry.path().map_err(|error| cut_off(&error))?;
    let name = path.to_str().map(str::to_owned);
    name.filter(|_| entry.header().entry_type().is_file()).ok_or_else(|| "holds what is no file".to_owned())
}

/// Reads until it is full or at its end.
fn fill(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn cut_off(error: &io::Error) -> String {
    format!("is damaged or cut off: {error}")
}
