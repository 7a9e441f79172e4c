//! Mail that is kept for as long as configured and no longer, and how much of it: with the real server.

use super::harness::client::Client;
use super::harness::*;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is looked for on the disk.
const BODY: &[u8] = b"a body that stands nowhere else";
const TRUSTED: &str = "expiry_clock = \"trusted\"";

/// Brings a message; what the server says to its recipient, and then to its data.
fn bring(server: &Server, recipient: &str) -> String {
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.say("MAIL FROM:<sender@example.org>", "250 2.1.0");
    let verdict = client.say(&format!("RCPT TO:<{recipient}>"), "");
    if !verdict.starts_with("250 ") {
        return verdict;
    }
    client.say("DATA", "354");
    client.say(&format!("Subject: kept\r\n\r\n{}\r\n.", String::from_utf8_lossy(BODY)), "")
}

fn assert_kept(reply: &str) {
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
}

fn assert_messages(process: &mut Process, messages: u64) {
    let opened = process.seen.iter().find(|line| line.contains("store opened")).cloned();
    let opened = opened.unwrap_or_else(|| process.wait_for("store opened"));
    assert!(opened.contains(&format!("\"messages\":{messages}")), "{opened}");
}

/// What the server counted, told by its last line.
fn count(log: &[String], name: &str) -> u64 {
    let stopped = log.iter().find(|line| line.contains("\"stopped\"")).unwrap();
    let stopped: serde_json::Value = serde_json::from_str(stopped).unwrap();
    stopped[name].as_u64().unwrap()
}

/// Files of the data directory that hold these octets.
fn holders(data: &Path, octets: &[u8]) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let files = shards.filter(|path| path.is_dir()).flat_map(|path| std::fs::read_dir(path).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    // One may be removed while we look.
    let holds = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|content| memchr::memmem::find(&content, octets).is_some())
    };
    paths.filter(holds).collect()
}

#[test]
fn h4_mail_that_nobody_took_is_held_then_expires_and_its_space_is_given_back() {
    let directory = Scratch::new("retention");
    let rest = "retention = \"2s\"\nheld_retention = \"3s\"";
    let config = configure(&directory, &Settings { rest, delivery: TRUSTED, ..Settings::default() });
    let mut server = Server::start(&config);
    let kept = bring(&server, "b@example.test");
    assert_kept(&kept);
    let queue_id = kept.rsplit(' ').next().unwrap();
    for event in ["past its retention: held", "past its retention: expired"] {
        let line = server.process.wait_for(event);
        assert!(line.contains(queue_id), "{line}");
    }
    assert_eq!(holders(&directory.path("data"), BODY).len(), 1, "in the segment that is being written");
    let log = server.stop();
    assert_eq!((count(&log, "held"), count(&log, "expired")), (1, 1));
    // The facts are durable: nothing is queued, and what was kept on disk goes.
    let mut again = Server::start(&config);
    assert_messages(&mut again.process, 0);
    let end = Instant::now() + PATIENCE;
    while !holders(&directory.path("data"), BODY).is_empty() {
        assert!(Instant::now() < end, "segments whose mail has expired are unlinked");
        std::thread::sleep(Duration::from_millis(20));
    }
    again.stop();
}

#[test]
fn held_mail_outlives_a_restart_and_queued_mail_expires_at_once_where_that_is_configured() {
    let directory = Scratch::new("retention-restart");
    let two = "[[domain]]\nname = \"two.test\"\nprimary = [\"127.0.0.1:9\"]\nretention = \"1s\"\n\
               on_expiry = \"discard\"";
    let rest = format!("retention = \"1s\"\n{two}");
    let config = configure(&directory, &Settings { rest: &rest, delivery: TRUSTED, ..Settings::default() });
    let mut server = Server::start(&config);
    assert_kept(&bring(&server, "b@example.test"));
    server.process.wait_for("past its retention: held");
    assert_kept(&bring(&server, "b@two.test"));
    server.process.wait_for("past its retention: expired");
    server.stop();
    // Held since a moment ago, for 30 days.
    let mut server = Server::start(&config);
    assert_messages(&mut server.process, 1);
    assert_kept(&bring(&server, "c@two.test"));
    let expired = server.process.wait_for("past its retention");
    assert!(expired.contains("expired") && expired.contains("two.test"), "{expired}");
    let log = server.stop();
    assert_eq!((count(&log, "held"), count(&log, "expired")), (0, 1));
}

#[test]
fn a_reload_changes_how_long_mail_is_kept_and_h14_an_unknown_domain_keeps_its_mail() {
    let directory = Scratch::new("retention-reload");
    let two = |retention: &str| {
        let policy = format!("retention = \"{retention}\"\non_expiry = \"discard\"");
        format!("{policy}\n[[domain]]\nname = \"two.test\"\nprimary = [\"127.0.0.1:9\"]\n{policy}")
    };
    let settings = |rest: &str| {
        configure(&directory, &Settings { rest, delivery: TRUSTED, ..Settings::default() });
    };
    settings(&two("30d"));
    let mut server = Server::start(&directory.path("stratamx.toml"));
    for recipient in ["b@example.test", "b@two.test"] {
        assert_kept(&bring(&server, recipient));
    }
    // two.test is gone.
    settings("retention = \"1s\"\non_expiry = \"discard\"");
    server.process.signal("-HUP");
    let expired = server.process.wait_for("past its retention");
    assert!(expired.contains("example.test"), "{expired}");
    // A whole round later its mail is still there.
    assert_kept(&bring(&server, "c@example.test"));
    server.process.wait_for("past its retention");
    let gone = server.process.seen.iter().filter(|line| line.contains("past its retention"));
    assert!(gone.clone().count() == 2 && gone.clone().all(|line| line.contains("example.test")));
    // And comes back: its mail is the last to expire.
    settings(&two("1s"));
    server.process.signal("-HUP");
    let expired = server.process.wait_for("past its retention");
    assert!(expired.contains("two.test"), "{expired}");
    let log = server.stop();
    assert_eq!((count(&log, "held"), count(&log, "expired")), (0, 3));
}

#[test]
fn p7_a_domain_with_a_full_quota_waits_and_another_goes_on() {
    let directory = Scratch::new("quota");
    let primary = free_address();
    let two = "[[domain]]\nname = \"two.test\"\nprimary = [\"127.0.0.1:9\"]\nquota = { bytes = \"1KiB\" }";
    let rest = format!("quota = {{ messages = 2 }}\n{two}");
    let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
    let full = |reply: String| assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let server = Server::start(&config);
    for _ in 0..2 {
        assert_kept(&bring(&server, "b@example.test"));
    }
    full(bring(&server, "b@example.test"));
    assert_kept(&bring(&server, "b@two.test"));
    server.stop();
    // What is queued is counted at a start, too.
    let mut server = Server::start(&config);
    full(bring(&server, "b@EXAMPLE.test"));
    let mut taken = 0;
    loop {
        let reply = bring(&server, "b@two.test");
        if reply.starts_with("452 4.3.1") {
            break;
        }
        assert_kept(&reply);
        taken += 1;
        assert!(taken < 9, "a record has more than a hundred octets");
    }
    // A reload keeps the counts.
    server.process.signal("-HUP");
    server.process.wait_for("configuration reloaded");
    full(bring(&server, "b@two.test"));
    // The primary takes what there is: there is room again.
    let record = directory.path("record");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    server.process.wait_for("nothing is left to hand over");
    assert_kept(&bring(&server, "b@example.test"));
    sink.stop();
    server.stop();
}
