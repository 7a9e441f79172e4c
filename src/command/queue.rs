//! `stratamx queue`: what waits, and what an operator does to it.

mod flush;
mod replay;

use super::Exit;
use super::client::{Client, Remote, age, escaped, fail, print, print_json, size, table};
use super::domain::{orderer, orders};
use clap::{ArgGroup, Args, Subcommand};
use replay::Replay;
use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, Subcommand)]
pub enum Queue {
    /// Messages in the order of acceptance
    List {
        /// Of this domain only
        #[arg(long, value_name = "NAME")]
        domain: Option<String>,
        /// With recipients in this state only
        #[arg(long, value_parser = ["queued", "deferred", "held", "in-flight"])]
        state: Option<String>,
        /// So many at most; 0: all
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// One message: envelope, recipients and where they stand; never its content
    Show {
        /// The queue id
        id: String,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Try everything of a domain at once, also what was put off
    Flush {
        /// The domain
        domain: String,
        /// Tell how it goes, until nothing waits
        #[arg(long)]
        watch: bool,
    },
    /// Let a domain go on that was frozen since its mail server refused known recipients; what it refuses now is final. And vouch for a mail
    /// server that is another than before
    Thaw {
        /// The domain
        domain: String,
    },
    /// Keep messages back until they are released
    Hold(Selection),
    /// Let held messages go on
    Release(Selection),
    /// Give messages up and tell their senders; those whose sender is not proven to be himself are held instead
    Bounce(Selection),
    /// Drop messages; counted as discarded
    Discard(Selection),
    /// Drop messages; counted as deleted
    Delete(Selection),
    /// Send a domain's mail to other hosts from now on, once the first of them has taken a test message
    Redirect(Redirect),
    /// Queue once more what was delivered and is kept (safety_net, or since the mail server was another): for one that lost it
    Replay(Replay),
    /// Write one message out as it came
    Export {
        /// The queue id
        id: String,
        /// A new file; else standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Where a domain's mail goes.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("where").required(true))]
#[group(skip)]
pub struct Redirect {
    /// The domain
    domain: String,
    /// A host, or host:port; several are tried in this order
    #[arg(long, value_name = "HOST", group = "where")]
    to: Vec<String>,
    /// To its own primaries again
    #[arg(long, group = "where")]
    off: bool,
    /// Whom the test message is for; else postmaster of the domain
    #[arg(long, value_name = "ADDRESS", conflicts_with = "off")]
    test_recipient: Option<String>,
    /// Send the test message, and leave everything as it is
    #[arg(long, conflicts_with = "off")]
    test_only: bool,
    /// Who orders it; else who is logged in
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Which messages.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("which").required(true))]
#[group(skip)]
pub struct Selection {
    /// The queue id
    #[arg(group = "which")]
    id: Option<String>,
    /// All that is held in the domain
    #[arg(long, group = "which", requires = "domain")]
    all_held: bool,
    /// All of the domain
    #[arg(long, group = "which", requires = "domain")]
    all: bool,
    /// In this domain only
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
}

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, queue: Queue) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let done = match queue {
        Queue::List { domain, state, limit, json } => {
            list(&client, domain.as_deref(), state.as_deref(), limit, json)
        }
        Queue::Show { id, json } => show(&client, &id, json),
        Queue::Flush { domain, watch } => flush::run(&client, &domain, watch),
        Queue::Thaw { domain } => thaw(&client, &domain),
        Queue::Hold(which) if which.all_held => return usage("hold takes a queue id, or --all"),
        Queue::Release(which) if which.all => return usage("release takes a queue id, or --all-held"),
        Queue::Hold(which) => act(&client, "hold", &which),
        Queue::Release(which) => act(&client, "release", &which),
        Queue::Bounce(which) => act(&client, "bounce", &which),
        Queue::Discard(which) => act(&client, "discard", &which),
        Queue::Delete(which) => act(&client, "delete", &which),
        Queue::Redirect(order) => redirect(&client, &order),
        Queue::Replay(wanted) => replay::run(&client, &wanted),
        Queue::Export { id, output } => export(&client, &id, output),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn usage(what: &str) -> Exit {
    eprintln!("stratamx: {what}");
    Exit::Usage
}

fn list(
    client: &Client,
    domain: Option<&str>,
    state: Option<&str>,
    limit: usize,
    json: bool,
) -> Result<Exit, String> {
    let mut filter = String::new();
    for (name, value) in [("domain", domain), ("state", state)] {
        if let Some(value) = value {
            filter.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (mut messages, mut after): (Vec<Value>, _) = (Vec::new(), String::new());
    let next = loop {
        let left = limit - messages.len();
        let mut page = client.get(&format!("/api/v1/queue?limit={left}{filter}{after}"))?;
        if let Value::Array(more) = page["messages"].take() {
            messages.extend(more);
        }
        let next = page["next"].take();
        match next.as_str() {
            Some(place) if messages.len() < limit => after = format!("&after={}", escaped(place)),
            _ => break next,
        }
    };
    if json {
        return Ok(print_json(&json!({ "messages": messages, "next": next })));
    }
    let rows: Vec<_> = messages.iter().map(row).collect();
    let more = !next.is_null();
    let head = ["ID", "DOMAIN", "STATE", "RECEIVED", ">SIZE", "FROM", "TO"];
    let exit = print(&table(&head, &rows));
    if more {
        eprintln!("there are more: --limit 0 shows all");
    }
    Ok(exit)
}

fn row(message: &Value) -> Vec<String> {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let recipients = message["recipients"].as_array().into_iter().flatten();
    let recipients: Vec<&str> = recipients.filter_map(|recipient| recipient["address"].as_str()).collect();
    let to = match recipients.as_slice() {
        [] => message["unreadable"].as_str().unwrap_or_default().to_owned(),
        [one] => (*one).to_owned(),
        [one, others @ ..] => format!("{one} and {} more", others.len()),
    };
    vec![
        text("id"),
        text("domain"),
        text("state"),
        message["received_s"].as_i64().map(moment).unwrap_or_default(),
        size(message["size"].as_u64().unwrap_or(0)),
        format!("<{}>", text("reverse_path")),
        to,
    ]
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|moment| moment.to_string()).unwrap_or_default()
}

fn show(client: &Client, id: &str, json: bool) -> Result<Exit, String> {
    let answer = client.get(&format!("/api/v1/queue/{}", escaped(id)))?;
    if json {
        return Ok(print_json(&answer));
    }
    let mut out = String::new();
    for message in answer["messages"].as_array().into_iter().flatten() {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let mut rows = vec![
            vec!["id".to_owned(), text("id")],
            vec!["domain".to_owned(), text("domain")],
            vec!["state".to_owned(), text("state")],
            vec!["from".to_owned(), format!("<{}>", text("reverse_path"))],
            vec!["proven".to_owned(), if message["proven"] == true { "yes" } else { "no" }.to_owned()],
            vec!["received".to_owned(), message["received_s"].as_i64().map(moment).unwrap_or_default()],
            vec!["client".to_owned(), format!("{} ({})", text("client"), text("helo"))],
            vec!["size".to_owned(), size(message["size"].as_u64().unwrap_or(0))],
        ];
        let held_since = message["held_since_s"].as_i64().map(moment);
        rows.extend(held_since.map(|since| vec!["held since".to_owned(), since]));
        let next_try = message["next_try_s"].as_u64().map(age);
        rows.extend(next_try.map(|next| vec!["next try in".to_owned(), next]));
        if message["may_repeat"] == true {
            rows.push(vec![
                "may repeat".to_owned(),
                "yes: the primary may have it, it never said".to_owned(),
            ]);
        }
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            let told = |name: &str| recipient[name].as_str().unwrap_or_default().to_owned();
            rows.push(vec!["to".to_owned(), format!("{} ({})", told("address"), told("state"))]);
        }
        for line in text("trace").lines() {
            rows.push(vec!["trace".to_owned(), line.trim().to_owned()]);
        }
        out.push_str(table(&["", ""], &rows).trim_start());
        out.push('\n');
    }
    Ok(print(&out))
}

fn thaw(client: &Client, domain: &str) -> Result<Exit, String> {
    let answer = client.post("/api/v1/queue/thaw", Some(&json!({ "domain": domain })))?;
    let told = [
        (&answer["was_frozen"], format!("{domain} goes on\n")),
        (&answer["was_changed"], format!("the mail server of {domain} is known from here on\n")),
    ];
    let told: String =
        told.into_iter().filter(|(was, _)| **was == json!(true)).map(|(_, told)| told).collect();
    if !told.is_empty() {
        return Ok(print(&told));
    }
    Err(format!(
        "{domain} was not frozen, and its mail server is the known one; see: stratamx domain show {domain}"
    ))
}

fn redirect(client: &Client, order: &Redirect) -> Result<Exit, String> {
    let path = format!("/api/v1/domains/{}", escaped(&order.domain));
    if order.off {
        client.post(&format!("{path}/direct"), None)?;
        return Ok(print(&format!("mail of {} goes to its own primaries\n", order.domain)));
    }
    let body = json!({
        "to": order.to,
        "test_recipient": order.test_recipient,
        "test_only": order.test_only,
        "by": orderer(order.by.as_deref()),
    });
    let answer = client.post(&format!("{path}/redirect"), Some(&body))?;
    let mut out = format!("test message: {}\n", answer["test"].as_str().unwrap_or_default());
    for (what, how) in orders(&answer["orders"]) {
        out.push_str(&format!("{what}: {how}\n"));
    }
    Ok(print(&out))
}

fn act(client: &Client, action: &str, which: &Selection) -> Result<Exit, String> {
    let (mut messages, mut units, mut busy, mut unproven) = (0, 0, 0, 0);
    let mut add = |answer: &Value| {
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        messages += number("messages");
        units += number("units");
        busy += number("busy");
        unproven += number("unproven");
        (messages, units)
    };
    let mut so_far = (0, 0);
    if let Some(id) = &which.id {
        let domain = which.domain.as_ref().map(|domain| format!("?domain={}", escaped(domain)));
        let path = format!("/api/v1/queue/{}/{action}{}", escaped(id), domain.unwrap_or_default());
        let _ = add(&client.post(&path, None)?);
    } else {
        let state = match (which.all_held, action) {
            (true, _) => Value::from("held"),
            (false, "hold") => Value::Null,
            (false, _) => Value::from("all"),
        };
        let mut after = Value::Null;
        loop {
            let body = json!({ "domain": which.domain, "state": state, "after": after });
            let answer = client.post(&format!("/api/v1/queue/{action}"), Some(&body));
            let mut answer = answer.map_err(|error| {
                let (messages, units) = so_far;
                format!(
                    "{error}; done before that: {messages} messages, {units} recipients; repeat it to go on"
                )
            })?;
            so_far = add(&answer);
            after = answer["next"].take();
            if after.is_null() {
                break;
            }
        }
    }
    let exit = print(&format!("messages: {messages}, recipients: {units}\n"));
    if unproven > 0 {
        return Err(format!(
            "{unproven} recipients were not bounced: nothing proves that the senders are the ones named, or no notice can be made; \
             they are held: release, discard or delete them"
        ));
    }
    if busy > 0 {
        return Err(format!("{busy} messages were being sent: nothing was done to them; try again"));
    }
    Ok(exit)
}

fn export(client: &Client, id: &str, output: Option<PathBuf>) -> Result<Exit, String> {
    let path = format!("/api/v1/queue/{}/export", escaped(id));
    let Some(output) = output else {
        let mut stdout = std::io::stdout().lock();
        client.copy(&path, &mut stdout)?;
        return stdout.flush().map(|()| Exit::Done).map_err(|error| error.to_string());
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", output.display());
    let file = open(&output, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(&error))?;
    let mut file = File::from(file);
    if let Err(error) = client.copy(&path, &mut file) {
        // Half a message is none.
        let _ = rustix::fs::unlink(&output);
        return Err(error);
    }
    file.sync_all().map(|()| Exit::Done).map_err(|error| failed(&error))
}
