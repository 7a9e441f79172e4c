//! Stamps and the durable frontier over all shards (H1, H12): the only state that shards share.
//!
//! **Stamps** come from one counter. Its start is above everything that any segment, journal or the store
//! file ever named, and it never passes a ceiling that was made durable ahead of use, so neither an empty
//! log nor a clock at 1970 can step back. Numbers of segments have such a ceiling too: a start that cannot read which
//! ones are gone must not use one of them again, since another start, which can, would remove it.
//!
//! **Frontier**: each shard publishes a *floor*: every stamp of it below the floor is durable (or void), and
//! known to the owner of its domains. A shard without pending stamps publishes [`IDLE`]. The owner of a
//! domain dispatches stamps below the lowest floor only:
//!
//! > a shard publishes `floor <= counter` *before* it takes a stamp from the counter.
//!
//! So a stamp that is not yet visible in a floor is larger than every stamp taken before. All operations are
//! sequentially consistent; they happen once a commit, not once a message.

use crate::error::AppendError;
use crate::error::DiskError;
use crate::position::{SegmentId, ShardId, Stamp};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The floor of a shard that has nothing pending.
pub const IDLE: Stamp = Stamp(u64::MAX);

/// How many stamps are made safe at a time.
pub const CEILING_STEP: u64 = 1 << 24;

/// How many numbers of segments are made safe at a time: at 64 MiB each 256 GiB.
pub const NUMBERS_STEP: u32 = 4096;

/// What is to be made durable before more of it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ceilings {
    /// See [`Frontier::take`].
    pub stamp: Stamp,
    /// See [`Frontier::number`].
    pub number: SegmentId,
}

/// Stamps and floors of one process.
#[derive(Debug)]
pub struct Frontier {
    next: AtomicU64,
    ceiling: AtomicU64,
    /// The highest number that any log has taken.
    number: AtomicU32,
    number_ceiling: AtomicU32,
    floors: Vec<AtomicU64>,
    /// Stamps above this are held back (H2); all of them pass at [`u64::MAX`].
    limit: AtomicU64,
}

