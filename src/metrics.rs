//! Plain counters and histograms of one shard, merged by whoever shows them, never shared between cores.
//!
//! A shard counts in cells of its own: an addition, no atomic, no allocation. The control plane asks for a copy and adds
//! the copies of all shards ([`Counters::merge`]); names, units and help are its own (`control::admin`, METRICS.md).
//! Units are (message, recipient) pairs, as in the ledger of P2. Counts begin with the process; those that outlive it
//! are the store's (`bridge::Usage`).

mod histogram;
mod label;

use crate::message::authentication::{Dkim, Dmarc, Spf};
use core::cell::Cell;
pub use histogram::{Histogram, Lag, Latency, Octets, Pieces, Scale};
pub use label::{
    Admission, By, Class, Contact, GuardEvent, Handshake, Label, LookupOutcome, Origin, StorageFailure,
};

/// A number that only grows.
#[derive(Clone, Debug, Default)]
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

    /// Adds what another shard counted.
    pub fn merge(&self, other: &Self) {
        self.add(other.value());
    }
}

/// What is counted of each log.
#[derive(Clone, Debug, Default)]
pub struct LogCounters {
    /// From the write of a batch to the end of its sync.
    pub commit: Histogram<Latency>,
    /// Octets of a batch, as they are written.
    pub batch_octets: Histogram<Octets>,
    /// Records of a batch.
    pub batch_records: Histogram<Pieces>,
    /// What failed.
    pub failures: By<StorageFailure>,
}

impl LogCounters {
    /// Adds what another shard counted.
    pub fn merge(&self, other: &Self) {
        self.commit.merge(&other.commit);
        self.batch_octets.merge(&other.batch_octets);
        self.batch_records.merge(&other.batch_records);
        self.failures.merge(&other.failures);
    }
}

/// A struct whose fields can all be merged, so that none is forgotten.
macro_rules! merged {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident: $kind:ty,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default)]
        pub struct $name { $($(#[$what])* pub $field: $kind,)+ }

        impl $name {
            /// Adds what another shard counted.
            pub fn merge(&self, other: &Self) {
                $(self.$field.merge(&other.$field);)+
            }
        }
    };
}

merged! {
    /// Counts since the start of the process.
    Counters {
        /// Connections.
        connections: By<Admission>,
        /// TLS handshakes with senders.
        handshakes: By<Handshake>,
        /// Replies to senders, the greeting not among them.
        replies: By<Class>,
        /// Those among them that refuse a recipient.
        recipients_refused: Counter,
        /// Those among them that answer the end of mail data.
        end_of_data: By<Class>,
        /// From the end of mail data to the 250 that makes it ours.
        acceptance: Histogram<Latency>,
        /// Messages acknowledged.
        messages: By<Origin>,
        /// Their octets.
        octets: Counter,
        /// Units acknowledged.
        accepted: Counter,
        /// Messages with a verdict on their origin.
        authenticated: Counter,
        /// Messages without one though it was wanted: the lookup thread was behind.
        unauthenticated: Counter,
        /// Verdicts of SPF.
        spf: By<Spf>,
        /// Of each signature that was looked at.
        dkim: By<Dkim>,
        /// Of DMARC.
        dmarc: By<Dmarc>,
        /// Units that a primary took.
        delivered: Counter,
        /// Units that a primary took while their sender waited.
        proxied: Counter,
        /// Tries that a primary put off, in units.
        deferred: Counter,
        /// Units held for the operator.
        held: Counter,
        /// Units whose senders were told, or want no notice.
        bounced: Counter,
        /// Notices that were made.
        notices: Counter,
        /// Notices that nobody took.
        notices_lost: Counter,
        /// Units dropped as configured.
        discarded: Counter,
        /// Units whose delivery ended without an answer: they may arrive twice (P4).
        unknown: Counter,
        /// Rows that tell people what became of messages.
        traces: Counter,
        /// Those that could not be kept.
        traces_lost: Counter,
        /// Units that were past their time.
        expired: Counter,
        /// Units whose record is damaged.
        damaged: Counter,
        /// What primaries answered about units.
        answers: By<Class>,
        /// From handing a message to a connection to its outcome.
        delivery: Histogram<Latency>,
        /// From receiving a message to a primary taking it.
        lag: Histogram<Lag>,
        /// Sessions with primaries that were tried.
        sessions: By<Contact>,
        /// Those among them that asked whether one is back.
        probes: By<Contact>,
        /// What the bounce guard did.
        guard: By<GuardEvent>,
        /// Questions about names that mail waited for.
        lookups: By<LookupOutcome>,
        /// How long they took.
        lookup: Histogram<Latency>,
        /// The log of messages.
        mail: LogCounters,
        /// The log of facts.
        journal: LogCounters,
    }
}
