//! One domain out of the index of a sealed segment; beside it the whole index read and decoded.

mod common;

use common::{SHARD, Scratch, disk_at, on_executor, sized};
use criterion::Criterion;
use std::time::Duration;
use storage::clock::{Clock, SystemClock};
use storage::disk::dma::DmaDisk;
use storage::disk::{Block, Disk, File, read_whole, write_whole};
use storage::format::BLOCK_OCTETS;
use storage::format::index_file::{IndexEntry, SegmentIndex};
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::position::{Offset, Salt, SegmentId, Stamp, StoreId, UnixMillis};
use storage::segment::lookup::lookup;
use storage::segment::{index_name, path};

const SEGMENT: SegmentId = SegmentId(1);
const SALT: Salt = Salt([7; 16]);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    index_lookup(&mut criterion);
    criterion.final_summary();
}

fn index_lookup(criterion: &mut Criterion) {
    let entries = sized(50_000, 500);
    let mut group = criterion.benchmark_group("index");
    group.sample_size(20);
    for domains in [1, 100, entries] {
        for whole in [false, true] {
            let id = format!(
                "domains={domains}/entries={entries}/read={}",
                if whole { "whole" } else { "lookup" }
            );
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| lookup_run(domains, entries / domains, iterations, whole));
            });
        }
    }
    group.finish();
}

fn lookup_run(domains: usize, per_domain: usize, iterations: u64, whole: bool) -> Duration {
    let scratch = Scratch::new("index");
    on_executor(async {
        let disk = disk_at(scratch.path()).await;
        write_segment(&disk, domains, per_domain).await;
        let clock = SystemClock::start();
        let start = clock.now();
        for number in 0..iterations {
            let domain = name(usize::try_from(number).expect("a number") % domains);
            let found = if whole { by_whole(&disk, &domain).await } else { by_lookup(&disk, &domain).await };
            assert_eq!(found.len(), per_domain, "{domain}");
        }
        clock.now() - start
    })
}

async fn by_lookup(disk: &DmaDisk, domain: &str) -> Vec<IndexEntry> {
    lookup(disk, SHARD, SEGMENT, domain).await.expect("the disk works").expect("the index is right")
}

async fn by_whole(disk: &DmaDisk, domain: &str) -> Vec<IndexEntry> {
    let content =
        read_whole(disk, &format!("{SHARD}/{}", index_name(SEGMENT))).await.expect("the disk works");
    let index = SegmentIndex::decode(&content, SHARD, SEGMENT, &SALT).expect("the index is right");
    let place = index.domains.binary_search_by(|(name, _)| name.as_str().cmp(domain)).expect("it is there");
    index.domains[place].1.clone()
}

fn name(domain: usize) -> String {
    format!("domain-{domain:06}.test")
}

async fn write_segment(disk: &DmaDisk, domains: usize, per_domain: usize) {
    let directory = SHARD.to_string();
    disk.create_directory(&directory).await.expect("a directory");
    let header = SegmentHeader {
        purpose: Purpose::Mail,
        segment: SEGMENT,
        shard: SHARD,
        store: StoreId([1; 16]),
        salt: SALT,
        size: 1 << 20,
        created: UnixMillis(0),
        stamp_floor: Stamp(1),
        previous: None,
        key: None,
        sources: Vec::new(),
        others: Vec::new(),
    };
    let file = disk.create(&path(SHARD, Purpose::Mail, SEGMENT), header.size).await.expect("a segment");
    let mut block = file.allocate(BLOCK_OCTETS);
    block.truncate(BLOCK_OCTETS);
    block.as_mut().copy_from_slice(&header.encode());
    file.write(block, 0).await.expect("a header");
    let mut stamp = 0;
    let mut entry = |_| {
        stamp += 1;
        IndexEntry::new(Stamp(stamp), SEGMENT, Offset(4096 + 8 * stamp), 1088)
    };
    let mut of_domain = |domain| (name(domain), (0..per_domain).map(&mut entry).collect());
    let index =
        SegmentIndex { domains: (0..domains).map(&mut of_domain).collect(), ..SegmentIndex::default() };
    let content = index.encode(SHARD, SEGMENT, &SALT);
    write_whole(disk, &directory, &index_name(SEGMENT), &content).await.expect("an index");
}
