//! The configuration file: what is in force, whether a text would be taken, and reading the file again.

use super::Api;
use super::problem::Problem;
use crate::config::Config;
use crate::limits::ADMIN_BODY_OCTETS_MAX;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Whether a text is a configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checked {
    is_valid: bool,
    /// The line, the key, and what is wrong
    error: Option<String>,
    /// What would hold, with all defaults, as TOML
    effective: Option<String>,
}

/// What holds now, with all defaults, as TOML; domains that were provisioned at its end
#[utoipa::path(get, path = "/api/v1/config", tag = "server", responses((status = 200, content_type = "application/toml", body = String)))]
pub(super) async fn show(State(api): State<Arc<Api>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/toml")], api.current.get().config.effective().to_string())
}

/// Whether a text would be taken as the configuration; nothing is changed
#[utoipa::path(
    post, path = "/api/v1/config/check", tag = "server", request_body(content = String, content_type = "application/toml"),
    responses((status = 200, body = Checked))
)]
pub(super) async fn check(request: Request) -> Result<Json<Checked>, Problem> {
    let octets = to_bytes(request.into_body(), ADMIN_BODY_OCTETS_MAX).await;
    let octets = octets.map_err(|_| Problem::too_large())?;
    if octets.is_empty() {
        return Err(Problem::bad_request("the body is the text of a configuration"));
    }
    let text = core::str::from_utf8(&octets).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    Ok(Json(match Config::parse(text, "configuration") {
        Ok(config) => {
            Checked { is_valid: true, error: None, effective: Some(config.effective().to_string()) }
        }
        Err(error) => Checked { is_valid: false, error: Some(error.to_string()), effective: None },
    }))
}

/// Reads the configuration file again, as SIGHUP does: in force on all shards when it is answered
#[utoipa::path(
    post, path = "/api/v1/config/reload", tag = "server",
    responses((status = 204, description = "It is in force"), (status = 422, description = "What is wrong with it; the one before stays"))
)]
pub(super) async fn reload(State(api): State<Arc<Api>>) -> Result<StatusCode, Problem> {
    let ending = || Problem::unavailable("the server is ending");
    let (answer, answered) = async_channel::bounded(1);
    api.reload.send(answer).await.map_err(|_| ending())?;
    match answered.recv().await.map_err(|_| ending())? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(Problem::unprocessable(&error)),
    }
}
