//! A million queued messages: how long the store takes to open and what it keeps in memory, with none of them decided, all held, and
//! all settled but one; and what is read to pick one domain's mail out of them.

use crate::common::{Node, SHARD, Scratch, body_of, disk_at, on_executor, sized, store_options};
use crate::{Bar, Bound, MEMORY, median};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::{Clock, SystemClock};
use storage::disk::Disk;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::segment_header::Purpose;
use storage::log::Log;
use storage::position::Stamp;
use storage::reader::Reader;
use storage::segment::lookup::lookup;
use storage::segment::parse_name;
use storage::sim::meter::MeteredDisk;
use storage::store::{Backlog, Opened, open};

const MESSAGE_OCTETS: usize = 1 << 10;
/// Domains that share the queue, besides the one that has little mail.
const DOMAINS: usize = 10_000;
const PICKED: &str = "picked.test";
const PICKED_MESSAGES: usize = 10;
/// What a drain journals at a time, a block of 4 KiB.
const FACTS_A_COMMIT: usize = 8;
/// So many of these: 64 MiB of journal that no checkpoint has restated yet.
const SINGLE_COMMITS: usize = 16 * 1024;

fn messages() -> usize {
    sized(1_000_000, 1_000)
}

pub(crate) fn bars() -> Vec<Bar> {
    let scratch = Scratch::new("queue");
    fill(scratch.path());
    let mut bars = opened("undecided", scratch.path(), messages());
    bars.append(&mut pick(scratch.path()));
    decide(scratch.path(), Outcome::Held, 0);
    bars.append(&mut opened("held", scratch.path(), messages()));
    decide(scratch.path(), Outcome::Delivered, sized(SINGLE_COMMITS, 10));
    bars.append(&mut opened("settled above one stuck", scratch.path(), 1));
    bars
}

fn recipient(number: usize) -> String {
    if number.is_multiple_of(messages() / PICKED_MESSAGES) {
        return format!("user@{PICKED}");
    }
    format!("user@domain-{:05}.test", number % DOMAINS)
}

/// A store with the messages, left as a crash leaves it: the last segment has no index.
fn fill(path: &Path) {
    on_executor(async {
        let disk = disk_at(path).await;
        let (node, _) = Node::start(&disk).await;
        let time = node.send(512, messages(), &body_of(MESSAGE_OCTETS), recipient).await;
        println!("queue=filled messages={} seconds={:.1}", messages(), time.as_secs_f64());
        node.stop().await;
    });
}

/// Journals a fact about every message, the last of them as a drain does it; the very first one is never settled.
fn decide(path: &Path, outcome: Outcome, single_commits: usize) {
    on_executor(async {
        let disk = disk_at(path).await;
        let (node, opened) = Node::start(&disk).await;
        let all = opened.backlogs.into_iter().flat_map(Backlog::into_queued);
        let mut stamps: Vec<Stamp> = all.map(|queued| queued.entry.stamp).collect();
        stamps.sort_unstable();
        let stuck = usize::from(outcome != Outcome::Held);
        journal(&node.journal, &stamps[stuck..], outcome, single_commits).await;
        node.stop().await;
    });
}

async fn journal<D: Disk>(
    log: &Rc<Log<D, SystemClock>>,
    stamps: &[Stamp],
    outcome: Outcome,
    single_commits: usize,
) {
    let (densely, singly) = stamps.split_at(stamps.len() - single_commits * FACTS_A_COMMIT);
    for stamps in densely.chunks(1_000).chain(singly.chunks(FACTS_A_COMMIT)) {
        let facts: Vec<Fact> =
            stamps.iter().map(|stamp| Fact { stamp: *stamp, ordinal: 0, outcome, code: 0 }).collect();
        log.append_facts(&facts).await.expect("the journal takes facts").await.expect("the disk works");
    }
}

