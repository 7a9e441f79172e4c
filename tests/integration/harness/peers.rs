//! Everything around the server in an outage: senders, primaries, and the checker, each a process of its own.
//!
//! A primary is `stratamx-sink` or a real Postfix; both print their address when they listen, and write their
//! record when they are told to stop. A sender is the blaster or real mail software behind `senders.py`; all of
//! them write ledgers of the same shape. A process ends with the value that stands for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A directory that goes away with the test, unless the test fails.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left for you: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A primary that runs.
pub struct Primary {
    child: Child,
    pub address: String,
}

impl Primary {
    /// A scripted one. It appends to the record while it runs.
    pub fn sink(listen: &str, record: &Path, rules: &[&str]) -> Self {
        let mut command = Self::sink_command(listen, record);
        command.args(rules.iter().flat_map(|rule| ["--rule", rule]));
        Self::start(command)
    }

    /// A scripted one that takes everything and keeps it in a directory.
    pub fn sink_that_keeps(listen: &str, record: &Path, directory: &Path) -> Self {
        let mut command = Self::sink_command(listen, record);
        command.arg("--keep").arg(directory);
        Self::start(command)
    }

    /// A scripted one that takes everything but does not offer these keywords.
    pub fn older_sink(listen: &str, record: &Path, withheld: &[&str]) -> Self {
        let mut command = Self::sink_command(listen, record);
        command.args(withheld.iter().flat_map(|keyword| ["--without", keyword]));
        Self::start(command)
    }

    fn sink_command(listen: &str, record: &Path) -> Command {
        let mut command = Command::new(tool("stratamx-sink"));
        command.args(["--listen", listen, "--record"]).arg(record);
        command
    }

    /// A real Postfix with everything in `directory`, which may have served before. It writes the record when it
    /// stops; its order goes over all its runs. Port 0 is not for it.
    pub fn postfix(listen: &str, directory: &Path, record: &Path) -> Self {
        Self::postfix_without("", listen, directory, record)
    }

    /// One that does not offer a keyword of EHLO. What it logged is beside its record, with the suffix `.log`.
    pub fn postfix_without(keyword: &str, listen: &str, directory: &Path, record: &Path) -> Self {
        Self::postfix_with(&["--without", keyword], listen, directory, record)
    }

    /// One that takes this client's word, by `xclient` or `xforward`, for whose mail it is.
    pub fn postfix_trusting(command: &str, listen: &str, directory: &Path, record: &Path) -> Self {
        Self::postfix_with(&["--authorize", command], listen, directory, record)
    }

    /// One that takes XCLIENT, and refuses whoever is at `refused`.
    pub fn postfix_refusing(refused: &str, listen: &str, directory: &Path, record: &Path) -> Self {
        let options = ["--authorize", "xclient", "--refuse-client", refused];
        Self::postfix_with(&options, listen, directory, record)
    }

    /// One that offers STARTTLS, and shows what is in this file.
    pub fn postfix_showing(certificate: &Path, listen: &str, directory: &Path, record: &Path) -> Self {
        let certificate = certificate.to_str().unwrap();
        Self::postfix_with(&["--certificate", certificate], listen, directory, record)
    }

    /// One with postscreen in front, which has whoever is new come again.
    pub fn postfix_behind_postscreen(listen: &str, directory: &Path, record: &Path) -> Self {
        Self::postfix_with(&["--postscreen"], listen, directory, record)
    }

    /// One that greylists each client, sender and recipient for two seconds by postgrey, which says this to them (`%s`: the seconds).
    pub fn postfix_greylisting(says: &str, listen: &str, directory: &Path, record: &Path) -> Self {
        let root = unpacked();
        Self::postfix_with(&["--postgrey", says, "--root", root.to_str().unwrap()], listen, directory, record)
    }

    /// One with rspamd as its milter, which goes by what Postfix knows of the client, told by XCLIENT; or by the first Received field.
    pub fn postfix_filtering(by_received: bool, listen: &str, directory: &Path, record: &Path) -> Self {
        let (root, port) = (unpacked(), free_port().to_string());
        let options = ["--root", root.to_str().unwrap(), "--rspamd", &port];
        let how: &[&str] = if by_received { &["--external-relay"] } else { &["--authorize", "xclient"] };
        Self::postfix_with(&[&options[..], how].concat(), listen, directory, record)
    }

