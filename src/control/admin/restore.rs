//! A backup is taken back by the appliance: taken in, looked at as a whole, and handed to PID 1, which does it by a start of the machine ([`crate::update::restore`]).
//!
//! It goes into a file of the data directory while it comes, and is never in memory; its size, a pause in it, and what it leaves free on the disk are bounded: mail is
//! taken meanwhile. This process owns no mail and opens no archive: the program is started once more and reads all of it. Whatever comes of it,
//! the file is overwritten, since there are keys in it. While mail is queued or held here nothing is taken back; PID 1 counts once more when nobody takes mail any more.

use super::at_rest;
use super::caller::Caller;
use super::places::Visitor;
use super::problem::Problem;
use super::queue::Queried;
use super::status::{domains, names};
use super::update::{blocking, unasked};
use super::upload;
use super::{Api, answered};
use crate::control::machine::Machine;
use crate::limits::{
    PROGRAM_SAID_OCTETS_MAX, RESTORE_OCTETS_MAX, RESTORE_SPARE_OCTETS, RESTORE_TOLD_OCTETS_MAX,
};
use crate::update::restore::{Looked, Status, has_mail};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use rustix::fs::fstatvfs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

/// The path of both; its time is another than that of the others.
pub(super) const PATH: &str = "/api/v1/machine/restore";
/// Ourselves, whatever has become of the file that we were started from.
const PROGRAM: &str = "/proc/self/exe";

/// How it is taken back.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// `keep`: the configuration stays as it is; else that of the backup is in force, as a new revision
    #[serde(default)]
    configuration: Configuration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestoreConfiguration)]
enum Configuration {
    Keep,
    #[default]
    Replace,
}

/// What is taken back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RestoreOrdered)]
pub(super) struct Ordered {
    /// The host that the backup was made of; the machine starts again now, and is that one
    hostname: String,
    /// When it was made, in seconds since 1970
    made_at_s: u64,
    /// Octets that come out of it
    octets: u64,
}

/// Whether the appliance can take a backup back, and what became of the last one
#[utoipa::path(
    get, path = "/api/v1/machine/restore", tag = "machine",
    responses((status = 200, body = Status), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Result<Json<Status>, Problem> {
    let machine = machine(&api)?;
    let mut status = blocking(move || machine.restore_status()).await?;
    if status.refused.is_none() {
        status.refused = waiting(&api).await?;
    }
    Ok(Json(status))
}

/// Takes a backup back in place of all that the appliance has: its store, domains, tokens and configuration; then the machine starts again
#[utoipa::path(
    post, path = "/api/v1/machine/restore", tag = "machine", params(How),
    request_body(content = String, content_type = "application/octet-stream", description = "What GET /api/v1/backup or stratamx backup made"),
    responses(
        (status = 202, body = Ordered),
        (status = 409, description = "This server is no appliance, mail is queued or held here, or its state takes none"),
        (status = 422, description = "It is cut off, altered, of a newer format, or cannot be an appliance's"),
        (status = 507, description = "The disk has no room for it and what comes out of it")
    )
)]
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    visitor: Option<Extension<Visitor>>,
    how: Queried<How>,
    request: Request,
) -> Result<(StatusCode, Json<Ordered>), Problem> {
    let machine = machine(&api)?;
    let Query(How { configuration }) = how.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let keep = configuration == Configuration::Keep;
    let under_way = || Problem::conflict("another upload is under way");
    let place = machine.upload().ok_or_else(under_way)?;
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"application/octet-stream")) {
        return Err(Problem::media_type("a backup comes as application/octet-stream"));
    }
    let own = Arc::clone(&machine);
    let status = blocking(move || own.restore_status()).await?;
    let refused = match status.refused {
        None => waiting(&api).await?,
        refused => refused,
    };
    if let Some(why) = refused {
        return Err(Problem::conflict(&why));
    }
    if let Some(Extension(visitor)) = visitor {
        visitor.last();
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let own = Arc::clone(&machine);
    let made = spawn_blocking(move || own.create_archive()).await.map_err(|_| Problem::internal())?;
    let (file, path) = made.map_err(|error| unwritten(&error))?;
    let spare = api.current.get().config.storage.min_free_space_bytes.max(RESTORE_SPARE_OCTETS);
    let taken = take(request.into_body(), length, file, spare).await;
    let work = move || {
        let _place = place;
        let done = taken.and_then(|file| {
            let looked = look((&file, spare), &path, keep)?;
            let begun = machine.begin_restore(keep, caller.name.to_string());
            begun.map_err(|error| unasked(&error)).map(|()| looked)
        });
        // Taken, it has another place by now.
        machine.remove_archive();
        done
    };
    let looked = spawn_blocking(work).await.map_err(|_| Problem::internal())??;
    let Looked { hostname, made_at_s, octets, .. } = looked;
    tracing::info!(hostname, made_at_s, keep, "a backup is taken back; the machine starts again");
    Ok((StatusCode::ACCEPTED, Json(Ordered { hostname, made_at_s, octets })))
}