/// Opens the store several times; tells time and memory: of the first open, and the middle of all.
fn opened(state: &str, path: &Path, queued: usize) -> Vec<Bar> {
    // The first start reads what the life before left: a segment without an index, journals as they were written.
    let mut rounds: Vec<Round> = (0..sized(5, 1)).map(|_| open_round(path, queued)).collect();
    let first = rounds[0].seconds;
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    for round in &rounds {
        println!(
            "bar=open state={state:?} messages={} seconds={:.3} kept_octets={:.1} peak_octets={:.1} resident_octets={:.1}",
            messages(),
            round.seconds,
            round.kept,
            round.peak,
            round.resident
        );
    }
    let middle = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let name = |what: &str| format!("{what}, all {state}");
    vec![
        Bar::new(name("first open"), first, "s", Bound::Below(2.0)),
        Bar::new(name("open"), middle(|round| round.seconds), "s", Bound::Below(2.0)),
        Bar::new(name("kept a message"), middle(|round| round.kept), "octets", Bound::Below(64.0)),
        Bar::new(name("peak a message"), middle(|round| round.peak), "octets", Bound::None),
        Bar::new(name("resident a message"), middle(|round| round.resident), "octets", Bound::None),
    ]
}

/// One open; memory in octets a message.
struct Round {
    seconds: f64,
    kept: f64,
    peak: f64,
    resident: f64,
}

fn open_round(path: &Path, queued: usize) -> Round {
    on_executor(async {
        let disk = disk_at(path).await;
        let clock = SystemClock::start();
        let (memory, resident) = (MEMORY.current_usage(), resident_octets());
        MEMORY.reset_peak_usage();
        let start = clock.now();
        let opened = open(&disk, &clock, &store_options()).await.expect("the store opens");
        let seconds = (clock.now() - start).as_secs_f64();
        let a_message = |octets: usize| octets.saturating_sub(memory) as f64 / messages() as f64;
        let (kept, peak) = (a_message(MEMORY.current_usage()), a_message(MEMORY.peak_usage()));
        let resident = resident_octets().saturating_sub(resident) as f64 / messages() as f64;
        check(opened, queued);
        Round { seconds, kept, peak, resident }
    })
}

fn check(opened: Opened, queued: usize) {
    assert_eq!(opened.messages, queued as u64, "what is not settled is queued");
    assert_eq!(opened.findings, []);
    for backlog in opened.backlogs {
        let stamps: Vec<Stamp> = backlog.into_queued().map(|queued| queued.entry.stamp).collect();
        assert!(stamps.is_sorted(), "in order");
    }
}

/// Memory of this process that is resident, by what the system says.
fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux system");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has a second field");
    pages * 4096
}

/// Reads one domain's mail, from the first look at the directory to the last message.
fn pick(path: &Path) -> Vec<Bar> {
    on_executor(async {
        let disk = MeteredDisk::new(disk_at(path).await);
        let store =
            open(&disk, &SystemClock::start(), &store_options()).await.expect("the store opens").store.store;
        let _ = disk.take();
        let (clock, reader) = (SystemClock::start(), Reader::new(disk.clone(), store, Arc::default()));
        let start = clock.now();
        let (mut found, mut segments) = (0, 0);
        for name in disk.list(&SHARD.to_string()).await.expect("a shard") {
            let Some((Purpose::Mail, segment)) = parse_name(&name) else { continue };
            // The segments that a log has made and nothing was written to yet have no index.
            let Some(entries) = lookup(&disk, SHARD, segment, PICKED).await.expect("the disk works") else {
                continue;
            };
            segments += 1;
            for entry in entries {
                let frame = reader.read_entry(SHARD, &entry).await.expect("a record");
                let message = frame.message().expect("a message");
                assert_eq!(message.recipients, [format!("user@{PICKED}")]);
                assert_eq!(message.tail.len(), MESSAGE_OCTETS);
                found += 1;
            }
        }
        assert_eq!(found, PICKED_MESSAGES, "all of its mail, and only that");
        let meter = disk.take();
        println!(
            "bar=pick messages={} domains={DOMAINS} segments={segments} reads={} octets_read={} milliseconds={:.1}",
            messages(),
            meter.reads,
            meter.octets_read,
            (clock.now() - start).as_secs_f64() * 1e3
        );
        let mebi = meter.octets_read as f64 / f64::from(1 << 20);
        vec![Bar::new("read to pick 10 messages of one domain", mebi, "MiB", Bound::Below(1.0))]
    })
}
