//! `domains`: the configuration in force, and how it goes.

use super::problem::Problem;
use super::settings::Settings;
use super::{Api, UNKNOWN_DOMAIN, answered, status};
use crate::bridge::operator::DomainStatus;
use crate::bridge::{Snapshot, Standing};
use crate::config::{Domain, Primaries, canonical_domain};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::ETAG;
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Domains {
    domains: Vec<Shown>,
}

/// One domain.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Domain)]
pub(super) struct Shown {
    name: String,
    /// `file`: pinned, not to be changed here; `api`: provisioned; null: not configured, with mail from before (H14)
    origin: Option<&'static str>,
    /// What was provisioned of it
    #[schema(value_type = Option<Settings>)]
    settings: Option<Map<String, Value>>,
    /// Another one for each change of what is provisioned; its ETag
    revision: Option<u64>,
    /// When it was provisioned, in seconds since 1970
    created_s: Option<i64>,
    /// When that changed last
    changed_s: Option<i64>,
    /// What holds for it, its own keys and the defaults
    configuration: Option<Configuration>,
    status: DomainStatus,
    /// What an operator has ordered about it.
    orders: Standing,
}

/// What holds for a domain, its own keys and the defaults.
#[derive(Debug, Serialize, ToSchema)]
struct Configuration {
    primary: Vec<String>,
    recipients: String,
    recipient_list: Option<String>,
    when_up: String,
    retry_interval_s: u64,
    retention_s: u64,
    on_expiry: String,
    held_retention_s: u64,
    safety_net_s: u64,
    on_reject: String,
    max_connections: u32,
    smarthost: Option<String>,
    tls: String,
    authenticate: bool,
    arc: Option<String>,
    quota: Quota,
    etrn_from: Vec<String>,
    unknown_during_outage: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Quota {
    messages: u32,
    bytes: u64,
}

impl Configuration {
    fn of(domain: &Domain) -> Self {
        Self {
            primary: match &domain.primaries {
                Primaries::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect(),
                Primaries::Exchangers => vec!["mx".to_owned()],
            },
            recipients: domain.recipients.recipients.to_string(),
            recipient_list: domain.recipients.list.as_ref().map(|list| list.display().to_string()),
            when_up: domain.when_up.to_string(),
            retry_interval_s: domain.retry_interval.as_secs(),
            retention_s: domain.retention.as_secs(),
            on_expiry: domain.on_expiry.to_string(),
            held_retention_s: domain.held_retention.as_secs(),
            safety_net_s: domain.safety_net.as_secs(),
            on_reject: domain.on_reject.to_string(),
            max_connections: domain.max_connections,
            smarthost: domain.smarthost.as_ref().map(ToString::to_string),
            tls: domain.tls.to_string(),
            authenticate: domain.authenticate,
            arc: domain.arc.as_ref().map(|arc| format!("{}._domainkey.{}", arc.selector, arc.domain)),
            quota: Quota { messages: domain.quota.messages, bytes: domain.quota.octets },
            etrn_from: domain.etrn_from.iter().map(ToString::to_string).collect(),
            unknown_during_outage: domain.recipients.unknown_during_outage.to_string(),
        }
    }
}

/// All domains
#[utoipa::path(get, path = "/api/v1/domains", tag = "domains", responses((status = 200, body = Domains)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Domains>, Problem> {
    let snapshot = api.current.get();
    let all = answered(&api, status::domains(&api, &status::names(&snapshot))).await?;
    Ok(Json(Domains { domains: all.into_iter().map(|status| shown(&api, &snapshot, status)).collect() }))
}

/// One domain
#[utoipa::path(
    get, path = "/api/v1/domains/{name}", tag = "domains", params(("name" = String, Path, description = "The domain")),
    responses((status = 200, body = Shown, headers(("ETag", description = "Of what is provisioned"))))
)]
pub(super) async fn show(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let known = known(&api.current.get(), &canonical_domain(&name).unwrap_or_default())?;
    one(&api, &known).await
}

/// One domain as it is now, with its ETag.
pub(super) async fn one(api: &Api, name: &Arc<str>) -> Result<Response, Problem> {
    let statuses = answered(api, status::domains(api, &[Arc::clone(name)])).await?;
    let status = statuses.into_iter().next().ok_or_else(|| Problem::not_found(UNKNOWN_DOMAIN))?;
    let shown = shown(api, &api.current.get(), status);
    let tag = shown.revision.map(|revision| (ETAG, etag(revision)));
    Ok((AppendHeaders(tag), Json(shown)).into_response())
}

/// The entity tag of what is provisioned (RFC 9110 8.8.3).
pub(super) fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// A domain that is configured, or that has or had mail (H14).
pub(super) fn known(snapshot: &Snapshot, wanted: &str) -> Result<Arc<str>, Problem> {
    let known = status::names(snapshot).into_iter().find(|name| **name == *wanted);
    known.ok_or_else(|| Problem::not_found(UNKNOWN_DOMAIN))
}

fn shown(api: &Api, snapshot: &Snapshot, status: DomainStatus) -> Shown {
    let configuration = snapshot.domain(&status.name).map(Configuration::of);
    let orders = Standing::clone(&snapshot.usage_of(&status.name).orders.get());
    let is_pinned = api.provisioned.is_pinned(&status.name);
    let entry = api.provisioned.entry(&status.name).filter(|_| !is_pinned);
    let origin = match (is_pinned, &entry) {
        (true, _) => Some("file"),
        (false, Some(_)) => Some("api"),
        (false, None) => None,
    };
    Shown {
        name: status.name.clone(),
        origin,
        revision: entry.as_ref().map(|entry| entry.revision),
        created_s: entry.as_ref().map(|entry| entry.created_s),
        changed_s: entry.as_ref().map(|entry| entry.changed_s),
        settings: entry.map(|entry| entry.settings),
        configuration,
        status,
        orders,
    }
}
