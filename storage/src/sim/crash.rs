//! Power cuts: what is not durable is kept or lost, by the seed ([`SimDisk::crash`]) or as a test says
//! ([`SimDisk::cut`], which leaves the disk as it is, so that a test can go over all that might have become of it).

use super::content::{self, Content, Fate};
use super::disk::{SimDisk, State, directory_of};
use super::fault::Faults;
use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A change that nothing has made durable yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pending {
    /// A file of this path was made or removed.
    Name(String),
    /// A write.
    Write {
        /// Its number among all writes of the disk.
        number: u64,
        /// How many sectors it wrote.
        sectors: usize,
    },
}

/// What a power cut keeps of a pending change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// All of it.
    All,
    /// Of a write, so many sectors of its head; the next one was just being written, and is neither what it was nor what it
    /// should be. Of a name, nothing.
    Head(usize),
    /// Nothing.
    Nothing,
    /// Of a write, all behind so many sectors of its head; of a name, nothing.
    Tail(usize),
}

impl Kept {
    /// What becomes of sector `place` of a write.
    const fn fate(self, place: usize) -> Fate {
        match self {
            Self::All => Fate::Kept,
            Self::Head(sectors) if place == sectors => Fate::Sheared,
            Self::Head(sectors) if place < sectors => Fate::Kept,
            Self::Tail(sectors) if place >= sectors => Fate::Kept,
            Self::Head(_) | Self::Nothing | Self::Tail(_) => Fate::Lost,
        }
    }
}

impl SimDisk {
    /// Power cut: returns the disk as the next start finds it. The old handle is empty.
    #[must_use]
    pub fn crash(&self) -> Self {
        let empty = Self::new(0, 0).state;
        let mut state = self.state.replace(Rc::into_inner(empty).expect("just made").into_inner());
        let faults = state.faults;
        let mut writes = Vec::new();
        for file in &mut state.files {
            writes.append(&mut file.crash(&faults, &mut state.random, &mut state.fired));
        }
        content::count(writes, &mut state.fired);
        let mut kept = Vec::new();
        for name in state.pending_names() {
            let is_kept = state.random.one_in(2);
            let is_durable = state.durable_directories.contains(directory_of(&name));
            state.fired.lost_directory_entries += u64::from(!(is_kept && is_durable));
            kept.extend(is_kept.then_some(name));
        }
        state.start_again(&kept);
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// All that a power cut might lose: writes in their order, then names.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let state = self.state.borrow();
        let mut writes: Vec<_> = state.files.iter().flat_map(Content::pending).collect();
        writes.sort_unstable();
        let writes = writes.into_iter().map(|(number, sectors)| Pending::Write { number, sectors });
        writes.chain(state.pending_names().into_iter().map(Pending::Name)).collect()
    }

    /// Another disk in the same state, with all that is pending: what a process that is killed now leaves to the next.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state.borrow_mut();
        state.spare.clear();
        Self { state: Rc::new(RefCell::new(state.clone())) }
    }

    /// The disk as the next start would find it, had the power been cut now, if just that was kept of each change of
    /// [`Self::pending`]. This disk goes on.
    ///
    /// # Panics
    /// Unless there is one of `kept` for each.
    #[must_use]
    pub fn cut(&self, kept: &[Kept]) -> Self {
        let pending = self.pending();
        assert_eq!(pending.len(), kept.len(), "one for each");
        let left = self.fork();
        let mut state = left.state.borrow_mut();
        let (mut names, mut writes) = (Vec::new(), BTreeMap::new());
        for (change, kept) in pending.into_iter().zip(kept) {
            match change {
                Pending::Name(name) => names.extend((*kept == Kept::All).then_some(name)),
                Pending::Write { number, .. } => drop(writes.insert(number, *kept)),
            }
        }
        for file in &mut state.files {
            file.cut(|number, place| writes[&number].fate(place));
        }
        state.start_again(&names);
        drop(state);
        left
    }
}

impl State {
    /// Paths of which what is seen is not what is durable.
    fn pending_names(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.names.keys().chain(self.durable_names.keys()).collect();
        let pending = all.into_iter().filter(|name| self.names.get(*name) != self.durable_names.get(*name));
        pending.cloned().collect()
    }

    /// Of the pending names only `kept` are as they were seen; those in a directory that is not durable are gone.
    fn start_again(&mut self, kept: &[String]) {
        for name in kept {
            match self.names.get(name) {
                Some(file) => drop(self.durable_names.insert(name.clone(), *file)),
                None => drop(self.durable_names.remove(name)),
            }
        }
        let directories = &self.durable_directories;
        self.durable_names.retain(|name, _| directories.contains(directory_of(name)));
        self.names.clone_from(&self.durable_names);
        self.directories.clone_from(&self.durable_directories);
        for (number, file) in self.files.iter_mut().enumerate() {
            if !self.names.values().any(|kept| *kept == number) {
                *file = Content::default();
            }
        }
        self.faults = Faults::default();
        self.calls = 0;
        self.readings = 0;
    }
}
