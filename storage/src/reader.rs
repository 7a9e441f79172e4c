//! Reading records back: every byte is checked against its seeded checksums before it is believed.
//!
//! Open files are kept, a bounded number of them; one that was unlinked meanwhile is still readable through
//! its descriptor.

use crate::crypt::{CipherPlace, Keys, TAG_OCTETS};
use crate::disk::{Disk, File, read_whole};
use crate::error::{DiskError, ReadError};
use crate::format::BLOCK_OCTETS;
use crate::format::checksum::Seed;
use crate::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, FrameKind};
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::message::{ChunkReference, MessageView};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::position::{Offset, Salt, SegmentId, ShardId, StoreId};
use crate::segment::index_name;
use crate::segment::sealing::{Opener, Unopened};
use core::cell::RefCell;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Segments that a reader keeps open.
pub const OPEN_SEGMENTS_MAX: usize = 16;

/// A reader of one executor.
#[derive(Debug)]
pub struct Reader<D: Disk> {
    disk: D,
    store: StoreId,
    keys: Arc<Keys>,
    open: RefCell<VecDeque<Rc<OpenSegment<D::File>>>>,
}

#[derive(Debug)]
struct OpenSegment<F> {
    place: CipherPlace,
    seed: Seed,
    file: F,
}

/// A checked frame in memory.
#[derive(Debug)]
pub struct StoredFrame<O> {
    /// Its header.
    pub header: FrameHeader,
    octets: Content<O>,
}

#[derive(Debug)]
enum Content<O> {
    /// The frame as it was read.
    Frame(O),
    /// What its payload decrypts to.
    Opened(Vec<u8>),
}

impl<O: core::ops::Deref<Target = [u8]>> StoredFrame<O> {
    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.octets {
            Content::Frame(frame) => {
                &frame[FRAME_HEADER_OCTETS..FRAME_HEADER_OCTETS + self.header.payload_length as usize]
            }
            Content::Opened(payload) => payload,
        }
    }

    /// The payload as a message.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if it is none.
    pub fn message(&self) -> Result<MessageView<'_>, ReadError> {
        if self.header.kind != FrameKind::Message {
            return Err(ReadError::Damaged("not a message"));
        }
        MessageView::decode(self.payload()).ok_or(ReadError::Damaged("message payload"))
    }
}

/// Memory that a disk's files are read into.
pub type OctetsOf<D> = <<D as Disk>::File as File>::Octets;

impl<D: Disk> Reader<D> {
    /// A reader over `disk`, which holds the store `store`.
    #[must_use]
    pub const fn new(disk: D, store: StoreId, keys: Arc<Keys>) -> Self {
        Self { disk, store, keys, open: RefCell::new(VecDeque::new()) }
    }

    /// The frame that `entry` points to.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_entry(
        &self,
        shard: ShardId,
        entry: &IndexEntry,
    ) -> Result<StoredFrame<OctetsOf<D>>, ReadError> {
        let octets = entry.frame_octets() as usize;
        let frame = self.read_frame(shard, entry.segment, entry.offset(), octets).await?;
        if frame.header.stamp != entry.stamp {
            return Err(ReadError::Damaged("another message's record"));
        }
        Ok(frame)
    }

    /// The frame of a chunk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_chunk(
        &self,
        shard: ShardId,
        chunk: &ChunkReference,
    ) -> Result<StoredFrame<OctetsOf<D>>, ReadError> {
        let octets = FRAME_HEADER_OCTETS + chunk.octets as usize + TAG_OCTETS;
        let frame = self.read_frame(shard, chunk.segment, chunk.offset, octets).await?;
        if frame.header.kind != FrameKind::Chunk || frame.payload().len() != chunk.octets as usize {
            return Err(ReadError::Damaged("not the chunk"));
        }
        Ok(frame)
    }

    async fn read_frame(
        &self,
        shard: ShardId,
        segment: SegmentId,
        offset: Offset,
        octets: usize,
    ) -> Result<StoredFrame<OctetsOf<D>>, ReadError> {
        let segment = self.segment(shard, segment).await?;
        let octets = segment.file.read(offset.0, octets).await?;
        let header = FrameHeader::decode(&octets, &segment.seed, offset);
        let header = header.ok_or(ReadError::Damaged("frame header"))?;
        let end = FRAME_HEADER_OCTETS + header.payload_length as usize;
        let payload = octets.get(FRAME_HEADER_OCTETS..end).ok_or(ReadError::Damaged("frame length"))?;
        if !header.matches(payload, &segment.seed, offset) {
            return Err(ReadError::Damaged("payload checksum"));
        }
        let opened = match Opener::new(&self.keys, segment.place).open(&header, offset, payload) {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(opened)) => Some(opened),
            Err(Unopened::Altered) => return Err(ReadError::Damaged("does not decrypt")),
            Err(Unopened::Locked(error)) => return Err(ReadError::Key(error)),
        };
        Ok(StoredFrame { header, octets: opened.map_or(Content::Frame(octets), Content::Opened) })
    }

    async fn segment(
        &self,
        shard: ShardId,
        segment: SegmentId,
    ) -> Result<Rc<OpenSegment<D::File>>, ReadError> {
        let known = {
            let open = self.open.borrow();
            open.iter().find(|open| (open.place.shard, open.place.segment) == (shard, segment)).cloned()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let file = self.disk.open(&crate::segment::path(shard, Purpose::Mail, segment)).await?;
        let block = file.read(0, BLOCK_OCTETS).await?;
        let salt = match SegmentHeader::decode(&block) {
            Ok(header) => header.salt,
            // Rows C and H of recovery: the index repeats the salt of a header that was lost.
            Err(_) => self.salt_by_index(shard, segment).await?,
        };
        let place = CipherPlace { store: self.store, shard, segment, salt };
        let opened = Rc::new(OpenSegment { place, seed: Seed::new(&salt, segment), file });
        let mut open = self.open.borrow_mut();
        open.push_back(Rc::clone(&opened));
        if open.len() > OPEN_SEGMENTS_MAX {
            open.pop_front();
        }
        Ok(opened)
    }

    async fn salt_by_index(&self, shard: ShardId, segment: SegmentId) -> Result<Salt, ReadError> {
        let path = format!("{shard}/{}", index_name(segment));
        let content = match read_whole(&self.disk, &path).await {
            Ok(content) => content,
            Err(DiskError::NotFound) => return Err(ReadError::Damaged("segment header")),
            Err(error) => return Err(error.into()),
        };
        let salt = SegmentIndex::salt_of(&content).ok_or(ReadError::Damaged("segment header"))?;
        let valid = SegmentIndex::decode(&content, shard, segment, &salt).is_some();
        valid.then_some(salt).ok_or(ReadError::Damaged("segment header"))
    }

    /// Closes all files: a segment that was unlinked gives its space back only then.
    pub fn forget_all(&self) {
        self.open.borrow_mut().clear();
    }
}
