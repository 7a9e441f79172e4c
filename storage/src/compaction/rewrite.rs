//! Copying what still matters out of sparse segments into one: in stamp order, identity and stamp kept.
//!
//! The copy is written like any segment, but synced once at its end, since nothing hangs on it before; then it has its
//! index, and both names are durable.
//!
//! A record that cannot be read ends the rewrite as long as a unit of it has not ended: whoever tries to deliver it finds the damage and
//! settles it. One of which all has ended and only a copy is kept nobody tries to deliver: where it is damaged it stays behind and is counted, or it
//! would hold back the segment's other mail for as long as it is kept.

use crate::crypt::{Keys, TAG_OCTETS};
use crate::disk::{Block, Disk, File, write_whole};
use crate::error::{DiskError, ReadError};
use crate::format::frame::{
    FRAME_ALIGNMENT, FRAME_OCTETS_MAX, FrameHeader, FrameKind, blank_header, frame_octets,
};
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::message::{ChunkReference, MessageView};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::{BLOCK_OCTETS, block_ceiling};
use crate::log::{Number, random_salt};
use crate::position::{Offset, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use crate::reader::Reader;
use crate::segment::contents::Contents;
use crate::segment::sealing::write_frame;
use crate::segment::{ActiveSegment, index_name, index_of, remove};
use crate::shelf::{Matters, Move};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a rewrite works with.
#[derive(Clone, Debug)]
pub struct Workshop<D: Disk> {
    /// The disk.
    pub disk: D,
    /// The store on it.
    pub store: StoreId,
    /// Keys: the newest encrypts the copy.
    pub keys: Arc<Keys>,
}

/// Where the copy goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory, that of the sources.
    pub shard: ShardId,
    /// Its number, and what its header names.
    pub number: Number,
    /// Now.
    pub created: UnixMillis,
}

/// A copy that is durable, with its index.
#[derive(Debug)]
pub struct Copy {
    /// Its index: the new places of the messages.
    pub index: SegmentIndex,
    /// What went where, by source.
    pub moves: Vec<(SegmentId, Move)>,
    /// Octets of the file.
    pub octets: u64,
    /// Units whose kept records are damaged: they were left behind, and are kept no more.
    pub damaged: u64,
}

/// Why there is no copy. Nothing of it is left, but for [`RewriteError::Left`].
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The disk failed, or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was made of the copy cannot be removed: none of its sources may be tallied in this life.
    #[error("a half-made copy cannot be removed: {0}")]
    Left(DiskError),
    /// Everything in the sources ended meanwhile.
    #[error("nothing is left to copy")]
    Nothing,
    /// A record of a source cannot be read.
    #[error("a record of segment {:08x}: {error}", .segment.0)]
    Unreadable {
        /// The source.
        segment: SegmentId,
        /// What is wrong with the record.
        error: ReadError,
    },
}

/// A message of a source.
#[derive(Clone, Copy, Debug)]
struct Live {
    source: SegmentId,
    entry: IndexEntry,
    units: u32,
}

impl<D: Disk> Workshop<D> {
    /// Octets that a copy of what is open in a segment takes, at most.
    ///
    /// # Errors
    /// The disk's: neither the index nor the segment can be read.
    pub async fn live_octets(
        &self,
        shard: ShardId,
        segment: SegmentId,
        is_open: impl Fn(u32) -> bool,
    ) -> Result<u64, DiskError> {
        let index = index_of(&self.disk, self.store, &self.keys, shard, segment).await?;
        let live = live_messages(segment, &index, |_, unit| is_open(unit));
        Ok(live.iter().map(copy_octets).sum())
    }

