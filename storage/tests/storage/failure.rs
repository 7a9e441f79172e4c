//! H8 and full disks: every call that can fail does, and nobody is told what is not so.

use super::checker::{check_on, entries_of, open_on, read_back};
use super::hazards::{deliver_all, promise_of};
use super::node::*;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::journal_entry::Void;
use storage::position::{QueueId, SegmentId, ShardId};
use storage::reader::Reader;
use storage::segment::{index_name, path};
use storage::sim::disk::Faults;
use storage::sim::{SimClock, SimDisk};

/// Six senders at once, then one that succeeds: behind a failure that takes its void along.
async fn workload(node: Node, world: World) {
    for writer in 0..6_u64 {
        let (node, world) = (node.clone(), Rc::clone(&world));
        node.spawner.clone().spawn(async move {
            for round in 0..4_u64 {
                let (octets, chunks) = if (writer + round) % 3 == 0 { (90_000, 2) } else { (3_000, 0) };
                send(&node.shards[0], &world, &["a@one.test", "b@two.test"], octets, chunks).await;
            }
        });
    }
    node.clock.sleep(Duration::from_secs(60)).await;
    for _ in 0..10 {
        if send(&node.shards[0], &world, &["a@one.test"], 10, 0).await {
            return;
        }
        node.clock.sleep(Duration::from_secs(2)).await;
    }
    panic!("the log does not go on: {:?}", node.troubles.borrow());
}

/// Messages on `disk` that were answered with an error.
pub(crate) fn returned(disk: &SimDisk, world: &World) -> Vec<QueueId> {
    let opened = open_on(disk, 1).unwrap();
    let (disk, world) = (disk.clone(), Rc::clone(world));
    block_on(&SimClock::default(), async move {
        let reader = Reader::new(disk, opened.store.store, Default::default());
        let mut back = Vec::new();
        for (shard, entry) in entries_of(&opened).values() {
            let queue_id = read_back(&reader, *shard, entry).await.unwrap().queue_id;
            if world.borrow().refused.contains(&queue_id.0) {
                back.push(queue_id);
            }
        }
        back
    })
}

/// One run whose call number `call` fails; returns the disk behind it and how many calls there were.
fn run_with_failure(call: u64) -> (SimDisk, World, u64, usize) {
    run_with_failures(call, None)
}

fn run_with_failures(call: u64, later: Option<u64>) -> (SimDisk, World, u64, usize) {
    let disk = SimDisk::new(call, DISK_OCTETS);
    let world = World::default();
    let (calls, troubles) = live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let faults = Faults { fail_call: Some(call), fail_later_call: later, ..Faults::default() };
            node.disk.set_faults(faults);
            workload(node.clone(), world).await;
            let (calls, troubles) = (node.disk.calls(), node.troubles.borrow().len());
            node.disk.set_faults(Faults::default());
            (calls, troubles)
        }
    });
    (disk, world, calls, troubles)
}

#[test]
fn h8_whatever_call_fails_an_append_is_durable_or_gone() {
    let (_, _, calls, troubles) = run_with_failure(u64::MAX);
    assert_eq!(troubles, 0);
    assert!(calls > 40, "{calls}");
    let (mut refused, mut latched) = (0, 0);
    for call in 1..calls {
        for power_cut in [false, true] {
            let (disk, world, _, troubles) = run_with_failure(call);
            assert_eq!(disk.syncs_after_failure(), 0, "call {call}: nothing is synced again");
            latched += troubles;
            refused += world.borrow().refused.len();
            let disk = if power_cut { disk.crash() } else { disk };
            assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new(), "call {call}");
            assert_eq!(returned(&disk, &world), [], "call {call}: answered with an error, yet back");
        }
    }
    assert!(latched > 40 && refused > 40, "failures that nobody notices prove nothing: {latched} {refused}");
}

#[test]
fn h8_two_failures_in_a_row_are_both_void() {
    // Found by review: only the last failed range was voided, so what the one before had refused could return.
    let mut twice = 0;
    for call in (3..40).step_by(3) {
        for later in call + 1..call + 10 {
            let (disk, world, _, troubles) = run_with_failures(call, Some(later));
            twice += usize::from(troubles > 1);
            // An index leaves voided mail out by itself; without one it takes the voids.
            let names = block_on(&SimClock::default(), {
                let disk = disk.clone();
                async move { disk.list("shard-00").await.unwrap() }
            });
            let indexes: Vec<String> = names
                .iter()
                .filter(|name| name.ends_with(".index"))
                .map(|name| format!("shard-00/{name}"))
                .collect();
            remove(&disk, &indexes);
            assert_eq!(returned(&disk, &world), [], "calls {call} and {later}");
        }
    }
    assert!(twice > 20, "two failures in a row: {twice}");
}

#[test]
fn h8_an_open_that_fails_at_any_call_loses_nothing() {
    for call in 1.. {
        let disk = SimDisk::new(call, DISK_OCTETS);
        let world = World::default();
        live_on(&disk, 2, {
            let world = Rc::clone(&world);
            move |node| async move {
                for shard in &node.shards {
                    for _ in 0..4 {
                        assert!(send(shard, &world, &["a@one.test", "b@two.test"], 20_000, 0).await);
                    }
                }
                node.deliver(&node.shards[1], &world, &promise_of(&world, 2), 1).await;
            }
        });
        disk.set_faults(Faults { fail_call: Some(call), ..Faults::default() });
        let failed = open_on(&disk, 3).is_err();
        let disk = disk.crash();
        assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new(), "call {call}");
        assert_eq!(check_on(&disk, 2, &world), Vec::<String>::new(), "call {call}, again");
        if !failed && call > 3 {
            break;
        }
    }
}

