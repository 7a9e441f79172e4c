//! The queue ids of entries: an index entry does not have them, the header of its record does.

use crate::shard::backlog::Place;
use storage::disk::{Disk, File};
use storage::format::BLOCK_OCTETS;
use storage::format::checksum::Seed;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader};
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::position::{QueueId, SegmentId, ShardId};
use storage::segment;

/// Looks names up; keeps the segment of the last one open, since neighbours are asked for one after the other.
#[derive(Debug)]
pub(in crate::shard) struct Names<'a, D: Disk> {
    disk: &'a D,
    open: Option<OpenSegment<D::File>>,
}

#[derive(Debug)]
struct OpenSegment<F> {
    place: (ShardId, SegmentId),
    seed: Seed,
    file: F,
}

impl<'a, D: Disk> Names<'a, D> {
    /// Over `disk`.
    pub(in crate::shard) const fn new(disk: &'a D) -> Self {
        Self { disk, open: None }
    }

    /// The queue id of the record at `place`; `None` if its header, or its segment's, cannot be read.
    pub(in crate::shard) async fn queue_id(&mut self, (directory, entry): Place) -> Option<QueueId> {
        let place = (directory, entry.segment);
        if self.open.as_ref().is_none_or(|open| open.place != place) {
            self.open = self.segment(place).await;
        }
        let OpenSegment { seed, file, .. } = self.open.as_ref()?;
        let octets = file.read(entry.offset().0, FRAME_HEADER_OCTETS).await.ok()?;
        let header = FrameHeader::decode(&octets, seed, entry.offset())?;
        (header.stamp == entry.stamp).then_some(header.queue_id)
    }

    async fn segment(&self, place: (ShardId, SegmentId)) -> Option<OpenSegment<D::File>> {
        let file = self.disk.open(&segment::path(place.0, Purpose::Mail, place.1)).await.ok()?;
        let block = file.read(0, BLOCK_OCTETS).await.ok()?;
        let header = SegmentHeader::decode(&block).ok()?;
        Some(OpenSegment { place, seed: Seed::new(&header.salt, place.1), file })
    }
}
