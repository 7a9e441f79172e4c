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
use storage::format::message::{DataFacts, Envelope, Extensions, Protocol};
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
        let data =
            format!("Subject: {number}\r\nX-Dot: yes\r\n\r\nFrom the start\r\n..dot\r\n>From me\r\nend\r\n");
        // The data of the third went ahead in part.
        let (ahead, tail) = data.as_bytes().split_at(if number == 3 { 30 } else { 0 });
        let queue_id = QueueId::new(1, ShardId(0), number);
        let chunks = match ahead {
            [] => Vec::new(),
            ahead => vec![mail.append_chunk(queue_id, ahead).await.unwrap()],
        };
        let facts = DataFacts {
            stored_octets: data.len() as u64,
            unstuffed_octets: data.len() as u64 - 1,
            stuffed_lines: 1,
            ..DataFacts::default()
        };
        let message = Message {
            queue_id,
            received: UnixMillis(1_767_225_600_000 + (number - 1) * 1000),
            envelope: &Envelope {
                reverse_path: "sender@example.org",
                recipients: &["a@one.test", "b@two.test"],
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                helo: "client.example",
                protocol: Protocol::Esmtp,
                body_8bit: false,
                extensions: Extensions::NONE,
            },
            data: &facts,
            chunks: &chunks,
            trace: b"Received: by test\r\n",
            tail,
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
                unnamed: Default::default(),
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

    /// Where the record of a message is.
    fn offset_of(&self, number: u64) -> usize {
        let id = QueueId::new(1, ShardId(0), number).to_string();
        let records = json_lines(&self.run("dump", &["--json", "--queue-id", &id, "--domain", "one.test"]).1);
        usize::try_from(records[0]["offset"].as_u64().unwrap()).unwrap()
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
    assert_eq!((&records[0]["queue_id"], &records[0]["data_octets"]), (&queue_id.into(), &64.into()));
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

const SECOND: &str = "shard-00/segment-00000002.log";

/// The queue id of message `number`.
fn id(number: u64) -> String {
    QueueId::new(1, ShardId(0), number).to_string()
}

#[test]
fn the_ledger_is_shown_and_a_lost_record_breaks_it() {
    let data = Data::new("segment-audit");
    let (status, shown) = data.run("audit", &[]);
    assert_eq!(status, 0, "{shown}");
    let row = shown.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row, ["one.test", "3", "3", "0", "0", "0", "0", "0", "0", "0", "balanced"]);
    let rows = json_lines(&data.run("audit", &["--json"]).1);
    assert_eq!((&rows[1]["domain"], &rows[1]["backlog"]), (&"two.test".into(), &3.into()));
    assert_eq!((&rows[1]["lost"], &rows[1]["balances"]), (&0.into(), &true.into()));
    data.flip(SEGMENT, data.offset_of(2) + 80);
    let (status, shown) = data.run("audit", &[]);
    assert_eq!(status, 1);
    assert!(shown.contains("1 LOST") && shown.contains(&format!("{SEGMENT}: offset ")), "{shown}");
    fs::remove_file(data.0.join(SEGMENT)).unwrap();
    let (status, shown) = data.run("audit", &["--json"]);
    assert_eq!(status, 1);
    assert!(json_lines(&shown).iter().any(|line| line["problem"]["path"] == SEGMENT), "{shown}");
}

#[test]
fn one_message_is_shown_with_all_that_is_known() {
    let data = Data::new("segment-show");
    let (status, shown) = data.run("show", &[&id(2)]);
    assert_eq!(status, 0);
    let parts = [
        "received  2026-01-01T00:00:01.000Z",
        "from      <sender@example.org>",
        "to        <a@one.test> delivered",
        "to        <b@two.test> queued",
        "client    [127.0.0.1] called itself client.example, ESMTP",
        "trace     Received: by test",
        "header    Subject: 2",
        "          X-Dot: yes",
    ];
    for part in parts {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains("From the start"), "the body is not shown: {shown}");
    let object = &json_lines(&data.run("show", &["--json", &id(3).to_lowercase()]).1)[0];
    assert_eq!((&object["queue_id"], &object["headers"][0]), (&id(3).into(), &"Subject: 3".into()));
    assert_eq!((&object["chunks"][0]["path"], &object["chunks"][0]["octets"]), (&SEGMENT.into(), &30.into()));
    assert_eq!(data.run("show", &["0000000000009"]), (1, String::new()));
    data.flip(SEGMENT, data.offset_of(2) + 80);
    let output = segment(&["show", data.0.to_str().unwrap(), &id(2)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lost: "), "{output:?}");
}

#[test]
fn dump_filters_agree_on_one_recipient() {
    let data = Data::new("segment-filters");
    let count = |arguments: &[&str]| {
        let (status, shown) = data.run("dump", arguments);
        assert_eq!(status, 0);
        shown.lines().count()
    };
    assert_eq!(count(&["--domain", "two.test"]), 3);
    assert_eq!(count(&["--domain", "two.test", "--state", "delivered"]), 0);
    assert_eq!(count(&["--domain", "one.test", "--state", "delivered"]), 3);
    assert_eq!(count(&["--recipient", "<B@two.test>", "--state", "queued"]), 3);
    assert_eq!(count(&["--recipient", "a@two.test"]), 0);
    // Messages come a second apart.
    let message = |arguments: &[&str]| count(&[arguments, &["--domain", "one.test"]].concat());
    assert_eq!(message(&["--since", "2026-01-01T00:00:01Z"]), 2);
    assert_eq!(message(&["--until", "2026-01-01T00:00:01Z"]), 1);
    assert_eq!(message(&["--since", "2026-01-01T01:00:01+01:00", "--until", "2026-01-01T00:00:02Z"]), 1);
    assert_eq!(message(&["--since", "2025-12-31"]), 3);
    let output = segment(&["dump", data.0.to_str().unwrap(), "--since", "soon"]);
    assert_eq!(output.status.code(), Some(2));
    let output = segment(&["dump", data.0.to_str().unwrap(), "--state", "lost"]);
    assert_eq!(output.status.code(), Some(2));
}

/// A message as it must come out, with these line ends and this mark in front of what looks like a separator.
fn expected(number: u64, to: &str, end: &str, mark: &str) -> String {
    let lines = [
        "Return-Path: <sender@example.org>".to_owned(),
        format!("Delivered-To: {to}"),
        "Received: by test".to_owned(),
        format!("Subject: {number}"),
        "X-Dot: yes".to_owned(),
        String::new(),
        format!("{mark}From the start"),
        ".dot".to_owned(),
        format!("{mark}>From me"),
        "end".to_owned(),
    ];
    lines.iter().map(|line| format!("{line}{end}")).collect()
}

#[test]
fn messages_are_exported_as_files_and_nothing_is_overwritten() {
    let data = Data::new("segment-eml");
    let target = data.0.join("../").join(format!("segment-eml-out-{}", std::process::id()));
    let to = target.to_str().unwrap();
    let arguments = [to, "--domain", "two.test", "--state", "queued"];
    assert_eq!(data.run("export", &arguments).0, 0);
    let mut names: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [1, 2, 3].map(|number| format!("{}.eml", id(number))));
    for number in 1..=3 {
        let content = fs::read_to_string(target.join(format!("{}.eml", id(number)))).unwrap();
        assert_eq!(content, expected(number, "b@two.test", "\r\n", ""), "chunked or not");
    }
    fs::write(target.join(format!("{}.eml", id(2))), "mine").unwrap();
    assert_eq!(data.run("export", &arguments).0, 1);
    assert_eq!(fs::read_to_string(target.join(format!("{}.eml", id(2)))).unwrap(), "mine");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 3, "nothing half-made is left");
    fs::remove_dir_all(&target).unwrap();
}

#[test]
fn an_mbox_is_quoted_and_separated() {
    let data = Data::new("segment-mbox");
    let target = data.0.with_extension("mbox");
    let arguments = [target.to_str().unwrap(), "--format", "mbox", "--recipient", "b@two.test"];
    // The second cannot be read: the others are there whole.
    data.flip(SEGMENT, data.offset_of(2) + 80);
    assert_eq!(data.run("export", &arguments).0, 1);
    let one = |number, time| {
        let separator = format!("From sender@example.org Thu Jan  1 00:00:0{time} 2026\n");
        separator + &expected(number, "b@two.test", "\n", ">") + "\n"
    };
    assert_eq!(fs::read_to_string(&target).unwrap(), one(1, 0) + &one(3, 2));
    assert_eq!(data.run("export", &arguments), (1, String::new()), "it is there");
    fs::remove_file(&target).unwrap();
}

#[test]
fn a_maildir_has_each_message_once_also_when_it_was_seen() {
    let data = Data::new("segment-maildir");
    let target = data.0.with_extension("maildir");
    let arguments = [target.to_str().unwrap(), "--format", "maildir", "--queue-id", &id(3)];
    assert_eq!(data.run("export", &arguments).0, 0);
    let new =
        || fs::read_dir(target.join("new")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let first = new().remove(0);
    assert_eq!(first.file_name().unwrap().to_str().unwrap(), format!("1767225602.{}.stratamx", id(3)));
    let content = fs::read_to_string(&first).unwrap();
    assert!(content.contains("Delivered-To: a@one.test\nDelivered-To: b@two.test\n"), "{content}");
    assert!(content.ends_with("\n.dot\n>From me\nend\n"), "{content}");
    assert_eq!(fs::read_dir(target.join("tmp")).unwrap().count(), 0);
    assert_eq!(data.run("export", &arguments).0, 1);
    let seen = target.join("cur").join(format!("{}:2,S", first.file_name().unwrap().to_str().unwrap()));
    fs::rename(&first, seen).unwrap();
    assert_eq!(data.run("export", &arguments).0, 1);
    assert_eq!(new().len(), 0);
    fs::remove_dir_all(&target).unwrap();
}

#[test]
fn cursors_and_layout_tell_what_is_settled() {
    let data = Data::new("segment-cursors");
    let rows = json_lines(&data.run("cursors", &["--json"]).1);
    assert_eq!(
        (&rows[0]["domain"], &rows[0]["settled"], &rows[0]["oldest"]),
        (&"one.test".into(), &3.into(), &serde_json::Value::Null)
    );
    assert_eq!((&rows[1]["queued"], &rows[1]["oldest"]["queue_id"]), (&3.into(), &id(1).into()));
    let (status, shown) = data.run("cursors", &[]);
    assert!(status == 0 && shown.contains("two.test") && shown.contains(&id(1)), "{shown}");
    let (status, drawn) = data.run("layout", &[]);
    assert!(status == 0 && drawn.contains("[H") && drawn.contains("live "), "{drawn}");
    let layout = &json_lines(&data.run("layout", &["--json", "--file", SEGMENT]).1)[0];
    let extents = layout["extents"].as_array().unwrap();
    let mut end = 0;
    for extent in extents {
        assert_eq!(extent["offset"], end, "without overlap or omission: {layout}");
        end += extent["octets"].as_u64().unwrap();
    }
    assert_eq!(layout["octets"], end);
    let count = |kind: &str| extents.iter().filter(|extent| extent["kind"] == kind).count();
    assert_eq!((count("header"), count("live"), count("chunk"), count("unused")), (1, 3, 1, 1), "{layout}");
    assert_eq!(data.run("layout", &["--file", "no such"]).0, 1);
}

#[test]
fn a_damaged_directory_is_repaired_into_a_copy() {
    let data = Data::new("segment-repair");
    let target = data.0.with_extension("copy");
    let to = target.to_str().unwrap();
    data.flip(SEGMENT, data.offset_of(2) + 80);
    assert_eq!(data.run("verify", &[]).0, 1);
    let (status, left_out) = data.run("repair", &[to]);
    assert_eq!(status, 0, "{left_out}");
    assert!(
        left_out.contains(SEGMENT) && left_out.contains(&id(2)) && left_out.contains("two.test"),
        "{left_out}"
    );
    let copy = Data(target.clone());
    assert_eq!((copy.run("verify", &[]).0, copy.run("audit", &[]).0), (0, 0));
    let rows = json_lines(&copy.run("audit", &["--json"]).1);
    assert_eq!(
        (&rows[1]["accepted"], &rows[1]["damaged"], &rows[1]["backlog"]),
        (&3.into(), &1.into(), &2.into())
    );
    assert_eq!(json_lines(&copy.run("dump", &["--json", "--domain", "two.test"]).1).len(), 2);
    assert!(copy.0.join(SECOND).exists(), "the segment that takes back the numbers");
    assert_eq!(data.run("repair", &[to]).0, 1, "never into what is there");
    assert_eq!(data.run("repair", &[]).0, 2);
}

#[test]
fn every_command_tells_how_it_is_used() {
    for command in ["list", "dump", "show", "export", "verify", "audit", "cursors", "layout", "repair"] {
        let output = segment(&[command, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example: stratamx-segment "), "{command}: {text}");
    }
}
