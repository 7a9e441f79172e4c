//! What the blaster can do to a server, and the sink to a sender: each against the other.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Bench;

impl Bench {
    /// Sends a load that is to succeed: its report. All of it is on record, unaltered and in order.
    fn succeed(&self, arguments: &[&str]) -> Value {
        let blasted = self.blast(&[arguments, &["--json"]].concat());
        assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
        let (status, findings) = self.verify(&[]);
        assert_eq!(status, 0, "{findings}");
        serde_json::from_slice(&blasted.stdout).unwrap()
    }
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

#[test]
fn every_way_of_sending_delivers_the_same() {
    for pipelining in ["on", "off", "auto"] {
        for data in ["auto", "data", "bdat"] {
            let bench = Bench::new(&format!("ways-{pipelining}-{data}"), &[]);
            let ways = ["--pipelining", pipelining, "--data", data, "--window", "4", "--messages", "60"];
            let sizes = ["--size", "1KiB-60KiB", "--recipients-per-message", "2", "--sessions", "5"];
            let report = bench.succeed(&[&ways[..], &sizes].concat());
            assert_eq!(number(&report, "acknowledged"), 60);
            let chunked = bench.arrivals().iter().filter(|arrival| arrival.chunked).count();
            assert_eq!(chunked, if data == "data" { 0 } else { 60 }, "{pipelining} {data}");
        }
    }
}

#[test]
fn refusals_within_a_window_of_chunks_are_counted_off_right() {
    let bench = Bench::new("window", &["rcpt:every=7:reject", "data:every=11:defer", "mail:every=13:reject"]);
    let blasted =
        bench.blast(&["--messages", "200", "--data", "bdat", "--window", "8", "--sessions", "3", "--json"]);
    assert_eq!(blasted.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&blasted.stdout).unwrap();
    assert_eq!(number(&report, "acknowledged") + number(&report, "rejected"), 200, "{report}");
    assert!(report["errors"]["550 to RCPT"].as_u64() > Some(10), "{report}");
    assert!(report["errors"]["450 to the end of data"].as_u64() > Some(5), "{report}");
    // The server may end a session with so many errors, but none got out of step.
    let errors = report["errors"].as_object().unwrap();
    assert!(
        errors.keys().all(|what| !what.contains("out of turn") && !what.contains("protocol")),
        "{report}"
    );
    assert_eq!(bench.verify(&[]).0, 0);
}

#[test]
fn an_open_loop_counts_latency_from_the_intended_time() {
    // The third of five messages is held for a second: the two behind it wait that long, and say so.
    let bench = Bench::new("open", &["data:every=3:slow=1s"]);
    let load = ["--rate", "20/s", "--messages", "5", "--sessions", "1", "--threads", "1"];
    let report = bench.succeed(&load);
    assert_eq!((number(&report, "offered"), number(&report, "dropped")), (5, 0));
    let p50 = |key: &str| report[key]["p50"].as_u64().unwrap();
    assert!(p50("latency_us") >= 800_000, "{report}");
    // They were sent when the third was answered, so their own time was short.
    assert!(p50("service_us") < p50("latency_us") / 2, "{report}");
    assert!(number(&report, "late") >= 2, "{report}");
}

#[test]
fn arrivals_that_find_the_queue_full_are_dropped_and_a_failure() {
    let bench = Bench::new("queue", &["data:first=1:slow=1s"]);
    let load = ["--rate", "100/s", "--messages", "20", "--sessions", "1", "--queue", "5", "--json"];
    let blasted = bench.blast(&load);
    assert_eq!(blasted.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&blasted.stdout).unwrap();
    assert_eq!((number(&report, "offered"), number(&report, "acknowledged")), (20, 6), "{report}");
    assert_eq!(number(&report, "dropped"), 14);
    assert_eq!(bench.verify(&[]).0, 0);
}

#[test]
fn a_duration_ends_the_load_and_nothing_is_left_over() {
    let bench = Bench::new("duration", &[]);
    let report = bench.succeed(&["--duration", "500ms", "--ramp", "200ms", "--sessions", "4"]);
    assert!(number(&report, "acknowledged") > 10);
    assert_eq!(number(&report, "offered"), number(&report, "acknowledged"));
    assert_eq!(bench.arrivals().len() as u64, number(&report, "acknowledged"));
}

#[test]
fn sessions_are_secured_and_end_after_their_messages() {
    let bench = Bench::listening("tls", "127.0.0.1:0", &["--starttls"]);
    let load =
        ["--messages", "40", "--messages-per-session", "5", "--sessions", "2", "--starttls", "require"];
    let report = bench.succeed(&[&load[..], &["--size", "1KiB-200KiB"]].concat());
    // How the messages fall to the two sessions is not given.
    assert!((8..=9).contains(&number(&report, "connections")), "{report}");
    assert_eq!(number(&report, "connections"), number(&report, "secured"), "{report}");
    // Nobody vouches for it.
    let other = Bench::new("plain", &[]);
    let load = ["--to", &other.address, "--messages", "1", "--starttls", "require", "--patience", "0s"];
    let refused = other.blaster(&load);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("STARTTLS is not offered"));
    let opportunistic = other.succeed(&["--messages", "3", "--starttls", "opportunistic"]);
    assert_eq!((number(&opportunistic, "secured"), number(&opportunistic, "acknowledged")), (0, 3));
}

