//! A primary's outage with real processes all around: real mail software sends, the server is killed in the
//! middle, a scripted or a real primary comes back. What the story builds on is tested first.

mod carried;
mod filtered;
mod greylisting;
mod makes;
mod naming;
mod proxy;

use super::harness::*;
use proxy::Proxy;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SOFTWARE: [Software; 3] = [Software::Smtplib, Software::SmtpSource, Software::Swaks];

#[test]
fn real_senders_try_again_until_everything_is_acknowledged() {
    let scratch = Scratch::new("senders");
    let record = scratch.path("record");
    // Before the data, behind the data without a reply (so that it comes twice), and by a 4xx.
    let rules = ["connect:first=3:close", "data:first=2:close", "data:first=2:defer", "rcpt:every=9:defer"];
    let sink = Primary::sink("127.0.0.1:0", &record, &rules);
    let ledgers = SOFTWARE.map(|software| {
        let ledger = scratch.path(&format!("{software:?}"));
        Sender::start(software, &sink.address, 20, 30, 1, &ledger).finish();
        ledger
    });
    sink.stop();
    let (is_sound, findings) = verify(&[&record], &ledgers.each_ref().map(|ledger| ledger.as_path()));
    assert!(is_sound, "{findings}");
    assert_eq!(findings["units"].as_u64(), Some(60));
}

#[test]
fn a_real_postfix_as_primary_records_what_arrived_in_order() {
    let scratch = Scratch::new("postfix");
    let (record, ledger) = (scratch.path("record"), scratch.path("ledger"));
    let listen = format!("127.0.0.1:{}", free_port());
    let postfix = Primary::postfix(&listen, &scratch.path("postfix"), &record);
    let ledger_text = ledger.to_str().unwrap();
    let blasted = blaster(&[
        "--to",
        &postfix.address,
        "--messages",
        "60",
        "--sessions",
        "2",
        "--mailboxes",
        "4",
        "--recipients-per-message",
        "2",
        "--size",
        "1KiB-30KiB",
        "--ledger",
        ledger_text,
    ]);
    assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
    let swaks = scratch.path("swaks");
    Sender::start(Software::Swaks, &postfix.address, 4, 30, 2, &swaks).finish();
    postfix.stop();
    let (is_sound, findings) = verify(&[&record], &[&ledger, &swaks]);
    assert!(is_sound, "{findings}");
    assert_eq!((findings["units"].as_u64(), findings["duplicates"].as_u64()), (Some(124), Some(0)));
    // The record is no mere copy of the ledger: what is taken out of it is missed.
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let (is_sound, findings) = verify(&[&record], &[&ledger, &swaks]);
    assert!(!is_sound && !findings["lost"].as_array().unwrap().is_empty(), "{findings}");
}

/// A number that decides the instant of the kill; printed, and given by STRATAMX_SEED to repeat a run.
fn seed() -> u64 {
    let given = std::env::var("STRATAMX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}; repeat: STRATAMX_SEED={seed} cargo nextest run -p stratamx outage");
    seed
}

/// An outage up to the return of the primary: the primary is down, 1,000 messages come from four kinds of
/// software, the server dies by SIGKILL when a byte that the seed chose has gone to it, and starts again; three
/// times, since one kill meets a given instant of a commit too rarely.
struct Outage {
    scratch: Scratch,
    primary: std::net::SocketAddr,
    server: Server,
    config: PathBuf,
    ledgers: Vec<PathBuf>,
}

/// What the senders send altogether, about; each kill falls into a third of it.
const OCTETS_ABOUT: u64 = 24 << 20;
const KILLS: u64 = 3;

