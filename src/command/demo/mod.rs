//! `stratamx demo`: an outage from end to end, in less than a minute, with nothing but this program.
//!
//! The mail server of example.test is down. Senders bring their mail to StrataMX, a process of its own; in the
//! middle it is killed with SIGKILL and started again, and the senders come back, as senders do. Then the mail
//! server returns and everything is handed over. The verdict compares what was promised with what arrived.

mod primary;
mod sender;
mod verdict;

use super::Exit;
use core::net::SocketAddr;
use core::sync::atomic::AtomicU32;
use core::time::Duration;
use indicatif::{ProgressBar, ProgressStyle};
use sender::Load;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use storage::clock::{Clock, SystemClock};
use verdict::{Promised, Verdict, judge};

const MESSAGES: u32 = 5_000;
const SESSIONS: usize = 8;
/// The server is killed when so many messages were acknowledged.
const KILL_AT: usize = 2_000;
/// Longest wait for any step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
#[must_use]
pub fn run() -> Exit {
    let directory = PathBuf::from(format!("stratamx-demo-{}", std::process::id()));
    let result = tell(&directory);
    // What is left of a demo is of no use to anybody; its log is, when it failed.
    match result {
        Ok(verdict) if verdict.holds() => {
            let _ = fs::remove_dir_all(&directory);
            Exit::Done
        }
        Ok(_) => {
            eprintln!("the server's log is in {}", directory.join("log").display());
            Exit::Failed
        }
        Err(error) => {
            eprintln!("stratamx demo: {error}; the server's log is in {}", directory.join("log").display());
            Exit::Failed
        }
    }
}

/// Tells the story and returns its verdict.
fn tell(directory: &Path) -> Result<Verdict, String> {
    let clock = SystemClock::start();
    let start = clock.now();
    fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    let (server, primary) = (free_address()?, free_address()?);
    let config = configure(directory, server, primary)?;
    eprintln!(
        "The mail server of example.test is down. {SESSIONS} senders bring {MESSAGES} messages to StrataMX."
    );
    let mut running = Running::start(&config, directory, server)?;
    let (promised, killed_at) = send(&mut running, server, clock)?;
    let sent = clock.now();
    eprintln!("The mail server is back. Within a second StrataMX notices.");
    let taken = hand_over(&promised, primary, clock)?;
    let drained = clock.now();
    running.stop()?;
    let verdict = judge(&promised, &taken);
    show(&verdict, killed_at, sent.saturating_sub(start), drained.saturating_sub(sent));
    Ok(verdict)
}

/// Everything is sent, over a kill and a restart; returns what was promised, and how much before the kill.
fn send(
    running: &mut Running,
    server: SocketAddr,
    clock: SystemClock,
) -> Result<(Vec<Promised>, usize), String> {
    let (told, heard) = channel();
    let load = Arc::new(Load { server, messages: MESSAGES, next: AtomicU32::new(0), clock });
    for _ in 0..SESSIONS {
        let (load, told) = (Arc::clone(&load), told.clone());
        thread::spawn(move || sender::run(&load, &told));
    }
    drop(told);
    let bar = progress(u64::from(MESSAGES), "taken");
    let mut promised = Vec::new();
    while let Some(promise) = next(&heard)? {
        promised.push(promise);
        bar.inc(1);
        if promised.len() == KILL_AT {
            bar.suspend(|| eprintln!("kill -9 after {KILL_AT} acknowledged messages, and a new start."));
            running.kill_and_restart()?;
        }
    }
    bar.finish();
    Ok((promised, KILL_AT))
}

