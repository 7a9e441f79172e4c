//! An index held against the frames of its segment, as soon as these were read: what agrees need not be kept.

use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::position::Stamp;
use std::collections::{BTreeMap, BTreeSet};

/// How an index differs from what an index of the frames would say. Voids of later segments are not known here: whoever
/// reads it leaves out what they cover.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Entries whose record is not here, with their domain.
    pub(super) missing: Vec<(u32, IndexEntry)>,
    /// Records that the index tells otherwise, or not at all: offset, what.
    pub(super) differences: Vec<(u64, &'static str)>,
    /// First units of messages whose pins only the frames tell.
    pub(super) pins_found: Vec<u32>,
    /// The index tells voids or pins that no frame does, or lacks voids.
    pub(super) differs: bool,
}

impl Compared {
    pub(super) fn new(
        stored: &SegmentIndex,
        found: &SegmentIndex,
        mut number_of: impl FnMut(&str) -> u32,
    ) -> Self {
        let mut compared = Self::default();
        let (stored_entries, found_entries) = (by_stamp(stored), by_stamp(found));
        for (key, entry) in &stored_entries {
            match found_entries.get(key) {
                None => compared.missing.push((number_of(key.1), **entry)),
                Some(other) if *other != *entry => {
                    compared.differences.push((entry.offset().0, "the index differs"));
                }
                Some(_) => {}
            }
        }
        for (key, entry) in &found_entries {
            if !stored_entries.contains_key(key) {
                compared.differences.push((entry.offset().0, "the index lacks this record"));
            }
        }
        let missing: BTreeSet<u32> = compared.missing.iter().map(|(_, entry)| entry.unit_base).collect();
        let only_found = found.pins.iter().filter(|pin| !stored.pins.contains(pin));
        compared.pins_found = only_found.map(|pin| pin.unit_base).collect();
        // A message that is lost took its pins along.
        let mut only_stored = stored.pins.iter().filter(|pin| !found.pins.contains(pin));
        let pins_differ = only_stored.any(|pin| !missing.contains(&pin.unit_base));
        compared.differs = pins_differ || stored.voids != found.voids;
        compared
    }
}

fn by_stamp(index: &SegmentIndex) -> BTreeMap<(Stamp, &str, u16), &IndexEntry> {
    let entries = index.domains.iter().flat_map(|(domain, entries)| {
        entries.iter().map(move |entry| ((entry.stamp, domain.as_str(), entry.first), entry))
    });
    entries.collect()
}