/// A store with a latched segment 1, in which one promised message is, and its void in segment 2.
pub(crate) fn with_void() -> (SimDisk, World) {
    let disk = SimDisk::new(12, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
            // The second call is the sync: all octets of the batch are there to come back.
            node.disk.set_faults(Faults { fail_call: Some(2), ..Faults::default() });
            assert!(!send(shard, &world, &["a@one.test"], 1_000, 0).await);
            node.clock.sleep(Duration::from_secs(5)).await;
            assert_eq!(shard.mail.active_segment(), Some(SegmentId(2)));
            assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
            node.clock.sleep(Duration::from_secs(5)).await;
        }
    });
    (disk, world)
}

fn remove(disk: &SimDisk, names: &[String]) {
    let (disk, names) = (disk.clone(), names.to_vec());
    block_on(&SimClock::default(), async move {
        for name in names {
            disk.remove(&name).await.unwrap();
        }
    });
}

fn mail(segment: u32) -> String {
    path(ShardId(0), storage::format::segment_header::Purpose::Mail, SegmentId(segment))
}

fn index(segment: u32) -> String {
    format!("shard-00/{}", index_name(SegmentId(segment)))
}

#[test]
fn h8_the_octets_of_a_failed_batch_are_there_to_come_back() {
    // A canary: without its void the refused message returns.
    let (disk, world) = with_void();
    remove(&disk, &[index(1), mail(2)]);
    assert_eq!(returned(&disk, &world).len(), 1);
}

#[test]
fn h8_voided_mail_stays_void_without_the_index() {
    let (disk, world) = with_void();
    remove(&disk, &[index(1)]);
    assert_eq!(returned(&disk, &world), []);
    assert!(disk.content(&index(1)).is_some(), "rebuilt, without the voided message");
    remove(&disk, &[mail(2), index(2)]);
    assert_eq!(returned(&disk, &world), []);
}

#[test]
fn h8_voided_mail_stays_void_when_the_segment_of_the_void_is_gone() {
    let (disk, world) = with_void();
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    remove(&disk, &[mail(2), index(2)]);
    assert_eq!(returned(&disk, &world), []);
}

#[test]
fn h8_the_segment_of_a_void_stays_as_long_as_the_one_that_it_voids() {
    let (disk, world) = with_void();
    for restart in [false, true] {
        live_on(&disk, 1, {
            let world = Rc::clone(&world);
            move |node| async move {
                if !restart {
                    node.deliver(&node.shards[0], &world, &promise_of(&world, 3), 0).await;
                    assert_eq!(node.reclaim().await, [], "segment 1 still needs the void in segment 2");
                    return;
                }
                deliver_all(&node, 0, &world).await;
                let gone: BTreeSet<_> = node.reclaim().await.into_iter().map(|place| place.1.0).collect();
                assert!(gone.is_superset(&BTreeSet::from([1, 2])), "{gone:?}");
            }
        });
    }
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn h8_a_message_whose_chunk_lies_in_a_failed_range_is_refused() {
    let disk = SimDisk::new(13, DISK_OCTETS);
    live_on(&disk, 1, |node| async move {
        let world = World::default();
        let mut arriving = Arriving::new(&node.shards[0], &world);
        node.disk.set_faults(Faults { fail_call: Some(1), ..Faults::default() });
        assert!(arriving.chunk(b"gone").await, "nobody waits for a chunk");
        node.clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(node.troubles.borrow().len(), 1);
        assert!(!arriving.close(&world, &["a@one.test"], b"tail").await);
        assert!(send(&node.shards[0], &world, &["a@one.test"], 10, 0).await);
    });
}

#[test]
fn h8_a_void_covers_just_its_range() {
    let void = Void { segment: SegmentId(3), from: 8192, to: 65536 };
    let table = [
        (3, 8191, false),
        (3, 8192, true),
        (3, 65535, true),
        (3, 65536, false),
        (2, 8192, false),
        (4, 8192, false),
    ];
    for (segment, offset, covered) in table {
        assert_eq!(void.covers(SegmentId(segment), offset), covered, "{segment} {offset}");
    }
    assert_eq!(Void::decode(&void.encode()), Some(void));
}

#[test]
fn a_full_disk_refuses_and_settled_space_is_used_again() {
    // In the first case a segment is sealed while there is no room for its index.
    for (free, index_fits) in [(3 * SEGMENT_OCTETS, false), (5 * SEGMENT_OCTETS + 100_000, true)] {
        let disk = SimDisk::new(14, DISK_OCTETS);
        let world = World::default();
        live_on(&disk, 1, {
            let world = Rc::clone(&world);
            move |node| async move {
                node.disk.set_free(free);
                let shard = &node.shards[0];
                while send(shard, &world, &["a@one.test"], 30_000, 0).await {
                    if !index_fits && shard.mail.active_segment() == Some(SegmentId(2)) {
                        node.disk.set_free(0);
                    }
                }
                node.clock.sleep(Duration::from_secs(5)).await;
                let queue_id = QueueId(1);
                let refused = shard.mail.append_chunk(queue_id, b"more").await.unwrap_err();
                assert_eq!(refused, AppendError::NoSpace);
                deliver_all(&node, 0, &world).await;
                node.clock.sleep(Duration::from_secs(5)).await;
                if !index_fits {
                    node.disk.set_free(2 * SEGMENT_OCTETS);
                }
                assert!(!node.reclaim().await.is_empty());
                node.clock.sleep(Duration::from_secs(5)).await;
                assert!(send(shard, &world, &["a@one.test"], 30_000, 0).await, "there is room again");
            }
        });
        assert_eq!(check_on(&disk.crash(), 1, &world), Vec::<String>::new());
    }
}
