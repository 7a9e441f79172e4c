//! `stratamx domain add|set|remove|import|recipients|doctor`: what is protected beside what the file pins.

use super::Exit;
use super::client::{Client, Remote, escaped, fail, print, print_json};
use super::domain::{shown, text};
use crate::config::open_list;
use crate::limits::ADMIN_IMPORT_OCTETS_MAX;
use clap::Args;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A new domain.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct New {
    /// The domain
    name: String,
    /// Where its mail goes: host or host:port, again for each further one in order; or mx, its own MX records
    #[arg(long, value_name = "HOST", required = true)]
    primary: Vec<String>,
    /// Its other keys as those of a domain in the configuration: retention=7d, when_up=relay, quota.messages=1000
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    keys: Vec<(String, Value)>,
}

/// Changes to a domain.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Changes {
    /// The domain
    name: String,
    /// What changes: retention=7d, primary=a.example.com,b.example.com:2525; nothing behind the = goes back to the default
    #[arg(value_name = "KEY=VALUE", value_parser = key_value, required = true)]
    keys: Vec<(String, Value)>,
}

/// Recipients to import.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Import {
    /// The domain
    name: String,
    /// Addresses: the first column of a .csv, a .json list, or one a line; - for standard input, one a line
    file: PathBuf,
    /// Beside those that are there; else in their place
    #[arg(long)]
    add: bool,
}

/// Keys whose values are lists.
const LISTS: [&str; 2] = ["primary", "etrn_from"];

/// A key and its value: a TOML value where it is one, a list where the key wants one, else a text.
fn key_value(argument: &str) -> Result<(String, Value), String> {
    let (key, value) = argument.split_once('=').ok_or("is not KEY=VALUE")?;
    let parsed = || toml::from_str::<Map<String, Value>>(&format!("x = {value}")).ok()?.remove("x");
    let value = match parsed() {
        _ if value.is_empty() => Value::Null,
        Some(value) => value,
        None if LISTS.contains(&key) && value != "mx" => value.split(',').map(str::trim).collect(),
        None => Value::from(value),
    };
    Ok((key.to_owned(), value))
}

/// `quota.messages` is a key of the table `quota`.
fn settings(keys: &[(String, Value)]) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, value) in keys {
        match key.split_once('.') {
            Some((table, key)) => {
                let entry = all.entry(table).or_insert_with(|| json!({}));
                // `quota=3 quota.messages=5`: the later one counts.
                if !entry.is_object() {
                    *entry = json!({});
                }
                entry[key] = value.clone();
            }
            None => drop(all.insert(key.clone(), value.clone())),
        }
    }
    all
}

fn with(remote: Remote, work: impl FnOnce(&Client) -> Result<String, String>) -> Exit {
    match Client::open(remote) {
        Ok(client) => work(&client).map_or_else(|error| fail(&error), |told| print(&told)),
        Err(exit) => exit,
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/domains/{}", escaped(name))
}

/// `domain add NAME`.
#[must_use]
pub fn add(remote: Remote, new: &New) -> Exit {
    let mut body = settings(&new.keys);
    let primary = match &new.primary[..] {
        [one] if one == "mx" => Value::from("mx"),
        all => all.iter().map(String::as_str).collect(),
    };
    body.insert("primary".to_owned(), primary);
    body.insert("name".to_owned(), new.name.as_str().into());
    with(remote, |client| {
        let made = client.post("/api/v1/domains", Some(&Value::Object(body)))?;
        let name = text(&made["name"]);
        Ok(format!(
            "{name} is protected from now on; its mail goes to {}\n",
            text(&made["configuration"]["primary"])
        ))
    })
}

/// `domain set NAME KEY=VALUE`.
#[must_use]
pub fn set(remote: Remote, changes: &Changes) -> Exit {
    let body = Value::Object(settings(&changes.keys));
    with(remote, |client| {
        client.change("PATCH", &path(&changes.name), Some(&body)).map(|domain| shown(&domain))
    })
}

/// `domain remove NAME`.
#[must_use]
pub fn remove(remote: Remote, name: &str, keep_mail: bool) -> Exit {
    let keeps = if keep_mail { "?with_mail=keep" } else { "" };
    with(remote, |client| {
        client.change("DELETE", &format!("{}{keeps}", path(name)), None)?;
        Ok(format!("{name} is not protected any more\n"))
    })
}

/// `domain import NAME FILE`.
#[must_use]
pub fn import(remote: Remote, import: &Import) -> Exit {
    let kind = match import.file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        _ => "text/plain",
    };
    let octets = match octets(&import.file) {
        Ok(octets) => octets,
        Err(error) => return fail(&format!("{}: {error}", import.file.display())),
    };
    let method = if import.add { "POST" } else { "PUT" };
    with(remote, |client| {
        let path = format!("{}/recipients", path(&import.name));
        let told = client.send(method, &path, kind, Bytes::from(octets))?;
        Ok(format!("{} new, {} in all\n", told["added"], told["total"]))
    })
}

