//! The index of a sealed segment (`FORMAT.md`, "Index file"): one entry per (record, recipient domain), sorted
//! by (domain, stamp), with a directory of domains in front, so that one domain's entries are one contiguous
//! read. It is derived data: a missing, torn or foreign one is rebuilt from the segment, and nothing of it is
//! believed without its checksum and the segment's salt.

use super::journal_entry::Void;
use super::{Reader, Writer, checksum};
use crate::position::{Offset, Salt, SegmentId, ShardId, Stamp};
use core::mem::size_of;

/// A message's units in one domain: what replay keeps in memory for each queued message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexEntry {
    /// Order.
    pub stamp: Stamp,
    /// Octets of the frame, header included.
    pub frame_octets: u32,
    /// Its segment.
    pub segment: SegmentId,
    /// The frame's offset in units of [`super::frame::FRAME_ALIGNMENT`].
    offset_in_eights: u32,
    /// When it was received, seconds since 1970.
    pub received_s: u32,
    /// Number of the message's first unit among the units of its segment.
    pub unit_base: u32,
    /// First ordinal of this domain.
    pub first: u16,
    /// Units of this domain.
    pub count: u16,
}

const _: () = assert!(size_of::<IndexEntry>() == 32);

impl IndexEntry {
    /// An entry for the frame at `offset`.
    ///
    /// # Panics
    /// If `offset` is not aligned or beyond 32 GiB: no segment is that large.
    #[must_use]
    pub fn new(stamp: Stamp, segment: SegmentId, offset: Offset, frame_octets: u32) -> Self {
        assert!(offset.0.is_multiple_of(8));
        let offset_in_eights = u32::try_from(offset.0 / 8).expect("segments are below 32 GiB");
        Self {
            stamp,
            frame_octets,
            segment,
            offset_in_eights,
            received_s: 0,
            unit_base: 0,
            first: 0,
            count: 0,
        }
    }

    /// The numbers of its units among those of its segment.
    #[must_use]
    pub fn units(&self) -> core::ops::Range<u32> {
        let first = self.unit_base + u32::from(self.first);
        first..first + u32::from(self.count)
    }

    /// Where the frame is.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        Offset(self.offset_in_eights as u64 * 8)
    }
}

/// A message that keeps chunk segments on disk until its units are settled (H3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// Number of its first unit in the closing segment.
    pub unit_base: u32,
    /// Its units.
    pub units: u32,
    /// The segments of its chunks, without its own.
    pub segments: Vec<SegmentId>,
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

const MAGIC: &[u8; 8] = b"SMXINDEX";
const VERSION: u16 = 1;

impl SegmentIndex {
    /// The file's content for `segment` of `shard`, whose header has `salt`.
    #[must_use]
    pub fn encode(&self, shard: ShardId, segment: SegmentId, salt: &Salt) -> Vec<u8> {
        let count = |n: usize| u32::try_from(n).expect("a segment holds fewer than 4 G of anything");
        let mut out = Vec::new();
        let mut writer = Writer(&mut out);
        writer.octets(MAGIC).u16(VERSION).u16(shard.0).u32(segment.0).octets(&salt.0);
        writer.u32(count(self.domains.len())).u32(count(self.pins.len())).u32(count(self.voids.len()));
        writer.u32(self.units).u64(self.last_stamp.0).u32(self.damaged).u32(0);
        let mut first = 0;
        for (domain, entries) in &self.domains {
            let octets = u16::try_from(domain.len()).expect("a domain is at most 255 octets");
            Writer(&mut out).u32(first).u32(count(entries.len())).u16(octets).octets(domain.as_bytes());
            first += count(entries.len());
        }
        for entry in self.domains.iter().flat_map(|(_, entries)| entries) {
            let mut writer = Writer(&mut out);
            writer.u64(entry.stamp.0).u32(entry.offset_in_eights).u32(entry.frame_octets);
            writer.u32(entry.received_s).u32(entry.unit_base).u16(entry.first).u16(entry.count).u32(0);
        }
        for pin in &self.pins {
            Writer(&mut out).u32(pin.unit_base).u32(pin.units).u32(count(pin.segments.len()));
            for pinned in &pin.segments {
                Writer(&mut out).u32(pinned.0);
            }
        }
        for void in &self.voids {
            out.extend_from_slice(&void.encode());
        }
        let checksum = checksum::plain(&out);
        let octets = out.len() as u64;
        Writer(&mut out).u64(octets).u32(checksum);
        out
    }

