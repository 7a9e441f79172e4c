//! The keys of mail at rest on the appliance: how they stand, opening them, and changing what opens them. PID 1 does it ([`crate::update::at_rest`]).
//!
//! While they are not open the server is *locked*: it was started without any mail, and every path but these, `/healthz` and the description is 503 ([`is_served`]). PID 1
//! slows down who guesses, whichever way he comes. Secrets are in no log, and a recovery key is in no kept answer.

use super::Api;
use super::problem::Problem;
use super::queue::body;
use super::update::{blocking, machine};
use crate::update::at_rest::{Secret, Status, Wish};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What a locked server says to everything else.
pub(super) const LOCKED: &str =
    "locked: the keys of mail at rest are not open, and no mail is taken; stratamx unlock opens them";
/// Where the answer is a secret.
pub(super) const RECOVERY_KEY: &str = "/api/v1/machine/recovery-key";
pub(super) const PASSPHRASE: &str = "/api/v1/machine/passphrase";
/// Where the question is.
pub(super) const UNLOCK: &str = "/api/v1/machine/unlock";
/// What a locked server answers: also whether its configuration stands, which nobody else can be told while it waits, and what became of a backup.
const SERVED: [(Method, &str); 9] = [
    (Method::GET, "/healthz"),
    (Method::GET, "/api/openapi.json"),
    (Method::GET, "/api/v1/machine"),
    (Method::GET, "/api/v1/machine/at-rest"),
    (Method::POST, UNLOCK),
    (Method::POST, PASSPHRASE),
    (Method::GET, "/api/v1/machine/configuration"),
    (Method::POST, "/api/v1/machine/configuration/confirm"),
    (Method::GET, "/api/v1/machine/restore"),
];

/// Whether a locked server answers this.
pub(super) fn is_served(method: &Method, path: &str) -> bool {
    SERVED.iter().any(|(served, at)| served == method && *at == path)
}

/// What opens the keys.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unlocking {
    /// The passphrase, or the recovery key
    secret: Secret,
}

/// A passphrase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassphrase {
    /// 12 to 200 letters, digits and signs of ASCII
    #[schema(min_length = 12, max_length = 200)]
    passphrase: Secret,
}

/// What is new.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewKey {
    /// A recovery key that is new, told this once; null: the one before is good
    recovery_key: Option<String>,
}

/// How the keys of mail at rest stand
#[utoipa::path(
    get, path = "/api/v1/machine/at-rest", tag = "server",
    responses((status = 200, body = Status), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Result<Json<Status>, Problem> {
    let machine = machine(&api)?;
    blocking(move || machine.at_rest()).await.map(Json)
}

/// Opens the keys of mail at rest; the machine takes mail soon after
#[utoipa::path(
    post, path = "/api/v1/machine/unlock", tag = "server", request_body = Unlocking,
    responses(
        (status = 204, description = "They are open"),
        (status = 409, description = "It is neither the passphrase nor the recovery key, or came too soon behind a wrong one; or nothing is locked")
    )
)]
pub(super) async fn unlock(State(api): State<Arc<Api>>, request: Request) -> Result<StatusCode, Problem> {
    let Unlocking { secret } = body(request).await?;
    let machine = machine(&api)?;
    blocking(move || machine.change_at_rest(Wish::Unlock(secret))).await.map(|_| StatusCode::NO_CONTENT)
}

/// Sets or changes the passphrase that opens the keys of mail at rest; the first one comes with a recovery key
#[utoipa::path(
    post, path = "/api/v1/machine/passphrase", tag = "server", request_body = NewPassphrase,
    responses((status = 200, body = NewKey), (status = 409, description = "The machine is locked, or no passphrase can be this one"))
)]
pub(super) async fn passphrase(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<NewKey>, Problem> {
    let NewPassphrase { passphrase } = body(request).await?;
    change(&api, Wish::Passphrase(passphrase)).await
}

/// Makes a new recovery key, told this once; the one before opens nothing any more
#[utoipa::path(
    post, path = "/api/v1/machine/recovery-key", tag = "server",
    responses((status = 200, body = NewKey), (status = 409, description = "The machine is locked, or keeps no keys"))
)]
pub(super) async fn recovery_key(State(api): State<Arc<Api>>) -> Result<Json<NewKey>, Problem> {
    change(&api, Wish::RecoveryKey).await
}

async fn change(api: &Api, wish: Wish) -> Result<Json<NewKey>, Problem> {
    let machine = machine(api)?;
    let recovery_key = blocking(move || machine.change_at_rest(wish)).await?;
    Ok(Json(NewKey { recovery_key }))
}
