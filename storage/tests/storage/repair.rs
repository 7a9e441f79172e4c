//! A repaired copy verifies, balances and opens, whatever is wrong with its source; and what can be read is in it.

use super::audit::{frames_of, small_store, walk_on};
use super::checker::open_on;
use super::disk_contract::{Scratch, on_glommio};
use super::failure::with_void;
use super::inspect::{busy_store, rot, rotten};
use super::node::*;
use proptest::prelude::*;
use std::sync::Arc;
use storage::clock::SystemClock;
use storage::crypt::Keys;
use storage::disk::Disk;
use storage::disk::dma::DmaDisk;
use storage::format::frame::{FrameKind, frame_octets};
use storage::format::segment_header::Purpose;
use storage::inspect::{Directory, Filter, Mail, MailError};
use storage::ledger::Row;
use storage::log::{Log, LogOptions, Message};
use storage::position::{QueueId, ShardId, UnixMillis};
use storage::repair::{CopyDisk, RepairError, Repaired, repair};
use storage::sim::{SimClock, SimDisk};
use storage::store::open;

const FIRST: &str = "shard-00/segment-00000001.log";

fn repaired_with(disk: &SimDisk, without: &[u16]) -> Result<(SimDisk, Repaired), RepairError> {
    let (source, without) = (walk_on(disk), without.to_vec());
    let target = SimDisk::new(99, DISK_OCTETS);
    let (copy, clock) = (target.clone(), SimClock::default());
    let made =
        block_on(
            &clock.clone(),
            async move { repair(&source, &copy, &clock, &without, &mut |_, _| {}).await },
        );
    // A power cut right behind it takes nothing away.
    made.map(|repaired| (target.crash(), repaired))
}

/// The copy, which is held against what a copy promises.
pub(crate) fn repaired(disk: &SimDisk, shards: u16) -> (SimDisk, Repaired) {
    let before: Vec<_> = disk.paths().into_iter().map(|path| disk.content(&path)).collect();
    let (copy, repaired) = repaired_with(disk, &[]).unwrap();
    let after: Vec<_> = disk.paths().into_iter().map(|path| disk.content(&path)).collect();
    assert!(before == after, "the source is only read");
    holds(&copy, shards);
    (copy, repaired)
}

fn holds(copy: &SimDisk, shards: u16) {
    let walked = walk_on(copy);
    assert_eq!(walked.verify(), []);
    let audit = walked.audit();
    assert_eq!(audit.problems, []);
    assert!(audit.balances(), "{:?}", audit.rows);
    for _ in 0..2 {
        // And so it stays when a server has restated its journals.
        let opened = open_on(copy, shards).unwrap();
        assert_eq!(opened.findings, []);
        assert!(!opened.incomplete);
        let backlog: u64 = audit.rows.iter().map(|row| row.backlog + row.held).sum();
        let queued = opened.backlogs.into_iter().flat_map(storage::store::Backlog::into_queued);
        let open: usize = queued.map(|queued| queued.open_units().len() + queued.held_units().count()).sum();
        assert_eq!(open as u64, backlog);
        let walked = walk_on(copy);
        assert_eq!(walked.verify(), []);
        assert_eq!(walked.audit(), audit);
    }
}

/// All messages that can be read, with states and data.
fn mails<D: Disk>(directory: &Directory<D>) -> Vec<(String, Vec<String>, Vec<u8>)> {
    let mut all = Vec::new();
    let done: Result<(), ()> = futures_lite::future::block_on(directory.mails(
        &Filter::default(),
        async |mail: Result<Mail, MailError<()>>| {
            let Ok(mail) = mail else { return Ok(()) };
            let mut data = Vec::new();
            let read = directory.data(&mail, |part| {
                data.extend_from_slice(part);
                Ok::<(), ()>(())
            });
            if read.await.is_err() {
                return Ok(());
            }
            let recipients = mail.record.recipients.iter();
            let states = recipients.map(|recipient| format!("{} {}", recipient.mailbox, recipient.state));
            all.push((mail.record.queue_id.clone(), states.collect(), data));
            Ok(())
        },
    ));
    done.unwrap();
    all
}

