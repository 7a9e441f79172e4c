//! The walk itself: reads every file once and keeps what listing and verification need.

use super::{Directory, Known, LogFile, Problem, Walked};
use crate::crypt::{Keys, TAG_OCTETS_U32};
use crate::disk::{Disk, File, read_whole};
use crate::error::DiskError;
use crate::facts::Facts;
use crate::format::checkpoint::{HeldUnit, Outcomes};
use crate::format::frame::{FRAME_ALIGNMENT, FRAME_HEADER_OCTETS, FrameHeader, FrameKind};
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{Fact, Void};
use crate::format::message::{MessageView, domain_groups};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::position::{Offset, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use crate::segment::contents::Contents;
use crate::segment::recover::{HeaderState, first_block};
use crate::segment::scan::{Found, walk};
use crate::segment::{index_name, parse_name, path};
use crate::store::shard_of;
use std::collections::HashMap;
use std::sync::Arc;

/// Beyond this an offset has no place in an index: no segment of ours is that large.
const FILE_OCTETS_MAX: u64 = u32::MAX as u64 * FRAME_ALIGNMENT as u64;
/// No frame of ours is that large.
const PAYLOAD_OCTETS_MAX: u32 = 1 << 30;

/// Walks over all of it.
pub(super) async fn gather<D: Disk>(disk: D, keys: Arc<Keys>) -> Result<Directory<D>, DiskError> {
    let mut shards: Vec<ShardId> = disk.list("").await?.iter().filter_map(|name| shard_of(name)).collect();
    shards.sort_unstable();
    let mut directory = Directory {
        store: None,
        shards,
        files: Vec::new(),
        facts: Facts::default(),
        told: Vec::new(),
        chunks: HashMap::new(),
        voids: Vec::new(),
        orphans: Vec::new(),
        problems: Vec::new(),
        disk,
        keys,
    };
    directory.read_store().await;
    for shard in directory.shards.clone() {
        let names = match directory.disk.list(&shard.to_string()).await {
            Ok(names) => names,
            Err(error) => {
                directory.problems.push(Problem::new(shard.to_string(), None, error.to_string()));
                continue;
            }
        };
        let mut files: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        files.sort_unstable();
        let indexed =
            names.iter().filter_map(|name| parse_name(&format!("{}.log", name.strip_suffix(".index")?)));
        let orphans = indexed.filter(|file| file.0 == Purpose::Mail && !files.contains(file));
        directory.orphans.extend(orphans.map(|(_, segment)| (shard, segment)));
        for (purpose, segment) in files {
            let walked = directory.read_file(shard, purpose, segment).await;
            directory.files.push(walked);
        }
    }
    directory.facts.finish();
    directory.count_settled();
    Ok(directory)
}

impl<D: Disk> Directory<D> {
    async fn read_store(&mut self) {
        let what = match read_whole(&self.disk, "store").await {
            Ok(content) => {
                self.store = StoreFile::decode(&content);
                match (StoreFile::newer(&content), &self.store) {
                    (Some(version), _) => format!("written by a newer version ({version})"),
                    (None, Some(_)) => return,
                    // What a crash leaves of the very first start.
                    (None, None) if self.shards.is_empty() && content.iter().all(|o| *o == 0) => return,
                    (None, None) => "damaged in both slots".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        self.problems.push(Problem::new("store".to_owned(), None, what));
    }

    async fn read_file(&mut self, shard: ShardId, purpose: Purpose, segment: SegmentId) -> Walked {
        let shown = LogFile {
            path: path(shard, purpose, segment),
            shard: shard.0,
            purpose: if purpose == Purpose::Mail { "mail" } else { "journal" },
            segment: segment.0,
            octets: 0,
            header: "unreadable",
            index: "-",
            frames: 0,
            messages: 0,
            units: 0,
            settled: 0,
            first_stamp: 0,
            last_stamp: 0,
        };
        let mut walked = Walked {
            shown,
            shard,
            segment,
            purpose,
            header: None,
            stored_index: None,
            found_index: SegmentIndex::default(),
            messages: Vec::new(),
            locked: 0,
            lost: Vec::new(),
        };
        if let Err(error) = self.read_into(&mut walked).await {
            self.problems.push(Problem::new(walked.shown.path.clone(), None, error.to_string()));
        }
        walked
    }

    async fn read_into(&mut self, walked: &mut Walked) -> Result<(), DiskError> {
        let store = self.store.map_or(StoreId([0; 16]), |store| store.store);
        let mut first = first_block(&self.disk, &walked.shown.path, store).await?;
        if first.state == HeaderState::Foreign && self.store.is_none() {
            // Without an identity every header is taken for ours: better than nothing.
            first.state = HeaderState::Ours;
        }
        walked.header = SegmentHeader::decode(&first.block).ok();
        walked.shown.octets = first.file.length().await?;
        walked.shown.header = match first.state {
            HeaderState::Blank => "blank",
            HeaderState::Damaged => "damaged",
            HeaderState::Foreign => "foreign",
            HeaderState::Newer => "newer",
            HeaderState::Ours => "ours",
        };
        if walked.purpose == Purpose::Mail {
            self.read_index(walked).await;
        }
        if let Some(header) = &mut walked.header {
            header.size = header.size.min(FILE_OCTETS_MAX);
            let header = header.clone();
            self.read_frames(walked, &first.file, &header).await?;
        }
        Ok(())
    }

    /// Reads the index; a valid one makes up for a lost header.
    async fn read_index(&mut self, walked: &mut Walked) {
        let path = format!("{}/{}", walked.shard, index_name(walked.segment));
        let content = match read_whole(&self.disk, &path).await {
            Ok(content) => content,
            Err(DiskError::NotFound) => {
                walked.shown.index = "missing";
                return;
            }
            Err(error) => {
                walked.shown.index = "unusable";
                self.problems.push(Problem::new(path, None, error.to_string()));
                return;
            }
        };
        let salt =
            walked.header.as_ref().map(|header| header.salt).or_else(|| SegmentIndex::salt_of(&content));
        walked.stored_index =
            salt.and_then(|salt| SegmentIndex::decode(&content, walked.shard, walked.segment, &salt));
        let Some(salt) = salt.filter(|_| walked.stored_index.is_some()) else {
            walked.shown.index = "unusable";
            let what = "torn, damaged, or of another segment".to_owned();
            self.problems.push(Problem::new(path, None, what));
            return;
        };
        walked.shown.index = "valid";
        if walked.header.is_none() && walked.shown.header != "newer" {
            walked.header = Some(SegmentHeader {
                purpose: Purpose::Mail,
                segment: walked.segment,
                shard: walked.shard,
                store: self.store.map_or(StoreId([0; 16]), |store| store.store),
                salt,
                size: walked.shown.octets,
                created: UnixMillis(0),
                stamp_floor: Stamp::NONE,
                previous: None,
                key: None,
                sources: Vec::new(),
            });
        }
    }

    async fn read_frames<F: File>(
        &mut self,
        walked: &mut Walked,
        file: &F,
        header: &SegmentHeader,
    ) -> Result<(), DiskError> {
        let mut contents = Contents::default();
        let mut lost = Vec::new();
        let keys = Arc::clone(&self.keys);
        let result = walk(file, header, &keys, |found| match found {
            Found::Locked { offset, header } => {
                walked.shown.frames += 1;
                walked.locked += 1;
                if header.kind == FrameKind::Chunk {
                    let octets = header.payload_length.saturating_sub(TAG_OCTETS_U32);
                    self.chunks.insert((walked.shard, walked.segment, offset.0), octets);
                }
                note_locked(walked, &mut contents, offset, &header);
            }
            Found::Frame { offset, header, payload } => {
                if !self.note_frame(walked, &mut contents, (offset, &header, payload)) {
                    lost.push((offset.0, format!("{} makes no sense", name_of(&header))));
                }
            }
            Found::DamagedPayload { offset, header, .. } => {
                lost.push((offset.0, format!("damaged payload of {}", name_of(&header))));
            }
        })
        .await?;
        for gap in &result.gaps {
            let octets = gap.range.end - gap.range.start;
            let start = gap.range.start - gap.range.start % FRAME_ALIGNMENT as u64;
            lost.push((start, format!("{octets} octets that are no valid frame")));
        }
        lost.sort();
        let durable = result.durable_before;
        walked.lost = lost.into_iter().map(|(offset, what)| (offset, what, offset < durable)).collect();
        walked.found_index = contents.into_index();
        Ok(())
    }

    /// Takes in one valid frame; `false` if its payload cannot be.
    fn note_frame(
        &mut self,
        walked: &mut Walked,
        contents: &mut Contents,
        (offset, header, payload): (Offset, &FrameHeader, &[u8]),
    ) -> bool {
        let number = self.files.len();
        walked.shown.frames += 1;
        if header.payload_length > PAYLOAD_OCTETS_MAX {
            return false;
        }
        match header.kind {
            FrameKind::Message => return note_message(walked, contents, offset, header, payload),
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
                note_stamp(&mut walked.shown, header.stamp);
                walked.shown.units += facts_in(header.kind, payload);
                return self.facts.take(header, payload);
            }
        }
        true
    }

    fn count_settled(&mut self) {
        for at in 0..self.files.len() {
            let file = &self.files[at];
            let (void, live): (Vec<&Known>, Vec<&Known>) =
                file.messages.iter().partition(|message| self.is_void(file, message.offset));
            let void: usize = void.iter().map(|message| message.units()).sum();
            let settled: usize = live.iter().map(|message| self.settled_units(file, message)).sum();
            let shown = &mut self.files[at].shown;
            shown.units -= void as u64;
            shown.settled = settled as u64;
        }
    }
}

fn note_message(
    walked: &mut Walked,
    contents: &mut Contents,
    offset: Offset,
    header: &FrameHeader,
    payload: &[u8],
) -> bool {
    let Some(view) = MessageView::decode(payload) else { return false };
    if view.recipients.len() > usize::from(u16::MAX) {
        return false;
    }
    let domains = domain_groups(&view.recipients);
    walked.messages.push(Known {
        stamp: header.stamp,
        queue_id: header.queue_id,
        offset: offset.0,
        unit_base: header.unit_base,
        domains: domains.into_iter().map(|(domain, _, units)| (domain.to_owned(), units)).collect(),
        chunks: view.chunks.clone(),
    });
    walked.shown.messages += 1;
    walked.shown.units += view.recipients.len() as u64;
    note_stamp(&mut walked.shown, header.stamp);
    contents.add_message(walked.segment, offset, header, &view.recipients, &view.chunks);
    true
}

/// Facts about units that a frame of a checkpoint restates.
fn facts_in(kind: FrameKind, payload: &[u8]) -> u64 {
    match kind {
        FrameKind::Outcomes => Outcomes::decode(payload).map_or(0, |part| part.units().count() as u64),
        FrameKind::Held => HeldUnit::decode_all(payload).map_or(0, |units| units.len() as u64),
        _ => 0,
    }
}

/// Takes in a frame whose payload cannot be opened: of a message the index tells domains and units, if it is there.
fn note_locked(walked: &mut Walked, contents: &mut Contents, offset: Offset, header: &FrameHeader) {
    if header.kind != FrameKind::Message {
        return;
    }
    let Some(index) = &walked.stored_index else { return };
    let mut domains = Vec::new();
    for (domain, entries) in &index.domains {
        domains.extend(
            entries.iter().filter(|entry| entry.offset() == offset).map(|entry| (domain.clone(), *entry)),
        );
    }
    domains.sort_by_key(|(_, entry)| entry.first);
    contents.add_entries(&domains);
    let units: u16 = domains.iter().map(|(_, entry)| entry.count).sum();
    let domains = domains.into_iter().map(|(domain, entry)| (domain, entry.count)).collect();
    walked.shown.messages += 1;
    walked.shown.units += u64::from(units);
    note_stamp(&mut walked.shown, header.stamp);
    walked.messages.push(Known {
        stamp: header.stamp,
        queue_id: header.queue_id,
        offset: offset.0,
        unit_base: header.unit_base,
        domains,
        chunks: Vec::new(),
    });
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
