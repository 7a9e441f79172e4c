//! The hazards of storage, each a test that fails when its rule is taken out (HAZARDS, "H..."). Failing disks
//! are in `failure.rs`, what recovery does with damaged files in `recovery_rows.rs`.

use super::checker::{check_on, entries_of, open_on};
use super::node::*;
use super::upkeep::{checkpoint_all, refresh_places, rewrite};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::Clock;
use storage::error::OpenError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::segment_header::Purpose;
use storage::frontier::{CEILING_STEP, Frontier, IDLE};
use storage::position::{SegmentId, ShardId, Stamp, UnixMillis};
use storage::segment;
use storage::sim::SimDisk;
use storage::store::StoreOptions;

pub(crate) fn promise_of(world: &World, number: u64) -> Rc<Promise> {
    Rc::clone(&world.borrow().acknowledged[&number])
}

/// Delivers everything that is promised and not settled.
pub(crate) async fn deliver_all(node: &Node, owner: usize, world: &World) {
    let all: Vec<_> = world.borrow().acknowledged.values().cloned().collect();
    for promise in all {
        for ordinal in 0..u16::try_from(promise.recipients.len()).unwrap() {
            if !world.borrow().settled.contains(&(promise.stamp, ordinal)) {
                node.deliver(&node.shards[owner], world, &promise, ordinal).await;
            }
        }
    }
}

fn mail_files(disk: &SimDisk, shard: &str) -> Vec<String> {
    let names = block_on(&storage::sim::SimClock::default(), {
        let (disk, shard) = (disk.clone(), shard.to_owned());
        async move { storage::disk::Disk::list(&disk, &shard).await.unwrap() }
    });
    let mut names: Vec<_> = names.into_iter().filter(|name| name.starts_with("segment-")).collect();
    names.sort();
    names
}

#[test]
fn h1_stamps_and_queue_ids_go_on_when_all_is_gone_and_the_clock_is_at_1970() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let world = World::default();
    let first = live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            node.clock.set_wall(UnixMillis(1_800_000_000_000));
            for _ in 0..20 {
                assert!(send(&node.shards[0], &world, &["a@one.test"], 30_000, 0).await);
            }
            deliver_all(&node, 0, &world).await;
            node.fill(&node.shards[0], &world).await;
            deliver_all(&node, 0, &world).await;
            assert!(!node.reclaim().await.is_empty());
            node.opened.store
        }
    });
    // All of it, also what a node would still keep, and every journal: only the store file remembers.
    let files: Vec<_> = disk.paths().into_iter().filter(|path| path.starts_with("shard-")).collect();
    block_on(&storage::sim::SimClock::default(), {
        let disk = disk.clone();
        async move {
            for path in files {
                storage::disk::Disk::remove(&disk, &path).await.unwrap();
            }
        }
    });
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            node.clock.set_wall(UnixMillis(0));
            assert!(node.opened.store.incarnation > first.incarnation, "queue ids differ by it");
            let highest = world.borrow().largest_acknowledged;
            // `send` asserts that the stamp is new and above all others.
            assert!(send(&node.shards[0], &world, &["a@one.test"], 100, 0).await);
            assert!(world.borrow().largest_acknowledged > highest);
        }
    });
    let opened = open_on(&disk, 1).unwrap();
    assert_eq!(opened.messages, 1, "the new one is queued, not taken for settled");
}

#[test]
fn h1_a_ceiling_is_durable_before_a_stamp_above_the_old_one_is_used() {
    let frontier = Frontier::new(1, Stamp(10), Stamp(12));
    frontier.publish_pending(ShardId(0));
    assert!(frontier.take(ShardId(0)).is_ok());
    let wanted = frontier.ceilings_wanted().unwrap();
    assert_eq!(wanted.stamp, Stamp(12 + CEILING_STEP), "long before it is reached");
    assert!(frontier.take(ShardId(0)).is_ok());
    assert!(frontier.take(ShardId(0)).is_err());
    frontier.ceilings_raised(&wanted);
    assert!(frontier.take(ShardId(0)).is_ok());
}

