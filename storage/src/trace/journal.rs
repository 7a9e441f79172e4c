//! Writing: rows gather with the caller and go out in one write.

use super::{TraceFile, files};
use crate::crypt::{Cipher, CipherPlace, Keys, TAG_OCTETS};
use crate::disk::{Disk, File, write_padded};
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::checksum::Seed;
use crate::format::trace::{ROW_ALIGNMENT, RowHeader, TraceHeader, row_octets};
use crate::log::random_salt;
use crate::position::{Offset, QueueId, SegmentId, ShardId, StoreId, UnixMillis};
use std::sync::Arc;

/// Octets of the first file of a day: most days of most servers need no more.
const FIRST_OCTETS: u64 = 256 * 1024;
/// Octets of any further one.
const NEXT_OCTETS: u64 = 4 << 20;
/// Octets that one write takes at most.
const WRITE_OCTETS_MAX: usize = 512 * 1024;

/// A row that is not written yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// When it was so.
    pub at: UnixMillis,
    /// The message; 0 where its record could not be read.
    pub queue_id: QueueId,
    /// As [`TraceRow::encode`](crate::format::trace::TraceRow::encode) makes it.
    pub payload: Vec<u8>,
}

/// The trace of one shard directory.
#[derive(Debug)]
pub struct TraceJournal<D: Disk> {
    disk: D,
    shard: ShardId,
    store: StoreId,
    keys: Arc<Keys>,
    /// What is there, in order, with its octets.
    files: Vec<(TraceFile, u64)>,
    next_number: u32,
    active: Option<Active<D::File>>,
}

/// The file that is written.
#[derive(Debug)]
struct Active<F> {
    file: F,
    number: u32,
    day: u32,
    size: u64,
    seed: Seed,
    cipher: Option<Cipher>,
    /// Where the next row begins.
    end: u64,
    /// What stands in the last block before `end`, which the next write repeats; nothing of it is durable.
    tail: Vec<u8>,
    is_dirty: bool,
}

