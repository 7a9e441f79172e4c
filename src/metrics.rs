//! Plain counters of one shard, merged by whoever shows them, never shared between cores.
//!
//! Units are (message, recipient) pairs, as in the ledger of P2.

use core::cell::Cell;

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub connections: Counter,
    /// Connections refused by a cap.
    pub refused: Counter,
    /// Messages acknowledged.
    pub messages: Counter,
    /// Units acknowledged.
    pub accepted: Counter,
    /// Messages with a verdict on their origin.
    pub authenticated: Counter,
    /// Messages without one though it was wanted: the lookup thread was behind.
    pub unauthenticated: Counter,
    /// Units that a primary took.
    pub delivered: Counter,
    /// Units that a primary took while their sender waited.
    pub proxied: Counter,
    /// Tries that a primary put off, in units.
    pub deferred: Counter,
    /// Units held for the operator.
    pub held: Counter,
    /// Units whose senders were told, or want no notice.
    pub bounced: Counter,
    /// Notices that were made.
    pub notices: Counter,
    /// Notices that nobody took.
    pub notices_lost: Counter,
    /// Units dropped as configured.
    pub discarded: Counter,
    /// Units whose delivery ended without an answer: they may arrive twice (P4).
    pub unknown: Counter,
    /// Units that were past their time.
    pub expired: Counter,
    /// Units whose record is damaged.
    pub damaged: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}
