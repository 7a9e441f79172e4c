//! What recovery does with files in every state: each row of its table, damage in the middle (H6), and bytes that
//! look like frames and are none (H7).

use super::checker::{check_on, entries_of, open_on, read_back};
use super::hazards::promise_of;
use super::node::*;
use std::rc::Rc;
use std::sync::Arc;
use storage::disk::{Disk, File};
use storage::error::OpenError;
use storage::format::BLOCK_OCTETS;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader};
use storage::format::message::{DataFacts, Envelope};
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::format::store_file::StoreFile;
use storage::frontier::Frontier;
use storage::log::{Log, LogOptions, Message, Progress};
use storage::position::{Offset, QueueId, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use storage::reader::Reader;
use storage::segment::recover::DamagedRecord;
use storage::segment::scan::{Found, walk};
use storage::segment::{index_name, path};
use storage::sim::{SimClock, SimDisk};
use storage::store::{FindingKind, Opened};

const SHARD: ShardId = ShardId(0);

fn mail(segment: u32) -> String {
    path(SHARD, Purpose::Mail, SegmentId(segment))
}

fn index(segment: u32) -> String {
    format!("{SHARD}/{}", index_name(SegmentId(segment)))
}

/// A store with `messages` small ones in segment 1, killed; with `sealed` that segment has its index.
fn store_with(messages: usize, sealed: bool) -> (SimDisk, World) {
    let disk = SimDisk::new(20, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            for _ in 0..messages {
                assert!(send(&node.shards[0], &world, &["a@one.test", "b@two.test"], 500, 0).await);
            }
        }
    });
    if sealed {
        open_on(&disk, 1).unwrap();
        assert!(disk.content(&index(1)).is_some());
    }
    (disk, world)
}

fn remove(disk: &SimDisk, name: &str) {
    let (disk, name) = (disk.clone(), name.to_owned());
    block_on(&SimClock::default(), async move { disk.remove(&name).await.unwrap() });
}

fn create(disk: &SimDisk, name: &str) {
    let (disk, name) = (disk.clone(), name.to_owned());
    block_on(&SimClock::default(), async move { drop(disk.create(&name, SEGMENT_OCTETS).await.unwrap()) });
}

/// The frames of a file, as a scan believes them.
fn frames(disk: &SimDisk, name: &str) -> Vec<(Offset, FrameHeader)> {
    let (disk, name) = (disk.clone(), name.to_owned());
    block_on(&SimClock::default(), async move {
        let file = disk.open(&name).await.unwrap();
        let header = SegmentHeader::decode(&file.read(0, BLOCK_OCTETS).await.unwrap()).unwrap();
        let mut all = Vec::new();
        walk(&file, &header, &Default::default(), |found| {
            if let Found::Frame { offset, header, .. } = found {
                all.push((offset, header));
            }
        })
        .await
        .unwrap();
        all
    })
}

fn at(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap()
}

fn damaged(opened: &Opened) -> Vec<DamagedRecord> {
    let all = opened.findings.iter().map(|finding| match &finding.kind {
        FindingKind::Damaged(record) => record.clone(),
        other => panic!("{other:?}"),
    });
    all.collect()
}

#[test]
fn row_a_a_valid_index_is_believed_and_the_segment_not_read() {
    let (disk, _) = store_with(3, true);
    let (offset, _) = frames(&disk, &mail(1))[1];
    disk.rot(&mail(1), at(offset), b"rot");
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!((opened.messages, opened.findings.len()), (6, 0), "two domains, three messages");
}

#[test]
fn row_b_an_index_that_is_missing_torn_or_anothers_is_rebuilt() {
    let (disk, world) = store_with(3, true);
    let whole = disk.content(&index(1)).unwrap();
    remove(&disk, &index(1));
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    assert_eq!(disk.content(&index(1)).unwrap(), whole, "missing");
    disk.rot(&index(1), 100, &[whole[100] ^ 1]);
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    assert_eq!(disk.content(&index(1)).unwrap(), whole, "torn");
    // That of the next segment, which every open seals empty.
    live_on(&disk, 1, |_| async {});
    open_on(&disk, 1).unwrap();
    disk.rot(&index(1), 0, &disk.content(&index(2)).unwrap());
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    assert_eq!(disk.content(&index(1)).unwrap(), whole, "another segment's");
}

