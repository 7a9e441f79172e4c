//! Starting the real programs: a server in a directory of its own, a primary, and waiting for what they say.
//!
//! Nothing here sleeps for luck: every wait is for an event (a line of output, an answer, an end of process)
//! and has a bound.

pub mod client;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        // Not /tmp: that may be in memory, and the log wants O_DIRECT.
        let target = Path::new(env!("CARGO_BIN_EXE_stratamx")).ancestors().nth(2).unwrap();
        let path = target.join("tests").join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A failed test leaves its directory for a look.
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A program of the workspace.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_stratamx")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is not built: run `make test`, or cargo build --workspace --bins",
        path.display()
    );
    path
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process whose lines can be waited for, and which does not outlive the test.
pub struct Process {
    pub child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
    name: String,
}

impl Process {
    /// Starts `command`; its lines are those of standard output and standard error.
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new(), name }
    }

    /// The next line that holds `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("{} never said {text:?}; it said {:#?}", self.name, self.tail());
    }

    /// Waits for the end of the process; its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.seen.extend(self.lines.try_iter());
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{} does not end", self.name);
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// SIGKILL, and the end of it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn tail(&self) -> &[String] {
        &self.seen[self.seen.len().saturating_sub(20)..]
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server under test.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
}

/// What differs from test to test in a configuration.
pub struct Settings<'a> {
    pub primary: SocketAddr,
    pub smtp: &'a str,
    pub rest: &'a str,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        // Port 9 discards, where anybody listens at all: a primary that is down.
        Self { primary: SocketAddr::from(([127, 0, 0, 1], 9)), smtp: "", rest: "" }
    }
}

/// Writes `stratamx.toml` into `directory`.
pub fn configure(directory: &Directory, settings: &Settings<'_>) -> PathBuf {
    let path = directory.file("stratamx.toml");
    let Settings { primary, smtp, rest } = settings;
    let text = format!(
        "hostname = \"mx2.example.test\"\ndata_dir = \"{}\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n{smtp}\n\
         [storage]\nmin_free_space = \"16MiB\"\n[delivery]\nretry_interval = \"1s\"\n\
         [[domain]]\nname = \"example.test\"\nprimary = [\"{primary}\"]\n{rest}\n",
        directory.file("data").display()
    );
    fs::write(&path, text).unwrap();
    path
}

impl Server {
    pub fn start(config: &Path) -> Self {
        let mut process = Process::start(
            Command::new(env!("CARGO_BIN_EXE_stratamx")).args(["serve", "--config"]).arg(config),
        );
        let line = process.wait_for("\"listening\"");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().parse().unwrap();
        Self { process, address }
    }

    /// SIGTERM and the end; everything it logged.
    pub fn stop(mut self) -> Vec<String> {
        self.process.signal("-TERM");
        assert_eq!(self.process.wait(), Some(0), "{:#?}", self.process.tail());
        core::mem::take(&mut self.process.seen)
    }
}

/// A primary: `stratamx-sink` with a record of what it took.
pub struct Sink {
    pub process: Process,
    pub record: PathBuf,
    pub keep: PathBuf,
}

impl Sink {
    pub fn start(directory: &Directory, listen: SocketAddr, rules: &[&str]) -> Self {
        let (record, keep) = (directory.file("record.jsonl"), directory.file("keep"));
        let mut command = Command::new(program("stratamx-sink"));
        command.arg("--listen").arg(listen.to_string());
        command.arg("--record").arg(&record).arg("--keep").arg(&keep);
        for rule in rules {
            command.args(["--rule", rule]);
        }
        let mut process = Process::start(&mut command);
        process.wait_for(&listen.to_string());
        Self { process, record, keep }
    }

    /// Lines of the record so far.
    pub fn lines(&self) -> usize {
        fs::read_to_string(&self.record).map_or(0, |text| text.lines().count())
    }

    /// Waits until the record has `count` lines.
    pub fn wait_for_lines(&self, count: usize) {
        let end = Instant::now() + PATIENCE * 2;
        while self.lines() < count {
            assert!(Instant::now() < end, "the primary has {} of {count} messages", self.lines());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An address on loopback with a port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
