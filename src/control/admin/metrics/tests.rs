//! The table against the page, both ways; and what domains beyond the bound come to.

use super::table::{Kind, families};
use super::*;
use crate::bridge::Certificates;
use crate::bridge::operator::State as Health;
use crate::config::Config;
use crate::update::machine;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, BTreeSet};

fn measured(shown: &[(usize, u64)], rest: u64) -> Measured {
    let figures = |backlog| Figures { backlog, accepted: backlog, ..Figures::of(Health::Down) };
    let shown = shown.iter().map(|(place, backlog)| (*place, figures(*backlog))).collect();
    Measured { shown, rest: figures(rest), free_octets: 9, segments: 2, ..Measured::default() }
}

fn page(format: Format, names: &[&str], measured: &[Measured]) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key =
        CertifiedKey::from_der(vec![made.cert.der().clone()], key, &rustls::crypto::ring::default_provider());
    let certificates = Certificates::new(vec![Arc::new(key.unwrap())]);
    let snapshot = Snapshot::new(Config::embedded(), Arc::default()).with_certificates(&certificates);
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    let figures = machine::Figures {
        temperature_c: Some(40),
        used_percent: Some(5),
        spare_percent: Some(100),
        media_errors: Some(0),
        reallocated: Some(0),
        unsafe_shutdowns: Some(1),
        ..machine::Figures::default()
    };
    let disk = Disk { device: "nvme0n1".to_owned(), figures, ..Disk::default() };
    write(format, &snapshot, &names, measured, Some(&disk))
}

/// The name of each sample, without what a histogram adds to it, and the names of its labels.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let mut all: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels: Vec<String> = labels
            .split("\",")
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label.to_owned())
            .filter(|label| label != "le")
            .collect();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_histogram =
            base.is_some_and(|base| families().get(base).is_some_and(|one| one.kind == Kind::Histogram));
        let name = base.filter(|_| is_histogram).unwrap_or(name);
        all.entry(name.to_owned()).or_default().insert(labels);
    }
    all
}

#[test]
fn the_table_is_the_page_and_the_page_is_the_table() {
    let domain = Config::embedded().domains[0].name.clone();
    let text = page(Format::Text, &[&domain, "left-out.test"], &[measured(&[(0, 3)], 4)]);
    let samples = samples(&text);
    let shown: Vec<&str> = samples.keys().map(String::as_str).collect();
    let known: Vec<&str> = families().keys().copied().collect();
    assert_eq!(shown, known);
    for (name, family) in families() {
        let labels: BTreeSet<Vec<String>> =
            [family.labels.iter().map(|label| (*label).to_owned()).collect()].into();
        assert_eq!(samples[*name], labels, "{name}");
        let about = format!("# HELP {name} {}\n# TYPE {name} {}\n", family.help, family.kind.word());
        assert_eq!(text.matches(&about).count(), 1, "{name}");
    }
}

#[test]
fn domains_beyond_the_bound_are_added_up_and_counted() {
    let (one, two) = (measured(&[(2, 30)], 400), measured(&[(0, 1), (1, 2)], 500));
    let names = ["a.test", "b.test", "c.test", "d.test", "e.test"];
    let text = page(Format::OpenMetrics, &names, &[one, two]);
    for line in [
        "stratamx_domains_left_out 2\n",
        "stratamx_domain_backlog_units{domain=\"a.test\"} 1\n\
         stratamx_domain_backlog_units{domain=\"b.test\"} 2\n\
         stratamx_domain_backlog_units{domain=\"c.test\"} 30\n\
         stratamx_domain_backlog_units{domain=\"\"} 900\n",
        "stratamx_domain_state{domain=\"\",state=\"down\"} 2\n",
        "stratamx_domains{state=\"down\"} 5\n",
        "stratamx_storage_free_bytes 9\n",
        "stratamx_storage_segments 4\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let none = page(Format::Text, &["a.test"], &[measured(&[(0, 1)], 0)]);
    assert!(!none.contains("domain=\"\"") && none.contains("stratamx_domains_left_out 0\n"));
}

#[test]
fn shards_are_added_up() {
    let (one, two) = (Measured::default(), Measured::default());
    for shard in [&one, &two] {
        shard.counters.mail.commit.took(core::time::Duration::from_millis(3));
        shard.counters.deferred.add(5);
    }
    let text = page(Format::Text, &[], &[one, two]);
    assert!(text.contains("stratamx_storage_commit_seconds_bucket{log=\"mail\",le=\"0.0025\"} 0\n"));
    assert!(text.contains("stratamx_storage_commit_seconds_bucket{log=\"mail\",le=\"0.005\"} 2\n"));
    assert!(
        text.contains("stratamx_delivery_deferred_units_total 10\n") && text.contains("stratamx_shards 2\n")
    );
}
