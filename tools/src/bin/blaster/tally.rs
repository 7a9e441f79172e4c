//! What a run counts: totals of each worker, and slices of time that all workers fill together.
//!
//! Latencies travel in the slices only: a worker hands each slice over when its time is past, and the main thread puts the slices
//! of one time together. So nothing is shared while messages are sent, and an hour keeps a few numbers a slice, not its histograms.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Length of a slice.
pub(crate) const SLICE: Duration = Duration::from_millis(200);
/// Behind its intended time by this much, a message was late.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// What became of faults (`malformed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) refused: u64,
    /// The server hung up without a word.
    pub(crate) dropped: u64,
    pub(crate) taken: u64,
}

/// What a worker counts over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages that were to be sent.
    pub(crate) offered: u64,
    pub(crate) acknowledged: u64,
    /// Messages of senders who drip: beside the load, in none of the other numbers.
    pub(crate) slow_acknowledged: u64,
    pub(crate) slow_failed: u64,
    /// Answered by 5xx, in whole or for some recipients.
    pub(crate) rejected: u64,
    /// Given up without a final answer.
    pub(crate) given_up: u64,
    /// Never sent: the queue of arrivals was full.
    pub(crate) dropped: u64,
    /// Sent later than intended.
    pub(crate) late: u64,
    /// Without an answer when the run was ended.
    pub(crate) unfinished: u64,
    /// Attempts after the first one of a message.
    pub(crate) retries: u64,
    /// Connections that were begun.
    pub(crate) connections: u64,
    pub(crate) secured: u64,
    pub(crate) octets: u64,
    /// When the last message was done with.
    pub(crate) answered_at: Duration,
    /// What was answered in place of 2xx, and how often.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) faults: BTreeMap<&'static str, Faults>,
}

/// One slice of time, of one worker or of all.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// From the start of the run, in slices.
    pub(crate) index: u64,
    pub(crate) acknowledged: u64,
    pub(crate) octets: u64,
    /// Tries that failed.
    pub(crate) failed: u64,
    /// From the intended time to the acknowledgement, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// From MAIL to the acknowledgement; kept where that is another time.
    pub(crate) service: Option<Histogram<u64>>,
}

/// What is kept of a slice for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) index: u64,
    pub(crate) acknowledged: u64,
    pub(crate) octets: u64,
    pub(crate) failed: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

/// The run as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    /// Up to the last final answer, or to the end where one is missing.
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram<u64>,
    pub(crate) service: Option<Histogram<u64>>,
    pub(crate) points: Vec<Point>,
    /// The part of the run that each worker's thread was on a processor.
    pub(crate) cpu: Vec<Duration>,
    /// Sessions were ended before their work was done.
    pub(crate) is_interrupted: bool,
    /// The run ended itself, since it could come to nothing.
    pub(crate) is_hopeless: bool,
}

/// A histogram of microseconds, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within what a histogram can do")
}

impl Counts {
    /// What another worker counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.offered, other.offered),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.slow_acknowledged, other.slow_acknowledged),
            (&mut self.slow_failed, other.slow_failed),
            (&mut self.rejected, other.rejected),
            (&mut self.given_up, other.given_up),
            (&mut self.dropped, other.dropped),
            (&mut self.late, other.late),
            (&mut self.unfinished, other.unfinished),
            (&mut self.retries, other.retries),
            (&mut self.connections, other.connections),
            (&mut self.secured, other.secured),
            (&mut self.octets, other.octets),
        ] {
            *ours += theirs;
        }
        self.answered_at = self.answered_at.max(other.answered_at);
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
        for (kind, faults) in &other.faults {
            let ours = self.faults.entry(kind).or_default();
            ours.refused += faults.refused;
            ours.dropped += faults.dropped;
            ours.taken += faults.taken;
        }
    }

    /// Every message was acknowledged, for all of its recipients.
    pub(crate) fn is_good(&self) -> bool {
        self.acknowledged == self.offered && self.rejected == 0
    }
}

impl Slice {
    pub(crate) fn new(index: u64, has_service: bool) -> Self {
        let service = has_service.then(histogram);
        Self { index, acknowledged: 0, octets: 0, failed: 0, latency: histogram(), service }
    }

    pub(crate) fn record(&mut self, latency: Duration, service: Duration) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latency.record(us(latency)).expect("the histogram grows as it needs");
        if let Some(histogram) = &mut self.service {
            histogram.record(us(service)).expect("the histogram grows as it needs");
        }
    }

    /// The same time of another worker.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.octets += other.octets;
        self.failed += other.failed;
        self.latency.add(&other.latency).expect("the histogram grows as it needs");
        if let (Some(ours), Some(theirs)) = (&mut self.service, &other.service) {
            ours.add(theirs).expect("the histogram grows as it needs");
        }
    }

    pub(crate) fn point(&self) -> Point {
        Point {
            index: self.index,
            acknowledged: self.acknowledged,
            octets: self.octets,
            failed: self.failed,
            p50_us: self.latency.value_at_percentile(50.0),
            p99_us: self.latency.value_at_percentile(99.0),
            max_us: self.latency.max(),
        }
    }
}

impl Totals {
    /// The largest part of the run that a worker's thread was on a processor, from 0 to 1.
    pub(crate) fn busiest(&self) -> f64 {
        let elapsed = self.elapsed.as_secs_f64().max(1e-9);
        self.cpu.iter().map(|cpu| cpu.as_secs_f64() / elapsed).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_all_workers_are_counted() {
        let mut whole = Slice::new(3, true);
        for milliseconds in [5, 7, 600_000] {
            let mut one = Slice::new(3, true);
            one.record(Duration::from_millis(milliseconds), Duration::from_millis(2));
            one.acknowledged = 1;
            whole.add(&one);
        }
        let near = |value: u64, expected: u64| value.abs_diff(expected) * 1000 <= expected;
        let point = whole.point();
        assert!(near(point.p50_us, 7_000) && near(point.max_us, 600_000_000), "{point:?}");
        assert_eq!(point.acknowledged, 3);
        assert!(whole.service.is_some_and(|service| near(service.max(), 2_000)));
    }

    #[test]
    fn counts_of_all_workers_are_put_together() {
        let mut one = Counts { offered: 3, acknowledged: 3, ..Counts::default() };
        one.errors.insert("450 at RCPT".to_owned(), 2);
        one.faults.insert("nul", Faults { refused: 1, dropped: 0, taken: 2 });
        let mut all = one.clone();
        all.add(&one);
        assert_eq!((all.offered, all.errors["450 at RCPT"], all.faults["nul"].taken), (6, 4, 4));
        assert!(all.is_good());
        all.dropped = 1;
        all.offered += 1;
        assert!(!all.is_good());
    }
}
