//! `stratamx token add|list|revoke`: who may ask the admin API, and for what.

use super::Exit;
use super::client::{Client, Remote, fail, print, print_json, table};
use super::domain::{instant, moment, text};
use crate::config::unit::parse_duration;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What is done to tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum Token {
    /// Make a token; it is printed once and kept nowhere
    Add {
        /// What it is for
        name: String,
        /// What it may do, again for each: metrics, read, content, operate, provision or admin
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// When it ends, as 2027-01-01T00:00, or 90d from now on; else it does not
        #[arg(long, value_name = "TIME", value_parser = end)]
        expires: Option<Timestamp>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// All tokens in force; the first administrator's is in the token file
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Make a token worthless
    Revoke {
        /// Its number in the list
        id: i64,
    },
}

fn end(text: &str) -> Result<Timestamp, String> {
    match parse_duration(text) {
        Ok(time) => Timestamp::now().checked_add(time).map_err(|error| error.to_string()),
        Err(_) => instant(text).map_err(|error| format!("{error}, nor how long from now on, as 90d")),
    }
}

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, command: Token) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let done = match command {
        Token::Add { name, scopes, expires, json } => {
            let body =
                json!({ "name": name, "scopes": scopes, "expires_s": expires.map(Timestamp::as_second) });
            client.post("/api/v1/tokens", Some(&body)).map(|made| {
                if json {
                    return print_json(&made);
                }
                eprintln!("token {} for {name}: it is told once, here", made["id"]);
                print(&format!("{}\n", text(&made["token"])))
            })
        }
        Token::List { json } => {
            client.get("/api/v1/tokens").map(|all| if json { print_json(&all) } else { listed(&all) })
        }
        Token::Revoke { id } => client
            .change("DELETE", &format!("/api/v1/tokens/{id}"), None)
            .map(|_| print(&format!("token {id} is worth nothing any more\n"))),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn listed(all: &Value) -> Exit {
    let rows = all["tokens"].as_array().into_iter().flatten().map(|token| {
        let expires =
            if token["expires_s"].is_null() { "never".to_owned() } else { moment(&token["expires_s"]) };
        vec![
            token["id"].to_string(),
            text(&token["name"]),
            text(&token["scopes"]),
            moment(&token["created_s"]),
            expires,
        ]
    });
    let rows: Vec<_> = rows.collect();
    print(&table(&[">ID", "NAME", "SCOPES", "MADE", "EXPIRES"], &rows))
}
