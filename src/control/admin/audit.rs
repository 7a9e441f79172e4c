//! The audit log, the latest entry first.

use super::Api;
use super::problem::Problem;
use crate::control::store::audit::{self, Row};
use crate::limits::STORE_PAGE_MAX;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Entries before this one
    before: Option<i64>,
    /// So many at most; the server has a bound of its own
    limit: Option<usize>,
}

/// A change, or a look at the content of a message.
#[derive(Debug, Serialize, ToSchema)]
struct Entry {
    id: i64,
    /// In seconds since 1970
    at_s: i64,
    /// Whose token it was
    caller: String,
    method: String,
    /// With its query
    path: String,
    /// What came with it, without secrets; of a long one its length
    body: String,
    /// How it was answered; null: it was under way when the server ended
    status: Option<u16>,
}

/// A page; `next` is the `before` of the one behind it, null at the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    next: Option<i64>,
}

/// Who changed what, and who looked at the content of mail
#[utoipa::path(get, path = "/api/v1/audit", tag = "server", params(Wanted), responses((status = 200, body = Entries)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Entries>, Problem> {
    let Query(Wanted { before, limit }) = wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let limit = limit.unwrap_or(STORE_PAGE_MAX).clamp(1, STORE_PAGE_MAX);
    let rows =
        api.store.run(move |connection| audit::page(connection, before.unwrap_or(i64::MAX), limit)).await?;
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() == limit);
    let entries = rows.into_iter().map(|row| {
        let Row { id, at_s, caller, method, path, body, status } = row;
        Entry { id, at_s, caller, method, path, body, status }
    });
    Ok(Json(Entries { entries: entries.collect(), next }))
}
