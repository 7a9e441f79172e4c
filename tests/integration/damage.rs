//! Bits that rot under a running server: each record costs itself, and is told to the operator.

use super::harness::client::Client;
use super::harness::*;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where a text stands in the mail segments.
fn find(data: &Path, text: &str) -> (PathBuf, u64) {
    let shards = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    for path in shards.flat_map(|shard| fs::read_dir(shard).unwrap()).map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("segment-") && name.ends_with(".log") {
            let octets = fs::read(&path).unwrap();
            let found = octets.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                return (path, at as u64);
            }
        }
    }
    panic!("{text} is nowhere");
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[octet[0] ^ 0x20], at).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_damaged_record_costs_itself_and_the_log_says_whose_it_was() {
    let directory = Scratch::new("damage");
    let primary = free_address();
    let config = configure(&directory, &Settings { primary, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    let mut queue_ids = Vec::new();
    for (recipient, body) in [("one", "MARK-ONE"), ("two", "MARK-TWO"), ("three", "MARK-THREE")] {
        let reply =
            client.message(&format!("{recipient}@example.test"), &format!("Subject: x\r\n\r\n{body}"));
        queue_ids.push(reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap().to_owned());
    }
    let data = directory.path("data");
    let (path, at) = find(&data, "MARK-ONE");
    flip(&path, at);
    // Each message came alone, so it begins a block; the first octets are those of its header.
    let (path, at) = find(&data, "MARK-TWO");
    flip(&path, at / 4096 * 4096 + 16);
    let record = directory.path("record");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    for (recipient, queue_id) in [("one", Some(&queue_ids[0])), ("two", None)] {
        let line = server.process.wait_for("a damaged record");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["domain"].as_str(), Some("example.test"), "{line}");
        assert_eq!(line["queue_id"].as_str(), queue_id.map(String::as_str), "{line}");
        let unverified = line["unverified_recipients"].as_str().unwrap();
        assert_eq!(unverified, format!("[\"{recipient}@example.test\"]"), "{line}");
        assert!(line["offset"].as_u64().unwrap().is_multiple_of(4096), "{line}");
    }
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    let taken = fs::read_to_string(&record).unwrap();
    assert!(taken.contains("three@example.test") && !taken.contains("one@example.test"), "{taken}");
    let stopped = server.stop().into_iter().find(|line| line.contains("\"stopped\"")).unwrap();
    let stopped: serde_json::Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!((stopped["damaged"].as_u64(), stopped["delivered"].as_u64()), (Some(2), Some(1)), "{stopped}");
}
