//! H13: a whole data directory, as a program of today leaves it, kept as octets. Every later program finds all of it: each
//! message with its data, what was decided about each unit, what authentication said, and the ledger of what is gone.
//!
//! `STRATAMX_GOLDEN=write-store` makes a new one, beside the older ones: these are never written again.

use super::checker::{check, read_back};
use super::hazards::promise_of;
use super::lost_files::assert_each_segment_is_told;
use super::node::*;
use super::upkeep::{checkpoint_all, compact_beside, hold};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::disk::{Block, Disk, File};
use storage::format::journal_entry::Authentication;
use storage::format::segment_header::SegmentHeader;
use storage::inspect::Directory;
use storage::position::SegmentId;
use storage::reader::Reader;
use storage::sim::disk::Faults;
use storage::sim::{SimClock, SimDisk};
use storage::store::{Opened, Queued, StoreOptions, open};

const SHARDS: u16 = 2;
/// Small, and large enough for a rewrite to be worth it.
const MAIL_OCTETS: u64 = 80 << 10;
/// What stands in it, a line for each message's units in one domain.
const CONTENTS: &str = "contents.txt";

fn options() -> StoreOptions {
    StoreOptions { journal_octets: 16 << 10, ..store_options(SHARDS) }
}

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/storage/golden")
}

/// Takes some of everything, and does some of everything with it.
async fn story(node: Node, world: World) {
    let [first, second] = [&node.shards[0], &node.shards[1]];
    let both = ["a@one.test", "b@two.test"];
    for (shard, octets, chunks) in [(first, 900, 0), (second, 0, 0), (first, 9_000, 2), (second, 3_000, 0)] {
        assert!(send(shard, &world, &both, octets, chunks).await);
    }
    // A batch that fails, and its void.
    node.disk.set_faults(Faults { fail_call: Some(2), ..Faults::default() });
    assert!(!send(first, &world, &both, 100, 0).await);
    node.disk.set_faults(Faults::default());
    node.clock.sleep(Duration::from_secs(5)).await;
    node.deliver(first, &world, &promise_of(&world, 1), 0).await;
    assert!(hold(&node, first, &world, (promise_of(&world, 2).stamp, 1), true).await);
    // Sparse segments, and one of which nothing is left.
    let begin = world.borrow().next_number + 1;
    for _ in 0..24 {
        assert!(send(first, &world, &["c@three.test"], 9_000, 0).await);
    }
    node.clock.sleep(Duration::from_secs(5)).await;
    for number in (begin..begin + 24).filter(|number| number % 7 != 0) {
        node.deliver(second, &world, &promise_of(&world, number), 0).await;
    }
    node.reclaim().await;
    assert!(checkpoint_all(&node, &world).await);
    let beside = async |_| assert!(send(first, &world, &both, 2_000, 0).await);
    let sources = compact_beside(&node, first, &world, beside).await;
    assert!(!sources.is_empty(), "nothing was sparse");
    // Behind the checkpoint, in journals that are not restated.
    let verdict = Authentication { stamp: promise_of(&world, 4).stamp, bits: 0b1_1101_1011 };
    second.journal.append_authentications(None, &[verdict]).await.unwrap().await.unwrap();
    node.deliver(second, &world, &promise_of(&world, 4), 0).await;
    node.clock.sleep(Duration::from_secs(5)).await;
}

/// What a start finds, in lines.
async fn contents(disk: &SimDisk, opened: &Opened) -> String {
    let reader = Reader::new(disk.clone(), opened.store.store, Default::default());
    let mut lines = Vec::new();
    for backlog in &opened.backlogs {
        let domain = &backlog.domain;
        for queued in backlog.clone().into_queued() {
            let read = read_back(&reader, backlog.shard, &queued.entry).await.unwrap();
            let (number, octets) = (read.queue_id.0, read.data.len());
            assert_eq!(read.data, data_of(number, octets), "message {number} is altered");
            let Queued { authentication, .. } = queued;
            let held: Vec<u16> = queued.held_units().map(|known| known.fact.ordinal).collect();
            let recipients = read.recipients.join(",");
            lines.push(format!(
                "{number:02} {domain}: to {recipients}, {octets} octets, open {:?}, held {held:?}, authentication {authentication:#x}",
                queued.open_units()
            ));
        }
    }
    for (shard, ledger) in opened.shelves.iter().flat_map(storage::shelf::Shelf::ledgers) {
        let row = |row: &storage::format::tally::TallyRow| {
            format!("gone from {shard} {}: {} accepted, ended {:?}", row.domain, row.accepted, row.ended)
        };
        lines.extend(ledger.rows.iter().map(row));
    }
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A disk with the files of a directory.
fn mounted(root: &Path) -> SimDisk {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inside = fs::read_dir(entry.path()).unwrap().map(|entry| entry.unwrap());
            files.extend(inside.map(|entry| (Some(name.clone()), entry.path())));
        } else if name != CONTENTS {
            files.push((None, entry.path()));
        }
    }
    block_on(&SimClock::default(), {
        let disk = disk.clone();
        async move {
            for (directory, path) in files {
                if let Some(directory) = &directory {
                    disk.create_directory(directory).await.unwrap();
                }
                let name = path.file_name().unwrap().to_str().unwrap();
                let name =
                    directory.map_or_else(|| name.to_owned(), |directory| format!("{directory}/{name}"));
                let octets = fs::read(path).unwrap();
                let file = disk.create(&name, octets.len() as u64).await.unwrap();
                let mut block = file.allocate(octets.len());
                block.truncate(octets.len());
                block.as_mut().copy_from_slice(&octets);
                file.write(block, 0).await.unwrap();
            }
        }
    });
    disk
}

