//! Frames into octets and back: checksums and, where a segment is encrypted, its cipher.

use crate::crypt::{Cipher, CipherPlace, KeyError, Keys, TAG_OCTETS};
use crate::format::checksum::Seed;
use crate::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, PLAIN};
use crate::position::Offset;
use std::borrow::Cow;

/// How frames of a segment are protected.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// The seed of its checksums.
    pub seed: &'a Seed,
    /// The cipher of its mail.
    pub cipher: Option<&'a Cipher>,
}

impl Sealing<'_> {
    /// Octets that a payload grows by.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        if self.cipher.is_some() { TAG_OCTETS } else { 0 }
    }
}

/// Fills `frame`, which ends with the padding, at `offset` of its segment; `header` has its payload's length.
pub fn write_frame(
    frame: &mut [u8],
    seal: &Sealing<'_>,
    header: &mut FrameHeader,
    offset: Offset,
    parts: &[&[u8]],
) {
    let mut hasher = seal.seed.hasher(offset);
    let mut at = FRAME_HEADER_OCTETS;
    let end = at + header.payload_length as usize;
    for part in parts {
        let next = at + part.len();
        frame[at..next].copy_from_slice(part);
        if seal.cipher.is_none() {
            // Checksummed from the copy, while it is warm in the cache: what the disk gets is what was summed.
            hasher.update(&frame[at..next]);
        }
        at = next;
    }
    if let Some(cipher) = seal.cipher {
        header.key_id = cipher.key_id;
        cipher.seal(header, offset, &mut frame[FRAME_HEADER_OCTETS..end]);
        hasher.update(&frame[FRAME_HEADER_OCTETS..end]);
    }
    frame[end..].fill(0);
    header.payload_checksum = hasher.finalize();
    frame[..FRAME_HEADER_OCTETS].copy_from_slice(&header.encode(seal.seed, offset));
}

/// Opens payloads of one segment, by the keys that there are.
#[derive(Debug)]
pub struct Opener<'a> {
    keys: &'a Keys,
    place: CipherPlace,
    /// The last one used: all frames of a segment have the same.
    cipher: Option<Cipher>,
}

/// Why a payload whose checksum holds cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// It was altered together with its checksum, or is another place's.
    Altered,
    /// Its key is not here.
    Locked(KeyError),
}

impl<'a> Opener<'a> {
    /// For the segment at `place`.
    #[must_use]
    pub const fn new(keys: &'a Keys, place: CipherPlace) -> Self {
        Self { keys, place, cipher: None }
    }

    /// The plain payload of the frame with this header at `offset`, whose checksum was checked.
    ///
    /// # Errors
    /// See [`Unopened`].
    pub fn open<'b>(
        &mut self,
        header: &FrameHeader,
        offset: Offset,
        payload: &'b [u8],
    ) -> Result<Cow<'b, [u8]>, Unopened> {
        if header.key_id == PLAIN {
            return Ok(Cow::Borrowed(payload));
        }
        let cipher = match self.cipher.take().filter(|cipher| cipher.key_id == header.key_id) {
            Some(cipher) => cipher,
            None => self.keys.cipher(header.key_id, &self.place).map_err(Unopened::Locked)?,
        };
        let cipher = self.cipher.insert(cipher);
        let mut opened = payload.to_vec();
        let octets = cipher.open(header, offset, &mut opened).map_err(|_| Unopened::Altered)?.len();
        opened.truncate(octets);
        Ok(Cow::Owned(opened))
    }
}
