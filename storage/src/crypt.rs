//! Encryption at rest: AES-256-GCM over the payloads of mail, messages and chunks (H9).
//!
//! - Each segment has a subkey of its own: HKDF-SHA256 (RFC 5869) of the master key, with the segment's random salt as
//!   salt and the store and the segment's number as info. A recycled number, a copied file or a virtual machine that was
//!   rolled back never meets the same subkey twice, since the salt is drawn anew for each file.
//! - The nonce is the frame's offset. A log never writes twice at one offset: a failed segment is given up, and
//!   nothing is appended after a restart.
//! - Position and header are associated data: a payload that was moved does not open.
//!
//! Journals and indexes are not encrypted: they name domains, stamps and counts, no mailbox and no mail.
//! A key file holds the keys by number; the highest is used for new segments, the others to read old ones until
//! compaction has rewritten these.

use crate::format::frame::FrameHeader;
use crate::format::segment_header::{KeyMark, SegmentHeader};
use crate::position::{Offset, Salt, SegmentId, ShardId, StoreId};
use core::fmt;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Okm, Salt as HkdfSalt};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Octets that encryption adds to a payload.
pub const TAG_OCTETS: usize = MAX_TAG_LEN;
/// The same, as it stands in lengths of frames.
pub(crate) const TAG_OCTETS_U32: u32 = 16;
const _: () = assert!(TAG_OCTETS_U32 as usize == TAG_OCTETS);
/// Octets of a master key.
pub const KEY_OCTETS: usize = 32;

/// The master keys of a store, by number. Keys can be added while segments are written.
#[derive(Default)]
pub struct Keys {
    keys: RwLock<BTreeMap<u32, MasterKey>>,
}

type MasterKey = [u8; KEY_OCTETS];

/// What is wrong with a key file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Neither a key nor a comment.
    #[error("line {0}: not a key: a number from 1 on, a space, 64 hexadecimal digits")]
    Line(usize),
    /// No key in it.
    #[error("it holds no key: write one with `echo \"1 $(openssl rand -hex 32)\"`")]
    None,
    /// The number stands there twice.
    #[error("line {0}: key {1} stands there twice")]
    Twice(usize, u32),
}

/// Why the key of a segment cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no key with this number.
    #[error("encrypted with key {0}, which the key file (storage.key_file) does not hold")]
    Missing(u32),
    /// The key with this number is another one.
    #[error("encrypted with another key {0} than the one in the key file")]
    Wrong(u32),
}

/// A payload that does not open: it was altered, or it is another place's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed;