fn machine(api: &Api) -> Result<Arc<Machine>, Problem> {
    let no_appliance = || {
        Problem::conflict(
            "this is no appliance: on the machine itself stratamx restore FILE --data-dir DIR --configuration DIR puts a backup where the server finds it",
        )
    };
    api.machine.clone().ok_or_else(no_appliance)
}

/// Why nothing is taken back, if mail is here.
async fn waiting(api: &Api) -> Result<Option<String>, Problem> {
    if api.is_locked {
        return Ok(Some(at_rest::LOCKED.to_owned()));
    }
    let rows = answered(api, domains(api, &names(&api.current.get()))).await?;
    let (backlog, held) = (rows.iter().map(|row| row.backlog).sum(), rows.iter().map(|row| row.held).sum());
    Ok(has_mail(backlog, held))
}

fn unwritten(error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::StorageFull {
        return Problem::no_room("the disk is full: the backup finds no room");
    }
    Problem::unavailable(&format!("the backup cannot be kept: {error}"))
}

/// Octets that the disk has left beside what stays free: mail is taken meanwhile.
fn room(file: &File, spare: u64) -> Result<u64, Problem> {
    let free = fstatvfs(file).map_err(|error| unwritten(&error.into()))?;
    Ok(free.f_bavail.saturating_mul(free.f_frsize).saturating_sub(spare))
}

fn too_small(wanted: u64, free: u64) -> Problem {
    Problem::no_room(&format!(
        "the disk has no room: {wanted} octets are wanted, and {free} are free beside what stays so for mail. A larger disk is grown into at the next start"
    ))
}

/// Takes it in, as far as there is room.
async fn take(body: Body, length: Option<u64>, file: File, spare: u64) -> Result<File, Problem> {
    let room = room(&file, spare)?;
    // What comes out of it is no less.
    if let Some(wanted) = length.map(|length| length.saturating_mul(2)).filter(|wanted| *wanted > room) {
        return Err(too_small(wanted, room));
    }
    let fits = |octets| if octets > room { Err(too_small(octets, room)) } else { Ok(()) };
    upload::take(body, file, ("backup", RESTORE_OCTETS_MAX), fits).await?.map_err(|error| unwritten(&error))
}

/// What the program says of it, which reads all of it.
fn look((file, spare): (&File, u64), path: &Path, keep: bool) -> Result<Looked, Problem> {
    let looked = check(path).map_err(|error| Problem::unprocessable(&error))?;
    if let Some(why) = looked.unfit().filter(|_| !keep) {
        return Err(Problem::unprocessable(&why));
    }
    match room(file, spare)? {
        room if room < looked.octets => Err(too_small(looked.octets, room)),
        _ => Ok(looked),
    }
}

fn check(path: &Path) -> Result<Looked, String> {
    let mut command = Command::new(PROGRAM);
    command.arg("restore").arg("--check").arg("--json").arg(PathBuf::from(path));
    command.env_remove("STRATAMX_URL").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    let failed = |error: io::Error| format!("the backup cannot be looked at: {error}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let (mut out, mut said) = (Vec::new(), String::new());
    if let Some(from) = child.stdout.take() {
        from.take(RESTORE_TOLD_OCTETS_MAX).read_to_end(&mut out).map_err(failed)?;
    }
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(PROGRAM_SAID_OCTETS_MAX).read_to_string(&mut said);
    }
    if !child.wait().map_err(failed)?.success() {
        // Where the file lay is nobody's business.
        let said = said.replace(&format!("{}: ", path.display()), "the backup ");
        return Err(said.trim().trim_start_matches("stratamx: ").to_owned());
    }
    let unknown = |error: serde_json::Error| format!("the backup cannot be looked at: {error}");
    let mut told: Value = serde_json::from_slice(&out).map_err(unknown)?;
    // For people it is how many they are; the files themselves are for PID 1 alone.
    if let Some(told) = told.as_object_mut() {
        told.remove("files");
    }
    serde_json::from_value(told).map_err(unknown)
}
