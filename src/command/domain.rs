//! `stratamx domain`: what is configured, and how it goes; and maintenance.

use super::Exit;
use super::client::{Client, Remote, age, escaped, fail, print, print_json, size, table};
use crate::config::unit::parse_duration;
use clap::{ArgGroup, Args};
use core::time::Duration;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// When nothing is handed over. Instants are UTC unless they say otherwise.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("end").required(true))]
#[group(skip)]
pub struct Window {
    /// So long: 90s, 30m, 2h, 1d
    #[arg(long = "for", value_name = "DURATION", group = "end", value_parser = duration)]
    lasts: Option<Duration>,
    /// Until this instant, as 2026-11-23T06:00
    #[arg(long, value_name = "TIME", group = "end", value_parser = instant)]
    until: Option<Timestamp>,
    /// From this instant on; else from now on
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who orders it; else who is logged in
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil: DateTime = text
        .parse()
        .map_err(|_| "is no instant, as 2026-11-23T06:00 or 2026-11-23T06:00+01:00".to_owned())?;
    TimeZone::UTC.to_timestamp(civil).map_err(|error| error.to_string())
}

/// An instant, or how long ago it was: `2h`.
pub(super) fn instant_or_age(text: &str) -> Result<Timestamp, String> {
    match parse_duration(text) {
        Ok(age) => Timestamp::now().checked_sub(age).map_err(|error| error.to_string()),
        Err(_) => instant(text).map_err(|error| format!("{error}, nor how long ago, as 2h")),
    }
}

/// Who orders something: what he says, else his name on this machine.
pub(super) fn orderer(by: Option<&str>) -> String {
    let on_machine = || ["LOGNAME", "USER"].iter().find_map(|name| std::env::var(name).ok());
    by.map(str::to_owned).or_else(on_machine).unwrap_or_default()
}

/// `domain hold NAME`.
#[must_use]
pub fn hold(remote: Remote, name: &str, window: &Window) -> Exit {
    let from = window.from.unwrap_or_else(Timestamp::now).as_second();
    let lasts = window.lasts.map(|lasts| i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
    let until = match (lasts, window.until) {
        (Some(lasts), _) => from.saturating_add(lasts),
        (None, Some(until)) => until.as_second(),
        (None, None) => from,
    };
    let by = orderer(window.by.as_deref());
    let order = json!({ "from_s": from, "until_s": until, "by": by, "reason": window.reason });
    ordered(remote, name, "hold", Some(&order))
}

/// `domain release NAME`.
#[must_use]
pub fn release(remote: Remote, name: &str) -> Exit {
    ordered(remote, name, "release", None)
}

fn ordered(remote: Remote, name: &str, verb: &str, order: Option<&Value>) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    match client.post(&format!("/api/v1/domains/{}/{verb}", escaped(name)), order) {
        Ok(answer) => {
            let told = orders(&answer["orders"]).into_iter().map(|(what, how)| format!("{what}: {how}\n"));
            let told: String = told.collect();
            print(&if told.is_empty() { format!("nothing is ordered about {name}\n") } else { told })
        }
        Err(error) => fail(&error),
    }
}

/// What is ordered about a domain, in words.
pub(super) fn orders(orders: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let by = |order: &Value| match order["by"].as_str() {
        None | Some("") => String::new(),
        Some(by) => format!(", by {by}"),
    };
    let window = &orders["maintenance"];
    if !window.is_null() {
        let reason = window["reason"].as_str().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let (from, until) = (moment(&window["from_s"]), moment(&window["until_s"]));
        rows.push(("maintenance".to_owned(), format!("from {from} until {until}{}{reason}", by(window))));
    }
    let redirect = &orders["redirect"];
    if !redirect.is_null() {
        let (to, since) = (text(&redirect["to"]), moment(&redirect["since_s"]));
        rows.push(("redirected".to_owned(), format!("to {to} since {since}{}", by(redirect))));
    }
    rows
}

/// That the primary is another than it was, in words.
fn changed(change: &Value) -> Option<String> {
    let what = change["what"].as_str()?;
    let (since, last) = (moment(&change["since_s"]), moment(&change["last_s"]));
    Some(format!("since {since}, met last at {last}: {what}; copies of what it takes are kept for a day"))
}

pub(super) fn moment(seconds: &Value) -> String {
    let instant = seconds.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    instant.map(|instant| instant.to_string()).unwrap_or_default()
}

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
            match domain["origin"].as_str() {
                Some("file") => "pinned".to_owned(),
                Some(origin) => origin.to_owned(),
                None => "-".to_owned(),
            },
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
    print(&table(&["DOMAIN", "STATE", "ORIGIN", "PRIMARY", "RECIPIENTS", ">BACKLOG", ">HELD"], &rows))
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

pub(super) fn shown(domain: &Value) -> String {
    let status = &domain["status"];
    let mut rows =
        vec![("name".to_owned(), text(&domain["name"])), ("state".to_owned(), text(&status["state"]))];
    let seconds = |value: &Value| value.as_u64().map(age).unwrap_or_default();
    if let Some(origin) = domain["origin"].as_str() {
        let file = "the configuration file: pinned, change it there".to_owned();
        let api = || format!("the API, changed last at {}", moment(&domain["changed_s"]));
        rows.push(("comes from".to_owned(), if origin == "file" { file } else { api() }));
    }
    rows.extend(orders(&domain["orders"]));
    rows.extend(changed(&status["primary_changed"]).map(|how| ("primary changed".to_owned(), how)));
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
        "redirected",
        "replayed",
    ] {
        rows.push((name.to_owned(), text(&status[name])));
    }
    rows.push(("messages that may arrive twice".to_owned(), text(&status["may_repeat"])));
    let taken = |through: &str| text(&status["transports"][through]);
    for (name, through) in [
        ("handed over in plain text", "plain"),
        ("handed over by TLS", "encrypted"),
        ("verified by MTA-STS", "verified_mta_sts"),
        ("verified by DANE", "verified_dane"),
    ] {
        rows.push((name.to_owned(), taken(through)));
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
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_is_another_is_told_and_what_to_do_about_it() {
        assert_eq!(changed(&Value::Null), None);
        let change = json!({ "since_s": 1_795_388_400, "last_s": 1_795_392_000, "what": "name a -> b" });
        let told = changed(&change).expect("it is told");
        assert!(
            told.starts_with("since 2026-11-22T23:00:00Z, met last at 2026-11-23T00:00:00Z: name a -> b;"),
            "{told}"
        );
    }

    #[test]
    fn instants_are_utc_or_so_long_ago() {
        let noon = instant_or_age("2026-11-23T12:00").expect("an instant");
        assert_eq!(noon, instant_or_age("2026-11-23T13:00+01:00").expect("the same"));
        let ago = Timestamp::now().as_second() - instant_or_age("2h").expect("an age").as_second();
        assert!((7_200..7_260).contains(&ago), "{ago}");
        for wrong in ["soon", "2026-13-01T00:00", "-2h", ""] {
            assert!(instant_or_age(wrong).expect_err(wrong).contains("as 2h"), "{wrong}");
        }
    }
}
