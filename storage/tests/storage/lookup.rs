//! One domain out of an index: the right entries, or the word that the index cannot be believed; and little is read for it.

use super::node::*;
use storage::disk::{Block, Disk, File, write_whole};
use storage::format::index_directory::IndexHead;
use storage::format::index_entry::{ENTRY_OCTETS, chunk_octets};
use storage::format::index_file::{IndexEntry, SegmentIndex};
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::position::{Offset, Salt, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use storage::segment::lookup::lookup;
use storage::segment::{index_name, path};
use storage::sim::meter::MeteredDisk;
use storage::sim::{SimClock, SimDisk};

const SHARD: ShardId = ShardId(0);
const SEGMENT: SegmentId = SegmentId(7);
const SALT: Salt = Salt([9; 16]);

/// A segment without records, of which the index says that it holds `per_domain` messages of each of `domains`.
async fn disk_with(domains: usize, per_domain: usize) -> (SimDisk, SegmentIndex) {
    let disk = SimDisk::new(1, DISK_OCTETS);
    disk.create_directory("shard-00").await.unwrap();
    let header = SegmentHeader {
        purpose: Purpose::Mail,
        segment: SEGMENT,
        shard: SHARD,
        store: StoreId([1; 16]),
        salt: SALT,
        size: SEGMENT_OCTETS,
        created: UnixMillis(0),
        stamp_floor: Stamp(1),
        previous: None,
        key: None,
        sources: Vec::new(),
        others: Vec::new(),
    };
    let file = disk.create(&path(SHARD, Purpose::Mail, SEGMENT), SEGMENT_OCTETS).await.unwrap();
    let mut block = file.allocate(4096);
    block.as_mut().copy_from_slice(&header.encode());
    block.truncate(4096);
    file.write(block, 0).await.unwrap();
    let mut stamp = 0;
    let mut entry = |_| {
        stamp += 1;
        let mut entry = IndexEntry::new(Stamp(stamp), SEGMENT, Offset(4096 + 8 * stamp), 1088);
        entry.count = 1;
        entry
    };
    let mut of = |domain| (format!("domain-{domain:06}.test"), (0..per_domain).map(&mut entry).collect());
    let mut index = SegmentIndex { domains: (0..domains).map(&mut of).collect(), ..SegmentIndex::default() };
    index.last_stamp = Stamp((domains * per_domain) as u64);
    index.sort();
    let content = index.encode(SHARD, SEGMENT, &SALT);
    write_whole(&disk, "shard-00", &index_name(SEGMENT), &content).await.unwrap();
    (disk, index)
}

fn index_path() -> String {
    format!("shard-00/{}", index_name(SEGMENT))
}

#[test]
fn a_domain_is_found_by_a_few_small_reads_however_many_there_are() {
    for (domains, per_domain) in [(0, 0), (1, 1), (3, 2000), (40_000, 1)] {
        block_on(&SimClock::default(), async move {
            let (disk, index) = disk_with(domains, per_domain).await;
            let content = disk.content(&index_path()).unwrap();
            assert_eq!(SegmentIndex::decode(&content, SHARD, SEGMENT, &SALT), Some(index.clone()));
            let disk = MeteredDisk::new(disk);
            for (domain, entries) in index.domains.iter().step_by(domains / 50 + 1) {
                let found = lookup(&disk, SHARD, SEGMENT, domain).await.unwrap();
                assert_eq!(found.as_ref(), Some(entries), "{domain}");
                let meter = disk.take();
                let own = entries.len() * ENTRY_OCTETS;
                assert!(meter.octets_read < 45_000 + own as u64, "{domain}: {meter:?}");
                assert!(meter.reads <= 5, "{domain}: {meter:?}");
            }
            for other in ["", "a.test", "domain-000000.tes", "domain-000000.test.", "zzz.test"] {
                assert_eq!(lookup(&disk, SHARD, SEGMENT, other).await, Ok(Some(Vec::new())), "{other}");
            }
        });
    }
}

#[test]
fn what_a_lookup_reads_is_checked_and_nothing_else_matters() {
    block_on(&SimClock::default(), async {
        let (disk, index) = disk_with(3, 2).await;
        let (domain, entries) = &index.domains[1];
        let whole = disk.content(&index_path()).unwrap();
        let head = IndexHead::decode(&whole, SHARD, SEGMENT, &SALT).unwrap();
        let first = usize::try_from(head.entries_at()).unwrap();
        let own = first + 2 * ENTRY_OCTETS..first + 4 * ENTRY_OCTETS;
        for at in 0..whole.len() {
            disk.rot(&index_path(), at, &[whole[at] ^ 0x10]);
            let found = lookup(&disk, SHARD, SEGMENT, domain).await.unwrap();
            disk.rot(&index_path(), at, &whole[at..=at]);
            if at < first || own.contains(&at) {
                assert_eq!(found, None, "octet {at} was believed");
            } else {
                assert_eq!(found.as_ref(), Some(entries), "octet {at} is another's");
            }
        }
    });
}

#[test]
fn without_an_index_or_without_a_header() {
    block_on(&SimClock::default(), async {
        let (disk, index) = disk_with(3, 2).await;
        let (domain, entries) = &index.domains[2];
        disk.rot(&path(SHARD, Purpose::Mail, SEGMENT), 100, &[1]);
        let found = lookup(&disk, SHARD, SEGMENT, domain).await.unwrap();
        assert_eq!(found.as_ref(), Some(entries), "the index tells the salt of a lost header");
        disk.remove(&index_path()).await.unwrap();
        assert_eq!(lookup(&disk, SHARD, SEGMENT, domain).await, Ok(None));
        disk.remove(&path(SHARD, Purpose::Mail, SEGMENT)).await.unwrap();
        assert!(lookup(&disk, SHARD, SEGMENT, domain).await.is_err());
    });
}

#[test]
fn the_log_tells_what_the_chunks_of_a_message_take_and_where() {
    const CHUNK: usize = 100_000;
    let disk = SimDisk::new(3, DISK_OCTETS);
    let closing = live_on(&disk, 1, |node| async move {
        let (world, shard) = (World::default(), node.shards[0].clone());
        let mut arriving = Arriving::new(&shard, &world);
        for number in 0..4 {
            assert!(arriving.chunk(&data_of(number, CHUNK)).await);
        }
        assert!(arriving.close(&world, &["a@one.test", "b@two.test"], b"tail").await);
        let closing = shard.mail.active_segment().unwrap();
        node.fill(&shard, &world).await;
        closing
    });
    block_on(&SimClock::default(), async move {
        let content = disk.content(&format!("shard-00/{}", index_name(closing))).unwrap();
        let salt = SegmentIndex::salt_of(&content).unwrap();
        let index = SegmentIndex::decode(&content, SHARD, closing, &salt).unwrap();
        let chunk = chunk_octets(u32::try_from(CHUNK).unwrap());
        // A segment of 256 KiB takes two of them.
        let pinned: Vec<u64> = index.pins[0].segments.iter().map(|(_, octets)| *octets).collect();
        assert_eq!(pinned.iter().sum::<u64>() % chunk, 0);
        assert!(pinned.contains(&(2 * chunk)), "{pinned:?}");
        for (domain, entries) in &index.domains[..2] {
            let stored = entries[0].stored_octets() - u64::from(entries[0].frame_octets());
            assert_eq!(stored, (4 * chunk).next_multiple_of(4096), "{domain}");
            let found = lookup(&disk, SHARD, closing, domain).await;
            assert_eq!(found, Ok(Some(entries.clone())), "what the log wrote is found");
        }
    });
}
