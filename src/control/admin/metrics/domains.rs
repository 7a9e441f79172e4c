//! The series of domains: the first of them each, the others together.

use super::page::Page;
use crate::bridge::Snapshot;
use crate::bridge::operator::{Figures, Measured, State};
use std::sync::Arc;

/// The counts of all domains, in the order in which they are written.
pub(super) struct Shown<'a> {
    each: Vec<Row<'a>>,
    /// What has no series of its own, and how many domains that are.
    rest: Figures,
    left_out: usize,
}

struct Row<'a> {
    domain: &'a str,
    /// None where it is not configured (H14).
    retention_s: Option<u64>,
    figures: Figures,
}

/// A family of one sample a domain.
type Of = fn(&Figures) -> u64;

/// Those that go up and down.
const GAUGES: [(&str, Of); 8] = [
    ("stratamx_domain_backlog_units", |figures| figures.backlog),
    ("stratamx_domain_held_units", |figures| figures.held),
    ("stratamx_domain_held_oldest_seconds", |figures| figures.held_oldest_s),
    ("stratamx_domain_queued_messages", |figures| figures.messages),
    ("stratamx_domain_stored_bytes", |figures| figures.bytes),
    ("stratamx_domain_oldest_seconds", |figures| figures.oldest_s),
    ("stratamx_domain_may_repeat_messages", |figures| figures.may_repeat),
    ("stratamx_domain_primary_changed", |figures| figures.changed),
];

/// Those that only grow.
const COUNTERS: [(&str, Of); 4] = [
    ("stratamx_domain_accepted_units_total", |figures| figures.accepted),
    ("stratamx_domain_proxied_units_total", |figures| figures.proxied),
    ("stratamx_domain_redirected_units_total", |figures| figures.redirected),
    ("stratamx_domain_replayed_units_total", |figures| figures.replayed),
];

/// How units ended.
const OUTCOMES: [(&str, Of); 6] = [
    ("delivered", |figures| figures.delivered),
    ("bounced", |figures| figures.bounced),
    ("discarded", |figures| figures.discarded),
    ("expired", |figures| figures.expired),
    ("deleted", |figures| figures.deleted),
    ("damaged", |figures| figures.damaged),
];

impl<'a> Shown<'a> {
    /// What all shards say of `names`.
    pub(super) fn gather(snapshot: &Snapshot, names: &'a [Arc<str>], measured: &[Measured]) -> Self {
        let mut each: Vec<(usize, Figures)> =
            measured.iter().flat_map(|one| one.shown.iter().copied()).collect();
        each.sort_unstable_by_key(|(place, _)| *place);
        let row = |(place, figures): (usize, Figures)| {
            let domain: &str = &names[place];
            let retention_s = snapshot.domain(domain).map(|domain| domain.retention.as_secs());
            Row { domain, retention_s, figures }
        };
        let each: Vec<Row<'_>> = each.into_iter().map(row).collect();
        let mut rest = Figures::default();
        measured.iter().for_each(|one| rest.add(&one.rest));
        Self { left_out: names.len() - each.len(), each, rest }
    }

    /// All domains together.
    pub(super) fn all(&self) -> Figures {
        let mut all = self.rest;
        self.each.iter().for_each(|row| all.add(&row.figures));
        all
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.begin("stratamx_domains");
        let all = self.all();
        let words = State::ALL.map(|state| state.to_string());
        for (state, count) in words.iter().zip(all.states) {
            page.put(&[("state", state)], count);
        }
        page.one("stratamx_domains_left_out", self.left_out);
        page.begin("stratamx_domain_state");
        for (domain, figures) in self.rows() {
            for (state, count) in words.iter().zip(figures.states) {
                page.put(&[("domain", domain), ("state", state)], count);
            }
        }
        for (name, of) in GAUGES.into_iter().chain(COUNTERS) {
            page.begin(name);
            for (domain, figures) in self.rows() {
                page.put(&[("domain", domain)], of(figures));
            }
        }
        page.begin("stratamx_domain_ended_units_total");
        for (domain, figures) in self.rows() {
            for (outcome, of) in OUTCOMES {
                page.put(&[("domain", domain), ("outcome", outcome)], of(figures));
            }
        }
        page.begin("stratamx_domain_retention_seconds");
        for row in &self.each {
            if let Some(retention_s) = row.retention_s {
                page.put(&[("domain", row.domain)], retention_s);
            }
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &Figures)> {
        let rest = (self.left_out > 0).then_some(("", &self.rest));
        self.each.iter().map(|row| (row.domain, &row.figures)).chain(rest)
    }
}
