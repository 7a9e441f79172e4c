//! The admin API and the commands over it, with the real server: who may ask, what is told, what is done to mail, and
//! that none of it costs mail anything.

mod alerts;
mod at_rest;
mod backups;
mod described;
mod drills;
mod full_disk;
mod machine;
mod metrics;
mod orders;
mod provisioning;
mod replay;
mod restores;
mod revisions;
mod traces;
mod updates;

use super::harness::client::Client;
use super::harness::name_server;
use super::harness::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A server with its admin API.
struct Node {
    server: Server,
    api: SocketAddr,
    token: String,
}

impl Node {
    fn start(directory: &Scratch, config: &Path) -> Self {
        let server = Server::start(config);
        let token = std::fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
        Self { api: server.admin(), server, token }
    }

    /// A request with the token: the status, and the body.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let answer = raw(self.api, request.as_bytes());
        let status = answer[9..12].parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn domain(&self) -> Value {
        self.get("/api/v1/status")["domains"][0].clone()
    }

    /// A command of the operator against this server.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let url = format!("http://{}", self.api);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
        told(
            command
                .args(arguments)
                .env("STRATAMX_URL", url)
                .env("STRATAMX_TOKEN", &self.token)
                .output()
                .unwrap(),
        )
    }

    /// Waits until the domain's row says so.
    fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let domain = self.domain();
            if holds(&domain) {
                return domain;
            }
            assert!(Instant::now() < end, "never {what}: {domain}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn told(Output { status, stdout, stderr }: Output) -> (Option<i32>, String, String) {
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// All that comes back over a connection of its own.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // An error behind an answer is that of a server that read no further.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Brings a message; its queue id.
fn bring(server: &Server, recipient: &str) -> String {
    let reply = Client::connect(server.address).message(recipient, "Subject: small\r\n\r\n..dot\r\nbody");
    reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn ids(listed: &Value) -> Vec<String> {
    let messages = listed["messages"].as_array().unwrap();
    messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

/// A row of `stratamx-segment audit`, by the heads of its columns.
fn audited(directory: &Scratch, column: &str) -> String {
    let output =
        Command::new(tool("stratamx-segment")).arg("audit").arg(directory.path("data")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    row[head.iter().position(|name| *name == column).unwrap()].to_owned()
}

/// A primary that is down for good, tried so rarely that only a flush brings anything.
const SELDOM: &str = "retry_interval = \"1h\"";

#[test]
fn the_token_is_made_once_and_nothing_is_told_without_it() {
    let directory = Scratch::new("admin-token");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    assert!(node.token.len() >= 64 && node.token.starts_with("smx_"));
    let file = directory.path("data/admin-token");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let refused = raw(node.api, b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("www-authenticate: Bearer"),
        "{refused}"
    );
    assert!(refused.contains("application/problem+json") && !refused.contains("example.test"), "{refused}");
    assert!(
        raw(node.api, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("ready\n")
    );
    let log = node.server.stop();
    let made: Vec<&String> = log.iter().filter(|line| line.contains("token was made")).collect();
    assert!(made.len() == 1 && made[0].contains("admin-token"), "{made:?}");
    assert!(!log.iter().any(|line| line.contains(&node.token)), "the log never has it");
    let again = Node::start(&directory, &config);
    assert_eq!(again.token, node.token);
}

/// A shard whose questions have nobody to ask them took its executor for itself, and answered no sender.
#[test]
fn without_a_listener_mail_is_taken_and_handed_over_all_the_same() {
    let directory = Scratch::new("admin-off");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let settings = Settings { primary: sink.address.parse().unwrap(), ..Settings::default() };
    let config = configure(&directory, &settings);
    let text = std::fs::read_to_string(&config).unwrap();
    let off = text.replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"\"");
    assert_ne!(text, off);
    std::fs::write(&config, off).unwrap();
    let mut server = Server::start(&config);
    bring(&server, "a@example.test");
    server.process.wait_for("handed over");
    assert!(!server.stop().iter().any(|line| line.contains("the admin API listens")));
    sink.stop();
}

#[test]
fn a_bad_token_file_and_a_taken_address_end_the_start() {
    let directory = Scratch::new("admin-start");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let base = std::fs::read_to_string(configure(&directory, &Settings::default())).unwrap();
    let missing = format!("[admin]\ntoken_file = \"{}\"", directory.path("missing").display());
    let busy = format!("[admin]\nlisten = \"{address}\"");
    for (admin, exit, expected) in
        [(missing, 2, "admin.token_file: "), (busy, 1, "admin.listen: cannot listen on ")]
    {
        let config = directory.path("stratamx.toml");
        std::fs::write(&config, base.replace("[admin]\nlisten = \"127.0.0.1:0\"", &admin)).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_stratamx")).args(["serve", "--config"]).arg(&config).output();
        let (status, _, stderr) = told(output.unwrap());
        assert!(status == Some(exit) && stderr.contains(expected), "{status:?} {stderr}");
    }
}

#[test]
fn status_has_the_fields_that_scripts_rely_on() {
    let directory = Scratch::new("admin-status");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    assert_eq!(node.domain()["state"], "unknown", "nothing was tried");
    bring(&node.server, "b@example.test");
    let domain = node.wait_for("down", |domain| domain["state"] == "down");
    for count in [
        "backlog",
        "bytes",
        "oldest_s",
        "accepted",
        "delivered",
        "bounced",
        "discarded",
        "expired",
        "deleted",
        "damaged",
        "held",
        "proxied",
    ] {
        assert!(domain[count].is_u64(), "{count}: {domain}");
    }
    assert_eq!(
        (&domain["name"], &domain["backlog"], &domain["accepted"]),
        (&json!("example.test"), &json!(1), &json!(1))
    );
    let failure = domain["last_failure"]["reason"].as_str().unwrap();
    assert!(failure.contains("127.0.0.1:9"), "{failure}");
    let shown = node.get("/api/v1/domains/EXAMPLE.test");
    assert_eq!(shown["configuration"]["primary"], json!(["127.0.0.1:9"]));
    assert_eq!(shown["configuration"]["retry_interval_s"], 3600);
    assert_eq!(node.ask("GET", "/api/v1/domains/other.test", &Value::Null).0, 404);
    // The commands say the same.
    let (status, stdout, _) = node.command(&["status", "--json"]);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &told["domains"][0]["accepted"]), (Some(0), &json!(1)));
    let (status, stdout, _) = node.command(&["status"]);
    assert!(
        status == Some(0) && stdout.starts_with("DOMAIN ") && stdout.contains("example.test  down"),
        "{stdout}"
    );
    let (status, stdout, _) = node.command(&["domain", "show", "example.test"]);
    assert!(status == Some(0) && stdout.contains("retention"), "{stdout}");
    let (status, stdout, stderr) = node.command(&["domain", "show", "other.test"]);
    assert!(status == Some(1) && stdout.is_empty() && stderr.contains("not protected"), "{stderr}");
    let (status, _, stderr) = node.command(&["status", "--token", "wrong"]);
    assert!(status == Some(1) && stderr.contains("token_file"), "{stderr}");
    let (status, _, stderr) = node.command(&["status", "--url", "http://127.0.0.1:1"]);
    assert!(status == Some(1) && stderr.contains("is the server running"), "{stderr}");
    for wrong in [&["status", "--url", "ftp://x"][..], &["queue", "hold"], &["queue", "hold", "--all"]] {
        assert_eq!(node.command(wrong).0, Some(2), "{wrong:?}");
    }
    // Counts are those of the store: a restart keeps them.
    node.server.stop();
    let again = Node::start(&directory, &config);
    let domain = again.domain();
    assert_eq!((&domain["accepted"], &domain["backlog"]), (&json!(1), &json!(1)));
}

#[test]
fn mail_that_is_held_survives_a_kill_and_is_delivered_when_it_is_released() {
    let directory = Scratch::new("admin-hold");
    let primary = free_address();
    let settings = Settings { primary, rest: SELDOM, ..Settings::default() };
    let config = configure(&directory, &settings);
    let mut node = Node::start(&directory, &config);
    let [kept, other] = [bring(&node.server, "kept@example.test"), bring(&node.server, "other@example.test")];
    let (status, stdout, stderr) = node.command(&["queue", "hold", &kept]);
    assert_eq!((status, stdout.as_str()), (Some(0), "messages: 1, recipients: 1\n"), "{stderr}");
    node.server.process.kill();
    let node = Node::start(&directory, &config);
    assert_eq!(node.domain()["held"], 1);
    assert_eq!(ids(&node.get("/api/v1/queue?state=held")), [kept.as_str()]);
    assert_eq!(ids(&node.get("/api/v1/queue?state=queued&domain=example.test")), [other.as_str()]);
    let (status, body) = node.ask("POST", &format!("/api/v1/queue/{other}/release"), &Value::Null);
    assert_eq!((status, &body["status"]), (409, &json!(409)), "{body}");
    // The primary is back just after a try; the next one is 15 seconds away.
    node.wait_for("tried", |domain| domain["state"] == "down" && !domain["last_failure"].is_null());
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let (status, stdout, _) = node.command(&["queue", "flush", "example.test"]);
    assert!(status == Some(0) && stdout.ends_with(": 1\n"), "{stdout}");
    let domain = node.wait_for("delivered", |domain| domain["delivered"] == 1);
    assert_eq!((&domain["held"], &domain["backlog"], &domain["state"]), (&json!(1), &json!(0), &json!("up")));
    let (status, stdout, _) = node.command(&["queue", "release", "--all-held", "--domain", "example.test"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "messages: 1, recipients: 1\n"));
    node.wait_for("delivered", |domain| domain["delivered"] == 2 && domain["held"] == 0);
    node.server.stop();
    sink.stop();
    let record = std::fs::read_to_string(&record).unwrap();
    let at = |name: &str| record.find(name).unwrap();
    assert!(at("other@example.test") < at("kept@example.test"), "{record}");
    assert_eq!((record.lines().count(), audited(&directory, "delivered").as_str()), (2, "2"));
}

/// Nobody is known to be good: two recipients refused stop the lane, and nobody but the operator can say that this is right.
#[test]
fn a_frozen_lane_waits_for_the_operator_and_says_so() {
    let directory = Scratch::new("admin-thaw");
    let primary = free_address();
    let rest = "on_reject = \"hold\"";
    let config = configure(&directory, &Settings { primary, rest, ..Settings::default() });
    let node = Node::start(&directory, &config);
    for recipient in ["gone-1@example.test", "gone-2@example.test", "here@example.test"] {
        bring(&node.server, recipient);
    }
    node.wait_for("down", |domain| domain["state"] == "down");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &["rcpt:to=gone-*:reject=550"]);
    let domain = node.wait_for("frozen", |domain| domain["state"] == "frozen");
    assert_eq!(
        (&domain["backlog"], &domain["held"], &domain["delivered"]),
        (&json!(3), &json!(0), &json!(0))
    );
    assert!(domain["last_failure"]["reason"].as_str().unwrap().contains("bounce guard"), "{domain}");
    let (status, stdout, _) = node.command(&["queue", "thaw", "example.test"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "example.test goes on\n"));
    let domain = node.wait_for("held", |domain| domain["held"] == 2 && domain["delivered"] == 1);
    assert_eq!(domain["backlog"], 0);
    let (status, stdout, stderr) = node.command(&["queue", "thaw", "example.test"]);
    assert!(status == Some(1) && stdout.is_empty() && stderr.contains("was not frozen"), "{stderr}");
    node.server.stop();
    sink.stop();
}

#[test]
fn what_is_discarded_and_deleted_is_counted_and_audited() {
    let directory = Scratch::new("admin-discard");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let all: Vec<String> = (0..4).map(|n| bring(&node.server, &format!("b{n}@example.test"))).collect();
    assert_eq!(node.command(&["queue", "hold", &all[0]]).0, Some(0));
    assert_eq!(node.command(&["queue", "discard", "--all-held", "--domain", "example.test"]).0, Some(0));
    assert_eq!(node.command(&["queue", "delete", &all[1]]).0, Some(0));
    let (status, _, stderr) = node.command(&["queue", "delete", &all[1]]);
    assert!(status == Some(1) && stderr.contains("queue id"), "{stderr}");
    let domain = node.domain();
    assert_eq!([&domain["discarded"], &domain["deleted"], &domain["backlog"]], [1, 1, 2]);
    let (_, stdout, _) = node.command(&["queue", "list", "--json"]);
    assert_eq!(ids(&serde_json::from_str(&stdout).unwrap()), all[2..]);
    let (status, stdout, _) = node.command(&["queue", "show", &all[2]]);
    assert!(
        status == Some(0) && stdout.contains("b2@example.test (queued)") && !stdout.contains("body"),
        "{stdout}"
    );
    let (status, stdout, _) = node.command(&["queue", "export", &all[2]]);
    assert!(status == Some(0) && stdout.starts_with("Received: "), "{stdout}");
    assert!(stdout.ends_with("Subject: small\r\n\r\n.dot\r\nbody\r\n"), "{stdout}");
    let log = node.server.stop();
    assert!(log.iter().any(|line| line.contains("exported by an operator") && line.contains(&all[2])));
    assert_eq!(
        ["discarded", "deleted", "backlog"].map(|column| audited(&directory, column)),
        ["1", "1", "2"]
    );
}

#[test]
fn ten_thousand_messages_page_through_without_hole_or_repeat_while_mail_arrives() {
    let directory = Scratch::new("admin-pages");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let (address, count) = (node.server.address.to_string(), 10_000);
    let load = |messages: usize| {
        let messages = messages.to_string();
        let output =
            blaster(&["--to", &address, "--messages", &messages, "--sessions", "8", "--size", "1KiB"]);
        assert!(output.status.success(), "{output:?}");
    };
    load(count);
    let meanwhile = std::thread::scope(|scope| {
        let more = scope.spawn(|| load(500));
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.get(&format!("/api/v1/queue?limit=100{after}"));
            seen.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        more.join().unwrap();
        seen
    });
    assert!(meanwhile.len() >= count, "{}", meanwhile.len());
    assert_eq!(node.domain()["backlog"], count + 500);
    let (_, stdout, _) = node.command(&["queue", "list", "--json", "--limit", "0"]);
    let all = ids(&serde_json::from_str(&stdout).unwrap());
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count + 500);
    // What was listed while mail came is how all of it begins: nothing left out, nothing twice, in order.
    assert!(all.starts_with(&meanwhile), "of {}", meanwhile.len());
    // What many requests do to all of them.
    let (status, stdout, stderr) = node.command(&["queue", "hold", "--all", "--domain", "example.test"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "messages: 10500, recipients: 10500\n"), "{stderr}");
    assert_eq!((&node.domain()["held"], &node.domain()["backlog"]), (&json!(10_500), &json!(0)));
}

#[test]
fn slow_and_many_clients_of_the_api_harm_no_mail() {
    let directory = Scratch::new("admin-slow");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    // Requests that never end, more of them than there are places; and answers that nobody reads.
    let request =
        format!("GET /api/v1/queue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", node.token);
    let slow: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(node.api).unwrap();
            let sent = if number % 2 == 0 { request[..40].to_owned() } else { request.repeat(20) };
            let _ = stream.write_all(sent.as_bytes());
            stream
        })
        .collect();
    let begin = Instant::now();
    for number in 0..50 {
        bring(&node.server, &format!("b{number}@example.test"));
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "mail does not wait: {:?}", begin.elapsed());
    // Those that say nothing more lose their places by themselves.
    let domain = node.wait_for("accepted", |domain| domain["accepted"] == 50);
    assert_eq!(domain["backlog"], 50);
    drop(slow);
    node.server.stop();
}
