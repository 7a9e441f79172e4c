//! `stratamx update`: hands a signed image to the appliance, or tells what became of the last one.

use super::Exit;
use super::client::{Client, Remote, fail, print, print_json};
use super::domain::{moment, text};
use crate::limits::{UPDATE_OCTETS_MAX, UPDATE_REQUEST_TIMEOUT, UPDATE_SIGNATURE_OCTETS_MAX};
use base64::Engine as _;
use clap::Args;
use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What is to be done.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// The image: stratamx_VERSION_VARIANT.efi
    #[arg(required_unless_present = "status")]
    file: Option<PathBuf>,
    /// Its signature, in minisign's format; else the file's name with .minisig behind it
    #[arg(long, value_name = "FILE", conflicts_with = "status")]
    signature: Option<PathBuf>,
    /// What runs, and what became of the last update
    #[arg(long, conflicts_with = "file")]
    status: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
}

const PATH: &str = "/api/v1/update";
/// What is handed over at a time.
const PIECE_OCTETS: usize = 64 << 10;

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, wanted: &Wanted) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let Some(file) = &wanted.file else {
        return match client.get(PATH) {
            Ok(status) if wanted.json => print_json(&status),
            Ok(status) => print(&shown(&status)),
            Err(error) => fail(&error),
        };
    };
    match install(&client, file, wanted.signature.as_deref()) {
        Ok(installed) if wanted.json => print_json(&installed),
        Ok(installed) => {
            let version = text(&installed["version"]);
            print(&format!(
                "{version} is installed. The machine starts it now, and keeps it once it has proven itself: stratamx update --status\n"
            ))
        }
        Err(error) => fail(&error),
    }
}

fn install(client: &Client, file: &Path, signature: Option<&Path>) -> Result<Value, String> {
    let beside = || {
        let mut name = file.as_os_str().to_owned();
        name.push(".minisig");
        PathBuf::from(name)
    };
    let signature = read(&signature.map_or_else(beside, Path::to_owned), UPDATE_SIGNATURE_OCTETS_MAX as u64)?;
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let octets = Bytes::from(read(file, UPDATE_OCTETS_MAX)?);
    // On a terminal alone, and on standard error.
    let bar = ProgressBar::new(octets.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}  {msg}") {
        bar.set_style(style);
    }
    let image = Upload { octets, bar: bar.clone() };
    let installed = client.upload(PATH, ("Update-Signature", &signature), image, UPDATE_REQUEST_TIMEOUT);
    bar.finish_and_clear();
    installed
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let file = OpenOptions::new().read(true).open(path);
    let read = file.and_then(|file| file.take(most + 1).read_to_end(&mut octets));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    if octets.len() as u64 > most {
        return Err(format!("{}: is larger than {most} octets", path.display()));
    }
    Ok(octets)
}

/// A body whose pieces are counted as they leave.
struct Upload {
    octets: Bytes,
    bar: ProgressBar,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.octets.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.octets.len().min(PIECE_OCTETS);
        let piece = self.octets.split_to(count);
        self.bar.inc(count as u64);
        if self.octets.is_empty() {
            self.bar.set_message("looked at and written by the machine");
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.octets.len() as u64)
    }
}

fn shown(status: &Value) -> String {
    let mut out = format!("running    {} ({})", text(&status["version"]), text(&status["variant"]));
    out.push_str(match status["state"].as_str() {
        Some("on_trial") => ", on trial: it has not proven itself yet\n",
        Some("installing") => "; an update is being written\n",
        Some("restarting") => "; an update is installed, and the machine starts again\n",
        _ => "\n",
    });
    let good = &status["good"];
    out.push_str(&match good["version"].as_str() {
        Some(version) => format!("last good  {version}, {}\n", moment(&good["at_s"])),
        None => "last good  none: the version that was flashed\n".to_owned(),
    });
    let last = &status["last"];
    if let Some(outcome) = last["outcome"].as_str() {
        let version = last["version"].as_str().unwrap_or("an image");
        out.push_str(&format!(
            "last       {version}: {}, {}\n",
            outcome.replace('_', " "),
            moment(&last["at_s"])
        ));
        if let Some(error) = last["error"].as_str() {
            out.push_str(&format!("           {error}\n"));
        }
    }
    if status["key"].is_null() {
        out.push_str("This image was built without a key to check updates with: it takes none.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_tells_what_runs_and_what_became_of_the_last() {
        let status = json!({"version": "0.2.0", "variant": "cloud", "state": "idle", "key": null, "good": null,
            "last": {"version": "0.3.0", "outcome": "rolled_back", "error": "the message is not kept", "at_s": 0}});
        let out = shown(&status);
        assert!(out.starts_with("running    0.2.0 (cloud)\nlast good  none"), "{out}");
        assert!(
            out.contains("0.3.0: rolled back, ") && out.contains("           the message is not kept\n"),
            "{out}"
        );
        assert!(out.ends_with("it takes none.\n"), "{out}");
    }
}
