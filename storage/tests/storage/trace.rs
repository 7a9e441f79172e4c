//! The trace on the simulated disk: what a power cut takes of it, torn tails, encryption, space.

use super::node::{self, DISK_OCTETS};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use storage::crypt::Keys;
use storage::disk::Disk;
use storage::error::DiskError;
use storage::format::BLOCK_OCTETS;
use storage::format::journal_entry::Outcome;
use storage::format::segment_header::KeyMark;
use storage::format::trace::{Accepted, RowHeader, TraceHeader, TraceRow, TracedUnit, What};
use storage::position::{Offset, QueueId, Salt, ShardId, Stamp, StoreId, UnixMillis};
use storage::sim::disk::Faults;
use storage::sim::{SimClock, SimDisk};
use storage::trace::{Pending, ScanError, TraceFile, TraceJournal, TraceScan, files};

const STORE: StoreId = StoreId([7; 16]);
const SHARD: ShardId = ShardId(1);
const DAY: u32 = 20_780;

fn block_on(test: impl Future<Output = ()> + 'static) {
    node::block_on(&SimClock::default(), test);
}

fn row(number: u64) -> TraceRow {
    let what = if number.is_multiple_of(2) { What::Outcome(Outcome::Delivered) } else { What::Deferred };
    let unit = TracedUnit {
        ordinal: 3,
        what,
        code: 250,
        mailbox: format!("r{number}@a.test"),
        text: "2.0.0 ok".repeat(usize::try_from(number % 5).unwrap()),
    };
    TraceRow {
        stamp: Stamp(number),
        domain: "a.test".to_owned(),
        reverse_path: "s@b.test".to_owned(),
        host: Some("192.0.2.1:25".parse().unwrap()),
        is_redirected: false,
        is_aside: true,
        accepted: Some(Accepted {
            received_s: 0x0102_0304,
            size: 0x0506,
            client: "2001:db8::1".parse().unwrap(),
            helo: "b.test".to_owned(),
            tls: Some((0x0304, 0x1301)),
        }),
        units: vec![unit],
    }
}

fn pending(number: u64) -> Pending {
    let mut payload = Vec::new();
    row(number).encode(&mut payload);
    Pending { at: UnixMillis(1000 + number), queue_id: QueueId(number), payload }
}

fn keys(text: &str) -> Arc<Keys> {
    Arc::new(if text.is_empty() { Keys::default() } else { Keys::parse(text).unwrap() })
}

async fn disk() -> SimDisk {
    let disk = SimDisk::new(1, DISK_OCTETS);
    disk.create_directory(&SHARD.to_string()).await.unwrap();
    disk.sync_directory("").await.unwrap();
    disk
}

async fn journal(disk: &SimDisk, keys: &Arc<Keys>) -> TraceJournal<SimDisk> {
    TraceJournal::open(disk.clone(), SHARD, STORE, Arc::clone(keys)).await.unwrap()
}

async fn write(journal: &mut TraceJournal<SimDisk>, day: u32, numbers: core::ops::Range<u64>) {
    let rows: Vec<Pending> = numbers.map(pending).collect();
    let mut rest = &rows[..];
    while !rest.is_empty() {
        let written = journal.write(rest, day).await.unwrap();
        rest = &rest[written..];
    }
}

async fn read(disk: &SimDisk, keys: &Keys) -> Vec<u64> {
    let mut numbers = Vec::new();
    for file in files(disk, SHARD).await.unwrap() {
        // A file whose header was torn had nothing that was durable.
        let Ok(mut scan) = TraceScan::open(disk, keys, Some(STORE), &file, 0).await else { continue };
        while !scan.is_over() {
            let rows = scan.next(|found| {
                assert_eq!((found.queue_id.0, &found.row), (found.row.stamp.0, &row(found.row.stamp.0)));
                assert_eq!(found.at.0, 1000 + found.row.stamp.0);
                numbers.push(found.row.stamp.0);
                numbers.len() % 7 != 0
            });
            rows.await.unwrap();
        }
    }
    numbers
}