fn sum(rows: &[Row], count: impl Fn(&Row) -> u64) -> u64 {
    rows.iter().map(count).sum()
}

fn remove(disk: &SimDisk, path: &str) {
    let (disk, path) = (disk.clone(), path.to_owned());
    block_on(&SimClock::default(), async move { disk.remove(&path).await.unwrap() });
}

#[test]
fn a_clean_store_is_copied_whole() {
    for (disk, shards) in [(busy_store(), 2), (small_store(), 1), (with_void().0, 1)] {
        let before = walk_on(&disk);
        let (copy, repaired) = repaired(&disk, shards);
        let after = walk_on(&copy);
        assert_eq!((repaired.damaged, repaired.left_out), (0, vec![]));
        assert_eq!(after.audit(), before.audit());
        assert_eq!(mails(&after), mails(&before));
        assert!(!mails(&after).is_empty());
    }
}

#[test]
fn damaged_records_are_left_out_told_and_settled_as_damaged() {
    for sealed in [true, false] {
        // The first, one in the middle, the last; by payload, by header, by zeros.
        for record in 0..4 {
            for kind in 0..3 {
                let disk = small_store();
                if sealed {
                    open_on(&disk, 1).unwrap();
                }
                let (offset, header, payload) = frames_of(&disk, FIRST)[record].clone();
                let at = usize::try_from(offset).unwrap();
                match kind {
                    0 => disk.rot(FIRST, at + 200, &[payload[136] ^ 1]),
                    1 => disk.rot(FIRST, at + 5, &[0xEE; 40]),
                    _ => disk.rot(FIRST, at, &vec![0; frame_octets(payload.len())]),
                }
                let before = walk_on(&disk).audit();
                let (copy, repaired) = repaired(&disk, 1);
                let after = walk_on(&copy).audit();
                let case = format!(
                    "sealed {sealed}, record {record}, kind {kind}: {repaired:?}\n{before:?}\n{after:?}"
                );
                // Of the last record of a file that nobody sealed nothing vouches: a crash may have torn it.
                let promised = sealed || record < 3;
                assert_eq!(repaired.left_out.is_empty(), !promised, "{case}");
                if !promised {
                    continue;
                }
                assert_eq!(sum(&after.rows, |row| row.accepted), 8, "{case}");
                // The first message was delivered to one, and held for the other.
                let ended = u64::from(record == 0 && (sealed || kind == 0));
                assert_eq!(sum(&after.rows, |row| row.damaged), 2 - ended, "{case}");
                assert_eq!(repaired.damaged, 2 - ended, "{case}");
                assert_eq!(sum(&before.rows, Row::lost), 2 - ended, "{case}");
                let told = repaired.left_out.iter().any(|problem| {
                    problem.path == FIRST && problem.offset.is_some_and(|o| o <= offset && offset - o < 4096)
                });
                assert!(told, "{case}");
                if kind == 0 {
                    assert!(
                        repaired.left_out.iter().any(|p| p.what.contains(&header.queue_id.to_string())),
                        "{case}"
                    );
                }
                assert_eq!(mails(&walk_on(&copy)).len(), 3, "{case}");
            }
        }
    }
}

#[test]
fn a_lost_identity_is_made_again_with_stamps_above_all() {
    let disk = busy_store();
    let before = walk_on(&disk);
    disk.rot("store", 0, &[1; 8192]);
    let (copy, _) = repaired(&disk, 2);
    assert_eq!(walk_on(&copy).audit(), before.audit());
    let highest = before.files().map(|file| file.last_stamp).max().unwrap();
    assert!(open_on(&copy, 2).unwrap().store.stamp_ceiling.0 > highest);
}

