//! One exposition: the Prometheus text format 0.0.4, or OpenMetrics 1.0. They differ in little: the family of a counter, the
//! unit, and the end.

use super::table::{Kind, family};
use crate::metrics::{Histogram, Scale};
use core::fmt::{self, Write as _};

/// In which format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    OpenMetrics,
    Text,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    text: String,
    name: &'static str,
}

impl Format {
    /// The format that an `Accept` asks for (RFC 9110 12.5.1): OpenMetrics where it is named and not liked less than text.
    pub(super) fn of(accept: &str) -> Self {
        let liked = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
                let quality = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
                is_it.then(|| quality.parse::<f32>().unwrap_or(0.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open = liked("application/openmetrics-text");
        if open > 0.0 && open >= liked("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// What the answer says it is.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Page {
    /// An empty one.
    pub(super) const fn new(format: Format) -> Self {
        Self { format, text: String::new(), name: "" }
    }

    /// What follows are samples of this family.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.name = name;
        let about = family(name);
        let is_open = self.format == Format::OpenMetrics;
        let family = if is_open { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let (kind, help) = (about.kind.word(), about.help);
        self.line(format_args!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit.filter(|_| is_open) {
            self.line(format_args!("# UNIT {family} {unit}\n"));
        }
    }

    /// A sample of the family that was begun.
    pub(super) fn put(&mut self, labels: Labels<'_>, value: impl fmt::Display) {
        debug_assert!(family(self.name).kind != Kind::Histogram, "{}", self.name);
        self.sample("", labels, value);
    }

    /// A family of one sample without labels.
    pub(super) fn one(&mut self, name: &'static str, value: impl fmt::Display) {
        self.begin(name);
        self.put(&[], value);
    }

    /// A histogram of the family that was begun.
    pub(super) fn histogram<S: Scale>(&mut self, labels: Labels<'_>, histogram: &Histogram<S>) {
        debug_assert!(family(self.name).kind == Kind::Histogram, "{}", self.name);
        let count = histogram.count();
        let mut bounded = labels.to_vec();
        for (bound, below) in histogram.buckets() {
            let bound = canonical(bound);
            bounded.truncate(labels.len());
            let mut all = bounded.clone();
            all.push(("le", &bound));
            self.sample("_bucket", &all, below);
        }
        bounded.push(("le", "+Inf"));
        self.sample("_bucket", &bounded, count);
        self.sample("_sum", labels, histogram.sum());
        self.sample("_count", labels, count);
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl fmt::Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (place, (label, word)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(&mut self.text, word);
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        self.line(format_args!("{value}\n"));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes everything");
    }
}

/// The value of a label: stretches of it, there are thousands on a page.
fn escape(text: &mut String, mut word: &str) {
    while let Some(at) = word.find(['\\', '"', '\n']) {
        text.push_str(&word[..at]);
        text.push_str(match word.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        word = &word[at + 1..];
    }
    text.push_str(word);
}

/// A bound in the one form that OpenMetrics gives it: a point in each number, an exponent from a million on.
fn canonical(bound: f64) -> String {
    if bound < 1e6 {
        return format!("{bound:?}");
    }
    let text = format!("{bound:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}{}e+{exponent:0>2}", if digits.contains('.') { "" } else { ".0" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Pieces;

    #[test]
    fn who_asks_for_openmetrics_has_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text;q=0.1, text/plain", Format::Text),
            ("application/openmetrics-text; q=0", Format::Text),
            ("application/openmetrics-text;q=many", Format::Text),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_formats_differ_in_counters_units_and_the_end() {
        let write = |format| {
            let mut page = Page::new(format);
            page.begin("stratamx_domain_accepted_units_total");
            page.put(&[("domain", "a\"\\\n.test")], 7);
            page.one("process_open_fds", 3);
            page.finish()
        };
        let text = "# HELP stratamx_domain_accepted_units_total Units accepted.\n\
                    # TYPE stratamx_domain_accepted_units_total counter\n\
                    stratamx_domain_accepted_units_total{domain=\"a\\\"\\\\\\n.test\"} 7\n\
                    # HELP process_open_fds Descriptors that are open.\n# TYPE process_open_fds gauge\nprocess_open_fds 3\n";
        assert_eq!(write(Format::Text), text);
        let open =
            text.replace("HELP stratamx_domain_accepted_units_total", "HELP stratamx_domain_accepted_units");
        let open =
            open.replace("TYPE stratamx_domain_accepted_units_total", "TYPE stratamx_domain_accepted_units");
        assert_eq!(write(Format::OpenMetrics), open + "# EOF\n");
    }

    #[test]
    fn a_histogram_counts_up_to_all() {
        let batches = Histogram::<Pieces>::default();
        [1, 3, 5_000].into_iter().for_each(|records| batches.observe(records));
        let mut page = Page::new(Format::OpenMetrics);
        page.begin("stratamx_storage_batch_records");
        page.histogram(&[("log", "mail")], &batches);
        let text = page.finish();
        for line in [
            "_bucket{log=\"mail\",le=\"1.0\"} 1\n",
            "_bucket{log=\"mail\",le=\"4.0\"} 2\n",
            "_bucket{log=\"mail\",le=\"1024.0\"} 2\n",
            "_bucket{log=\"mail\",le=\"+Inf\"} 3\n",
            "_sum{log=\"mail\"} 5004\n",
            "_count{log=\"mail\"} 3\n",
        ] {
            assert!(text.contains(&format!("stratamx_storage_batch_records{line}")), "{line}: {text}");
        }
    }

    #[test]
    fn bounds_have_one_form() {
        let forms = [0.0001, 0.0025, 1.0, 604_800.0, 1_048_576.0, 2_592_000.0, 1e6].map(canonical);
        assert_eq!(forms, ["0.0001", "0.0025", "1.0", "604800.0", "1.048576e+06", "2.592e+06", "1.0e+06"]);
    }
}