/// A node that ends again and again does not fill the disk with room that nobody will write to any more.
#[test]
fn row_b_the_room_behind_what_was_found_is_given_back() {
    let (disk, world) = store_with(1, false);
    let free = || {
        let disk = disk.clone();
        block_on(&SimClock::default(), async move { disk.free_octets().await.unwrap() })
    };
    let mut before = free();
    for life in 0..20 {
        let outside = Rc::clone(&world);
        live_on(&disk, 1, |node| async move {
            assert!(send(&node.shards[0], &outside, &["a@one.test"], 500, 0).await);
        });
        let now = free();
        // The first one makes the journal that is made ahead.
        assert!(
            life == 0 || before.saturating_sub(now) < SEGMENT_OCTETS / 8,
            "life {life} costs {}",
            before - now
        );
        before = now;
    }
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

/// A file that is longer than its header says was not walked to its end: what is there stays.
#[test]
fn row_b_a_file_that_is_longer_than_it_says_keeps_its_end() {
    let (disk, world) = store_with(3, false);
    let mut longer = disk.content(&mail(1)).unwrap();
    let end = longer.len();
    remove(&disk, &mail(1));
    let copy = disk.clone();
    block_on(&SimClock::default(), async move {
        drop(copy.create(&mail(1), 2 * SEGMENT_OCTETS).await.unwrap());
        copy.sync_directory(&SHARD.to_string()).await.unwrap();
    });
    longer.resize(end + BLOCK_OCTETS, 0);
    longer.extend(b"somebody's");
    disk.rot(&mail(1), 0, &longer);
    open_on(&disk, 1).unwrap();
    assert_eq!(disk.content(&mail(1)).unwrap()[..longer.len()], longer);
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn row_c_records_are_read_with_the_salt_of_the_index_when_the_header_is_lost() {
    for damage in [&b"rot"[..], &[0; BLOCK_OCTETS]] {
        let (disk, world) = store_with(3, true);
        disk.rot(&mail(1), 0, damage);
        assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    }
}

#[test]
fn row_d_a_file_that_was_never_written_is_removed_and_its_number_spent() {
    let (disk, world) = store_with(3, false);
    create(&disk, &mail(0x77));
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.chains[0].mail.first, SegmentId(0x78));
    assert!(disk.content(&mail(0x77)).is_none());
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn row_d_a_header_that_a_crash_tore_is_no_damage() {
    let (disk, world) = store_with(3, false);
    let header = disk.content(&mail(1)).unwrap()[..512].to_vec();
    let journal = path(SHARD, Purpose::Journal, SegmentId(0x77));
    for name in [mail(0x77), journal] {
        create(&disk, &name);
        disk.rot(&name, 0, &header);
    }
    assert_eq!(open_on(&disk, 1).unwrap().findings, []);
    assert!(disk.paths().iter().all(|path| !path.contains("77")), "nothing was ever in them");
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn row_d_a_header_that_landed_elsewhere_is_no_damage() {
    // Found by the simulator (seed 11): the header of a segment in the making, misdirected, made a file that never held
    // a record look like one whose header was lost, and no checkpoint was made as long as it was there.
    let (disk, world) = store_with(3, false);
    let header = disk.content(&mail(1)).unwrap()[..BLOCK_OCTETS].to_vec();
    create(&disk, &mail(0x77));
    disk.rot(&mail(0x77), 5 * BLOCK_OCTETS, &header);
    assert_eq!(open_on(&disk, 1).unwrap().findings, []);
    assert!(disk.content(&mail(0x77)).is_none(), "nothing was ever in it");
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn row_e_without_header_and_index_a_segment_is_kept_and_reported() {
    for damage in [&b"rot"[..], &[0; BLOCK_OCTETS]] {
        let (disk, _) = store_with(3, true);
        remove(&disk, &index(1));
        disk.rot(&mail(1), 0, damage);
        for _ in 0..2 {
            let opened = open_on(&disk, 1).unwrap();
            assert_eq!(opened.findings.len(), 1);
            assert_eq!(opened.findings[0].path, mail(1));
            assert_eq!(opened.findings[0].kind, FindingKind::Unreadable);
        }
        assert!(disk.content(&mail(1)).is_some());
    }
}

/// Segment 1 with another header than its own.
fn with_header(change: impl FnOnce(&mut SegmentHeader)) -> SimDisk {
    let (disk, _) = store_with(3, true);
    let mut header = SegmentHeader::decode(&disk.content(&mail(1)).unwrap()).unwrap();
    change(&mut header);
    disk.rot(&mail(1), 0, &header.encode());
    disk
}

#[test]
fn row_f_a_segment_of_another_store_is_kept_and_reported() {
    let disk = with_header(|header| header.store = StoreId([7; 16]));
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.messages, 0);
    assert_eq!(opened.findings[0].kind, FindingKind::Foreign);
    assert!(disk.content(&mail(1)).is_some());
}

/// A block of a newer version, its checksum right.
fn newer(mut block: Vec<u8>, covered: usize) -> Vec<u8> {
    block[8] += 1;
    let checksum = storage::format::checksum::plain(&block[..covered]);
    block[covered..covered + 4].copy_from_slice(&checksum.to_le_bytes());
    block
}

#[test]
fn row_g_a_newer_segment_stops_the_start() {
    let (disk, _) = store_with(3, true);
    let block = disk.content(&mail(1)).unwrap()[..BLOCK_OCTETS].to_vec();
    disk.rot(&mail(1), 0, &newer(block, BLOCK_OCTETS - 4));
    assert_eq!(open_on(&disk, 1).unwrap_err(), OpenError::Newer { path: mail(1), version: 3 });
}

#[test]
fn a_newer_store_file_stops_the_start_whichever_slot_it_is_in() {
    for slot in [0, 1] {
        let (disk, _) = store_with(1, false);
        let file = disk.content("store").unwrap();
        let block = file[slot * BLOCK_OCTETS..][..BLOCK_OCTETS].to_vec();
        assert!(StoreFile::decode(&file).is_some());
        disk.rot("store", slot * BLOCK_OCTETS, &newer(block, 60));
        let error = open_on(&disk, 1).unwrap_err();
        assert_eq!(error, OpenError::Newer { path: "store".to_owned(), version: 2 });
    }
}

#[test]
fn row_h_the_index_of_a_blank_file_still_tells_what_was_queued() {
    let (disk, world) = store_with(3, true);
    let octets = disk.content(&mail(1)).unwrap().len();
    disk.rot(&mail(1), 0, &vec![0; octets]);
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.messages, 6, "each is known, and can be reported as damaged when it is read");
    let wrong = check_on(&disk, 1, &world);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong.iter().all(|wrong| wrong.contains("cannot be read")), "{wrong:?}");
}

#[test]
fn h6_damage_in_the_active_segment_costs_the_records_that_it_hits_and_no_other() {
    let (disk, world) = store_with(9, false);
    let all = frames(&disk, &mail(1));
    assert_eq!(all.len(), 9);
    // A flipped bit in the data of one, a hole over the header of another and a part of a third.
    let (rotten, hole) = (all[1].0, all[4].0);
    disk.rot(&mail(1), at(rotten) + FRAME_HEADER_OCTETS + 200, b"x");
    disk.rot(&mail(1), at(hole), &vec![0; at(all[5].0) - at(hole) + 16]);
    let opened = open_on(&disk, 1).unwrap();
    let found = damaged(&opened);
    assert_eq!(found[0].offset, rotten);
    assert_eq!(found[0].header.map(|header| header.queue_id), Some(QueueId(2)), "it can be named");
    assert!(found.iter().all(|record| record.was_durable), "{found:?}");
    assert_eq!(found.len(), 2, "the hole is zeros up to what is left of the last one: {found:?}");
    let lost = [2_u64, 5, 6].map(|number| promise_of(&world, number).stamp);
    for promise in world.borrow().acknowledged.values() {
        assert_eq!(entries_of(&opened).contains_key(&promise.stamp), !lost.contains(&promise.stamp));
    }
    assert_eq!(check_on(&disk, 1, &world).len(), 6, "two units each; nothing else is wrong");
}

#[test]
fn h6_damage_in_a_journal_is_told_and_its_other_facts_hold() {
    let (disk, world) = store_with(4, false);
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            for number in 1..=4 {
                node.deliver(&node.shards[0], &world, &promise_of(&world, number), 0).await;
            }
        }
    });
    let mut journals = disk.paths().into_iter().filter(|path| path.contains("journal"));
    let journal = journals.rfind(|path| !frames(&disk, path).is_empty()).unwrap();
    let settlements = frames(&disk, &journal);
    assert_eq!(settlements.len(), 4);
    disk.rot(&journal, at(settlements[1].0) + FRAME_HEADER_OCTETS, b"xx");
    for _ in 0..2 {
        let opened = open_on(&disk, 1).unwrap();
        assert_eq!(opened.findings.len(), 1);
        assert_eq!((&opened.findings[0].path, &opened.findings[0].kind), (&journal, &FindingKind::Journal));
        let queued = opened.backlogs.iter().flat_map(|backlog| backlog.clone().into_queued());
        let open: usize = queued.map(|queued| queued.open_units().len()).sum();
        assert_eq!(open, 8 - 3, "only the lost fact is unknown: that unit is offered again");
    }
}

