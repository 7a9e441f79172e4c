//! What came of a run, as a table for people, as JSON, and as a page.

pub(crate) mod chart;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod text;

use crate::tally::Totals;

/// Percentiles of the latency that are told.
pub(crate) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];
/// From this part of the run on a processor, the thread that it was may be what was measured.
const BUSY: f64 = 0.9;

/// How the run was made: a name and a value.
pub(crate) type Setting = (&'static str, String);

/// A run, and how it was made.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) run: &'a str,
    /// The server, as it was named.
    pub(crate) to: &'a str,
    pub(crate) totals: &'a Totals,
    pub(crate) settings: Vec<Setting>,
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
impl Report<'_> {
    pub(crate) fn seconds(&self) -> f64 {
        self.totals.elapsed.as_secs_f64().max(1e-9)
    }

    /// Acknowledged messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.totals.counts.acknowledged as f64 / self.seconds()
    }

    pub(crate) fn mebibytes_per_second(&self) -> f64 {
        self.totals.counts.octets as f64 / self.seconds() / f64::from(1 << 20)
    }

    /// What a message cost the blaster on a processor.
    pub(crate) fn cpu_ms_per_message(&self) -> f64 {
        let cpu: f64 = self.totals.cpu.iter().map(core::time::Duration::as_secs_f64).sum();
        cpu * 1000.0 / (self.totals.counts.acknowledged.max(1)) as f64
    }

    /// Why the numbers may be the blaster's and not the server's.
    pub(crate) fn bottleneck(&self) -> Option<String> {
        let busiest = self.totals.busiest();
        (busiest > BUSY).then(|| {
            format!(
                "the blaster itself may be the bottleneck: one of its threads was on a processor {:.0} % of the time; \
                 give it more processors and --threads, or split the load over several machines",
                busiest * 100.0
            )
        })
    }
}

/// Microseconds for people.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{:.2} ms", microseconds as f64 / 1000.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tally::{Counts, Faults, Point, histogram};
    use std::time::Duration;

    /// A run of two seconds with one of everything.
    pub(crate) fn totals() -> Totals {
        let mut latency = histogram();
        (1..=1000).for_each(|value| latency.record(value * 100).unwrap());
        let mut counts =
            Counts { offered: 1003, acknowledged: 1000, dropped: 2, given_up: 1, ..Counts::default() };
        counts.octets = 10_240_000;
        counts.errors.insert("450 to <RCPT> & \"others\"".to_owned(), 3);
        counts.faults.insert("nul", Faults { refused: 4, dropped: 1, taken: 0 });
        let point = |index| Point {
            index,
            acknowledged: 100,
            octets: 0,
            failed: index % 3,
            p50_us: 900,
            p99_us: 5000,
            max_us: 90_000,
        };
        Totals {
            counts,
            elapsed: Duration::from_secs(2),
            service: Some(latency.clone()),
            latency,
            points: (0..10).map(point).collect(),
            cpu: vec![Duration::from_millis(100), Duration::from_millis(1900)],
            is_interrupted: false,
            is_hopeless: false,
        }
    }

    #[test]
    fn a_busy_thread_is_told_of() {
        let mut totals = totals();
        let bottleneck =
            |totals: &Totals| Report { run: "r", to: "t", totals, settings: Vec::new() }.bottleneck();
        assert!(bottleneck(&totals).is_some_and(|text| text.contains("95 %")));
        totals.cpu = vec![Duration::from_millis(1700); 2];
        assert_eq!(bottleneck(&totals), None);
    }
}