#[test]
fn h1_a_raised_ceiling_survives_a_crash() {
    let disk = SimDisk::new(3, DISK_OCTETS);
    let raised = live_on(&disk, 1, |node| async move {
        let mut store = node.opened.store;
        store.sequence += 1;
        store.stamp_ceiling = Stamp(store.stamp_ceiling.0 + CEILING_STEP);
        storage::save_identity(&node.disk, &store).await.unwrap();
        store
    });
    let opened = open_on(&disk.crash(), 1).unwrap();
    assert!(opened.frontier.horizon() >= raised.stamp_ceiling);
    assert!(opened.store.incarnation > raised.incarnation);
}

#[test]
fn h2_a_known_shard_that_is_missing_stops_the_start_and_is_whole_when_it_returns() {
    let disk = SimDisk::new(2, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 2, {
        let world = Rc::clone(&world);
        move |node| async move {
            for shard in &node.shards {
                assert!(send(shard, &world, &["a@one.test", "b@two.test"], 5_000, 0).await);
            }
            let mine = promise_of(&world, 1);
            node.deliver(&node.shards[0], &world, &mine, 0).await;
        }
    });
    let away = disk.unmount("shard-01");
    assert_eq!(open_on(&disk, 2).unwrap_err(), OpenError::MissingShard(ShardId(1)));
    assert_eq!(open_on(&disk, 1).unwrap_err(), OpenError::MissingShard(ShardId(1)), "fewer cores or not");
    disk.mount(away);
    assert_eq!(check_on(&disk, 2, &world), Vec::<String>::new());
}

#[test]
fn h2_a_store_file_that_is_lost_beside_shards_stops_the_start() {
    let disk = SimDisk::new(2, DISK_OCTETS);
    open_on(&disk, 1).unwrap();
    disk.rot("store", 0, &[0; 64]);
    assert!(open_on(&disk, 1).is_ok(), "one slot of two is enough");
    disk.rot("store", 0, &[0xFF; 8192]);
    assert!(matches!(open_on(&disk, 1), Err(OpenError::Identity(_))));
}

/// A message whose chunks fill the first segment and which is closed in a later one.
async fn across_segments(node: &Node, world: &World) -> Arriving {
    let shard = &node.shards[0];
    let first = shard.mail.active_segment();
    let mut arriving = Arriving::new(shard, world);
    let mut part = 0;
    while shard.mail.active_segment() == first {
        assert!(arriving.chunk(&data_of(part, 50_000)).await);
        part += 1;
    }
    node.clock.sleep(Duration::from_secs(5)).await;
    arriving
}

#[test]
fn h3_chunks_stay_as_long_as_their_message_is_queued() {
    let disk = SimDisk::new(4, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let arriving = across_segments(&node, &world).await;
            assert_eq!(node.reclaim().await, [], "still arriving");
            let number = arriving.number;
            assert!(arriving.close(&world, &["a@one.test", "b@two.test"], b"the end\r\n").await);
            node.fill(&node.shards[0], &world).await;
            let small = promise_of(&world, number + 1);
            node.deliver(&node.shards[0], &world, &small, 0).await;
            node.deliver(&node.shards[0], &world, &promise_of(&world, number), 0).await;
            assert_eq!(node.reclaim().await, [], "one of its two recipients is open");
        }
    });
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            assert_eq!(node.reclaim().await, [], "as before the restart");
            deliver_all(&node, 0, &world).await;
            let gone: BTreeSet<_> = node.reclaim().await.into_iter().map(|place| place.1).collect();
            assert!(gone.contains(&SegmentId(1)), "{gone:?}");
        }
    });
    assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
}

#[test]
fn h3_abandoned_chunks_free_their_segment() {
    let disk = SimDisk::new(5, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let arriving = across_segments(&node, &world).await;
            assert_eq!(node.reclaim().await, []);
            arriving.abandon();
            assert_eq!(node.reclaim().await, [(ShardId(0), SegmentId(1))]);
        }
    });
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let arriving = across_segments(&node, &world).await;
            drop(arriving);
        }
    });
    live_on(&disk, 1, |node| async move {
        node.reclaim().await;
        let kept = mail_files_of(&node).await;
        assert_eq!(kept, 1, "a crash abandons what was arriving: only the active segment is left");
    });
}

async fn mail_files_of(node: &Node) -> usize {
    let names = storage::disk::Disk::list(&node.disk, "shard-00").await.unwrap();
    names.iter().filter(|name| matches!(segment::parse_name(name), Some((Purpose::Mail, _)))).count()
}

