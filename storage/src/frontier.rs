//! Stamps and the durable frontier over all shards (H1, H12): the only state that shards share.
//!
//! **Stamps** come from one counter. Its start is above everything that any segment, journal or the store
//! file ever named, and it never passes a ceiling that was made durable ahead of use, so neither an empty
//! log nor a clock at 1970 can step back.
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
use crate::position::{ShardId, Stamp};
use core::sync::atomic::{AtomicU64, Ordering};

/// The floor of a shard that has nothing pending.
pub const IDLE: Stamp = Stamp(u64::MAX);

/// How many stamps are made safe at a time.
pub const CEILING_STEP: u64 = 1 << 24;

/// Stamps and floors of one process.
#[derive(Debug)]
pub struct Frontier {
    next: AtomicU64,
    ceiling: AtomicU64,
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

    /// The ceiling to persist now, if fewer than half a step is left below the present one.
    #[must_use]
    pub fn ceiling_wanted(&self) -> Option<Stamp> {
        let next = self.next.load(Ordering::SeqCst);
        let ceiling = self.ceiling.load(Ordering::SeqCst);
        (ceiling.saturating_sub(next) < CEILING_STEP / 2).then(|| Stamp(next.max(ceiling) + CEILING_STEP))
    }

    /// The raised ceiling is durable.
    pub fn ceiling_raised(&self, ceiling: Stamp) {
        self.ceiling.fetch_max(ceiling.0, Ordering::SeqCst);
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
        let wanted = frontier.ceiling_wanted().unwrap();
        frontier.ceiling_raised(wanted);
        assert!(frontier.take(ShardId(0)).is_ok());
    }
}