#[test]
fn h6_what_a_crash_tore_is_no_damage_to_promised_mail() {
    let (disk, world) = store_with(3, false);
    let last = *frames(&disk, &mail(1)).last().unwrap();
    disk.rot(&mail(1), at(last.0) + 4, &[0xFF; 100]);
    let found = damaged(&open_on(&disk, 1).unwrap());
    assert_eq!(found.len(), 1);
    assert!(!found[0].was_durable, "nothing behind it says that it was");
    assert_eq!(check_on(&disk, 1, &world).len(), 2);
}

#[test]
fn h7_a_frame_inside_a_body_is_not_believed() {
    let (disk, world) = store_with(1, false);
    let (offset, header) = frames(&disk, &mail(1))[0];
    let octets = FRAME_HEADER_OCTETS + header.payload_length as usize;
    let forged = disk.content(&mail(1)).unwrap()[at(offset)..at(offset) + octets].to_vec();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            // At every alignment, so that one of them stands where frames start.
            let body: Vec<u8> = (0..8).flat_map(|_| [&forged[..], b"."].concat()).collect();
            let evil = Arriving::new(&node.shards[0], &world);
            assert!(evil.close(&world, &["a@one.test"], &body).await);
            assert!(send(&node.shards[0], &world, &["a@one.test"], 10, 0).await);
        }
    });
    let (outer, _) = frames(&disk, &mail(2))[0];
    // The header around it is lost, so that the scan looks into the body.
    disk.rot(&mail(2), at(outer), b"XXXX");
    let opened = open_on(&disk, 1).unwrap();
    let stamps: Vec<_> = entries_of(&opened).into_keys().collect();
    assert_eq!(stamps, [promise_of(&world, 1).stamp, promise_of(&world, 3).stamp]);
    assert_eq!(damaged(&opened).len(), 1);
}