#[test]
fn h3_a_message_that_is_settled_before_its_session_hears_of_it_pins_nothing() {
    let mut shelf = storage::shelf::Shelf::default();
    let (chunks, close) = (SegmentId(1), SegmentId(2));
    shelf.pin(ShardId(0), chunks);
    shelf.seal(ShardId(0), chunks, &Default::default());
    shelf.settle(ShardId(0), close, 0, Outcome::Delivered);
    shelf.keep_pins(ShardId(0), close, 0, 1, vec![chunks]);
    assert_eq!(shelf.take_removable(), Some((ShardId(0), chunks)));
}

#[test]
fn h10_cores_two_one_two_are_one_queue() {
    let disk = SimDisk::new(6, DISK_OCTETS);
    let world = World::default();
    for (shards, owner) in [(2, 1), (1, 0), (2, 0), (2, 1)] {
        live_on(&disk, shards, {
            let world = Rc::clone(&world);
            move |node| async move {
                for shard in &node.shards {
                    for _ in 0..3 {
                        assert!(send(shard, &world, &["a@one.test", "b@one.test"], 40_000, 0).await);
                    }
                }
                // One unit of each message, so that everything stays and every journal says something.
                let all: Vec<_> = world.borrow().acknowledged.values().cloned().collect();
                for promise in all {
                    node.deliver(&node.shards[owner], &world, &promise, 0).await;
                }
            }
        });
        assert_eq!(check_on(&disk, shards, &world), Vec::<String>::new(), "{shards} cores");
    }
}

#[test]
fn h10_a_directory_without_its_core_is_drained_and_its_numbers_never_return() {
    let disk = SimDisk::new(7, DISK_OCTETS);
    let world = World::default();
    for shards in [2_u16, 1, 2, 1, 2] {
        live_on(&disk, shards, {
            let world = Rc::clone(&world);
            move |node| async move {
                deliver_all(&node, 0, &world).await;
                node.reclaim().await;
                for shard in &node.shards {
                    assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
                }
            }
        });
        // Tallies count each unlinked segment once: a number that came back would hide one.
        assert_eq!(check_on(&disk, shards, &world), Vec::<String>::new());
        if shards == 1 {
            assert_eq!(mail_files(&disk, "shard-01"), Vec::<String>::new());
        }
    }
}

#[test]
fn h10_hold_and_release_survive_as_the_latest_says() {
    let disk = SimDisk::new(8, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 2, {
        let world = Rc::clone(&world);
        move |node| async move {
            assert!(send(&node.shards[0], &world, &["a@one.test", "b@one.test"], 10, 0).await);
            let stamp = promise_of(&world, 1).stamp;
            let fact = |ordinal, outcome| Fact { stamp, ordinal, outcome, code: 0 };
            for (shard, fact) in
                [(0, fact(0, Outcome::Held)), (1, fact(1, Outcome::Held)), (1, fact(0, Outcome::Released))]
            {
                node.shards[shard].journal.append_facts(&[fact]).await.unwrap().await.unwrap();
            }
        }
    });
    for _ in 0..2 {
        let opened = open_on(&disk, 2).unwrap();
        let queued = opened.backlogs[0].clone().into_queued().next().unwrap();
        let held: Vec<u16> = queued.held_units().map(|known| known.fact.ordinal).collect();
        assert_eq!((queued.open_units(), held), (vec![0], vec![1]));
    }
}

#[test]
fn h12_the_horizon_stays_below_what_is_not_durable_whatever_the_interleaving() {
    // Two shards take, commit and release in every order of these steps.
    for order in 0..1_u32 << 12 {
        let frontier = Frontier::new(2, Stamp(1), Stamp(1_000));
        let mut pending: [Option<Stamp>; 2] = [None; 2];
        for step in 0..12 {
            let shard = usize::from(order >> step & 1 == 1);
            let id = ShardId(u16::try_from(shard).unwrap());
            match pending[shard].take() {
                None => {
                    if frontier.floor(id) == IDLE {
                        frontier.publish_pending(id);
                    }
                    pending[shard] = Some(frontier.take(id).unwrap());
                }
                Some(_) => frontier.publish(id, IDLE),
            }
            let horizon = frontier.horizon();
            for stamp in pending.iter().flatten() {
                assert!(horizon <= *stamp, "order {order:b}: {stamp:?} is in flight, horizon {horizon:?}");
            }
        }
    }
}

