//! `stratamx-sink`: a scripted primary. It accepts, defers, rejects, hangs, closes and dawdles by rule, over lines as slow as wanted,
//! and records what arrived, in order.
//!
//! ```text
//!   main: accepts, in turn --> Worker (worker) a thread: event loop      Record (record): one file, numbered under a lock
//!                                Connection (connection)  a transport, delay and pace (shaping)
//!                                  Session (session)  the server machine, and the rules that decide (rule)
//! ```
//! A server that is slower than what sends to it measures itself: so sessions are non-blocking, on a thread a processor, and what many of them
//! finish at one wake is one write to the record.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool uses the machine's clock, files and threads as they are"
)]

mod certificate;
mod connection;
mod record;
mod rule;
mod session;
mod shaping;
mod worker;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use mio::net::TcpStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};
use stratamx::smtp::server::ServerProfile;
use stratamx_tools::clock::Clock;
use stratamx_tools::machine::{processors, raise_open_files};
use stratamx_tools::unit::{parse_bandwidth, parse_span};

use crate::connection::Line;
use crate::record::Record;
use crate::rule::Rule;
use crate::session::Sink;
use crate::shaping::Pace;
use crate::worker::{Door, Worker};

/// Largest message that is taken.
const MESSAGE_OCTETS_MAX: u64 = 1 << 31;
/// Most recipients of one transaction.
const RECIPIENTS_MAX: u32 = 1000;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16_384;
/// What a kernel takes in advance on a line with a bandwidth: more would hide it.
const PACED_BUFFER_OCTETS: usize = 32 * 1024;
/// Pause where no connection can be accepted now.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

const RULES_HELP: &str = "\
Rules: STAGE[:CONDITION]...:ACTION, as often as you like; the first that matches decides.
  STAGE      connect    before the greeting
             mail, rcpt at that command
             body       when mail data begins
             data       at its end, before the reply
  CONDITION  from=GLOB, to=GLOB   the sender, a recipient; * stands for anything
             every=N, first=N, after=N
                        of those that match: every n-th, the first n, all behind the n-th
  ACTION     accept
             defer[=4xx], reject[=5xx]
             unknown    550 5.1.1, as for a recipient that does not exist
             hang       say nothing more, keep the connection
             close      without a word
             slow[=250ms|2s]  wait, then the next rules decide

Examples:
  --rule 'rcpt:to=bob@*:defer' --rule 'data:every=10:reject'
  --rule 'connect:first=3:close'

Lines: --delay is each way, so a round trip takes twice as long; --bandwidth is of what comes in, and the sender is
  held back by TCP. The handshake of TLS is not delayed.

Record: one JSON object a line for each transaction, in the file before its reply leaves.
  mail_sequence is the order in which the MAIL commands came; id and crc32 are of the
  message from its X-Blaster-Id field on; above names the fields on top of that one.";

/// A scripted primary for tests: takes mail by rule and records what arrived.
#[derive(Parser)]
#[command(name = "stratamx-sink", version, after_help = RULES_HELP)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one. The address is printed when the sink is ready
    #[arg(long, default_value = "127.0.0.1:2526")]
    listen: SocketAddr,
    /// Append one JSON line for each transaction
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep each accepted message, unstuffed, as NNNNNNNN.eml; the number is its sequence in the record
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// What to do other than accept; see below
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<Rule>,
    /// Do not offer this keyword of EHLO, as older servers do not
    #[arg(long = "without", value_name = "KEYWORD")]
    withheld: Vec<String>,
    /// Octets are there so much later than they left, each way; 25ms
    #[arg(long, value_parser = parse_span, default_value = "0ms")]
    delay: Duration,
    /// What comes in on each connection has this bandwidth; 10mbit, or a size a second
    #[arg(long, value_parser = parse_bandwidth)]
    bandwidth: Option<u64>,
    /// All connections together have this bandwidth
    #[arg(long, value_parser = parse_bandwidth)]
    bandwidth_total: Option<u64>,
    /// Offer STARTTLS, with a certificate that is made for this run unless one is given
    #[arg(long)]
    starttls: bool,
    /// The certificate and its chain (PEM); offers STARTTLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Threads; one a processor unless told
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Option<u64>,
    /// Name in the greeting
    #[arg(long, default_value = "sink.test")]
    hostname: String,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stratamx-sink: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends it.
fn run(arguments: Arguments) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    raise_open_files();
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(chain), Some(key)) => Some(certificate::from_files(chain, key)?),
        _ if arguments.starttls => Some(certificate::self_made(&arguments.hostname)?),
        _ => None,
    };
    let record = Record::open(arguments.record.as_deref(), arguments.keep)?;
    let profile = Arc::new(ServerProfile {
        hostname: arguments.hostname,
        max_message_size: MESSAGE_OCTETS_MAX,
        max_recipients: RECIPIENTS_MAX,
        starttls: tls.is_some(),
        withheld: arguments.withheld.iter().map(|keyword| keyword.to_ascii_uppercase()).collect(),
    });
    let is_paced = arguments.bandwidth.is_some() || arguments.bandwidth_total.is_some();
    let line = Arc::new(Line {
        delay: arguments.delay,
        bandwidth: arguments.bandwidth,
        total: arguments.bandwidth_total.map(Pace::new),
        tls,
    });
    let sink = Arc::new(Sink { profile, rules: arguments.rules, record });
    let listener = listen(arguments.listen, is_paced)?;
    let threads = arguments.threads.map_or_else(processors, |threads| usize::try_from(threads).unwrap_or(1));
    let clock = Clock::start();
    let mut doors = Vec::new();
    for _ in 0..threads {
        let (worker, door) = Worker::new(Arc::clone(&sink), Arc::clone(&line), clock)?;
        doors.push(door);
        thread::spawn(move || {
            if let Err(error) = worker.run() {
                // A record that cannot be written is none.
                eprintln!("stratamx-sink: {error}");
                std::process::exit(1);
            }
        });
    }
    let address =
        listener.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no internet address"))?;
    println!("{address}");
    io::stdout().flush()?;
    thread::spawn(move || accept(&listener, &doors));
    signals.forever().next();
    let _no_more_lines = sink.record.stop();
    Ok(())
}

fn listen(at: SocketAddr, is_paced: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if is_paced {
        socket.set_recv_buffer_size(PACED_BUFFER_OCTETS)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Gives each connection to a worker, in turn.
fn accept(listener: &Socket, doors: &[Arc<Door>]) {
    for number in 1.. {
        let entered = listener.accept().and_then(|(socket, _)| {
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            let door = &doors[usize::try_from(number).unwrap_or_default() % doors.len()];
            door.enter(number, TcpStream::from_std(socket.into()))
        });
        if let Err(error) = entered {
            eprintln!("session {number}: {error}");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}
