//! One file of the simulated disk: what is seen, and what stable storage may have instead.

use super::fault::{Faults, Fired};
use super::random::Random;
use crate::disk::ALIGNMENT_OCTETS;
use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a power cut keeps or loses by itself.
pub const SECTOR_OCTETS: usize = 512;

const SECTORS_A_BLOCK: usize = ALIGNMENT_OCTETS / SECTOR_OCTETS;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Shared between disks that were forked until one writes.
    pub(super) seen: Rc<Vec<u8>>,
    /// Sectors that were written since the last sync, as stable storage has them.
    unsynced: BTreeMap<usize, Sector>,
    /// Sectors that a failed write or sync gave up, as stable storage may have them.
    forsaken: BTreeMap<usize, Sector>,
    /// Writes behind these sectors, each with its number among all of the disk.
    writes: Vec<(u64, Range<usize>)>,
    /// Sectors that a sync has made durable, ever.
    durable: Vec<bool>,
    /// Octets at the end whose room was given back.
    pub(super) given_back: usize,
}

type Sector = Box<[u8]>;

impl Content {
    /// A file of so many zeros.
    pub(super) fn zeros(octets: usize) -> Self {
        let durable = vec![false; octets.div_ceil(SECTOR_OCTETS)];
        Self { seen: Rc::new(vec![0; octets]), durable, ..Self::default() }
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        Rc::make_mut(&mut self.seen).as_mut_slice()
    }

    pub(super) fn write(&mut self, number: u64, sectors: Range<usize>, octets: &[u8]) {
        self.writes.push((number, sectors.clone()));
        for (sector, new) in sectors.zip(octets.chunks_exact(SECTOR_OCTETS)) {
            let range = range_of(sector);
            let before =
                self.forsaken.remove(&sector).unwrap_or_else(|| Box::from(&self.seen[range.clone()]));
            self.unsynced.entry(sector).or_insert(before);
            self.octets_mut()[range].copy_from_slice(new);
        }
    }

    /// The block before `sectors` is written once more, as it is.
    pub(super) fn write_tail_again(&mut self, number: u64, sectors: &Range<usize>) {
        let Some(start) = sectors.start.checked_sub(SECTORS_A_BLOCK) else { return };
        let tail = start..sectors.start;
        let octets = self.seen[octets_of(&tail)].to_vec();
        self.write(number, tail, &octets);
    }

    /// A write that failed on the way: each sector arrived or not. Returns whether some did and some did not.
    pub(super) fn tear(
        &mut self,
        number: u64,
        sectors: Range<usize>,
        octets: &[u8],
        random: &mut Random,
    ) -> bool {
        self.writes.push((number, sectors.clone()));
        let mut arrived = 0;
        for (sector, new) in sectors.clone().zip(octets.chunks_exact(SECTOR_OCTETS)) {
            let range = range_of(sector);
            let seen = Box::from(&self.seen[range.clone()]);
            let before = self.unsynced.remove(&sector).unwrap_or(seen);
            self.forsaken.entry(sector).or_insert(before);
            if random.one_in(2) {
                self.octets_mut()[range].copy_from_slice(new);
                arrived += 1;
            }
        }
        arrived > 0 && arrived < sectors.len()
    }

    /// What was written is durable, but for what is forsaken. Returns whether anything is.
    pub(super) fn sync(&mut self) -> bool {
        for sector in core::mem::take(&mut self.unsynced).into_keys() {
            self.durable[sector] = true;
        }
        let forsaken = &self.forsaken;
        self.writes.retain(|(_, sectors)| forsaken.range(sectors.clone()).next().is_some());
        !self.forsaken.is_empty()
    }

    /// A sync that failed: what it should have saved is given up. Returns whether anything had been before.
    pub(super) fn forsake(&mut self) -> bool {
        let before = !self.forsaken.is_empty();
        self.forsaken.append(&mut self.unsynced);
        before
    }

    pub(super) fn unsynced_octets(&self) -> usize {
        self.unsynced.len() * SECTOR_OCTETS
    }

    /// The power is cut: what is not known to be durable is there or not. Returns what became of each unsynced write.
    pub(super) fn crash(
        &mut self,
        faults: &Faults,
        random: &mut Random,
        fired: &mut Fired,
    ) -> Vec<WriteFate> {
        let mut unknown = core::mem::take(&mut self.unsynced);
        let forsaken: BTreeSet<usize> = self.forsaken.keys().copied().collect();
        let failed = |sectors: &Range<usize>| forsaken.range(sectors.clone()).next().is_some();
        unknown.append(&mut self.forsaken);
        let writes = core::mem::take(&mut self.writes);
        // One that failed has its own fault.
        let whole: Vec<&Range<usize>> =
            writes.iter().map(|(_, sectors)| sectors).filter(|sectors| !failed(sectors)).collect();
        if !whole.is_empty() && faults.misdirect_one_in.is_some_and(|times| random.one_in(times)) {
            let write = whole[index_below(whole.len(), random)];
            fired.misdirected_writes += u64::from(self.misdirect(write, &mut unknown, random));
        }
        let mut lost = Vec::new();
        for (sector, before) in unknown {
            if random.one_in(2) {
                self.octets_mut()[range_of(sector)].copy_from_slice(&before);
                lost.push(sector);
            } else if faults.shear_one_in.is_some_and(|times| random.one_in(times)) {
                self.octets_mut()[range_of(sector)].fill_with(|| random.next().to_le_bytes()[0]);
                fired.sheared_sectors += 1;
            }
        }
        fired.lost_sectors += lost.len() as u64;
        let fate = |(number, sectors): (u64, Range<usize>)| {
            let gone = lost.iter().filter(|sector| sectors.contains(sector)).count();
            WriteFate { number, sectors: sectors.len(), gone }
        };
        writes.into_iter().map(fate).collect()
    }

