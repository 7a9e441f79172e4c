//! The command line.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, value_parser};
use stratamx::config::unit::{parse_duration, parse_size};
use stratamx_tools::unit::{parse_rate, parse_share, parse_span};

use crate::arrivals::Spread;
use crate::dialog::{Content, StartTls, Toggle};
use crate::message::Sizes;

const AFTER_HELP: &str = "\
Loops: without --rate the loop is closed: each session sends its next message when the last one has its
  answer. With --rate it is open: messages are meant to be sent on a schedule, and latency counts from then,
  also while a message waits for a free session (no coordinated omission). Arrivals that find the queue full are
  dropped, counted, and a failure.

Sizes: realistic is log-normal, median 4.5 KiB, deviation of the logarithm 2.256, at most 25 MiB; fitted to
  published figures of a provider's mail.

Faults of --malformed, one a connection, in turn: early-talk, bad-sequence, nul, long-line, bare-line-feed.
  What a server refuses of them, and what it takes, is counted apart and is no failure.

TLS: certificates are not verified unless --tls-ca names authorities. Sessions are resumed.

Ledger: one JSON object a line for each acknowledged message: id, queue_id, session, mail_unix_us (the first
  MAIL for it), reply_unix_us, reverse_path, recipients, octets, crc32.

Check: stratamx-blaster --verify RECORD --ledger FILE
  Both as often as there are files; several records follow each other in time. A unit is
  a (message, recipient). Exit status 1 on a loss, an alteration or an inversion;
  duplicates are counted.

Exit status: 0 all was acknowledged (or sound), 1 something failed, 2 wrong usage.

Examples:
  stratamx-blaster --to 127.0.0.1:2525 --messages 5000 --sessions 20
  stratamx-blaster --rate 500/s --spread poisson --duration 1m --ramp 10s --sessions 200 --html report.html
  stratamx-blaster --size realistic --domains 200 --mailboxes 10000 --zipf 1.1 --starttls require";

/// An SMTP load generator that checks what became of every message that was acknowledged.
#[derive(Debug, Parser)]
#[command(name = "stratamx-blaster", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Server to send to
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    pub(crate) to: String,
    /// Send to a server that is not on loopback
    #[arg(long)]
    pub(crate) i_own_this_server: bool,
    /// Addresses of ours that sessions go out from, in turn
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    pub(crate) from_address: Vec<IpAddr>,

    /// Number of messages; 1000 unless --duration is given
    #[arg(long, help_heading = "How much")]
    pub(crate) messages: Option<u64>,
    /// Begin no message later than this
    #[arg(long, value_parser = parse_span, help_heading = "How much")]
    pub(crate) duration: Option<Duration>,
    /// Open loop: messages a second, as 500/s; also /min and /h
    #[arg(long, value_parser = parse_rate, help_heading = "How much")]
    pub(crate) rate: Option<f64>,
    /// With --rate: how arrivals are spread
    #[arg(long, value_enum, default_value = "constant", requires = "rate", help_heading = "How much")]
    pub(crate) spread: Spread,
    /// With --rate: arrivals that may wait for a free session
    #[arg(long, default_value_t = 10_000, requires = "rate", help_heading = "How much")]
    pub(crate) queue: usize,
    /// Sessions at the same time
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u64).range(1..=10_000), help_heading = "How much")]
    pub(crate) sessions: u64,
    /// Messages before a session ends and another begins; 0: never
    #[arg(long, default_value_t = 0, help_heading = "How much")]
    pub(crate) messages_per_session: u64,
    /// Sessions, or the rate, come up over this time
    #[arg(long, value_parser = parse_span, default_value = "0s", help_heading = "How much")]
    pub(crate) ramp: Duration,
    /// Threads; one a processor unless told
    #[arg(long, value_parser = value_parser!(u64).range(1..=256), help_heading = "How much")]
    pub(crate) threads: Option<u64>,

    /// Size of a message, a range such as 1KiB-64KiB, or realistic
    #[arg(long, default_value = "10KiB", value_parser = parse_sizes, help_heading = "What")]
    pub(crate) size: Sizes,
    /// Domain of the recipients
    #[arg(long, default_value = "example.test", help_heading = "What")]
    pub(crate) recipient_domain: String,
    /// Domains that the recipients are drawn from: d0001 and so on below the recipient domain; 1: that domain itself
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..), help_heading = "What")]
    pub(crate) domains: u64,
    /// Mailboxes that the recipients are drawn from
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u64).range(1..), help_heading = "What")]
    pub(crate) mailboxes: u64,
    /// Exponent of Zipf's law, by which domains and mailboxes are drawn; 0: each as likely
    #[arg(long, default_value_t = 0.0, help_heading = "What")]
    pub(crate) zipf: f64,
    /// Recipients of each message
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=1000), help_heading = "What")]
    pub(crate) recipients_per_message: u64,
    /// What the messages are made from, with their numbers
    #[arg(long, default_value_t = 1, help_heading = "What")]
    pub(crate) seed: u64,
    /// Name of the run in the ids; one that no other run has, if it is not given
    #[arg(long, help_heading = "What")]
    pub(crate) run: Option<String>,

    /// MAIL, RCPT and DATA in one group (RFC 2920)
    #[arg(long, value_enum, default_value = "auto", help_heading = "How")]
    pub(crate) pipelining: Toggle,
    /// How content travels (RFC 3030)
    #[arg(long, value_enum, default_value = "data", help_heading = "How")]
    pub(crate) data: Content,
    /// Transactions in flight in a session, where they go by BDAT in groups
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=1000), help_heading = "How")]
    pub(crate) window: u64,
    /// Secure sessions by STARTTLS; certificates are not verified without --tls-ca
    #[arg(long, value_enum, default_value = "off", help_heading = "How")]
    pub(crate) starttls: StartTls,
    /// Verify the server's certificate against these authorities (PEM)
    #[arg(long, value_name = "FILE", help_heading = "How")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// How long a message is tried again after a 4xx or a lost connection
    #[arg(long, default_value = "30s", value_parser = parse_span, help_heading = "How")]
    pub(crate) patience: Duration,
    /// How long a reply is awaited
    #[arg(long, default_value = "5m", value_parser = parse_duration, help_heading = "How")]
    pub(crate) reply_timeout: Duration,
    /// Part of the sessions whose senders drip
    #[arg(long, value_parser = parse_share, default_value = "0%", value_name = "N%", help_heading = "How")]
    pub(crate) slow: f64,
    /// Octets a second of each sender who drips
    #[arg(long, default_value = "2KiB", value_parser = parse_size, help_heading = "How")]
    pub(crate) slow_rate: u64,
    /// Part of the sessions whose senders break the rules
    #[arg(long, value_parser = parse_share, default_value = "0%", value_name = "N%", help_heading = "How")]
    pub(crate) malformed: f64,

    /// Write a line for each acknowledged message; with --verify: read them
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) ledger: Vec<PathBuf>,
    /// Print JSON, or write it to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with plots: one file, nothing is fetched
    #[arg(long, value_name = "FILE", conflicts_with = "verify", help_heading = "Results")]
    pub(crate) html: Option<PathBuf>,
    /// Write an HdrHistogram log (V2, deflated), a line a second; values in microseconds
    #[arg(long, value_name = "FILE", conflicts_with = "verify", help_heading = "Results")]
    pub(crate) hdr_log: Option<PathBuf>,

    /// Send nothing; check the record of a primary against the ledgers
    #[arg(long, value_name = "RECORD", requires = "ledger", help_heading = "Check")]
    pub(crate) verify: Vec<PathBuf>,
    /// With --verify: take id and checksum from the files that the sink kept, not from its record
    #[arg(long, value_name = "DIR", requires = "verify", help_heading = "Check")]
    pub(crate) keep: Option<PathBuf>,
}

