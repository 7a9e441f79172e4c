//! The ledger recounted offline (P2): clean where all is well, and found out wherever one unit is too many or too few.

use super::checker::open_on;
use super::failure::with_void;
use super::inspect::busy_store;
use super::node::*;
use super::repair::repaired;
use std::rc::Rc;
use std::sync::Arc;
use storage::disk::{Disk, write_whole};
use storage::format::checkpoint::Outcomes;
use storage::format::checksum::Seed;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, FrameKind, frame_octets};
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::segment_header::SegmentHeader;
use storage::format::tally::{Ledger, Tally, TallyRow};
use storage::inspect::{Audit, Directory};
use storage::ledger::Row;
use storage::position::{Offset, SegmentId, ShardId, Stamp};
use storage::sim::SimDisk;

pub(crate) fn walk_on(disk: &SimDisk) -> Directory<SimDisk> {
    futures_lite::future::block_on(Directory::walk(disk.clone(), Arc::default())).unwrap()
}

fn audit(disk: &SimDisk) -> Audit {
    walk_on(disk).audit()
}

/// Valid frames of a file: offset, header, payload.
pub(crate) fn frames_of(disk: &SimDisk, path: &str) -> Vec<(u64, FrameHeader, Vec<u8>)> {
    let content = disk.content(path).unwrap();
    let Ok(header) = SegmentHeader::decode(&content) else { return Vec::new() };
    let seed = Seed::new(&header.salt, header.segment);
    let (mut at, mut frames) = (4096, Vec::new());
    while at + FRAME_HEADER_OCTETS <= content.len() {
        let Some(frame) = FrameHeader::decode(&content[at..], &seed, Offset(at as u64)) else {
            at += 8;
            continue;
        };
        let end = at + FRAME_HEADER_OCTETS + frame.payload_length as usize;
        frames.push((at as u64, frame, content[at + FRAME_HEADER_OCTETS..end].to_vec()));
        at += frame_octets(frame.payload_length as usize);
    }
    frames
}

/// Writes the first frame of this kind anew, as `edit` leaves its payload, with all checksums right.
fn plant(disk: &SimDisk, kind: FrameKind, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (String, u64) {
    for path in disk.paths().into_iter().filter(|path| path.ends_with(".log")) {
        let Ok(segment) = SegmentHeader::decode(&disk.content(&path).unwrap()) else { continue };
        let seed = Seed::new(&segment.salt, segment.segment);
        for (at, mut header, payload) in
            frames_of(disk, &path).into_iter().filter(|frame| frame.1.kind == kind)
        {
            let Some(planted) = edit(&payload) else { continue };
            assert_eq!(planted.len(), payload.len());
            let mut hasher = seed.hasher(Offset(at));
            hasher.update(&planted);
            header.payload_checksum = hasher.finalize();
            let frame = [header.encode(&seed, Offset(at)).to_vec(), planted].concat();
            disk.rot(&path, usize::try_from(at).unwrap(), &frame);
            return (path, at);
        }
    }
    panic!("there is no {kind:?} to plant in");
}

fn in_tally(disk: &SimDisk, edit: impl Fn(&mut TallyRow)) -> (String, u64) {
    plant(disk, FrameKind::Tally, |payload| {
        let mut tally = Tally::decode(payload).unwrap().content;
        edit(tally.rows.first_mut()?);
        tally.encode().pop()
    })
}

/// What is wrong with the ledger of a disk.
pub(crate) fn unbalanced(disk: &SimDisk) -> Vec<String> {
    let audit = audit(disk);
    let rows =
        audit.rows.iter().filter(|row| !row.balances()).map(|row| format!("does not balance: {row:?}"));
    rows.chain(audit.problems.iter().map(|problem| format!("audit: {problem}"))).collect()
}

fn mail_files(disk: &SimDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.contains("/segment-") && path.ends_with(".log")).collect()
}

fn remove(disk: &SimDisk, path: &str) {
    let (disk, path) = (disk.clone(), path.to_owned());
    block_on(&storage::sim::SimClock::default(), async move { disk.remove(&path).await.unwrap() });
}