    /// Writes that may not be durable: their numbers, and how many sectors each wrote.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, usize)> {
        self.writes.iter().map(|(number, sectors)| (*number, sectors.len()))
    }

    /// The power is cut: `fate` says what becomes of each sector of a write that is not durable, by the number of the write and
    /// the place in it. One that was written twice has what the later write left of it.
    pub(super) fn cut(&mut self, fate: impl Fn(u64, usize) -> Fate) {
        let mut unknown = core::mem::take(&mut self.unsynced);
        unknown.append(&mut self.forsaken);
        let writes = core::mem::take(&mut self.writes);
        for (sector, before) in unknown {
            let last = writes.iter().rev().find(|(_, sectors)| sectors.contains(&sector));
            let (number, sectors) = last.expect("a sector that is not durable was written");
            let octets = &mut self.octets_mut()[range_of(sector)];
            match fate(*number, sector - sectors.start) {
                Fate::Kept => {}
                Fate::Lost => octets.copy_from_slice(&before),
                Fate::Sheared => octets.iter_mut().for_each(|octet| *octet = !*octet),
            }
        }
    }

    /// What `write` wrote stands elsewhere in the file, in one piece, and where it belongs stands what stood there before. It lands
    /// only where nothing was ever durable: what a disk does to durable octets is bit rot, against which no order of
    /// writes and syncs helps. Returns `false` if there is no such place within a few tries.
    fn misdirect(
        &mut self,
        write: &Range<usize>,
        unknown: &mut BTreeMap<usize, Sector>,
        random: &mut Random,
    ) -> bool {
        let blocks = (self.durable.len() / SECTORS_A_BLOCK).saturating_sub(write.len() / SECTORS_A_BLOCK);
        let place = (0..MISDIRECTION_TRIES).find_map(|_| {
            let start = index_below(blocks + 1, random) * SECTORS_A_BLOCK;
            let place = start..start + write.len();
            let free = self.durable.get(place.clone())?.iter().all(|durable| !durable);
            (free && start != write.start).then_some(place)
        });
        let Some(place) = place else { return false };
        let octets = self.seen[octets_of(write)].to_vec();
        for sector in write.clone() {
            if let Some(before) = unknown.remove(&sector) {
                self.octets_mut()[range_of(sector)].copy_from_slice(&before);
            }
        }
        for sector in place.clone() {
            unknown.remove(&sector);
        }
        self.octets_mut()[octets_of(&place)].copy_from_slice(&octets);
        true
    }

    /// Octets change behind everybody's back; what changed is durable.
    pub(super) fn rot(&mut self, offset: usize, octets: &[u8]) {
        self.octets_mut()[offset..offset + octets.len()].copy_from_slice(octets);
        let last = (offset + octets.len()).div_ceil(SECTOR_OCTETS);
        for sector in offset / SECTOR_OCTETS..last {
            self.unsynced.remove(&sector);
            self.forsaken.remove(&sector);
            self.durable[sector] = true;
        }
    }
}

const MISDIRECTION_TRIES: u32 = 8;

/// What becomes of a sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is as it was written.
    Kept,
    /// It is as it was before.
    Lost,
    /// Neither.
    Sheared,
}

/// What a crash did to an unsynced write.
pub(super) struct WriteFate {
    number: u64,
    sectors: usize,
    /// Sectors that were taken back.
    gone: usize,
}

/// Counts what a crash did to the writes of all files.
pub(super) fn count(mut writes: Vec<WriteFate>, fired: &mut Fired) {
    writes.sort_by_key(|write| write.number);
    let mut earlier_lost = false;
    for write in writes {
        let kept = write.gone < write.sectors;
        fired.torn_writes += u64::from(write.gone > 0 && kept);
        fired.reordered_writes += u64::from(earlier_lost && kept);
        earlier_lost |= write.gone > 0;
    }
}

fn index_below(bound: usize, random: &mut Random) -> usize {
    usize::try_from(random.below(bound as u64)).expect("below a usize")
}

const fn range_of(sector: usize) -> Range<usize> {
    sector * SECTOR_OCTETS..(sector + 1) * SECTOR_OCTETS
}

const fn octets_of(sectors: &Range<usize>) -> Range<usize> {
    sectors.start * SECTOR_OCTETS..sectors.end * SECTOR_OCTETS
}
