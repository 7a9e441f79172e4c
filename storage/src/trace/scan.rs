//! Reading: a piece at a time, so that whoever reads can give others a turn.

use super::TraceFile;
use super::journal::associated;
use crate::crypt::{Cipher, CipherPlace, KeyError, Keys};
use crate::disk::{Disk, File};
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::checksum::Seed;
use crate::format::trace::{ROW_HEADER_OCTETS, RowHeader, TraceHeader, TraceRow};
use crate::position::{Offset, QueueId, SegmentId, StoreId, UnixMillis};

/// Octets that are read at a time.
const READ_OCTETS: usize = 128 * 1024;

/// A row that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// When it was so.
    pub at: UnixMillis,
    /// The message; 0 where its record could not be read.
    pub queue_id: QueueId,
    /// What it says.
    pub row: TraceRow,
}

/// Why a file cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk's word.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its header is none, or another file's.
    #[error("the header cannot be read")]
    Header,
    /// Its key is not at hand.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A file that is read.
#[derive(Debug)]
pub struct TraceScan<F> {
    file: F,
    seed: Seed,
    cipher: Option<Cipher>,
    /// Where the next row begins.
    offset: u64,
    length: u64,
    is_over: bool,
}

impl<F: File> TraceScan<F> {
    /// Opens a file, to be read from `offset` on; 0: from its first row.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub async fn open<D: Disk<File = F>>(
        disk: &D,
        keys: &Keys,
        store: Option<StoreId>,
        name: &TraceFile,
        offset: u64,
    ) -> Result<Self, ScanError> {
        let file = disk.open(&name.path()).await?;
        let block = file.read(0, BLOCK_OCTETS).await?;
        let header = TraceHeader::decode(&block).ok_or(ScanError::Header)?;
        let is_it = (header.shard, header.number, header.day) == (name.shard, name.number, name.day)
            && store.is_none_or(|store| store == header.store);
        if !is_it {
            return Err(ScanError::Header);
        }
        let cipher = match header.key {
            None => None,
            Some(mark) => {
                keys.verify(mark, header.store)?;
                let place = CipherPlace {
                    store: header.store,
                    shard: header.shard,
                    segment: SegmentId(header.number),
                    salt: header.salt,
                };
                Some(keys.cipher(mark.key_id, &place)?)
            }
        };
        let length = file.length().await?;
        let offset = offset.max(BLOCK_OCTETS as u64);
        Ok(Self { file, seed: header.seed(), cipher, offset, length, is_over: false })
    }

    /// Where it goes on.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there is no further row: they end with the file, or with a block that begins with none.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The rows of the next piece, until `takes` says no behind one.
    ///
    /// # Errors
    /// The disk's.
    pub async fn next(&mut self, mut takes: impl FnMut(Found) -> bool) -> Result<(), DiskError> {
        let mut octets = self.file.read(self.offset, READ_OCTETS).await?;
        let mut at = 0;
        loop {
            let left = octets.get(at..).unwrap_or_default();
            if left.len() < ROW_HEADER_OCTETS {
                self.is_over = at == 0 || self.offset >= self.length;
                return Ok(());
            }
            let header = RowHeader::decode(left);
            let row_octets = header.map_or(0, |header| header.row_octets());
            if left.len() < row_octets && self.offset + row_octets as u64 <= self.length {
                if at > 0 {
                    return Ok(());
                }
                octets = self.file.read(self.offset, row_octets).await?;
                if octets.len() < row_octets {
                    self.is_over = true;
                    return Ok(());
                }
                continue;
            }
            let offset = Offset(self.offset);
            let payload = header.and_then(|header| {
                let end = ROW_HEADER_OCTETS + header.payload_octets as usize;
                let payload = left.get(ROW_HEADER_OCTETS..end)?;
                header.is_of(&self.seed, offset, payload).then_some((header, payload))
            });
            let Some((header, payload)) = payload else {
                let block = BLOCK_OCTETS as u64;
                if self.offset.is_multiple_of(block) {
                    self.is_over = true;
                    return Ok(());
                }
                let next = self.offset.next_multiple_of(block);
                at += usize::try_from(next - self.offset).expect("less than a block");
                self.offset = next;
                continue;
            };
            let row = self.opened(&header, offset, payload);
            (at, self.offset) = (at + row_octets, self.offset + row_octets as u64);
            let Some(row) = row else { continue };
            if !takes(Found { at: header.at, queue_id: header.queue_id, row }) {
                return Ok(());
            }
        }
    }

    /// A row that this program cannot read is passed over.
    fn opened(&self, header: &RowHeader, offset: Offset, payload: &[u8]) -> Option<TraceRow> {
        let Some(cipher) = &self.cipher else { return TraceRow::decode(payload) };
        let mut opened = payload.to_vec();
        let plain = cipher.open_row(&associated(header.at, header.queue_id), offset, &mut opened).ok()?;
        TraceRow::decode(plain)
    }
}
