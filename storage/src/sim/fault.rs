//! What goes wrong on the simulated disk, and how often it did: a test of faults that never fired proves nothing.

use core::fmt;
use std::collections::BTreeMap;

/// Faults to be injected. Calls that change something are counted from 1, and apart from them those that only read, so that
/// a test can go over all of either kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The call (write, sync, create, remove, give back, directory sync) with this number fails with EIO.
    pub fail_call: Option<u64>,
    /// And so does this one.
    pub fail_later_call: Option<u64>,
    /// The call with this number fails with ENOSPC, also a write or sync: a file system that copies on write, or has a
    /// quota, may refuse a preallocated block. A removal, which takes no room, succeeds.
    pub no_space_call: Option<u64>,
    /// The reading call (open, read, list) with this number fails with EIO.
    pub fail_reading: Option<u64>,
    /// The reading call with this number, if it is a read, gives half of the octets that are there: a file that was cut off.
    pub short_reading: Option<u64>,
    /// At a crash, once in so many files with unsynced writes, one of these lands elsewhere.
    pub misdirect_one_in: Option<u64>,
    /// At a crash, once in so many unsynced sectors, one was just being written: it is neither what it was nor what it should be.
    pub shear_one_in: Option<u64>,
    /// Nothing tells how much is free.
    pub fail_free: bool,
    /// A canary: a write behind durable octets writes the block before it once more, as a log that fills its tail block up would.
    pub rewrite_tail_blocks: bool,
    /// A canary: syncs are accepted and ignored.
    pub ignore_syncs: bool,
    /// A canary: directory syncs are accepted and ignored.
    pub ignore_directory_syncs: bool,
}

/// A call that can fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "named as the functions of the disk")]
pub enum Operation {
    Create,
    CreateDirectory,
    GiveBack,
    List,
    Open,
    Read,
    Remove,
    Sync,
    SyncDirectory,
    Write,
}

impl Operation {
    /// Its name in an error.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateDirectory => "create directory",
            Self::GiveBack => "give back",
            Self::List => "list",
            Self::Open => "open",
            Self::Read => "read",
            Self::Remove => "remove",
            Self::Sync => "sync",
            Self::SyncDirectory => "sync directory",
            Self::Write => "write",
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_reading(self) -> bool {
        matches!(self, Self::List | Self::Open | Self::Read)
    }
}

/// How often each kind of fault fired, over all crashes of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// Calls that failed with EIO.
    pub eio: BTreeMap<Operation, u64>,
    /// Calls that failed with ENOSPC by injection, not because the disk was full.
    pub no_space: u64,
    /// Reads that gave too little.
    pub short_reads: u64,
    /// Unsynced sectors that a crash took back.
    pub lost_sectors: u64,
    /// Unsynced sectors of which a crash left neither the old nor the new octets.
    pub sheared_sectors: u64,
    /// Unsynced writes of which a crash, or their own failure, kept a part.
    pub torn_writes: u64,
    /// Unsynced writes that a crash kept, at least in part, though it took back of an earlier one, to any file.
    pub reordered_writes: u64,
    /// Unsynced writes that landed elsewhere.
    pub misdirected_writes: u64,
    /// Changes of directories that a crash undid: files made or removed.
    pub lost_directory_entries: u64,
    /// Octets that rotted.
    pub rotten_octets: u64,
}

impl Fired {
    /// Adds what fired on another disk.
    pub fn add(&mut self, other: &Self) {
        for (operation, count) in &other.eio {
            *self.eio.entry(*operation).or_default() += count;
        }
        self.no_space += other.no_space;
        self.short_reads += other.short_reads;
        self.lost_sectors += other.lost_sectors;
        self.sheared_sectors += other.sheared_sectors;
        self.torn_writes += other.torn_writes;
        self.reordered_writes += other.reordered_writes;
        self.misdirected_writes += other.misdirected_writes;
        self.lost_directory_entries += other.lost_directory_entries;
        self.rotten_octets += other.rotten_octets;
    }

    /// Every kind but EIO, which has kinds of its own, with its count.
    #[must_use]
    pub const fn rows(&self) -> [(&'static str, u64); 9] {
        [
            ("ENOSPC", self.no_space),
            ("short read", self.short_reads),
            ("lost sector", self.lost_sectors),
            ("sheared sector", self.sheared_sectors),
            ("torn write", self.torn_writes),
            ("reordered write", self.reordered_writes),
            ("misdirected write", self.misdirected_writes),
            ("lost directory entry", self.lost_directory_entries),
            ("rotten octet", self.rotten_octets),
        ]
    }
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, count) in &self.eio {
            write!(f, "EIO of {}: {count}, ", operation.word())?;
        }
        let rows = self.rows().map(|(kind, count)| format!("{kind}: {count}"));
        f.write_str(&rows.join(", "))
    }
}
