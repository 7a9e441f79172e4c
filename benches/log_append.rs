//! Appending mail, each message acknowledged when it is durable; beside it the naive way that needs no log: a file a message,
//! fsync, rename, fsync of the directory.

mod common;

use common::{Node, Scratch, body_of, check_queue, disk_at, is_small, on_executor, one_domain};
use criterion::{Criterion, SamplingMode, Throughput};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use storage::clock::{Clock, SystemClock};

const SIZES: [(&str, usize); 3] = [("1KiB", 1 << 10), ("10KiB", 10 << 10), ("100KiB", 100 << 10)];
const WRITERS: [usize; 3] = [1, 16, 256];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    naive(&mut criterion);
    criterion.final_summary();
}

/// Messages of one run: what is asked for, or enough for every writer where only the answer counts.
fn messages_of(iterations: u64, writers: usize) -> usize {
    if is_small() { 2 * writers } else { usize::try_from(iterations).expect("a number of messages") }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for (size, octets) in SIZES {
        for writers in WRITERS {
            group.throughput(Throughput::Bytes(octets as u64));
            group.bench_function(format!("sync=true/size={size}/writers={writers}"), |bencher| {
                bencher
                    .iter_custom(|iterations| append_run(writers, messages_of(iterations, writers), octets));
            });
        }
    }
    group.finish();
}

fn append_run(writers: usize, messages: usize, octets: usize) -> Duration {
    let scratch = Scratch::new("append");
    let body = body_of(octets);
    on_executor(async {
        let disk = disk_at(scratch.path()).await;
        let (node, _) = Node::start(&disk).await;
        let time = node.send(writers, messages, &body, one_domain).await;
        node.stop().await;
        check_queue(&disk, messages, &body).await;
        time
    })
}

fn naive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("naive");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    let (size, octets) = SIZES[1];
    for writers in [1, 16] {
        group.throughput(Throughput::Bytes(octets as u64));
        group.bench_function(format!("sync=true/size={size}/writers={writers}"), |bencher| {
            bencher.iter_custom(|iterations| naive_run(writers, messages_of(iterations, writers), octets));
        });
    }
    group.finish();
}

/// As many threads as writers, as a server with a process a session would have them.
fn naive_run(writers: usize, messages: usize, octets: usize) -> Duration {
    let scratch = Scratch::new("naive");
    let body = body_of(octets);
    let clock = SystemClock::start();
    let next = AtomicUsize::new(0);
    let start = clock.now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let body = body_of(octets);
                let directory = open_directory(scratch.path());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= messages {
                        return;
                    }
                    store_naively(scratch.path(), &directory, number, &body);
                }
            });
        }
    });
    let time = clock.now() - start;
    let mut stored = 0;
    for file in std::fs::read_dir(scratch.path()).expect("a directory") {
        let content = std::fs::read_to_string(file.expect("a name").path()).expect("a file");
        assert_eq!(content.as_bytes(), &body[..], "what was sent");
        stored += 1;
    }
    assert_eq!(stored, messages, "every message is there");
    time
}

fn store_naively(path: &Path, directory: &File, number: usize, body: &[u8]) {
    let (temporary, name) = (path.join(format!("tmp-{number}")), path.join(format!("msg-{number}")));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary).expect("a file");
    file.write_all(body).expect("a write");
    file.sync_all().expect("a sync");
    std::fs::rename(&temporary, &name).expect("a rename");
    directory.sync_all().expect("a sync of the directory");
}

fn open_directory(path: &Path) -> File {
    OpenOptions::new().read(true).open(path).expect("the directory")
}
