//! `stratamx outage`, `alert` and `contact`: what happened, what holds, and who is told.

use super::Exit;
use super::client::{Client, Remote, age, escaped, fail, print, print_json, table};
use super::domain::{moment, text};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

/// What is asked about outages.
#[derive(Clone, Debug, Subcommand)]
pub enum Outages {
    /// Outages, the latest first: when, how long, what became of mail
    List {
        /// Of this domain only
        #[arg(long)]
        domain: Option<String>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// One outage; with --html as a page for people
    Show {
        /// Its number in the list
        id: i64,
        /// A page that needs nothing else: stratamx outage show 7 --html > report.html
        #[arg(long, conflicts_with = "json")]
        html: bool,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
}

/// What is done about alerts.
#[derive(Clone, Debug, Subcommand)]
pub enum Alerts {
    /// Say that you look after it: it is not told again
    Acknowledge {
        /// Its number in the list
        id: i64,
    },
    /// What needs somebody now; --all: and what is over
    List {
        /// Those that are over, too
        #[arg(long)]
        all: bool,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// What happened, the latest first
    Log {
        /// Of this domain only
        #[arg(long)]
        domain: Option<String>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
}

/// What is done about who is told.
#[derive(Clone, Debug, Subcommand)]
pub enum Contacts {
    /// Tell somebody from now on
    Add(NewContact),
    /// All who are told, and what does not reach them
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Tell him no more
    Remove {
        /// His number in the list
        id: i64,
    },
    /// Send him a message now
    Test {
        /// His number in the list
        id: i64,
    },
}

/// How somebody is told.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct NewContact {
    /// Who it is
    name: String,
    /// By which way
    kind: Way,
    /// mail: to=ops@example.org; webhook: url=https://... secret=...; sms (Twilio): account=... auth_token=... from=+1... to=+49...;
    /// template: url=https://.../?to={to}&text={text} body=... media_type=... authorization_secret=... to=+49...
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    keys: Vec<(String, String)>,
    /// Of this domain only; else of all, and of the server
    #[arg(long, default_value = "")]
    domain: String,
    /// What matters less is not told: information, warning or critical
    #[arg(long, default_value = "information")]
    severity: String,
}

/// The ways to tell somebody.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// By e-mail
    Mail,
    /// By a short message, as Twilio takes it
    Sms,
    /// By a short message of any other provider
    Template,
    /// By a signed request (Standard Webhooks)
    Webhook,
}

fn pair(argument: &str) -> Result<(String, String), String> {
    let (key, value) = argument.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn with(remote: Remote, work: impl FnOnce(&Client) -> Result<Exit, String>) -> Exit {
    match Client::open(remote) {
        Ok(client) => work(&client).unwrap_or_else(|error| fail(&error)),
        Err(exit) => exit,
    }
}

fn of(domain: Option<&String>) -> String {
    domain.map(|domain| format!("?domain={}", escaped(domain))).unwrap_or_default()
}

/// `outage`.
#[must_use]
pub fn outages(remote: Remote, command: &Outages) -> Exit {
    with(remote, |client| match command {
        Outages::List { domain, json } => {
            let all = client.get(&format!("/api/v1/outages{}", of(domain.as_ref())))?;
            Ok(if *json { print_json(&all) } else { print(&outage_table(&all)) })
        }
        Outages::Show { id, html: true, .. } => {
            let mut page = Vec::new();
            client.copy(&format!("/api/v1/outages/{id}/report"), &mut page)?;
            Ok(print(&String::from_utf8_lossy(&page)))
        }
        Outages::Show { id, json, .. } => {
            let outage = client.get(&format!("/api/v1/outages/{id}"))?;
            Ok(if *json { print_json(&outage) } else { print(&outage_shown(&outage)) })
        }
    })
}

/// From one instant to another, for people.
fn lasted(outage: &Value) -> String {
    match (outage["began_s"].as_u64(), outage["ended_s"].as_u64()) {
        (Some(began), Some(ended)) => age(ended.saturating_sub(began)),
        _ => "goes on".to_owned(),
    }
}

fn outage_table(all: &Value) -> String {
    let rows = all["outages"].as_array().into_iter().flatten().map(|outage| {
        let ledger = &outage["ledger"];
        vec![
            outage["id"].to_string(),
            text(&outage["domain"]),
            moment(&outage["began_s"]),
            lasted(outage),
            text(&ledger["accepted"]),
            text(&ledger["delivered"]),
            text(&ledger["waiting"]),
            if ledger["is_balanced"] == true { "yes" } else { "NO" }.to_owned(),
        ]
    });
    let head = [">ID", "DOMAIN", "BEGAN", "LASTED", ">ACCEPTED", ">DELIVERED", ">WAITING", "ACCOUNTED FOR"];
    table(&head, &rows.collect::<Vec<_>>())
}

fn outage_shown(outage: &Value) -> String {
    let ledger = &outage["ledger"];
    let mut rows = vec![vec!["domain".to_owned(), text(&outage["domain"])]];
    for (name, key) in [("began", "began_s"), ("server back", "returned_s"), ("all handed over", "ended_s")] {
        rows.push(vec![name.to_owned(), moment(&outage[key])]);
    }
    rows.push(vec!["lasted".to_owned(), lasted(outage)]);
    rows.push(vec!["what failed".to_owned(), text(&outage["reason"])]);
    rows.push(vec!["most that waited".to_owned(), text(&outage["peak"])]);
    for (key, value) in ledger.as_object().into_iter().flatten() {
        rows.push(vec![key.replace('_', " "), text(value)]);
    }
    let proof = &outage["proof"];
    if proof.is_object() {
        rows.push(vec!["messages that ended".to_owned(), text(&proof["messages"])]);
        let order = match (proof["order_is_known"].as_bool(), proof["out_of_order"].as_u64()) {
            (Some(true), Some(0)) => format!("kept by {} that were handed over", text(&proof["deliveries"])),
            (Some(true), _) => format!("{} behind one that was accepted later", text(&proof["out_of_order"])),
            _ => "not known".to_owned(),
        };
        rows.push(vec!["out of their place before".to_owned(), text(&proof["excepted"])]);
        rows.push(vec!["order of each recipient".to_owned(), order]);
        rows.push(vec!["SHA-256 over their ids".to_owned(), text(&proof["root"])]);
        if proof["is_whole"] != true {
            rows.push(vec!["missing".to_owned(), "part of the trace".to_owned()]);
        }
    }
    table(&["", ""], &rows).trim_start().to_owned()
}

/// `alert`.
#[must_use]
pub fn alerts(remote: Remote, command: &Alerts) -> Exit {
    with(remote, |client| match command {
        Alerts::Acknowledge { id } => {
            client.post(&format!("/api/v1/alerts/{id}/acknowledge"), None)?;
            Ok(print(&format!("alert {id} is not told again while it holds\n")))
        }
        Alerts::List { all, json } => {
            let found = client.get(&format!("/api/v1/alerts?open={}", !all))?;
            if *json {
                return Ok(print_json(&found));
            }
            let rows = found["alerts"].as_array().into_iter().flatten().map(|alert| {
                let over =
                    if alert["over_s"].is_null() { "holds".to_owned() } else { moment(&alert["over_s"]) };
                let cells = [&alert["id"], &alert["severity"], &alert["domain"]].map(text);
                let mut row = cells.to_vec();
                row.extend([
                    moment(&alert["since_s"]),
                    over,
                    text(&alert["acknowledged_by"]),
                    text(&alert["text"]),
                ]);
                row
            });
            let head = [">ID", "SEVERITY", "DOMAIN", "SINCE", "OVER", "ACKNOWLEDGED BY", "WHAT"];
            Ok(print(&table(&head, &rows.collect::<Vec<_>>())))
        }
        Alerts::Log { domain, json } => {
            let found = client.get(&format!("/api/v1/events{}", of(domain.as_ref())))?;
            if *json {
                return Ok(print_json(&found));
            }
            let rows = found["events"].as_array().into_iter().flatten();
            let rows =
                rows.map(|event| vec![moment(&event["at_s"]), text(&event["kind"]), text(&event["text"])]);
            Ok(print(&table(&["AT", "WHAT", ""], &rows.collect::<Vec<_>>())))
        }
    })
}

/// `contact`.
#[must_use]
pub fn contacts(remote: Remote, command: &Contacts) -> Exit {
    with(remote, |client| match command {
        Contacts::Add(new) => {
            let mut sink: Map<String, Value> =
                new.keys.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            let kind = match new.kind {
                Way::Mail => "mail",
                Way::Sms => "sms",
                Way::Template => "template",
                Way::Webhook => "webhook",
            };
            sink.insert("kind".to_owned(), kind.into());
            let body =
                json!({ "name": new.name, "sink": sink, "domain": new.domain, "severity": new.severity });
            let made = client.post("/api/v1/contacts", Some(&body))?;
            let id = &made["id"];
            Ok(print(&format!("{} is told from now on; stratamx contact test {id} tries it\n", new.name)))
        }
        Contacts::List { json } => {
            let found = client.get("/api/v1/contacts")?;
            if *json {
                return Ok(print_json(&found));
            }
            let rows = found["contacts"].as_array().into_iter().flatten();
            let keys = ["id", "name", "kind", "target", "domain", "severity", "last_error"];
            let rows = rows.map(|contact| keys.map(|key| text(&contact[key])).to_vec());
            let head = [">ID", "NAME", "WAY", "WHERE", "DOMAIN", "FROM", "LAST ERROR"];
            Ok(print(&table(&head, &rows.collect::<Vec<_>>())))
        }
        Contacts::Remove { id } => {
            client.change("DELETE", &format!("/api/v1/contacts/{id}"), None)?;
            Ok(print(&format!("contact {id} is told no more\n")))
        }
        Contacts::Test { id } => {
            client.post(&format!("/api/v1/contacts/{id}/test"), None)?;
            Ok(print("it was taken\n"))
        }
    })
}