impl Arguments {
    /// JSON goes to this file, beside the text on standard output.
    pub(crate) fn json_file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|_| !self.prints_json())
    }

    /// JSON goes to standard output.
    pub(crate) fn prints_json(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

/// `10KiB`, `1KiB-64KiB` or `realistic`.
fn parse_sizes(text: &str) -> Result<Sizes, String> {
    if text == "realistic" {
        return Ok(Sizes::Realistic);
    }
    let size = |text| parse_size(text).map_err(|error| format!("{text} {error}"));
    let (least, most) = match text.split_once('-') {
        Some((least, most)) => (size(least)?, size(most)?),
        None => (size(text)?, size(text)?),
    };
    let range: RangeInclusive<u64> = least..=most;
    if range.is_empty() { Err(format!("{text} is an empty range")) } else { Ok(Sizes::Range(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_a_range_or_realistic() {
        assert_eq!(parse_sizes("10KiB"), Ok(Sizes::Range(10_240..=10_240)));
        assert_eq!(parse_sizes("1KiB-2KiB"), Ok(Sizes::Range(1024..=2048)));
        assert_eq!(parse_sizes("realistic"), Ok(Sizes::Realistic));
        assert!(parse_sizes("2KiB-1KiB").is_err() && parse_sizes("large").is_err());
    }

    #[test]
    fn json_takes_a_file_or_none() {
        let parse =
            |words: &[&str]| Arguments::try_parse_from([&["stratamx-blaster"], words].concat()).unwrap();
        assert!(parse(&["--json"]).prints_json());
        assert!(parse(&["--json", "--sessions", "3"]).prints_json());
        assert_eq!(parse(&["--json", "file"]).json, Some(PathBuf::from("file")));
        assert!(!parse(&[]).prints_json());
    }

    #[test]
    fn addresses_are_a_list() {
        let words = ["stratamx-blaster", "--from-address", "127.0.0.2,::1"];
        assert_eq!(Arguments::try_parse_from(words).unwrap().from_address.len(), 2);
    }
}
