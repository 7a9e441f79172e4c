//! The appliance's configuration from afar, with somebody at the other end of the socket who plays PID 1; where there is nobody; and a reload that follows
//! the link to the directory in force.

use super::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

const PATH: &str = "/api/v1/machine/configuration";

/// Plays PID 1: tells on what it is asked, and answers as it was told to.
fn init(socket: &Path, answer: impl Fn(&Value) -> Value + Send + 'static) -> Receiver<Value> {
    let (tell, told) = channel();
    machine::play(socket, machine::with_disk("healthy", &[]), move |request| {
        let request = &request["configuration"];
        let _ = tell.send(request.clone());
        json!({ "configuration": answer(request) })
    });
    told
}

fn list() -> Value {
    let file = json!({ "name": "stratamx.toml", "size": 7, "sha256": "00", "is_text": true });
    let revision = |number: u64| {
        json!({ "number": number, "sources": ["console"], "caller": null, "revert_of": null,
        "at_s": 0, "given_back": null, "files": [file] })
    };
    json!({ "list": { "in_force": 7, "probation": null, "fixed": [], "revisions": [revision(7), revision(6)] } })
}

/// One that takes everything; what it changes needs this.
fn willing(request: &Value, effect: &str) -> Value {
    let change = &request["change"];
    match request {
        Value::String(_) => list(),
        _ if change["seen"] == 7 => {
            let number = if change["dry_run"] == true { 7 } else { 8 };
            json!({ "changed": { "number": number, "effect": effect, "needs_confirmation": effect != "reload", "confirm_within_s": 300,
                "differences": [{ "name": "stratamx.toml", "before": null, "after": null, "diff": "+hostname = 1\n" }] } })
        }
        _ if change.is_object() => {
            json!({ "refused": { "changed": "revision 7 is in force, and 5 was seen" } })
        }
        _ if request["difference"].is_object() => json!({ "differences": [] }),
        _ if request["show"]["name"] == "key.pem" => {
            json!({ "refused": { "state": "key.pem is not shown" } })
        }
        _ if request["show"].is_object() => json!({ "text": "hostname = \"mx2.test\"\n" }),
        _ => json!("done"),
    }
}

/// A server that has a PID 1, or none, and works in this directory.
fn node(directory: &Scratch, environment: &[(&str, PathBuf)], place: &Path, config: &Path) -> Node {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(config).current_dir(place).envs(environment.iter().cloned());
    let mut process = Process::start(&mut command);
    let line: Value = serde_json::from_str(&process.wait_for("\"listening\"")).unwrap();
    let server = Server { process, address: line["address"].as_str().unwrap().parse().unwrap() };
    let token = std::fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
    Node { api: server.admin(), server, token }
}

fn appliance(directory: &Scratch) -> Node {
    let config = configure(directory, &Settings::default());
    node(directory, &[("STRATAMX_INIT", directory.path("init.sock"))], &directory.path(""), &config)
}

impl Node {
    /// What is answered to a request with one more header.
    fn with(&self, path: &str, header: &str, body: &str) -> String {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        raw(self.api, request.as_bytes())
    }
}

#[test]
fn a_server_that_is_no_appliance_says_what_to_do() {
    let directory = Scratch::new("revisions-none");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    let (status, body) = node.ask("GET", PATH, &Value::Null);
    assert!(status == 409 && body["detail"].as_str().unwrap().contains("SIGHUP"), "{body}");
    for arguments in [&["configuration", "list"][..], &["configuration", "revert", "1", "--yes"]] {
        let (status, _, stderr) = node.command(arguments);
        assert!(status == Some(1) && stderr.contains("stratamx check"), "{stderr}");
    }
}

