//! The appliance's configuration: its revisions, what differs, and changes ([`crate::update::configuration`]).
//!
//! PID 1 has the files and the last word; here is who asks, what he has seen (`If-Match`), and the reload that puts a revision in force that needs no start.
//! A revision that the server cannot take up is given back before the answer. Texts are told of `stratamx.toml`, `appliance.toml` and lists of recipients,
//! never of keys and tokens; each look at one is in the audit log, and so is each change, without the octets of its files. Without a PID 1 of ours all paths are 409.

use super::Api;
use super::caller::Caller;
use super::domains::etag;
use super::problem::Problem;
use super::queue::{Queried, query};
use super::update::blocking;
use crate::control::machine::{Machine, other};
use crate::limits::CONFIGURATION_CHANGE_OCTETS_MAX;
use crate::update::configuration::{
    Answer, Change, Changed, Difference, Effect, List, NewFile, Request as Asked, What,
};
use axum::body::to_bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A change of files.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConfigurationChange)]
pub(super) struct Apply {
    /// They are added, or replace those of their names; the others stay
    #[serde(default)]
    files: Vec<NewFile>,
    /// Names of files that go
    #[serde(default)]
    remove: Vec<String>,
    /// Whether it is given back unless it is confirmed; else where it changes the network or `[admin]`, or ends the server
    confirm: Option<bool>,
    /// Only say what would happen
    #[serde(default)]
    dry_run: bool,
}

/// A revert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConfigurationRevert)]
pub(super) struct Revert {
    /// The revision whose files are to be in force, as a new one
    to: u64,
    /// Whether it is given back unless it is confirmed; else where it changes the network or `[admin]`, or ends the server
    confirm: Option<bool>,
    /// Only say what would happen
    #[serde(default)]
    dry_run: bool,
}

/// Which two are compared.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Compared {
    /// The earlier one; else the one before `to`
    from: Option<u64>,
    /// The later one; else the one in force
    to: Option<u64>,
}

/// What differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConfigurationCompared)]
pub(super) struct Shown {
    from: u64,
    to: u64,
    differences: Vec<Difference>,
}

type Tagged<T> = ([(HeaderName, String); 1], Json<T>);

/// The revisions of the appliance's configuration, the newest first; which is in force, and whether it has to be confirmed
#[utoipa::path(
    get, path = "/api/v1/machine/configuration", tag = "machine",
    responses((status = 200, body = List), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Tagged<List>, Problem> {
    let list = listed(&machine(&api)?).await?;
    Ok(([(ETAG, etag(list.in_force))], Json(list)))
}

/// The text of a file of a revision; each look is in the audit log
#[utoipa::path(
    get, path = "/api/v1/machine/configuration/{number}/files/{name}", tag = "machine",
    params(("number" = u64, Path, description = "The revision"), ("name" = String, Path, description = "The file")),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 409, description = "This server is no appliance, or the file is a key, a token or a certificate"),
    )
)]
pub(super) async fn file(
    State(api): State<Arc<Api>>,
    path: Result<Path<(u64, String)>, PathRejection>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let Path((number, name)) = path.map_err(|error| Problem::bad_request(&error.body_text()))?;
    match asked(&machine(&api)?, Asked::Show { number, name }).await? {
        Answer::Text(text) => Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text)),
        _ => Err(strange()),
    }
}

