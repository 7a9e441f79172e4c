//! Crashes at random instants, life after life: nothing promised is lost, altered or out of order, and a
//! checker that could not fail is shown to fail on a disk that lies.

use super::audit::unbalanced;
use super::checker::{check, check_accounts, check_on};
use super::node::*;
use super::repair::repaired;
use super::upkeep::{checkpoint_all, compact, hold, refresh_places};
use std::cell::RefCell;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::disk::{Faults, Fired};
use storage::sim::executor::yield_now;
use storage::sim::{Executor, Random, SimClock, SimDisk};
use storage::store::{Finding, FindingKind};

/// What one seed saw.
#[derive(Default, Debug)]
struct Story {
    acknowledged: usize,
    crashes_with_unsynced_octets: usize,
    wrong: Vec<String>,
    fired: Fired,
}

/// One world, several lives, each cut off after a number of steps that the seed draws.
fn live(seed: u64, lives: u64, faults: Faults) -> Story {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(random.next(), DISK_OCTETS);
    let world: World = World::default();
    let mut story = Story::default();
    for _ in 0..lives {
        let shards = 1 + u16::try_from(random.below(3)).unwrap();
        let clock = SimClock::default();
        disk.set_faults(faults);
        let mut executor = Executor::new(random.next(), clock.clone());
        let wrong = Rc::new(RefCell::new(Vec::new()));
        let life =
            one_life(disk.clone(), clock, shards, executor.spawner(), Rc::clone(&world), random.next());
        let found = Rc::clone(&wrong);
        let steps = 200 + random.below(6_000);
        let _ = executor.run(steps, async move { *found.borrow_mut() = life.await });
        story.wrong.append(&mut wrong.borrow_mut());
        story.crashes_with_unsynced_octets += usize::from(disk.unsynced_octets() > 0);
        drop(executor);
        disk = disk.crash();
        // The ledger balances as the crash left it, before anybody recovers anything.
        story.wrong.extend(unbalanced(&disk));
    }
    story.fired = disk.fired();
    if story.wrong.is_empty() {
        // A copy of what a crash left is as good as a recovery of it.
        repaired(&disk, 1);
    }
    story.wrong.extend(check_on(&disk, 1, &world));
    story.wrong.extend(unbalanced(&disk));
    // The offline tool agrees that nothing is wrong.
    if let Ok(directory) =
        block_on(&SimClock::default(), storage::inspect::Directory::walk(disk, Default::default()))
    {
        story.wrong.extend(directory.verify().iter().map(ToString::to_string));
    }
    story.acknowledged = world.borrow().acknowledged.len();
    story
}

async fn one_life(
    disk: SimDisk,
    clock: SimClock,
    shards: u16,
    spawner: storage::sim::executor::Spawner,
    world: World,
    seed: u64,
) -> Vec<String> {
    // Opened twice, so that recovery itself is crashed and repeated.
    let opened = match storage::store::open(&disk, &clock, &store_options(shards)).await {
        Ok(opened) => opened,
        Err(error) => return vec![error.to_string()],
    };
    refresh_places(&opened, &world);
    let mut wrong = check(&disk, &opened, &world).await;
    wrong.extend(check_accounts(&opened, &world.borrow()));
    wrong.extend(opened.findings.iter().filter(|finding| is_damage(finding)).map(|f| format!("{f:?}")));
    if !wrong.is_empty() {
        return wrong;
    }
    drop(opened);
    let node = Node::start(&disk, &clock, shards, &spawner).await;
    let mut random = Random::new(seed);
    spawner.spawn(upkeep(node.clone(), Rc::clone(&world), random.next()));
    for _ in 0..6 {
        let shard = node.shards[usize::try_from(random.below(shards.into())).unwrap()].clone();
        spawner.spawn(writer(node.clone(), shard, Rc::clone(&world), random.next()));
    }
    clock.sleep(std::time::Duration::from_secs(3600)).await;
    Vec::new()
}

/// A crash tears what was not promised, and nothing else.
fn is_damage(finding: &Finding) -> bool {
    !matches!(&finding.kind, FindingKind::Damaged(record) if !record.was_durable)
}

