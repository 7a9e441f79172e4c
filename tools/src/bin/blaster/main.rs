//! `stratamx-blaster`: a load generator that remembers every 250, and a checker of what arrived.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool uses the machine's clock, files and threads as they are"
)]

mod connection;
mod load;
mod message;
mod report;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use stratamx::config::unit::{parse_duration, parse_size};
use stratamx_tools::fingerprint::Fingerprint;
use stratamx_tools::record::{self, Acknowledged, Arrival};

use crate::load::{Ledger, Load, run_name};
use crate::message::Plan;

const LEDGER_HELP: &str = "\
Ledger: one JSON object a line for each acknowledged message, written the moment that
  its 250 is there: id, queue_id, session, mail_unix_us (the first MAIL for it),
  reply_unix_us, reverse_path, recipients, octets, crc32.

Check: stratamx-blaster --verify RECORD --ledger FILE
  Both as often as there are files; several records follow each other in time. A unit is
  a (message, recipient). Exit status 1 on a loss, an alteration or an inversion;
  duplicates are counted.";

/// An SMTP load generator that checks what became of every message that was acknowledged.
#[derive(Debug, Parser)]
#[command(name = "stratamx-blaster", version, after_help = LEDGER_HELP)]
struct Arguments {
    /// Server to send to
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    to: String,
    /// Number of messages
    #[arg(long, default_value_t = 1000)]
    messages: u64,
    /// Sessions at the same time; each sends its next message when the last one has its answer
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    sessions: u64,
    /// Size of a message, or a range such as 1KiB-64KiB
    #[arg(long, default_value = "10KiB", value_parser = parse_sizes)]
    size: RangeInclusive<u64>,
    /// Domain of the recipients
    #[arg(long, default_value = "example.test")]
    recipient_domain: String,
    /// Recipients of each message
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    recipients_per_message: u64,
    /// Mailboxes that the recipients are drawn from
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    mailboxes: u64,
    /// Messages before a session ends and another begins; 0: never
    #[arg(long, default_value_t = 0)]
    messages_per_session: u64,
    /// How long a message is tried again after a 4xx or a lost connection
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    /// What the messages are made from, with their numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Name of the run in the ids; one that no other run has, if it is not given
    #[arg(long)]
    run: Option<String>,
    /// Write a line for each acknowledged message; with --verify: read them
    #[arg(long, value_name = "FILE")]
    ledger: Vec<PathBuf>,
    /// Send nothing; check the record of a primary against the ledgers
    #[arg(long, value_name = "RECORD", requires = "ledger")]
    verify: Vec<PathBuf>,
    /// With --verify: take id and checksum from the files that the sink kept, not from its record
    #[arg(long, value_name = "DIR", requires = "verify")]
    keep: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Send to a server that is not on loopback
    #[arg(long)]
    i_own_this_server: bool,
}

