//! A directory and a sink for one test, and the tools on them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use stratamx_tools::record::{Acknowledged, Arrival, read};

/// A directory and a sink that go away with the test.
pub(crate) struct Bench {
    /// Where the tools run.
    pub(crate) directory: PathBuf,
    /// The process.
    pub(crate) sink: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Bench {
    /// A sink with these rules.
    pub(crate) fn new(name: &str, rules: &[&str]) -> Self {
        let rules: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        Self::listening(name, "127.0.0.1:0", &rules)
    }

    /// A sink with these arguments.
    pub(crate) fn listening(name: &str, at: &str, arguments: &[&str]) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx-sink"));
        command.args(["--listen", at, "--record", "record", "--keep", "keep"]).args(arguments);
        let mut sink = command.current_dir(&directory).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(sink.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { directory, sink, address: address.trim().to_owned() }
    }

    /// Runs the blaster in the directory.
    pub(crate) fn blaster(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx-blaster"));
        command.args(arguments).current_dir(&self.directory).output().unwrap()
    }

    /// Sends a load; the arguments follow the usual ones.
    pub(crate) fn blast(&self, arguments: &[&str]) -> Output {
        let usual = ["--to", &self.address, "--ledger", "ledger", "--patience", "5s"];
        self.blaster(&[&usual, arguments].concat())
    }

    /// Checks the record against the ledger: exit status and JSON.
    pub(crate) fn verify(&self, arguments: &[&str]) -> (i32, serde_json::Value) {
        let usual = ["--verify", "record", "--ledger", "ledger", "--json"];
        let output = self.blaster(&[&usual, arguments].concat());
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The record.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        read(&self.directory.join("record")).unwrap()
    }

    /// The ledger.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        read(&self.directory.join("ledger")).unwrap()
    }

    /// Says each line, waits for a reply line to each, and gives the replies.
    pub(crate) fn converse(&self, lines: &[&str]) -> Vec<String> {
        let stream = TcpStream::connect(&self.address).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut heard = vec![replies.next().unwrap().unwrap()];
        for line in lines {
            (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
            heard.extend(replies.next().and_then(Result::ok));
        }
        heard
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.sink.kill();
        let _ = self.sink.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
