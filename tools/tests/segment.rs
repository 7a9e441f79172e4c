//! `stratamx-segment` on directories that real logs wrote: on the simulated disk, whose files are then laid out.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests use the machine as it is"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use storage::format::journal_entry::{Fact, Outcome};
use storage::format::message::{DataFacts, Envelope, Protocol};
use storage::format::segment_header::Purpose;
use storage::log::{Log, LogOptions, Message, Progress};
use storage::position::{QueueId, ShardId, UnixMillis};
use storage::sim::{Executor, SimClock, SimDisk};
use storage::store::{StoreOptions, open};

const SEGMENT: &str = "shard-00/segment-00000001.log";
fn options() -> StoreOptions {
    StoreOptions { shards: 1, journal_octets: 256 * 1024, ..StoreOptions::default() }
}
type SimLog = Log<SimDisk, SimClock>;

async fn drive(log: &SimLog) {
    loop {
        match log.commit().await {
            Progress::Committed(commit) => log.release(commit),
            Progress::Closed => return,
            other => panic!("{other:?}"),
        }
    }
}

async fn write(mail: &SimLog, journal: &SimLog) {
    for number in 1..=3_u64 {
        let message = Message {
            queue_id: QueueId::new(1, ShardId(0), number),
            received: UnixMillis(1_767_225_600_000),
            envelope: &Envelope {
                reverse_path: "sender@example.org",
                recipients: &["a@one.test", "b@two.test"],
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                helo: "client.example",
                protocol: Protocol::Esmtp,
                body_8bit: false,
            },
            data: &DataFacts { stored_octets: 6, ..DataFacts::default() },
            chunks: &[],
            trace: b"Received: by test\r\n",
            tail: b"body\r\n",
        };
        let receipt = mail.append_message(&message).await.unwrap();
        let fact = Fact { stamp: receipt.stamp, ordinal: 0, outcome: Outcome::Delivered, code: 250 };
        receipt.ticket.await.unwrap();
        journal.append_facts(&[fact]).await.unwrap().await.unwrap();
    }
    mail.close();
    journal.close();
}

/// A data directory with three messages; gone with the test.
struct Data(PathBuf);

impl Data {
    fn new(name: &str) -> Self {
        let (disk, clock) = (SimDisk::new(1, 64 << 20), SimClock::default());
        let made = (disk.clone(), clock.clone());
        let story = async move {
            let (disk, clock) = made;
            let opened = open(&disk, &clock, &options()).await.unwrap();
            let log_options = |purpose| LogOptions {
                purpose,
                shard: ShardId(0),
                store: opened.store.store,
                segment_octets: 256 * 1024,
                reserve_octets: 0,
                first_segment: opened.chains[0].mail.first,
                previous: None,
                keys: Default::default(),
                frontier: Arc::clone(&opened.frontier),
            };
            let mail = Log::open(disk.clone(), clock.clone(), log_options(Purpose::Mail)).await.unwrap();
            let journal =
                Log::open(disk.clone(), clock.clone(), log_options(Purpose::Journal)).await.unwrap();
            let driven = futures_lite::future::zip(drive(&mail), drive(&journal));
            futures_lite::future::zip(write(&mail, &journal), driven).await;
            open(&disk, &clock, &options()).await.unwrap();
        };
        Executor::new(1, clock).run(u64::MAX, story).unwrap();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("shard-00")).unwrap();
        for path in disk.paths() {
            fs::write(root.join(&path), disk.content(&path).unwrap()).unwrap();
        }
        Self(root)
    }

    fn run(&self, command: &str, arguments: &[&str]) -> (i32, String) {
        let output = segment(&[&[command, self.0.to_str().unwrap()], arguments].concat());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    fn flip(&self, path: &str, offset: usize) {
        let mut content = fs::read(self.0.join(path)).unwrap();
        content[offset] ^= 1;
        fs::write(self.0.join(path), content).unwrap();
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn segment(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stratamx-segment")).args(arguments).output().unwrap()
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_clean_directory_is_listed_dumped_and_verified() {
    let data = Data::new("segment-clean");
    assert_eq!(data.run("verify", &[]), (0, String::new()));
    assert_eq!(data.run("verify", &["--json"]), (0, String::new()));
    let (status, listed) = data.run("list", &["--json"]);
    let mail = json_lines(&listed).into_iter().find(|file| file["path"] == SEGMENT).unwrap();
    assert_eq!(
        (status, &mail["messages"], &mail["units"], &mail["settled"]),
        (0, &3.into(), &6.into(), &3.into())
    );
    assert_eq!((&mail["index"], &mail["header"]), (&"valid".into(), &"ours".into()));
    let (_, listed) = data.run("list", &[]);
    assert!(listed.starts_with("file ") && listed.contains(SEGMENT), "{listed}");
    let (status, dumped) = data.run("dump", &["--domain", "one.test"]);
    assert_eq!((status, dumped.lines().count()), (0, 3));
    let first = dumped.lines().next().unwrap();
    for part in
        ["@4096 message stamp=", "2026-01-01T00:00:00.000Z", "<sender@example.org>", "<a@one.test> delivered"]
    {
        assert!(first.contains(part), "{first}");
    }
    let queue_id = QueueId::new(1, ShardId(0), 2).to_string();
    let records = json_lines(&data.run("dump", &["--json", "--queue-id", &queue_id]).1);
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["queue_id"], &records[0]["data_octets"]), (&queue_id.into(), &6.into()));
    assert_eq!(records[0]["recipients"][1]["state"], "queued");
}

#[test]
fn a_flipped_octet_is_named_with_its_offset() {
    let data = Data::new("segment-flip");
    let records = json_lines(&data.run("dump", &["--json", "--domain", "one.test"]).1);
    let offset = usize::try_from(records[1]["offset"].as_u64().unwrap()).unwrap();
    data.flip(SEGMENT, offset + 80);
    let (status, problems) = data.run("verify", &[]);
    assert_eq!(status, 1);
    assert!(problems.contains(&format!("{SEGMENT}: offset {offset}: ")), "{problems}");
    let (status, problems) = data.run("verify", &["--json"]);
    assert_eq!(status, 1);
    assert!(json_lines(&problems).iter().any(|problem| problem["offset"] == offset), "{problems}");
    let (status, dumped) = data.run("dump", &[]);
    assert_eq!(status, 0);
    assert!(dumped.lines().any(|line| line.contains("DAMAGED: payload checksum")), "{dumped}");
}

#[test]
fn usage_and_directories_that_are_none() {
    let status = |arguments: &[&str]| {
        let output = segment(arguments);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
        output.status.code().unwrap()
    };
    assert_eq!(status(&[]), 2);
    assert_eq!(status(&["list"]), 2);
    assert_eq!(status(&["list", "/", "--no-such-flag"]), 2);
    assert_eq!(status(&["verify", "/nowhere/at/all"]), 1);
    assert_eq!(status(&["verify", env!("CARGO_TARGET_TMPDIR")]), 1);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let data = Data::new("segment-pipe");
    let mut child = Command::new(env!("CARGO_BIN_EXE_stratamx-segment"))
        .args(["dump", data.0.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
