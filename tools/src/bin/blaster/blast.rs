//! From the arguments to a load, and from what came of it to the reports that were asked for.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use stratamx_tools::clock::unix_us;
use stratamx_tools::draw::Zipf;
use stratamx_tools::machine::{processors, raise_open_files};

use crate::arguments::Arguments;
use crate::body::Texts;
use crate::dialog::{StartTls, Style};
use crate::ledger::Ledger;
use crate::message::Plan;
use crate::problem::{Outcome, Problem, ResultFile, on};
use crate::report::{self, Report, Setting};
use crate::secrecy::Secrecy;
use crate::shared::{Load, Pace};
use crate::watch::Watch;

/// Messages of a run that neither a number nor a time limits.
const MESSAGES: u64 = 1000;
/// Files that are open beside the connections.
const OTHER_FILES: u64 = 64;

/// Sends the load. Good if every message was acknowledged for all of its recipients.
pub(crate) fn blast(arguments: &Arguments) -> Result<Outcome, Problem> {
    let run = arguments.run.clone().unwrap_or_else(|| format!("{:x}", unix_us()));
    let load = prepare(arguments, &run)?;
    let path = match arguments.ledger.as_slice() {
        [] => None,
        [path] => Some(path.as_path()),
        _ => return Err(Problem::Usage("one --ledger can be written".to_owned())),
    };
    let ledger =
        Ledger::open(path).map_err(|error| Problem::of(path.unwrap_or(Path::new("ledger")), &error))?;
    let html = arguments.html.as_deref().map(ResultFile::create).transpose()?;
    let json = arguments.json_file().map(ResultFile::create).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the program where it is.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop)).map_err(failure)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failure)?;
    }
    let log = arguments.hdr_log.as_deref();
    let on_log = |error| on(log.unwrap_or(Path::new("log")), &error);
    let mut watch = Watch::new(&load, log).map_err(|error| Problem::Failure(on_log(error)))?;
    let totals = load.run(&ledger, &stop, &mut watch);
    let logged = watch.finish().map_err(on_log);
    let totals = totals.map_err(failure)?;
    let is_good = totals.counts.is_good() && !totals.is_interrupted && !totals.is_hopeless;
    let report =
        Report { run: &run, to: &arguments.to, totals: &totals, settings: settings(arguments, &load) };
    let text =
        if arguments.prints_json() { report::json::load(&report) } else { report::text::load(&report) };
    let written = [
        logged,
        html.map_or(Ok(()), |file| file.write(&report::html::page(&report))),
        json.map_or(Ok(()), |file| file.write(&report::json::load(&report))),
    ];
    Ok(Outcome { text, unwritten: written.into_iter().filter_map(Result::err).collect(), is_good })
}

fn failure(error: std::io::Error) -> Problem {
    Problem::Failure(error.to_string())
}

fn prepare(arguments: &Arguments, run: &str) -> Result<Load, Problem> {
    let to = target(&arguments.to, arguments.i_own_this_server)?;
    if let Some(other) = arguments.from_address.iter().find(|from| from.is_ipv4() != to.is_ipv4()) {
        return Err(Problem::Usage(format!("--from-address {other}: {to} cannot be reached from it")));
    }
    if !(0.0..=10.0).contains(&arguments.zipf) {
        return Err(Problem::Usage(format!("--zipf {}: an exponent is from 0 to 10", arguments.zipf)));
    }
    let all = usize::try_from(arguments.sessions).unwrap_or(usize::MAX);
    let (slow_sessions, malformed_sessions) = (share(arguments.slow, all), share(arguments.malformed, all));
    let sessions = all.saturating_sub(slow_sessions + malformed_sessions);
    if sessions == 0 {
        return Err(Problem::Usage(
            "--slow and --malformed leave no session for the load: raise --sessions".to_owned(),
        ));
    }
    let files = raise_open_files();
    if arguments.sessions + OTHER_FILES > files {
        let text = format!(
            "--sessions {}: this process may open {files} files; raise `ulimit -n`",
            arguments.sessions
        );
        return Err(Problem::Usage(text));
    }
    let default = if arguments.duration.is_some() { u64::MAX } else { MESSAGES };
    let messages = arguments.messages.unwrap_or(default);
    let host = arguments.to.rsplit_once(':').map_or(&*arguments.to, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secrecy =
        (arguments.starttls != StartTls::Off).then(|| Secrecy::new(host, arguments.tls_ca.as_deref()));
    let sessions = sessions.min(usize::try_from(messages.max(1)).unwrap_or(usize::MAX));
    let threads = arguments.threads.map_or_else(processors, |threads| usize::try_from(threads).unwrap_or(1));
    Ok(Load {
        to,
        from: arguments.from_address.clone(),
        plan: plan(arguments, run),
        style: Style {
            pipelining: arguments.pipelining,
            content: arguments.data,
            starttls: arguments.starttls,
        },
        secrecy: secrecy.transpose().map_err(|error| Problem::Usage(format!("TLS: {error}")))?,
        messages,
        duration: arguments.duration.unwrap_or(Duration::MAX),
        ramp: arguments.ramp,
        pace: match arguments.rate {
            Some(rate) => Pace::Open { rate, spread: arguments.spread, queue: arguments.queue },
            None => Pace::Closed,
        },
        sessions,
        slow_sessions,
        slow_rate: arguments.slow_rate,
        malformed_sessions,
        threads: threads.min(sessions),
        messages_per_session: arguments.messages_per_session,
        window: usize::try_from(arguments.window).unwrap_or(1),
        patience: arguments.patience,
        reply_timeout: arguments.reply_timeout,
    })
}

fn plan(arguments: &Arguments, run: &str) -> Plan {
    let pool = arguments.mailboxes.max(arguments.recipients_per_message);
    Plan {
        run: run.to_owned(),
        seed: arguments.seed,
        texts: Texts::new(arguments.seed, arguments.size.max()),
        sizes: arguments.size.clone(),
        recipient_domain: arguments.recipient_domain.clone(),
        recipients_per_message: arguments.recipients_per_message,
        mailboxes: Zipf::new(pool, arguments.zipf),
        pool,
        domains: (arguments.domains > 1).then(|| Zipf::new(arguments.domains, arguments.zipf)),
    }
}

/// At least one, where it is a part at all.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "sessions are few"
)]
fn share(part: f64, sessions: usize) -> usize {
    (part * sessions as f64).ceil() as usize
}