#[test]
fn h12_threads_never_see_a_horizon_above_a_stamp_in_flight() {
    let frontier = Arc::new(Frontier::new(2, Stamp(1), Stamp(u64::MAX / 2)));
    let in_flight: Arc<[std::sync::atomic::AtomicU64; 2]> =
        Arc::new([IDLE.0, IDLE.0].map(std::sync::atomic::AtomicU64::new));
    std::thread::scope(|scope| {
        let writers = [0_u16, 1].map(|shard| {
            let (frontier, in_flight) = (Arc::clone(&frontier), Arc::clone(&in_flight));
            scope.spawn(move || {
                let (id, mine) = (ShardId(shard), &in_flight[usize::from(shard)]);
                for _ in 0..20_000 {
                    frontier.publish_pending(id);
                    let stamp = frontier.take(id).unwrap();
                    mine.store(stamp.0, std::sync::atomic::Ordering::SeqCst);
                    mine.store(IDLE.0, std::sync::atomic::Ordering::SeqCst);
                    frontier.publish(id, IDLE);
                }
            })
        });
        while !writers.iter().all(|writer| writer.is_finished()) {
            // Read in the order in which a release becomes visible: the stamp leaves before the floor lifts.
            let horizon = frontier.horizon();
            for stamp in in_flight.iter() {
                let stamp = stamp.load(std::sync::atomic::Ordering::SeqCst);
                assert!(horizon.0 <= stamp, "horizon {horizon:?} above {stamp} in flight");
            }
        }
    });
}

#[test]
fn h12_the_horizon_moves_on_under_load_that_never_pauses() {
    // A batch took over the floor of the one in flight, so that a shard which always had a batch in flight
    // never lifted its floor, and no drain went on while mail came in.
    let disk = SimDisk::new(9, DISK_OCTETS);
    let lags = live_on(&disk, 1, |node| async move {
        let world = World::default();
        let lags = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..6 {
            let (node, world, lags) = (node.clone(), Rc::clone(&world), Rc::clone(&lags));
            node.spawner.clone().spawn(async move {
                for _ in 0..100 {
                    assert!(send(&node.shards[0], &world, &["a@one.test"], 100, 0).await);
                    let promised = world.borrow().largest_acknowledged;
                    lags.borrow_mut().push(promised.0.saturating_sub(node.opened.frontier.horizon().0));
                }
            });
        }
        node.clock.sleep(Duration::from_secs(60)).await;
        lags.take()
    });
    assert_eq!(lags.len(), 600);
    let worst = lags.iter().max().unwrap();
    assert!(*worst == 0, "the horizon is {worst} stamps behind what is promised");
}

#[test]
fn h12_a_refused_stamp_holds_nobody() {
    let disk = SimDisk::new(10, DISK_OCTETS);
    live_on(&disk, 1, |node| async move {
        let world = World::default();
        let frontier = &node.opened.frontier;
        while frontier.sequence().is_ok() {}
        assert!(!send(&node.shards[0], &world, &["a@one.test"], 100, 0).await, "no stamps are left");
        assert_eq!(frontier.floor(ShardId(0)), IDLE);
        let wanted = frontier.ceilings_wanted().unwrap();
        frontier.ceilings_raised(&wanted);
        assert!(send(&node.shards[0], &world, &["a@one.test"], 100, 0).await);
    });
}

#[test]
fn h19_a_slow_sender_holds_no_frontier() {
    let disk = SimDisk::new(11, DISK_OCTETS);
    live_on(&disk, 2, |node| async move {
        let world = World::default();
        let mut slow = Arriving::new(&node.shards[0], &world);
        assert!(slow.chunk(&data_of(1, 10_000)).await);
        assert!(send(&node.shards[1], &world, &["a@one.test"], 100, 0).await);
        let fast = world.borrow().largest_acknowledged;
        assert!(node.opened.frontier.horizon() > fast, "the chunk has no stamp");
        assert!(slow.chunk(&data_of(2, 10_000)).await);
        node.clock.sleep(Duration::from_secs(600)).await;
        assert!(slow.close(&world, &["a@one.test"], b"").await, "its stamp is later: `close` asserts it");
        assert!(node.opened.frontier.horizon() > world.borrow().largest_acknowledged);
    });
    assert_eq!(entries_of(&open_on(&disk, 2).unwrap()).len(), 2);
}

