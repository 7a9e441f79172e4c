//! `stratamx status`: one line a domain, and the disk.

use super::Exit;
use super::client::{Client, Remote, age, fail, print, print_json, size, table};
use core::time::Duration;
use serde_json::Value;
use std::io::{IsTerminal, stdout};

/// Between two looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Runs the command; with `watch` until it is interrupted.
#[must_use]
pub fn run(remote: Remote, json: bool, watch: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut before: Option<Value> = None;
    loop {
        let status = match client.get("/api/v1/status") {
            Ok(status) => status,
            Err(error) => return fail(&error),
        };
        let exit = match (json, watch) {
            // A line a look: what follows it reads lines.
            (true, true) => print(&format!("{status}\n")),
            (true, false) => print_json(&status),
            (false, _) => {
                let clear = if watch && stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
                print(&format!("{clear}{}", shown(&status, before.as_ref())))
            }
        };
        if !watch || exit != Exit::Done {
            return exit;
        }
        before = Some(status);
        client.pause(WATCH_INTERVAL);
    }
}

fn shown(status: &Value, before: Option<&Value>) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let rows = status["domains"].as_array().into_iter().flatten().map(|domain| {
        let failure = domain["last_failure"]["reason"].as_str().filter(|_| domain["state"] != "up");
        let is_another = !domain["primary_changed"].is_null();
        let failure = failure.or(is_another.then_some("its mail server is another: see domain show"));
        let oldest = number(&domain["oldest_s"]);
        vec![
            domain["name"].as_str().unwrap_or_default().to_owned(),
            domain["state"].as_str().unwrap_or_default().to_owned(),
            number(&domain["backlog"]).to_string(),
            number(&domain["held"]).to_string(),
            if number(&domain["backlog"]) == 0 { "-".to_owned() } else { age(oldest) },
            size(number(&domain["bytes"])),
            number(&domain["accepted"]).to_string(),
            number(&domain["delivered"]).to_string(),
            failure.unwrap_or_default().to_owned(),
        ]
    });
    let head = [
        "DOMAIN",
        "STATE",
        ">BACKLOG",
        ">HELD",
        ">OLDEST",
        ">SIZE",
        ">ACCEPTED",
        ">DELIVERED",
        "LAST FAILURE",
    ];
    let mut out = table(&head, &rows.collect::<Vec<_>>());
    let (disk, since) = (&status["disk"], &status["since_start"]);
    out.push_str(&format!(
        "\n{} {} up {}, {} free on the disk ({} is the least)\n",
        status["hostname"].as_str().unwrap_or_default(),
        status["version"].as_str().unwrap_or_default(),
        age(number(&status["uptime_s"])),
        size(number(&disk["free_bytes"])),
        size(number(&disk["min_free_bytes"])),
    ));
    let rate = |name: &str| {
        let before = before.map(|before| number(&before["since_start"][name]));
        let grown = before.map(|before| number(&since[name]).saturating_sub(before));
        grown.map(|grown| format!(", {} a second", grown / WATCH_INTERVAL.as_secs())).unwrap_or_default()
    };
    out.push_str(&format!(
        "since then {} units accepted{}, {} delivered{}\n",
        number(&since["accepted"]),
        rate("accepted"),
        number(&since["delivered"]),
        rate("delivered"),
    ));
    out
}
