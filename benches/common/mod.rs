//! What the benches share: a place on a real disk, an executor, a log with its tasks, messages, and a raw file to compare with.
//!
//! Without `--bench` (that is, under the test command) a bench runs once, small, for its answer only.
#![allow(dead_code, reason = "each bench is a program of its own and uses a part of this")]

pub(crate) mod raw;
pub(crate) mod server;

// What is measured has the rings of the server (`build.rs`).
use stratamx as _;

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::{Clock, SystemClock};
use storage::disk::Disk;
use storage::disk::dma::DmaDisk;
use storage::format::message::{DataFacts, Envelope, Extensions, Protocol};
use storage::format::segment_header::Purpose;
use storage::log::{Chore, Log, LogOptions, Message, Progress};
use storage::position::{QueueId, ShardId, UnixMillis};
use storage::reader::Reader;
use storage::store::{Chain, Opened, StoreOptions, open};

/// Octets of a segment, as the server has them by default.
pub(crate) const SEGMENT_OCTETS: u64 = 64 << 20;
/// Octets of a journal segment, as the server has them.
pub(crate) const JOURNAL_OCTETS: u64 = 4 << 20;
pub(crate) const SHARD: ShardId = ShardId(0);

/// Whether this run is for the answer only.
pub(crate) fn is_small() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// `full` for a measurement, `small` for a test.
pub(crate) fn sized(full: usize, small: usize) -> usize {
    if is_small() { small } else { full }
}