/// Sends, delivers and reclaims until the life ends.
async fn writer(node: Node, shard: Shard, world: World, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let domain = DOMAINS[usize::try_from(random.below(3)).unwrap()];
        let other = DOMAINS[usize::try_from(random.below(3)).unwrap()];
        let (one, two) = (format!("a@{domain}"), format!("b@{other}"));
        let both = [one.as_str(), two.as_str()];
        let recipients = if random.one_in(3) { &both[..] } else { &both[..1] };
        let (octets, chunks) = if random.one_in(8) { (150_000, 3) } else { (random.below(9_000), 0) };
        let sent = send(&shard, &world, recipients, usize::try_from(octets).unwrap(), chunks).await;
        if !sent || random.one_in(3) {
            continue;
        }
        let latest = world.borrow().acknowledged.values().next_back().cloned();
        let promise = latest.expect("one was just sent");
        for ordinal in 0..u16::try_from(promise.recipients.len()).unwrap() {
            node.deliver(&shard, &world, &promise, ordinal).await;
        }
        if random.one_in(4) {
            node.reclaim().await;
        }
    }
}

/// Holds, releases, checkpoints and compacts until the life ends.
async fn upkeep(node: Node, world: World, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        for _ in 0..random.below(300) {
            yield_now().await;
        }
        let shard = node.shards[usize::try_from(random.below(node.shards.len() as u64)).unwrap()].clone();
        let unit = {
            let world = world.borrow();
            let latest = world.acknowledged.values().next_back().cloned();
            latest
                .filter(|latest| !world.settling.contains(&(latest.stamp, 0)))
                .map(|latest| (latest.stamp, 0))
        };
        match (random.below(4), unit) {
            (0, Some(unit)) => {
                hold(&node, &node.shards[0], &world, unit, true).await;
                if random.one_in(2) {
                    hold(&node, &node.shards[0], &world, unit, false).await;
                }
            }
            (1, _) => drop(compact(&node, &shard, &world).await),
            _ => drop(checkpoint_all(&node, &world).await),
        }
    }
}

/// What may go wrong at a crash, besides what always does.
const MISDIRECTING: Faults = Faults {
    misdirect_one_in: Some(2),
    fail_call: None,
    fail_later_call: None,
    no_space_call: None,
    fail_reading: None,
    short_reading: None,
    ignore_syncs: false,
    ignore_directory_syncs: false,
};

/// Lives through all seeds, on every core.
fn live_all(base: u64, seeds: u64) -> Vec<(u64, Story)> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        let run = |first: u64| {
            let mine = (base + first..base + seeds).step_by(usize::try_from(threads).unwrap());
            mine.map(|seed| (seed, live(seed, 5, MISDIRECTING))).collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn nothing_promised_is_lost_in_crashes_at_random_instants() {
    let seeds = 60;
    let base: u64 = std::env::var("STRATAMX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut acknowledged, mut torn) = (0, 0);
    let mut fired = Fired::default();
    for (seed, story) in live_all(base, seeds) {
        assert!(
            story.wrong.is_empty(),
            "seed {seed}: {:?}\nrepeat: STRATAMX_SEED={seed} cargo nextest run -p stratamx-storage crashes_at_random",
            story.wrong
        );
        acknowledged += story.acknowledged;
        torn += story.crashes_with_unsynced_octets;
        fired.add(&story.fired);
    }
    println!("seeds {base}..{}: {acknowledged} promised, {torn} crashes with unsynced octets", base + seeds);
    println!("{fired}");
    assert!(acknowledged > 2_000, "a test in which little happens proves little: {acknowledged}");
    assert!(
        torn * 10 > 5 * usize::try_from(seeds).unwrap() * 3,
        "at least 30 % of crashes tear something: {torn}"
    );
    let counts = [
        fired.lost_sectors,
        fired.torn_writes,
        fired.reordered_writes,
        fired.misdirected_writes,
        fired.lost_directory_entries,
    ];
    assert!(counts.iter().all(|count| *count >= 20), "a fault that does not fire proves nothing: {fired}");
}

#[test]
fn canary_a_disk_that_ignores_syncs_is_found_out() {
    let faults = Faults { ignore_syncs: true, ..Faults::default() };
    let caught = (1..=5).filter(|seed| !live(*seed, 4, faults).wrong.is_empty()).count();
    assert_eq!(caught, 5);
}

#[test]
fn canary_file_lost_without_dir_sync() {
    let faults = Faults { ignore_directory_syncs: true, ..Faults::default() };
    let caught = (1..=5).filter(|seed| !live(*seed, 4, faults).wrong.is_empty()).count();
    assert_eq!(caught, 5);
}

#[test]
fn one_seed_decides_everything() {
    let tell = |story: Story| (story.acknowledged, story.crashes_with_unsynced_octets);
    assert_eq!(tell(live(7, 3, Faults::default())), tell(live(7, 3, Faults::default())));
}
