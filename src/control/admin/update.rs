//! Updates of the appliance: an image is taken in, looked at, and handed to PID 1 ([`crate::update`]).
//!
//! It goes into a file while it comes, and is never in memory; its size, its time and a pause in it are bounded. What is wrong with it is told
//! before PID 1 is asked, which looks again by itself. Where there is no PID 1 of ours both paths are 409.

use super::Api;
use super::problem::Problem;
use super::upload;
use crate::control::machine::{Machine, Unasked};
use crate::limits::{UPDATE_OCTETS_MAX, UPDATE_SIGNATURE_OCTETS_MAX, UPLOAD_FREE_MIN};
use crate::update::{Key, Refusal, Running, Signature, Status, examine};
use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use serde::Serialize;
use std::io;
use std::sync::Arc;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

/// The path of both; its time is another than that of the others.
pub(super) const PATH: &str = "/api/v1/update";
/// The header with the signature.
const SIGNATURE: &str = "update-signature";

/// What starts next.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpdateInstalled)]
pub(super) struct Installed {
    /// The machine drains and starts this version now; it stays once it has proven itself
    version: String,
}

/// The running version of the appliance, and what became of updates
#[utoipa::path(
    get, path = "/api/v1/update", tag = "server",
    responses((status = 200, body = Status), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Result<Json<Status>, Problem> {
    let machine = machine(&api)?;
    blocking(move || machine.status()).await.map(Json)
}

/// Updates the appliance: installs a signed image beside the running one, and starts the machine again
#[utoipa::path(
    post, path = "/api/v1/update", tag = "server",
    params(("Update-Signature" = String, Header, description = "The text of the image's signature (FILE.minisig), in Base64")),
    request_body(content = String, content_type = "application/octet-stream", description = "The image: stratamx_VERSION_VARIANT.efi"),
    responses(
        (status = 202, body = Installed),
        (status = 409, description = "This server is no appliance, or its state takes no update"),
        (status = 422, description = "Wrongly signed, not newer than what runs, or for other machines"),
        (status = 507, description = "The disk has no room for it")
    )
)]
pub(super) async fn install(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<(StatusCode, Json<Installed>), Problem> {
    let machine = machine(&api)?;
    let under_way = || Problem::conflict("another update is under way");
    let place = machine.upload().ok_or_else(under_way)?;
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"application/octet-stream")) {
        return Err(Problem::media_type("an image comes as application/octet-stream"));
    }
    let text = signature(request.headers())?;
    let signature = Signature::parse(&text).map_err(|error| Problem::bad_request(&error.to_string()))?;
    let own = Arc::clone(&machine);
    let status = blocking(move || own.status()).await?;
    let key = status.key.as_deref().map(Key::parse);
    let Some(Ok(key)) = key else {
        return Err(Problem::conflict(
            "this image was built without a key to check updates with: it takes none",
        ));
    };
    let running = Running { version: status.version, variant: status.variant };
    let octets = request.body().size_hint().exact().unwrap_or(UPDATE_OCTETS_MAX);
    machine.has_room(octets).map_err(|free| {
        let mib = |octets: u64| octets.div_ceil(1 << 20);
        let (free, octets) = (mib(free), mib(octets.saturating_add(UPLOAD_FREE_MIN)));
        Problem::no_room(&format!(
            "the disk has {free} MiB free, and an image of this size needs {octets} MiB"
        ))
    })?;
    let own = Arc::clone(&machine);
    let file = spawn_blocking(move || own.create()).await.map_err(|_| Problem::internal())?;
    let file = file.map_err(|error| unwritten(&error))?;
    let taken = upload::take(request.into_body(), file, ("image", UPDATE_OCTETS_MAX), |_| Ok(()))
        .await
        .and_then(|taken| taken.map_err(|error| unwritten(&error)));
    let work = move || {
        let _place = place;
        let done = taken.and_then(|mut file| {
            examine(&mut file, &signature, &key, &running).map_err(|refusal| match refusal {
                Refusal::File(error) => unwritten(&error),
                refusal => Problem::unprocessable(&refusal.to_string()),
            })?;
            machine.install(text).map_err(|error| unasked(&error))
        });
        machine.remove();
        done
    };
    let version = spawn_blocking(work).await.map_err(|_| Problem::internal())??;
    tracing::info!(version, "an update is installed; the machine starts again");
    Ok((StatusCode::ACCEPTED, Json(Installed { version })))
}

pub(super) fn machine(api: &Api) -> Result<Arc<Machine>, Problem> {
    let no_appliance = || {
        Problem::conflict(
            "this is no appliance: the server is updated as it was installed, by its package, and storage.key_file names the keys of mail at rest",
        )
    };
    api.machine.clone().ok_or_else(no_appliance)
}

/// What PID 1 is asked is waited for where one may.
pub(super) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Unasked> + Send + 'static,
) -> Result<T, Problem> {
    let asked = spawn_blocking(ask).await.map_err(|_| Problem::internal())?;
    asked.map_err(|error| unasked(&error))
}

pub(super) fn unasked(error: &Unasked) -> Problem {
    match error {
        Unasked::Silent(_) => Problem::unavailable(&error.to_string()),
        Unasked::Refused(why) => Problem::conflict(why),
        Unasked::Configuration(refused) => refused.into(),
        Unasked::Restore(refused) => refused.into(),
    }
}

fn unwritten(error: &io::Error) -> Problem {
    Problem::unwritten(error, &format!("the image cannot be kept: {error}"))
}

/// The text of the signature's file.
fn signature(headers: &HeaderMap) -> Result<String, Problem> {
    let bad = || {
        Problem::bad_request(
            "the header Update-Signature is the text of the image's signature (FILE.minisig) in Base64",
        )
    };
    let value = headers.get(SIGNATURE).ok_or_else(bad)?.as_bytes();
    if value.len() > UPDATE_SIGNATURE_OCTETS_MAX {
        return Err(bad());
    }
    let octets = base64::engine::general_purpose::STANDARD.decode(value).map_err(|_| bad())?;
    String::from_utf8(octets).map_err(|_| bad())
}
