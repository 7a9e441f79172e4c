//! A backup onto an appliance, over its admin API: shown, asked for, handed in, and waited for until the machine is back.

use super::super::Exit;
use super::super::client::{Client, Remote, fail, print, print_json, size};
use super::super::domain::{moment, text};
use super::unpack::{Restored, Targets, unpack};
use super::{Wanted, introduced};
use crate::limits::{RESTORE_REQUEST_TIMEOUT, RESTORE_RETURN_PATIENCE};
use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Read as _, stdin};
use std::path::Path;

const PATH: &str = "/api/v1/machine/restore";
/// What is handed over at a time.
const PIECE_OCTETS: usize = 64 << 10;
/// Between two looks whether the machine is back.
const LOOK: Duration = Duration::from_secs(2);

/// What became of the last one.
pub(super) fn status(remote: Remote, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    match client.get(PATH) {
        Ok(status) if json => print_json(&status),
        Ok(status) => print(&shown(&status)),
        Err(error) => fail(&error),
    }
}

/// Hands it in.
pub(super) fn restore(remote: Remote, file: &Path, wanted: &Wanted) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    match hand_in(&client, file, wanted).and_then(|ordered| {
        let Some(ordered) = ordered else { return Ok(Exit::Failed) };
        returned(&client, &ordered, wanted.json)
    }) {
        Ok(exit) => exit,
        Err(error) => fail(&error),
    }
}

/// What was ordered; none: nobody wanted it.
fn hand_in(client: &Client, file: &Path, wanted: &Wanted) -> Result<Option<Value>, String> {
    let named = |error: &dyn core::fmt::Display| format!("{}: {error}", file.display());
    // What is refused anyway is not sent first.
    let status = client.get(PATH)?;
    if let Some(why) = status["refused"].as_str() {
        return Err(why.to_owned());
    }
    let restored = unpack(file, &Targets::default()).map_err(|error| named(&error))?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, rustix::fs::Mode::empty()).map_err(std::io::Error::from);
    let opened = opened.map(File::from).map_err(|error| named(&error))?;
    let octets = opened.metadata().map_err(|error| named(&error))?.len();
    if !wanted.yes && !is_wanted(&restored, wanted.keep_configuration)? {
        return Ok(None);
    }
    // On a terminal alone, and on standard error.
    let bar = ProgressBar::new(octets);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}  {msg}") {
        bar.set_style(style);
    }
    let path = if wanted.keep_configuration { format!("{PATH}?configuration=keep") } else { PATH.to_owned() };
    let (tell, told) = std::sync::mpsc::channel();
    let body = Upload { file: opened, left: octets, bar: bar.clone(), tell };
    let ordered = client.upload(&path, ("Accept", "application/json"), body, RESTORE_REQUEST_TIMEOUT);
    bar.finish_and_clear();
    match told.try_recv() {
        Ok(error) => Err(named(&error)),
        Err(_) => ordered.map(Some),
    }
}

