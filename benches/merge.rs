//! A domain's queue over several shard directories, in and out in stamp order; beside it a sort of all stamps.

mod common;

use common::sized;
use criterion::{BatchSize, Criterion, Throughput};
use storage::format::index_file::IndexEntry;
use storage::merge::Merge;
use storage::position::{Offset, SegmentId, ShardId, Stamp};
use storage::sim::Random;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    merge(&mut criterion);
    criterion.final_summary();
}

fn merge(criterion: &mut Criterion) {
    let entries = sized(100_000, 1_000);
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(entries as u64)).sample_size(20);
    for directories in [1, 4, 16] {
        let arrivals = arrivals_of(entries, directories);
        group.bench_function(format!("directories={directories}/entries={entries}"), |bencher| {
            bencher.iter(|| {
                let mut merge = Merge::default();
                for (shard, entry) in &arrivals {
                    merge.push(*shard, *entry);
                }
                let (mut count, mut last) = (0, Stamp::NONE);
                while let Some((_, entry)) = merge.pop_below(Stamp(u64::MAX)) {
                    assert!(entry.stamp > last, "in stamp order");
                    last = entry.stamp;
                    count += 1;
                }
                assert_eq!(count, entries, "all of them");
            });
        });
        group.bench_function(
            format!("baseline=sort/directories={directories}/entries={entries}"),
            |bencher| {
                let shuffled = || by_directory(&arrivals);
                bencher.iter_batched(
                    shuffled,
                    |mut all| {
                        all.sort_by_key(|(_, entry)| entry.stamp);
                        assert_eq!(all, arrivals);
                        all
                    },
                    BatchSize::LargeInput,
                );
            },
        );
    }
    group.finish();
}

/// Entries in stamp order, each in one of the directories.
fn arrivals_of(entries: usize, directories: u64) -> Vec<(ShardId, IndexEntry)> {
    let mut random = Random::new(1);
    let arrival = |stamp: u64| {
        let shard = ShardId(u16::try_from(random.below(directories)).expect("few directories"));
        (shard, IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 8 * stamp), 1088))
    };
    (1..=entries as u64).map(arrival).collect()
}

fn by_directory(arrivals: &[(ShardId, IndexEntry)]) -> Vec<(ShardId, IndexEntry)> {
    let mut all = arrivals.to_vec();
    all.sort_by_key(|(shard, _)| *shard);
    all
}