fn names(audit: &Audit, path: &str, offset: Option<u64>) -> bool {
    audit
        .problems
        .iter()
        .any(|problem| problem.path == path && (offset.is_none() || problem.offset == offset))
}

fn sum(audit: &Audit, count: impl Fn(&Row) -> u64) -> u64 {
    audit.rows.iter().map(count).sum()
}

/// Four messages, one of them settled for one recipient and held for the other; none sealed.
pub(crate) fn small_store() -> SimDisk {
    four_messages(&[Outcome::Delivered, Outcome::Held])
}

/// The same mail, under the same stamps, in another store.
fn unsettled_store() -> SimDisk {
    four_messages(&[])
}

/// Four messages; the first one's recipients ended so.
fn four_messages(outcomes: &'static [Outcome]) -> SimDisk {
    let disk = SimDisk::new(7 + outcomes.len() as u64, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, move |node| async move {
        for _ in 0..4 {
            assert!(send(&node.shards[0], &world, &["a@one.test", "b@two.test"], 900, 0).await);
        }
        let stamp = world.borrow().acknowledged[&1].stamp;
        let fact =
            |(ordinal, outcome): (u16, &Outcome)| Fact { stamp, ordinal, outcome: *outcome, code: 250 };
        let facts: Vec<_> = (0..).zip(outcomes).map(fact).collect();
        node.shards[0].journal.append_facts(&facts).await.unwrap().await.unwrap();
    });
    disk
}

const FIRST: &str = "shard-00/segment-00000001.log";

#[test]
fn a_busy_store_of_two_shards_balances_before_and_after_a_checkpoint() {
    let disk = busy_store();
    let before = audit(&disk);
    assert_eq!(before.problems, []);
    assert!(before.balances());
    assert!(
        sum(&before, |row| row.delivered) > 0 && sum(&before, |row| row.backlog) > 0,
        "{:?}",
        before.rows
    );
    // What a checkpoint restates is the same ledger.
    open_on(&disk, 2).unwrap();
    assert_eq!(audit(&disk), before);
    open_on(&disk, 1).unwrap();
    assert_eq!(audit(&disk), before);
    // And so it is when one journal stands in two directories, or one tally in two journals.
    let promised = before.rows.iter().map(|row| (row.domain.clone(), row.accepted)).collect::<Vec<_>>();
    let domains = promised.iter().map(|(domain, _)| domain.as_str()).collect::<Vec<_>>();
    assert_eq!(domains, ["one.test", "two.test"]);
    assert_eq!(promised[0].1, 2 * promised[1].1, "each message has two recipients in one, one in the other");
}

#[test]
fn each_unit_has_one_state() {
    let audit = audit(&small_store());
    assert_eq!(audit.problems, []);
    let shown: Vec<_> = audit
        .rows
        .iter()
        .map(|row| (row.domain.as_str(), row.accepted, row.delivered, row.held, row.backlog))
        .collect();
    assert_eq!(shown, [("one.test", 4, 1, 0, 3), ("two.test", 4, 0, 1, 3)]);
}

#[test]
fn what_was_never_acknowledged_is_in_no_ledger() {
    let (disk, _) = with_void();
    for _ in 0..2 {
        let audit = audit(&disk);
        assert_eq!(audit.problems, []);
        assert_eq!(sum(&audit, |row| row.accepted), 2);
        open_on(&disk, 1).unwrap();
    }
}

#[test]
fn an_off_by_one_in_a_tally_is_found_with_file_and_offset() {
    let edits: [fn(&mut TallyRow); 4] =
        [|row| row.accepted += 1, |row| row.accepted -= 1, |row| row.ended[3] += 1, |row| row.ended[3] -= 1];
    for edit in edits {
        let disk = busy_store();
        let (path, offset) = in_tally(&disk, edit);
        let audit = audit(&disk);
        assert!(!audit.balances());
        assert!(names(&audit, &path, Some(offset)), "{path} {offset}: {:?}", audit.problems);
        assert_eq!(audit.rows.iter().filter(|row| !row.balances()).count(), 1);
    }
}

