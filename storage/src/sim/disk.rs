//! A disk with a volatile cache: what was written is seen at once and survives a crash only as the contract of
//! [`crate::disk`] says. At a crash each unsynced 512-octet sector is kept or lost by itself, and so is
//! each unsynced change of a directory.
//!
//! After a failed write or sync its sectors are *forsaken*: the system took them for clean, so no later sync saves
//! them, though they may be on stable storage already. Only writing them again helps. A sync of a file with
//! forsaken sectors is what nobody may do who wants to know what is durable; it is counted.
//!
//! [`Faults`] says what else goes wrong, [`SimDisk::fired`] how often each kind did. A **misdirected** write, an unsynced one
//! that lands elsewhere, stays within its file and spares what was ever durable: a write that destroys durable octets
//! is bit rot, and for that there is [`SimDisk::rot`].

pub use super::content::SECTOR_OCTETS;
pub use super::fault::{Faults, Fired, Operation};

use super::content::Content;
use super::executor::yield_now;
use super::random::Random;
use crate::disk::{ALIGNMENT_OCTETS, Block, Disk, File};
use crate::error::DiskError;
use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// See the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(super) state: Rc<RefCell<State>>,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) random: Random,
    /// Names as they are seen.
    pub(super) names: BTreeMap<String, usize>,
    /// Names as they are on stable storage.
    pub(super) durable_names: BTreeMap<String, usize>,
    pub(super) directories: BTreeSet<String>,
    pub(super) durable_directories: BTreeSet<String>,
    pub(super) files: Vec<Content>,
    pub(super) faults: Faults,
    pub(super) calls: u64,
    changes: u64,
    pub(super) readings: u64,
    pub(super) fired: Fired,
    writes: u64,
    free: u64,
    syncs_after_failure: u64,
    /// Memory that was written and may be allocated again.
    pub(super) spare: Vec<Vec<u8>>,
}

/// Blocks of memory that are kept for the next write.
const SPARE_BLOCKS_MAX: usize = 16;

/// An open simulated file.
#[derive(Debug)]
pub struct SimFile {
    state: Rc<RefCell<State>>,
    file: usize,
}

/// A directory that was taken away.
#[derive(Debug)]
pub struct Unmounted {
    directory: String,
    names: BTreeMap<String, usize>,
}

/// Memory. What it holds at first is left from its use before.
#[derive(Debug)]
pub struct SimBlock {
    memory: Vec<u8>,
    octets: usize,
}

impl SimDisk {
    /// An empty disk of `octets`.
    #[must_use]
    pub fn new(seed: u64, octets: u64) -> Self {
        let root = BTreeSet::from([String::new()]);
        let state = State {
            random: Random::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            directories: root.clone(),
            durable_directories: root,
            files: Vec::new(),
            faults: Faults::default(),
            calls: 0,
            changes: 0,
            readings: 0,
            fired: Fired::default(),
            writes: 0,
            free: octets,
            syncs_after_failure: 0,
            spare: Vec::new(),
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// Sets what goes wrong from now on, and counts calls from 0 again.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state.borrow_mut();
        state.faults = faults;
        state.calls = 0;
        state.readings = 0;
    }

    /// Calls since the last [`Self::set_faults`] that change something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.borrow().calls
    }