    /// A real server of another make, new in `directory`. It writes the record when it stops, and what it logged beside that.
    pub fn other(make: Make, tls: bool, listen: &str, directory: &Path, record: &Path) -> Self {
        let mut command = script("real_primary.py");
        command.arg(format!("{make:?}").to_lowercase()).args(tls.then_some("--tls"));
        command.args(["--watch-stdin", "--listen", listen, "--directory"]).arg(directory);
        command.arg("--root").arg(unpacked()).arg("--record").arg(record);
        Self::start(command)
    }

    fn postfix_with(options: &[&str], listen: &str, directory: &Path, record: &Path) -> Self {
        assert!(Path::new("/usr/sbin/postfix").exists(), "`make test` installs Postfix");
        let mut command = script("postfix_primary.py");
        command.args(options).args(["--watch-stdin", "--listen", listen, "--directory"]).arg(directory);
        command.arg("--record").arg(record);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(!address.is_empty(), "{command:?} did not start");
        Self { child, address: address.trim().to_owned() }
    }

    /// Stops it in an orderly way; from here on its record is complete.
    pub fn stop(mut self) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success(), "the primary did not end well");
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(&self.child);
            let _ = self.child.wait();
        }
    }
}

/// Whose server a primary is, beside Postfix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Aiosmtpd,
    /// By LMTP.
    Dovecot,
    Exim,
    Haraka,
    OpenSmtpd,
}

/// Real mail software that sends.
#[derive(Clone, Copy, Debug)]
pub enum Software {
    /// smtplib with mail that is rare elsewhere: 5 MB, forty recipients, the null reverse-path, odd octets.
    Odd,
    Smtplib,
    SmtpSource,
    Swaks,
}

/// A sender that runs.
pub struct Sender {
    child: Child,
    messages: u64,
}

impl Sender {
    /// Real software; it tries each message for `patience_s` seconds.
    pub fn start(
        software: Software,
        to: &str,
        messages: u64,
        patience_s: u64,
        seed: u64,
        ledger: &Path,
    ) -> Self {
        let name = match software {
            Software::Odd => "odd",
            Software::Smtplib => "smtplib",
            Software::SmtpSource => "smtp-source",
            Software::Swaks => "swaks",
        };
        let mut command = script("senders.py");
        command.args([name, "--to", to, "--messages", &messages.to_string(), "--seed", &seed.to_string()]);
        command.args(["--patience", &patience_s.to_string(), "--ledger"]).arg(ledger);
        Self { child: command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap(), messages }
    }

    /// Waits until each of its messages is acknowledged.
    pub fn finish(self) {
        let output = self.child.wait_with_output().unwrap();
        let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(counts["acknowledged"].as_u64(), Some(self.messages), "{counts}");
        assert!(output.status.success());
    }
}

/// Runs the blaster with these arguments.
pub fn blaster(arguments: &[&str]) -> Output {
    Command::new(tool("stratamx-blaster")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Checks the records of primaries, in the order of their time, against the ledgers of senders: whether all is
/// sound, and the findings.
pub fn verify(records: &[&Path], ledgers: &[&Path]) -> (bool, Value) {
    let mut command = Command::new(tool("stratamx-blaster"));
    command.arg("--json");
    for record in records {
        command.arg("--verify").arg(record);
    }
    for ledger in ledgers {
        command.arg("--ledger").arg(ledger);
    }
    let output = command.output().unwrap();
    let findings = serde_json::from_slice(&output.stdout);
    (
        output.status.success(),
        findings.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))),
    )
}

/// A port of loopback that nobody listens on. It is below those that the system gives to who asks for any, so that only
/// another call of this can take it before it is used: calls go on from a place that the process's number gives.
pub fn free_port() -> u16 {
    const LOWEST: u32 = 10_000;
    const A_PROCESS: u32 = 16;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end: u32 = range.split_whitespace().next().and_then(|lowest| lowest.parse().ok()).unwrap_or(32_768);
    let count =
        end.checked_sub(LOWEST).filter(|count| *count > 1000).expect("ports below ip_local_port_range");
    let first = std::process::id().wrapping_mul(A_PROCESS);
    for _ in 0..count {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(LOWEST + number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// A program of the package `stratamx-tools`, which stands beside the server's.
pub fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_stratamx")).with_file_name(name);
    assert!(path.exists(), "{} is not built: `make test`, or cargo test --workspace", path.display());
    path
}

/// A small Debian with software that `.ci/peers` unpacked.
pub fn unpacked() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/root");
    assert!(path.join(".peers").exists(), "`make test` unpacks mail software by .ci/peers");
    path
}

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/outage").join(name));
    command
}

fn terminate(child: &Child) {
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
}
