//! Positions and identities as types: no bare integer names a place in the log.
//!
//! A [`Position`] is a shard, a segment and an offset. The three boundaries of an active segment are three
//! types, so that a function which promises durability cannot be handed a mere append:
//! `appended >= written >= durable` holds at any instant and is asserted where they move.
//!
//! A [`Stamp`] orders messages over all shards and restarts; it is not a time. A [`QueueId`] names a message
//! for people and logs; it is drawn before the stamp, since it stands in our Received field.

use core::fmt;

/// One shard directory, `shard-NN`. More of them than cores exist after the number of cores shrank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// One segment of a shard; ids start at 1 and never return.
#[derive(Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u32);

/// A byte offset from the start of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub u64);

/// A frame's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The directory.
    pub shard: ShardId,
    /// The file.
    pub segment: SegmentId,
    /// The first byte of the frame's header.
    pub offset: Offset,
}

/// Everything below is in a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Appended(pub Offset);

/// Everything below was handed to the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Written(pub Offset);

/// Everything below is on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Durable(pub Offset);

/// The order of a message among all others: process-wide, strictly increasing over shards and restarts.
/// 0 is no stamp (chunks carry none).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp(pub u64);

/// Identity of a message for people: incarnation of the store (20 bits), shard (10), number (34).
/// Shown as 13 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId(pub u64);

/// Milliseconds since 1970 by the wall clock. Never used for order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixMillis(pub u64);

/// The random identity of a data directory; a segment of another store is foreign.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreId(pub [u8; 16]);

/// The random salt of one segment; under each of its checksums (H7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt(pub [u8; 16]);

impl Stamp {
    /// No stamp.
    pub const NONE: Self = Self(0);

    /// The stamp behind this one.
    #[must_use]
    pub const fn after(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Offset {
    /// The offset `octets` further on.
    #[must_use]
    pub const fn plus(self, octets: u64) -> Self {
        Self(self.0 + octets)
    }
}

const INCARNATION_BITS: u32 = 20;
const SHARD_BITS: u32 = 10;
const NUMBER_BITS: u32 = 34;
const _: () = assert!(INCARNATION_BITS + SHARD_BITS + NUMBER_BITS == 64);

/// Most shards of a store: their number is part of a queue id.
pub const SHARDS_MAX: u16 = 1 << SHARD_BITS;

impl QueueId {
    /// The id of message `number` of `shard` since the `incarnation`-th start of the store. All three wrap;
    /// an id returns after a million restarts or 17 billion messages of one shard.
    #[must_use]
    pub const fn new(incarnation: u64, shard: ShardId, number: u64) -> Self {
        let incarnation = incarnation & ((1 << INCARNATION_BITS) - 1);
        let shard = shard.0 as u64 & ((1 << SHARD_BITS) - 1);
        let number = number & ((1 << NUMBER_BITS) - 1);
        Self(incarnation << (SHARD_BITS + NUMBER_BITS) | shard << NUMBER_BITS | number)
    }

    /// The directory that the message was written into.
    #[must_use]
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> NUMBER_BITS & ((1 << SHARD_BITS) - 1)) as u16)
    }

    /// The id that [`fmt::Display`] wrote, in either case of letters; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != QUEUE_ID_CHARACTERS {
            return None;
        }
        let mut value: u64 = 0;
        for character in text.bytes() {
            let digit = ALPHABET.iter().position(|c| *c == character.to_ascii_uppercase())?;
            value = value.checked_mul(32)?.checked_add(digit as u64)?;
        }
        Some(Self(value))
    }
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const QUEUE_ID_CHARACTERS: usize = 13;

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; QUEUE_ID_CHARACTERS];
        for (i, character) in text.iter_mut().enumerate() {
            let shift = 5 * (QUEUE_ID_CHARACTERS - 1 - i);
            *character = ALPHABET[(self.0 >> shift & 31) as usize];
        }
        f.pad(core::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard-{:02}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.shard, self.segment.0, self.offset.0)
    }
}

impl fmt::Debug for Salt {
    // A salt that leaks into a log would let its reader forge frames (H7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_id_survives_its_own_text() {
        for id in [QueueId(0), QueueId(u64::MAX), QueueId::new(3, ShardId(1), 77)] {
            assert_eq!(QueueId::parse(&id.to_string()), Some(id));
            assert_eq!(QueueId::parse(&id.to_string().to_lowercase()), Some(id));
        }
        assert_eq!(QueueId::parse("short"), None);
        assert_eq!(QueueId::parse("ZZZZZZZZZZZZZ"), None, "13 digits of 5 bits are one more than 64");
    }

    #[test]
    fn queue_ids_of_two_incarnations_differ() {
        assert_ne!(QueueId::new(1, ShardId(0), 5), QueueId::new(2, ShardId(0), 5));
        assert_ne!(QueueId::new(1, ShardId(0), 5), QueueId::new(1, ShardId(1), 5));
    }
}
