//! The report of an outage: one HTML page with its plots in it, for the customer whose server it was. It loads nothing and runs nothing.

use crate::control::alert::outage::{Ledger, Outage, Sample};
use crate::control::alert::proof::Proof;
use crate::control::alert::rules::{instant, span};

/// Width and height of a plot, and the room for its axes, in pixels of its view box.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 56.0;
const BELOW: f64 = 24.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b2430;--dim:#5b6878;--line:#d5dbe3;--paper:#fff;--mark:#0b6bcb;--good:#0a7d4f;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e7ecf2;--dim:#9aa7b6;--line:#384454;--paper:#131a22;--mark:#5aa9f5;--good:#4cc38a;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:46rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2rem 0 .5rem}p{margin:.25rem 0}.dim{color:var(--dim)}
.verdict{display:inline-block;margin:.75rem 0;padding:.35rem .8rem;border-radius:2rem;border:1px solid;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem 1.5rem;margin:1rem 0}
dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}td{padding:.35rem 0;border-bottom:1px solid var(--line)}
td:last-child{text-align:right;font-variant-numeric:tabular-nums}tr.sum td{font-weight:600}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:12px;font-family:inherit}
.axis{stroke:var(--line)}.curve{fill:none;stroke:var(--mark);stroke-width:2}.area{fill:var(--mark);opacity:.15}.back{stroke:var(--good);stroke-dasharray:4 3}
@media print{main{padding:0}}";

/// The page.
pub(super) fn page(hostname: &str, outage: &Outage) -> String {
    let domain = escaped(&outage.domain);
    let ledger = outage.ledger();
    let lasted = match outage.ended_s {
        Some(ended) => format!("It lasted {}.", span(ended.saturating_sub(outage.began_s))),
        None => "It goes on.".to_owned(),
    };
    let rates = rates(&outage.samples);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Outage of {domain}</title><style>{STYLE}</style></head><body><main>\
         <h1>Outage of {domain}</h1><p class=\"dim\">Kept by {} while its mail server could not be reached. {lasted}</p>{}{}\
         <h2>What became of mail</h2><p class=\"dim\">Counted for each message and recipient.</p>{}\
         {}<h2>Mail that waited</h2>{}<h2>Handed over, each minute</h2>{}</main></body></html>\n",
        escaped(hostname),
        verdict(outage, &ledger),
        times(outage),
        table(&ledger),
        outage.proof.as_ref().map(proof).unwrap_or_default(),
        plot(
            &outage.samples.iter().map(|sample| (sample.at_s, sample.waiting)).collect::<Vec<_>>(),
            outage.returned_s
        ),
        plot(&rates, outage.returned_s),
    )
}

fn verdict(outage: &Outage, ledger: &Ledger) -> String {
    let counts = &ledger.counts;
    let gone = counts.damaged + counts.expired + counts.discarded;
    let (class, text) = match (ledger.is_balanced, outage.ended_s.is_some(), gone, counts.waiting) {
        (false, ..) => ("bad", "The counts do not add up".to_owned()),
        (true, _, 1.., _) => ("bad", format!("{gone} neither delivered nor returned: see below")),
        (true, true, 0, 0) => ("good", "Nothing was lost".to_owned()),
        (true, true, 0, held) => ("good", format!("Nothing was lost; {held} waiting or held")),
        (true, false, 0, waiting) => ("good", format!("Nothing is lost; {waiting} waiting")),
    };
    format!("<p class=\"verdict {class}\">{text}</p>")
}

