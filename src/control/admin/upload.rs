//! A large body into a file, as it comes: never in memory, with a bound of its size and of a pause in it.

use super::problem::Problem;
use crate::limits::UPDATE_STALL;
use async_channel::Receiver;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use std::fs::File;
use std::io::{self, Write as _};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Pieces that wait to be written.
const PIECES: usize = 4;

/// Writes it from a thread that may wait for the disk; durable on return. `fits` is asked behind each piece; the inner error is the disk's.
///
/// # Errors
/// What is told to who sends it.
pub(super) async fn take(
    mut body: Body,
    file: File,
    (what, octets_max): (&str, u64),
    fits: impl Fn(u64) -> Result<(), Problem>,
) -> Result<io::Result<File>, Problem> {
    let (send, pieces) = async_channel::bounded(PIECES);
    let writer = spawn_blocking(move || write(file, &pieces));
    let mut octets = 0;
    let ended = loop {
        let frame = match timeout(UPDATE_STALL, body.frame()).await {
            Err(_) => break Err(Problem::bad_request(&format!("the {what} stalls"))),
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => break Err(Problem::bad_request(&format!("the {what} was cut off"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        octets += piece.len() as u64;
        if octets > octets_max {
            break Err(Problem::too_large());
        }
        if let Err(problem) = fits(octets) {
            break Err(problem);
        }
        // The writer has ended by an error, which it tells.
        if send.send(piece).await.is_err() {
            break Ok(());
        }
    };
    drop(send);
    let written = writer.await.map_err(|_| Problem::internal())?;
    ended.map(|()| written)
}

fn write(mut file: File, pieces: &Receiver<Bytes>) -> io::Result<File> {
    while let Ok(piece) = pieces.recv_blocking() {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(file)
}