#[test]
fn lost_headers_indexes_and_segments_cost_what_nothing_else_tells() {
    for lost in ["header", "index", "both", "segment", "segment and index"] {
        let disk = small_store();
        open_on(&disk, 1).unwrap();
        // A second segment names the first.
        let world = World::default();
        world.borrow_mut().next_number = 100;
        live_on(&disk, 1, move |node| async move {
            assert!(send(&node.shards[0], &world, &["a@one.test"], 900, 0).await);
        });
        let index = FIRST.replace(".log", ".index");
        match lost {
            "header" => disk.rot(FIRST, 0, &[7; 4096]),
            "index" => remove(&disk, &index),
            "both" => {
                disk.rot(FIRST, 0, &[7; 4096]);
                remove(&disk, &index);
            }
            "segment" => remove(&disk, FIRST),
            _ => {
                remove(&disk, FIRST);
                remove(&disk, &index);
            }
        }
        let (copy, repaired) = repaired(&disk, 1);
        let rows = walk_on(&copy).audit().rows;
        let counts =
            (sum(&rows, |row| row.accepted), sum(&rows, |row| row.damaged), mails(&walk_on(&copy)).len());
        let expected = match lost {
            "header" | "index" => (9, 0, 5),
            // One of the eight had been delivered.
            "segment" => (9, 7, 1),
            _ => (1, 0, 1),
        };
        assert_eq!(counts, expected, "{lost}: {:?}", repaired.left_out);
        assert_eq!(repaired.left_out.is_empty(), matches!(lost, "header" | "index"), "{lost}");
    }
}

#[test]
fn a_message_without_one_of_its_chunks_is_lost_whole() {
    let disk = busy_store();
    let chunk = disk.paths().into_iter().find_map(|path| {
        let frames = if path.contains("/segment-") && path.ends_with(".log") {
            frames_of(&disk, &path)
        } else {
            vec![]
        };
        // The chunks of the last life, whose messages are open.
        let chunk = frames.into_iter().rfind(|frame| frame.1.kind == FrameKind::Chunk)?;
        Some((path, chunk.0))
    });
    let (path, offset) = chunk.unwrap();
    let before = walk_on(&disk).audit();
    disk.rot(&path, usize::try_from(offset).unwrap() + 100, &[1; 8]);
    let (copy, repaired) = repaired(&disk, 2);
    let after = walk_on(&copy).audit();
    assert_eq!(repaired.damaged, 3, "{:?}", repaired.left_out);
    assert_eq!(sum(&after.rows, |row| row.damaged), 3);
    assert_eq!(sum(&after.rows, |row| row.accepted), sum(&before.rows, |row| row.accepted));
}

#[test]
fn h2_a_missing_shard_is_left_out_only_when_that_is_said() {
    let disk = busy_store();
    let gone = disk.unmount("shard-01");
    assert_eq!(repaired_with(&disk, &[]).unwrap_err(), RepairError::MissingShard(ShardId(1)));
    let (copy, _) = repaired_with(&disk, &[1]).unwrap();
    assert!(open_on(&copy, 2).is_ok());
    disk.mount(gone);
    repaired(&disk, 2);
}

/// A store whose mail is encrypted: a message with chunks, and one whose record is then damaged.
fn encrypted(keys: &Arc<Keys>) -> SimDisk {
    let disk = SimDisk::new(5, DISK_OCTETS);
    let (made, clock, keys) = (disk.clone(), SimClock::default(), Arc::clone(keys));
    block_on(&clock.clone(), async move {
        let opened = open(&made, &clock, &store_options(1)).await.unwrap();
        let options = LogOptions {
            purpose: Purpose::Mail,
            shard: ShardId(0),
            store: opened.store.store,
            segment_octets: SEGMENT_OCTETS,
            reserve_octets: 0,
            first_segment: opened.chains[0].mail.first,
            previous: None,
            unnamed: Default::default(),
            keys: Arc::clone(&keys),
            frontier: Arc::clone(&opened.frontier),
        };
        let log = Log::open(made.clone(), clock.clone(), options).await.unwrap();
        let story = async {
            for number in 1..=3 {
                let queue_id = QueueId::new(1, ShardId(0), number);
                let chunk = log.append_chunk(queue_id, &data_of(number, 5_000)).await.unwrap();
                let data = storage::format::message::DataFacts { stored_octets: 5_100, ..Default::default() };
                let message = Message {
                    queue_id,
                    received: UnixMillis(1_000),
                    envelope: &storage::format::message::Envelope { recipients: &["a@one.test"], ..ENVELOPE },
                    data: &data,
                    chunks: &[chunk],
                    trace: b"Received: by test\r\n",
                    tail: &data_of(9, 100),
                };
                log.append_message(&message).await.unwrap().ticket.await.unwrap();
            }
            log.close();
        };
        let driven = async {
            while let storage::log::Progress::Committed(commit) = log.commit().await {
                log.release(commit);
            }
        };
        futures_lite::future::zip(story, driven).await;
        let options = storage::store::StoreOptions { keys, ..store_options(1) };
        open(&made, &clock, &options).await.unwrap();
    });
    disk
}