impl Keys {
    /// The keys in a key file: a line a key, `<number> <64 hexadecimal digits>`; empty lines and `#` comments aside.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let parsed = line.split_once(char::is_whitespace).and_then(|(id, hex)| {
                let id = id.parse().ok().filter(|id| *id > 0)?;
                Some((id, parse_hex(hex.trim())?))
            });
            let (id, key) = parsed.ok_or(KeyFileError::Line(number))?;
            if keys.insert(id, key).is_some() {
                return Err(KeyFileError::Twice(number, id));
            }
        }
        if keys.is_empty() {
            return Err(KeyFileError::None);
        }
        Ok(Self { keys: RwLock::new(keys) })
    }

    /// Takes over `others`, which hold all of these too.
    ///
    /// # Errors
    /// See [`KeyError`]: one of these is not among them, or is another one; then nothing changes.
    pub fn extend(&self, others: &Self) -> Result<(), KeyError> {
        let others = others.read().clone();
        for (id, key) in &*self.read() {
            match others.get(id) {
                Some(other) if other == key => {}
                Some(_) => return Err(KeyError::Wrong(*id)),
                None => return Err(KeyError::Missing(*id)),
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = others;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, MasterKey>> {
        // Nothing panics while it is held.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no key: nothing is encrypted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The mark of the key that new segments are encrypted with; `None` without keys.
    #[must_use]
    pub fn mark(&self, store: StoreId) -> Option<KeyMark> {
        let keys = self.read();
        let (key_id, key) = keys.last_key_value()?;
        Some(KeyMark { key_id: *key_id, check: derive(key, &store.0, &[CHECK_INFO]) })
    }

    /// The mark of key `key_id`; `None` if it is not here.
    #[must_use]
    pub fn mark_of(&self, key_id: u32, store: StoreId) -> Option<KeyMark> {
        let keys = self.read();
        let key = keys.get(&key_id)?;
        Some(KeyMark { key_id, check: derive(key, &store.0, &[CHECK_INFO]) })
    }

    /// Whether the key that `mark` speaks of is here.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn verify(&self, mark: KeyMark, store: StoreId) -> Result<(), KeyError> {
        let keys = self.read();
        let key = keys.get(&mark.key_id).ok_or(KeyError::Missing(mark.key_id))?;
        let check: [u8; 16] = derive(key, &store.0, &[CHECK_INFO]);
        if check == mark.check { Ok(()) } else { Err(KeyError::Wrong(mark.key_id)) }
    }

    /// The cipher of one segment under key `key_id`.
    ///
    /// # Errors
    /// [`KeyError::Missing`].
    pub fn cipher(&self, key_id: u32, place: &CipherPlace) -> Result<Cipher, KeyError> {
        let keys = self.read();
        let key = keys.get(&key_id).ok_or(KeyError::Missing(key_id))?;
        let info: [&[u8]; 4] =
            [SEGMENT_INFO, &place.store.0, &place.shard.0.to_le_bytes(), &place.segment.0.to_le_bytes()];
        let subkey: [u8; KEY_OCTETS] = derive(key, &place.salt.0, &info);
        let unbound = UnboundKey::new(&AES_256_GCM, &subkey).expect("32 octets are a key of AES-256");
        Ok(Cipher { key_id, segment: place.segment, shard: place.shard, key: LessSafeKey::new(unbound) })
    }
}

/// What a subkey is derived from, besides the master key.
#[derive(Clone, Copy, Debug)]
pub struct CipherPlace {
    /// The store.
    pub store: StoreId,
    /// The shard.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// Its salt.
    pub salt: Salt,
}

impl CipherPlace {
    /// Of a segment with this header.
    #[must_use]
    pub const fn of(header: &SegmentHeader) -> Self {
        Self { store: header.store, shard: header.shard, segment: header.segment, salt: header.salt }
    }
}

/// The cipher of one segment.
pub struct Cipher {
    /// The number of its master key.
    pub key_id: u32,
    segment: SegmentId,
    shard: ShardId,
    key: LessSafeKey,
}

impl Cipher {
    /// Encrypts `payload`, which leaves room for the tag at its end, as the frame with this header at `offset`.
    pub fn seal(&self, header: &FrameHeader, offset: Offset, payload: &mut [u8]) {
        let plain = payload.len() - TAG_OCTETS;
        let (text, room) = payload.split_at_mut(plain);
        let aad = Aad::from(self.associated(header, offset));
        let tag = self.key.seal_in_place_separate_tag(nonce(offset), aad, text);
        // It fails for texts of 64 GiB.
        room.copy_from_slice(tag.expect("a payload fits a batch").as_ref());
    }

    /// Decrypts `payload`, which is the frame with this header at `offset`; returns the plain part of it.
    ///
    /// # Errors
    /// [`Sealed`].
    pub fn open<'a>(
        &self,
        header: &FrameHeader,
        offset: Offset,
        payload: &'a mut [u8],
    ) -> Result<&'a mut [u8], Sealed> {
        let aad = Aad::from(self.associated(header, offset));
        self.key.open_in_place(nonce(offset), aad, payload).map_err(|_| Sealed)
    }

    /// Encrypts a row of a trace that lies at `offset`; its header is associated. Room for the tag is at the end of `payload`.
    pub fn seal_row(&self, row: &[u8], offset: Offset, payload: &mut [u8]) {
        let plain = payload.len() - TAG_OCTETS;
        let (text, room) = payload.split_at_mut(plain);
        let aad = Aad::from(self.associated_row(row, offset));
        let tag = self.key.seal_in_place_separate_tag(nonce(offset), aad, text);
        room.copy_from_slice(tag.expect("a row is far below 64 GiB").as_ref());
    }

    /// Decrypts a row of a trace.
    ///
    /// # Errors
    /// [`Sealed`].
    pub fn open_row<'a>(
        &self,
        row: &[u8],
        offset: Offset,
        payload: &'a mut [u8],
    ) -> Result<&'a mut [u8], Sealed> {
        let aad = Aad::from(self.associated_row(row, offset));
        self.key.open_in_place(nonce(offset), aad, payload).map_err(|_| Sealed)
    }

    /// `trace`, time and queue id, shard, number of the file, offset: of a length that no frame's has.
    fn associated_row(&self, row: &[u8], offset: Offset) -> Vec<u8> {
        let mut out = b"trace".to_vec();
        out.extend_from_slice(row);
        out.extend_from_slice(&self.shard.0.to_le_bytes());
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&offset.0.to_le_bytes());
        out
    }

    /// Kind, stamp, received, queue id, unit base, shard, segment, offset.
    fn associated(&self, header: &FrameHeader, offset: Offset) -> [u8; 43] {
        let mut out = [0; 43];
        out[0] = header.kind.code();
        out[1..9].copy_from_slice(&header.stamp.0.to_le_bytes());
        out[9..17].copy_from_slice(&header.received.0.to_le_bytes());
        out[17..25].copy_from_slice(&header.queue_id.0.to_le_bytes());
        out[25..29].copy_from_slice(&header.unit_base.to_le_bytes());
        out[29..31].copy_from_slice(&self.shard.0.to_le_bytes());
        out[31..35].copy_from_slice(&self.segment.0.to_le_bytes());
        out[35..43].copy_from_slice(&offset.0.to_le_bytes());
        out
    }
}

const CHECK_INFO: &[u8] = b"stratamx key check 1";
const SEGMENT_INFO: &[u8] = b"stratamx segment 1";

