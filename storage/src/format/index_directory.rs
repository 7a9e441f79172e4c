//! The directory of an index (`FORMAT.md`, "Index file"): rows of domains in pages, each page under its own checksum, and in
//! front a head that names the first domain of each. So one domain is found by reading the head and one page, also
//! where a segment holds mail of as many domains as it has messages; and what is read is checked without the rest.

use super::{Reader, Writer, checksum};
use crate::position::{Salt, SegmentId, ShardId, Stamp};
use core::ops::Range;

/// Octets of rows in a page at most.
pub const PAGE_OCTETS: usize = 8 * 1024;

const MAGIC: &[u8; 8] = b"SMXINDEX";
const VERSION: u16 = 2;
/// Octets of the head in front of its own checksum, and where the page table starts.
const CHECKED_OCTETS: usize = 80;
const FIXED_OCTETS: usize = CHECKED_OCTETS + size_of::<u32>();
/// Octets of a row of the page table, without the name.
const PAGE_ROW_OCTETS: usize = 10;
/// Where the head says its own length.
const LENGTH_AT: usize = 60;

/// The head of an index: what it counts, and where its parts are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexHead {
    /// Domains.
    pub domains: u32,
    /// Messages with chunks elsewhere.
    pub pins: u32,
    /// Void records.
    pub voids: u32,
    /// Units of all messages in the segment.
    pub units: u32,
    /// Highest stamp.
    pub last_stamp: Stamp,
    /// Records that were found damaged.
    pub damaged: u32,
    /// Entries of all domains.
    pub entries: u32,
    /// Octets of pins and voids.
    pub rest_octets: u32,
    /// The plain checksum of these.
    pub rest_checksum: u32,
    /// Pages of the directory, in order.
    pub pages: Vec<Page>,
}

/// A page of the directory, as the head tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Its octets.
    pub octets: u32,
    /// Their plain checksum.
    pub checksum: u32,
    /// The name in its first row.
    pub first_domain: String,
}

/// A domain in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryRow<'a> {
    /// Its first entry, counted over the whole index.
    pub first: u32,
    /// Its entries.
    pub entries: u32,
    /// The plain checksum of these.
    pub checksum: u32,
    /// Its name.
    pub domain: &'a str,
}

impl IndexHead {
    /// Octets of the whole head, from its first [`super::BLOCK_OCTETS`] or more; `None` if they are none.
    #[must_use]
    pub fn octets_of(start: &[u8]) -> Option<usize> {
        let length = start.get(LENGTH_AT..LENGTH_AT + size_of::<u32>())?;
        let octets = u32::from_le_bytes(length.try_into().ok()?) as usize;
        (start.starts_with(MAGIC) && octets >= FIXED_OCTETS).then_some(octets)
    }

    /// The salt that an index file says its segment has.
    #[must_use]
    pub fn salt_of(start: &[u8]) -> Option<Salt> {
        Some(Salt(start.get(16..32)?.try_into().ok()?))
    }

    /// The head at the start of `octets`, if it is whole and belongs to this segment.
    #[must_use]
    pub fn decode(octets: &[u8], shard: ShardId, segment: SegmentId, salt: &Salt) -> Option<Self> {
        let octets = octets.get(..Self::octets_of(octets)?)?;
        let (fixed, table) = octets.split_at_checked(FIXED_OCTETS)?;
        let (checked, own) = fixed.split_at_checked(CHECKED_OCTETS)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(checked);
        hasher.update(table);
        let mut reader = Reader::new(checked);
        let ours = hasher.finalize().to_le_bytes() == own
            && reader.take(MAGIC.len())? == MAGIC
            && reader.u16()? == VERSION
            && reader.u16()? == shard.0
            && reader.u32()? == segment.0
            && reader.take(16)? == salt.0;
        if !ours {
            return None;
        }
        let (domains, pins, voids, units) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let (last_stamp, damaged) = (Stamp(reader.u64()?), reader.u32()?);
        let (_octets, entries, pages) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (rest_octets, rest_checksum) = (reader.u32()?, reader.u32()?);
        let mut table = Reader::new(table);
        let pages = (0..pages).map(|_| Page::decode(&mut table)).collect::<Option<Vec<_>>>()?;
        Some(Self {
            domains,
            pins,
            voids,
            units,
            last_stamp,
            damaged,
            entries,
            rest_octets,
            rest_checksum,
            pages,
        })
        .filter(|_| table.rest().is_empty())
    }

