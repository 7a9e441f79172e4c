//! A backup over the admin API: what `stratamx backup` writes, by a process of its own that this one starts.
//!
//! This process owns no mail, and the archive is one; so the program is started once more, as the server's user and less urgent than mail, and
//! what it writes goes on to the client as it comes. One at a time; a client that takes nothing for [`BACKUP_STALL`] ends it. It ends in the middle when
//! the process fails: the client's transfer breaks off, and the archive has no sums.

use super::Api;
use super::places::Visitor;
use super::problem::Problem;
use crate::limits::BACKUP_STALL;
use async_channel::{Receiver, Sender, TrySendError};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use core::time::Duration;
use futures_lite::stream::unfold;
use jiff::Timestamp;
use serde::Deserialize;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use utoipa::IntoParams;

/// Its path; its time is another than that of the others.
pub(super) const PATH: &str = "/api/v1/backup";
/// What is handed on at a time, and how much of it waits.
const PIECE_OCTETS: usize = 64 << 10;
const PIECES: usize = 8;
/// Between two looks whether the client has taken something.
const LOOK: Duration = Duration::from_millis(20);
/// Of what the process says of its failure.
const SAID_OCTETS_MAX: u64 = 4096;
/// Ourselves, whatever has become of the file that we were started from.
const PROGRAM: &str = "/proc/self/exe";

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// False: without the queue
    #[serde(default = "yes")]
    queue: bool,
}

const fn yes() -> bool {
    true
}

type Piece = Result<Bytes, String>;

/// Configuration, domains, tokens and the queue in one file, as `stratamx restore` reads it
#[utoipa::path(
    get, path = "/api/v1/backup", tag = "server", params(Wanted),
    responses(
        (status = 200, content_type = "application/zstd", body = Vec<u8>),
        (status = 409, description = "Another one is being made")
    )
)]
pub(super) async fn backup(
    State(api): State<Arc<Api>>,
    visitor: Option<Extension<Visitor>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Wanted { queue }) = wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let place = Arc::clone(&api.backups).try_acquire_owned();
    let place = place.map_err(|_| Problem::conflict("another backup is being made"))?;
    let child = start(api.process.configuration.as_deref(), queue);
    let child =
        child.map_err(|error| Problem::unavailable(&format!("the backup cannot be started: {error}")))?;
    let (pieces, taken) = async_channel::bounded(PIECES);
    let work = move || {
        let _place = place;
        carry(child, &pieces);
    };
    let worker = std::thread::Builder::new().name("backup".to_owned()).spawn(work);
    worker.map_err(|error| Problem::unavailable(&format!("the backup cannot be started: {error}")))?;
    let first = match taken.recv().await {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return Err(Problem::unavailable(&error)),
        Err(_) => return Err(Problem::internal()),
    };
    if let Some(Extension(visitor)) = visitor {
        visitor.last();
    }
    let name = format!(
        "{}-{}.tar.zst",
        api.current.get().config.hostname,
        Timestamp::now().strftime("%Y%m%d-%H%M%S")
    );
    let head = [
        (CONTENT_TYPE, "application/zstd".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((head, Body::from_stream(unfold((Some(first), taken), next))).into_response())
}

async fn next(
    (first, taken): (Option<Bytes>, Receiver<Piece>),
) -> Option<(Piece, (Option<Bytes>, Receiver<Piece>))> {
    if let Some(first) = first {
        return Some((Ok(first), (None, taken)));
    }
    let piece = taken.recv().await.ok()?;
    Some((piece, (None, taken)))
}

fn start(configuration: Option<&Path>, queue: bool) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command.args(["backup", "-"]);
    if !queue {
        command.arg("--without-queue");
    }
    if let Some(configuration) = configuration {
        command.arg("--config").arg(configuration);
    }
    // The environment may name another server.
    command.env_remove("STRATAMX_URL").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Hands on what the process writes, until either end is gone.
fn carry(mut child: Child, pieces: &Sender<Piece>) {
    let result = pass(&mut child, pieces);
    if result.is_err() {
        let _ = child.kill();
    }
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(SAID_OCTETS_MAX).read_to_string(&mut said);
    }
    let ended = child.wait().is_ok_and(|status| status.success());
    match result {
        Ok(octets) if ended => tracing::info!(octets, "a backup was made over the admin API"),
        Ok(_) => {
            let said = said.trim();
            tracing::error!(said, "a backup over the admin API failed");
            let _ = pieces.send_blocking(Err(said.to_owned()));
        }
        Err(error) => {
            tracing::warn!(error, "a backup over the admin API was cut off");
            let _ = pieces.try_send(Err(error));
        }
    }
}

fn pass(child: &mut Child, pieces: &Sender<Piece>) -> Result<u64, String> {
    let mut from = child.stdout.take().ok_or("there is no pipe")?;
    let mut octets = 0;
    loop {
        let mut piece = vec![0; PIECE_OCTETS];
        let read = from.read(&mut piece).map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(octets);
        }
        piece.truncate(read);
        octets += read as u64;
        hand(Ok(piece.into()), pieces)?;
    }
}

/// Waits for room, as long as the client takes anything.
fn hand(mut piece: Piece, pieces: &Sender<Piece>) -> Result<(), String> {
    let mut waited = Duration::ZERO;
    loop {
        piece = match pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err("the client is gone".to_owned()),
            Err(TrySendError::Full(_)) if waited > BACKUP_STALL => {
                return Err("the client takes nothing".to_owned());
            }
            Err(TrySendError::Full(piece)) => piece,
        };
        // A thread of its own, beside mail and the API; nobody wakes it.
        std::thread::park_timeout(LOOK);
        waited += LOOK;
    }
}
