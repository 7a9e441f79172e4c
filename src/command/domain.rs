//! `stratamx domain`: what is configured, and how it goes.

use super::Exit;
use super::client::{Client, Remote, age, escaped, fail, print, print_json, size, table};
use serde_json::Value;

/// `domain list`.
#[must_use]
pub fn list(remote: Remote, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let answer = match client.get("/api/v1/domains") {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    if json {
        return print_json(&answer);
    }
    let rows = answer["domains"].as_array().into_iter().flatten().map(|domain| {
        let configuration = &domain["configuration"];
        vec![
            text(&domain["name"]),
            text(&domain["status"]["state"]),
            if configuration.is_null() {
                "not configured".to_owned()
            } else {
                text(&configuration["primary"])
            },
            text(&configuration["recipients"]),
            text(&domain["status"]["backlog"]),
            text(&domain["status"]["held"]),
        ]
    });
    let rows: Vec<_> = rows.collect();
    print(&table(&["DOMAIN", "STATE", "PRIMARY", "RECIPIENTS", ">BACKLOG", ">HELD"], &rows))
}

/// `domain show NAME`.
#[must_use]
pub fn show(remote: Remote, name: &str, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let answer = match client.get(&format!("/api/v1/domains/{}", escaped(name))) {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    if json { print_json(&answer) } else { print(&shown(&answer)) }
}

fn shown(domain: &Value) -> String {
    let status = &domain["status"];
    let mut rows =
        vec![("name".to_owned(), text(&domain["name"])), ("state".to_owned(), text(&status["state"]))];
    let seconds = |value: &Value| value.as_u64().map(age).unwrap_or_default();
    if let Some(reason) = status["last_failure"]["reason"].as_str() {
        rows.push(("last failure".to_owned(), reason.to_owned()));
    }
    if !status["next_try_s"].is_null() {
        rows.push(("next try in".to_owned(), seconds(&status["next_try_s"])));
    }
    for name in [
        "backlog",
        "held",
        "messages",
        "accepted",
        "delivered",
        "bounced",
        "discarded",
        "expired",
        "deleted",
        "damaged",
        "proxied",
    ] {
        rows.push((name.to_owned(), text(&status[name])));
    }
    rows.push(("size".to_owned(), size(status["bytes"].as_u64().unwrap_or(0))));
    rows.push(("oldest".to_owned(), seconds(&status["oldest_s"])));
    rows.push(("cursor".to_owned(), text(&status["cursor"])));
    match domain["configuration"].as_object() {
        None => rows.push(("configuration".to_owned(), "none: its mail waits until it has one".to_owned())),
        Some(keys) => rows.extend(keys.iter().map(|(name, value)| match name.strip_suffix("_s") {
            Some(name) => (name.to_owned(), seconds(value)),
            None => (name.clone(), text(value)),
        })),
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
    table(&["", ""], &rows).trim_start().to_owned()
}

/// A value without its quotes; a list with commas.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