#[test]
fn h2_without_a_shard_mail_is_taken_and_what_came_after_its_last_message_waits() {
    let disk = SimDisk::new(40, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 2, {
        let world = Rc::clone(&world);
        move |node| async move {
            for shard in [0, 1, 0] {
                assert!(send(&node.shards[shard], &world, &["a@one.test"], 1_000, 0).await);
            }
        }
    });
    // A start writes down what each directory holds.
    open_on(&disk, 2).unwrap();
    let unmounted = disk.unmount("shard-01");
    assert_eq!(open_on(&disk, 2).unwrap_err(), OpenError::MissingShard(ShardId(1)));
    let without = StoreOptions { without: vec![ShardId(1)], ..store_options(2) };
    for _ in 0..2 {
        live_with(&disk, without.clone(), {
            let world = Rc::clone(&world);
            move |node| async move {
                assert!(node.opened.incomplete, "what journals say about the missing shard stays");
                assert_eq!(node.opened.findings, []);
                let [first, second, third] = [1, 2, 3].map(|number| promise_of(&world, number).stamp);
                let horizon = node.opened.frontier.horizon();
                assert!(first < horizon && second < horizon, "up to its last known message");
                assert!(third >= horizon, "{third:?} came after it");
                assert_ne!(node.shards[1].id, ShardId(1), "the missing directory is not made anew");
                for shard in &node.shards {
                    assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
                    assert!(promise_of(&world, world.borrow().next_number).stamp >= horizon);
                }
            }
        });
    }
    disk.mount(unmounted);
    assert_eq!(check_on(&disk, 2, &world), Vec::<String>::new());
    assert!(!open_on(&disk, 2).unwrap().incomplete);
}

#[test]
fn a_full_disk_settles_and_drains_by_itself() {
    let disk = SimDisk::new(41, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            for _ in 0..600 {
                assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
            }
            node.fill(shard, &world).await;
        }
    });
    // Not an octet is left, before the start and after it: what there is must do.
    disk.set_free(0);
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            assert!(!send(shard, &world, &["a@one.test"], 1_000, 0).await, "there is no room for mail");
            let all: Vec<_> = world.borrow().acknowledged.values().cloned().collect();
            for (number, promise) in all.iter().enumerate() {
                // One write each: the journal fills several times over.
                node.deliver(shard, &world, promise, 0).await;
                if number % 50 == 49 {
                    checkpoint_all(&node, &world).await;
                    node.clock.sleep(Duration::from_secs(2)).await;
                }
            }
            assert!(!node.reclaim().await.is_empty());
            node.clock.sleep(Duration::from_secs(5)).await;
            assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await, "there is room again");
        }
    });
    assert_eq!(check_on(&disk.crash(), 1, &world), Vec::<String>::new());
    let settled = world.borrow().settled.len();
    assert!(settled >= 600, "all of it was settled durably: {settled}");
}

#[test]
fn h10_mail_that_a_rewrite_took_along_does_not_come_back_when_its_copy_is_gone() {
    // A crash between the tallies of two sources; the second one stays, pinned by a reader, until the copy is drained,
    // and a checkpoint has dropped the facts about it.
    let disk = SimDisk::new(42, DISK_OCTETS);
    let world = World::default();
    let second = live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            for _ in 0..2 {
                node.fill(shard, &world).await;
            }
            let last = world.borrow().next_number;
            for number in 1..last {
                if number % 4 != 0 {
                    node.deliver(shard, &world, &promise_of(&world, number), 0).await;
                }
            }
            let (sources, _) = rewrite(&node, shard, &world).await.expect("both are sparse");
            assert!(sources.len() >= 2, "{sources:?}");
            let store = node.opened.store.store;
            let first = segment::index_of(&node.disk, store, &node.keys, shard.id, sources[0]).await.unwrap();
            let tally = shard.shelf.borrow().tally(shard.id, sources[0], &first).unwrap();
            shard.journal.append_tally(&tally).await.unwrap().await.unwrap();
            sources[1]
        }
    });
    let disk = disk.crash();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            refresh_places(&node.opened, &world);
            shard.shelf.borrow_mut().pin(shard.id, second);
            deliver_all(&node, 0, &world).await;
            assert!(!node.reclaim().await.is_empty(), "the copy is gone");
            assert!(checkpoint_all(&node, &world).await);
        }
    });
    assert!(disk.content(&segment::path(ShardId(0), Purpose::Mail, second)).is_some());
    for _ in 0..2 {
        assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new());
    }
}
