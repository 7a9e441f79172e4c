//! The store's identity on disk: kept in two slots written in turns, so that a torn write loses nothing.

use crate::disk::{Block, Disk, File};
use crate::error::{DiskError, OpenError};
use crate::format::BLOCK_OCTETS;
use crate::format::store_file::{STORE_FILE_OCTETS, StoreFile};
use crate::position::{SegmentId, Stamp, StoreId};

const PATH: &str = "store";

/// Reads the store file; `None` if there is none.
pub(crate) async fn load<D: Disk>(disk: &D) -> Result<Option<StoreFile>, OpenError> {
    let content = match crate::disk::read_whole(disk, PATH).await {
        Ok(content) => content,
        Err(DiskError::NotFound) => return Ok(None),
        Err(error) => return Err(OpenError::Disk { path: PATH.to_owned(), error }),
    };
    if let Some(version) = StoreFile::newer(&content) {
        return Err(OpenError::Newer { path: PATH.to_owned(), version });
    }
    match StoreFile::decode(&content) {
        Some(store) => Ok(Some(store)),
        // A crash while the very first file was made leaves zeros, before any shard directory is there.
        None if content.iter().all(|octet| *octet == 0) => Ok(None),
        None => Err(OpenError::Identity(PATH.to_owned())),
    }
}

/// A new identity, not yet on disk.
pub(crate) fn fresh() -> Result<StoreFile, OpenError> {
    let mut store = [0; 16];
    getrandom::fill(&mut store).map_err(|error| OpenError::Disk {
        path: PATH.to_owned(),
        error: DiskError::Io { operation: "random identity", reason: error.to_string() },
    })?;
    let (stamp_ceiling, number_ceiling) = (Stamp(1), SegmentId(0));
    let store = StoreId(store);
    Ok(StoreFile { sequence: 0, store, incarnation: 0, stamp_ceiling, number_ceiling, shards: 0 })
}

/// Writes `store` into its slot, durable on return.
///
/// # Errors
/// The disk's; the other slot still holds the state before.
pub async fn save<D: Disk>(disk: &D, store: &StoreFile) -> Result<(), DiskError> {
    let file = match disk.create(PATH, STORE_FILE_OCTETS as u64).await {
        Err(DiskError::Exists) => disk.open(PATH).await?,
        other => other?,
    };
    let mut block = file.allocate(BLOCK_OCTETS);
    block.truncate(BLOCK_OCTETS);
    block.as_mut().copy_from_slice(&store.encode());
    file.write(block, store.slot()).await?;
    file.sync().await?;
    disk.sync_directory("").await
}
