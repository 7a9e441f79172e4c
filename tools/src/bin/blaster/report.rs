//! What the blaster prints on standard output: a table for people, or JSON.

use serde_json::json;

use crate::load::Totals;
use crate::verify::Findings;

/// Percentiles of the latency that are shown.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
/// Findings of a kind that the table shows.
const SHOWN_MAX: usize = 20;

/// The result of a load.
#[allow(clippy::cast_precision_loss, reason = "rates for people")]
pub(crate) fn load(run: &str, totals: &Totals, as_json: bool) -> String {
    let seconds = totals.elapsed.as_secs_f64().max(1e-9);
    let rate = totals.acknowledged as f64 / seconds;
    let mebibytes = totals.octets as f64 / seconds / f64::from(1 << 20);
    let percentiles =
        PERCENTILES.map(|(name, percentile)| (name, totals.latency.value_at_percentile(percentile)));
    if as_json {
        let latency: serde_json::Map<String, serde_json::Value> =
            percentiles.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        return json!({
            "run": run, "acknowledged": totals.acknowledged, "rejected": totals.rejected,
            "given_up": totals.given_up, "retries": totals.retries, "octets": totals.octets,
            "seconds": seconds, "messages_per_second": rate, "mebibytes_per_second": mebibytes,
            "latency_us": latency, "latency_us_max": totals.latency.max(),
        })
        .to_string()
            + "\n";
    }
    let mut rows = vec![
        ("run", run.to_owned()),
        ("acknowledged", totals.acknowledged.to_string()),
        ("rejected", totals.rejected.to_string()),
        ("given up", totals.given_up.to_string()),
        ("retries", totals.retries.to_string()),
        ("time", format!("{seconds:.2} s")),
        ("rate", format!("{rate:.0} messages/s, {mebibytes:.1} MiB/s")),
    ];
    rows.extend(percentiles.map(|(name, value)| (name, milliseconds(value))));
    rows.push(("max", milliseconds(totals.latency.max())));
    table(&rows)
}

/// The result of a check.
pub(crate) fn findings(findings: &Findings, as_json: bool) -> String {
    if as_json {
        return json!({
            "units": findings.units, "delivered": findings.delivered, "lost": shown(&findings.lost, usize::MAX),
            "altered": shown(&findings.altered, usize::MAX), "inverted": shown(&findings.inverted, usize::MAX),
            "duplicates": findings.duplicates, "unacknowledged": findings.unacknowledged,
            "sound": findings.is_sound(),
        })
        .to_string()
            + "\n";
    }
    let rows = [
        ("acknowledged units", findings.units.to_string()),
        ("delivered", findings.delivered.to_string()),
        ("lost", findings.lost.len().to_string()),
        ("altered", findings.altered.len().to_string()),
        ("inverted", findings.inverted.len().to_string()),
        ("duplicates", findings.duplicates.to_string()),
        ("arrived unacknowledged", findings.unacknowledged.to_string()),
    ];
    let lines = [
        shown(&findings.lost, SHOWN_MAX),
        shown(&findings.altered, SHOWN_MAX),
        shown(&findings.inverted, SHOWN_MAX),
    ];
    let verdict = if findings.is_sound() { "sound: nothing lost, altered or inverted" } else { "NOT SOUND" };
    let lines: String = lines.concat().iter().map(|line| format!("{line}\n")).collect();
    format!("{}{lines}{verdict}\n", table(&rows))
}

fn shown(findings: &[impl ToString], count: usize) -> Vec<String> {
    findings.iter().take(count).map(ToString::to_string).collect()
}

fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn milliseconds(microseconds: u64) -> String {
    format!("{:.2} ms", microseconds as f64 / 1000.0)
}
