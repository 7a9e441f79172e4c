//! Starting the real programs: a server in a directory of its own, a primary, and waiting for what they say.
//!
//! Nothing here sleeps for luck: every wait is for an event (a line of output, an answer, an end of process)
//! and has a bound.

pub mod certificate_authority;
pub mod client;
pub mod name_server;
pub mod peers;
pub mod policy_host;
pub mod signed_zone;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

pub use peers::{Make, Primary, Scratch, Sender, Software, blaster, free_port, tool, unpacked, verify};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

    /// The first line with `text`, also one that was passed over by waiting for another.
    pub fn wait_for_any(&mut self, text: &str) -> String {
        let said = self.seen.iter().find(|line| line.contains(text)).cloned();
        said.unwrap_or_else(|| self.wait_for(text))
    }

    /// Waits for the end of the process; its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                // All that it wrote: its end may be seen before its last line is.
                let left = |lines: &Receiver<String>| {
                    lines.recv_timeout(end.saturating_duration_since(Instant::now()))
                };
                while let Ok(line) = left(&self.lines) {
                    self.seen.push(line);
                }
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
    /// Instead of `primary`, when it has a name.
    pub named_primary: Option<String>,
    pub primary: SocketAddr,
    pub listen: SocketAddr,
    pub smtp: &'a str,
    pub delivery: &'a str,
    pub rest: &'a str,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        // Port 9 discards, where anybody listens at all: a primary that is down.
        let (named_primary, primary, listen) = (None, loopback(9), loopback(0));
        Self { named_primary, primary, listen, smtp: "", delivery: "", rest: "" }
    }
}

/// Writes `stratamx.toml` into `directory`.
pub fn configure(directory: &Scratch, settings: &Settings<'_>) -> PathBuf {
    let path = directory.path("stratamx.toml");
    let Settings { named_primary, primary, listen, smtp, delivery, rest } = settings;
    let primary = named_primary.clone().unwrap_or_else(|| primary.to_string());
    let text = format!(
        "hostname = \"mx2.example.test\"\ndata_dir = \"{}\"\ncores = \"all\"\n[smtp]\nlisten = [\"{listen}\"]\n{smtp}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[storage]\nmin_free_space = \"16MiB\"\n[delivery]\nretry_interval = \"1s\"\n{delivery}\n\
         [[domain]]\nname = \"example.test\"\nprimary = [\"{primary}\"]\n{rest}\n",
        directory.path("data").display()
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

    /// Where its admin API listens.
    pub fn admin(&self) -> SocketAddr {
        let line = self.process.seen.iter().find(|line| line.contains("the admin API listens")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// `stratamx ARGUMENTS --json`, asked of this server, of which `directory` has the data.
    pub fn told(&self, directory: &Scratch, arguments: &[&str]) -> serde_json::Value {
        let token = fs::read_to_string(directory.path("data/admin-token")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
        command.args(arguments).args(["--json", "--url", &format!("http://{}", self.admin())]);
        let output = command.env("STRATAMX_TOKEN", token.trim()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// SIGTERM and the end; everything it logged.
    pub fn stop(mut self) -> Vec<String> {
        self.process.signal("-TERM");
        assert_eq!(self.process.wait(), Some(0), "{:#?}", self.process.tail());
        core::mem::take(&mut self.process.seen)
    }
}

/// An address on loopback with a port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    loopback(free_port())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
