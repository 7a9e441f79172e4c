//! `stratamx trace`: what happened to this mail.

use super::Exit;
use super::client::{Client, Remote, escaped, fail, print, print_json, size, table};
use super::domain::{instant_or_age, text};
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::Value;
use std::io::{IsTerminal as _, Write as _};

const HELP: &str = "\
A message by its queue id, from acceptance to its end; or all that became of messages of a domain, sender or recipient. What became of a \
message is kept for trace_retention behind its end; its content never.

With --json a search prints one event a line. The hash over the messages of an outage is made so, from its first failure to the second \
behind its end:
  stratamx trace --domain example.com --since 2026-11-23T08:00:00Z --until 2026-11-23T09:00:01Z --json |
    jq -r 'select(.id != null and any(.recipients[]; .is_final)) | .id' | LC_ALL=C sort -u | sha256sum";

/// Which messages.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = HELP,
    group = ArgGroup::new("which").required(true).multiple(true).args(["id", "domain", "sender", "recipient", "code"]),
)]
#[group(skip)]
pub struct Trace {
    /// The queue id
    #[arg(conflicts_with_all = ["domain", "sender", "recipient", "code", "since", "until", "limit"])]
    id: Option<String>,
    /// Of this domain
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// From this reverse-path
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// For this recipient
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// With this reply code
    #[arg(long, value_name = "CODE")]
    code: Option<u16>,
    /// From then on: an instant, or as 2h, so long ago
    #[arg(long, value_name = "TIME", value_parser = instant_or_age)]
    since: Option<Timestamp>,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = instant_or_age)]
    until: Option<Timestamp>,
    /// So many events at most; 0: all
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// For scripts
    #[arg(long)]
    json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, wanted: &Trace) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let done = match &wanted.id {
        Some(id) => one(&client, id, wanted.json),
        None => search(&client, wanted),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn one(client: &Client, id: &str, json: bool) -> Result<Exit, String> {
    let path = format!("/api/v1/trace/{}", escaped(id));
    let mut whole = client.get(&path)?;
    while let Some(next) = whole["next"].as_str() {
        tell_progress(&whole["progress"]);
        let mut more = client.get(&format!("{path}?after={}", escaped(next)))?;
        if let (Some(events), Value::Array(further)) = (whole["events"].as_array_mut(), more["events"].take())
        {
            events.extend(further);
        }
        whole["next"] = more["next"].take();
        whole["progress"] = more["progress"].take();
    }
    end_progress();
    if json {
        return Ok(print_json(&whole));
    }
    if all(&whole["messages"]).next().is_none() && all(&whole["events"]).next().is_none() {
        return Err("nothing is known of a message with this queue id".to_owned());
    }
    Ok(print(&told(&whole)))
}

/// One message for people: how it came, what happened, where it stands.
fn told(whole: &Value) -> String {
    let mut out = String::new();
    let accepted = all(&whole["events"]).find(|event| !event["accepted"].is_null());
    let queued = all(&whole["messages"]).next();
    let from = queued.or(accepted).or_else(|| all(&whole["events"]).next());
    let mut rows = vec![vec!["id".to_owned(), text(&whole["id"])]];
    if let Some(from) = from {
        rows.push(vec!["from".to_owned(), format!("<{}>", text(&from["reverse_path"]))]);
    }
    // The record while it is here, else what was told with its end.
    let facts = queued.or(accepted.map(|event| &event["accepted"]));
    if let Some(facts) = facts {
        let tls = facts["tls"].as_str().map_or_else(String::new, |tls| format!(" by {tls}"));
        let client = format!("{} ({}){tls}", text(&facts["client"]), text(&facts["helo"]));
        rows.push(vec!["accepted".to_owned(), instant(facts["received_s"].as_i64().unwrap_or(0) * 1000)]);
        rows.push(vec!["client".to_owned(), client]);
        rows.push(vec!["size".to_owned(), size(facts["size"].as_u64().unwrap_or(0))]);
    }
    for message in all(&whole["messages"]) {
        for recipient in all(&message["recipients"]).filter(|recipient| recipient["state"] != "done") {
            let now = format!("{} is {}", text(&recipient["address"]), text(&recipient["state"]));
            rows.push(vec!["now".to_owned(), now]);
        }
    }
    out.push_str(table(&["", ""], &rows).trim_start());
    let events: Vec<_> = all(&whole["events"]).flat_map(|event| lines(event, false)).collect();
    if !events.is_empty() {
        out.push('\n');
        out.push_str(&table(&["WHEN", "TO", "WHAT", "HOST", "REPLY"], &events));
    }
    out
}

fn search(client: &Client, wanted: &Trace) -> Result<Exit, String> {
    let mut filter = String::new();
    let code = wanted.code.map(|code| code.to_string());
    let seconds = |at: &Option<Timestamp>| at.map(|at| at.as_second().max(0).to_string());
    for (name, value) in [
        ("domain", &wanted.domain),
        ("sender", &wanted.sender),
        ("recipient", &wanted.recipient),
        ("code", &code),
        ("since_s", &seconds(&wanted.since)),
        ("until_s", &seconds(&wanted.until)),
    ] {
        if let Some(value) = value {
            filter.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let limit = if wanted.limit == 0 { usize::MAX } else { wanted.limit };
    let (mut shown, mut after) = (0, String::new());
    let mut rows = Vec::new();
    let mut out = std::io::stdout().lock();
    loop {
        let page =
            client.get(&format!("/api/v1/trace?{}", format!("{filter}{after}").trim_start_matches('&')))?;
        for event in all(&page["events"]).take(limit - shown) {
            shown += 1;
            if wanted.json {
                writeln!(out, "{event}").map_err(|error| format!("cannot write: {error}"))?;
            } else {
                rows.extend(lines(event, true));
            }
        }
        match page["next"].as_str() {
            Some(next) if shown < limit => after = format!("&after={}", escaped(next)),
            _ => break,
        }
        tell_progress(&page["progress"]);
    }
    end_progress();
    out.flush().map_err(|error| format!("cannot write: {error}"))?;
    drop(out);
    if wanted.json {
        return Ok(Exit::Done);
    }
    Ok(print(&table(&["WHEN", "ID", "FROM", "TO", "WHAT", "HOST", "REPLY"], &rows)))
}

/// A line a recipient.
fn lines(event: &Value, is_search: bool) -> Vec<Vec<String>> {
    let line = |recipient: &Value| {
        let mut line = vec![instant(event["at_ms"].as_i64().unwrap_or(0))];
        if is_search {
            line.extend([text(&event["id"]), format!("<{}>", text(&event["reverse_path"]))]);
        }
        let reply = match recipient["code"].as_u64() {
            None | Some(0) => String::new(),
            Some(code) => format!("{code} {}", text(&recipient["text"])),
        };
        let elsewhere = if event["redirected"] == true { " (redirected)" } else { "" };
        let host = format!("{}{elsewhere}", text(&event["host"]));
        line.extend([text(&recipient["address"]), text(&recipient["what"]), host, reply]);
        line
    };
    all(&event["recipients"]).map(line).collect()
}

fn all(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn instant(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map(|at| at.to_string()).unwrap_or_default()
}

fn tell_progress(progress: &Value) {
    if std::io::stderr().is_terminal() {
        eprint!("\rlooked at {} of {} days and files ", progress["done"], progress["of"]);
    }
}

fn end_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_told_from_its_acceptance_to_its_end() {
        let recipient =
            |what, code, text| json!([{ "address": "r@a.test", "what": what, "code": code, "text": text }]);
        let accepted = json!({ "received_s": 1_795_388_400, "size": 2048, "client": "192.0.2.1", "helo": "b.test", "tls": "TLSv1.3 X" });
        let whole = json!({
            "id": "0000G00000002", "messages": [], "next": null,
            "events": [
                { "at_ms": 1_795_388_401_500_i64, "reverse_path": "s@b.test", "host": "192.0.2.9:25", "accepted": null,
                  "recipients": recipient("deferred", 450, "4.2.0 later") },
                { "at_ms": 1_795_388_500_000_i64, "reverse_path": "s@b.test", "host": "192.0.2.9:25", "accepted": accepted,
                  "redirected": true, "recipients": recipient("delivered", 250, "2.0.0 ok") },
            ],
        });
        let told = told(&whole);
        for part in [
            "0000G00000002",
            "<s@b.test>",
            "192.0.2.1 (b.test) by TLSv1.3 X",
            "2026-11-22T23:00:01.5Z",
            "450 4.2.0 later",
            "192.0.2.9:25 (redirected)",
            "250 2.0.0 ok",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.find("deferred") < told.find("delivered"), "{told}");
    }
}
