//! The frames of one file: what each tells is taken in, what is none is noted with its place.

use super::{Directory, Group, Known, LogFile, Lost, LostMessage, Walked};
use crate::crypt::TAG_OCTETS_U32;
use crate::disk::{Disk, File};
use crate::error::DiskError;
use crate::format::checkpoint::{HeldUnit, Outcomes};
use crate::format::frame::{FRAME_ALIGNMENT, FRAME_HEADER_OCTETS, FrameHeader, FrameKind, frame_octets};
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::journal_entry::{Fact, Void};
use crate::format::message::{ChunkReference, MessageView, domain_groups};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::tally::{Ledger, Tally};
use crate::position::{Offset, Stamp};
use crate::segment::contents::Contents;
use crate::segment::scan::{Found, walk};
use std::sync::Arc;

impl<D: Disk> Directory<D> {
    pub(super) async fn read_frames<F: File>(
        &mut self,
        walked: &mut Walked,
        file: &F,
        header: &SegmentHeader,
        index: Option<&SegmentIndex>,
        contents: &mut Contents,
    ) -> Result<(), DiskError> {
        let mut lost = Vec::new();
        let mut starts = Vec::new();
        let keys = Arc::clone(&self.keys);
        let result = walk(file, header, &keys, |found| match found {
            Found::Locked { offset, header } => {
                walked.shown.frames += 1;
                walked.locked += 1;
                starts.push(offset.0);
                self.note_locked(walked, contents, index, (offset, &header));
            }
            Found::Frame { offset, header, payload } => {
                if self.note_frame(walked, contents, (offset, &header, payload)) {
                    starts.push(offset.0);
                } else {
                    let what = format!("{} makes no sense", name_of(&header));
                    lost.push((offset.0, what, self.lost_message(&header, payload)));
                }
            }
            Found::DamagedPayload { offset, header, payload } => {
                let what = format!("damaged payload of {}", name_of(&header));
                lost.push((offset.0, what, self.lost_message(&header, payload)));
            }
        })
        .await?;
        for gap in &result.gaps {
            let octets = gap.range.end - gap.range.start;
            let start = gap.range.start - gap.range.start % FRAME_ALIGNMENT as u64;
            lost.push((start, format!("{octets} octets that are no valid frame"), None));
        }
        lost.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let durable = result.durable_before;
        walked.durable_before = durable;
        let place = |(offset, what, message): (u64, String, Option<LostMessage>)| {
            let next = starts.get(starts.partition_point(|start| *start <= offset));
            let to = next.copied().unwrap_or(header.size);
            Lost { offset, to, what, was_durable: offset < durable, message }
        };
        walked.lost = lost.into_iter().map(place).collect();
        Ok(())
    }

    /// Takes in one valid frame; `false` if its payload cannot be.
    fn note_frame(
        &mut self,
        walked: &mut Walked,
        contents: &mut Contents,
        (offset, header, payload): (Offset, &FrameHeader, &[u8]),
    ) -> bool {
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        walked.shown.frames += 1;
        match header.kind {
            FrameKind::Message => return self.note_message(walked, contents, (offset, header, payload)),
            FrameKind::Chunk => {
                let octets = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                self.chunks.insert((walked.shard, walked.segment, offset.0), octets);
            }
            FrameKind::Void => {
                let Some(void) = Void::decode(payload) else { return false };
                if walked.purpose == Purpose::Mail {
                    self.voids.push((walked.shard, void));
                }
                contents.add_void(void);
            }
            FrameKind::Settlement => {
                let Some(facts) = Fact::decode_all(payload) else { return false };
                note_stamp(&mut walked.shown, header.stamp);
                walked.shown.units += facts.len() as u64;
                self.told.extend(facts.into_iter().map(|fact| (number, offset.0, fact)));
                return self.facts.take(header, payload);
            }
            FrameKind::Tally
            | FrameKind::Outcomes
            | FrameKind::Ledger
            | FrameKind::Held
            | FrameKind::Checkpoint => {
                self.note_unbalanced(offset, header.kind, payload);
                note_stamp(&mut walked.shown, header.stamp);
                walked.shown.units += facts_in(header.kind, payload);
                return self.facts.take(header, payload);
            }
        }
        true
    }

    /// Where to look for a row of the ledger that does not balance.
    fn note_unbalanced(&mut self, offset: Offset, kind: FrameKind, payload: &[u8]) {
        let part = match kind {
            FrameKind::Tally => Tally::decode(payload).map(|part| (part.content.shard, part.content.rows)),
            FrameKind::Ledger => Ledger::decode(payload).map(|(shard, part)| (shard, part.content.rows)),
            _ => None,
        };
        let Some((shard, rows)) = part else { return };
        let file = self.files.len();
        for row in rows.into_iter().filter(|row| row.accepted != row.total()) {
            self.unbalanced.push((file, offset.0, shard, row.domain));
        }
    }

    fn note_message(
        &mut self,
        walked: &mut Walked,
        contents: &mut Contents,
        (offset, header, payload): (Offset, &FrameHeader, &[u8]),
    ) -> bool {
        let Some(view) = MessageView::decode(payload) else { return false };
        if view.recipients.len() > usize::from(u16::MAX) {
            return false;
        }
        let groups = self.groups_of(&view.recipients);
        walked.shown.units += view.recipients.len() as u64;
        note_known(walked, offset, header, &groups, &view.chunks);
        contents.add_message(walked.segment, offset, header, &view.recipients, &view.chunks);
        true
    }

