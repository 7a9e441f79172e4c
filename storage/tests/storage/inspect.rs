//! The read-only walk: what it tells of a directory that a real log made, what it finds in damaged ones, and that
//! nothing makes it panic or write.

use super::checker::open_on;
use super::disk_contract::{Scratch, on_glommio};
use super::failure::with_void;
use super::hazards::deliver_all;
use super::node::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::{Clock, SystemClock};
use storage::disk::Disk;
use storage::disk::dma::DmaDisk;
use storage::disk::plain::PlainDisk;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::message::{DataFacts, Envelope};
use storage::format::segment_header::Purpose;
use storage::inspect::{Directory, Filter, LogFile, Problem, Record};
use storage::log::{Log, LogOptions, Message, Progress};
use storage::position::{QueueId, ShardId, Stamp};
use storage::sim::{SimClock, SimDisk};
use storage::store::open;

const SEGMENT: &str = "shard-00/segment-00000001.log";
const RECIPIENTS: [&str; 3] = ["a@one.test", "b@one.test", "c@two.test"];

/// Drives a log to its end.
async fn drive<D: Disk, C: Clock>(log: &Log<D, C>) {
    loop {
        match log.commit().await {
            Progress::Committed(commit) => log.release(commit),
            Progress::Closed => return,
            other => panic!("{other:?}"),
        }
    }
}

/// Three messages, the last one with two chunks; a fact about the first.
async fn write<D: Disk, C: Clock>(mail: &Log<D, C>, journal: &Log<D, C>) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for number in 1..=3_u64 {
        let queue_id = QueueId::new(1, ShardId(0), number);
        let mut chunks = Vec::new();
        for part in 0..if number == 3 { 2 } else { 0 } {
            chunks.push(mail.append_chunk(queue_id, &data_of(part, 10_000)).await.unwrap());
        }
        let tail = data_of(number, 700);
        let stored_octets = 700 + chunks.len() as u64 * 10_000;
        let message = Message {
            queue_id,
            received: SystemClock::start().wall(),
            envelope: &Envelope { recipients: &RECIPIENTS, ..ENVELOPE },
            data: &DataFacts { stored_octets, ..DataFacts::default() },
            chunks: &chunks,
            trace: b"Received: by test\r\n",
            tail: &tail,
        };
        let receipt = mail.append_message(&message).await.unwrap();
        receipt.ticket.await.unwrap();
        stamps.push(receipt.stamp);
    }
    let fact = Fact { stamp: stamps[0], ordinal: 1, outcome: Outcome::Delivered, code: 250 };
    journal.append_facts(&[fact]).await.unwrap().await.unwrap();
    mail.close();
    journal.close();
    stamps
}

/// A directory on a real file system; with `sealed` it was opened once more, so that segment 1 has its index.
fn real_directory(scratch: &Scratch, sealed: bool) -> Vec<Stamp> {
    on_glommio(async {
        let disk = DmaDisk::attach(&scratch.0).await.unwrap();
        let clock = SystemClock::start();
        let opened = open(&disk, &clock, &store_options(1)).await.unwrap();
        let options = |purpose| LogOptions {
            purpose,
            shard: ShardId(0),
            store: opened.store.store,
            segment_octets: SEGMENT_OCTETS,
            reserve_octets: 0,
            first_segment: opened.chains[0].mail.first,
            previous: None,
            unnamed: Default::default(),
            keys: Arc::default(),
            frontier: Arc::clone(&opened.frontier),
        };
        let mail = Log::open(disk.clone(), clock, options(Purpose::Mail)).await.unwrap();
        let journal = Log::open(disk.clone(), clock, options(Purpose::Journal)).await.unwrap();
        let driven = futures_lite::future::zip(drive(&mail), drive(&journal));
        let (stamps, _) = futures_lite::future::zip(write(&mail, &journal), driven).await;
        if sealed {
            open(&disk, &clock, &store_options(1)).await.unwrap();
        }
        stamps
    })
}

fn walk_at(root: &Path) -> Directory<PlainDisk> {
    futures_lite::future::block_on(Directory::at(root.to_path_buf(), Arc::default())).unwrap()
}

fn records_of<D: Disk>(directory: &Directory<D>, filter: &Filter) -> Vec<Record> {
    let mut records = Vec::new();
    futures_lite::future::block_on(directory.records(filter, |record| records.push(record.clone()))).unwrap();
    records
}

/// Problems with one octet of a file flipped; it is put back.
fn flipped(root: &Path, path: &str, offset: usize) -> Vec<Problem> {
    let whole = fs::read(root.join(path)).unwrap();
    let mut damaged = whole.clone();
    damaged[offset] ^= 0x20;
    fs::write(root.join(path), &damaged).unwrap();
    let problems = walk_at(root).verify();
    fs::write(root.join(path), &whole).unwrap();
    problems
}