/// Shows what it is, and asks.
fn is_wanted(restored: &Restored, keeps: bool) -> Result<bool, String> {
    eprint!("{}", introduced(restored));
    let configuration = if keeps {
        "Its configuration stays as it is."
    } else {
        "Its configuration becomes that of the backup, [admin] and its certificate included; the network stays as it is."
    };
    eprintln!(
        "The appliance starts again with the queue, domains and tokens of the backup in place of its own. {configuration}\n\
         What was handed over after the backup was made is handed over once more; the server that it was made of must not run any more."
    );
    if !stdin().is_terminal() {
        return Err("nobody can be asked here: --yes does it".to_owned());
    }
    eprint!("Do it? [y/N] ");
    let mut line = String::new();
    stdin().lock().take(16).read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Waits for the machine, and tells what is in its queue.
fn returned(client: &Client, ordered: &Value, json: bool) -> Result<Exit, String> {
    let octets = ordered["octets"].as_u64().unwrap_or(0);
    eprintln!(
        "{} of {} are on the machine, which starts again with them",
        size(octets),
        text(&ordered["hostname"])
    );
    let mut waited = Duration::ZERO;
    while waited < RESTORE_RETURN_PATIENCE {
        client.pause(LOOK);
        waited += LOOK;
        match client.get(PATH) {
            // The one that takes leave says so too.
            Ok(status) if status["state"] != "idle" => {}
            Ok(status) => {
                let is_restored = status["last"]["outcome"] == "restored";
                let printed = if json { print_json(&status) } else { print(&shown(&status)) };
                return Ok(if is_restored { printed } else { Exit::Failed });
            }
            Err(error) if is_another(&error) => {
                return Ok(print(
                    "The machine is back, and goes by what the backup holds: its tokens, and its certificate. With a token of it: stratamx restore --status\n",
                ));
            }
            Err(_) => {}
        }
    }
    Err("the machine is not back; its console tells why, and so does stratamx restore --status once it is"
        .to_owned())
}

/// Whether somebody answers who does not know us, or whom we do not know: only what was restored does.
fn is_another(error: &str) -> bool {
    error.contains(" does not know this token") || error.contains(": no TLS: ")
}

fn shown(status: &Value) -> String {
    let mut out = match status["state"].as_str() {
        Some("looking") => "a backup is being looked at\n".to_owned(),
        Some("restarting") => "a backup is taken back, and the machine starts again\n".to_owned(),
        _ => String::new(),
    };
    let last = &status["last"];
    let outcome = last["outcome"].as_str();
    if outcome.is_none() && out.is_empty() {
        out.push_str("no backup was taken back\n");
    }
    if let Some(outcome) = outcome {
        out.push_str(&format!(
            "{}, made {}: {}, {}\n",
            text(&last["hostname"]),
            moment(&last["made_at_s"]),
            outcome.replace('_', " "),
            moment(&last["at_s"])
        ));
    }
    if let Some(error) = last["error"].as_str() {
        out.push_str(&format!("  {error}\n"));
    }
    if let (Some(backlog), Some(held)) = (last["backlog"].as_u64(), last["held"].as_u64()) {
        out.push_str(&format!("queue: mail for {backlog} recipients waited, for {held} it was held\n"));
    }
    if let Some(why) = status["refused"].as_str() {
        out.push_str(&format!("no backup can be taken back now: {why}\n"));
    }
    out
}

/// A file as it leaves.
struct Upload {
    file: File,
    left: u64,
    bar: ProgressBar,
    /// What went wrong.
    tell: std::sync::mpsc::Sender<String>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE_OCTETS.min(usize::try_from(self.left).unwrap_or(PIECE_OCTETS))];
        let read = self.file.read(&mut piece);
        let count = match read {
            Ok(count) if count > 0 => count,
            ended => {
                // What is missing of its length ends the request.
                let why = ended.err().map_or("became shorter".to_owned(), |error| error.to_string());
                let _ = self.tell.send(why);
                return Poll::Ready(None);
            }
        };
        piece.truncate(count);
        self.left -= count as u64;
        self.bar.inc(count as u64);
        if self.left == 0 {
            self.bar.set_message("looked at by the machine");
        }
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_became_of_it_is_told() {
        let none = json!({ "state": "idle", "refused": "mail waits here", "last": null });
        assert_eq!(
            shown(&none),
            "no backup was taken back\nno backup can be taken back now: mail waits here\n"
        );
        let last = json!({ "hostname": "mx2.test", "made_at_s": 0, "outcome": "given_up", "error": "it is damaged", "at_s": 60,
            "backlog": null, "held": null });
        let out = shown(&json!({ "state": "idle", "refused": null, "last": last }));
        assert!(out.starts_with("mx2.test, made ") && out.contains(": given up, "), "{out}");
        assert!(out.ends_with("\n  it is damaged\n"), "{out}");
        let last = json!({ "hostname": "mx2.test", "made_at_s": 0, "outcome": "restored", "error": null, "at_s": 60,
            "backlog": 3, "held": 1 });
        let out = shown(&json!({ "state": "idle", "refused": null, "last": last }));
        assert!(out.ends_with("queue: mail for 3 recipients waited, for 1 it was held\n"), "{out}");
    }
}
