//! A backup onto an appliance, with somebody at the other end of the socket who plays PID 1; and where there is nobody.

use super::backups::{here, packed, text, unpacked};
use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

const PATH: &str = "/api/v1/machine/restore";
const SETTINGS: &str = "[console]\nmenu = false\n";

/// What a played PID 1 was asked to begin, and the archive that it found.
type Begun = (Value, Vec<u8>);

/// Plays PID 1: tells its settings, and takes a backup back, or says why not.
fn init(socket: &Path, archive: PathBuf, refusal: Option<Value>) -> Receiver<Begun> {
    let (tell, told) = channel();
    let (mut looks, mut is_begun) = (0, false);
    machine::play(socket, machine::with_disk("healthy", &[]), move |request| {
        let (restore, configuration) = (&request["restore"], &request["configuration"]);
        if let Some(begin) = restore.get("begin") {
            tell.send((begin.clone(), fs::read(&archive).unwrap())).unwrap();
            is_begun = refusal.is_none();
            let answer = refusal.clone().map_or(json!("ordered"), |refusal| json!({ "refused": refusal }));
            json!({ "restore": answer })
        } else if restore == "status" {
            looks += i32::from(is_begun);
            let last = json!({ "hostname": "backed.test", "made_at_s": 7, "keep_configuration": false, "caller": "me",
                "outcome": "restored", "error": null, "backlog": 2, "held": 1, "at_s": 9 });
            let state = if looks == 1 { "restarting" } else { "idle" };
            let last = if is_begun { last } else { Value::Null };
            json!({ "restore": { "status": { "state": state, "refused": null, "last": last } } })
        } else if configuration == "list" {
            json!({ "configuration": { "list": { "in_force": 3, "probation": null,
            "fixed": [], "revisions": [{ "number": 3, "sources": [], "given_back": null, "caller": null, "revert_of": null,
            "at_s": null, "files": [{ "name": "appliance.toml", "size": 1, "sha256": "", "is_text": true }] }] } } })
        } else {
            assert_eq!(configuration["show"], json!({ "number": 3, "name": "appliance.toml" }));
            json!({ "configuration": { "text": SETTINGS } })
        }
    });
    told
}

/// A server that has a PID 1.
fn node(directory: &Scratch, config: &Path) -> Node {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(config).env("STRATAMX_INIT", directory.path("init.sock"));
    let mut process = Process::start(&mut command);
    let line: Value = serde_json::from_str(&process.wait_for("\"listening\"")).unwrap();
    let server = Server { process, address: line["address"].as_str().unwrap().parse().unwrap() };
    let token = fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
    Node { api: server.admin(), server, token }
}

/// A backup of a server with mail, and a list beside its configuration or elsewhere.
fn backup(directory: &Scratch, list: &str) -> PathBuf {
    let rest = format!(
        "[[domain]]\nname = \"listed.test\"\nprimary = [\"127.0.0.1:9\"]\nrecipients = \"list\"\nrecipient_list = \"{list}\"\n"
    );
    let config = configure(directory, &Settings { rest: &rest, ..Settings::default() });
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(&config).current_dir(directory.path("."));
    fs::write(directory.path("list.txt"), "wanted@listed.test\n").unwrap();
    let mut process = Process::start(&mut command);
    let line: Value = serde_json::from_str(&process.wait_for("\"listening\"")).unwrap();
    let server = Server { process, address: line["address"].as_str().unwrap().parse().unwrap() };
    bring(&server, "a@example.test");
    let token = fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
    let node = Node { api: server.admin(), server, token };
    let archive = directory.path("backup.tar.zst");
    let (status, _, stderr) = node.command(&["backup", text(&archive)]);
    assert_eq!(status, Some(0), "{stderr}");
    node.server.stop();
    archive
}

#[test]
fn a_server_that_is_no_appliance_says_how_a_backup_is_taken_back() {
    let directory = Scratch::new("restore-none");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    for method in ["GET", "POST"] {
        let (status, body) = node.ask(method, PATH, &Value::Null);
        assert!(status == 409 && body["detail"].as_str().unwrap().contains("--data-dir DIR"), "{body}");
    }
    for arguments in [&["restore", "--status"][..], &["restore", text(&config), "--yes"]] {
        let (status, _, stderr) = node.command(arguments);
        assert!(status == Some(1) && stderr.contains("no appliance"), "{stderr}");
    }
    let (status, _, stderr) = here(&["restore", text(&config)]);
    assert!(status == Some(2) && stderr.contains("where to?"), "{stderr}");
}

