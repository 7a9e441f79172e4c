//! Whether mail of a domain may be carried through to its primary while its sender waits: what the lane of the domain knows,
//! told to the sessions of all shards.
//!
//! There is *backlog* as long as a message that was acknowledged is neither handed over nor aside (deferred, held): it is
//! counted before its 250, on the shard that took it, and the lane says up to which count nothing is left. So a session
//! that sees none will overtake nobody (P3, H42).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

/// See the module. Durations are instants of the monotonic clock.
#[derive(Debug, Default)]
pub struct Passage {
    is_up: AtomicBool,
    /// The primary lets us name clients (XCLIENT).
    is_trusted: AtomicBool,
    /// Messages that were acknowledged in this life.
    arrived: AtomicU64,
    /// So many of them have been handed over, or are aside.
    clear: AtomicU64,
    /// Nothing is carried through before this instant, in milliseconds.
    paused_until_ms: AtomicU64,
    /// The last proof of life, in milliseconds; 0: none.
    proven_ms: AtomicU64,
    /// Transactions in a row that the primary put off.
    put_off: AtomicU64,
    /// Units that a primary took while their sender waited.
    proxied: AtomicU64,
}

impl Passage {
    /// Whether the primary is up, says the lane.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    /// Whether the primary lets us name clients.
    pub fn set_trusted(&self, is_trusted: bool) {
        self.is_trusted.store(is_trusted, Ordering::Relaxed);
    }

    /// A message is durable; its 250 comes after this.
    pub fn arrive(&self) {
        // A session that sees the sender's next MAIL sees this too.
        self.arrived.fetch_add(1, Ordering::Release);
    }

    #[must_use]
    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Of the first `arrived` that reached the lane nothing waits in order any more.
    pub fn set_clear(&self, arrived: u64) {
        self.clear.store(arrived, Ordering::Release);
    }

    /// Whether the primary is up and nothing waits in order.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.is_up.load(Ordering::Relaxed) && self.arrived() == self.clear.load(Ordering::Acquire)
    }

    /// Whether the primary lets us name clients.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Nothing is carried through until then.
    pub fn pause(&self, until: Duration) {
        self.paused_until_ms.fetch_max(milliseconds(until), Ordering::Relaxed);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self, now: Duration) -> bool {
        milliseconds(now) < self.paused_until_ms.load(Ordering::Relaxed)
    }

    /// The primary greeted somebody.
    pub fn prove(&self, now: Duration) {
        self.proven_ms.store(milliseconds(now).max(1), Ordering::Relaxed);
    }

    /// Whether it did within `age`.
    #[must_use]
    pub fn is_proven(&self, now: Duration, age: Duration) -> bool {
        let proven = self.proven_ms.load(Ordering::Relaxed);
        proven > 0 && milliseconds(now) < proven + milliseconds(age)
    }

    /// Whether the primary put a transaction off, all of it; gives how many there were in a row.
    pub fn note_put_off(&self, is_put_off: bool) -> u64 {
        if is_put_off {
            return self.put_off.fetch_add(1, Ordering::Relaxed) + 1;
        }
        self.put_off.store(0, Ordering::Relaxed);
        0
    }

    /// The primary took units while their sender waited.
    pub fn note_proxied(&self, units: u64) {
        self.proxied.fetch_add(units, Ordering::Relaxed);
    }

    /// Units that a primary took so, since the start of the process: they leave no record.
    #[must_use]
    pub fn proxied(&self) -> u64 {
        self.proxied.load(Ordering::Relaxed)
    }
}

fn milliseconds(instant: Duration) -> u64 {
    u64::try_from(instant.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h42_what_was_acknowledged_is_backlog_until_the_lane_has_seen_to_it() {
        let passage = Passage::default();
        assert!(!passage.is_free(), "nobody knows how the primary is");
        passage.set_up(true);
        assert!(passage.is_free());
        passage.arrive();
        assert!(!passage.is_free(), "before its 250");
        passage.arrive();
        passage.set_clear(1);
        assert!(!passage.is_free(), "one is on its way to the lane");
        passage.set_clear(2);
        assert!(passage.is_free());
        passage.set_up(false);
        assert!(!passage.is_free());
    }

    #[test]
    fn pauses_and_proofs_end() {
        let (passage, second) = (Passage::default(), Duration::from_secs(1));
        passage.pause(9 * second);
        passage.pause(4 * second);
        assert!(passage.is_paused(8 * second) && !passage.is_paused(9 * second));
        assert!(!passage.is_proven(second, second));
        passage.prove(Duration::ZERO);
        assert!(passage.is_proven(second / 2, second) && !passage.is_proven(2 * second, second));
        assert_eq!((passage.note_put_off(true), passage.note_put_off(true)), (1, 2));
        assert_eq!((passage.note_put_off(false), passage.note_put_off(true)), (0, 1));
    }
}