#[test]
fn h7_frames_of_another_segment_or_place_are_not_believed() {
    let (disk, world) = store_with(4, false);
    live_on(&disk, 1, |_| async {});
    let one = disk.content(&mail(1)).unwrap();
    // A recycled file: at their old places, and behind the last record of their own segment.
    disk.rot(&mail(2), BLOCK_OCTETS, &one[BLOCK_OCTETS..]);
    disk.rot(&mail(1), 20 * BLOCK_OCTETS, &one[BLOCK_OCTETS..10 * BLOCK_OCTETS]);
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.messages, 8);
    assert!(damaged(&opened).iter().all(|record| !record.was_durable));
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn a_walk_meets_frames_across_its_windows() {
    let disk = SimDisk::new(21, DISK_OCTETS);
    let opened = open_on(&disk, 1).unwrap();
    let options = LogOptions {
        purpose: Purpose::Mail,
        shard: SHARD,
        store: opened.store.store,
        segment_octets: 12 << 20,
        reserve_octets: 0,
        first_segment: SegmentId(1),
        previous: None,
        unnamed: Default::default(),
        keys: Default::default(),
        frontier: Arc::new(Frontier::new(1, opened.frontier.horizon(), Stamp(1 << 30))),
    };
    let stamps = block_on(&SimClock::default(), {
        let disk = disk.clone();
        async move {
            let log = Log::open(disk, SimClock::default(), options).await.unwrap();
            let mut stamps = Vec::new();
            for number in 0..30_u64 {
                let data = data_of(number, 350_001);
                let facts = DataFacts { stored_octets: 350_001, ..DataFacts::default() };
                let envelope = Envelope { recipients: &["a@one.test"], ..ENVELOPE };
                let message = Message {
                    queue_id: QueueId(number),
                    received: UnixMillis(0),
                    envelope: &envelope,
                    data: &facts,
                    chunks: &[],
                    trace: b"",
                    tail: &data,
                };
                stamps.push(log.append_message(&message).await.unwrap().stamp);
                let Progress::Committed(commit) = log.commit().await else { panic!("no commit") };
                log.release(commit);
            }
            stamps
        }
    });
    let found: Vec<_> = frames(&disk, &mail(1)).iter().map(|(_, header)| header.stamp).collect();
    assert_eq!(found, stamps);
}