/// What differs between two revisions; each look is in the audit log
#[utoipa::path(
    get, path = "/api/v1/machine/configuration/diff", tag = "machine", params(Compared),
    responses((status = 200, body = Shown), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn differences(
    State(api): State<Arc<Api>>,
    compared: Queried<Compared>,
) -> Result<Json<Shown>, Problem> {
    let Compared { from, to } = query(compared)?;
    let machine = machine(&api)?;
    let list = listed(&machine).await?;
    let to = to.unwrap_or(list.in_force);
    let before = || list.revisions.iter().map(|revision| revision.number).find(|number| *number < to);
    let none = || Problem::not_found(&format!("there is no revision before {to}"));
    let from = from.or_else(before).ok_or_else(none)?;
    match asked(&machine, Asked::Difference { from, to }).await? {
        Answer::Differences(differences) => Ok(Json(Shown { from, to, differences })),
        _ => Err(strange()),
    }
}

/// Changes files of the configuration: a new revision, checked whole, in force when it is answered, or by the start that the answer names
#[utoipa::path(
    post, path = "/api/v1/machine/configuration", tag = "machine", request_body = Apply,
    params(
        ("If-Match" = String, Header, description = "The ETag of the list that was seen: the revision in force"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it comes"),
    ),
    responses(
        (status = 200, body = Changed), (status = 409, description = "No appliance, a revision is on probation, or the hypervisor gives the file"),
        (status = 412, description = "Another revision is in force"), (status = 422, description = "What is wrong with it"),
        (status = 428, description = "Without If-Match"), (status = 507, description = "The disk is full"),
    )
)]
pub(super) async fn apply(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Tagged<Changed>, Problem> {
    let seen = seen(request.headers())?;
    let Apply { files, remove, confirm, dry_run } = body(request).await?;
    let caller = caller.name.to_string();
    let change = Change { seen, what: What::Files { files, remove }, caller, confirm, dry_run };
    changed(&api, change).await
}

/// Puts the files of an earlier revision in force, as a new one
#[utoipa::path(
    post, path = "/api/v1/machine/configuration/revert", tag = "machine", request_body = Revert,
    params(
        ("If-Match" = String, Header, description = "The ETag of the list that was seen: the revision in force"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it comes"),
    ),
    responses(
        (status = 200, body = Changed), (status = 409, description = "No appliance, a revision is on probation, or the hypervisor gives a file"),
        (status = 412, description = "Another revision is in force"), (status = 428, description = "Without If-Match"),
        (status = 507, description = "The disk is full"),
    )
)]
pub(super) async fn revert(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Tagged<Changed>, Problem> {
    let seen = seen(request.headers())?;
    let Revert { to, confirm, dry_run } = body(request).await?;
    let change =
        Change { seen, what: What::Revert { to }, caller: caller.name.to_string(), confirm, dry_run };
    changed(&api, change).await
}

/// The revision on probation stands: whoever says so has reached the machine over it
#[utoipa::path(
    post, path = "/api/v1/machine/configuration/confirm", tag = "machine",
    params(("If-Match" = String, Header, description = "The revision, as its change was answered with")),
    responses(
        (status = 204, description = "It stands"), (status = 409, description = "No appliance, or it is not in force yet"),
        (status = 412, description = "Another revision is in force"), (status = 428, description = "Without If-Match"),
    )
)]
pub(super) async fn confirm(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let number = seen(&headers)?;
    match asked(&machine(&api)?, Asked::Confirm { number }).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(strange()),
    }
}

async fn changed(api: &Api, change: Change) -> Result<Tagged<Changed>, Problem> {
    let (machine, dry_run) = (machine(api)?, change.dry_run);
    let Answer::Changed(changed) = asked(&machine, Asked::Change(change)).await? else {
        return Err(strange());
    };
    if !dry_run && changed.effect == Effect::Reload {
        take_up(api, &machine, changed.number).await?;
    }
    tracing::info!(revision = changed.number, effect = ?changed.effect, dry_run, "the configuration was changed");
    Ok(([(ETAG, etag(changed.number))], Json(changed)))
}

/// Has the server read the new revision; one that it cannot take up is in force no more.
async fn take_up(api: &Api, machine: &Arc<Machine>, number: u64) -> Result<(), Problem> {
    let ending = || Problem::unavailable("the server is ending");
    let (answer, answered) = async_channel::bounded(1);
    api.reload.send(answer).await.map_err(|_| ending())?;
    let Err(why) = answered.recv().await.map_err(|_| ending())? else { return Ok(()) };
    asked(machine, Asked::GiveBack { number, why: why.clone() }).await?;
    Err(Problem::unprocessable(&format!(
        "the server does not take it up, and the revision before is in force: {why}"
    )))
}

async fn listed(machine: &Arc<Machine>) -> Result<List, Problem> {
    match asked(machine, Asked::List).await? {
        Answer::List(list) => Ok(list),
        _ => Err(strange()),
    }
}

async fn asked(machine: &Arc<Machine>, request: Asked) -> Result<Answer, Problem> {
    let machine = Arc::clone(machine);
    blocking(move || machine.configuration(request)).await
}

fn strange() -> Problem {
    Problem::unavailable(&other().to_string())
}

fn machine(api: &Api) -> Result<Arc<Machine>, Problem> {
    let no_appliance = || {
        Problem::conflict(
            "this is no appliance: the configuration is the file that the server was started with; change that, try it by \
             stratamx check, then send SIGHUP or POST /api/v1/config/reload",
        )
    };
    api.machine.clone().ok_or_else(no_appliance)
}

/// The revision that the caller has seen: one entity tag, as it was given.
fn seen(headers: &HeaderMap) -> Result<u64, Problem> {
    let value = headers.get(IF_MATCH).ok_or_else(|| {
        Problem::unconditional(
            "If-Match names the revision that was seen: the ETag of GET /api/v1/machine/configuration",
        )
    })?;
    let number =
        value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    number.ok_or_else(|| Problem::bad_request("If-Match is the number of a revision in quotes, as in \"7\""))
}

/// Larger than bodies of others are.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let octets = to_bytes(request.into_body(), CONFIGURATION_CHANGE_OCTETS_MAX).await;
    let octets = octets.map_err(|_| Problem::too_large())?;
    serde_json::from_slice(&octets).map_err(|error| Problem::bad_request(&format!("the body: {error}")))
}