/// Why nothing was done: usage (2), or the attempt failed (1).
enum Problem {
    Usage(String),
    Failure(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.verify.is_empty() { blast(&arguments) } else { check(&arguments) };
    let problem = match done {
        Ok((output, is_good)) => match io::stdout().write_all(output.as_bytes()) {
            Ok(()) => return if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            Err(error) => Problem::Failure(error.to_string()),
        },
        Err(problem) => problem,
    };
    let (text, status) = match problem {
        Problem::Usage(text) => (text, 2),
        Problem::Failure(text) => (text, 1),
    };
    eprintln!("stratamx-blaster: {text}");
    ExitCode::from(status)
}

/// Sends the load. Good if every message was acknowledged for all of its recipients.
fn blast(arguments: &Arguments) -> Result<(String, bool), Problem> {
    let run = arguments.run.clone().unwrap_or_else(run_name);
    let plan = Plan {
        run: run.clone(),
        seed: arguments.seed,
        size: arguments.size.clone(),
        recipient_domain: arguments.recipient_domain.clone(),
        recipients_per_message: arguments.recipients_per_message,
        mailboxes: arguments.mailboxes,
    };
    let load = Load {
        to: target(&arguments.to, arguments.i_own_this_server)?,
        plan,
        messages: arguments.messages,
        sessions: arguments.sessions.min(arguments.messages.max(1)),
        messages_per_session: arguments.messages_per_session,
        patience: arguments.patience,
    };
    let ledger = match arguments.ledger.as_slice() {
        [] => Ledger::open(None),
        [path] => Ledger::open(Some(path)),
        _ => return Err(Problem::Usage("one --ledger can be written".to_owned())),
    };
    let ledger = ledger.map_err(|error| Problem::Failure(format!("ledger: {error}")))?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(load.messages).with_style(style);
    let totals = load.run(&ledger, &progress).map_err(|error| Problem::Failure(error.to_string()))?;
    progress.finish_and_clear();
    let is_good = totals.acknowledged == load.messages && totals.rejected == 0;
    Ok((report::load(&run, &totals, arguments.json), is_good))
}

/// The address to send to; strangers are not blasted.
fn target(to: &str, anywhere: bool) -> Result<SocketAddr, Problem> {
    let addresses = to.to_socket_addrs().map_err(|error| Problem::Usage(format!("--to {to}: {error}")))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let address = addresses.iter().find(|address| anywhere || address.ip().is_loopback());
    address
        .copied()
        .ok_or_else(|| Problem::Usage(format!("--to {to}: not on loopback; only with --i-own-this-server")))
}

/// Checks records against ledgers.
fn check(arguments: &Arguments) -> Result<(String, bool), Problem> {
    let mut ledger: Vec<Acknowledged> = Vec::new();
    for path in &arguments.ledger {
        ledger.append(&mut record::read(path).map_err(|error| Problem::Failure(error.to_string()))?);
    }
    let mut arrivals: Vec<Arrival> = Vec::new();
    for path in &arguments.verify {
        let later = record::read(path).map_err(|error| Problem::Failure(error.to_string()))?;
        append(&mut arrivals, later);
    }
    if let Some(directory) = &arguments.keep {
        if arguments.verify.len() > 1 {
            return Err(Problem::Usage("--keep belongs to one record".to_owned()));
        }
        for arrival in arrivals.iter_mut().filter(|arrival| arrival.accepted) {
            look_up(arrival, directory).map_err(|error| Problem::Failure(error.to_string()))?;
        }
    }
    let findings = verify::verify(&ledger, &arrivals);
    Ok((report::findings(&findings, arguments.json), findings.is_sound()))
}

/// Adds the record of a primary that came later: its sequences go on where the earlier ones end.
fn append(arrivals: &mut Vec<Arrival>, later: Vec<Arrival>) {
    let sequence = arrivals.iter().map(|arrival| arrival.sequence).max().unwrap_or_default();
    let mail_sequence = arrivals.iter().map(|arrival| arrival.mail_sequence).max().unwrap_or_default();
    arrivals.extend(later.into_iter().map(|arrival| Arrival {
        sequence: arrival.sequence + sequence,
        mail_sequence: arrival.mail_sequence + mail_sequence,
        ..arrival
    }));
}

/// Takes the fingerprint from the kept file.
fn look_up(arrival: &mut Arrival, directory: &Path) -> io::Result<()> {
    let path = directory.join(format!("{:08}.eml", arrival.sequence));
    let message =
        fs::read(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    let fingerprint = Fingerprint::of(&message);
    arrival.id = fingerprint.id;
    arrival.above = fingerprint.above;
    arrival.octets = fingerprint.octets;
    arrival.crc32 = fingerprint.crc32;
    Ok(())
}

/// `10KiB` or `1KiB-64KiB`.
fn parse_sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let size = |text| parse_size(text).map_err(|error| format!("{text} {error}"));
    let (least, most) = match text.split_once('-') {
        Some((least, most)) => (size(least)?, size(most)?),
        None => (size(text)?, size(text)?),
    };
    if least > most { Err(format!("{text} is an empty range")) } else { Ok(least..=most) }
}
