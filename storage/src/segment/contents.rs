//! What a segment holds, gathered while it is written or scanned; becomes its index.

use crate::format::frame::{FrameHeader, FrameKind, frame_octets};
use crate::format::index_entry::chunk_octets;
use crate::format::index_file::{IndexEntry, Pin, SegmentIndex};
use crate::format::journal_entry::Void;
use crate::format::message::{ChunkReference, MessageView, domain_groups};
use crate::position::{Offset, SegmentId, UnixMillis};
use std::collections::HashMap;

/// See the module.
#[derive(Debug, Default)]
pub struct Contents {
    index: SegmentIndex,
    ordinals: HashMap<String, usize>,
}

impl Contents {
    /// Adds a message whose closing record is the frame at `offset` of `segment`. Returns one entry a domain.
    pub fn add_message<'a>(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        header: &FrameHeader,
        recipients: &[&'a str],
        chunks: &[ChunkReference],
    ) -> Vec<(&'a str, IndexEntry)> {
        let octets = u32::try_from(frame_octets(header.payload_length as usize)).expect("frames fit a batch");
        // Not counted here: behind a record that a scan lost, the others keep their numbers.
        let unit_base = header.unit_base;
        let chunked = chunks.iter().map(|chunk| chunk_octets(chunk.octets)).sum();
        let mut added = Vec::with_capacity(1);
        for (domain, first, count) in domain_groups(recipients) {
            let mut entry = IndexEntry::new(header.stamp, segment, offset, octets).with_chunks(chunked);
            entry.received_s = seconds(header.received);
            entry.unit_base = unit_base;
            entry.first = first;
            entry.count = count;
            self.entries_of(domain).push(entry);
            added.push((domain, entry));
        }
        let units = u32::try_from(recipients.len()).expect("recipients are bounded below 65,536");
        self.index.units = self.index.units.max(unit_base + units);
        self.index.last_stamp = self.index.last_stamp.max(header.stamp);
        let segments = pinned_by(chunks, segment);
        if !segments.is_empty() {
            self.index.pins.push(Pin { unit_base, units, segments });
        }
        added
    }

    /// Adds a scanned frame. Returns `false` if its payload makes no sense in spite of its checksum.
    pub fn add_frame(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        header: &FrameHeader,
        payload: &[u8],
    ) -> bool {
        match header.kind {
            FrameKind::Message => {
                let Some(message) = MessageView::decode(payload) else { return false };
                self.add_message(segment, offset, header, &message.recipients, &message.chunks);
            }
            FrameKind::Void => match Void::decode(payload) {
                Some(void) => self.add_void(void),
                None => return false,
            },
            FrameKind::Chunk
            | FrameKind::Settlement
            | FrameKind::Tally
            | FrameKind::Outcomes
            | FrameKind::Ledger
            | FrameKind::Held
            | FrameKind::Checkpoint => {}
        }
        true
    }

    /// Adds entries of one message as another index has them.
    pub fn add_entries(&mut self, entries: &[(String, IndexEntry)]) {
        for (domain, entry) in entries {
            self.entries_of(domain).push(*entry);
            self.index.units = self.index.units.max(entry.units().end);
            self.index.last_stamp = self.index.last_stamp.max(entry.stamp);
        }
    }

    /// The entries of a domain, in the order of their stamps.
    #[must_use]
    pub fn of_domain(&self, domain: &str) -> Vec<IndexEntry> {
        self.ordinals.get(domain).map_or_else(Vec::new, |place| self.index.domains[*place].1.clone())
    }

    /// Notes a void record.
    pub fn add_void(&mut self, void: Void) {
        self.index.voids.push(void);
    }

    /// Counts a record that is lost.
    pub fn add_damaged(&mut self) {
        self.index.damaged += 1;
    }

    /// Units of all messages so far.
    #[must_use]
    pub const fn units(&self) -> u32 {
        self.index.units
    }

    /// Takes out messages whose record starts at or behind `from`: they were never acknowledged. Their units
    /// keep their numbers, which nobody uses.
    pub fn void_from(&mut self, from: Offset) {
        for (_, entries) in &mut self.index.domains {
            entries.retain(|entry| entry.offset() < from);
        }
    }

    /// The index, sorted as on disk.
    #[must_use]
    pub fn into_index(mut self) -> SegmentIndex {
        self.index.domains.retain(|(_, entries)| !entries.is_empty());
        let live: Vec<u32> = self.index.domains.iter().flat_map(|(_, e)| e).map(|e| e.unit_base).collect();
        self.index.pins.retain(|pin| live.contains(&pin.unit_base));
        self.index.sort();
        self.index
    }

    fn entries_of(&mut self, domain: &str) -> &mut Vec<IndexEntry> {
        let ordinal = match self.ordinals.get(domain) {
            Some(ordinal) => *ordinal,
            None => {
                let ordinal = self.index.domains.len();
                self.index.domains.push((domain.to_owned(), Vec::new()));
                self.ordinals.insert(domain.to_owned(), ordinal);
                ordinal
            }
        };
        &mut self.index.domains[ordinal].1
    }
}

/// The segments besides `own` that hold `chunks`, and the octets that these take in each.
fn pinned_by(chunks: &[ChunkReference], own: SegmentId) -> Vec<(SegmentId, u64)> {
    let mut segments: Vec<(SegmentId, u64)> = Vec::new();
    for chunk in chunks.iter().filter(|chunk| chunk.segment != own) {
        let octets = chunk_octets(chunk.octets);
        match segments.iter_mut().find(|(segment, _)| *segment == chunk.segment) {
            Some((_, sum)) => *sum += octets,
            None => segments.push((chunk.segment, octets)),
        }
    }
    segments
}

/// Takes out of an index what `void`, found in another segment, covers (H8).
pub fn leave_out(index: &mut SegmentIndex, void: &Void) {
    let mut voided = Vec::new();
    for (_, entries) in &mut index.domains {
        entries.retain(|entry| {
            let gone = void.covers(entry.segment, entry.offset().0);
            if gone {
                voided.push(entry.unit_base);
            }
            !gone
        });
    }
    index.domains.retain(|(_, entries)| !entries.is_empty());
    index.pins.retain(|pin| !voided.contains(&pin.unit_base));
}

fn seconds(wall: UnixMillis) -> u32 {
    u32::try_from(wall.0 / 1000).unwrap_or(u32::MAX)
}