impl Outage {
    fn until_the_primary_returns(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let (primary, listen) = (free_address(), free_address());
        let smtp = "max_connections_per_ip = 500";
        let config = configure(&scratch, &Settings { primary, listen, smtp, ..Settings::default() });
        let mut server = Server::start(&config);
        let seed = seed();
        let octets = |kill: u64| {
            let drawn = (seed + kill).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            OCTETS_ABOUT / KILLS / 10 + drawn % (OCTETS_ABOUT / KILLS * 8 / 10)
        };
        let proxy = Proxy::start(listen, octets(0));
        let to = proxy.address.to_string();
        let ledger = |name: &str| scratch.path(&format!("{name}.ledger"));
        let mut ledgers = vec![ledger("blaster")];
        let senders: Vec<Sender> =
            [(Software::Smtplib, 150), (Software::SmtpSource, 90), (Software::Swaks, 60)]
                .into_iter()
                .map(|(software, messages)| {
                    ledgers.push(ledger(&format!("{software:?}")));
                    Sender::start(software, &to, messages, 120, seed, ledgers.last().unwrap())
                })
                .collect();
        let blasting = {
            let (to, ledger) = (to.clone(), ledgers[0].clone());
            std::thread::spawn(move || {
                let load = ["--messages", "700", "--sessions", "6", "--size", "1KiB-64KiB"];
                let more = ["--recipients-per-message", "2", "--mailboxes", "20", "--patience", "120s"];
                let files = ["--to", &to, "--ledger", ledger.to_str().unwrap()];
                blaster(&[&files[..], &load[..], &more[..]].concat())
            })
        };
        for kill in 0..KILLS {
            proxy.wait_for_the_byte();
            server.process.kill();
            println!("killed {} octets after the start", octets(kill));
            server = Server::start(&config);
            proxy.open((kill + 1 < KILLS).then(|| octets(kill + 1)));
        }
        for sender in senders {
            sender.finish();
        }
        let blasted = blasting.join().unwrap();
        assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
        Self { scratch, primary, server, config, ledgers }
    }

    /// Units that were accepted over all starts: a message whose 250 a kill swallowed came again, and counts again.
    fn accepted(&self) -> u64 {
        let status = self.server.told(&self.scratch, &["status"]);
        status["domains"][0]["accepted"].as_u64().unwrap()
    }

