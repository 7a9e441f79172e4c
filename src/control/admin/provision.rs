//! Domains are added, changed and removed.
//!
//! A domain's own keys are those of `[[domain]]` in the configuration file, without those that name files. `PUT` says all of them,
//! `PATCH` changes some (RFC 7396: null takes one back). Who says what he has seen (`If-Match`) changes nothing else; `If-None-Match: *`
//! only makes. A change is in force on all shards when it is answered.

use super::Api;
use super::domains::{etag, one};
use super::problem::Problem;
use super::queue::{body, domain_of};
use super::settings::{NewDomain, Settings};
use crate::control::provisioning::{Change, Entry, Refused};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::IntoParams;

/// How a domain is removed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// `keep`: also while mail of it is queued or held, which waits then until the domain is back
    with_mail: Option<String>,
}

/// Adds a domain
#[utoipa::path(
    post, path = "/api/v1/domains", tag = "domains", request_body = NewDomain,
    params(("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it comes")),
    responses((status = 201, body = super::domains::Shown), (status = 409, description = "It is there, or pinned"))
)]
pub(super) async fn create(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let mut settings: Map<String, Value> = body(request).await?;
    let Some(Value::String(name)) = settings.remove("name") else {
        return Err(Problem::unprocessable("name: is missing, or no text"));
    };
    let name = domain_of(&name)?;
    let change = |before: Option<&Entry>| match before {
        Some(_) => Err(Refused::Exists),
        None => Ok(Change::Put(settings)),
    };
    api.provisioned.change(name.to_string(), change).await?;
    created(&api, &name).await
}

/// Adds a domain, or says all of its own keys anew
#[utoipa::path(
    put, path = "/api/v1/domains/{name}", tag = "domains", request_body = Settings,
    params(
        ("name" = String, Path, description = "The domain"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if it is not there"),
    ),
    responses(
        (status = 200, body = super::domains::Shown), (status = 201, body = super::domains::Shown),
        (status = 409, description = "It is pinned"), (status = 412, description = "It is not what was seen"),
    )
)]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = domain_of(&name)?;
    let seen = Seen::of(request.headers())?;
    let settings: Map<String, Value> = body(request).await?;
    let was = api.provisioned.entry(&name).is_some();
    let change = move |before: Option<&Entry>| seen.check(before).map(|()| Change::Put(settings));
    api.provisioned.change(name.to_string(), change).await?;
    if was { one(&api, &name).await } else { created(&api, &name).await }
}

/// Changes some of a domain's own keys (RFC 7396)
#[utoipa::path(
    patch, path = "/api/v1/domains/{name}", tag = "domains",
    request_body(content = Object, content_type = "application/merge-patch+json", description = "Keys as of PUT; null takes one back"),
    params(
        ("name" = String, Path, description = "The domain"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen"),
    ),
    responses(
        (status = 200, body = super::domains::Shown),
        (status = 409, description = "It is pinned"), (status = 412, description = "It is not what was seen"),
    )
)]
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = domain_of(&name)?;
    let seen = Seen::of(request.headers())?;
    let patch: Map<String, Value> = body(request).await?;
    let change = move |before: Option<&Entry>| {
        seen.check(before)?;
        let mut settings = before.ok_or(Refused::Unknown)?.settings.clone();
        merge(&mut settings, patch);
        Ok(Change::Put(settings))
    };
    api.provisioned.change(name.to_string(), change).await?;
    one(&api, &name).await
}

/// Removes a domain with its recipients; its mail stays
#[utoipa::path(
    delete, path = "/api/v1/domains/{name}", tag = "domains",
    params(
        ("name" = String, Path, description = "The domain"), Removal,
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is pinned, or mail of it is queued or held"),
        (status = 412, description = "It is not what was seen"),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    removal: Result<Query<Removal>, QueryRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let name = domain_of(&name)?;
    let seen = Seen::of(&headers)?;
    let Query(Removal { with_mail }) = removal.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let keeps = match with_mail.as_deref() {
        None => false,
        Some("keep") => true,
        Some(_) => return Err(Problem::bad_request("with_mail is keep, or left out")),
    };
    let usage = api.current.get().usage_of(&name);
    let change = move |before: Option<&Entry>| {
        seen.check(before)?;
        before.ok_or(Refused::Unknown)?;
        // H14: mail of it would wait unseen.
        let waiting = usage.messages();
        if waiting > 0 && !keeps { Err(Refused::HasMail(waiting)) } else { Ok(Change::Remove) }
    };
    api.provisioned.change(name.to_string(), change).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn created(api: &Api, name: &Arc<str>) -> Result<Response, Problem> {
    let mut response = one(api, name).await?;
    *response.status_mut() = StatusCode::CREATED;
    let place = format!("/api/v1/domains/{name}");
    let place = HeaderValue::from_str(&place).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(LOCATION, place);
    Ok(response.into_response())
}

/// What the client says that it has seen (RFC 9110 13.1).
#[derive(Debug)]
struct Seen {
    /// One of these entity tags; or anything that is there.
    matches: Option<Vec<String>>,
    /// Nothing was there.
    nothing: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |value: &HeaderValue| {
            value.to_str().map(str::to_owned).map_err(|_| Problem::bad_request("an entity tag is ASCII"))
        };
        let matches = headers.get(IF_MATCH).map(text).transpose()?;
        let matches = matches.map(|all| all.split(',').map(|tag| tag.trim().to_owned()).collect());
        let nothing = match headers.get(IF_NONE_MATCH).map(text).transpose()?.as_deref() {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Problem::bad_request("of If-None-Match only * is known here")),
        };
        Ok(Self { matches, nothing })
    }

    fn check(&self, before: Option<&Entry>) -> Result<(), Refused> {
        if self.nothing && before.is_some() {
            return Err(Refused::Changed);
        }
        let Some(matches) = &self.matches else { return Ok(()) };
        let tag = before.map(|entry| etag(entry.revision));
        let is_seen = tag.is_some_and(|tag| matches.iter().any(|seen| *seen == tag || seen == "*"));
        if is_seen { Ok(()) } else { Err(Refused::Changed) }
    }
}

/// RFC 7396 2.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match (value, target.get_mut(&key)) {
            (Value::Null, _) => drop(target.remove(&key)),
            (Value::Object(patch), Some(Value::Object(inner))) => merge(inner, patch),
            (Value::Object(patch), _) => {
                let mut inner = Map::new();
                merge(&mut inner, patch);
                target.insert(key, Value::Object(inner));
            }
            (value, _) => drop(target.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names() {
        for (before, patch, after) in [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "b", "c": 1 }), json!({ "a": null }), json!({ "c": 1 })),
            (json!({ "a": { "b": 1, "c": 2 } }), json!({ "a": { "b": null } }), json!({ "a": { "c": 2 } })),
            (json!({ "a": [1] }), json!({ "a": { "b": { "c": null } } }), json!({ "a": { "b": {} } })),
        ] {
            let mut target = before.as_object().unwrap().clone();
            merge(&mut target, patch.as_object().unwrap().clone());
            assert_eq!(Value::Object(target), after, "{before} {patch}");
        }
    }
}