#[test]
fn rows_come_back_in_order_over_files_days_and_restarts() {
    for text in ["", "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"] {
        block_on(async move {
            let (disk, keys) = (disk().await, keys(text));
            let mut first = journal(&disk, &keys).await;
            assert_eq!(first.octets(), 0, "nothing is made before there is a row");
            write(&mut first, DAY, 0..3).await;
            first.sync().await.unwrap();
            write(&mut first, DAY, 3..5000).await;
            write(&mut first, DAY + 1, 5000..5010).await;
            drop(first);
            let mut second = journal(&disk, &keys).await;
            write(&mut second, DAY + 1, 5010..5020).await;
            assert_eq!(read(&disk, &keys).await, (0..5020).collect::<Vec<_>>());
            let all = files(&disk, SHARD).await.unwrap();
            assert_eq!((second.oldest_day(), all.len()), (Some(DAY), 4), "{all:?}");
            if !text.is_empty() {
                assert_eq!(read(&disk, &Keys::default()).await, [], "without its key it tells nothing");
                let octets = disk.content(&all[0].path()).unwrap();
                assert!(!octets.windows(6).any(|octets| octets == b"a.test"), "no name is readable");
            }
            assert!(second.remove_oldest().await.unwrap());
            assert!(second.octets() > 0 && read(&disk, &keys).await.len() < 5020);
        });
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_synced_and_leaves_nothing_that_is_not_ours() {
    for seed in 0..200 {
        block_on(async move {
            let disk = SimDisk::new(seed, DISK_OCTETS);
            disk.create_directory(&SHARD.to_string()).await.unwrap();
            disk.sync_directory("").await.unwrap();
            disk.set_faults(Faults { shear_one_in: Some(2), ..Faults::default() });
            let keys = keys("");
            let mut journal = journal(&disk, &keys).await;
            let mut next = 0;
            for step in 1..seed % 7 + 2 {
                write(&mut journal, DAY, next..next + step * 5).await;
                next += step * 5;
                journal.sync().await.unwrap();
            }
            let synced = next;
            for step in 1..seed % 5 {
                write(&mut journal, DAY, next..next + step * 9).await;
                next += step * 9;
            }
            let disk = disk.crash();
            let found = read(&disk, &keys).await;
            assert!(found.starts_with(&(0..synced).collect::<Vec<_>>()), "{seed}: {synced} of {found:?}");
            assert!(found.is_sorted() && found.iter().all(|number| *number < next), "{seed}");
        });
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_octet() {
    block_on(async {
        let (disk, keys) = (disk().await, keys(""));
        let mut journal = journal(&disk, &keys).await;
        write(&mut journal, DAY, 0..10).await;
        let path = files(&disk, SHARD).await.unwrap()[0].path();
        let whole = disk.content(&path).unwrap();
        let mut before = 0;
        for at in BLOCK_OCTETS..BLOCK_OCTETS + 2400 {
            let torn = disk.fork();
            torn.rot(&path, at, &vec![0; whole.len() - at]);
            let found = read(&torn, &keys).await;
            assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "{at}");
            assert!((before..before + 2).contains(&found.len()), "{at}: each row from its last octet on");
            before = found.len();
        }
        assert!(before > 5, "{before}");
    });
}

#[test]
fn a_failed_file_is_given_up_and_the_next_rows_have_another() {
    block_on(async {
        let (disk, keys) = (disk().await, keys(""));
        let mut journal = journal(&disk, &keys).await;
        write(&mut journal, DAY, 0..3).await;
        disk.set_faults(Faults { fail_call: Some(1), ..Faults::default() });
        assert!(matches!(journal.write(&[pending(3)], DAY).await, Err(DiskError::Io { .. })));
        write(&mut journal, DAY, 4..6).await;
        assert_eq!(files(&disk, SHARD).await.unwrap().len(), 2);
        let found = read(&disk, &keys).await;
        assert!(found.starts_with(&[0, 1, 2]) && found.ends_with(&[4, 5]), "{found:?}");
        assert_eq!(disk.syncs_after_failure(), 0);
    });
}

const HEADER: TraceHeader = TraceHeader {
    shard: ShardId(0x0102),
    number: 0x0304_0506,
    store: StoreId([0x50; 16]),
    salt: Salt([0xA0; 16]),
    day: 0x0007_0809,
    key: Some(KeyMark { key_id: 0x0A0B_0C0D, check: [0xC0; 16] }),
};

/// As in `format_golden`: `STRATAMX_GOLDEN=write` makes it again.
#[test]
fn every_octet_of_a_header_and_a_row_is_what_it_was() {
    let offset = Offset(BLOCK_OCTETS as u64);
    let mut whole = HEADER.encode();
    let row = pending(4);
    let header = RowHeader::new(&HEADER.seed(), offset, row.at, row.queue_id, &row.payload);
    header.encode(&mut whole);
    whole.extend_from_slice(&row.payload);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/storage/golden/trace.bin");
    if std::env::var("STRATAMX_GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, &whole).unwrap();
    }
    let golden = fs::read(&path).unwrap();
    assert_eq!(golden, whole);
    assert_eq!(TraceHeader::decode(&golden), Some(HEADER));
    for at in 0..76 {
        let mut damaged = golden.clone();
        damaged[at] ^= 1;
        assert_eq!(TraceHeader::decode(&damaged), None, "{at}");
    }
    let stored = &golden[BLOCK_OCTETS..];
    let is_row = |octets: &[u8], offset| {
        RowHeader::decode(octets).is_some_and(|header| header.is_of(&HEADER.seed(), offset, &octets[24..]))
    };
    assert!(is_row(stored, offset) && !is_row(stored, Offset(offset.0 + 8)), "it is valid in its place only");
    for at in 0..stored.len() {
        let mut damaged = stored.to_vec();
        damaged[at] ^= 0x40;
        assert!(!is_row(&damaged, offset), "{at}");
    }
}

#[test]
fn another_stores_file_and_another_name_are_not_believed() {
    block_on(async {
        let (disk, keys) = (disk().await, keys(""));
        let mut journal = journal(&disk, &keys).await;
        write(&mut journal, DAY, 0..1).await;
        let file = files(&disk, SHARD).await.unwrap()[0];
        let other = TraceScan::open(&disk, &keys, Some(StoreId([8; 16])), &file, 0).await;
        assert_eq!(other.err(), Some(ScanError::Header));
        let missing = TraceFile { number: 99, ..file };
        let error = TraceScan::open(&disk, &keys, None, &missing, 0).await.err();
        assert_eq!(error, Some(ScanError::Disk(DiskError::NotFound)));
    });
}