    /// Waits until the server has handed over what it had, and given the space back.
    fn drained(&mut self) {
        self.server.process.wait_for("nothing is left to hand over");
        let end = Instant::now() + PATIENCE;
        let newest = |shard: &str| segments(&self.scratch.path("data").join(shard));
        while newest("shard-00").len() > 2 || newest("shard-01").len() > 2 {
            assert!(Instant::now() < end, "segments whose mail is all delivered are unlinked");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn verdict(&self, records: &[&Path]) -> (bool, Value) {
        let ledgers: Vec<&Path> = self.ledgers.iter().map(PathBuf::as_path).collect();
        verify(records, &ledgers)
    }
}

/// Names of the mail segments in a shard directory; none if there is no such shard.
fn segments(shard: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(shard) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("segment-") && name.ends_with(".log")).collect()
}

/// (message, recipient) units of an outage: the blaster's 700 messages have two recipients each.
const UNITS: u64 = 700 * 2 + 300;

#[test]
fn an_outage_with_a_kill_loses_nothing_and_the_checker_would_tell() {
    let mut outage = Outage::until_the_primary_returns("outage");
    let record = outage.scratch.path("record");
    let sink = Primary::sink(&outage.primary.to_string(), &record, &[]);
    outage.drained();
    sink.stop();
    let (is_sound, findings) = outage.verdict(&[&record]);
    assert!(is_sound, "{findings}");
    assert_eq!(findings["units"].as_u64(), Some(UNITS));
    the_checker_finds_what_is_planted(&outage, &record);
}

/// A checker that cannot fail is a defect: one loss, one alteration and one inversion in a record that was sound.
fn the_checker_finds_what_is_planted(outage: &Outage, record: &Path) {
    let sound: Vec<Value> =
        fs::read_to_string(record).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let planted = outage.scratch.path("planted");
    let find = |lines: &[Value], kind: &str| {
        let text: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(&planted, text.join("\n")).unwrap();
        let (is_sound, findings) = outage.verdict(&[&planted]);
        assert!(!is_sound && !findings[kind].as_array().unwrap().is_empty(), "{kind}: {findings}");
    };
    let middle = sound.len() / 2;
    find(&[&sound[..middle], &sound[middle + 1..]].concat(), "lost");
    let mut altered = sound.clone();
    altered[middle]["crc32"] = (altered[middle]["crc32"].as_u64().unwrap() ^ 1).into();
    find(&altered, "altered");
    let mut inverted = sound.clone();
    let last = sound.len() - 1;
    for (place, other) in [(0, last), (last, 0)] {
        inverted[place]["mail_sequence"] = sound[other]["mail_sequence"].clone();
    }
    find(&inverted, "inverted");
}

#[test]
fn an_outage_ends_at_a_real_postfix() {
    let mut outage = Outage::until_the_primary_returns("outage-postfix");
    let record = outage.scratch.path("record");
    let postfix = Primary::postfix(&outage.primary.to_string(), &outage.scratch.path("postfix"), &record);
    outage.drained();
    postfix.stop();
    let (is_sound, findings) = outage.verdict(&[&record]);
    assert!(is_sound, "{findings}");
    assert_eq!(findings["units"].as_u64(), Some(UNITS));
}

#[test]
fn a_kill_in_the_middle_of_the_drain_repeats_a_bounded_number() {
    let mut outage = Outage::until_the_primary_returns("outage-drain");
    let record = outage.scratch.path("record");
    let sink = Primary::sink(&outage.primary.to_string(), &record, &["data:slow=2ms"]);
    let end = Instant::now() + PATIENCE;
    while fs::read_to_string(&record).map_or(0, |text| text.lines().count()) < 200 {
        assert!(Instant::now() < end, "the drain does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    outage.server.process.kill();
    outage.server = Server::start(&outage.config);
    outage.drained();
    sink.stop();
    let (is_sound, findings) = outage.verdict(&[&record]);
    assert!(is_sound, "{findings}");
    // Each of the units came as often as it was accepted: what a killed server took without a word was sent again.
    let accepted = outage.accepted();
    let duplicates = findings["duplicates"].as_u64().unwrap();
    let repeated = duplicates.checked_sub(accepted - UNITS).expect("all that was accepted arrived");
    // P4: at most 16 messages, of two recipients at most.
    assert!(repeated <= 32, "{repeated} of {accepted}: {findings}");
}

/// What Postfix says of its sessions: how often each command came.
fn commands(log: &str, verb: &str) -> u32 {
    let lines = log.lines().filter(|line| line.contains(" disconnect from "));
    let counts =
        lines.flat_map(|line| line.split_ascii_whitespace()).filter_map(|word| word.strip_prefix(verb));
    counts.map(|count| count.split('/').next_back().unwrap().parse::<u32>().unwrap()).sum()
}

/// A drain in windows by BDAT, and one by DATA with each envelope behind the dot before it: Postfix gets every octet.
#[test]
fn a_real_postfix_takes_a_drain_by_chunks_or_with_envelopes_behind_dots() {
    for keyword in ["", "chunking"] {
        let scratch = Scratch::new(&format!("postfix-drain{keyword}"));
        let (primary, record, ledger) = (free_address(), scratch.path("record"), scratch.path("ledger"));
        let config = configure(&scratch, &Settings { primary, ..Settings::default() });
        let mut server = Server::start(&config);
        let to = server.address.to_string();
        let load = ["--messages", "120", "--sessions", "2", "--mailboxes", "9", "--size", "1KiB-60KiB"];
        let more = ["--recipients-per-message", "2", "--to", &to, "--ledger", ledger.to_str().unwrap()];
        let blasted = blaster(&[&load[..], &more[..]].concat());
        assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
        let directory = scratch.path("postfix");
        let postfix = Primary::postfix_without(keyword, &primary.to_string(), &directory, &record);
        server.process.wait_for("nothing is left to hand over");
        server.stop();
        postfix.stop();
        let (is_sound, findings) = verify(&[&record], &[&ledger]);
        assert!(is_sound, "{findings}");
        let units = (findings["units"].as_u64(), findings["duplicates"].as_u64());
        assert_eq!(units, (Some(240), Some(0)));
        let log = fs::read_to_string(scratch.path("record.log")).unwrap();
        let (chunks, data) = (commands(&log, "bdat="), commands(&log, "data="));
        assert_eq!(chunks > 100, keyword.is_empty(), "{chunks} BDAT, {data} DATA");
        assert_eq!(data >= 120, !keyword.is_empty(), "{chunks} BDAT, {data} DATA");
    }
}
