//! The index of a sealed segment (`FORMAT.md`, "Index file"): one entry per (record, recipient domain), sorted
//! by (domain, stamp), with a directory of domains in front, so that one domain's entries are one contiguous
//! read. It is derived data: a missing, torn or foreign one is rebuilt from the segment, and nothing of it is
//! believed without its checksum and the segment's salt. Each part has a checksum of its own, so that a part read by itself
//! can be believed.

pub use super::index_entry::IndexEntry;

use super::index_directory::{DirectoryRow, DirectoryWriter, IndexHead};
use super::index_entry::ENTRY_OCTETS;
use super::journal_entry::Void;
use super::{Reader, Writer, checksum};
use crate::position::{Salt, SegmentId, ShardId, Stamp};

/// A message that keeps chunk segments on disk until its units are settled (H3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// Number of its first unit in the closing segment.
    pub unit_base: u32,
    /// Its units.
    pub units: u32,
    /// The segments of its chunks, without its own, and the octets that its chunk frames take in each.
    pub segments: Vec<(SegmentId, u64)>,
}

/// Everything that an index says about its segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SegmentIndex {
    /// Entries a domain, sorted by stamp; domains sorted by name.
    pub domains: Vec<(String, Vec<IndexEntry>)>,
    /// Units of all messages in the segment.
    pub units: u32,
    /// Messages with chunks elsewhere.
    pub pins: Vec<Pin>,
    /// Void records in this segment (about earlier ones).
    pub voids: Vec<Void>,
    /// Highest stamp in the segment.
    pub last_stamp: Stamp,
    /// Records that were found damaged when the segment was scanned.
    pub damaged: u32,
}

impl Default for Stamp {
    fn default() -> Self {
        Self::NONE
    }
}

impl SegmentIndex {
    /// The file's content for `segment` of `shard`, whose header has `salt`.
    #[must_use]
    pub fn encode(&self, shard: ShardId, segment: SegmentId, salt: &Salt) -> Vec<u8> {
        let mut directory = DirectoryWriter::default();
        let mut entries = Vec::new();
        let mut first = 0;
        for (domain, of_domain) in &self.domains {
            let start = entries.len();
            of_domain.iter().for_each(|entry| entry.encode(&mut entries));
            let checksum = checksum::plain(&entries[start..]);
            let row = DirectoryRow { first, entries: count(of_domain.len()), checksum, domain };
            directory.add(&row);
            first += row.entries;
        }
        let mut rest = Vec::new();
        self.pins.iter().for_each(|pin| encode_pin(pin, &mut rest));
        self.voids.iter().for_each(|void| rest.extend_from_slice(&void.encode()));
        let (pages, rows) = directory.finish();
        let head = IndexHead {
            domains: count(self.domains.len()),
            pins: count(self.pins.len()),
            voids: count(self.voids.len()),
            units: self.units,
            last_stamp: self.last_stamp,
            damaged: self.damaged,
            entries: first,
            rest_octets: count(rest.len()),
            rest_checksum: checksum::plain(&rest),
            pages,
        };
        [head.encode(shard, segment, salt), rows, entries, rest].concat()
    }

    /// The index in `file`, whose padding behind the content is ignored, if it belongs to this segment.
    #[must_use]
    pub fn decode(file: &[u8], shard: ShardId, segment: SegmentId, salt: &Salt) -> Option<Self> {
        let head = IndexHead::decode(file, shard, segment, salt)?;
        let mut reader = Reader::new(file.get(head.octets()..)?);
        let mut rows = Vec::new();
        for page in &head.pages {
            rows.append(&mut page.rows(reader.take(page.octets as usize)?)?);
        }
        let mut domains = Vec::with_capacity(rows.len());
        let mut first = 0;
        for row in &rows {
            let octets = (row.entries as usize).checked_mul(ENTRY_OCTETS)?;
            let entries = decode_entries(reader.take(octets)?, row, segment)?;
            if row.first != first {
                return None;
            }
            first = first.checked_add(row.entries)?;
            domains.push((row.domain.to_owned(), entries));
        }
        let rest = reader.take(head.rest_octets as usize)?;
        let whole = (count(domains.len()), first) == (head.domains, head.entries)
            && checksum::plain(rest) == head.rest_checksum;
        let mut rest = Reader::new(rest);
        let pins = (0..head.pins).map(|_| decode_pin(&mut rest)).collect::<Option<Vec<_>>>()?;
        let voids = (0..head.voids).map(|_| Void::decode(rest.take(24)?)).collect::<Option<Vec<_>>>()?;
        let IndexHead { units, last_stamp, damaged, .. } = head;
        (whole && rest.rest().is_empty()).then_some(Self { domains, units, pins, voids, last_stamp, damaged })
    }

    /// The salt that an index file says its segment has, to read a segment whose header was lost.
    #[must_use]
    pub fn salt_of(file: &[u8]) -> Option<Salt> {
        IndexHead::salt_of(file)
    }

    /// Sorts entries by stamp and domains by name, as they must be on disk.
    pub fn sort(&mut self) {
        self.domains.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, entries) in &mut self.domains {
            entries.sort_by_key(|entry| entry.stamp);
        }
    }
}

/// The entries of one domain in `octets`, if these are what its row in the directory speaks of.
#[must_use]
pub fn decode_entries(octets: &[u8], row: &DirectoryRow<'_>, segment: SegmentId) -> Option<Vec<IndexEntry>> {
    let whole = octets.len() == (row.entries as usize).checked_mul(ENTRY_OCTETS)?
        && checksum::plain(octets) == row.checksum;
    if !whole {
        return None;
    }
    let mut reader = Reader::new(octets);
    (0..row.entries).map(|_| IndexEntry::decode(&mut reader, segment)).collect()
}

fn encode_pin(pin: &Pin, out: &mut Vec<u8>) {
    let mut writer = Writer(out);
    writer.u32(pin.unit_base).u32(pin.units).u32(count(pin.segments.len()));
    for (segment, octets) in &pin.segments {
        writer.u32(segment.0).u64(*octets);
    }
}

fn decode_pin(reader: &mut Reader<'_>) -> Option<Pin> {
    let unit_base = reader.u32()?;
    let units = reader.u32()?;
    let count = reader.u32()?;
    let mut pinned = || Some((SegmentId(reader.u32()?), reader.u64()?));
    let segments = (0..count).map(|_| pinned()).collect::<Option<Vec<_>>>()?;
    Some(Pin { unit_base, units, segments })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a segment holds fewer than 4 G of anything")
}