    /// The same since the disk was made.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Calls since the last [`Self::set_faults`] that only read.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.state.borrow().readings
    }

    /// How often each kind of fault fired, over all crashes.
    #[must_use]
    pub fn fired(&self) -> Fired {
        self.state.borrow().fired.clone()
    }

    /// Octets written and not synced.
    #[must_use]
    pub fn unsynced_octets(&self) -> usize {
        self.state.borrow().files.iter().map(Content::unsynced_octets).sum()
    }

    /// Syncs of files that had forsaken sectors, over all crashes.
    #[must_use]
    pub fn syncs_after_failure(&self) -> u64 {
        self.state.borrow().syncs_after_failure
    }

    /// Sets the octets that are free.
    pub fn set_free(&self, octets: u64) {
        self.state.borrow_mut().free = octets;
    }

    /// Changes a file's octets behind everybody's back: bit rot.
    ///
    /// # Panics
    /// If there is no such file, or it is shorter.
    pub fn rot(&self, path: &str, offset: usize, octets: &[u8]) {
        let mut state = self.state.borrow_mut();
        let file = state.names[path];
        state.files[file].rot(offset, octets);
        state.fired.rotten_octets += octets.len() as u64;
    }

    /// All files, by path.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// A file's content as it is seen.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        state.names.get(path).map(|file| state.files[*file].seen.to_vec())
    }

    /// Takes a directory away, durably: an unmounted disk.
    pub fn unmount(&self, directory: &str) -> Unmounted {
        let mut state = self.state.borrow_mut();
        let mut names = BTreeMap::new();
        state.names.retain(|name, file| {
            let inside = directory_of(name) == directory;
            if inside {
                names.insert(name.clone(), *file);
            }
            !inside
        });
        state.durable_names.retain(|name, _| directory_of(name) != directory);
        state.directories.remove(directory);
        state.durable_directories.remove(directory);
        Unmounted { directory: directory.to_owned(), names }
    }

    /// The counterpart of [`Self::unmount`]; there was no crash in between.
    pub fn mount(&self, unmounted: Unmounted) {
        let mut state = self.state.borrow_mut();
        state.directories.insert(unmounted.directory.clone());
        state.durable_directories.insert(unmounted.directory);
        state.names.extend(unmounted.names.clone());
        state.durable_names.extend(unmounted.names);
    }

    async fn call(&self, operation: Operation) -> Result<(), DiskError> {
        call(&self.state, operation).await
    }
}

/// The directory that a path lies in.
pub(super) fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Takes a while, as a disk does, and fails if it is this call's turn. It gives way at least once, so that a test can look
/// at the disk between any two calls.
async fn call(state: &RefCell<State>, operation: Operation) -> Result<(), DiskError> {
    let pauses = 1 + state.borrow_mut().random.below(2);
    for _ in 0..pauses {
        yield_now().await;
    }
    let mut state = state.borrow_mut();
    state.calls += 1;
    state.changes += 1;
    let call = Some(state.calls);
    if state.faults.fail_call == call || state.faults.fail_later_call == call {
        return Err(state.fail(operation));
    }
    if state.faults.no_space_call == call && operation != Operation::Remove {
        state.fired.no_space += 1;
        return Err(DiskError::NoSpace);
    }
    Ok(())
}

impl State {
    /// Counts a call that only reads; fails if it is its turn.
    fn reading(&mut self, operation: Operation) -> Result<(), DiskError> {
        debug_assert!(operation.is_reading());
        self.readings += 1;
        if self.faults.fail_reading == Some(self.readings) { Err(self.fail(operation)) } else { Ok(()) }
    }

    fn fail(&mut self, operation: Operation) -> DiskError {
        *self.fired.eio.entry(operation).or_default() += 1;
        DiskError::Io { operation: operation.word(), reason: "injected".to_owned() }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn create(&self, path: &str, size: u64) -> Result<SimFile, DiskError> {
        self.call(Operation::Create).await?;
        let mut state = self.state.borrow_mut();
        if state.names.contains_key(path) {
            return Err(DiskError::Exists);
        }
        if !state.directories.contains(directory_of(path)) {
            return Err(DiskError::NotFound);
        }
        state.free = state.free.checked_sub(size).ok_or(DiskError::NoSpace)?;
        let octets = usize::try_from(size).map_err(|_| DiskError::NoSpace)?;
        state.files.push(Content::zeros(octets));
        let file = state.files.len() - 1;
        state.names.insert(path.to_owned(), file);
        Ok(SimFile { state: Rc::clone(&self.state), file })
    }

    async fn open(&self, path: &str) -> Result<SimFile, DiskError> {
        let mut state = self.state.borrow_mut();
        state.reading(Operation::Open)?;
        let file = *state.names.get(path).ok_or(DiskError::NotFound)?;
        Ok(SimFile { state: Rc::clone(&self.state), file })
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let mut state = self.state.borrow_mut();
        state.reading(Operation::List)?;
        if !state.directories.contains(directory) {
            return Err(DiskError::NotFound);
        }
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let all = state.names.keys().chain(state.directories.iter());
        let inside = all.filter_map(|name| name.strip_prefix(prefix.as_str()));
        Ok(inside.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect())
    }

    async fn create_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.call(Operation::CreateDirectory).await?;
        self.state.borrow_mut().directories.insert(directory.to_owned());
        Ok(())
    }

