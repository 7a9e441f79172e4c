//! Tokens that are given out: their names, scopes and ends; a token itself is told once, when it is made.

use super::Api;
use super::caller::{Scope, scopes, words};
use super::problem::Problem;
use super::queue::body;
use super::token;
use crate::control::store::now_s;
use crate::control::store::token::{self as rows, Row};
use crate::limits::{TOKEN_NAME_OCTETS_MAX, TOKENS_MAX};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A token that was given out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct Given {
    id: i64,
    name: String,
    scopes: Vec<Scope>,
    /// In seconds since 1970
    created_s: i64,
    /// From when on it is worth nothing; null: it does not end
    expires_s: Option<i64>,
}

/// All that are in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<Given>,
}

/// What a token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub(super) struct Wanted {
    /// What it is for
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// In seconds since 1970; left out: it does not end
    expires_s: Option<i64>,
}

/// A new token; it is not told again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MadeToken)]
pub(super) struct Made {
    #[serde(flatten)]
    given: Given,
    token: String,
}

impl From<Row> for Given {
    fn from(row: Row) -> Self {
        let Row { id, name, scopes: words, created_s, expires_s, .. } = row;
        Self { id, name, scopes: scopes(&words), created_s, expires_s }
    }
}

/// Tokens that are in force
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = Tokens)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Tokens> {
    Json(Tokens { tokens: api.callers.given().into_iter().map(Given::from).collect() })
}

/// What an operator calls something: for a list, and for the audit log.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let is_name = (1..=TOKEN_NAME_OCTETS_MAX).contains(&name.len()) && !name.contains(char::is_control);
    let refused = || Problem::unprocessable("name: 1 to 64 octets, none of them a control character");
    if is_name { Ok(()) } else { Err(refused()) }
}

/// Makes a token
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", request_body = Wanted,
    responses((status = 201, body = Made), (status = 409, description = "There are too many"))
)]
pub(super) async fn make(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let Wanted { name, mut scopes, expires_s } = body(request).await?;
    check_name(&name)?;
    if scopes.is_empty() {
        return Err(Problem::unprocessable("scopes: a token without any could do nothing"));
    }
    if expires_s.is_some_and(|end| end <= now_s()) {
        return Err(Problem::unprocessable("expires_s: lies behind now"));
    }
    if api.callers.given().len() >= TOKENS_MAX {
        return Err(Problem::conflict("there are 1024 tokens, which is the most: revoke some"));
    }
    scopes.sort_unstable();
    scopes.dedup();
    let token = token::random().map_err(|error| Problem::unavailable(&error))?;
    let digest = digest(&SHA256, token.as_bytes());
    let kept = api
        .store
        .run(move |connection| rows::add(connection, &name, digest.as_ref(), &words(&scopes), expires_s));
    let row = kept.await?;
    api.callers.add(row.clone());
    Ok((StatusCode::CREATED, Json(Made { given: row.into(), token })))
}

/// Revokes a token: it is worth nothing from the answer on
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204, description = "It is revoked"))
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::not_found("there is no such token in force");
    let Path(id) = id.map_err(|_| unknown())?;
    let was = api.store.run(move |connection| rows::revoke(connection, id)).await?;
    api.callers.remove(id);
    if was { Ok(StatusCode::NO_CONTENT) } else { Err(unknown()) }
}