    /// The index in `file`, whose padding behind the content is ignored, if it belongs to this segment.
    #[must_use]
    pub fn decode(file: &[u8], shard: ShardId, segment: SegmentId, salt: &Salt) -> Option<Self> {
        let mut reader = Reader::new(file);
        let ours = reader.take(MAGIC.len())? == MAGIC
            && reader.u16()? == VERSION
            && reader.u16()? == shard.0
            && reader.u32()? == segment.0
            && reader.take(16)? == salt.0;
        if !ours {
            return None;
        }
        let (domains, pins, voids) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let units = reader.u32()?;
        let last_stamp = Stamp(reader.u64()?);
        let damaged = reader.u32()?;
        reader.u32()?;
        let domains = decode_domains(&mut reader, domains, segment)?;
        let pins = (0..pins).map(|_| decode_pin(&mut reader)).collect::<Option<Vec<_>>>()?;
        let voids = (0..voids).map(|_| Void::decode(reader.take(24)?)).collect::<Option<Vec<_>>>()?;
        let octets = file.len() - reader.rest().len();
        let whole = reader.u64()? == octets as u64 && reader.u32()? == checksum::plain(&file[..octets]);
        whole.then_some(Self { domains, units, pins, voids, last_stamp, damaged })
    }

    /// The salt that an index file says its segment has, to read a segment whose header was lost.
    #[must_use]
    pub fn salt_of(file: &[u8]) -> Option<Salt> {
        Some(Salt(file.get(16..32)?.try_into().ok()?))
    }

    /// Sorts entries by stamp and domains by name, as they must be on disk.
    pub fn sort(&mut self) {
        self.domains.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, entries) in &mut self.domains {
            entries.sort_by_key(|entry| entry.stamp);
        }
    }
}

fn decode_domains(
    reader: &mut Reader<'_>,
    count: u32,
    segment: SegmentId,
) -> Option<Vec<(String, Vec<IndexEntry>)>> {
    let mut directory = Vec::new();
    for _ in 0..count {
        let _first = reader.u32()?;
        let entries = reader.u32()?;
        let octets = reader.u16()?;
        directory.push((core::str::from_utf8(reader.take(octets.into())?).ok()?.to_owned(), entries));
    }
    let mut domains = Vec::with_capacity(directory.len());
    for (domain, count) in directory {
        let mut entries = Vec::with_capacity((count as usize).min(reader.rest().len() / 32));
        for _ in 0..count {
            entries.push(decode_entry(reader, segment)?);
        }
        domains.push((domain, entries));
    }
    Some(domains)
}

fn decode_entry(reader: &mut Reader<'_>, segment: SegmentId) -> Option<IndexEntry> {
    let entry = IndexEntry {
        stamp: Stamp(reader.u64()?),
        segment,
        offset_in_eights: reader.u32()?,
        frame_octets: reader.u32()?,
        received_s: reader.u32()?,
        unit_base: reader.u32()?,
        first: reader.u16()?,
        count: reader.u16()?,
    };
    reader.u32()?;
    Some(entry)
}

fn decode_pin(reader: &mut Reader<'_>) -> Option<Pin> {
    let unit_base = reader.u32()?;
    let units = reader.u32()?;
    let count = reader.u32()?;
    let segments = (0..count).map(|_| reader.u32().map(SegmentId)).collect::<Option<Vec<_>>>()?;
    Some(Pin { unit_base, units, segments })
}