    /// The head of the index of `segment`.
    pub(super) fn encode(&self, shard: ShardId, segment: SegmentId, salt: &Salt) -> Vec<u8> {
        let mut table = Vec::new();
        for page in &self.pages {
            let name = page.first_domain.as_bytes();
            let length = u16::try_from(name.len()).expect("a domain is at most 255 octets");
            Writer(&mut table).u32(page.octets).u32(page.checksum).u16(length).octets(name);
        }
        let count = |n: usize| u32::try_from(n).expect("an index is far below 4 GiB");
        assert_eq!(self.octets(), FIXED_OCTETS + table.len());
        let mut out = Vec::new();
        let mut writer = Writer(&mut out);
        writer.octets(MAGIC).u16(VERSION).u16(shard.0).u32(segment.0).octets(&salt.0);
        writer.u32(self.domains).u32(self.pins).u32(self.voids).u32(self.units);
        writer.u64(self.last_stamp.0).u32(self.damaged).u32(count(self.octets()));
        writer.u32(self.entries).u32(count(self.pages.len())).u32(self.rest_octets).u32(self.rest_checksum);
        assert_eq!(out.len(), CHECKED_OCTETS);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&out);
        hasher.update(&table);
        Writer(&mut out).u32(hasher.finalize()).octets(&table);
        out
    }

    /// Octets of the head; the pages follow.
    #[must_use]
    pub fn octets(&self) -> usize {
        let rows = self.pages.iter().map(|page| PAGE_ROW_OCTETS + page.first_domain.len());
        FIXED_OCTETS + rows.sum::<usize>()
    }

    /// Octets in front of the first entry.
    #[must_use]
    pub fn entries_at(&self) -> u64 {
        self.octets() as u64 + self.pages.iter().map(|page| u64::from(page.octets)).sum::<u64>()
    }

    /// The page that has `domain` if any has, and its octets in the file.
    #[must_use]
    pub fn page_of(&self, domain: &str) -> Option<(&Page, Range<u64>)> {
        let place = self.pages.partition_point(|page| page.first_domain.as_str() <= domain).checked_sub(1)?;
        let before: u64 = self.pages[..place].iter().map(|page| u64::from(page.octets)).sum();
        let start = self.octets() as u64 + before;
        let page = &self.pages[place];
        Some((page, start..start + u64::from(page.octets)))
    }
}

impl Page {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (octets, checksum, length) = (reader.u32()?, reader.u32()?, reader.u16()?);
        let name = core::str::from_utf8(reader.take(length.into())?).ok()?;
        Some(Self { octets, checksum, first_domain: name.to_owned() })
    }

    /// The rows in `octets`, if these are the page.
    #[must_use]
    pub fn rows<'a>(&self, octets: &'a [u8]) -> Option<Vec<DirectoryRow<'a>>> {
        if checksum::plain(octets) != self.checksum {
            return None;
        }
        let mut rows = Vec::new();
        let mut reader = Reader::new(octets);
        while !reader.rest().is_empty() {
            let (first, entries, checksum, length) =
                (reader.u32()?, reader.u32()?, reader.u32()?, reader.u16()?);
            let domain = core::str::from_utf8(reader.take(length.into())?).ok()?;
            rows.push(DirectoryRow { first, entries, checksum, domain });
        }
        Some(rows)
    }
}

/// Gathers rows into pages.
#[derive(Debug, Default)]
pub(super) struct DirectoryWriter {
    pages: Vec<Page>,
    octets: Vec<u8>,
    page_start: usize,
}

impl DirectoryWriter {
    /// The next domain in order.
    pub(super) fn add(&mut self, row: &DirectoryRow<'_>) {
        let name = row.domain.as_bytes();
        let length = u16::try_from(name.len()).expect("a domain is at most 255 octets");
        let mut encoded = Vec::with_capacity(14 + name.len());
        Writer(&mut encoded).u32(row.first).u32(row.entries).u32(row.checksum).u16(length).octets(name);
        if self.pages.is_empty() || self.octets.len() - self.page_start + encoded.len() > PAGE_OCTETS {
            self.close_page();
            self.pages.push(Page { octets: 0, checksum: 0, first_domain: row.domain.to_owned() });
        }
        self.octets.extend_from_slice(&encoded);
    }

    fn close_page(&mut self) {
        let rows = &self.octets[self.page_start..];
        if let Some(page) = self.pages.last_mut() {
            page.octets = u32::try_from(rows.len()).expect("a page is small");
            page.checksum = checksum::plain(rows);
        }
        self.page_start = self.octets.len();
    }

    /// The pages, and their rows one behind the other.
    pub(super) fn finish(mut self) -> (Vec<Page>, Vec<u8>) {
        self.close_page();
        (self.pages, self.octets)
    }
}