fn nonce(offset: Offset) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&offset.0.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn derive<const N: usize>(key: &[u8; KEY_OCTETS], salt: &[u8], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let filled = HkdfSalt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(info, Length(N))
        .and_then(|material: Okm<'_, Length>| material.fill(&mut out));
    filled.expect("far below 255 blocks of the hash");
    out
}

/// Octets of derived material.
#[derive(Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn parse_hex(hex: &str) -> Option<[u8; KEY_OCTETS]> {
    let mut key = [0; KEY_OCTETS];
    if hex.len() != 2 * KEY_OCTETS || !hex.is_ascii() {
        return None;
    }
    for (octet, digits) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digits = core::str::from_utf8(digits).ok()?;
        *octet = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    }
    Some(key)
}

// Keys stay out of logs.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.read().keys()).finish()
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher(key {})", self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::{FrameKind, blank_header};
    use crate::position::{QueueId, Stamp, UnixMillis};

    const PLACE: CipherPlace = CipherPlace {
        store: StoreId([1; 16]),
        shard: ShardId(2),
        segment: SegmentId(3),
        salt: Salt([4; 16]),
    };

    fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap()
    }

    fn key_line(id: u32, digit: char) -> String {
        format!("{id} {}\n", digit.to_string().repeat(64))
    }

    fn header() -> FrameHeader {
        blank_header(FrameKind::Message, Stamp(9), UnixMillis(1), QueueId(7))
    }

    #[test]
    fn h9_a_payload_opens_at_its_own_place_only() {
        let keys = keys(&key_line(1, 'a'));
        let cipher = keys.cipher(1, &PLACE).unwrap();
        let mut payload = b"mail".to_vec();
        payload.resize(4 + TAG_OCTETS, 0);
        cipher.seal(&header(), Offset(4096), &mut payload);
        assert_ne!(&payload[..4], b"mail");
        assert_eq!(cipher.open(&header(), Offset(4096), &mut payload.clone()).unwrap(), b"mail");
        assert!(cipher.open(&header(), Offset(4104), &mut payload.clone()).is_err(), "another offset");
        let other = FrameHeader { stamp: Stamp(10), ..header() };
        assert!(cipher.open(&other, Offset(4096), &mut payload.clone()).is_err(), "another header");
        for place in [
            CipherPlace { salt: Salt([5; 16]), ..PLACE },
            CipherPlace { segment: SegmentId(4), ..PLACE },
            CipherPlace { store: StoreId([2; 16]), ..PLACE },
        ] {
            let other = keys.cipher(1, &place).unwrap();
            assert!(other.open(&header(), Offset(4096), &mut payload.clone()).is_err(), "{place:?}");
        }
    }

    #[test]
    fn h9_one_offset_of_two_segments_has_two_key_streams() {
        let keys = keys(&key_line(1, 'a'));
        let mut sealed = Vec::new();
        for salt in [4, 5] {
            let cipher = keys.cipher(1, &CipherPlace { salt: Salt([salt; 16]), ..PLACE }).unwrap();
            let mut payload = vec![0; 64 + TAG_OCTETS];
            cipher.seal(&header(), Offset(4096), &mut payload);
            sealed.push(payload);
        }
        assert_ne!(sealed[0], sealed[1], "a number that is used again has another salt");
    }

    #[test]
    fn a_wrong_key_is_told_from_a_missing_one() {
        let mark = keys(&key_line(1, 'a')).mark(PLACE.store).unwrap();
        assert_eq!(keys(&key_line(1, 'a')).verify(mark, PLACE.store), Ok(()));
        assert_eq!(keys(&key_line(1, 'b')).verify(mark, PLACE.store), Err(KeyError::Wrong(1)));
        assert_eq!(keys(&key_line(2, 'a')).verify(mark, PLACE.store), Err(KeyError::Missing(1)));
        assert_eq!(keys(&(key_line(2, 'c') + &key_line(1, 'a'))).mark(PLACE.store).unwrap().key_id, 2);
    }

    #[test]
    fn keys_are_added_and_never_taken_away() {
        let ours = keys(&key_line(1, 'a'));
        assert_eq!(ours.extend(&keys(&key_line(2, 'b'))), Err(KeyError::Missing(1)));
        assert_eq!(ours.extend(&keys(&(key_line(1, 'c') + &key_line(2, 'b')))), Err(KeyError::Wrong(1)));
        assert_eq!(ours.mark(PLACE.store).unwrap().key_id, 1);
        assert_eq!(ours.extend(&keys(&(key_line(1, 'a') + &key_line(2, 'b')))), Ok(()));
        assert_eq!(ours.mark(PLACE.store).unwrap().key_id, 2);
    }

    #[test]
    fn a_key_file_says_what_is_wrong_with_it() {
        let good = key_line(1, 'a');
        assert!(Keys::parse(&format!("# ours\n\n{good}")).is_ok());
        assert_eq!(Keys::parse("# none\n").unwrap_err(), KeyFileError::None);
        assert_eq!(Keys::parse(&format!("{good}{good}")).unwrap_err(), KeyFileError::Twice(2, 1));
        for bad in
            ["1 abc", "0 ", &"f".repeat(64), &good.replacen('a', "g", 1), &good.replacen("aa", "+1", 1)]
        {
            assert_eq!(Keys::parse(bad).unwrap_err(), KeyFileError::Line(1), "{bad}");
        }
    }
}