impl<D: Disk> TraceJournal<D> {
    /// Looks what is there. Nothing is made before there is a row.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn open(disk: D, shard: ShardId, store: StoreId, keys: Arc<Keys>) -> Result<Self, DiskError> {
        let mut known = Vec::new();
        for file in files(&disk, shard).await? {
            // One that cannot be opened counts for nothing, and goes in its turn.
            let octets = match disk.open(&file.path()).await {
                Ok(opened) => opened.length().await.unwrap_or(0),
                Err(_) => 0,
            };
            known.push((file, octets));
        }
        let next_number = known.iter().map(|(file, _)| file.number).max().unwrap_or(0).wrapping_add(1);
        Ok(Self { disk, shard, store, keys, files: known, next_number, active: None })
    }

    /// Octets of all files.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.files.iter().map(|(_, octets)| octets).sum()
    }

    /// Octets that a further file takes, if these rows need one.
    #[must_use]
    pub fn wants(&self, rows: &[Pending], day: u32) -> Option<u64> {
        let first = rows.first()?;
        let fits = self.active.as_ref().is_some_and(|active| active.day == day && active.has_room(first));
        (!fits).then(|| self.next_octets(day))
    }

    /// The day of the oldest file.
    #[must_use]
    pub fn oldest_day(&self) -> Option<u32> {
        self.files.first().map(|(file, _)| file.day)
    }

    /// Writes as many of these rows, of this day, as one file takes, at least one; how many. They are durable behind the next
    /// [`Self::sync`].
    ///
    /// # Errors
    /// The disk's: some of them may be written. The file is given up.
    pub async fn write(&mut self, rows: &[Pending], day: u32) -> Result<usize, DiskError> {
        let Some(first) = rows.first() else { return Ok(0) };
        let mut active = match self.active.take().filter(|active| active.day == day && active.has_room(first))
        {
            Some(active) => active,
            None => self.roll(day).await?,
        };
        if !active.has_room(first) {
            return Err(DiskError::NoSpace);
        }
        let mut taken = 0;
        for row in rows {
            if !active.has_room(row) || (taken > 0 && active.tail.len() > WRITE_OCTETS_MAX) {
                break;
            }
            active.encode(row);
            taken += 1;
        }
        active.write().await?;
        self.active = Some(active);
        Ok(taken)
    }

    /// What was written is durable.
    ///
    /// # Errors
    /// The disk's; the file is given up.
    pub async fn sync(&mut self) -> Result<(), DiskError> {
        let Some(mut active) = self.active.take() else { return Ok(()) };
        active.sync().await?;
        self.active = Some(active);
        Ok(())
    }

    /// Removes the oldest file, also the one that is written; whether there was one.
    ///
    /// # Errors
    /// The disk's: it is not looked at again in this life.
    pub async fn remove_oldest(&mut self) -> Result<bool, DiskError> {
        if self.files.is_empty() {
            return Ok(false);
        }
        let (file, _) = self.files.remove(0);
        self.active.take_if(|active| active.number == file.number);
        match self.disk.remove(&file.path()).await {
            Ok(()) | Err(DiskError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The file before is durable, and a new one is there.
    async fn roll(&mut self, day: u32) -> Result<Active<D::File>, DiskError> {
        if let Some(mut before) = self.active.take() {
            before.sync().await?;
        }
        let (size, number) = (self.next_octets(day), self.next_number);
        // A name that is taken fails this file; salts are drawn anew, so that a number may return.
        self.next_number = self.next_number.wrapping_add(1);
        let key = self.keys.mark(self.store);
        let header =
            TraceHeader { shard: self.shard, number, store: self.store, salt: random_salt()?, day, key };
        let name = TraceFile { day, shard: self.shard, number };
        let file = self.disk.create(&name.path(), size).await?;
        self.files.push((name, size));
        // A clock that went back.
        self.files.sort_unstable();
        write_padded(&file, 0, &header.encode()).await?;
        file.sync().await?;
        self.disk.sync_directory(&self.shard.to_string()).await?;
        let place = CipherPlace {
            store: self.store,
            shard: self.shard,
            segment: SegmentId(number),
            salt: header.salt,
        };
        let cipher = key.map(|key| self.keys.cipher(key.key_id, &place)).transpose();
        let cipher = cipher.map_err(|error| DiskError::Io { operation: "key", reason: error.to_string() })?;
        let end = BLOCK_OCTETS as u64;
        Ok(Active {
            file,
            number,
            day,
            size,
            seed: header.seed(),
            cipher,
            end,
            tail: Vec::new(),
            is_dirty: false,
        })
    }

    fn next_octets(&self, day: u32) -> u64 {
        let has_one = self.files.iter().any(|(file, _)| file.day == day);
        if has_one { NEXT_OCTETS } else { FIRST_OCTETS }
    }
}

impl<F: File> Active<F> {
    fn has_room(&self, row: &Pending) -> bool {
        let octets = row_octets(row.payload.len() + self.tag_octets());
        self.end + octets as u64 <= self.size
    }

    fn tag_octets(&self) -> usize {
        if self.cipher.is_some() { TAG_OCTETS } else { 0 }
    }

    fn encode(&mut self, row: &Pending) {
        let offset = Offset(self.end);
        let mut payload = row.payload.clone();
        if let Some(cipher) = &self.cipher {
            payload.resize(payload.len() + TAG_OCTETS, 0);
            cipher.seal_row(&associated(row.at, row.queue_id), offset, &mut payload);
        }
        let header = RowHeader::new(&self.seed, offset, row.at, row.queue_id, &payload);
        header.encode(&mut self.tail);
        self.tail.extend_from_slice(&payload);
        self.tail.resize(self.tail.len().next_multiple_of(ROW_ALIGNMENT), 0);
        self.end += header.row_octets() as u64;
        debug_assert_eq!((self.end - self.tail.len() as u64) % BLOCK_OCTETS as u64, 0);
    }

    /// From the start of the block in which the last write ended.
    async fn write(&mut self) -> Result<(), DiskError> {
        let start = self.end - self.tail.len() as u64;
        self.is_dirty = true;
        write_padded(&self.file, start, &self.tail).await?;
        let whole = self.tail.len() / BLOCK_OCTETS * BLOCK_OCTETS;
        self.tail.drain(..whole);
        Ok(())
    }

    /// A block that is durable is never written again: what comes begins with the next one.
    async fn sync(&mut self) -> Result<(), DiskError> {
        if !core::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        self.file.sync().await?;
        self.tail.clear();
        self.end = self.end.next_multiple_of(BLOCK_OCTETS as u64);
        Ok(())
    }
}

/// What is associated with an encrypted payload, beside its place.
pub(super) fn associated(at: UnixMillis, queue_id: QueueId) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&at.0.to_le_bytes());
    out[8..].copy_from_slice(&queue_id.0.to_le_bytes());
    out
}