#[test]
fn a_change_names_what_was_seen_and_its_octets_are_nobodys() {
    let directory = Scratch::new("revisions-change");
    let told = init(&directory.path("init.sock"), |request| willing(request, "restart_server"));
    let node = appliance(&directory);
    let body =
        json!({ "files": [{ "name": "key.pem", "content": "c2VjcmV0" }], "remove": ["old"] }).to_string();
    for (header, expected) in
        [("", 428), ("If-Match: 7\r\n", 400), ("If-Match: \"5\"\r\n", 412), ("If-Match: \"7\"\r\n", 200)]
    {
        let answer = node.with(PATH, header, &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{header}: {answer}");
        assert_eq!(answer.to_lowercase().contains("etag: \"8\""), expected == 200, "{answer}");
    }
    let change = told.try_iter().last().unwrap()["change"].clone();
    assert_eq!((&change["caller"], &change["confirm"]), (&"first administrator".into(), &Value::Null));
    let files = &change["what"]["files"];
    assert_eq!((&files["files"][0]["content"], &files["remove"][0]), (&"c2VjcmV0".into(), &"old".into()));
    let wrong = node.with(PATH, "If-Match: \"7\"\r\n", "{\"file\": []}");
    assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
    // Once, however often it comes; larger than other bodies may be.
    let large = json!({ "files": [{ "name": "list", "content": "A".repeat(3 << 20) }] }).to_string();
    for _ in 0..2 {
        let answer = node.with(PATH, "If-Match: \"7\"\r\nIdempotency-Key: one\r\n", &large);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(told.try_iter().count(), 1);
    let confirmed = node.with(&format!("{PATH}/confirm"), "If-Match: \"8\"\r\n", "");
    assert!(confirmed.starts_with("HTTP/1.1 204 "), "{confirmed}");
    assert_eq!(told.try_iter().last().unwrap()["confirm"]["number"], 8);
    assert!(node.ask("GET", &format!("{PATH}/7/files/key.pem"), &Value::Null).0 == 409);
    let entries = node.get("/api/v1/audit").to_string();
    assert!(entries.contains("key.pem") && entries.contains("/7/files/key.pem"), "{entries}");
    assert!(!entries.contains("c2VjcmV0"), "{entries}");
}

#[test]
fn the_command_shows_what_it_changes_and_asks() {
    let directory = Scratch::new("revisions-command");
    let told = init(&directory.path("init.sock"), |request| willing(request, "restart_machine"));
    let node = appliance(&directory);
    let file = directory.path("appliance.toml");
    std::fs::write(&file, "[network]\n").unwrap();
    let file = file.display().to_string();
    let (status, stdout, _) = node.command(&["configuration", "list"]);
    assert!(status == Some(0) && stdout.contains("     7") && stdout.contains("in force"), "{stdout}");
    told.try_iter().for_each(drop);
    let (status, _, stderr) = node.command(&["configuration", "apply", &file]);
    assert!(status == Some(1) && stderr.contains("--yes"), "{stderr}");
    let (status, stdout, _) = node.command(&["configuration", "apply", &file, "--dry-run"]);
    assert!(
        status == Some(0) && stdout.contains("+hostname = 1\n") && stdout.contains("RESTARTS"),
        "{stdout}"
    );
    assert!(
        told.try_iter().all(|request| request["change"].is_null() || request["change"]["dry_run"] == true)
    );
    let (status, stdout, stderr) = node.command(&["configuration", "apply", &file, "--yes", "--no-confirm"]);
    assert!(status == Some(0) && stdout.contains("Revision 8 comes into force now"), "{stdout}{stderr}");
    let change = told.try_iter().last().unwrap()["change"].clone();
    assert_eq!((&change["confirm"], &change["seen"]), (&false.into(), &7.into()));
    assert_eq!(change["what"]["files"]["files"][0]["name"], "appliance.toml");
    let (status, ..) = node.command(&["configuration", "revert", "6", "--yes"]);
    assert_eq!(
        (status, &told.try_iter().last().unwrap()["change"]["what"]["revert"]["to"]),
        (Some(0), &6.into())
    );
    let (status, stdout, _) = node.command(&["configuration", "show", "--file", "stratamx.toml"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "hostname = \"mx2.test\"\n"));
    let (status, ..) = node.command(&["configuration", "diff"]);
    let asked = told.try_iter().last().unwrap()["difference"].clone();
    assert_eq!((status, &asked["from"], &asked["to"]), (Some(0), &6.into(), &7.into()));
    let (status, stdout, _) = node.command(&["configuration", "confirm", "8"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "Revision 8 stands.\n"));
}

/// PID 1 makes a directory for each revision; what the server cannot take up it says, and works on where it was.
#[test]
fn a_reload_follows_the_directory_in_force_and_one_that_fails_does_not() {
    let directory = Scratch::new("revisions-reload");
    let link = directory.path("current");
    let revision = |number: &str, text: &str| {
        let place = directory.path(number);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("stratamx.toml"), text).unwrap();
        let _ = std::fs::remove_file(&link);
        symlink(number, &link).unwrap();
        place
    };
    let text = std::fs::read_to_string(configure(&directory, &Settings::default())).unwrap();
    let first = revision("1", &text);
    let told = init(&directory.path("init.sock"), |request| willing(request, "reload"));
    let environment =
        [("STRATAMX_INIT", directory.path("init.sock")), ("STRATAMX_CONFIGURATION", link.clone())];
    let node = node(&directory, &environment, &first, Path::new("stratamx.toml"));
    let apply = || node.with(PATH, "If-Match: \"7\"\r\n", "{}");
    let names = || node.get("/api/v1/domains").to_string();

    revision("2", &format!("{text}\n[[domain]]\nname = \"two.test\"\nprimary = [\"127.0.0.1\"]\n"));
    let answer = apply();
    assert!(answer.starts_with("HTTP/1.1 200 ") && names().contains("two.test"), "{answer}");
    told.try_iter().for_each(drop);
    revision("3", "hostnam = 1\n");
    let answer = apply();
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("hostnam"), "{answer}");
    let back = told.try_iter().last().unwrap()["give_back"].clone();
    assert!(back["number"] == 8 && back["why"].as_str().unwrap().contains("hostnam"), "{back}");
    let place = std::fs::read_link(format!("/proc/{}/cwd", node.server.process.child.id())).unwrap();
    assert!(place.ends_with("2") && names().contains("two.test"), "{}", place.display());
}