/// The primary is back; returns what it was offered, in its order, once it has all that was promised.
fn hand_over(
    promised: &[Promised],
    address: SocketAddr,
    clock: SystemClock,
) -> Result<Vec<verdict::Taken>, String> {
    let (told, heard) = channel();
    let record = primary::start(address, clock, told).map_err(|error| error.to_string())?;
    let bar = progress(promised.len() as u64, "handed over");
    while bar.position() < promised.len() as u64 {
        match heard.recv_timeout(PATIENCE) {
            Ok(()) => bar.inc(1),
            // Then something is lost, and the verdict says so.
            Err(_) => break,
        }
    }
    // What arrives behind the last promised message: repeats, or mail that nobody was promised.
    while heard.recv_timeout(Duration::from_millis(500)).is_ok() {}
    bar.finish();
    let mut taken = record.lock().unwrap_or_else(PoisonError::into_inner).clone();
    taken.sort_by_key(|(order, _)| *order);
    Ok(taken.into_iter().map(|(_, taken)| taken).collect())
}

fn show(verdict: &Verdict, killed_at: usize, taking: Duration, handing_over: Duration) {
    let Verdict { promised, delivered, lost, altered, inverted, repeated } = verdict;
    let rows = [
        ("acknowledged by 250", promised.to_string()),
        ("  of these before the kill -9", killed_at.to_string()),
        ("arrived at the mail server", delivered.to_string()),
        ("lost", lost.to_string()),
        ("altered", altered.to_string()),
        ("out of order", inverted.to_string()),
        ("arrived twice (250 lost in the kill)", repeated.to_string()),
        ("seconds to take them", format!("{:.1}", taking.as_secs_f64())),
        ("seconds to notice and hand over", format!("{:.1}", handing_over.as_secs_f64())),
    ];
    println!();
    for (name, value) in rows {
        println!("{name:<38}{value:>8}");
    }
    let words = if verdict.holds() {
        "As if the outage had never happened."
    } else {
        "NOT AS PROMISED: please report this, with the log."
    };
    println!("\n{words}");
}

/// The server as a process of its own: what must survive a kill is tried by a kill.
struct Running {
    child: Child,
    config: PathBuf,
    directory: PathBuf,
    address: SocketAddr,
}

impl Running {
    fn start(config: &Path, directory: &Path, address: SocketAddr) -> Result<Self, String> {
        let child = Self::spawn(config, directory)?;
        let mut running = Self { child, config: config.to_owned(), directory: directory.to_owned(), address };
        running.wait_until_it_serves()?;
        Ok(running)
    }

    fn spawn(config: &Path, directory: &Path) -> Result<Child, String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log"));
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.map_err(|error| error.to_string())?);
        command.spawn().map_err(|error| error.to_string())
    }

    fn kill_and_restart(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| error.to_string())?;
        self.child = Self::spawn(&self.config, &self.directory)?;
        self.wait_until_it_serves()
    }

    fn wait_until_it_serves(&mut self) -> Result<(), String> {
        let tries = PATIENCE.as_millis() / 20;
        for _ in 0..tries {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended: {status}"));
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Err("the server does not serve".to_owned())
    }

    fn stop(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the server ended: {status}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An orderly stop has been waited for; this is for the story that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the demo's own, far from any core")]
fn configure(directory: &Path, server: SocketAddr, primary: SocketAddr) -> Result<PathBuf, String> {
    let path = directory.join("stratamx.toml");
    let text = format!(
        "hostname = \"mx2.demo\"\ndata_dir = \"{}\"\n[smtp]\nlisten = [\"{server}\"]\n[storage]\n\
         segment_size = \"4MiB\"\nmin_free_space = \"16MiB\"\n[delivery]\nretry_interval = \"1s\"\n\
         [admin]\nlisten = \"\"\n[[domain]]\nname = \"example.test\"\nprimary = [\"{primary}\"]\n",
        directory.join("data").display()
    );
    fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok(path)
}

fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

fn next<T>(heard: &Receiver<T>) -> Result<Option<T>, String> {
    match heard.recv_timeout(PATIENCE) {
        Ok(value) => Ok(Some(value)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => Err("the senders wait in vain".to_owned()),
    }
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos:>5} of {len} {msg}, {per_sec}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(what)
}