fn times(outage: &Outage) -> String {
    let or_not_yet = |at: Option<u64>| at.map_or_else(|| "not yet".to_owned(), instant);
    let rows = [
        ("First failure", instant(outage.began_s)),
        ("Mail server back", or_not_yet(outage.returned_s)),
        ("All handed over", or_not_yet(outage.ended_s)),
        ("Most that waited", outage.peak.to_string()),
        ("What failed", escaped(&outage.reason)),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")).collect();
    format!("<dl>{rows}</dl>")
}

fn table(ledger: &Ledger) -> String {
    let counts = &ledger.counts;
    let row = |class: &str, name: &str, value: u64| {
        format!("<tr class=\"{class}\"><td>{name}</td><td>{value}</td></tr>")
    };
    let mut rows = row("", "Waiting before", ledger.waiting_before);
    rows += &row("sum", "Accepted for later delivery", counts.accepted);
    rows += &row("sum", "Delivered", counts.delivered);
    for (name, value) in [
        ("through TLS", counts.encrypted),
        ("to a server that DANE or MTA-STS vouches for", counts.verified),
        ("without TLS", counts.plain),
    ] {
        if value > 0 {
            rows += &row("dim", &format!("&emsp;{name}"), value);
        }
    }
    for (name, value) in [
        ("Refused by the mail server, sender told", counts.bounced),
        ("Refused and dropped", counts.discarded),
        ("Expired", counts.expired),
        ("Removed by an operator", counts.deleted),
        ("Damaged on disk", counts.damaged),
    ] {
        if value > 0 {
            rows += &row("", name, value);
        }
    }
    format!("<table>{rows}{}</table>", row("sum", "Waiting or held", counts.waiting))
}

fn proof(proof: &Proof) -> String {
    let order = match proof.out_of_order {
        _ if !proof.order_is_known => "not known".to_owned(),
        0 => "kept".to_owned(),
        broken => format!("{broken} behind one that was accepted later"),
    };
    let whole = if proof.is_whole { "" } else { "<p class=\"bad\">Part of the trace is missing.</p>" };
    let rows = [
        ("Messages", proof.messages.to_string()),
        ("Order of each recipient", order),
        ("Handed over in order", proof.deliveries.to_string()),
        ("Out of their place before", proof.excepted.to_string()),
        ("SHA-256 over the queue ids", proof.root.clone()),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")).collect();
    format!("<h2>Proof</h2>{whole}<dl>{rows}</dl>")
}

/// Units handed over a minute, between samples.
fn rates(samples: &[Sample]) -> Vec<(u64, u64)> {
    let pairs = samples.windows(2);
    pairs
        .map(|pair| {
            let [one, next] = pair else { return (0, 0) };
            let seconds = next.at_s.saturating_sub(one.at_s).max(1);
            (next.at_s, next.delivered.saturating_sub(one.delivered) * 60 / seconds)
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn plot(points: &[(u64, u64)], back_s: Option<u64>) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return "<p class=\"dim\">Too short for a plot.</p>".to_owned();
    };
    if first.0 >= last.0 {
        return "<p class=\"dim\">Too short for a plot.</p>".to_owned();
    }
    let most = points.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let across = |at: u64| {
        LEFT + (at.saturating_sub(first.0)) as f64 / last.0.saturating_sub(first.0) as f64
            * (WIDTH - LEFT - 4.0)
    };
    let up = |value: u64| (HEIGHT - BELOW) - value as f64 / most as f64 * (HEIGHT - BELOW - 8.0);
    let curve: Vec<String> =
        points.iter().map(|(at, value)| format!("{:.1},{:.1}", across(*at), up(*value))).collect();
    let curve = curve.join(" ");
    let (floor, end) = (up(0), across(last.0));
    let back = back_s.filter(|back| (first.0..=last.0).contains(back)).map_or_else(String::new, |back| {
        format!("<line class=\"back\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"4\" y2=\"{floor:.1}\"><title>Mail server back</title></line>", across(back))
    });
    let clock = |at: u64| instant(at).get(5..16).unwrap_or_default().to_owned();
    let (from, to) = (instant(first.0), instant(last.0));
    let (from_clock, to_clock) = (clock(first.0), clock(last.0));
    let (label, below) = (LEFT - 6.0, HEIGHT - 6.0);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"from {from} to {to}, at most {most}\">\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{end:.1}\" y1=\"{floor:.1}\" y2=\"{floor:.1}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{end:.1}\" y1=\"8\" y2=\"8\"/>\
         <polygon class=\"area\" points=\"{LEFT},{floor:.1} {curve} {end:.1},{floor:.1}\"/><polyline class=\"curve\" points=\"{curve}\"/>{back}\
         <text x=\"{label}\" y=\"12\" text-anchor=\"end\">{most}</text><text x=\"{label}\" y=\"{floor:.1}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{below}\">{from_clock}</text><text x=\"{end:.1}\" y=\"{below}\" text-anchor=\"end\">{to_clock}</text></svg>"
    )
}

/// As text of a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::alert::outage::{Counts, Through};

    fn outage(samples: Vec<Sample>) -> Outage {
        Outage {
            domain: "a.test".to_owned(),
            began_s: 1_795_388_400,
            reason: "<script>alert(1)</script>".to_owned(),
            returned_s: Some(1_795_392_000),
            ended_s: Some(1_795_392_060),
            first: Counts { waiting: 1, ..Counts::default() },
            last: Counts { accepted: 9, delivered: 10, ..Counts::default() },
            through: Through::default(),
            serving_since_s: None,
            is_told: true,
            peak: 10,
            samples,
            step_s: 1,
            proof: None,
        }
    }

    #[test]
    fn a_page_needs_nothing_else_and_runs_nothing() {
        let sample = |minute: u64, waiting, delivered| Sample {
            at_s: 1_795_388_400 + minute * 60,
            waiting,
            delivered,
        };
        let page =
            page("mx2.example.net", &outage(vec![sample(0, 1, 0), sample(59, 10, 0), sample(61, 0, 10)]));
        assert!(page.contains("Nothing was lost") && page.contains("It lasted 1 h 1 min."), "{page}");
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
            "{page}"
        );
        let proof = Proof {
            messages: 10,
            units: 10,
            root: "c0ffee".to_owned(),
            deliveries: 9,
            excepted: 1,
            out_of_order: 2,
            order_is_known: true,
            is_whole: false,
        };
        let proved = super::page("mx2", &Outage { proof: Some(proof), ..outage(Vec::new()) });
        for part in ["<h2>Proof</h2>", "c0ffee", "2 behind one", "Part of the trace is missing"] {
            assert!(proved.contains(part) && !page.contains(part), "{part}: {proved}");
        }
        let lost =
            Outage { last: Counts { accepted: 9, delivered: 9, ..Counts::default() }, ..outage(Vec::new()) };
        let page = super::page("mx2", &lost);
        assert!(page.contains("do not add up") && page.contains("Too short for a plot"), "{page}");
        let last = Counts { accepted: 9, delivered: 9, damaged: 1, ..Counts::default() };
        let page = super::page("mx2", &Outage { last, ..outage(Vec::new()) });
        assert!(page.contains("1 neither delivered") && page.contains("Damaged on disk"), "{page}");
    }

    #[test]
    fn a_rate_is_of_the_time_between_two_samples() {
        let sample = |at_s, delivered| Sample { at_s, waiting: 0, delivered };
        assert_eq!(rates(&[sample(0, 0), sample(30, 10), sample(90, 10)]), [(30, 20), (90, 0)]);
    }
}
