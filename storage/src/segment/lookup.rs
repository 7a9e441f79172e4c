//! One domain's entries of one sealed segment, without reading the rest of its index: header of the segment, head of the
//! index, one page of its directory, one run of entries. Each of these has a checksum of its own, and the head's holds
//! the index against the salt in the segment's header.
//!
//! Reads from disk only; what is active, or was sealed without room for its index, has nothing to look up.

use super::{index_name, path};
use crate::disk::{Disk, File};
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::index_directory::IndexHead;
use crate::format::index_entry::ENTRY_OCTETS;
use crate::format::index_file::{IndexEntry, decode_entries};
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::position::{SegmentId, ShardId};

/// Octets that are read to begin with: the whole head of an index with few domains.
const FIRST_OCTETS: usize = BLOCK_OCTETS;

/// The entries of `domain` in `segment`, in stamp order. `None` if there is no index that can be believed: then only a
/// scan of the segment tells.
///
/// # Errors
/// The disk's; a missing segment is [`DiskError::NotFound`], a missing index is not an error.
pub async fn lookup<D: Disk>(
    disk: &D,
    shard: ShardId,
    segment: SegmentId,
    domain: &str,
) -> Result<Option<Vec<IndexEntry>>, DiskError> {
    let log = disk.open(&path(shard, Purpose::Mail, segment)).await?;
    let header = SegmentHeader::decode(&log.read(0, BLOCK_OCTETS).await?);
    let index = match disk.open(&format!("{shard}/{}", index_name(segment))).await {
        Ok(index) => index,
        Err(DiskError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let start = read_head(&index).await?;
    // Rows C and H of recovery: the index repeats the salt of a header that was lost.
    let salt = header.ok().map(|header| header.salt).or_else(|| IndexHead::salt_of(&start));
    let Some(head) = salt.and_then(|salt| IndexHead::decode(&start, shard, segment, &salt)) else {
        return Ok(None);
    };
    let Some((page, range)) = head.page_of(domain) else { return Ok(Some(Vec::new())) };
    let octets = index.read(range.start, page.octets as usize).await?;
    let Some(rows) = page.rows(&octets) else { return Ok(None) };
    let Some(row) = rows.iter().find(|row| row.domain == domain) else { return Ok(Some(Vec::new())) };
    let from = head.entries_at() + u64::from(row.first) * ENTRY_OCTETS as u64;
    let Some(length) = (row.entries as usize).checked_mul(ENTRY_OCTETS) else { return Ok(None) };
    Ok(decode_entries(&index.read(from, length).await?, row, segment))
}

/// The head of an index, or what there is of one.
async fn read_head<F: File>(index: &F) -> Result<Vec<u8>, DiskError> {
    let mut start = index.read(0, FIRST_OCTETS).await?.to_vec();
    let octets = IndexHead::octets_of(&start).unwrap_or(0);
    if octets > start.len() {
        start.extend_from_slice(&index.read(FIRST_OCTETS as u64, octets - start.len()).await?);
    }
    Ok(start)
}
