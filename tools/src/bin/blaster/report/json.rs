//! The result of a run as JSON: one object, latencies in microseconds.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{PERCENTILES, Report};

/// One line.
pub(crate) fn load(report: &Report<'_>) -> String {
    let (totals, counts) = (report.totals, &report.totals.counts);
    let faults: Map<String, Value> = counts
        .faults
        .iter()
        .map(|(kind, faults)| {
            let counts =
                json!({ "refused": faults.refused, "dropped": faults.dropped, "taken": faults.taken });
            ((*kind).to_owned(), counts)
        })
        .collect();
    let settings: Map<String, Value> =
        report.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let points: Vec<Value> = totals
        .points
        .iter()
        .map(|point| {
            json!([point.index, point.acknowledged, point.failed, point.p50_us, point.p99_us, point.max_us])
        })
        .collect();
    json!({
        "run": report.run, "to": report.to, "settings": settings,
        "offered": counts.offered, "acknowledged": counts.acknowledged, "rejected": counts.rejected,
        "given_up": counts.given_up, "dropped": counts.dropped, "unfinished": counts.unfinished,
        "late": counts.late, "retries": counts.retries, "octets": counts.octets,
        "connections": counts.connections, "secured": counts.secured,
        "slow": { "acknowledged": counts.slow_acknowledged, "failed": counts.slow_failed },
        "malformed": faults, "errors": counts.errors,
        "seconds": report.seconds(), "messages_per_second": report.rate(),
        "mebibytes_per_second": report.mebibytes_per_second(),
        "latency_us": percentiles(&totals.latency), "latency_us_max": totals.latency.max(),
        "service_us": totals.service.as_ref().map(percentiles),
        "cpu_ms_per_message": report.cpu_ms_per_message(), "cpu_busiest_thread": totals.busiest(),
        "is_bottleneck": report.bottleneck().is_some(), "is_interrupted": totals.is_interrupted,
        "timeline_slice_ms": crate::tally::SLICE.as_secs_f64() * 1000.0,
        "timeline_fields": ["slice", "acknowledged", "failed", "p50_us", "p99_us", "max_us"],
        "timeline": points,
    })
    .to_string()
        + "\n"
}

fn percentiles(latency: &Histogram<u64>) -> Map<String, Value> {
    let value = |(name, percentile): &(&str, f64)| {
        ((*name).to_owned(), json!(latency.value_at_percentile(*percentile)))
    };
    PERCENTILES.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::totals;
    use super::*;

    #[test]
    fn everything_that_is_counted_is_told() {
        let totals = totals();
        let report = Report { run: "r", to: "t", totals: &totals, settings: vec![("seed", "1".to_owned())] };
        let told: Value = serde_json::from_str(&load(&report)).unwrap();
        assert_eq!((told["acknowledged"].as_u64(), told["dropped"].as_u64()), (Some(1000), Some(2)));
        assert_eq!(told["malformed"]["nul"]["refused"].as_u64(), Some(4));
        assert_eq!(told["errors"]["450 to <RCPT> & \"others\""].as_u64(), Some(3));
        assert!(told["latency_us"]["p99"].as_u64().is_some_and(|value| value.abs_diff(99_000) < 100));
        assert_eq!(told["timeline"].as_array().map(Vec::len), Some(10));
        assert_eq!(told["messages_per_second"].as_f64(), Some(500.0));
    }
}
