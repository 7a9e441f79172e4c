//! One fixed story, told once for each call that it makes, with that call failing: EIO and ENOSPC for those that change
//! something, EIO and half of the octets for those that read. Whatever fails, nothing promised is lost, and what was
//! answered with an error does not come back.

use super::checker::{check_on, open_on};
use super::failure::returned;
use super::hazards::deliver_all;
use super::node::*;
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::sim::disk::{Faults, Fired};
use storage::sim::{Executor, SimClock, SimDisk};
use storage::store::open;

/// Mail small and large, deliveries, a roll, a reclaim; what is refused is refused.
async fn story(node: Node, world: World) {
    let shard = node.shards[0].clone();
    for round in 0..10_u64 {
        let (octets, chunks) = if round % 3 == 0 { (90_000, 2) } else { (6_000, 0) };
        send(&shard, &world, &["a@one.test", "b@two.test"], octets, chunks).await;
        if round % 4 == 1 {
            deliver_earliest(&node, &world, 2).await;
        }
    }
    deliver_earliest(&node, &world, 1).await;
    node.clock.sleep(Duration::from_secs(5)).await;
    node.reclaim().await;
    node.clock.sleep(Duration::from_secs(5)).await;
}

/// Delivers the first messages that are not delivered yet.
async fn deliver_earliest(node: &Node, world: &World, messages: usize) {
    let open: Vec<_> = {
        let world = world.borrow();
        let is_open = |promise: &&Rc<Promise>| !world.settled.contains(&(promise.stamp, 1));
        world.acknowledged.values().filter(is_open).take(messages).cloned().collect()
    };
    for promise in open {
        for ordinal in 0..2 {
            node.deliver(&node.shards[0], world, &promise, ordinal).await;
        }
    }
}

/// A store after four lives of the story, crashed: several segments, some of them gone, those that stay without an index, so that each is scanned.
fn lived(seed: u64) -> (SimDisk, World) {
    let world = World::default();
    let mut disk = SimDisk::new(seed, DISK_OCTETS);
    for _ in 0..4 {
        live_on(&disk, 1, {
            let world = Rc::clone(&world);
            move |node| story(node, world)
        });
        disk = disk.crash();
    }
    let without = disk.clone();
    block_on(&SimClock::default(), async move {
        let names = without.list("shard-00").await.unwrap();
        for index in names.iter().filter(|name| name.ends_with(".index")) {
            without.remove(&format!("shard-00/{index}")).await.unwrap();
        }
        without.sync_directory("shard-00").await.unwrap();
    });
    (disk, world)
}

/// Opens the store and lives the story in it, with faults all the way; tells whether it opened.
fn opens_and_lives(disk: &SimDisk, world: &World) -> bool {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let (spawner, disk, world) = (executor.spawner(), disk.clone(), Rc::clone(world));
    let lived = async move {
        let Ok(opened) = open(&disk, &clock, &store_options(1)).await else { return false };
        let Some(node) = Node::over(opened, &(&store_options(1)).into(), &disk, &clock, &spawner).await
        else {
            return false;
        };
        story(node, world).await;
        true
    };
    executor.run(u64::MAX, lived).expect("the story ends")
}

/// Tells the story once for each call, until there is no such call any more; returns what fired.
fn call_by_call(faults_at: impl Fn(u64) -> Faults) -> Fired {
    let mut all = Fired::default();
    let mut refused_to_open = 0;
    for call in 1.. {
        let (disk, world) = lived(call);
        let before = disk.fired();
        disk.set_faults(faults_at(call));
        refused_to_open += u64::from(!opens_and_lives(&disk, &world));
        let (calls, readings) = (disk.calls(), disk.readings());
        let fired = disk.fired();
        disk.set_faults(Faults::default());
        assert_eq!(disk.syncs_after_failure(), 0, "call {call}: nothing is synced again");
        let disk = if call % 2 == 0 { disk.crash() } else { disk };
        assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new(), "call {call}");
        assert_eq!(returned(&disk, &world), [], "call {call}: answered with an error, yet back");
        all.add(&difference(&fired, &before));
        if call > calls.max(readings) {
            break;
        }
    }
    println!("{all}; the store did not open {refused_to_open} times");
    all
}