/// All of it, or nothing: a list that was cut would refuse whoever stands behind the cut.
fn octets(file: &Path) -> std::io::Result<Vec<u8>> {
    let most = ADMIN_IMPORT_OCTETS_MAX as u64 + 1;
    let mut octets = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut octets)?;
    } else {
        open_list(file)?.take(most).read_to_end(&mut octets)?;
    }
    if octets.len() > ADMIN_IMPORT_OCTETS_MAX {
        return Err(std::io::Error::other("it is larger than 32 MiB: import it in parts, with --add"));
    }
    Ok(octets)
}

/// `domain doctor NAME`: exit status 1 where mail would be lost or refused.
#[must_use]
pub fn doctor(remote: Remote, name: &str, test_recipient: Option<&str>, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let query = test_recipient.map(|to| format!("?test_recipient={}", escaped(to))).unwrap_or_default();
    let examined = match client.post(&format!("{}/doctor{query}", path(name)), None) {
        Ok(examined) => examined,
        Err(error) => return fail(&error),
    };
    let told = if json { print_json(&examined) } else { print(&findings(&examined)) };
    if told == Exit::Done && examined["verdict"] == "error" { Exit::Failed } else { told }
}

/// `domain drill NAME`.
#[must_use]
pub fn drill(remote: Remote, name: &str, recipient: Option<&str>, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let body = json!({ "recipient": recipient });
    let drilled = match client.post(&format!("{}/drill", path(name)), Some(&body)) {
        Ok(drilled) => drilled,
        Err(error) => return fail(&error),
    };
    let told = if json { print_json(&drilled) } else { print(&steps(&drilled)) };
    if told == Exit::Done && drilled["passed"] != true { Exit::Failed } else { told }
}

fn steps(drilled: &Value) -> String {
    let mut out = format!("drill of {} for {}\n", text(&drilled["domain"]), text(&drilled["recipient"]));
    for step in drilled["steps"].as_array().into_iter().flatten() {
        let word = if step["passed"] == true { "ok" } else { "FAILED" };
        out.push_str(&format!("{word:<8} {:<13} {}\n", text(&step["step"]), text(&step["text"])));
    }
    out.push_str(&format!("{}\n", text(&drilled["verdict"])));
    out
}

fn findings(examined: &Value) -> String {
    let mut out = String::new();
    for finding in examined["findings"].as_array().into_iter().flatten() {
        let verdict = finding["verdict"].as_str().unwrap_or_default();
        out.push_str(&format!("{verdict:<8} {:<13} {}\n", text(&finding["check"]), text(&finding["text"])));
        if let Some(mend) = finding["mend"].as_str() {
            out.push_str(&format!("{:<23}{mend}\n", ""));
        }
    }
    out
}

/// `domain recipients NAME`: all that were imported, one a line.
#[must_use]
pub fn recipients(remote: Remote, name: &str, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let (mut after, mut all) = (String::new(), Vec::new());
    loop {
        let page = match client.get(&format!("{}/recipients?after={}", path(name), escaped(&after))) {
            Ok(page) => page,
            Err(error) => return fail(&error),
        };
        all.extend(page["recipients"].as_array().into_iter().flatten().cloned());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    if json {
        return print_json(&Value::Array(all));
    }
    print(&all.iter().map(|address| text(address) + "\n").collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_toml_values_lists_or_texts() {
        for (argument, key, value) in [
            ("retention=7d", "retention", json!("7d")),
            ("max_connections=3", "max_connections", json!(3)),
            ("authenticate=false", "authenticate", json!(false)),
            ("primary=a.test, b.test:26", "primary", json!(["a.test", "b.test:26"])),
            ("primary=[\"a.test\"]", "primary", json!(["a.test"])),
            ("primary=mx", "primary", json!("mx")),
            ("etrn_from=192.0.2.0/24", "etrn_from", json!(["192.0.2.0/24"])),
            ("retention=", "retention", Value::Null),
            ("subaddress_delimiter=\"\"", "subaddress_delimiter", json!("")),
        ] {
            assert_eq!(key_value(argument), Ok((key.to_owned(), value)), "{argument}");
        }
        assert!(key_value("retention").is_err());
        let keys = ["quota.messages=3", "quota.bytes=1GiB", "tls=none"].map(|key| key_value(key).unwrap());
        let expected = json!({ "quota": { "messages": 3, "bytes": "1GiB" }, "tls": "none" });
        assert_eq!(Value::Object(settings(&keys)), expected);
    }
}
