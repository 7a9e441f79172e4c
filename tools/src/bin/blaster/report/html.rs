//! The result of a run as one page: nothing is fetched, no script runs, light and dark follow the reader's system.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::chart::{Axis, Scale, Series, svg};
use super::{PERCENTILES, Report, milliseconds};
use crate::tally::{Point, SLICE};

/// Points of a line; a longer run is put together.
const POINTS_MAX: usize = 200;
const STYLE: &str = include_str!("style.css");

/// The page.
pub(crate) fn page(report: &Report<'_>) -> String {
    let totals = report.totals;
    let (points, seconds) = condense(&totals.points);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}: {1}</title><style>{STYLE}</style></head><body><main>\
         <h1>{1}</h1><p class=\"sub\">run {0}, by stratamx-blaster {2}</p>",
        escape(report.run),
        escape(report.to),
        env!("CARGO_PKG_VERSION")
    );
    page += &tiles(report);
    for warning in warnings(report) {
        // A String takes everything that is written.
        let _ = write!(page, "<p class=\"warn\">{}</p>", escape(&warning));
    }
    page += "<div class=\"charts\">";
    let mut lines = vec![percentile_line("from the intended time", &totals.latency)];
    match &totals.service {
        Some(service) => lines.push(percentile_line("from MAIL", service)),
        None => lines[0].name = "from MAIL",
    }
    page +=
        &figure("Latency by percentile", &percentile_axis(totals.latency.len()), &decades(&lines), &lines);
    let end = totals.elapsed.as_secs_f64();
    let (rates, latencies) = over_time(&points, seconds, end);
    let most = rates.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max);
    let time = Axis::time("seconds", end);
    page += &figure("Throughput", &time, &Axis::linear("messages a second", most), &rates);
    page += &figure("Latency over time", &time, &decades(&latencies), &latencies);
    page += "</div><div class=\"tables\">";
    page += &table("Counts", &counts(report));
    let errors: Vec<(String, String)> =
        totals.counts.errors.iter().map(|(what, count)| (what.clone(), count.to_string())).collect();
    if errors.is_empty() {
        page += "<section><h2>Errors</h2><p>None.</p></section>";
    } else {
        page += &table("Errors", &errors);
    }
    let settings: Vec<(String, String)> =
        report.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    page += &table("Settings", &settings);
    page + "</div></main></body></html>\n"
}

fn tiles(report: &Report<'_>) -> String {
    let latency = &report.totals.latency;
    let at = |percentile| milliseconds(latency.value_at_percentile(percentile));
    let tiles = [
        ("messages a second", format!("{:.0}", report.rate())),
        ("MiB a second", format!("{:.1}", report.mebibytes_per_second())),
        ("median latency", at(50.0)),
        ("p99 latency", at(99.0)),
    ];
    let tile = |(name, value): &(&str, String)| format!("<div><b>{value}</b><span>{name}</span></div>");
    format!("<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
}

fn warnings(report: &Report<'_>) -> Vec<String> {
    let counts = &report.totals.counts;
    let failed = counts.rejected + counts.given_up + counts.dropped + counts.unfinished;
    let failures = format!(
        "{failed} messages failed: {} rejected, {} given up, {} dropped from the full queue, {} unfinished",
        counts.rejected, counts.given_up, counts.dropped, counts.unfinished
    );
    let interrupted = report.totals.is_interrupted.then(|| "The run was interrupted.".to_owned());
    [(failed > 0).then_some(failures), report.bottleneck(), interrupted].into_iter().flatten().collect()
}

fn counts(report: &Report<'_>) -> Vec<(String, String)> {
    super::text::rows(report).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn figure(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let legend: String = series
        .iter()
        .enumerate()
        .filter(|(_, one)| !one.points.is_empty())
        .map(|(number, one)| format!("<span class=\"k{number}\">{}</span>", one.name))
        .collect();
    format!(
        "<figure><h2>{title}</h2><div class=\"legend\">{legend}</div>{}</figure>",
        svg(title, x, y, series)
    )
}

fn table(title: &str, rows: &[(String, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value))
        })
        .collect();
    format!("<section><h2>{title}</h2><table>{rows}</table></section>")
}

/// Where a percentile is: each nine has the same room.
fn nines(percentile: f64) -> f64 {
    100.0 / (100.0 - percentile)
}

/// As far as so many values tell.
#[allow(clippy::cast_precision_loss, reason = "a place on an axis")]
fn percentile_axis(count: u64) -> Axis {
    let to = (count.max(100) as f64).min(1e6);
    let ticks =
        [("0", 0.0), ("90", 90.0), ("99", 99.0), ("99.9", 99.9), ("99.99", 99.99), ("99.999", 99.999)];
    let ticks = ticks
        .iter()
        .map(|(label, at)| (nines(*at), format!("{label} %")))
        .filter(|(at, _)| *at <= to * 1.001);
    Axis { label: "percentile", scale: Scale::Logarithmic, from: 1.0, to, ticks: ticks.collect() }
}

