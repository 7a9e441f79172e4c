//! CRC32 (ISO-HDLC, as zlib has it) seeded with what makes a frame this frame: the salt of its segment, the
//! segment's id and its own offset. A frame that was copied, recycled or forged inside a message body has
//! other seeds and is never believed (H7).

use crate::position::{Offset, Salt, SegmentId};
use crc32fast::Hasher;

/// The seeds of all frames of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    base: u32,
}

impl Seed {
    /// The seed of segment `segment` with `salt`.
    #[must_use]
    pub fn new(salt: &Salt, segment: SegmentId) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&salt.0);
        hasher.update(&segment.0.to_le_bytes());
        Self { base: hasher.finalize() }
    }

    /// A hasher for the frame at `offset`; feed it the frame's bytes.
    #[must_use]
    pub fn hasher(&self, offset: Offset) -> Hasher {
        let mut hasher = Hasher::new_with_initial(self.base);
        hasher.update(&offset.0.to_le_bytes());
        hasher
    }
}

/// The plain CRC32 of `octets`.
#[must_use]
pub fn plain(octets: &[u8]) -> u32 {
    crc32fast::hash(octets)
}