    async fn sync_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.call(Operation::SyncDirectory).await?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.faults.ignore_directory_syncs {
            return Ok(());
        }
        let inside = |name: &String| directory_of(name) == directory;
        state.durable_names.retain(|name, _| !inside(name));
        let seen = state.names.iter().filter(|(name, _)| inside(name));
        state.durable_names.extend(seen.map(|(name, file)| (name.clone(), *file)));
        let children = state.directories.iter().filter(|name| inside(name)).cloned();
        state.durable_directories.extend(children);
        Ok(())
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.call(Operation::Remove).await?;
        let mut state = self.state.borrow_mut();
        let file = state.names.remove(path).ok_or(DiskError::NotFound)?;
        let content = &state.files[file];
        state.free += (content.seen.len() - content.given_back) as u64;
        Ok(())
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        let state = self.state.borrow();
        let error = || DiskError::Io { operation: "free space", reason: "injected".to_owned() };
        if state.faults.fail_free { Err(error()) } else { Ok(state.free) }
    }
}

impl File for SimFile {
    type Block = SimBlock;
    type Octets = Vec<u8>;

    fn allocate(&self, octets: usize) -> SimBlock {
        let spare = &mut self.state.borrow_mut().spare;
        let fitting = spare.iter().position(|memory| memory.len() >= octets);
        // Not zeros: whoever forgets to clear padding shall be seen.
        let memory = fitting.map_or_else(|| vec![0xAA; octets], |place| spare.swap_remove(place));
        SimBlock { memory, octets }
    }

    async fn write(&self, block: SimBlock, offset: u64) -> Result<(), DiskError> {
        let called = call(&self.state, Operation::Write).await;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let start = usize::try_from(offset).map_err(|_| DiskError::NoSpace)?;
        assert!(start.is_multiple_of(ALIGNMENT_OCTETS), "unaligned write");
        assert!(block.octets.is_multiple_of(ALIGNMENT_OCTETS), "unaligned length");
        let content = &mut state.files[self.file];
        let end = start + block.octets;
        assert!(end <= content.seen.len() - content.given_back, "write behind the preallocated end");
        let sectors = start / SECTOR_OCTETS..end / SECTOR_OCTETS;
        state.writes += 1;
        if state.faults.rewrite_tail_blocks {
            content.write_tail_again(state.writes, &sectors);
        }
        match called {
            Ok(()) => content.write(state.writes, sectors, block.as_ref()),
            Err(_) => {
                let torn = content.tear(state.writes, sectors, block.as_ref(), &mut state.random);
                state.fired.torn_writes += u64::from(torn);
            }
        }
        if state.spare.len() < SPARE_BLOCKS_MAX {
            state.spare.push(block.memory);
        }
        called
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<Vec<u8>, DiskError> {
        let mut state = self.state.borrow_mut();
        state.reading(Operation::Read)?;
        let is_short = state.faults.short_reading == Some(state.readings);
        state.fired.short_reads += u64::from(is_short);
        let content = &state.files[self.file].seen;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(octets).min(content.len());
        let end = if is_short { start + (end - start) / 2 } else { end };
        Ok(content[start..end].to_vec())
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let called = call(&self.state, Operation::Sync).await;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.faults.ignore_syncs {
            return Ok(());
        }
        let content = &mut state.files[self.file];
        let after_failure = if called.is_ok() { content.sync() } else { content.forsake() };
        state.syncs_after_failure += u64::from(after_failure);
        called
    }

    async fn give_back(&self, offset: u64) -> Result<(), DiskError> {
        call(&self.state, Operation::GiveBack).await?;
        let mut state = self.state.borrow_mut();
        let content = &mut state.files[self.file];
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.seen.len());
        assert!(content.seen[start..].iter().all(|octet| *octet == 0), "something is given back");
        let octets = content.seen.len() - start;
        let more = octets.saturating_sub(content.given_back);
        content.given_back += more;
        state.free += more as u64;
        Ok(())
    }

    async fn length(&self) -> Result<u64, DiskError> {
        Ok(self.state.borrow().files[self.file].seen.len() as u64)
    }
}

impl AsRef<[u8]> for SimBlock {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.octets]
    }
}

impl AsMut<[u8]> for SimBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.octets]
    }
}

impl Block for SimBlock {
    fn truncate(&mut self, octets: usize) {
        assert!(octets <= self.octets);
        self.octets = octets;
    }
}