    /// Copies from `sources` what has a unit for which `matters` says that it does; `pause` is called behind each write with its
    /// octets, so that the host decides how much of the device this takes.
    ///
    /// # Errors
    /// See [`RewriteError`].
    pub async fn rewrite(
        &self,
        target: Target,
        sources: &[SegmentId],
        matters: impl Fn(SegmentId, u32) -> Matters,
        pause: impl AsyncFn(u64),
    ) -> Result<Copy, RewriteError> {
        let mut live = Vec::new();
        for source in sources {
            let index = index_of(&self.disk, self.store, &self.keys, target.shard, *source).await?;
            live.extend(live_messages(*source, &index, |source, unit| matters(source, unit) != Matters::Not));
        }
        live.sort_by_key(|live| live.entry.stamp);
        if live.is_empty() {
            return Err(RewriteError::Nothing);
        }
        let frames: u64 = live.iter().map(copy_octets).sum();
        let size = (BLOCK_OCTETS as u64 + frames).next_multiple_of(BLOCK_OCTETS as u64);
        let is_owed = |live: &Live| {
            (live.entry.unit_base..live.entry.unit_base + live.units)
                .any(|unit| matters(live.source, unit) == Matters::Owed)
        };
        let copied = self.copy(&target, sources, (live, size), is_owed, pause).await;
        if copied.is_err() {
            // For good: were it there again after a crash, a source that is tallied until then would vouch for it.
            remove(&self.disk, target.shard, target.number.segment).await.map_err(RewriteError::Left)?;
        }
        copied
    }

    async fn copy(
        &self,
        target: &Target,
        sources: &[SegmentId],
        (live, size): (Vec<Live>, u64),
        is_owed: impl Fn(&Live) -> bool,
        pause: impl AsyncFn(u64),
    ) -> Result<Copy, RewriteError> {
        let first = live.first().map_or(Stamp::NONE, |live| live.entry.stamp);
        let mut writer = self.start(target, sources, first, size).await?;
        let reader = Reader::new(self.disk.clone(), self.store, Arc::clone(&self.keys));
        let sources: BTreeSet<SegmentId> = sources.iter().copied().collect();
        let (mut moves, mut damaged) = (Vec::with_capacity(live.len()), 0);
        for live in live {
            let to_base = writer.contents.units();
            match writer.copy_message(&reader, &live, &sources, &pause).await? {
                Ok(()) => {}
                Err(ReadError::Damaged(_)) if !is_owed(&live) => {
                    damaged += u64::from(live.units);
                    continue;
                }
                Err(error) => return Err(RewriteError::Unreadable { segment: live.source, error }),
            }
            let moved = Move {
                from_base: live.entry.unit_base,
                units: live.units,
                to: target.number.segment,
                to_base,
            };
            moves.push((live.source, moved));
        }
        if moves.is_empty() {
            return Err(RewriteError::Nothing);
        }
        let (index, salt, octets) = writer.finish(&pause).await?;
        let content = index.encode(target.shard, target.number.segment, &salt);
        let name = index_name(target.number.segment);
        write_whole(&self.disk, &target.shard.to_string(), &name, &content).await?;
        Ok(Copy { index, moves, octets, damaged })
    }

    async fn start(
        &self,
        target: &Target,
        sources: &[SegmentId],
        stamp_floor: Stamp,
        size: u64,
    ) -> Result<Writer<D::File>, DiskError> {
        let header = SegmentHeader {
            purpose: Purpose::Mail,
            segment: target.number.segment,
            shard: target.shard,
            store: self.store,
            salt: random_salt()?,
            size,
            created: target.created,
            stamp_floor,
            previous: target.number.previous,
            key: self.keys.mark(self.store),
            sources: sources.to_vec(),
            others: target.number.others.clone(),
        };
        let active = ActiveSegment::create(&self.disk, header, &self.keys).await?;
        let at = active.appended().0;
        Ok(Writer { active, contents: Contents::default(), frame: Vec::new(), block: None, used: 0, at })
    }
}

/// The messages of an index with an open unit, one a message, in the order of their places.
fn live_messages(
    segment: SegmentId,
    index: &SegmentIndex,
    is_open: impl Fn(SegmentId, u32) -> bool,
) -> Vec<Live> {
    let mut messages: BTreeMap<u32, (Live, bool)> = BTreeMap::new();
    for entry in index.domains.iter().flat_map(|(_, entries)| entries) {
        let live = Live { source: segment, entry: *entry, units: 0 };
        let (message, open) = messages.entry(entry.unit_base).or_insert((live, false));
        message.units = message.units.max(entry.units().end - entry.unit_base);
        *open |= entry.units().any(|unit| is_open(segment, unit));
    }
    messages.into_values().filter(|(_, open)| *open).map(|(live, _)| live).collect()
}

/// Octets that a copy of the message takes, at most: a tag a frame, if it is encrypted now and was not before, and a chunk is
/// no smaller than a block but for the last.
fn copy_octets(live: &Live) -> u64 {
    let stored = live.entry.stored_octets();
    stored + (TAG_OCTETS + FRAME_ALIGNMENT) as u64 * (2 + stored / BLOCK_OCTETS as u64)
}

