//! `stratamx configuration`: the revisions of an appliance's configuration, what differs, and changes.
//!
//! A change is shown before it is made, as the machine itself sees it, and asked for on a terminal. What it changes is what was shown: when somebody
//! else was faster the machine refuses it.

use super::Exit;
use super::client::{Client, Remote, escaped, fail, print, print_json, size, table};
use super::domain::{moment, text};
use crate::limits::CONFIGURATION_CHANGE_OCTETS_MAX;
use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

/// What is to be done.
#[derive(Clone, Debug, Subcommand)]
pub enum Revisions {
    /// Add or replace files (by their names, without a path), or remove some: a new revision, in force at once
    Apply {
        /// stratamx.toml, appliance.toml, and what they name
        #[arg(required_unless_present = "remove")]
        files: Vec<PathBuf>,
        /// Remove this file
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// The revision on probation stands; the one in force, if no other is named
    Confirm {
        /// Its number
        number: Option<u64>,
    },
    /// What differs between two revisions; else what the one in force has changed
    Diff {
        /// The earlier one
        from: Option<u64>,
        /// The later one; else the one in force
        to: Option<u64>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// All revisions: when, by whom, which is in force
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Put the files of an earlier revision in force, as a new one
    Revert {
        /// Its number
        number: u64,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// The files of a revision, or the text of one; of keys, tokens and certificates size and hash only
    Show {
        /// The revision; else the one in force
        number: Option<u64>,
        /// The file
        #[arg(long, value_name = "NAME")]
        file: Option<String>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Args)]
pub struct How {
    /// Without asking
    #[arg(long)]
    yes: bool,
    /// It is given back after five minutes unless it is confirmed; else where it changes the network or the admin API, or ends the server
    #[arg(long, conflicts_with = "no_confirm")]
    confirm: bool,
    /// It stands without that; one that the server does not start with is given back all the same
    #[arg(long)]
    no_confirm: bool,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
}

const PATH: &str = "/api/v1/machine/configuration";

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, command: &Revisions) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let done = match command {
        Revisions::Apply { files, remove, how } => taken(files)
            .and_then(|files| change(&client, PATH, json!({ "files": files, "remove": remove }), *how)),
        Revisions::Confirm { number } => confirm(&client, *number),
        Revisions::Diff { from, to, json } => differing(&client, *from, *to, *json),
        Revisions::List { json } => client.get(PATH).map(|list| shown(&list, *json, listed)),
        Revisions::Revert { number, how } => {
            change(&client, &format!("{PATH}/revert"), json!({ "to": number }), *how)
        }
        Revisions::Show { number, file, json } => show(&client, *number, file.as_deref(), *json),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn shown(value: &Value, is_json: bool, words: impl Fn(&Value) -> String) -> Exit {
    if is_json { print_json(value) } else { print(&words(value)) }
}

/// Shows what a change does, asks, and makes it.
fn change(client: &Client, path: &str, mut body: Value, how: How) -> Result<Exit, String> {
    let How { yes, confirm, no_confirm, dry_run, json } = how;
    if confirm || no_confirm {
        body["confirm"] = Value::from(confirm);
    }
    let seen = in_force(&client.get(PATH)?)?;
    body["dry_run"] = Value::from(true);
    let would = client.change_seen(path, seen, Some(&body))?;
    if dry_run || would["effect"] == "nothing" {
        return Ok(shown(&would, json, told));
    }
    if !yes {
        if !std::io::stdin().is_terminal() || json {
            return Err("nobody can be asked: --yes makes the change, --dry-run shows it".to_owned());
        }
        eprint!("{}\nMake this change? Type yes: ", told(&would));
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() != "yes" {
            return Err("nothing was changed".to_owned());
        }
    }
    body["dry_run"] = Value::from(false);
    let made = client.change_seen(path, seen, Some(&body))?;
    Ok(shown(&made, json, outcome))
}

fn confirm(client: &Client, number: Option<u64>) -> Result<Exit, String> {
    let number = number.map_or_else(|| in_force(&client.get(PATH)?), Ok)?;
    client.change_seen(&format!("{PATH}/confirm"), number, None)?;
    Ok(print(&format!("Revision {number} stands.\n")))
}

fn differing(client: &Client, from: Option<u64>, to: Option<u64>, is_json: bool) -> Result<Exit, String> {
    let part = |name: &str, number: Option<u64>| number.map(|number| format!("{name}={number}"));
    let parts: Vec<String> = [part("from", from), part("to", to)].into_iter().flatten().collect();
    let compared = client.get(&format!("{PATH}/diff?{}", parts.join("&")))?;
    Ok(shown(&compared, is_json, |compared| differences(&compared["differences"])))
}

fn show(client: &Client, number: Option<u64>, file: Option<&str>, is_json: bool) -> Result<Exit, String> {
    let list = client.get(PATH)?;
    let number = number.map_or_else(|| in_force(&list), Ok)?;
    if let Some(file) = file {
        let mut octets = Vec::new();
        client.copy(&format!("{PATH}/{number}/files/{}", escaped(file)), &mut octets)?;
        let text = String::from_utf8_lossy(&octets);
        return Ok(if is_json { print_json(&json!({ "text": text })) } else { print(&text) });
    }
    let revisions = list["revisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let revision = revisions.iter().find(|revision| revision["number"] == number);
    let revision = revision.ok_or_else(|| format!("there is no revision {number}"))?;
    Ok(shown(revision, is_json, files))
}

fn in_force(list: &Value) -> Result<u64, String> {
    list["in_force"].as_u64().ok_or_else(|| "the machine does not say which revision is in force".to_owned())
}

/// Files as the API takes them.
fn taken(paths: &[PathBuf]) -> Result<Vec<Value>, String> {
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| format!("{}: is no name of a file", path.display()))?;
            let octets = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let content = base64::engine::general_purpose::STANDARD.encode(octets);
            Ok(json!({ "name": name, "content": content }))
        })
        .collect()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let file = OpenOptions::new().read(true).open(path)?;
    file.take(CONFIGURATION_CHANGE_OCTETS_MAX as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn listed(list: &Value) -> String {
    let revisions = list["revisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = revisions
        .iter()
        .map(|revision| {
            let is_in_force = revision["number"] == list["in_force"];
            let state = match revision["given_back"].as_str() {
                _ if is_in_force && list["probation"].is_object() => "in force, on probation".to_owned(),
                _ if is_in_force => "in force".to_owned(),
                Some(why) => format!("given back: {why}"),
                None => String::new(),
            };
            let made =
                if revision["at_s"].is_null() { "unknown".to_owned() } else { moment(&revision["at_s"]) };
            let count = revision["files"].as_array().map_or(0, Vec::len);
            vec![text(&revision["number"]), made, by(revision), count.to_string(), state]
        })
        .collect();
    let mut out = table(&[">NUMBER", "MADE", "BY", ">FILES", "STATE"], &rows);
    let probation = &list["probation"];
    if let Some(left) = probation["left_s"].as_u64() {
        let (number, before) = (text(&probation["number"]), text(&probation["before"]));
        out.push_str(&if probation["needs_confirmation"] == true {
            format!("Revision {number} is given back for {before} in {left} s unless it is confirmed: stratamx configuration confirm\n")
        } else {
            format!("Revision {number} stands when the server greets; else {before} is in force again in {left} s.\n")
        });
    }
    let fixed: Vec<&str> = list["fixed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !fixed.is_empty() {
        out.push_str(&format!("The hypervisor gives at each start: {}\n", fixed.join(", ")));
    }
    out
}

/// Who made a revision.
fn by(revision: &Value) -> String {
    let sources: Vec<&str> =
        revision["sources"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let source = if sources.is_empty() { "unknown".to_owned() } else { sources.join(", ") };
    let caller = revision["caller"].as_str().map_or(source, str::to_owned);
    match revision["revert_of"].as_u64() {
        Some(of) => format!("{caller}, as {of} was"),
        None => caller,
    }
}

fn files(revision: &Value) -> String {
    let row = |file: &Value| {
        vec![text(&file["name"]), file["size"].as_u64().map_or_else(String::new, size), text(&file["sha256"])]
    };
    let rows: Vec<Vec<String>> = revision["files"].as_array().into_iter().flatten().map(row).collect();
    format!(
        "revision {}, by {}\n{}",
        text(&revision["number"]),
        by(revision),
        table(&["FILE", ">SIZE", "SHA-256"], &rows)
    )
}

/// The lines that differ; of what is not shown, that it does.
fn differences(all: &Value) -> String {
    let mut out = String::new();
    for one in all.as_array().into_iter().flatten() {
        if let Some(diff) = one["diff"].as_str() {
            // What somebody wrote there commands no terminal.
            out.extend(diff.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }));
            continue;
        }
        let told = |file: &Value| {
            let size = size(file["size"].as_u64().unwrap_or_default());
            format!(
                "{size}, SHA-256 {}",
                file["sha256"].as_str().and_then(|hash| hash.get(..16)).unwrap_or("?")
            )
        };
        out.push_str(&match (one["before"].is_object(), one["after"].is_object()) {
            (false, _) => format!("{} is new: {}...\n", text(&one["name"]), told(&one["after"])),
            (_, false) => format!("{} is removed\n", text(&one["name"])),
            _ => format!(
                "{} is another: {}..., was {}...\n",
                text(&one["name"]),
                told(&one["after"]),
                told(&one["before"])
            ),
        });
    }
    if out.is_empty() { "Nothing differs.\n".to_owned() } else { out }
}

/// What a change would do.
fn told(would: &Value) -> String {
    let effect = match would["effect"].as_str() {
        Some("reload") => "The server reads it; sessions go on.",
        Some("restart_server") => "The server takes leave of its clients and starts again.",
        Some("restart_machine") => "THE MACHINE RESTARTS.",
        _ => "It is what is in force.",
    };
    let minutes = would["confirm_within_s"].as_u64().unwrap_or_default() / 60;
    let confirm = if would["needs_confirmation"] == true {
        format!(" It is given back unless it is confirmed within {minutes} minutes.")
    } else {
        String::new()
    };
    format!("{}{effect}{confirm}\n", differences(&would["differences"]))
}

/// What a change has done.
fn outcome(made: &Value) -> String {
    let number = text(&made["number"]);
    let how = match made["effect"].as_str() {
        Some("restart_server") => "comes into force now, by a start of the server",
        Some("restart_machine") => "comes into force now, by a start of the machine",
        _ => "is in force",
    };
    let minutes = made["confirm_within_s"].as_u64().unwrap_or_default() / 60;
    if made["needs_confirmation"] == true {
        format!(
            "Revision {number} {how}. It is given back after {minutes} minutes, unless it is confirmed over it:\n  \
             stratamx configuration confirm {number}    # with --url, where the machine has another address now\n"
        )
    } else {
        format!("Revision {number} {how}.\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_who_made_what_and_what_has_to_be_confirmed() {
        let list = json!({ "in_force": 3, "fixed": ["token"],
            "probation": { "number": 3, "before": 2, "needs_confirmation": true, "left_s": 200 },
            "revisions": [
                { "number": 3, "sources": ["api"], "caller": "me (token 7)", "revert_of": 1, "at_s": 0, "given_back": null, "files": [] },
                { "number": 2, "sources": ["partition", "hypervisor"], "caller": null, "revert_of": null, "at_s": 0, "given_back": null, "files": [1, 2] },
                { "number": 1, "sources": [], "caller": null, "revert_of": null, "at_s": null, "given_back": "nobody", "files": [] },
            ] });
        let out = listed(&list);
        for expected in [
            "me (token 7), as 1 was",
            "in force, on probation",
            "partition, hypervisor",
            "given back: nobody",
            "in 200 s unless it is confirmed",
            "at each start: token",
        ] {
            assert!(out.contains(expected), "{expected}: {out}");
        }
        assert!(out.contains("     1  unknown"), "{out}");
    }

    #[test]
    fn a_change_is_told_with_its_lines_or_by_its_hash() {
        let would = json!({ "number": 3, "effect": "restart_machine", "needs_confirmation": true, "confirm_within_s": 300, "differences": [
            { "name": "appliance.toml", "before": {}, "after": {}, "diff": "--- a\n+++ b\n+\u{1b}[2Jvlan = 5\n" },
            { "name": "keys", "before": { "size": 1, "sha256": "00112233445566778899" }, "after": { "size": 2, "sha256": "ffeeddccbbaa99887766" }, "diff": null },
        ] });
        let out = told(&would);
        assert!(
            out.contains("+?[2Jvlan = 5\n")
                && out.contains("keys is another: 2 B, SHA-256 ffeeddccbbaa9988..., was 1 B"),
            "{out}"
        );
        assert!(
            out.ends_with(
                "THE MACHINE RESTARTS. It is given back unless it is confirmed within 5 minutes.\n"
            ),
            "{out}"
        );
        assert!(outcome(&would).contains("stratamx configuration confirm 3"));
    }
}