#[test]
fn a_clean_directory_is_shown_as_it_is() {
    for sealed in [false, true] {
        let scratch = Scratch::new(if sealed { "inspect-sealed" } else { "inspect-active" });
        let stamps = real_directory(&scratch, sealed);
        let directory = walk_at(&scratch.0);
        assert_eq!(directory.verify(), [], "sealed: {sealed}");
        let files: Vec<LogFile> = directory.files().cloned().collect();
        let mail = files.iter().find(|file| file.path == SEGMENT).unwrap();
        assert_eq!((mail.purpose, mail.header, mail.octets), ("mail", "ours", SEGMENT_OCTETS));
        assert_eq!((mail.frames, mail.messages, mail.units, mail.settled), (5, 3, 9, 1));
        assert_eq!((mail.first_stamp, mail.last_stamp), (stamps[0].0, stamps[2].0));
        assert_eq!(mail.index, if sealed { "valid" } else { "missing" });
        assert!(files.iter().any(|file| (file.purpose, file.units) == ("journal", 1)));
        let all = records_of(&directory, &Filter::default());
        let kinds: Vec<_> = all.iter().filter(|record| record.path == SEGMENT).map(|r| r.kind).collect();
        assert_eq!(kinds, ["message", "message", "chunk", "chunk", "message"]);
        let last = all.iter().rfind(|record| record.kind == "message").unwrap();
        assert_eq!((last.data_octets, last.reverse_path.as_deref()), (20_700, Some("sender@example.org")));
    }
}

#[test]
fn records_are_found_by_domain_and_queue_id() {
    let scratch = Scratch::new("inspect-filter");
    real_directory(&scratch, true);
    let directory = walk_at(&scratch.0);
    let by = |domain: Option<&str>, queue_id: Option<String>| {
        records_of(&directory, &Filter { domain: domain.map(str::to_owned), queue_id, ..Filter::default() })
    };
    assert_eq!(by(Some("ONE.test"), None).len(), 3);
    assert_eq!(by(Some("none.test"), None).len(), 0);
    let first = by(None, Some(QueueId::new(1, ShardId(0), 1).to_string()));
    let states: Vec<_> = first[0].recipients.iter().map(|recipient| recipient.state).collect();
    assert_eq!((first.len(), &states[..]), (1, &["queued", "delivered", "queued"][..]));
    assert_eq!(by(None, Some(QueueId::new(1, ShardId(0), 3).to_string())).len(), 3, "with its chunks");
    assert_eq!(by(None, Some("no id".to_owned())).len(), 0);
}

#[test]
fn a_flipped_octet_in_any_record_is_found_where_it_is() {
    for sealed in [false, true] {
        let scratch = Scratch::new(if sealed { "inspect-flip-sealed" } else { "inspect-flip" });
        real_directory(&scratch, sealed);
        for record in records_of(&walk_at(&scratch.0), &Filter::default()) {
            // A checkpoint has only facts that hold, whatever a crash would have made of them.
            let (start, octets) =
                (usize::try_from(record.offset).unwrap(), usize::try_from(record.octets).unwrap());
            for at in [start, start + 4, start + 20, start + 64, start + octets / 2 + 32] {
                if at >= start + octets - 8 {
                    continue;
                }
                let problems = flipped(&scratch.0, &record.path, at);
                let named = |problem: &Problem| {
                    problem.path == record.path && problem.offset.is_some_and(|offset| offset <= at as u64)
                };
                assert!(problems.iter().any(named), "{record:?} at {at}: {problems:?}");
            }
        }
    }
}

#[test]
fn damage_to_headers_indexes_and_identity_is_found() {
    let scratch = Scratch::new("inspect-headers");
    real_directory(&scratch, true);
    let root = &scratch.0;
    for offset in [0, 9, 30, 60, 4090] {
        let problems = flipped(root, SEGMENT, offset);
        assert!(problems.iter().any(|p| p.path == SEGMENT && p.offset == Some(0)), "{offset}: {problems:?}");
    }
    let index = "shard-00/segment-00000001.index";
    for offset in [0, 40, 80, 150] {
        let problems = flipped(root, index, offset);
        assert!(problems.iter().any(|problem| problem.path == index), "{offset}: {problems:?}");
    }
    let store = fs::read(root.join("store")).unwrap();
    fs::write(root.join("store"), [store[..4096].to_vec(), vec![1; 4096]].concat()).unwrap();
    assert_eq!(walk_at(root).verify(), [], "one slot is what a crash may tear");
    fs::write(root.join("store"), vec![1; 8192]).unwrap();
    assert_eq!(walk_at(root).verify().len(), 1, "the rest is read all the same");
    fs::write(root.join("store"), store).unwrap();
    fs::remove_file(root.join(SEGMENT)).unwrap();
    let problems = walk_at(root).verify();
    assert!(problems.iter().any(|problem| problem.path == SEGMENT), "{problems:?}");
    fs::rename(root.join("shard-00"), root.join("elsewhere")).unwrap();
    assert!(walk_at(root).verify().iter().any(|problem| problem.path == "shard-00"));
}