#[test]
fn a_backup_reaches_pid_1_as_it_was_made_and_its_own_has_the_machines_settings() {
    let (from, directory) = (Scratch::new("restore-from"), Scratch::new("restore-good"));
    let archive = backup(&from, "list.txt");
    let begun = init(&directory.path("init.sock"), directory.path("data/restore.tar.zst"), None);
    let config = configure(&directory, &Settings::default());
    let node = node(&directory, &config);
    let own = directory.path("own.tar.zst");
    let (status, _, stderr) = node.command(&["backup", text(&own)]);
    assert_eq!(status, Some(0), "{stderr}");
    let entry = ("configuration/appliance.toml".to_owned(), SETTINGS.as_bytes().to_vec());
    assert!(unpacked(&own).contains(&entry));
    let restored = directory.path("restored");
    let (status, stdout, stderr) = here(&["restore", text(&own), "--configuration", text(&restored)]);
    assert!(status == Some(0) && stdout.contains("stratamx configuration apply"), "{stdout}{stderr}");
    assert_eq!(fs::read_to_string(restored.join("appliance.toml")).unwrap(), SETTINGS);

    let (status, _, stderr) = node.command(&["restore", text(&archive)]);
    assert!(
        status == Some(1) && stderr.contains("--yes does it") && stderr.contains(", by stratamx "),
        "{stderr}"
    );
    let (status, stdout, stderr) = node.command(&["restore", text(&archive), "--yes"]);
    assert!(
        status == Some(0) && stdout.contains("mail for 2 recipients waited, for 1 it was held"),
        "{stdout}{stderr}"
    );
    let (begin, found) = begun.recv_timeout(PATIENCE).unwrap();
    assert_eq!(begin["keep_configuration"], false);
    assert!(found == fs::read(&archive).unwrap(), "it came as another");
    assert!(!directory.path("data/restore.tar.zst").exists(), "it stays");
    let (status, stdout, _) = node.command(&["restore", "--status"]);
    assert!(status == Some(0) && stdout.starts_with("backed.test, made "), "{stdout}");
    let entries = node.get("/api/v1/audit").to_string();
    assert!(entries.contains("POST") && entries.contains(PATH), "{entries}");
}

/// The body of a POST by curl: the status, and the words.
fn hand_in(node: &Node, query: &str, archive: &Path) -> (u16, String) {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--header", &format!("Authorization: Bearer {}", node.token)])
        .args(["--header", "Content-Type: application/octet-stream", "--header", "Expect:"])
        .arg("--data-binary")
        .arg(format!("@{}", archive.display()))
        .arg(format!("http://{}{PATH}{query}", node.api))
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    (answer[9..12].parse().unwrap(), answer)
}

#[test]
fn what_is_not_whole_or_cannot_be_an_appliances_is_refused_before_pid_1_is_asked() {
    let (from, directory) = (Scratch::new("restore-elsewhere"), Scratch::new("restore-bad"));
    let list = from.path("list.txt");
    let archive = backup(&from, text(&list));
    let begun = init(&directory.path("init.sock"), directory.path("data/restore.tar.zst"), None);
    let node = node(&directory, &configure(&directory, &Settings::default()));
    let refused = |query: &str, archive: &Path, expected: u16, words: &str| {
        let (status, answer) = hand_in(&node, query, archive);
        assert!(status == expected && answer.contains(words), "{words}: {answer}");
        assert!(!directory.path("data/restore.tar.zst").exists(), "{words}: it stays");
        assert!(begun.try_recv().is_err(), "{words}: PID 1 was asked");
    };
    refused("", &archive, 422, text(&list));
    refused("?configuration=drop", &archive, 400, "unknown variant");
    let broken = directory.path("broken.tar.zst");
    let octets = fs::read(&archive).unwrap();
    fs::write(&broken, &octets[..octets.len() - 9]).unwrap();
    refused("", &broken, 422, "the backup is damaged or cut off");
    let alter = |at: &str, from: &str, to: &str| {
        let mut entries = unpacked(&archive);
        let entry = entries.iter_mut().find(|(name, _)| name == at).unwrap();
        entry.1 = String::from_utf8(entry.1.clone()).unwrap().replacen(from, to, 1).into_bytes();
        packed(&entries, &broken);
    };
    alter("manifest.json", "\"format\": 1", "\"format\": 2");
    refused("", &broken, 422, "is of format 2");
    alter("configuration/stratamx.toml", "hostname", "Hostname");
    refused("", &broken, 422, "is not what was written");
    // A terabyte that is announced is not waited for.
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        node.token,
        1_u64 << 60
    );
    let answer = raw(node.api, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 507 ") && answer.contains("no room"), "{answer}");
    let request = request.replace("Connection:", "Content-Type: text/plain\r\nConnection:");
    assert!(raw(node.api, request.as_bytes()).starts_with("HTTP/1.1 415 "));

    let (status, answer) = hand_in(&node, "?configuration=keep", &archive);
    assert_eq!(status, 202, "{answer}");
    assert_eq!(begun.recv_timeout(PATIENCE).unwrap().0["keep_configuration"], true);
    bring(&node.server, "a@example.test");
    refused("?configuration=keep", &archive, 409, "mail waits here for 1 recipients");
    let (status, _, stderr) = node.command(&["restore", text(&archive), "--yes", "--keep-configuration"]);
    assert!(status == Some(1) && stderr.contains("two queues cannot be made one"), "{stderr}");
}

#[test]
fn what_pid_1_says_is_passed_on() {
    let from = Scratch::new("restore-words-from");
    let archive = backup(&from, "list.txt");
    for (kind, expected) in [("state", 409), ("no_room", 507), ("invalid", 422)] {
        let directory = Scratch::new(&format!("restore-words-{expected}"));
        let refusal = json!({ kind: "PID 1 has its reasons" });
        let begun = init(&directory.path("init.sock"), directory.path("data/restore.tar.zst"), Some(refusal));
        let node = node(&directory, &configure(&directory, &Settings::default()));
        let (status, answer) = hand_in(&node, "", &archive);
        assert!(status == expected && answer.contains("has its reasons"), "{answer}");
        begun.recv_timeout(PATIENCE).unwrap();
        assert!(!directory.path("data/restore.tar.zst").exists(), "it stays");
    }
}
