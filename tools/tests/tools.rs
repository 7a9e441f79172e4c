//! The tools against each other over loopback: what one records, the other acknowledges and checks.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests use the machine as it is"
)]

mod bench;
mod edge;
mod load;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use bench::Bench;

#[test]
fn everything_that_was_acknowledged_is_on_record_in_order_and_unaltered() {
    let bench = Bench::new("sound", &[]);
    let blasted = bench.blast(&[
        "--messages",
        "300",
        "--size",
        "1KiB-40KiB",
        "--recipients-per-message",
        "3",
        "--json",
    ]);
    assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
    let report: serde_json::Value = serde_json::from_slice(&blasted.stdout).unwrap();
    assert_eq!((report["acknowledged"].as_u64(), report["retries"].as_u64()), (Some(300), Some(0)));
    assert!(report["latency_us"]["p99"].as_u64() > Some(0));
    for keep in [&[][..], &["--keep", "keep"]] {
        let (status, findings) = bench.verify(keep);
        assert_eq!(
            (status, findings["units"].as_u64(), findings["delivered"].as_u64()),
            (0, Some(900), Some(900))
        );
        assert_eq!(findings["duplicates"].as_u64(), Some(0));
    }
    let acknowledged = bench.acknowledged();
    assert!(
        acknowledged
            .iter()
            .all(|line| line.queue_id.starts_with('S') && line.mail_unix_us < line.reply_unix_us)
    );
}

#[test]
fn damage_behind_the_sinks_back_is_found() {
    let bench = Bench::new("damage", &[]);
    assert!(bench.blast(&["--messages", "20", "--sessions", "1", "--mailboxes", "1"]).status.success());
    let record = bench.directory.join("record");
    let text = fs::read_to_string(&record).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: &[&str]| {
        fs::write(&record, lines.join("\n")).unwrap();
        let (status, findings) = bench.verify(&[]);
        let count = |kind: &str| findings[kind].as_array().unwrap().len();
        (status, count("lost"), count("altered"), count("inverted"))
    };
    assert_eq!(with(&lines), (0, 0, 0, 0));
    assert_eq!(with(&lines[1..]), (1, 1, 0, 0));
    let swapped = [lines[4].replace("\"mail_sequence\":5", "\"mail_sequence\":25")];
    assert_eq!(with(&[&lines[..4], &[&swapped[0]], &lines[5..]].concat()), (1, 0, 0, 15));
    fs::write(&record, &text).unwrap();
    let kept = bench.directory.join("keep/00000007.eml");
    let mut message = fs::read(&kept).unwrap();
    let middle = message.len() / 2;
    message[middle] ^= 1;
    fs::write(&kept, message).unwrap();
    let (status, findings) = bench.verify(&["--keep", "keep"]);
    assert_eq!((status, findings["altered"].as_array().map(Vec::len)), (1, Some(1)));
}

#[test]
fn deferred_mail_is_sent_again_and_rejected_mail_is_not() {
    let bench =
        Bench::new("retry", &["data:first=5:defer", "rcpt:to=user1@*:reject", "connect:first=1:close"]);
    let blasted =
        bench.blast(&["--messages", "40", "--mailboxes", "4", "--messages-per-session", "3", "--json"]);
    assert_eq!(blasted.status.code(), Some(1), "rejected mail is no success");
    let report: serde_json::Value = serde_json::from_slice(&blasted.stdout).unwrap();
    let number = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((number("acknowledged") + number("rejected"), number("given_up")), (40, 0));
    assert!(number("rejected") > 0 && number("retries") >= 6, "{report}");
    let (status, findings) = bench.verify(&[]);
    assert_eq!((status, findings["lost"].as_array().map(Vec::len)), (0, Some(0)));
    let arrivals = bench.arrivals();
    assert_eq!(
        arrivals
            .iter()
            .filter(|arrival| arrival.reply.as_deref() == Some("450 4.3.0 Deferred by a rule"))
            .count(),
        5
    );
    assert!(arrivals.iter().any(|arrival| arrival.refused == ["user1@example.test"] && !arrival.accepted));
}

#[test]
fn rules_act_at_their_stage() {
    let rules = [
        "connect:every=4:reject",
        "mail:from=evil@*:reject=553",
        "rcpt:to=hang@*:hang",
        "rcpt:to=close@*:close",
        "body:from=cut@*:close",
        "data:from=mute@*:close",
    ];
    let bench = Bench::new("stages", &rules);
    let hello = bench.converse(&["HELO a", "MAIL FROM:<evil@b>", "MAIL FROM:<a@b>", "RCPT TO:<close@c>"]);
    let codes: Vec<&str> = hello.iter().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["220", "250", "553", "250"], "the close leaves RCPT without a reply");
    let data = ["HELO a", "MAIL FROM:<cut@b>", "RCPT TO:<postmaster>", "DATA", "Subject: a"];
    assert_eq!(bench.converse(&data).len(), 5, "the close leaves the data without a reply");
    let data = ["HELO a", "MAIL FROM:<mute@b>", "RCPT TO:<c@d>", "DATA", "..\r\n."];
    assert_eq!(bench.converse(&data).len(), 5, "the close leaves the dot without a reply");
    assert!(bench.converse(&[])[0].starts_with("550 "));
    let mut hanging = TcpStream::connect(&bench.address).unwrap();
    hanging.write_all(b"HELO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<hang@c>\r\nQUIT\r\n").unwrap();
    hanging.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    hanging.read_to_string(&mut heard).unwrap();
    assert_eq!(heard.lines().count(), 3, "{heard}");
    let seen: Vec<(String, bool, Option<String>, u64)> = bench
        .arrivals()
        .into_iter()
        .map(|arrival| (arrival.reverse_path, arrival.accepted, arrival.reply, arrival.octets))
        .collect();
    let line =
        |path: &str, reply: Option<&str>, octets| (path.to_owned(), false, reply.map(str::to_owned), octets);
    assert_eq!(
        seen,
        [
            line("evil@b", Some("553 5.3.0 Rejected by a rule"), 0),
            line("a@b", None, 0),
            line("cut@b", None, 0),
            line("mute@b", None, 3),
            line("a@b", None, 0),
        ]
    );
}

#[test]
fn the_sink_ends_cleanly_on_sigterm() {
    let mut bench = Bench::new("sigterm", &[]);
    let _idle = TcpStream::connect(&bench.address).unwrap();
    let pid = bench.sink.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(bench.sink.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_usage_exits_with_2_and_a_dead_server_with_1() {
    let bench = Bench::new("usage", &[]);
    for arguments in [
        &["--to", "192.0.2.1:25"][..],
        &["--to", "nowhere"],
        &["--size", "2KiB-1KiB"],
        &["--verify", "record"],
    ] {
        assert_eq!(bench.blaster(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for rule in ["rcpt", "rcpt:often:defer", "body:reject"] {
        let sink = Command::new(env!("CARGO_BIN_EXE_stratamx-sink")).args(["--rule", rule]).output().unwrap();
        assert_eq!(sink.status.code(), Some(2), "{rule}");
    }
    let blasted = bench.blaster(&["--to", "127.0.0.1:1", "--messages", "1", "--patience", "0s"]);
    assert_eq!(blasted.status.code(), Some(1));
    assert_eq!(bench.blaster(&["--verify", "none", "--ledger", "none"]).status.code(), Some(1));
}
