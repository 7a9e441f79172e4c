//! `stratamx queue replay`: what was delivered goes once more.

use super::super::Exit;
use super::super::client::{Client, print, size};
use super::super::domain::instant_or_age;
use super::moment;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What goes once more. Instants are UTC unless they say otherwise.
#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// The domain
    domain: String,
    /// Delivered at this instant or later, as 2026-11-23T06:00, or 2h: so long ago
    #[arg(long, value_name = "TIME", value_parser = instant_or_age)]
    since: Timestamp,
    /// Delivered before this instant, or so long ago; else until now
    #[arg(long, value_name = "TIME", value_parser = instant_or_age)]
    until: Option<Timestamp>,
    /// For this recipient only
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Also what was queued so itself, and is delivered: once more than once more
    #[arg(long)]
    again: bool,
    /// Tell how much that is, and leave everything as it is
    #[arg(long)]
    dry_run: bool,
}

/// Runs it, page by page.
pub(super) fn run(client: &Client, wanted: &Replay) -> Result<Exit, String> {
    // What is queued now and delivered before the last page is none of it.
    let until = wanted.until.unwrap_or_else(|| Timestamp::now() + jiff::SignedDuration::from_secs(1));
    let seconds = |instant: Timestamp| u32::try_from(instant.as_second()).unwrap_or(0);
    let (mut messages, mut units, mut octets, mut gone) = (0, 0, 0, 0);
    let (mut after, mut since) = (Value::Null, None);
    loop {
        let body = json!({
            "domain": wanted.domain,
            "since_s": seconds(wanted.since),
            "until_s": seconds(until),
            "recipient": wanted.recipient,
            "again": wanted.again,
            "dry_run": wanted.dry_run,
            "after": after,
        });
        let answer = client.post("/api/v1/queue/replay", Some(&body)).map_err(|error| {
            format!("{error}; queued once more before that: {messages} messages, {units} recipients; repeat it to go on")
        });
        let mut answer = answer?;
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        messages += number("messages");
        units += number("units");
        octets += number("octets");
        gone += number("gone");
        since = since.or(answer["kept_since_s"].as_i64());
        after = answer["next"].take();
        if after.is_null() {
            break;
        }
    }
    let what = if wanted.dry_run { "would be queued once more" } else { "queued once more" };
    let kept = since.map_or_else(
        || "no copies of its delivered mail are kept (safety_net; or by itself where its mail server was another)".to_owned(),
        |since| format!("copies are kept of what was delivered since {}", moment(since)),
    );
    let exit = print(&format!("{what}: {messages} messages, {units} recipients, {}\n{kept}\n", size(octets)));
    if gone > 0 {
        return Err(format!("{gone} copies cannot be read, or went meanwhile; the log tells which"));
    }
    Ok(exit)
}