#[test]
fn senders_who_drip_or_break_the_rules_are_counted_apart() {
    let bench = Bench::new("apart", &[]);
    let beside = ["--slow", "10%", "--slow-rate", "200KiB", "--malformed", "20%"];
    let load = ["--duration", "1500ms", "--sessions", "10", "--size", "4KiB", "--rate", "50/s"];
    let report = bench.succeed(&[&load[..], &beside].concat());
    assert!(number(&report["slow"], "acknowledged") > 2, "{report}");
    for fault in ["early-talk", "bad-sequence", "nul", "long-line", "bare-line-feed"] {
        let counts = &report["malformed"][fault];
        let all = number(counts, "refused") + number(counts, "dropped") + number(counts, "taken");
        assert!(all > 0, "{fault}: {report}");
    }
    assert!(number(&report["malformed"]["bad-sequence"], "refused") > 0);
    assert_eq!(number(&report["malformed"]["bad-sequence"], "taken"), 0);
}

#[test]
fn reports_are_written_and_say_the_same() {
    let bench = Bench::new("reports", &[]);
    let files = ["--json", "run.json", "--html", "run.html", "--hdr-log", "run.hlog"];
    let blasted = bench.blast(&[&["--messages", "50"], &files[..]].concat());
    assert!(blasted.status.success());
    let table = String::from_utf8_lossy(&blasted.stdout).into_owned();
    assert!(
        table.contains("acknowledged") && table.contains("p99.9") && table.contains("own CPU"),
        "{table}"
    );
    let read = |name: &str| fs::read_to_string(bench.directory.join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("run.json")).unwrap();
    assert_eq!(number(&report, "acknowledged"), 50);
    assert!(read("run.html").ends_with("</html>\n"));
    let log = read("run.hlog");
    assert!(log.starts_with("#[Histogram log format version 1.3]") && log.contains("HISTF"), "{log}");
}

#[test]
fn recipients_are_drawn_from_many_domains_and_sessions_from_many_addresses() {
    let bench = Bench::new("many", &[]);
    let load =
        ["--messages", "200", "--domains", "30", "--mailboxes", "50", "--zipf", "1.2", "--size", "realistic"];
    bench.succeed(&[&load[..], &["--from-address", "127.0.0.2,127.0.0.3", "--sessions", "4"]].concat());
    let domain = |number: u64| format!("@d{number:04}.example.test");
    let count = |number| {
        bench.arrivals().iter().filter(|arrival| arrival.recipients[0].ends_with(&domain(number))).count()
    };
    assert!(count(1) > 3 * count(20).max(1), "{} {}", count(1), count(20));
    let sizes: Vec<u64> = bench.arrivals().iter().map(|arrival| arrival.octets).collect();
    assert!(sizes.iter().any(|size| *size > 30_000) && sizes.iter().any(|size| *size < 3_000), "heavy tail");
}

#[test]
fn both_speak_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let bench = Bench::listening("ipv6", "[::1]:0", &[]);
    assert_eq!(number(&bench.succeed(&["--messages", "20"]), "acknowledged"), 20);
}

#[test]
fn a_slow_line_is_slow_by_its_delay_and_its_bandwidth() {
    // At least: nothing is said about how much longer a busy machine takes.
    let bench = Bench::listening("delay", "127.0.0.1:0", &["--delay", "40ms"]);
    let report = bench.succeed(&["--messages", "2", "--sessions", "1"]);
    // The group and the content: two round trips of twice 40 ms.
    assert!(report["latency_us"]["p50"].as_u64() >= Some(160_000), "{report}");
    let bench = Bench::listening("bandwidth", "127.0.0.1:0", &["--bandwidth", "8mbit"]);
    let start = Instant::now();
    bench.succeed(&["--messages", "2", "--sessions", "1", "--size", "400KiB"]);
    // 800 KiB at 1 MB a second; what the first read takes is free.
    assert!(start.elapsed() >= Duration::from_millis(700));
    let bench = Bench::listening("total", "127.0.0.1:0", &["--bandwidth-total", "8mbit"]);
    let start = Instant::now();
    bench.succeed(&["--messages", "4", "--sessions", "4", "--size", "200KiB"]);
    assert!(start.elapsed() >= Duration::from_millis(700));
}

#[test]
fn a_sink_that_holds_one_session_serves_the_others() {
    let bench =
        Bench::listening("held", "127.0.0.1:0", &["--threads", "1", "--rule", "mail:from=slow@*:slow=1h"]);
    let mut slow = TcpStream::connect(&bench.address).unwrap();
    std::io::Write::write_all(&mut slow, b"HELO a\r\nMAIL FROM:<slow@b>\r\n").unwrap();
    assert_eq!(number(&bench.succeed(&["--messages", "50"]), "acknowledged"), 50);
}

#[test]
fn a_thousand_sessions_at_once_are_no_trouble() {
    let bench = Bench::new("thousand", &[]);
    let report = bench.succeed(&["--messages", "3000", "--sessions", "1000", "--size", "1KiB"]);
    assert_eq!((number(&report, "acknowledged"), number(&report, "retries")), (3000, 0));
}

#[test]
fn wrong_loads_are_refused_with_what_to_do() {
    let bench = Bench::new("wrong", &[]);
    for (arguments, help) in [
        (&["--to", "192.0.2.1:25"][..], "--i-own-this-server"),
        (&["--to", "127.0.0.1:1", "--from-address", "::1"], "cannot be reached"),
        (&["--slow", "100%"], "raise --sessions"),
        (&["--queue", "5"], "--rate"),
        (&["--rate", "0"], "above 0"),
        (&["--zipf", "11"], "zipf"),
        (&["--starttls", "require", "--tls-ca", "nowhere"], "nowhere"),
    ] {
        let output = bench.blaster(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains(help)), (Some(2), true), "{arguments:?}: {said}");
    }
}