    fn groups_of(&mut self, recipients: &[&str]) -> Vec<Group> {
        let groups = domain_groups(recipients);
        groups
            .into_iter()
            .map(|(domain, _, units)| Group { domain: self.names.number_of(domain), units })
            .collect()
    }

    /// Takes in a frame whose payload cannot be opened: of a message the index tells domains and units, if it is there.
    fn note_locked(
        &mut self,
        walked: &mut Walked,
        contents: &mut Contents,
        index: Option<&SegmentIndex>,
        (offset, header): (Offset, &FrameHeader),
    ) {
        if header.kind == FrameKind::Chunk {
            // Encryption adds its tag.
            let octets = header.payload_length.saturating_sub(TAG_OCTETS_U32);
            self.chunks.insert((walked.shard, walked.segment, offset.0), octets);
        }
        if header.kind != FrameKind::Message {
            return;
        }
        let all = index.map_or(&[][..], |index| &index.domains);
        let mut entries = Vec::new();
        for (domain, of_domain) in all {
            // Sorted by stamp.
            let from = of_domain.partition_point(|entry| entry.stamp < header.stamp);
            let same = of_domain[from..].iter().take_while(|entry| entry.stamp == header.stamp);
            entries.extend(same.filter(|entry| entry.offset() == offset).map(|e| (domain.clone(), *e)));
        }
        if entries.is_empty() {
            walked.opaque += 1;
        }
        entries.sort_by_key(|(_, entry)| entry.first);
        contents.add_entries(&entries);
        let group = |(domain, entry): &(String, _)| {
            let entry: &IndexEntry = entry;
            Group { domain: self.names.number_of(domain), units: entry.count }
        };
        let groups: Vec<Group> = entries.iter().map(group).collect();
        walked.shown.units += groups.iter().map(|group| u64::from(group.units)).sum::<u64>();
        note_known(walked, offset, header, &groups, &[]);
    }

    /// What a damaged message still tells of itself.
    fn lost_message(&mut self, header: &FrameHeader, payload: &[u8]) -> Option<LostMessage> {
        if header.kind != FrameKind::Message {
            return None;
        }
        let view = MessageView::decode(payload).filter(|view| view.recipients.len() <= usize::from(u16::MAX));
        let envelope = view.as_ref().map_or_else(String::new, |view| {
            format!("from <{}> to <{}>", view.reverse_path, view.recipients.join(">, <"))
        });
        Some(LostMessage {
            stamp: header.stamp,
            queue_id: header.queue_id,
            unit_base: header.unit_base,
            groups: view.map_or_else(Vec::new, |view| self.groups_of(&view.recipients)),
            envelope,
        })
    }
}

fn note_known(
    walked: &mut Walked,
    offset: Offset,
    header: &FrameHeader,
    groups: &[Group],
    chunks: &[ChunkReference],
) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    walked.messages.push(Known {
        stamp: header.stamp,
        queue_id: header.queue_id,
        offset: offset.0,
        unit_base: header.unit_base,
        octets: count(frame_octets(header.payload_length as usize)),
        received_s: u32::try_from(header.received.0 / 1000).unwrap_or(u32::MAX),
        first_group: count(walked.groups.len()),
        first_chunk: count(walked.chunk_table.len()),
        chunks: count(chunks.len()),
        groups: u16::try_from(groups.len()).unwrap_or(u16::MAX),
    });
    walked.groups.extend_from_slice(groups);
    walked.chunk_table.extend_from_slice(chunks);
    walked.shown.messages += 1;
    note_stamp(&mut walked.shown, header.stamp);
}

/// Facts about units that a frame of a checkpoint restates.
fn facts_in(kind: FrameKind, payload: &[u8]) -> u64 {
    match kind {
        FrameKind::Outcomes => Outcomes::decode(payload).map_or(0, |part| part.units().count() as u64),
        FrameKind::Held => HeldUnit::decode_all(payload).map_or(0, |units| units.len() as u64),
        _ => 0,
    }
}

fn note_stamp(shown: &mut LogFile, stamp: Stamp) {
    shown.first_stamp = if shown.first_stamp == 0 { stamp.0 } else { shown.first_stamp.min(stamp.0) };
    shown.last_stamp = shown.last_stamp.max(stamp.0);
}

/// The word for a kind of frame.
pub(super) const fn kind_word(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Message => "message",
        FrameKind::Chunk => "chunk",
        FrameKind::Void => "void",
        FrameKind::Settlement => "settlement",
        FrameKind::Tally => "tally",
        FrameKind::Outcomes => "outcomes",
        FrameKind::Ledger => "ledger",
        FrameKind::Held => "held",
        FrameKind::Checkpoint => "checkpoint",
    }
}

/// A record as people read of it in problems.
fn name_of(header: &FrameHeader) -> String {
    let octets = FRAME_HEADER_OCTETS as u64 + u64::from(header.payload_length);
    match header.kind {
        FrameKind::Message | FrameKind::Chunk => {
            format!("{} {} ({octets} octets)", kind_word(header.kind), header.queue_id)
        }
        FrameKind::Settlement
        | FrameKind::Tally
        | FrameKind::Void
        | FrameKind::Outcomes
        | FrameKind::Ledger
        | FrameKind::Held
        | FrameKind::Checkpoint => {
            format!("{} ({octets} octets)", kind_word(header.kind))
        }
    }
}
