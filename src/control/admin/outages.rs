//! Outages with their ledgers: as JSON, and as one page for people.

use super::Api;
use super::problem::Problem;
use super::queue::domain_of;
use super::report;
use crate::control::alert::outage::{Ledger, Outage, Sample};
use crate::control::alert::proof::Proof;
use crate::control::store::alert as rows;
use crate::limits::STORE_PAGE_MAX;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Html;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of this domain; else of all
    domain: Option<String>,
    /// Those before this one
    before: Option<i64>,
    /// So many at most; the server has a bound of its own
    limit: Option<usize>,
}

/// An outage of a domain's mail server; instants in seconds since 1970.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Outage)]
pub(super) struct Shown {
    id: i64,
    domain: String,
    /// Its first failure
    began_s: u64,
    /// What failed
    reason: String,
    /// When the server took mail again; null: not yet
    returned_s: Option<u64>,
    /// When nothing waited any more; null: it goes on
    ended_s: Option<u64>,
    /// Most units that waited at a time
    peak: u64,
    /// (message, recipient) units
    ledger: Ledger,
    /// What the traces say of it; null: it goes on, has just ended, or nothing is traced
    proof: Option<Proof>,
}

/// A page, the latest first; `next` is the `before` of the one behind it, null at the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outages {
    outages: Vec<Shown>,
    next: Option<i64>,
}

/// One outage, with what waited at which time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutageDetail)]
pub(super) struct Detail {
    #[serde(flatten)]
    outage: Shown,
    samples: Vec<Sample>,
}

/// Outages, the latest first
#[utoipa::path(get, path = "/api/v1/outages", tag = "outages", params(Wanted), responses((status = 200, body = Outages)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Outages>, Problem> {
    let Query(Wanted { domain, before, limit }) =
        wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let domain = domain.map(|name| domain_of(&name)).transpose()?;
    let limit = limit.unwrap_or(STORE_PAGE_MAX).clamp(1, STORE_PAGE_MAX);
    let before = before.unwrap_or(i64::MAX);
    let found =
        api.store.run(move |connection| rows::outages(connection, domain.as_deref(), before, limit)).await?;
    let next = found.last().map(|(id, _)| *id).filter(|_| found.len() == limit);
    Ok(Json(Outages { outages: found.iter().map(|(id, outage)| shown(*id, outage)).collect(), next }))
}

/// One outage, with what waited at which time
#[utoipa::path(
    get, path = "/api/v1/outages/{id}", tag = "outages", params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, body = Detail))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Detail>, Problem> {
    let (id, outage) = known(&api, id).await?;
    Ok(Json(Detail { outage: shown(id, &outage), samples: outage.samples }))
}

/// One outage as a page for people, which needs nothing else
#[utoipa::path(
    get, path = "/api/v1/outages/{id}/report", tag = "outages", params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, content_type = "text/html", body = String))
)]
pub(super) async fn page(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Html<String>, Problem> {
    let (_, outage) = known(&api, id).await?;
    Ok(Html(report::page(&api.current.get().config.hostname, &outage)))
}

async fn known(api: &Api, id: Result<Path<i64>, PathRejection>) -> Result<(i64, Outage), Problem> {
    let unknown = || Problem::not_found("there is no such outage");
    let Path(id) = id.map_err(|_| unknown())?;
    let outage = api.store.run(move |connection| rows::outage(connection, id)).await?;
    Ok((id, outage.ok_or_else(unknown)?))
}

fn shown(id: i64, outage: &Outage) -> Shown {
    Shown {
        id,
        domain: outage.domain.clone(),
        began_s: outage.began_s,
        reason: outage.reason.clone(),
        returned_s: outage.returned_s,
        ended_s: outage.ended_s,
        peak: outage.peak,
        ledger: outage.ledger(),
        proof: outage.proof.clone(),
    }
}
