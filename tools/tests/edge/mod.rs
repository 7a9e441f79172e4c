//! Where a run begins and ends, what is shared out in it, and servers that are not what was hoped for.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use crate::bench::Bench;

/// A run that never ends fails the test after this many seconds.
const BOUND: &str = "60";

impl Bench {
    /// Sends a load that has to come to its end.
    fn blast_within_bound(&self, arguments: &[&str]) -> (Output, Value) {
        let blaster = env!("CARGO_BIN_EXE_stratamx-blaster");
        let usual = [BOUND, blaster, "--to", &self.address, "--json"];
        let mut command = Command::new("timeout");
        let output = command.args(usual).args(arguments).current_dir(&self.directory).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "no end: {arguments:?}");
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (output, report)
    }
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_without_the_tls_that_it_requires_ends_at_once() {
    let bench = Bench::new("hopeless", &[]);
    let load = ["--messages", "50", "--starttls", "require", "--patience", "30s", "--sessions", "4"];
    let (output, report) = bench.blast_within_bound(&load);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("STARTTLS is not offered, and required"), "{}", stderr(&output));
    assert_eq!(number(&report, "given_up"), 0, "nothing was tried until its patience was over: {report}");
    assert_eq!(report["is_interrupted"], Value::Bool(false), "nobody interrupted it");
}

#[test]
fn a_run_ends_when_there_is_nothing_left_to_wait_for() {
    let bench = Bench::new("ends", &[]);
    for (load, messages) in [
        (&["--rate", "1/h", "--duration", "300ms"][..], 1),
        (&["--rate", "1/h", "--messages", "1"], 1),
        (&["--rate", "4/h", "--messages", "1", "--threads", "2", "--sessions", "2"], 1),
        (&["--sessions", "2", "--ramp", "1h", "--messages", "2", "--threads", "2"], 2),
    ] {
        let (output, report) = bench.blast_within_bound(load);
        assert!(output.status.success(), "{load:?}: {}", stderr(&output));
        assert_eq!(number(&report, "acknowledged"), messages, "{load:?}: {report}");
    }
}

#[test]
fn slow_senders_take_none_of_the_messages_that_were_asked_for() {
    let bench = Bench::new("beside", &[]);
    let load =
        ["--messages", "40", "--sessions", "4", "--slow", "50%", "--slow-rate", "10MiB", "--size", "1KiB"];
    let (output, report) = bench.blast_within_bound(&load);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((number(&report, "offered"), number(&report, "acknowledged")), (40, 40), "{report}");
}

#[test]
fn a_slow_sender_pauses_before_it_connects_again() {
    let bench = Bench::new("pauses", &["connect:every=1:close"]);
    let load = ["--duration", "500ms", "--patience", "500ms", "--sessions", "2", "--slow", "50%"];
    let (_, report) = bench.blast_within_bound(&load);
    // Each of the two has 50 ms between its connections.
    let most = report["seconds"].as_f64().unwrap() / 0.05 * 2.0 + 8.0;
    let connections = report["connections"].as_f64().unwrap();
    assert!(connections > 4.0 && connections <= most, "{connections} of {most}: {report}");
}

#[test]
fn arrivals_go_to_idle_sessions_before_the_queue() {
    let bench = Bench::new("idle", &[]);
    let load = ["--rate", "1000/s", "--messages", "4", "--sessions", "4", "--threads", "1", "--queue", "0"];
    let (output, report) = bench.blast_within_bound(&load);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((number(&report, "acknowledged"), number(&report, "dropped")), (4, 0), "{report}");
    let bench = Bench::new("queue", &["mail:first=1:slow=1s"]);
    let load = ["--rate", "1000/s", "--messages", "5", "--sessions", "1", "--queue", "2"];
    let (_, report) = bench.blast_within_bound(&load);
    assert_eq!((number(&report, "acknowledged"), number(&report, "dropped")), (3, 2), "{report}");
}

#[test]
fn arrivals_fill_the_window_of_a_session() {
    let bench = Bench::new("fills", &["data:first=1:slow=1200ms"]);
    let load = ["--rate", "5/s", "--messages", "4", "--sessions", "1", "--queue", "0"];
    let (_, report) = bench.blast_within_bound(&[&load[..], &["--data", "bdat", "--window", "4"]].concat());
    assert_eq!((number(&report, "acknowledged"), number(&report, "dropped")), (4, 0), "{report}");
}

#[test]
fn results_are_not_lost_with_a_report_that_cannot_be_written() {
    let bench = Bench::new("unwritten", &[]);
    for option in ["--html", "--json"] {
        let output = bench.blast(&["--messages", "5", option, "/dev/full"]);
        assert_eq!(output.status.code(), Some(1), "{option}");
        assert!(stderr(&output).contains("/dev/full: "), "{option}: {}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("acknowledged"), "{option}");
    }
    let before = bench.arrivals().len();
    for option in ["--html", "--json", "--hdr-log", "--ledger"] {
        let output = bench.blaster(&["--to", &bench.address, "--messages", "5", option, "none/file"]);
        assert_eq!(output.status.code(), Some(1), "{option}");
        assert!(stderr(&output).contains("none/file: "), "{option}: {}", stderr(&output));
    }
    assert_eq!(bench.arrivals().len(), before, "found out before anything was sent");
}

#[test]
fn findings_are_written_to_the_file_that_was_named() {
    let bench = Bench::new("findings", &[]);
    assert!(bench.blast(&["--messages", "5"]).status.success());
    let check = ["--verify", "record", "--ledger", "ledger"];
    let output = bench.blaster(&[&check[..], &["--json", "findings.json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_err(), "people get the text");
    let text = fs::read_to_string(bench.directory.join("findings.json")).unwrap();
    assert_eq!(number(&serde_json::from_str(&text).unwrap(), "delivered"), 5);
    for option in ["--html", "--hdr-log"] {
        let output = bench.blaster(&[&check[..], &[option, "file"]].concat());
        assert_eq!(output.status.code(), Some(2), "{option} says nothing of a check");
    }
}

#[test]
fn what_a_server_says_in_plain_text_behind_starttls_ends_the_session() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for reply in ["220 a\r\n", "250-a\r\n250 STARTTLS\r\n", "220 Go\r\n250 Injected\r\n"] {
            (&stream).write_all(reply.as_bytes()).unwrap();
            lines.next();
        }
    });
    let bench = Bench::new("injected", &[]);
    let load = ["--to", &address, "--messages", "1", "--starttls", "require", "--patience", "0s"];
    let output = bench.blaster(&load);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("plain text behind the 220"), "{}", stderr(&output));
}

#[test]
fn a_client_that_ends_its_side_hears_the_replies_that_are_on_their_way() {
    let bench = Bench::listening("halfclosed", "127.0.0.1:0", &["--delay", "50ms"]);
    let mut stream = TcpStream::connect(&bench.address).unwrap();
    let mut greeting = [0; 1];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(b"HELO a\r\nNOOP\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    let codes: Vec<&str> = heard.lines().skip(1).map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250"], "{heard}");
}
