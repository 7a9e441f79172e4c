//! Backup, restore and support bundle with the real server: what waits while it works comes out of what is restored, in order and once.

use super::*;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

/// `stratamx ARGUMENTS` on the files of this machine.
pub(super) fn here(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    told(command.args(arguments).env_remove("STRATAMX_URL").output().unwrap())
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Messages to example.test, each acknowledged one in the ledger.
fn blast(to: SocketAddr, messages: &str, seed: &str, ledger: &Path) {
    let sent = blaster(&[
        "--to",
        &to.to_string(),
        "--messages",
        messages,
        "--sessions",
        "4",
        "--seed",
        seed,
        "--size",
        "1KiB-40KiB",
        "--ledger",
        text(ledger),
    ]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// Names and contents.
pub(super) type Entries = Vec<(String, Vec<u8>)>;

/// What is in an archive.
pub(super) fn unpacked(archive: &Path) -> Entries {
    let file = fs::File::open(archive).unwrap();
    let mut tar = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

/// An archive of these.
pub(super) fn packed(entries: &[(String, Vec<u8>)], archive: &Path) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(archive).unwrap(), 1).unwrap());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        // The library would refuse what a stranger writes.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

/// A domain that only the database knows, keys of mail at rest, a list of recipients.
fn make(name: &str, primary: SocketAddr) -> (Scratch, PathBuf) {
    let directory = Scratch::new(name);
    let (keys, list) = (directory.path("keys"), directory.path("list.txt"));
    fs::write(&keys, format!("1 {}\n", "5a".repeat(32))).unwrap();
    fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&list, "wanted@listed.test\n").unwrap();
    let rest = format!(
        "[[domain]]\nname = \"listed.test\"\nprimary = [\"{primary}\"]\nrecipients = \"list\"\nrecipient_list = \"{}\"\n",
        list.display()
    );
    let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
    let storage = format!("[storage]\nkey_file = \"{}\"\nsegment_size = \"4MiB\"\n", keys.display());
    let text = fs::read_to_string(&config).unwrap().replace("[storage]\n", &storage);
    fs::write(&config, text).unwrap();
    (directory, config)
}

#[test]
fn p2_what_waited_when_a_backup_was_made_is_handed_over_by_who_restores_it() {
    let primary = free_address();
    let (directory, config) = make("backup", primary);
    let mut node = Node::start(&directory, &config);
    let (status, _, stderr) =
        node.command(&["domain", "add", "added.test", "--primary", &primary.to_string()]);
    assert_eq!(status, Some(0), "{stderr}");
    let (before, beside) = (directory.path("before.jsonl"), directory.path("beside.jsonl"));
    let to = node.server.address;
    blast(to, "300", "1", &before);
    let (direct, remote) = (directory.path("direct.tar.zst"), directory.path("remote.tar.zst"));
    std::thread::scope(|scope| {
        scope.spawn(|| blast(to, "600", "2", &beside));
        let (status, stdout, stderr) = here(&["backup", "--config", text(&config), text(&direct)]);
        assert!(status == Some(0) && stdout.contains("keys, tokens and mail"), "{stdout}{stderr}");
        let (status, stdout, stderr) = node.command(&["backup", text(&remote)]);
        assert!(status == Some(0), "{stdout}{stderr}");
    });
    node.server.process.kill();
    let token = node.token.clone();
    for archive in [&direct, &remote] {
        let (status, stdout, stderr) = here(&["restore", "--check", text(archive)]);
        assert!(status == Some(0) && stdout.contains("all of it is there"), "{stdout}{stderr}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(archive).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "others may read keys and mail");
        let data = directory.path("data");
        fs::remove_dir_all(&data).unwrap();
        let restored = directory.path("restored");
        let arguments = [
            "restore",
            text(archive),
            "--data-dir",
            text(&data),
            "--configuration",
            text(&restored),
            "--json",
        ];
        let (status, stdout, stderr) = here(&arguments);
        assert_eq!(status, Some(0), "{stdout}{stderr}");
        let told: Value = serde_json::from_str(&stdout).unwrap();
        assert!(told["queue"]["backlog"].as_u64() >= Some(300), "{told}");
        assert_eq!(told["queue"]["problems"], json!([]));
        let original = fs::read(&config).unwrap();
        assert_eq!(fs::read(restored.join("stratamx.toml")).unwrap(), original);
        let places = told["elsewhere"].as_array().unwrap();
        assert_eq!(places.len(), 2, "the list and the keys stood elsewhere: {told}");
        // As if they had been lost with the machine, and put back.
        for place in places {
            fs::copy(place[1].as_str().unwrap(), place[0].as_str().unwrap()).unwrap();
        }
        let record = directory.path(&format!("record-{}", archive.file_name().unwrap().display()));
        let mut server = Server::start(&restored.join("stratamx.toml"));
        let api = server.admin();
        assert_eq!(fs::read_to_string(data.join("admin-token")).unwrap().trim(), token);
        let sink = Primary::sink(&primary.to_string(), &record, &[]);
        server.process.wait_for("nothing is left to hand over");
        let node = Node { server, api, token: token.clone() };
        let names = node.get("/api/v1/domains").to_string();
        assert!(names.contains("added.test") && names.contains("listed.test"), "{names}");
        node.server.stop();
        sink.stop();
        let (is_sound, findings) = verify(&[&record], &[&before]);
        assert!(is_sound, "{}: {findings}", archive.display());
        assert_eq!(findings["duplicates"].as_u64(), Some(0));
        fs::remove_dir_all(&restored).unwrap();
    }
}

#[test]
fn what_is_cut_off_altered_or_names_other_places_is_not_restored() {
    let (directory, config) = make("backup-broken", free_address());
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@example.test");
    let good = directory.path("good.tar.zst");
    let (status, _, stderr) = here(&["backup", "--config", text(&config), text(&good)]);
    assert_eq!(status, Some(0), "{stderr}");
    node.server.stop();
    let (status, _, stderr) = here(&["backup", "--config", text(&config), text(&good)]);
    assert!(status == Some(1) && stderr.contains("is there already"), "{stderr}");
    let (entries, target) = (unpacked(&good), directory.path("target"));
    let store = entries.iter().position(|(name, _)| name == "queue/store").unwrap();
    assert_eq!(entries.last().map(|(name, _)| name.as_str()), Some("SHA256SUMS"));
    let refused = |archive: &Path, expected: &str| {
        let arguments = ["restore", text(archive), "--data-dir", text(&target)];
        let (status, _, stderr) = here(&arguments);
        assert!(status == Some(1) && stderr.contains(expected), "{expected}: {stderr}");
        assert!(!target.exists(), "{expected}: something was left");
        let (status, ..) = here(&["restore", "--check", text(archive)]);
        assert_eq!(status, Some(1), "{expected}");
    };
    let broken = directory.path("broken.tar.zst");
    let octets = fs::read(&good).unwrap();
    for cut in [0, 10, octets.len() / 2, octets.len() - 1] {
        fs::write(&broken, &octets[..cut]).unwrap();
        refused(&broken, "broken.tar.zst");
    }
    let alter = |change: &dyn Fn(&mut Entries), expected: &str| {
        let mut entries = entries.clone();
        change(&mut entries);
        packed(&entries, &broken);
        refused(&broken, expected);
    };
    alter(&|entries| entries[store].1[20] ^= 1, "queue/store is not what was written");
    alter(&|entries| drop(entries.remove(store)), "queue/store is missing");
    alter(&|entries| drop(entries.pop()), "is cut off");
    alter(
        &|entries| entries.insert(1, ("control/../../evil".to_owned(), Vec::new())),
        "nothing of that name",
    );
    alter(
        &|entries| entries.insert(1, ("queue/shard-00/evil".to_owned(), Vec::new())),
        "nothing of that name",
    );
    alter(&|entries| entries.insert(1, ("/etc/evil".to_owned(), Vec::new())), "nothing of that name");
    alter(&|entries| entries.insert(1, entries[store].clone()), "is there twice");
    let newer = |entries: &mut Entries| {
        let text = String::from_utf8(entries[0].1.clone()).unwrap();
        entries[0].1 = text.replace("\"format\": 1", "\"format\": 2").into_bytes();
    };
    alter(&newer, "is of format 2");
    alter(&|entries| drop(entries.remove(0)), "is no archive of stratamx backup");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mail"), "somebody's").unwrap();
    let (status, _, stderr) = here(&["restore", text(&good), "--data-dir", text(&target)]);
    assert!(status == Some(1) && stderr.contains("is not empty"), "{stderr}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn a_support_bundle_has_what_helps_and_no_mail_no_secret_and_nobody() {
    let (directory, config) = make("support", free_address());
    let mut node = Node::start(&directory, &config);
    let id = bring(&node.server, "jane.doe@example.test");
    node.server.process.wait_for(&id);
    let (running, dead) = (directory.path("running.tar.zst"), directory.path("dead.tar.zst"));
    let (status, stdout, stderr) = node.command(&["support", text(&running)]);
    assert!(status == Some(0) && stdout.contains("no mail, no secrets"), "{stdout}{stderr}");
    let token = node.token.clone();
    node.server.stop();
    let (status, _, stderr) = here(&["support", "--config", text(&config), text(&dead)]);
    assert!(status == Some(0) && stderr.contains("of what lies here"), "{stderr}");
    for (archive, expected) in [
        (&running, &["status.json", "metrics.txt", "log.txt", "alerts.json", "update.json"][..]),
        (&dead, &[]),
    ] {
        let files = unpacked(archive);
        let both =
            ["README.txt", "about.json", "configuration.toml", "data-directory.txt", "system/proc-meminfo"];
        for name in both.iter().chain(expected).filter(|name| **name != "update.json") {
            let name = format!("stratamx-support/{name}");
            let content = files.iter().find(|(entry, _)| *entry == name).map(|(_, content)| content);
            assert!(content.is_some_and(|content| !content.is_empty()), "{name} is missing or empty");
        }
        for (name, content) in &files {
            let content = String::from_utf8_lossy(content);
            for secret in ["jane.doe", "sender@", "..dot", &token, &"5a".repeat(32)] {
                assert!(!content.contains(secret), "{name} tells {secret}");
            }
        }
    }
    let log = unpacked(&running).into_iter().find(|(name, _)| name.ends_with("/log.txt")).unwrap().1;
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.contains(&id) && log.contains("\"from\":\"someone-") && log.contains("@example.org\""),
        "lines can be found: {log}"
    );
}

#[test]
fn backups_over_the_api_are_an_administrators_and_written_down() {
    let (directory, config) = make("backup-scopes", free_address());
    let node = Node::start(&directory, &config);
    let (status, stdout, _) = node.command(&["token", "add", "looks", "--scope", "read", "--json"]);
    assert_eq!(status, Some(0));
    let made: Value = serde_json::from_str(&stdout).unwrap();
    let reader =
        Node { server: node.server, api: node.api, token: made["token"].as_str().unwrap().to_owned() };
    for path in ["/api/v1/backup", "/api/v1/support"] {
        assert_eq!(reader.ask("GET", path, &Value::Null).0, 403, "{path}");
    }
    let node = Node { server: reader.server, api: reader.api, token: node.token };
    assert_eq!(node.ask("GET", "/api/v1/backup?queue=perhaps", &Value::Null).0, 400);
    let small = directory.path("small.tar.zst");
    let (status, _, stderr) = node.command(&["backup", "--without-queue", text(&small)]);
    assert_eq!(status, Some(0), "{stderr}");
    let names: Vec<String> = unpacked(&small).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name == "control/control.sqlite"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("queue/")), "{names:?}");
    let audited = node.get("/api/v1/audit").to_string();
    assert!(audited.contains("/api/v1/backup?queue=false"), "{audited}");
    // What cannot be made is told before anything is sent.
    fs::write(&config, "hostname = 5\n").unwrap();
    let (status, problem) = node.ask("GET", "/api/v1/backup", &Value::Null);
    assert!(status == 503 && problem["detail"].as_str().unwrap().contains("stratamx.toml:1: "), "{problem}");
    node.server.stop();
}
