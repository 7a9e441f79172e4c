//! What the blaster prints on standard output for people; the result of a check also as JSON.

use serde_json::json;

use super::{PERCENTILES, Report, milliseconds};
use crate::verify::Findings;

/// Findings of a kind that the table shows.
const SHOWN_MAX: usize = 20;

/// The result of a load.
pub(crate) fn load(report: &Report<'_>) -> String {
    let run = vec![("run", report.run.to_owned())];
    let mut text = table(&[run, rows(report)].concat());
    for (what, count) in &report.totals.counts.errors {
        text += &format!("error: {what} ({count})\n");
    }
    if let Some(warning) = report.bottleneck() {
        text += &format!("warning: {warning}\n");
    }
    if report.totals.is_interrupted {
        text += "interrupted\n";
    }
    text
}

/// What was counted; what never happens in most runs is left out where it did not happen.
pub(crate) fn rows(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let (totals, counts) = (report.totals, &report.totals.counts);
    let mut rows = vec![
        ("acknowledged", counts.acknowledged.to_string()),
        ("rejected", counts.rejected.to_string()),
        ("given up", counts.given_up.to_string()),
        ("retries", counts.retries.to_string()),
    ];
    let is_open = totals.service.is_some();
    for (name, count, is_shown) in [
        ("unfinished", counts.unfinished, false),
        ("offered", counts.offered * u64::from(is_open), is_open),
        ("late", counts.late, is_open),
        ("dropped", counts.dropped, is_open),
        ("sessions begun", counts.connections, true),
        ("secured", counts.secured, false),
        ("slow acknowledged", counts.slow_acknowledged, false),
        ("slow failed", counts.slow_failed, false),
    ] {
        if is_shown || count > 0 {
            rows.push((name, count.to_string()));
        }
    }
    for (kind, faults) in &counts.faults {
        let value = format!("{} refused, {} dropped, {} taken", faults.refused, faults.dropped, faults.taken);
        rows.push((kind, value));
    }
    rows.push(("time", format!("{:.2} s", report.seconds())));
    rows.push((
        "rate",
        format!("{:.0} messages/s, {:.1} MiB/s", report.rate(), report.mebibytes_per_second()),
    ));
    let value = |percentile| milliseconds(totals.latency.value_at_percentile(percentile));
    rows.extend(PERCENTILES.map(|(name, percentile)| (name, value(percentile))));
    rows.push(("max", milliseconds(totals.latency.max())));
    if let Some(service) = &totals.service {
        let value = |percentile| milliseconds(service.value_at_percentile(percentile));
        rows.push(("from MAIL", format!("p50 {}, p99 {}", value(50.0), value(99.0))));
    }
    let busiest = totals.busiest() * 100.0;
    rows.push((
        "own CPU",
        format!("{:.3} ms a message, busiest thread {busiest:.0} %", report.cpu_ms_per_message()),
    ));
    rows
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