/// A fresh directory on the disk to be measured, gone with its value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let base = std::env::var_os("STRATAMX_BENCH_DIR").map_or_else(default_directory, PathBuf::from);
        let path = base.join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("STRATAMX_BENCH_DIR, or target/bench-data, can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn default_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs on an executor as a shard has it.
pub(crate) fn on_executor<T>(future: impl Future<Output = T>) -> T {
    const REGISTERED_MEMORY_OCTETS: usize = 3 << 20;
    let builder = glommio::LocalExecutorBuilder::default().io_memory(REGISTERED_MEMORY_OCTETS);
    builder.make().expect("io_uring and locked memory").run(future)
}

/// A store that is open, with a mail log, a journal and their tasks.
pub(crate) struct Node<D: Disk> {
    pub(crate) mail: Rc<Log<D, SystemClock>>,
    pub(crate) journal: Rc<Log<D, SystemClock>>,
    pub(crate) clock: SystemClock,
    tasks: Vec<glommio::Task<()>>,
}

pub(crate) fn store_options() -> StoreOptions {
    StoreOptions { shards: 1, journal_octets: JOURNAL_OCTETS, ..StoreOptions::default() }
}

/// The disk at `path`.
pub(crate) async fn disk_at(path: &Path) -> DmaDisk {
    DmaDisk::attach(path).await.expect("a disk with O_DIRECT")
}

impl<D: Disk> Node<D> {
    pub(crate) async fn start(disk: &D) -> (Self, Opened) {
        let clock = SystemClock::start();
        let opened = open(disk, &clock, &store_options()).await.expect("the store opens");
        let log = async |purpose, segment_octets, chain: Chain| {
            let options = LogOptions {
                purpose,
                shard: SHARD,
                store: opened.store.store,
                segment_octets,
                reserve_octets: 0,
                first_segment: chain.first,
                previous: chain.previous,
                unnamed: chain.unnamed,
                keys: Arc::default(),
                frontier: Arc::clone(&opened.frontier),
            };
            Rc::new(Log::open(disk.clone(), clock, options).await.expect("a log opens"))
        };
        let chains = opened.chains[0].clone();
        let mail = log(Purpose::Mail, SEGMENT_OCTETS, chains.mail).await;
        let journal = log(Purpose::Journal, JOURNAL_OCTETS, chains.journal).await;
        let mut tasks = Vec::new();
        for log in [&mail, &journal] {
            tasks.push(glommio::spawn_local(drive(Rc::clone(log))));
            tasks.push(glommio::spawn_local(housekeep(Rc::clone(log))));
        }
        (Self { mail, journal, clock, tasks }, opened)
    }

    /// Makes all durable and ends the tasks.
    pub(crate) async fn stop(self) {
        self.mail.close();
        self.journal.close();
        for task in self.tasks {
            task.await;
        }
    }

    /// `writers` tasks send `messages` in all, each its next one when the one before is durable. Returns the time of all.
    pub(crate) async fn send(
        &self,
        writers: usize,
        messages: usize,
        body: &Rc<[u8]>,
        mail: Addressing,
    ) -> Duration {
        let start = self.clock.now();
        let next = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (log, next, body) = (Rc::clone(&self.mail), Rc::clone(&next), Rc::clone(body));
                glommio::spawn_local(async move {
                    while next.get() < messages {
                        let number = next.replace(next.get() + 1);
                        send_one(&log, number as u64, &mail(number), &body).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        self.clock.now() - start
    }
}

/// The recipient of a message.
pub(crate) type Addressing = fn(usize) -> String;

/// All mail for one domain.
pub(crate) fn one_domain(_: usize) -> String {
    "user@one.test".to_owned()
}

/// Sends one message and waits until it is durable.
pub(crate) async fn send_one<D: Disk>(log: &Log<D, SystemClock>, number: u64, recipient: &str, body: &[u8]) {
    let octets = body.len() as u64;
    let facts = DataFacts { stored_octets: octets, unstuffed_octets: octets, ..DataFacts::default() };
    let envelope = Envelope {
        reverse_path: "sender@example.org",
        recipients: &[recipient],
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        helo: "client.example",
        protocol: Protocol::Esmtp,
        body_8bit: false,
        extensions: Extensions::NONE,
    };
    let message = Message {
        queue_id: QueueId(number),
        received: UnixMillis(1_767_225_600_000),
        envelope: &envelope,
        data: &facts,
        chunks: &[],
        trace: TRACE,
        tail: body,
    };
    let receipt = log.append_message(&message).await.expect("the log takes mail");
    receipt.ticket.await.expect("the disk works");
}

const TRACE: &[u8] =
    b"Received: from client.example ([127.0.0.1])\r\n\tby mx2.example.net with ESMTP\r\n\tid 00000000000000;\
    Thu, 01 Jan 2026 00:00:00 +0000\r\n";

/// `octets` of text lines.
pub(crate) fn body_of(octets: usize) -> Rc<[u8]> {
    const LINE: &[u8] = b"A line of mail as it comes, seventy-two octets long with its line ending.\r\n";
    LINE.iter().copied().cycle().take(octets).collect()
}

/// The answer of a write bench: a fresh open finds `messages`, and the first and the last of them as they were sent.
pub(crate) async fn check_queue<D: Disk>(disk: &D, messages: usize, body: &[u8]) {
    let opened = open(disk, &SystemClock::start(), &store_options()).await.expect("the store opens");
    assert_eq!(opened.messages, messages as u64, "every message that was acknowledged is queued");
    assert_eq!(opened.findings, [], "nothing is damaged");
    let reader = Reader::new(disk.clone(), opened.store.store, Arc::default());
    for backlog in opened.backlogs {
        let queued: Vec<_> = backlog.into_queued().collect();
        for queued in [queued.first(), queued.last()] {
            let entry = queued.expect("a backlog is not empty").entry;
            let frame = reader.read_entry(SHARD, &entry).await.expect("a record that can be read");
            assert_eq!(frame.message().expect("a message").tail, body, "what was sent");
        }
    }
}

async fn drive<D: Disk>(log: Rc<Log<D, SystemClock>>) {
    loop {
        match log.commit().await {
            Progress::Committed(commit) => log.release(commit),
            Progress::Rolled => {}
            Progress::Closed => return,
            Progress::Latched(segment, error) => unreachable!("{segment}: {error}"),
            Progress::Stopped(_, error) => unreachable!("{error}"),
        }
    }
}

async fn housekeep<D: Disk>(log: Rc<Log<D, SystemClock>>) {
    loop {
        match log.housekeep().await {
            Chore::Closed => return,
            Chore::Indexed(_) => {}
            Chore::Failed(error) => unreachable!("{error}"),
        }
    }
}
