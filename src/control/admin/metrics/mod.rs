//! `GET /metrics`: what is measured, for Prometheus and whoever reads its formats.
//!
//! Each scrape asks every shard once ([`Request::Measure`]): a copy of its counters, and the counts of its domains, the first
//! [`METRICS_DOMAINS_MAX`] of them each. They are added up here, and written family by family in the order of the page. Names,
//! types and help are those of METRICS.md ([`table`]). A shard that does not answer costs the scrape (503), never mail.

mod disk;
mod domains;
mod page;
mod process;
mod table;

use super::problem::Problem;
use super::{Api, answered, status};
use crate::bridge::operator::{Figures, Measured, Request};
use crate::bridge::{Snapshot, Transport};
use crate::control::certificate_end::not_after_s;
use crate::limits::METRICS_DOMAINS_MAX;
use crate::metrics::{By, Counters, Label, LogCounters};
use crate::update::machine::Disk;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use domains::Shown;
use page::{Format, Page};
use std::sync::Arc;

/// All shards together.
struct Sum {
    shards: usize,
    counters: Counters,
    all: Figures,
    sessions: u64,
    receive_octets: (u64, u64),
    segments: u64,
    free_octets: u64,
}

/// What is measured, for Prometheus: text, or OpenMetrics to who asks for it
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, content(
        (String = "text/plain"),
        (String = "application/openmetrics-text"),
    )))
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let format = Format::of(headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default());
    let snapshot = api.current.get();
    let names: Arc<[Arc<str>]> = status::names(&snapshot).into();
    let asked = api.shards.ask(|answer| Request::Measure(Arc::clone(&names), METRICS_DOMAINS_MAX, answer));
    let measured = answered(&api, asked).await?;
    let machine = api.machine.as_ref().and_then(|machine| machine.known());
    let page = write(format, &snapshot, &names, &measured, machine.map(|machine| machine.disk).as_ref());
    let mut response = page.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

