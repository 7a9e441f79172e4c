//! Opening a store with mail in it: with all indexes, which is a start after a crash of a minute ago, and without any, which is
//! what a scan of every segment costs.

mod common;

use common::{Node, SHARD, Scratch, body_of, disk_at, on_executor, sized, store_options};
use criterion::{Criterion, SamplingMode, Throughput};
use std::path::Path;
use std::time::Duration;
use storage::clock::{Clock, SystemClock};
use storage::disk::Disk;
use storage::store::open;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    recover(&mut criterion);
    criterion.final_summary();
}

fn recover(criterion: &mut Criterion) {
    let messages = sized(100_000, 200);
    let mut group = criterion.benchmark_group("recover");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(messages as u64));
    let mut scratch = None;
    for index in ["present", "missing"] {
        group.bench_function(format!("messages={messages}/size=1KiB/index={index}"), |bencher| {
            let scratch = scratch.get_or_insert_with(|| filled(messages));
            bencher.iter_custom(|iterations| {
                let runs = (0..iterations).map(|_| recover_run(scratch.path(), messages, index == "missing"));
                runs.sum()
            });
        });
    }
    group.finish();
}

fn filled(messages: usize) -> Scratch {
    let scratch = Scratch::new("recover");
    on_executor(async {
        let disk = disk_at(scratch.path()).await;
        let (node, _) = Node::start(&disk).await;
        let addressing = |number| format!("user@domain-{:03}.test", number % 100);
        node.send(256, messages, &body_of(1 << 10), addressing).await;
        node.stop().await;
    });
    scratch
}

fn recover_run(path: &Path, messages: usize, without_index: bool) -> Duration {
    on_executor(async {
        let disk = disk_at(path).await;
        if without_index {
            for name in disk.list(&SHARD.to_string()).await.expect("a directory") {
                if name.ends_with(".index") {
                    disk.remove(&format!("{SHARD}/{name}")).await.expect("a file");
                }
            }
        }
        let clock = SystemClock::start();
        let start = clock.now();
        let opened = open(&disk, &clock, &store_options()).await.expect("the store opens");
        let time = clock.now() - start;
        assert_eq!(opened.messages, messages as u64);
        assert_eq!(opened.findings, []);
        time
    })
}