#[allow(clippy::cast_precision_loss, reason = "a place on an axis")]
fn percentile_line(name: &'static str, latency: &Histogram<u64>) -> Series {
    let last = (latency.len().max(100) as f64).min(1e6);
    let mut points = Vec::new();
    let mut at = 1.0_f64;
    while at <= last && !latency.is_empty() {
        let value = latency.value_at_percentile(100.0 - 100.0 / at);
        points.push((at, value as f64 / 1000.0));
        at *= 1.12;
    }
    Series { name, points }
}

/// An axis of milliseconds that all lines fit on.
fn decades(lines: &[Series]) -> Axis {
    let values =
        || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).filter(|value| *value > 0.0);
    let least = values().fold(f64::MAX, f64::min);
    Axis::decades("milliseconds", if least < f64::MAX { least } else { 1.0 }, values().fold(0.0, f64::max))
}

/// Neighbouring slices put together until they are few: the points, and how many seconds each is.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn condense(points: &[Point]) -> (Vec<Point>, f64) {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let put_together = |slices: &[Point]| Point {
        index: slices[0].index,
        acknowledged: slices.iter().map(|slice| slice.acknowledged).sum(),
        octets: slices.iter().map(|slice| slice.octets).sum(),
        failed: slices.iter().map(|slice| slice.failed).sum(),
        // The worst of them: percentiles have no sum.
        p50_us: slices.iter().map(|slice| slice.p50_us).max().unwrap_or_default(),
        p99_us: slices.iter().map(|slice| slice.p99_us).max().unwrap_or_default(),
        max_us: slices.iter().map(|slice| slice.max_us).max().unwrap_or_default(),
    };
    (points.chunks(every).map(put_together).collect(), SLICE.as_secs_f64() * every as f64)
}

/// Lines of throughput and of latency.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn over_time(points: &[Point], seconds: f64, end: f64) -> (Vec<Series>, Vec<Series>) {
    let start = |point: &Point| point.index as f64 * SLICE.as_secs_f64();
    // The last one is as long as the run was.
    let length = |point: &Point| seconds.min(end - start(point)).max(1e-3);
    let middle = |point: &Point| start(point) + length(point) / 2.0;
    let is_whole = |point: &&Point| length(point) > seconds * 0.9 || points.len() == 1;
    let rate = |count: fn(&Point) -> u64| {
        points
            .iter()
            .filter(is_whole)
            .map(|point| (middle(point), count(point) as f64 / length(point)))
            .collect()
    };
    let latency = |value: fn(&Point) -> u64| {
        let some = points.iter().filter(|point| point.acknowledged > 0);
        some.map(|point| (middle(point), value(point) as f64 / 1000.0)).collect()
    };
    let mut rates = vec![Series { name: "acknowledged", points: rate(|point| point.acknowledged) }];
    if points.iter().any(|point| point.failed > 0) {
        rates.push(Series { name: "failed tries", points: rate(|point| point.failed) });
    }
    let latencies = vec![
        Series { name: PERCENTILES[0].0, points: latency(|point| point.p50_us) },
        Series { name: PERCENTILES[2].0, points: latency(|point| point.p99_us) },
        Series { name: "max", points: latency(|point| point.max_us) },
    ];
    (rates, latencies)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::totals;
    use super::*;
    use crate::tally::histogram;

    fn of(totals: &crate::tally::Totals) -> String {
        let settings = vec![("server", "<127.0.0.1>".to_owned())];
        page(&Report { run: "r<1>", to: "127.0.0.1:25", totals, settings })
    }

    #[test]
    fn the_page_needs_nothing_and_says_everything() {
        let page = of(&totals());
        for outside in ["http:", "https:", "<script", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        for said in [
            "r&lt;1&gt;",
            "&lt;127.0.0.1&gt;",
            "450 to &lt;RCPT&gt; &amp; &quot;others&quot;",
            "may be the bottleneck",
        ] {
            assert!(page.contains(said), "{said}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_run_without_a_message_has_a_page() {
        let mut nothing = totals();
        (nothing.latency, nothing.service) = (histogram(), None);
        nothing.points.clear();
        let page = of(&nothing);
        assert!(page.contains("</html>") && !page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn long_runs_are_put_together_and_lose_nothing() {
        let points: Vec<Point> = (0..1001)
            .map(|index| Point { index, acknowledged: 3, max_us: index, ..Point::default() })
            .collect();
        let (few, seconds) = condense(&points);
        assert!(few.len() <= POINTS_MAX && (seconds - 1.2).abs() < 1e-9, "{} {seconds}", few.len());
        assert_eq!(few.iter().map(|point| point.acknowledged).sum::<u64>(), 3003);
        assert_eq!(few.iter().map(|point| point.max_us).max(), Some(1000));
    }
}