fn opened_contents(disk: &SimDisk) -> (Opened, String) {
    let disk = disk.clone();
    block_on(&SimClock::default(), async move {
        let opened = open(&disk, &SimClock::default(), &options()).await.unwrap();
        let contents = contents(&disk, &opened).await;
        (opened, contents)
    })
}

fn write_new() {
    let disk = SimDisk::new(70, DISK_OCTETS);
    let world = World::default();
    let shape = Shape { mail_octets: MAIL_OCTETS, ..Shape::from(&options()) };
    live_in_shape(&disk, shape, {
        let world = Rc::clone(&world);
        move |node| story(node, world)
    });
    let wrong = block_on(&SimClock::default(), {
        let (disk, world) = (disk.fork(), Rc::clone(&world));
        async move {
            let opened = open(&disk, &SimClock::default(), &options()).await.unwrap();
            check(&disk, &opened, &world).await
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
    let newest = fs::read_dir(goldens()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    let root = goldens().join(format!("store-{:02}", newest.count() + 1));
    for path in disk.paths() {
        let file = root.join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, disk.content(&path).unwrap()).unwrap();
    }
    fs::write(root.join(CONTENTS), opened_contents(&disk.fork()).1).unwrap();
}

#[test]
fn h13_every_golden_store_is_read_whole() {
    if std::env::var("STRATAMX_GOLDEN").as_deref() == Ok("write-store") {
        write_new();
    }
    let stores = fs::read_dir(goldens()).unwrap().map(|entry| entry.unwrap().path());
    let stores: Vec<PathBuf> = stores.filter(|path| path.is_dir()).collect();
    assert!(!stores.is_empty());
    for root in stores {
        let expected = fs::read_to_string(root.join(CONTENTS)).unwrap();
        assert!(expected.lines().count() >= 8, "{expected}");
        let disk = mounted(&root);
        let told = block_on(&SimClock::default(), {
            let disk = disk.clone();
            async move {
                let directory = Directory::walk(disk, Default::default()).await.unwrap();
                (directory.verify(), directory.audit())
            }
        });
        assert_eq!(told.0, [], "{root:?}");
        assert!(told.1.balances(), "{root:?}: {:?}", told.1);
        // As it is, and as this program has restated it.
        for _ in 0..2 {
            let (opened, found) = opened_contents(&disk);
            assert_eq!(opened.findings, [], "{root:?}");
            assert_eq!(found, expected, "{root:?}");
        }
    }
}

/// The first of them is of a program that named a segment once: of one whose namer is gone only a start of today tells the next
/// header, and from then on each is missed.
#[test]
fn a_segment_of_the_golden_store_that_vanishes_is_told_once_a_life_was_begun_on_it() {
    let disk = mounted(&goldens().join("store-01"));
    let mail = disk.paths().into_iter().filter(|path| path.contains("segment-") && path.ends_with(".log"));
    let mail: Vec<String> = mail.collect();
    let names = |disk: &SimDisk, number: u32| {
        let headers = disk.paths().into_iter().filter(|path| path.starts_with("shard-00/segment-"));
        let headers = headers.filter(|path| path.ends_with(".log"));
        let headers = headers.map(|path| SegmentHeader::decode(&disk.content(&path).unwrap()).unwrap());
        let named: Vec<SegmentId> = headers.flat_map(|header| header.before().collect::<Vec<_>>()).collect();
        named.contains(&SegmentId(number))
    };
    assert!(!names(&disk, 2), "its namer is gone");
    let shape = Shape { mail_octets: MAIL_OCTETS, ..Shape::from(&options()) };
    live_in_shape(&disk, shape, |node| async move { drop(node) });
    assert!(names(&disk, 2));
    let mail: Vec<String> = mail.into_iter().filter(|path| disk.content(path).is_some()).collect();
    assert_each_segment_is_told(&disk, &mail);
}

/// The first of them has what it is there for. No ledger: its segments went after its checkpoint, and tallies tell of them.
#[test]
fn h13_the_golden_store_has_some_of_everything() {
    let root = goldens().join("store-01");
    let disk = mounted(&root);
    let headers = disk.paths().into_iter().filter(|path| path.ends_with(".log"));
    let headers: Vec<SegmentHeader> =
        headers.map(|path| SegmentHeader::decode(&disk.content(&path).unwrap()).unwrap()).collect();
    assert!(headers.iter().any(|header| !header.sources.is_empty()), "a rewrite");
    assert!(headers.iter().any(|header| !header.others.is_empty()), "two that were made behind one");
    let mut first_journals = 0;
    let contents = fs::read_to_string(root.join(CONTENTS)).unwrap();
    let authentication = |line: &&str| line.contains("authentication 0x") && !line.ends_with(" 0x0");
    assert!(contents.lines().any(|line| authentication(&line)), "what authentication said");
    let mut kinds = std::collections::BTreeMap::<&'static str, u64>::new();
    let found = block_on(&SimClock::default(), async move {
        let directory = Directory::walk(disk, Default::default()).await.unwrap();
        directory
            .records(&Default::default(), |record| {
                *kinds.entry(record.kind).or_default() += 1;
                first_journals += u64::from(record.text.contains("journals from"));
            })
            .await
            .unwrap();
        assert!(first_journals > 0, "a checkpoint says which journals count");
        kinds
    });
    for kind in ["message", "chunk", "void", "settlement", "tally", "outcomes", "held", "checkpoint"] {
        assert!(found.contains_key(kind), "{kind}: {found:?}");
    }
}