/// The address to send to; strangers are not blasted.
fn target(to: &str, anywhere: bool) -> Result<SocketAddr, Problem> {
    let addresses = to.to_socket_addrs().map_err(|error| {
        Problem::Usage(format!("--to {to}: {error}; as HOST:PORT, or [ADDRESS]:PORT for IPv6"))
    })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let address = addresses.iter().find(|address| anywhere || address.ip().is_loopback());
    address.copied().ok_or_else(|| {
        Problem::Usage(format!(
            "--to {to}: not on loopback; if the server is yours, and may be loaded, say --i-own-this-server"
        ))
    })
}

/// What the report says about how the run was made.
fn settings(arguments: &Arguments, load: &Load) -> Vec<Setting> {
    let mut settings = vec![
        ("server", load.to.to_string()),
        (
            "loop",
            match load.pace {
                Pace::Closed => "closed: a session sends when its last message is answered".to_owned(),
                Pace::Open { rate, spread, queue } => {
                    format!(
                        "open: {rate} messages/s, {}, queue of {queue}",
                        format!("{spread:?}").to_lowercase()
                    )
                }
            },
        ),
        ("sessions", load.sessions.to_string()),
        ("threads", load.threads.to_string()),
        (
            "size",
            match &arguments.size {
                crate::message::Sizes::Realistic => "realistic (log-normal, median 4.5 KiB)".to_owned(),
                crate::message::Sizes::Range(range) if range.start() == range.end() => {
                    format!("{} octets", range.start())
                }
                crate::message::Sizes::Range(range) => format!("{} to {} octets", range.start(), range.end()),
            },
        ),
        ("recipients", format!("{} a message", load.plan.recipients_per_message)),
        (
            "mailboxes",
            format!("{} (Zipf {2}), domains {1}", arguments.mailboxes, arguments.domains, arguments.zipf),
        ),
        ("pipelining", format!("{:?}", load.style.pipelining).to_lowercase()),
        ("content", format!("{:?}", load.style.content).to_lowercase()),
        ("STARTTLS", format!("{:?}", load.style.starttls).to_lowercase()),
        ("seed", arguments.seed.to_string()),
    ];
    let mut optional = |is_said: bool, name: &'static str, value: String| {
        if is_said {
            settings.push((name, value));
        }
    };
    optional(load.messages < u64::MAX, "messages", load.messages.to_string());
    optional(arguments.duration.is_some(), "duration", format!("{:?}", load.duration));
    optional(!load.ramp.is_zero(), "ramp", format!("{:?}", load.ramp));
    optional(load.messages_per_session > 0, "messages a session", load.messages_per_session.to_string());
    optional(load.window > 1, "window", load.window.to_string());
    optional(
        load.slow_sessions > 0,
        "slow sessions",
        format!("{} at {} octets/s", load.slow_sessions, load.slow_rate),
    );
    optional(load.malformed_sessions > 0, "malformed sessions", load.malformed_sessions.to_string());
    let from: Vec<String> = load.from.iter().map(ToString::to_string).collect();
    optional(!from.is_empty(), "from", from.join(", "));
    settings
}
