//! The real server in a process of its own, and a client that checks every reply.
#![allow(clippy::disallowed_methods, reason = "what is measured is a process, by its files")]

use super::{Scratch, disk_at, on_executor, store_options};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use storage::clock::SystemClock;
use storage::store::open;

/// What the server calls itself.
pub(crate) const HOSTNAME: &str = "mx2.example.test";

/// A server with an empty queue, whose one primary is down. It ends with its value.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    scratch: Rc<Scratch>,
}

impl Server {
    /// `authentication`: SPF, DKIM and DMARC are asked for, of a name server that is not there.
    pub(crate) fn start(name: &str, authentication: bool) -> Self {
        Self::with_primary(name, authentication, "127.0.0.1:9")
    }

    /// With another primary, which is tried each second.
    pub(crate) fn with_primary(name: &str, authentication: bool, primary: &str) -> Self {
        let domain =
            format!("authenticate = {authentication}\nprimary = [\"{primary}\"]\nretry_interval = \"1s\"\n");
        Self::with_domain(name, &domain)
    }

    /// With these keys of its domain, example.test; what is not said is as by default.
    pub(crate) fn with_domain(name: &str, keys: &str) -> Self {
        Self::with_admin(name, keys, "")
    }

    /// And with an admin API there.
    pub(crate) fn with_admin(name: &str, keys: &str, admin: &str) -> Self {
        Self::at(Rc::new(Scratch::new(name)), keys, admin)
    }

    /// Where there may be a queue already, in `data`.
    pub(crate) fn at(scratch: Rc<Scratch>, keys: &str, admin: &str) -> Self {
        let text = format!(
            "hostname = \"{HOSTNAME}\"\ndata_dir = \"{}\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n\
             max_connections = 15000\nmax_connections_per_ip = 15000\n\
             rate = {{ connections_per_minute_per_ip = 0, messages_per_minute_per_ip = 0 }}\nxclient_from = [\"127.0.0.1\"]\n\
             [storage]\nmin_free_space = \"16MiB\"\n[[domain]]\nname = \"example.test\"\n{keys}\
             [admin]\nlisten = \"{admin}\"\n[dns]\nnameservers = [\"127.0.0.1:9\"]\n",
            scratch.path().join("data").display()
        );
        let config = scratch.path().join("stratamx.toml");
        fs::write(&config, text).expect("a scratch directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_stratamx"))
            .args(["serve", "--config"])
            .arg(&config)
            .env("RUST_LOG", "stratamx::command=info,warn")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server is built");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let line = lines.find(|line| {
            said.push(line.clone());
            line.contains("\"listening\"")
        });
        assert!(line.is_some(), "it does not listen: {said:#?}");
        let line = line.expect("looked at before");
        let line: serde_json::Value = serde_json::from_str(&line).expect("a log line");
        let address = line["address"].as_str().expect("an address").parse().expect("an address");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, scratch }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A field of /proc/PID/status in KiB.
    pub(crate) fn resident_kib(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a field of Linux");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// CPU time of its threads so far, in seconds (sched-stats: nanoseconds on a CPU).
    pub(crate) fn cpu_s(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let stat =
            |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).expect("Linux tells");
        let nanoseconds = |stat: String| stat.split(' ').next().and_then(|on_cpu| on_cpu.parse::<u64>().ok());
        let all = tasks.map(|task| nanoseconds(stat(task.expect("it runs"))).expect("a number")).sum::<u64>();
        all as f64 / 1e9
    }

    /// Ends it in order, as SIGTERM does.
    pub(crate) fn end(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").arg(pid).status().expect("a system with kill");
        assert!(told.success());
        assert!(self.child.wait().expect("it ends").success());
    }

    /// Kills it, and counts the messages that a start would find in its queue.
    pub(crate) fn into_queued(mut self) -> u64 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        on_executor(async {
            let disk = disk_at(&self.path("data")).await;
            let opened = open(&disk, &SystemClock::start(), &store_options()).await.expect("the store opens");
            opened.messages
        })
    }

    /// The highest resident memory so far is forgotten (proc(5), clear_refs).
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("our own process");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of what the client sends.
const LINE_OCTETS: usize = 72;

/// So many of them.
pub(crate) fn lines(count: usize) -> Vec<u8> {
    [&[b'x'; LINE_OCTETS - 2][..], b"\r\n"].concat().repeat(count)
}

/// See the module.
pub(crate) struct Client<S: Read> {
    reader: BufReader<S>,
}

impl Client<TcpStream> {
    pub(crate) fn connect(server: &Server) -> Self {
        Self::connect_to(server.address)
    }

    /// Of whatever server.
    pub(crate) fn connect_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut client = Self::over(stream);
        client.expect("220 ");
        client
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.into_inner()
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        // A small buffer: thousands of clients are alive at a time.
        Self { reader: BufReader::with_capacity(512, stream) }
    }

    pub(crate) fn into_inner(self) -> S {
        self.reader.into_inner()
    }

    /// Sends a line and reads the whole reply.
    pub(crate) fn say(&mut self, line: &str, expected: &str) {
        let stream = self.reader.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes()).expect("the server reads");
        stream.flush().expect("the server reads");
        self.expect(expected);
    }

    /// A message of this many octets, taken.
    pub(crate) fn send_message(&mut self, octets: usize) {
        self.send_message_to("b", octets);
    }

    /// The same to somebody.
    pub(crate) fn send_message_to(&mut self, name: &str, octets: usize) {
        self.say("MAIL FROM:<a@example.org>", "250 ");
        self.say(&format!("RCPT TO:<{name}@example.test>"), "250 ");
        self.say("DATA", "354 ");
        let block = lines(1000);
        let mut left = octets / LINE_OCTETS * LINE_OCTETS;
        while left > 0 {
            let part = &block[..left.min(block.len())];
            self.reader.get_mut().write_all(part).expect("the server reads");
            left -= part.len();
        }
        self.say(".", "250 ");
    }

    fn expect(&mut self, expected: &str) {
        let mut first = None;
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("the server answers");
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            let first = first.get_or_insert(line);
            if is_last {
                assert!(first.starts_with(expected), "{first:?}, not {expected:?}");
                return;
            }
        }
    }
}