fn write(
    format: Format,
    snapshot: &Snapshot,
    names: &[Arc<str>],
    measured: &[Measured],
    disk: Option<&Disk>,
) -> String {
    let shown = Shown::gather(snapshot, names, measured);
    let sum = Sum::of(measured, shown.all());
    let mut page = Page::new(format, PAGE_OCTETS + shown.len() * DOMAIN_OCTETS);
    page.begin("stratamx_build_info");
    page.put(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("stratamx_shards", sum.shards);
    shown.write(&mut page);
    certificates(&mut page, snapshot);
    receiving(&mut page, &sum);
    authentication(&mut page, &sum.counters);
    delivery(&mut page, &sum);
    storage(&mut page, snapshot, &sum);
    disk::write(&mut page, disk);
    process::write(&mut page);
    page.finish()
}

/// About what the page takes without domains, and for one of them: it is not copied while it grows.
const PAGE_OCTETS: usize = 32 << 10;
const DOMAIN_OCTETS: usize = 2 << 10;

impl Sum {
    fn of(measured: &[Measured], all: Figures) -> Self {
        let counters = Counters::default();
        measured.iter().for_each(|one| counters.merge(&one.counters));
        let sum = |of: fn(&Measured) -> u64| measured.iter().map(of).sum();
        Self {
            shards: measured.len(),
            counters,
            all,
            sessions: sum(|one| one.sessions),
            receive_octets: (sum(|one| one.receive_octets.0), sum(|one| one.receive_octets.1)),
            segments: sum(|one| one.segments),
            free_octets: measured.iter().map(|one| one.free_octets).min().unwrap_or(0),
        }
    }
}

/// A counter with one label.
fn by<L: Label>(page: &mut Page, name: &'static str, label: &'static str, counters: &By<L>) {
    page.begin(name);
    for (word, count) in counters.values() {
        page.put(&[(label, word)], count);
    }
}

fn certificates(page: &mut Page, snapshot: &Snapshot) {
    page.begin("stratamx_certificate_not_after_seconds");
    let shown = snapshot.certificates.as_ref().map(|certificates| certificates.leaves()).unwrap_or_default();
    for (place, certificate) in shown.iter().enumerate() {
        if let Some(end_s) = not_after_s(certificate) {
            page.put(&[("certificate", &place.to_string())], end_s);
        }
    }
}

fn receiving(page: &mut Page, sum: &Sum) {
    let counters = &sum.counters;
    by(page, "stratamx_smtp_connections_total", "outcome", &counters.connections);
    page.one("stratamx_smtp_sessions", sum.sessions);
    by(page, "stratamx_smtp_handshakes_total", "outcome", &counters.handshakes);
    by(page, "stratamx_smtp_replies_total", "class", &counters.replies);
    page.one("stratamx_smtp_recipients_refused_total", counters.recipients_refused.value());
    by(page, "stratamx_smtp_end_of_data_replies_total", "class", &counters.end_of_data);
    page.begin("stratamx_smtp_acceptance_seconds");
    page.histogram(&[], &counters.acceptance);
    page.one("stratamx_receive_buffers_bytes", sum.receive_octets.0);
    page.one("stratamx_receive_buffers_limit_bytes", sum.receive_octets.1);
    by(page, "stratamx_accepted_messages_total", "origin", &counters.messages);
    page.one("stratamx_accepted_bytes_total", counters.octets.value());
}

fn authentication(page: &mut Page, counters: &Counters) {
    page.one("stratamx_authentication_verdicts_total", counters.authenticated.value());
    page.one("stratamx_authentication_missed_total", counters.unauthenticated.value());
    by(page, "stratamx_authentication_spf_total", "result", &counters.spf);
    by(page, "stratamx_authentication_dkim_total", "result", &counters.dkim);
    by(page, "stratamx_authentication_dmarc_total", "result", &counters.dmarc);
}

fn delivery(page: &mut Page, sum: &Sum) {
    let counters = &sum.counters;
    by(page, "stratamx_delivery_replies_total", "class", &counters.answers);
    page.begin("stratamx_delivery_seconds");
    page.histogram(&[], &counters.delivery);
    page.begin("stratamx_delivery_lag_seconds");
    page.histogram(&[], &counters.lag);
    page.one("stratamx_delivery_deferred_units_total", counters.deferred.value());
    page.one("stratamx_delivery_unknown_units_total", counters.unknown.value());
    page.begin("stratamx_delivery_units_total");
    for (transport, units) in Transport::ALL.into_iter().zip(sum.all.taken) {
        page.put(&[("transport", transport.word())], units);
    }
    by(page, "stratamx_primary_sessions_total", "outcome", &counters.sessions);
    by(page, "stratamx_primary_probes_total", "outcome", &counters.probes);
    by(page, "stratamx_guard_events_total", "event", &counters.guard);
    page.one("stratamx_notices_made_total", counters.notices.value());
    page.one("stratamx_notices_lost_total", counters.notices_lost.value());
    page.one("stratamx_trace_rows_total", counters.traces.value());
    page.one("stratamx_trace_rows_lost_total", counters.traces_lost.value());
    by(page, "stratamx_lookups_total", "outcome", &counters.lookups);
    page.begin("stratamx_lookup_seconds");
    page.histogram(&[], &counters.lookup);
}

fn storage(page: &mut Page, snapshot: &Snapshot, sum: &Sum) {
    let logs: [(&str, &LogCounters); 2] = [("mail", &sum.counters.mail), ("journal", &sum.counters.journal)];
    page.begin("stratamx_storage_commit_seconds");
    logs.iter().for_each(|(log, counters)| page.histogram(&[("log", log)], &counters.commit));
    page.begin("stratamx_storage_batch_bytes");
    logs.iter().for_each(|(log, counters)| page.histogram(&[("log", log)], &counters.batch_octets));
    page.begin("stratamx_storage_batch_records");
    logs.iter().for_each(|(log, counters)| page.histogram(&[("log", log)], &counters.batch_records));
    page.begin("stratamx_storage_failures_total");
    for (log, counters) in logs {
        for (failure, count) in counters.failures.values() {
            page.put(&[("log", log), ("failure", failure)], count);
        }
    }
    let config = &snapshot.config.storage;
    page.one("stratamx_storage_segments", sum.segments);
    page.one("stratamx_storage_segments_bytes", sum.segments.saturating_mul(config.segment_size_bytes));
    page.one("stratamx_storage_free_bytes", sum.free_octets);
    page.one("stratamx_storage_free_min_bytes", config.min_free_space_bytes);
}

#[cfg(test)]
mod tests;