#[test]
fn an_off_by_one_in_a_ledger_is_found() {
    for edit in [|row: &mut TallyRow| row.accepted += 1, |row: &mut TallyRow| row.ended[0] += 1] {
        let disk = busy_store();
        open_on(&disk, 2).unwrap();
        let (path, offset) = plant(&disk, FrameKind::Ledger, |payload| {
            let (shard, mut part): (_, storage::format::tally::Part<Ledger>) =
                Ledger::decode(payload).unwrap();
            edit(part.content.rows.first_mut()?);
            part.content.encode(shard).pop()
        });
        let audit = audit(&disk);
        assert!(!audit.balances() && names(&audit, &path, Some(offset)), "{:?}", audit.problems);
    }
}

/// A busy store one life later: what was active is sealed, and the segments of that life name it.
fn sealed_store() -> SimDisk {
    let disk = busy_store();
    live_on(&disk, 2, |node| async move {
        for shard in &node.shards {
            assert!(send(shard, &World::default(), &["a@one.test"], 1_000, 0).await);
        }
    });
    disk
}

#[test]
fn a_segment_that_is_lost_is_found_and_its_units_are_counted_by_its_index() {
    for with_index in [true, false] {
        let disk = sealed_store();
        // Both shards hold several segments; the first of them are sealed, and the later ones name them.
        let mut lost_some = false;
        for path in mail_files(&disk) {
            let index = path.replace(".log", ".index");
            if !disk.paths().contains(&index) {
                continue;
            }
            let disk = sealed_store();
            let before = audit(&disk);
            let open =
                walk_on(&disk).files().find(|file| file.path == path).map(|file| file.units - file.settled);
            remove(&disk, &path);
            if !with_index {
                remove(&disk, &index);
            }
            let audit = audit(&disk);
            assert!(names(&audit, &path, None), "{path}: {:?}", audit.problems);
            let lost = sum(&audit, Row::lost);
            assert_eq!(lost, if with_index { open.unwrap() } else { 0 }, "{path}");
            if with_index {
                assert_eq!(sum(&audit, |row| row.accepted), sum(&before, |row| row.accepted));
            }
            lost_some = true;
        }
        assert!(lost_some);
    }
}

#[test]
fn what_another_store_says_is_nobodys_fact() {
    let (ours, theirs) = (unsettled_store(), small_store());
    let before = audit(&ours).rows;
    let journals: Vec<_> = theirs.paths().into_iter().filter(|path| path.contains("/journal-")).collect();
    let settled: Vec<_> = journals.iter().flat_map(|path| frames_of(&theirs, path)).collect();
    assert!(settled.iter().any(|frame| frame.1.kind == FrameKind::Settlement));
    for path in &journals {
        // In the place of our own, which says nothing yet: its facts are about the stamps that our queued mail has.
        let (directory, name) = path.split_once('/').unwrap();
        let (disk, directory, name) = (ours.clone(), directory.to_owned(), name.to_owned());
        let content = theirs.content(path).unwrap();
        remove(&ours, path);
        let write = async move { write_whole(&disk, &directory, &name, &content).await.unwrap() };
        block_on(&storage::sim::SimClock::default(), write);
    }
    let after = audit(&ours);
    assert_eq!(after.rows, before);
    assert!(journals.iter().all(|path| names(&after, path, None)), "{:?}", after.problems);
    let (copy, repaired) = repaired(&ours, 1);
    assert_eq!((audit(&copy).rows, repaired.damaged), (before, 0));
}