#[test]
fn two_copies_of_a_record_are_one() {
    // What a crash between a rewrite and the unlink leaves: the same segment under two numbers.
    let (disk, world) = store_with(2, true);
    let content = disk.content(&mail(1)).unwrap();
    let header = SegmentHeader::decode(&content).unwrap();
    let copied = frames(&disk, &mail(1));
    create(&disk, &mail(9));
    let twin = SegmentHeader { segment: SegmentId(9), ..header };
    disk.rot(&mail(9), 0, &twin.encode());
    let seed = storage::format::checksum::Seed::new(&twin.salt, twin.segment);
    for (offset, frame) in copied {
        let from = at(offset) + FRAME_HEADER_OCTETS;
        let payload = &content[from..from + frame.payload_length as usize];
        let mut hasher = seed.hasher(offset);
        hasher.update(payload);
        let frame = FrameHeader { payload_checksum: hasher.finalize(), ..frame };
        disk.rot(&mail(9), at(offset), &[&frame.encode(&seed, offset)[..], payload].concat());
    }
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.messages, 4, "two messages for two domains");
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn a_reader_says_what_is_wrong_with_a_record() {
    let (disk, _) = store_with(1, true);
    let opened = open_on(&disk, 1).unwrap();
    let (shard, entry) = *entries_of(&opened).values().next().unwrap();
    let clock = SimClock::default();
    for (offset, message) in [(0, "frame header"), (FRAME_HEADER_OCTETS as u64, "payload checksum")] {
        disk.rot(&mail(1), usize::try_from(entry.offset().0 + offset).unwrap(), b"?");
        let reader = Reader::new(disk.clone(), opened.store.store, Default::default());
        let read = block_on(&clock, async move { read_back(&reader, shard, &entry).await });
        let error = read.unwrap_err();
        assert!(error.contains(message), "{error}");
        disk.rot(&mail(1), usize::try_from(entry.offset().0).unwrap(), b"S");
    }
}
