//! `GET domains` and `GET domains/NAME`: the configuration in force, and how it goes.

use super::problem::Problem;
use super::{Api, UNKNOWN_DOMAIN, answered, status};
use crate::bridge::operator::DomainStatus;
use crate::bridge::{Snapshot, Standing};
use crate::config::{Domain, Primaries, canonical_domain};
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Serialize)]
pub(super) struct Domains {
    domains: Vec<Shown>,
}

/// One domain; `configuration` is null where it is not configured and has mail from before (H14).
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    name: String,
    configuration: Option<Configuration>,
    status: DomainStatus,
    /// What an operator has ordered about it.
    orders: Standing,
}

/// What holds for a domain, its own keys and the defaults.
#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
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

pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Domains>, Problem> {
    let snapshot = api.current.get();
    let all = answered(&api, status::domains(&api, &status::names(&snapshot))).await?;
    Ok(Json(Domains { domains: all.into_iter().map(|status| shown(&snapshot, status)).collect() }))
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let snapshot = api.current.get();
    let unknown = || Problem::not_found(UNKNOWN_DOMAIN);
    let known = known(&snapshot, &canonical_domain(&name).unwrap_or_default())?;
    let status =
        answered(&api, status::domains(&api, &[known])).await?.into_iter().next().ok_or_else(unknown)?;
    Ok(Json(shown(&snapshot, status)))
}

/// A domain that is configured, or that has or had mail (H14).
pub(super) fn known(snapshot: &Snapshot, wanted: &str) -> Result<Arc<str>, Problem> {
    let known = status::names(snapshot).into_iter().find(|name| **name == *wanted);
    known.ok_or_else(|| Problem::not_found(UNKNOWN_DOMAIN))
}

fn shown(snapshot: &Snapshot, status: DomainStatus) -> Shown {
    let configuration = snapshot.domain(&status.name).map(Configuration::of);
    let orders = Standing::clone(&snapshot.usage_of(&status.name).orders.get());
    Shown { name: status.name.clone(), configuration, status, orders }
}