#[test]
fn a_record_that_is_removed_or_damaged_is_lost_until_a_fact_says_so() {
    for sealed in [true, false] {
        for zeros in [true, false] {
            let disk = small_store();
            if sealed {
                open_on(&disk, 1).unwrap();
            }
            let (offset, header, payload) = frames_of(&disk, FIRST)[1].clone();
            let at = usize::try_from(offset).unwrap();
            let octets = frame_octets(payload.len());
            if zeros {
                disk.rot(FIRST, at, &vec![0; octets]);
            } else {
                disk.rot(FIRST, at + 200, &[payload[136] ^ 1]);
            }
            let audit = audit(&disk);
            let case = format!("sealed {sealed}, zeros {zeros}, {:?}", audit);
            assert!(!audit.balances(), "{case}");
            assert_eq!((sum(&audit, |row| row.accepted), sum(&audit, Row::lost)), (8, 2), "{case}");
            assert!(audit.problems.iter().all(|problem| problem.path == FIRST), "{case}");
            // Of a record without a trace only the end of the one before it is known.
            let near = |problem: &storage::inspect::Problem| {
                problem.offset.is_some_and(|known| known <= offset && offset - known < 4096)
            };
            assert!(audit.problems.iter().any(near), "{case}");
            // Without an index and without a header nothing tells the domain.
            let known = sealed || !zeros;
            assert_eq!(audit.rows.iter().any(|row| row.domain.is_empty()), !known, "{case}");
            if !sealed {
                continue;
            }
            settle_damaged(&disk, header.stamp);
            let audit = self::audit(&disk);
            assert!(audit.rows.iter().all(Row::balances), "{case}");
            assert_eq!(sum(&audit, |row| row.damaged), 2, "{case}");
        }
    }
}

/// A server that met the record says that it is damaged.
fn settle_damaged(disk: &SimDisk, stamp: Stamp) {
    live_on(disk, 1, move |node| async move {
        let fact = |ordinal| Fact { stamp, ordinal, outcome: Outcome::Damaged, code: 0 };
        node.shards[0].journal.append_facts(&[fact(0), fact(1)]).await.unwrap().await.unwrap();
    });
}

#[test]
fn a_fact_about_a_unit_that_nobody_has_is_found() {
    for (stamp, ordinal) in [(None, 7), (Some(Stamp(5_000)), 0)] {
        let disk = small_store();
        let before = audit(&disk);
        assert!(before.balances());
        let planted = std::cell::Cell::new(Stamp(0));
        let (path, offset) = plant(&disk, FrameKind::Settlement, |payload| {
            let mut facts = Fact::decode_all(payload).unwrap();
            planted.set(facts[0].stamp);
            facts[0].stamp = stamp.unwrap_or(facts[0].stamp);
            facts[0].ordinal = ordinal;
            let mut out = Vec::new();
            facts.iter().for_each(|fact| fact.encode(&mut out));
            Some(out)
        });
        let audit = audit(&disk);
        assert!(names(&audit, &path, Some(offset)), "{:?}", audit.problems);
    }
}

#[test]
fn facts_about_segments_that_are_gone_are_no_more_than_tallies_count() {
    let disk = busy_store();
    assert!(walk_on(&disk).audit().balances(), "many facts here are about unlinked segments");
    let world: World = Rc::default();
    live_on(&disk, 2, move |node| async move {
        let _ = world;
        let fact = |stamp| Fact { stamp: Stamp(stamp), ordinal: 0, outcome: Outcome::Expired, code: 0 };
        node.shards[0].journal.append_facts(&[fact(3)]).await.unwrap().await.unwrap();
    });
    assert!(!audit(&disk).balances(), "nothing expired, says every tally");
}

#[test]
fn h10_what_a_rewrite_took_out_of_a_segment_that_stays_is_counted_where_it_went() {
    let disk = small_store();
    live_on(&disk, 1, move |node| async move {
        let journal = &node.shards[0].journal;
        let (shard, segment) = (ShardId(0), SegmentId(1));
        let moved = Outcomes { shard, segment, first: 0, halves: vec![0xFF; 4] };
        let sequence = node.opened.frontier.sequence().unwrap();
        let restated = journal.append_restated(FrameKind::Outcomes, sequence, &moved.encode()).await;
        restated.unwrap().await.unwrap();
        // The copy has ended and is gone, while something still pins its source.
        let row =
            |domain: &str| TallyRow { domain: domain.to_owned(), accepted: 4, ended: [0, 0, 0, 4, 0, 0] };
        let rows = vec![row("one.test"), row("two.test")];
        let tally = Tally { shard, segment: SegmentId(9), rows };
        journal.append_tally(&tally).await.unwrap().await.unwrap();
    });
    let audit = audit(&disk);
    assert_eq!(audit.problems, []);
    assert_eq!((sum(&audit, |row| row.accepted), sum(&audit, |row| row.delivered)), (8, 8));
}
