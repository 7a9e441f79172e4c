//! `GET status`: all domains in one answer; and what supervisors ask.

use super::problem::Problem;
use super::{Api, answered};
use crate::bridge::Snapshot;
use crate::bridge::operator::{DomainStatus, Request, ShardStatus, SinceStart, Unanswered};
use crate::limits::OPERATOR_DOMAINS_A_REQUEST;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// What `GET status` answers; CONTRACT names `domains` and its fields.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    domains: Vec<DomainStatus>,
    hostname: String,
    version: &'static str,
    uptime_s: u64,
    since_start: SinceStart,
    disk: Disk,
}

#[derive(Debug, Serialize, ToSchema)]
struct Disk {
    free_bytes: u64,
    /// With less, new mail is refused.
    min_free_bytes: u64,
}

/// Whether the process runs and answers
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether all shards answer
#[utoipa::path(get, path = "/readyz", tag = "server", security(()), responses((status = 200, body = String)))]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    answered(&api, api.shards.ask(Request::Status)).await.map(|_| "ready\n")
}

/// All domains, disk, throughput since the start
#[utoipa::path(get, path = "/api/v1/status", tag = "server", responses((status = 200, body = Status)))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Result<Json<Status>, Problem> {
    let snapshot = api.current.get();
    let shards = answered(&api, api.shards.ask(Request::Status)).await?;
    let domains = answered(&api, domains(&api, &names(&snapshot))).await?;
    let mut since_start = SinceStart::default();
    for ShardStatus { since_start: one, .. } in &shards {
        since_start.connections += one.connections;
        since_start.messages += one.messages;
        since_start.accepted += one.accepted;
        since_start.delivered += one.delivered;
        since_start.deferred += one.deferred;
    }
    Ok(Json(Status {
        domains,
        hostname: snapshot.config.hostname.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: api.started.elapsed().as_secs(),
        since_start,
        disk: Disk {
            free_bytes: shards.iter().map(|shard| shard.free_octets).min().unwrap_or(0),
            min_free_bytes: snapshot.config.storage.min_free_space_bytes,
        },
    }))
}

/// Protected domains in the order of the file, then those that have, or had, mail and are not configured (H14).
pub(super) fn names(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> =
        snapshot.config.domains.iter().map(|domain| domain.name.as_str().into()).collect();
    let others = snapshot.usage.names(|name, usage| {
        (usage.messages() > 0 || usage.accepted() > 0) && snapshot.domain(name).is_none()
    });
    names.extend(others);
    names
}

/// The status of these domains, in their order.
pub(super) async fn domains(api: &Api, names: &[Arc<str>]) -> Result<Vec<DomainStatus>, Unanswered> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(OPERATOR_DOMAINS_A_REQUEST) {
        let answers = api.shards.ask(|answer| Request::Domains(names.to_vec(), answer)).await?;
        let answers = answers.into_iter().flatten().map(|domain| (domain.name.clone(), domain));
        let mut known: HashMap<String, DomainStatus> = answers.collect();
        all.extend(names.iter().filter_map(|name| known.remove(&**name)));
    }
    Ok(all)
}