#[test]
fn h9_encrypted_mail_is_copied_with_and_without_its_key() {
    let keys = Arc::new(Keys::parse(&format!("3 {}", "ab".repeat(32))).unwrap());
    let disk = encrypted(&keys);
    let walk = |disk: &SimDisk, keys: &Arc<Keys>| {
        futures_lite::future::block_on(Directory::walk(disk.clone(), Arc::clone(keys))).unwrap()
    };
    for known in [&keys, &Arc::default()] {
        assert_eq!(walk(&disk, known).verify(), [], "chunks are as long as their messages say");
        assert!(walk(&disk, known).audit().balances());
    }
    let messages: Vec<_> =
        frames_of(&disk, FIRST).into_iter().filter(|frame| frame.1.kind == FrameKind::Message).collect();
    disk.rot(FIRST, usize::try_from(messages[1].0).unwrap() + 100, &[1; 8]);
    for known in [Arc::clone(&keys), Arc::default()] {
        let target = SimDisk::new(98, DISK_OCTETS);
        let (source, copy, clock) = (walk(&disk, &known), target.clone(), SimClock::default());
        let repaired = block_on(&clock.clone(), async move {
            repair(&source, &copy, &clock, &[], &mut |_, _| {}).await.unwrap()
        });
        assert_eq!(repaired.damaged, 1);
        assert_eq!(walk(&target, &keys).verify(), []);
        assert_eq!(walk(&target, &Arc::default()).verify(), []);
        assert!(walk(&target, &keys).audit().balances());
        let read = mails(&walk(&target, &keys));
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].2, [data_of(1, 5_000), data_of(9, 100)].concat());
    }
}

#[test]
fn a_server_opens_the_copy_on_a_real_disk() {
    let disk = small_store();
    open_on(&disk, 1).unwrap();
    let second = frames_of(&disk, FIRST)[1].0;
    disk.rot(FIRST, usize::try_from(second).unwrap() + 100, &[1; 8]);
    let scratch = Scratch::new("repair");
    let root = scratch.0.join("copy");
    let source = walk_on(&disk);
    let target = CopyDisk::make(&root).unwrap();
    let clock = SystemClock::start();
    let repaired =
        futures_lite::future::block_on(async { repair(&source, &target, &clock, &[], &mut |_, _| {}).await });
    let repaired = repaired.unwrap();
    assert_eq!(repaired.damaged, 2);
    assert!(CopyDisk::make(&root).is_err(), "nothing is written into what is there");
    let opened = on_glommio(async {
        let disk = DmaDisk::attach(&root).await.unwrap();
        open(&disk, &SystemClock::start(), &store_options(1)).await.unwrap()
    });
    assert_eq!(
        (opened.messages, opened.findings.len()),
        (5, 0),
        "three messages of two domains each, one unit delivered"
    );
}

#[test]
fn the_copys_disk_keeps_the_contract() {
    let scratch = Scratch::new("copy-contract");
    let disk = CopyDisk::make(&scratch.0).unwrap();
    futures_lite::future::block_on(super::disk_contract::contract(disk));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_rots_the_copy_is_sound(
        places in rot(),
    ) {
        let disk = rotten(places);
        match repaired_with(&disk, &[]) {
            Ok((copy, _)) => {
                holds(&copy, 2);
                let saved = mails(&walk_on(&copy));
                for mail in mails(&walk_on(&disk)) {
                    prop_assert!(saved.contains(&mail), "{} could be read and is not there", mail.0);
                }
            }
            Err(error) => prop_assert!(matches!(error, RepairError::Newer(_)), "{error}"),
        }
    }
}