/// The segment that is being filled: frames one behind the other, written a batch at a time.
struct Writer<F: File> {
    active: ActiveSegment<F>,
    contents: Contents,
    /// One frame.
    frame: Vec<u8>,
    block: Option<F::Block>,
    used: usize,
    /// Where the block will lie.
    at: Offset,
}

impl<F: File> Writer<F> {
    /// Copies the chunks that lie in a source, then the closing record. A record that cannot be read is the inner error.
    async fn copy_message<D: Disk<File = F>>(
        &mut self,
        reader: &Reader<D>,
        live: &Live,
        sources: &BTreeSet<SegmentId>,
        pause: &impl AsyncFn(u64),
    ) -> Result<Result<(), ReadError>, DiskError> {
        let shard = self.active.header.shard;
        let frame = match reader.read_entry(shard, &live.entry).await {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error)),
        };
        let view = match frame.message() {
            Ok(view) => view,
            Err(error) => return Ok(Err(error)),
        };
        let mut chunks = view.chunks.clone();
        for chunk in chunks.iter_mut().filter(|chunk| sources.contains(&chunk.segment)) {
            let stored = match reader.read_chunk(shard, chunk).await {
                Ok(stored) => stored,
                Err(error) => return Ok(Err(error)),
            };
            let header =
                blank_header(FrameKind::Chunk, Stamp::NONE, stored.header.received, stored.header.queue_id);
            let offset = self.push(header, &[stored.payload()], pause).await?.0;
            *chunk = ChunkReference { segment: self.active.header.segment, offset, ..*chunk };
        }
        let payload = MessageView::with_chunks(frame.payload(), &chunks);
        let FrameHeader { stamp, received, queue_id, .. } = frame.header;
        let mut header = blank_header(FrameKind::Message, stamp, received, queue_id);
        header.unit_base = self.contents.units();
        let (offset, header) = self.push(header, &[&payload], pause).await?;
        let segment = self.active.header.segment;
        self.contents.add_message(segment, offset, &header, &view.recipients, &chunks);
        Ok(Ok(()))
    }

    async fn push(
        &mut self,
        mut header: FrameHeader,
        parts: &[&[u8]],
        pause: &impl AsyncFn(u64),
    ) -> Result<(Offset, FrameHeader), DiskError> {
        let plain: usize = parts.iter().map(|part| part.len()).sum();
        let payload = plain + self.active.sealing().overhead();
        let offset = self.at.plus(self.used as u64);
        // All of it was durable where it comes from, and is here before anybody hears of the copy: a gap is damage.
        header.durable_before = offset;
        header.payload_length = u32::try_from(payload).expect("a record fits a batch");
        self.frame.resize(frame_octets(payload), 0);
        write_frame(&mut self.frame, &self.active.sealing(), &mut header, offset, parts);
        let frame = core::mem::take(&mut self.frame);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let block = self.block.get_or_insert_with(|| self.active.file.allocate(FRAME_OCTETS_MAX));
            let count = rest.len().min(FRAME_OCTETS_MAX - self.used);
            block.as_mut()[self.used..self.used + count].copy_from_slice(&rest[..count]);
            self.used += count;
            rest = &rest[count..];
            if self.used == FRAME_OCTETS_MAX {
                self.write(pause).await?;
            }
        }
        self.frame = frame;
        Ok((offset, header))
    }

    async fn write(&mut self, pause: &impl AsyncFn(u64)) -> Result<(), DiskError> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        let padded = block_ceiling(self.used);
        if self.at.0 + padded as u64 > self.active.header.size {
            let reason = "the copy is larger than it was reckoned".to_owned();
            return Err(DiskError::Io { operation: "rewrite", reason });
        }
        block.as_mut()[self.used..padded].fill(0);
        block.truncate(padded);
        self.active.file.write(block, self.at.0).await?;
        self.at = self.at.plus(padded as u64);
        self.used = 0;
        pause(padded as u64).await;
        Ok(())
    }

    /// Writes what is left and makes all of it durable.
    async fn finish(
        mut self,
        pause: &impl AsyncFn(u64),
    ) -> Result<(SegmentIndex, crate::position::Salt, u64), DiskError> {
        self.write(pause).await?;
        self.active.file.sync().await?;
        let header = &self.active.header;
        Ok((self.contents.into_index(), header.salt, header.size))
    }
}