#[test]
fn records_behind_a_lost_header_are_read_with_the_salt_of_the_index() {
    let scratch = Scratch::new("inspect-salt");
    real_directory(&scratch, true);
    let mut content = fs::read(scratch.0.join(SEGMENT)).unwrap();
    content[..4096].fill(0);
    fs::write(scratch.0.join(SEGMENT), content).unwrap();
    let directory = walk_at(&scratch.0);
    assert_eq!(
        records_of(&directory, &Filter { domain: Some("one.test".to_owned()), ..Filter::default() }).len(),
        3
    );
    assert_eq!(directory.verify().len(), 1);
}

#[test]
fn the_walk_changes_nothing() {
    let scratch = Scratch::new("inspect-still");
    real_directory(&scratch, false);
    let state = || {
        let mut files = Vec::new();
        for directory in ["", "shard-00"] {
            for entry in fs::read_dir(scratch.0.join(directory)).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                let content = metadata.is_file().then(|| fs::read(entry.path()).unwrap());
                files.push((entry.path(), metadata.modified().unwrap(), content));
            }
        }
        files.sort();
        files
    };
    let before = state();
    let directory = walk_at(&scratch.0);
    let _ = directory.verify();
    records_of(&directory, &Filter::default());
    assert!(before == state(), "nothing was made, removed or written");
}

#[test]
fn what_was_never_acknowledged_is_shown_as_void_and_is_no_problem() {
    let (disk, _) = with_void();
    let directory = futures_lite::future::block_on(Directory::walk(disk.clone(), Arc::default())).unwrap();
    assert_eq!(directory.verify(), []);
    let all = records_of(&directory, &Filter::default());
    let states: Vec<_> = all.iter().flat_map(|record| &record.recipients).map(|r| r.state).collect();
    assert_eq!(states, ["queued", "void", "queued"]);
    assert_eq!(directory.files().map(|file| file.units).sum::<u64>(), 2);
    open_on(&disk, 1).unwrap();
    let directory = futures_lite::future::block_on(Directory::walk(disk, Arc::default())).unwrap();
    assert_eq!(directory.verify(), []);
}

/// A store with mail, facts, tallies and chunks in two shards, some of it unlinked.
pub(crate) fn busy_store() -> SimDisk {
    let disk = SimDisk::new(30, DISK_OCTETS);
    let world = World::default();
    for _ in 0..2 {
        live_on(&disk, 2, {
            let world = Rc::clone(&world);
            move |node| async move {
                for shard in &node.shards {
                    for size in [100, 20_000, 150_000] {
                        assert!(send(shard, &world, &RECIPIENTS, size, usize::from(size > 99_999) * 3).await);
                    }
                }
                deliver_all(&node, 1, &world).await;
                node.reclaim().await;
                assert!(send(&node.shards[0], &world, &RECIPIENTS, 150_000, 3).await);
                // The index of what was sealed last is written by another task.
                node.clock.sleep(Duration::from_secs(1)).await;
            }
        });
    }
    disk
}

#[test]
fn a_busy_store_is_clean() {
    let directory = futures_lite::future::block_on(Directory::walk(busy_store(), Arc::default())).unwrap();
    assert_eq!(directory.verify(), []);
    assert_eq!(directory.shards(), 2);
}

/// Octets that rot: which file, where in it, what stands there then, and how much of that.
type Rot = Vec<(prop::sample::Index, prop::sample::Index, [u8; 12], usize)>;

pub(crate) fn rot() -> impl Strategy<Value = Rot> {
    let place = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<[u8; 12]>(), 1..12_usize);
    proptest::collection::vec(place, 1..12)
}

/// A busy store in which these octets rot.
pub(crate) fn rotten(places: Rot) -> SimDisk {
    let disk = busy_store();
    let paths: Vec<_> = disk.paths();
    for (path, offset, octets, count) in places {
        let path = &paths[path.index(paths.len())];
        let length = disk.content(path).unwrap().len();
        // Most of a file is empty: half of the places lie in its front.
        let offset = offset.index(length) / if count % 2 == 0 { 1 } else { 16 };
        disk.rot(path, offset, &octets[..count.min(length - offset)]);
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_on_disk_makes_it_panic(
        places in rot(),
    ) {
        let disk = rotten(places);
        let directory = futures_lite::future::block_on(Directory::walk(disk.clone(), Arc::default())).unwrap();
        let _ = directory.verify();
        records_of(&directory, &Filter::default());
        // Recovery meets the same: it may refuse, it may not panic.
        let clock = SimClock::default();
        let _ = block_on(&clock.clone(), async move { open(&disk, &clock, &store_options(2)).await.is_ok() });
    }
}
