//! The table of METRICS.md, as the program reads it: what a family is called, its type, its labels, its help.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The table's text.
const TEXT: &str = include_str!("../METRICS.md");

/// How the values of a family behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) labels: Vec<&'static str>,
    pub(super) help: &'static str,
}

static TABLE: LazyLock<BTreeMap<&'static str, Family>> = LazyLock::new(|| read(TEXT));

/// All families, by their names.
#[cfg(test)]
pub(super) fn families() -> &'static BTreeMap<&'static str, Family> {
    &TABLE
}

/// The row of a family that the program shows; a test shows all.
///
/// # Panics
/// If the table does not have it.
pub(super) fn family(name: &str) -> &'static Family {
    TABLE.get(name).expect("a test writes the whole page")
}

impl Kind {
    /// As the exposition formats call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Rows begin with a name in code; what else is in the text is for people.
fn read(text: &'static str) -> BTreeMap<&'static str, Family> {
    text.lines().filter_map(row).collect()
}

fn row(line: &'static str) -> Option<(&'static str, Family)> {
    let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split('|').map(str::trim).collect();
    let [name, kind, labels, help] = cells[..] else { return None };
    let kind = [Kind::Counter, Kind::Gauge, Kind::Histogram].into_iter().find(|one| one.word() == kind)?;
    let labels =
        labels.split(',').map(|label| label.trim().trim_matches('`')).filter(|label| !label.is_empty());
    Some((name.trim_end_matches('`'), Family { kind, labels: labels.collect(), help }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_as_it_is_written() {
        let rows = TEXT.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(families().len(), rows, "each row is one family, once");
        for (name, family) in families() {
            assert!(name.starts_with("stratamx_") || name.starts_with("process_"), "{name}");
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            // Nothing that the formats would have escaped.
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '"', '`']), "{name}");
        }
        let state = Family {
            kind: Kind::Counter,
            labels: vec!["domain", "outcome"],
            help: "Units that ended, by how: delivered, bounced, discarded, expired, deleted, damaged.",
        };
        assert_eq!(family("stratamx_domain_ended_units_total"), &state);
    }
}
