//! `stratamx-sink`: a scripted primary. It accepts, defers, rejects, hangs, closes and dawdles by rule, and
//! records what arrived, in order.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool uses the machine's clock, files and threads as they are"
)]

mod record;
mod rule;
mod session;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stratamx::smtp::server::ServerProfile;

use crate::record::Record;
use crate::rule::Rule;
use crate::session::{Sink, serve};

/// Stack of a session's thread: there may be thousands.
const STACK_OCTETS: usize = 256 * 1024;
/// Largest message that is taken.
const MESSAGE_OCTETS_MAX: u64 = 1 << 31;
/// Most recipients of one transaction.
const RECIPIENTS_MAX: u32 = 1000;

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

Record: one JSON object a line for each transaction, flushed before its reply leaves.
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
    let record = Record::open(arguments.record.as_deref(), arguments.keep)?;
    let profile = Arc::new(ServerProfile {
        hostname: arguments.hostname,
        max_message_size: MESSAGE_OCTETS_MAX,
        max_recipients: RECIPIENTS_MAX,
        starttls: false,
        withheld: arguments.withheld.iter().map(|keyword| keyword.to_ascii_uppercase()).collect(),
    });
    let sink = Arc::new(Sink { profile, rules: arguments.rules, record });
    let listener = TcpListener::bind(arguments.listen)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let shared = Arc::clone(&sink);
    thread::spawn(move || accept(&listener, &shared));
    signals.forever().next();
    let _no_more_lines = sink.record.stop();
    Ok(())
}

/// Gives each connection a thread.
fn accept(listener: &TcpListener, sink: &Arc<Sink>) {
    for (number, stream) in (1..).zip(listener.incoming()) {
        let sink = Arc::clone(sink);
        let session = move || match stream.and_then(|stream| serve(&sink, stream, number)) {
            Ok(()) => {}
            Err(error) => eprintln!("session {number}: {error}"),
        };
        if let Err(error) = thread::Builder::new().stack_size(STACK_OCTETS).spawn(session) {
            eprintln!("session {number}: no thread: {error}");
        }
    }
}
