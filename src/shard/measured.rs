//! What is counted of sessions, commits, lookups and handed over mail, beside the code that does it.
//!
//! Nothing here waits, and nothing decides: each function adds to the counters of its shard.

use super::state::Shard;
use crate::bridge::{Exchanger, Lookup, LookupError, SecureExchangers};
use crate::message::authentication::Verdict;
use crate::metrics::{Class, Counters, Handshake, LogCounters, LookupOutcome, Origin, StorageFailure};
use crate::smtp::Moment;
use crate::smtp::client::{RecipientOutcome, TransactionOutcome};
use core::net::IpAddr;
use core::time::Duration;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::log::{Cost, Progress};

/// The end of mail data is answered by this code, so long after it came; `None`: the message is ours.
pub(super) fn end_of_data(counters: &Counters, code: Option<u16>, took: Duration) {
    if code.is_none() {
        counters.acceptance.took(took);
    }
    counters.end_of_data.of(code.map_or(Class::Completion, Class::of)).add(1);
}

/// Where an acknowledged message came from.
pub(super) fn accepted(counters: &Counters, origin: Origin, units: u64, octets: u64) {
    counters.messages.of(origin).add(1);
    counters.accepted.add(units);
    counters.octets.add(octets);
}

/// A handshake with a sender is over.
pub(super) fn handshake(counters: &Counters, is_done: bool) {
    let outcome = if is_done { Handshake::Completed } else { Handshake::Failed };
    counters.handshakes.of(outcome).add(1);
}

/// None is begun.
pub(super) fn refused_handshake(counters: &Counters) {
    counters.handshakes.of(Handshake::Refused).add(1);
}

/// What a session has replied since `counted`.
pub(super) fn replies(counters: &Counters, refused: u32, counted: &mut [u32; 4], now: [u32; 4]) {
    counters.recipients_refused.add(refused.into());
    let classes = [Class::Completion, Class::Intermediate, Class::Transient, Class::Permanent];
    for ((class, now), before) in classes.into_iter().zip(now).zip(*counted) {
        counters.replies.of(class).add((now - before).into());
    }
    *counted = now;
}

/// A batch of a log is durable.
pub(super) fn committed(log: &LogCounters, cost: &Cost) {
    log.commit.took(cost.took);
    log.batch_octets.observe(cost.octets);
    log.batch_records.observe(cost.records.into());
}

/// A commit came to something else.
pub(super) fn not_committed(log: &LogCounters, progress: &Progress) {
    match progress {
        Progress::Latched(..) => log.failures.of(StorageFailure::SegmentGivenUp).add(1),
        Progress::Stopped(..) => log.failures.of(StorageFailure::NoSegment).add(1),
        Progress::Closed | Progress::Committed(_) | Progress::Rolled => {}
    }
}

/// Authentication has a verdict.
pub(super) fn verdict(counters: &Counters, verdict: &Verdict) {
    counters.authenticated.add(1);
    if let Some(spf) = verdict.spf {
        counters.spf.of(spf).add(1);
    }
    if let Some(dmarc) = verdict.dmarc {
        counters.dmarc.of(dmarc).add(1);
    }
    for result in verdict.dkim.into_iter().flatten() {
        counters.dkim.of(result).add(1);
    }
}

/// A message had its outcome at a primary, so long after it was handed to the connection, and was received so long ago.
pub(super) fn answered(counters: &Counters, outcome: &TransactionOutcome, took: Duration, lag_s: u32) {
    let mut is_taken = false;
    for recipient in &outcome.recipients {
        let reply = match recipient {
            RecipientOutcome::Delivered(reply) => {
                is_taken = true;
                reply
            }
            RecipientOutcome::Deferred { reply, .. } | RecipientOutcome::Rejected { reply, .. } => reply,
            RecipientOutcome::NotTried | RecipientOutcome::Unknown => continue,
        };
        counters.answers.of(Class::of(reply.code)).add(1);
    }
    counters.delivery.took(took);
    if is_taken {
        counters.lag.observe(lag_s.into());
    }
}

/// The lookup thread, asked in the name of a shard that counts what comes of it.
pub(super) struct Asking<'a, C> {
    lookup: &'a Lookup,
    counters: &'a Counters,
    clock: &'a C,
}

impl<D: Disk, C: Clock> Shard<D, C> {
    /// Asks for names that mail waits for.
    pub(super) fn asking(&self) -> Asking<'_, C> {
        Asking { lookup: &self.lookup, counters: &self.counters, clock: &self.clock }
    }
}

impl<C: Clock> Asking<'_, C> {
    /// See [`Lookup::addresses`].
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let began = self.clock.now();
        self.heard(began, self.lookup.addresses(host).await)
    }

    /// See [`Lookup::exchangers`].
    pub(super) async fn exchangers(&self, domain: &str) -> Result<Vec<Exchanger>, LookupError> {
        let began = self.clock.now();
        self.heard(began, self.lookup.exchangers(domain).await)
    }

    /// See [`Lookup::secure_exchangers`].
    pub(super) async fn secure_exchangers(&self, domain: &str) -> Result<SecureExchangers, LookupError> {
        let began = self.clock.now();
        self.heard(began, self.lookup.secure_exchangers(domain).await)
    }

    fn heard<T>(&self, began: Moment, answer: Result<T, LookupError>) -> Result<T, LookupError> {
        let outcome = match &answer {
            Ok(_) => LookupOutcome::Found,
            Err(LookupError::NoAddress) => LookupOutcome::Missing,
            Err(LookupError::Temporary(_)) => LookupOutcome::Failed,
        };
        self.counters.lookups.of(outcome).add(1);
        self.counters.lookup.took(self.clock.now().saturating_sub(began));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::error::{AppendError, DiskError, SegmentName};
    use storage::position::{SegmentId, ShardId};

    #[test]
    fn what_fails_in_a_log_is_counted_by_what_it_is() {
        let log = LogCounters::default();
        let name = SegmentName(ShardId(0), SegmentId(1));
        not_committed(&log, &Progress::Latched(name, DiskError::NoSpace));
        not_committed(&log, &Progress::Stopped(AppendError::NoSpace, DiskError::NoSpace));
        not_committed(&log, &Progress::Stopped(AppendError::NoSpace, DiskError::NoSpace));
        not_committed(&log, &Progress::Rolled);
        assert_eq!(log.failures.values().collect::<Vec<_>>(), [("segment_given_up", 1), ("no_segment", 2)]);
        assert_eq!(log.failures.sum(), 3);
    }

    #[test]
    fn the_end_of_data_has_a_class_and_only_what_is_ours_a_latency() {
        let (counters, took) = (Counters::default(), Duration::from_millis(1));
        for code in [None, Some(250), Some(451), Some(554)] {
            end_of_data(&counters, code, took);
        }
        let classes: Vec<_> = counters.end_of_data.values().map(|(_, count)| count).collect();
        assert_eq!((classes, counters.acceptance.count()), (vec![2, 0, 1, 1], 1));
    }
}