fn difference(after: &Fired, before: &Fired) -> Fired {
    let mut eio = after.eio.clone();
    for (operation, count) in &before.eio {
        *eio.entry(*operation).or_default() -= count;
    }
    Fired {
        eio,
        no_space: after.no_space - before.no_space,
        short_reads: after.short_reads - before.short_reads,
        ..Fired::default()
    }
}

#[test]
fn h8_eio_at_every_call_loses_nothing() {
    let fired = call_by_call(|call| Faults { fail_call: Some(call), ..Faults::default() });
    let kinds: Vec<_> = fired.eio.keys().map(|operation| operation.word()).collect();
    assert_eq!(kinds, ["create", "give back", "remove", "sync", "sync directory", "write"]);
    assert!(fired.eio.values().all(|count| *count >= 3), "{fired}");
}

#[test]
fn h8_enospc_at_every_call_loses_nothing() {
    let fired = call_by_call(|call| Faults { no_space_call: Some(call), ..Faults::default() });
    assert!(fired.no_space > 50, "{fired}");
}

#[test]
fn eio_at_every_reading_call_loses_nothing() {
    let fired = call_by_call(|call| Faults { fail_reading: Some(call), ..Faults::default() });
    let kinds: Vec<_> = fired.eio.keys().map(|operation| operation.word()).collect();
    assert_eq!(kinds, ["list", "open", "read"]);
}

#[test]
fn half_of_the_octets_at_every_read_loses_nothing() {
    let fired = call_by_call(|call| Faults { short_reading: Some(call), ..Faults::default() });
    assert!(fired.short_reads > 10, "{fired}");
}

/// A directory of which everything was drained while another shard kept it has no file left. Then a start could not read the
/// journal that told so, and began with number 1 again; the next one could, and removed what was in it.
#[test]
fn numbers_of_segments_do_not_return_when_a_journal_cannot_be_read() {
    let (mut opened, mut refused) = (0, 0);
    for reading in 1.. {
        let disk = SimDisk::new(reading, DISK_OCTETS);
        let world = World::default();
        for shards in [2, 1] {
            live_on(&disk, shards, {
                let world = Rc::clone(&world);
                move |node| async move {
                    if shards == 2 {
                        node.fill(&node.shards[1], &world).await;
                    }
                    deliver_all(&node, 0, &world).await;
                    node.reclaim().await;
                }
            });
        }
        let disk = disk.crash();
        disk.set_faults(Faults { fail_reading: Some(reading), ..Faults::default() });
        let clock = SimClock::default();
        let mut executor = Executor::new(1, clock.clone());
        let lived = executor.run(u64::MAX, {
            let (spawner, disk, world) = (executor.spawner(), disk.clone(), Rc::clone(&world));
            async move {
                let Ok(opened) = open(&disk, &clock, &store_options(2)).await else { return false };
                let node = Node::over(opened, &(&store_options(2)).into(), &disk, &clock, &spawner).await;
                let Some(node) = node else { return false };
                node.fill(&node.shards[1], &world).await;
                true
            }
        });
        opened += u64::from(lived == Some(true));
        refused += u64::from(lived == Some(false));
        let readings = disk.readings();
        assert_eq!(check_on(&disk.crash(), 2, &world), Vec::<String>::new(), "reading {reading}");
        if reading > readings {
            break;
        }
    }
    println!("{opened} starts with a failing read, {refused} refused");
    assert!(opened > 3 && refused > 0);
}

#[test]
fn the_story_makes_every_kind_of_store() {
    let (disk, world) = lived(1);
    let opened = open_on(&disk, 1).unwrap();
    assert!(opened.messages > 4, "some mail is queued");
    assert!(world.borrow().settled.len() > 10, "some is delivered");
    let (mut segments, mut indexes, mut journals) = (0, 0, 0);
    let names = block_on(&SimClock::default(), async move { disk.list("shard-00").await.unwrap() });
    for name in names {
        segments += u32::from(name.starts_with("segment") && name.ends_with(".log"));
        indexes += u32::from(name.ends_with(".index"));
        journals += u32::from(name.starts_with("journal"));
    }
    assert!(segments > 2 && indexes > 1 && journals > 0, "{segments} {indexes} {journals}");
}