impl Frontier {
    /// A frontier for `shards`, whose first stamp is `next`; stamps stay below the durable `ceiling`.
    ///
    /// # Panics
    /// If `next` is no stamp or above the ceiling.
    #[must_use]
    pub fn new(shards: u16, next: Stamp, ceiling: Stamp) -> Self {
        assert!(next > Stamp::NONE);
        assert!(next <= ceiling);
        let floors = (0..shards).map(|_| AtomicU64::new(IDLE.0)).collect();
        Self {
            next: AtomicU64::new(next.0),
            ceiling: AtomicU64::new(ceiling.0),
            number: AtomicU32::new(0),
            number_ceiling: AtomicU32::new(u32::MAX),
            floors,
            limit: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes the next stamp. The caller has published a floor at or below it.
    ///
    /// # Errors
    /// [`AppendError::NoStamps`] at the ceiling: raising it has failed for 8 million messages.
    pub fn take(&self, shard: ShardId) -> Result<Stamp, AppendError> {
        debug_assert!(self.floor(shard) <= Stamp(self.next.load(Ordering::SeqCst)));
        let stamp = self.next.fetch_add(1, Ordering::SeqCst);
        if stamp < self.ceiling.load(Ordering::SeqCst) {
            Ok(Stamp(stamp))
        } else {
            Err(AppendError::NoStamps)
        }
    }

    /// A number above all that were given before, for the sequence of facts. It needs no floor: facts have no
    /// order among messages.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn sequence(&self) -> Result<Stamp, AppendError> {
        let stamp = self.next.fetch_add(1, Ordering::SeqCst);
        if stamp < self.ceiling.load(Ordering::SeqCst) {
            Ok(Stamp(stamp))
        } else {
            Err(AppendError::NoStamps)
        }
    }

    /// A log is about to use this number, or a higher one.
    ///
    /// # Errors
    /// At the ceiling: raising it has failed for thousands of segments.
    pub fn number(&self, segment: SegmentId) -> Result<SegmentId, DiskError> {
        self.number.fetch_max(segment.0, Ordering::SeqCst);
        if segment.0 < self.number_ceiling.load(Ordering::SeqCst) {
            return Ok(segment);
        }
        let reason = format!("{} is not below the ceiling in the store file", segment.0);
        Err(DiskError::Io { operation: "number of a segment", reason })
    }

    /// Publishes that this shard may take stamps from here on.
    pub fn publish_pending(&self, shard: ShardId) {
        let next = self.next.load(Ordering::SeqCst);
        self.slot(shard).store(next, Ordering::SeqCst);
    }

    /// Publishes the lowest stamp of this shard that is not yet durable, or [`IDLE`].
    pub fn publish(&self, shard: ShardId, floor: Stamp) {
        self.slot(shard).store(floor.0, Ordering::SeqCst);
    }

    /// This shard's floor.
    #[must_use]
    pub fn floor(&self, shard: ShardId) -> Stamp {
        Stamp(self.slot(shard).load(Ordering::SeqCst))
    }

    /// The floor of the running shard that writes into this directory, which need not have its number (H2).
    fn slot(&self, shard: ShardId) -> &AtomicU64 {
        &self.floors[usize::from(shard.0) % self.floors.len()]
    }

    /// Stamps below this are durable on every shard; the owner reads it *before* it empties its inbox.
    #[must_use]
    pub fn horizon(&self) -> Stamp {
        let next = self.next.load(Ordering::SeqCst);
        let lowest = self.floors.iter().map(|floor| floor.load(Ordering::SeqCst)).min();
        let limit = self.limit.load(Ordering::SeqCst).saturating_add(1);
        Stamp(lowest.unwrap_or(next).min(next).min(limit))
    }

    /// A shard is missing: what is above the last stamp that is known of it waits for its return (H2).
    pub fn hold_back(&self, last: Stamp) {
        self.limit.fetch_min(last.0, Ordering::SeqCst);
    }

    /// The stamp above which all is held back, if a shard is missing.
    #[must_use]
    pub fn held_back_above(&self) -> Option<Stamp> {
        let limit = self.limit.load(Ordering::SeqCst);
        (limit != u64::MAX).then_some(Stamp(limit))
    }

    /// The ceilings to persist now, if fewer than half a step is left below one of the present ones.
    #[must_use]
    pub fn ceilings_wanted(&self) -> Option<Ceilings> {
        let (next, stamps) = (self.next.load(Ordering::SeqCst), self.ceiling.load(Ordering::SeqCst));
        let (number, numbers) =
            (self.number.load(Ordering::SeqCst), self.number_ceiling.load(Ordering::SeqCst));
        let stamp = if stamps.saturating_sub(next) < CEILING_STEP / 2 {
            next.max(stamps) + CEILING_STEP
        } else {
            stamps
        };
        let ceiling = number_ceiling(SegmentId(numbers), SegmentId(number)).0;
        (stamp > stamps || ceiling > numbers)
            .then_some(Ceilings { stamp: Stamp(stamp), number: SegmentId(ceiling) })
    }

    /// The raised ceilings are durable.
    pub fn ceilings_raised(&self, ceilings: &Ceilings) {
        self.ceiling.fetch_max(ceilings.stamp.0, Ordering::SeqCst);
        self.number_ceiling.fetch_max(ceilings.number.0, Ordering::SeqCst);
    }

    /// The ceiling of numbers that this process starts with; none before.
    pub fn limit_numbers(&self, ceiling: SegmentId) {
        self.number_ceiling.store(ceiling.0, Ordering::SeqCst);
    }
}

/// The ceiling for going on behind `last`: the present one while half a step is left.
#[must_use]
pub fn number_ceiling(present: SegmentId, last: SegmentId) -> SegmentId {
    if present.0.saturating_sub(last.0) < NUMBERS_STEP / 2 {
        SegmentId(present.0.max(last.0).saturating_add(NUMBERS_STEP))
    } else {
        present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn horizon_stays_below_a_pending_stamp() {
        let frontier = Frontier::new(2, Stamp(10), Stamp(100));
        assert_eq!(frontier.horizon(), Stamp(10));
        frontier.publish_pending(ShardId(1));
        let slow = frontier.take(ShardId(1)).unwrap();
        frontier.publish_pending(ShardId(0));
        let fast = frontier.take(ShardId(0)).unwrap();
        frontier.publish(ShardId(0), IDLE);
        assert!(slow < fast);
        assert_eq!(frontier.horizon(), slow, "H12: the fast shard's later stamp must wait");
        frontier.publish(ShardId(1), IDLE);
        assert!(frontier.horizon() > fast);
    }

    #[test]
    fn no_stamp_at_or_above_the_durable_ceiling() {
        let frontier = Frontier::new(1, Stamp(98), Stamp(100));
        frontier.publish_pending(ShardId(0));
        assert_eq!(frontier.take(ShardId(0)), Ok(Stamp(98)));
        assert_eq!(frontier.take(ShardId(0)), Ok(Stamp(99)));
        assert_eq!(frontier.take(ShardId(0)), Err(AppendError::NoStamps));
        let wanted = frontier.ceilings_wanted().unwrap();
        frontier.ceilings_raised(&wanted);
        assert!(frontier.take(ShardId(0)).is_ok());
    }

    #[test]
    fn no_number_at_or_above_the_durable_ceiling() {
        let frontier = Frontier::new(1, Stamp(1), Stamp(2 * CEILING_STEP));
        frontier.limit_numbers(SegmentId(NUMBERS_STEP));
        assert_eq!(frontier.ceilings_wanted(), None);
        let last = SegmentId(NUMBERS_STEP - 1);
        assert_eq!(frontier.number(last), Ok(last));
        assert!(frontier.number(SegmentId(NUMBERS_STEP)).is_err());
        let wanted = frontier.ceilings_wanted().unwrap();
        assert_eq!(wanted.stamp, Stamp(2 * CEILING_STEP), "there are stamps enough");
        frontier.ceilings_raised(&wanted);
        assert!(frontier.number(SegmentId(NUMBERS_STEP)).is_ok());
        assert_eq!(frontier.ceilings_wanted(), None);
    }
}
