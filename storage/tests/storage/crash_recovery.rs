//! Crashes at random instants, life after life, amid failing calls: nothing promised is lost, altered or out of order,
//! what was refused stays away; and a checker that could not fail is shown to fail on bugs that are planted.

use super::audit::unbalanced;
use super::checker::{check, check_accounts, check_on, is_damage};
use super::node::*;
use super::repair::repaired;
use super::upkeep::{checkpoint_all, compact, hold, refresh_places};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::format::journal_entry::Outcome;
use storage::position::Stamp;
use storage::sim::disk::{Faults, Fired, Operation};
use storage::sim::executor::{Spawner, yield_now};
use storage::sim::{Executor, Random, SimClock, SimDisk};
use storage::store::{StoreOptions, open};

/// What one seed saw.
#[derive(Default, Debug)]
struct Story {
    acknowledged: usize,
    voided: usize,
    crashes: usize,
    crashes_with_unsynced_octets: usize,
    wrong: Vec<String>,
    /// What the offline tool complains about.
    fired: Fired,
}

/// What is wrong on purpose, all the time.
#[derive(Clone, Copy, Default)]
struct Planted {
    disk: Faults,
    bug: Option<Bug>,
}

const LIVES: u64 = 3;

/// One life to come.
struct Life {
    disk: SimDisk,
    clock: SimClock,
    shape: Shape,
    world: World,
    /// What goes wrong once the store was found to be as it should be.
    faults: Faults,
    random: Random,
    wrong: Rc<RefCell<Vec<String>>>,
}

/// What goes wrong in one life: at the crash, and before it at one call.
fn draw_faults(planted: &Planted, random: &mut Random) -> (Faults, Faults) {
    let shear_one_in = random.one_in(2).then_some(4);
    let crash = Faults { misdirect_one_in: Some(2), shear_one_in, ..planted.disk };
    let kind = random.below(13);
    let calls = if random.one_in(3) { 40 } else { 250 };
    let call = Some(1 + random.below(calls));
    let reading = Some(1 + random.below(60));
    let faults = match kind {
        0..=3 => Faults { fail_call: call, ..crash },
        4 | 5 => Faults { no_space_call: call, ..crash },
        6 | 7 => Faults { fail_reading: reading, ..crash },
        8 | 9 => Faults { short_reading: reading, ..crash },
        _ => crash,
    };
    (crash, faults)
}

/// One world, several lives, each cut off after a number of steps that the seed draws.
fn live(seed: u64, planted: &Planted) -> Story {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(random.next(), DISK_OCTETS);
    let world: World = World::default();
    let mut story = Story::default();
    let wrong = Rc::default();
    let (journal_octets, mail_octets) =
        if random.one_in(2) { (32 << 10, 96 << 10) } else { (256 << 10, 256 << 10) };
    for _ in 0..LIVES {
        let shards = 1 + u16::try_from(random.below(3)).unwrap();
        let store = StoreOptions { shards, journal_octets, ..StoreOptions::default() };
        let shape = Shape { store, mail_octets, bug: planted.bug };
        let (at_crash, faults) = draw_faults(planted, &mut random);
        disk.set_faults(at_crash);
        let clock = SimClock::default();
        let mut executor = Executor::new(random.next(), clock.clone());
        let (world, wrong) = (Rc::clone(&world), Rc::clone(&wrong));
        let life = Life {
            disk: disk.clone(),
            clock,
            shape,
            world,
            faults,
            random: Random::new(random.next()),
            wrong,
        };
        let _ = executor.run(150 + random.below(2_400), one_life(life, executor.spawner()));
        story.crashes += 1;
        story.crashes_with_unsynced_octets += usize::from(disk.unsynced_octets() > 0);
        drop(executor);
        disk = disk.crash();
    }
    story.fired = disk.fired();
    story.wrong = wrong.take();
    if seed <= AUDITED && story.wrong.is_empty() {
        // The ledger balances as the crash left it, and a copy of that is as good as a recovery of it.
        story.wrong.extend(unbalanced(&disk));
        repaired(&disk, 1);
    }
    story.wrong.extend(check_on(&disk, 1, &world));
    // The offline tool agrees that nothing is wrong.
    if let Ok(directory) =
        block_on(&SimClock::default(), storage::inspect::Directory::walk(disk, Default::default()))
    {
        story.wrong.extend(directory.verify().iter().map(ToString::to_string));
    }
    story.acknowledged = world.borrow().acknowledged.len();
    story.voided = world.borrow().voided.len();
    story
}

async fn one_life(life: Life, spawner: Spawner) {
    let Life { disk, clock, shape, world, faults, mut random, wrong } = life;
    let (disk, clock, shape, world) = (&disk, &clock, &shape, &world);
    // Opened twice, so that recovery itself is crashed and repeated, and fails.
    let found = match open(disk, clock, &shape.store).await {
        Ok(opened) => {
            refresh_places(&opened, world);
            let mut found = check(disk, &opened, world).await;
            found.extend(check_accounts(&opened, &world.borrow()));
            found.extend(
                opened.findings.iter().filter(|finding| is_damage(finding)).map(|f| format!("{f:?}")),
            );
            found
        }
        Err(error) => vec![error.to_string()],
    };
    wrong.borrow_mut().extend(found);
    if !wrong.borrow().is_empty() {
        return;
    }
    world.borrow_mut().failed.clear();
    disk.set_faults(faults);
    let before = disk.fired();
    let opened = match open(disk, clock, &shape.store).await {
        Ok(opened) => opened,
        Err(error) => {
            if disk.fired() == before {
                wrong.borrow_mut().push(error.to_string());
            }
            return;
        }
    };
    let Some(node) = Node::over(opened, shape, disk, clock, &spawner).await else { return };
    spawner.spawn(upkeep(node.clone(), Rc::clone(world), random.next()));
    let owners: Rc<Owners> =
        Rc::new(Owners { node: node.clone(), last: RefCell::default(), wrong: Rc::clone(&wrong) });
    for _ in 0..6 {
        let shard = node.shards[usize::try_from(random.below(node.shards.len() as u64)).unwrap()].clone();
        spawner.spawn(writer(Rc::clone(&owners), shard, Rc::clone(world), random.next()));
    }
    clock.sleep(std::time::Duration::from_secs(3600)).await;
}

/// Those who dispatch: a domain's messages in the order of their stamps.
struct Owners {
    node: Node,
    last: RefCell<BTreeMap<Arc<str>, Stamp>>,
    wrong: Rc<RefCell<Vec<String>>>,
}

impl Owners {
    /// Dispatches what may be.
    fn dispatch(&self) {
        let hasty = self.node.bug == Some(Bug::DispatchAboveFrontier);
        // Read before the inbox is emptied (H12).
        let horizon = if hasty { Stamp(u64::MAX) } else { self.node.opened.frontier.horizon() };
        let mut inbox = self.node.inbox.borrow_mut();
        while let Some((stamp, domain)) = inbox.pop_first() {
            if stamp >= horizon {
                inbox.insert((stamp, domain));
                return;
            }
            let before = self.last.borrow_mut().insert(Arc::clone(&domain), stamp);
            if before.is_some_and(|before| before > stamp) {
                self.wrong.borrow_mut().push(format!("H12: {stamp:?} of {domain} behind {before:?}"));
            }
        }
    }
}

/// Sends, abandons, delivers, expires and reclaims until the life ends.
async fn writer(owners: Rc<Owners>, shard: Shard, world: World, seed: u64) {
    let mut random = Random::new(seed);
    let node = &owners.node;
    loop {
        let domain = DOMAINS[usize::try_from(random.below(3)).unwrap()];
        let other = DOMAINS[usize::try_from(random.below(3)).unwrap()];
        let (one, two) = (format!("a@{domain}"), format!("b@{other}"));
        let both = [one.as_str(), two.as_str()];
        let recipients = if random.one_in(3) { &both[..] } else { &both[..1] };
        let (octets, chunks) = if random.one_in(8) { (100_000, 3) } else { (random.below(9_000), 0) };
        if random.one_in(12) {
            let mut arriving = Arriving::new(&shard, &world);
            arriving.chunk(&data_of(arriving.number, 20_000)).await;
            arriving.abandon();
        }
        let sent = send(&shard, &world, recipients, usize::try_from(octets).unwrap(), chunks).await;
        owners.dispatch();
        if !sent {
            // A log that is stopped refuses at once.
            yield_now().await;
        }
        if !sent || random.one_in(3) {
            continue;
        }
        let latest = world.borrow().acknowledged.values().next_back().cloned();
        let promise = latest.expect("one was just sent");
        // A unit has one owner, who decides once how it ends: two writers may end it, but not in two ways.
        let outcome = if promise.stamp.0.is_multiple_of(4) { Outcome::Expired } else { Outcome::Delivered };
        for ordinal in 0..u16::try_from(promise.recipients.len()).unwrap() {
            node.end(&shard, &world, &promise, ordinal, outcome).await;
            if random.one_in(3) {
                break;
            }
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

/// Lives through all seeds, on every core.
fn live_all(base: u64, seeds: u64) -> Vec<(u64, Story)> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        let run = |first: u64| {
            let mine = (base + first..base + seeds).step_by(usize::try_from(threads).unwrap());
            mine.map(|seed| (seed, live(seed, &Planted::default()))).collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// The seeds of the test command.
const SEEDS: u64 = 2_000;
/// Seeds whose last crash is audited and repaired too, which takes longer than living them.
const AUDITED: u64 = 300;
/// How often each kind of fault has to fire in them.
const FIRED_MIN: u64 = 100;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `STRATAMX_SEED` lives one seed again, or with `STRATAMX_SEEDS` so many from there on.
#[test]
fn nothing_promised_is_lost_in_crashes_at_random_instants() {
    let one = number("STRATAMX_SEED");
    let base = one.unwrap_or(1);
    let seeds = number("STRATAMX_SEEDS").unwrap_or(if one.is_some() { 1 } else { SEEDS });
    let (mut acknowledged, mut voided, mut crashes, mut unsynced) = (0, 0, 0, 0);
    let mut fired = Fired::default();
    let stories = live_all(base, seeds);
    for (seed, story) in stories.iter().filter(|(_, story)| !story.wrong.is_empty()) {
        println!("seed {seed}: {:?}", story.wrong);
        println!("repeat: STRATAMX_SEED={seed} cargo test -p stratamx-storage crashes_at_random");
    }
    let bad = stories.iter().filter(|(_, story)| !story.wrong.is_empty()).count();
    assert_eq!(bad, 0, "seeds that went wrong, of {seeds}");
    for (_, story) in stories {
        acknowledged += story.acknowledged;
        voided += story.voided;
        crashes += story.crashes;
        unsynced += story.crashes_with_unsynced_octets;
        fired.add(&story.fired);
    }
    println!("seeds {base}..{}: {acknowledged} promised, {voided} refused and void", base + seeds);
    println!("{crashes} crashes, {unsynced} of them with unsynced octets; {fired}");
    if seeds < SEEDS {
        return;
    }
    assert!(acknowledged > 100_000, "a test in which little happens proves little: {acknowledged}");
    assert!(voided > 100, "H8: {voided} refused messages are void");
    assert!(unsynced * 10 >= crashes * 3, "at least 30 % of crashes have unsynced octets: {unsynced}");
    let counts = fired.rows();
    // Bits rot in tests of their own: what was promised may be lost then.
    let mut rare: Vec<_> = counts.iter().filter(|row| row.0 != "rotten octet" && row.1 < FIRED_MIN).collect();
    assert!(rare.pop().is_none(), "a fault that does not fire proves nothing: {fired}");
    // Removals are few; each of them fails in `call_by_call`.
    use Operation::{Create, Open, Read, Sync, SyncDirectory, Write};
    for operation in [Create, Open, Read, Sync, SyncDirectory, Write] {
        let count = fired.eio.get(&operation).copied().unwrap_or(0);
        assert!(count >= FIRED_MIN, "EIO of {}: {count}", operation.word());
    }
}

/// The first seed that finds what is planted.
#[track_caller]
fn assert_caught(name: &str, planted: Planted, within: u64) {
    let caught = (1..=within).find_map(|seed| {
        let wrong = live(seed, &planted).wrong;
        wrong.first().map(|wrong| format!("seed {seed}: {wrong}"))
    });
    println!("{name}: {caught:?}");
    assert!(caught.is_some(), "{name} is not caught by {within} seeds");
}

fn planted_in_disk(disk: Faults) -> Planted {
    Planted { disk, bug: None }
}

fn planted_in_node(bug: Bug) -> Planted {
    Planted { disk: Faults::default(), bug: Some(bug) }
}

#[test]
fn canary_a_disk_that_ignores_syncs_is_found_out() {
    assert_caught("skipped sync", planted_in_disk(Faults { ignore_syncs: true, ..Faults::default() }), 5);
}

#[test]
fn canary_file_lost_without_dir_sync() {
    let faults = Faults { ignore_directory_syncs: true, ..Faults::default() };
    assert_caught("ignored directory sync", planted_in_disk(faults), 5);
}

#[test]
fn canary_a_tail_block_that_is_written_again_is_found_out() {
    let faults = Faults { rewrite_tail_blocks: true, ..Faults::default() };
    assert_caught("rewritten tail block", planted_in_disk(faults), 10);
}

#[test]
fn canary_h3_chunks_without_a_pin_are_found_out() {
    assert_caught("missing pin", planted_in_node(Bug::MissingPin), 20);
}

#[test]
fn canary_h12_dispatch_above_the_frontier_is_found_out() {
    assert_caught("dispatch above the frontier", planted_in_node(Bug::DispatchAboveFrontier), 10);
}

#[test]
fn canary_a_checkpoint_that_does_not_wait_for_who_is_telling_is_found_out() {
    assert_caught("hasty checkpoint", planted_in_node(Bug::HastyCheckpoint), 50);
}

#[test]
fn canary_a_rewrite_that_is_silent_about_outcomes_is_found_out() {
    assert_caught("silent copy", planted_in_node(Bug::SilentCopy), 50);
}

#[test]
fn canary_a_tally_before_its_copies_are_durable_is_found_out() {
    assert_caught("hasty tally", planted_in_node(Bug::HastyTally), 50);
}

#[test]
fn one_seed_decides_everything() {
    let tell = |story: Story| (story.acknowledged, story.crashes_with_unsynced_octets, story.fired);
    assert_eq!(tell(live(7, &Planted::default())), tell(live(7, &Planted::default())));
}
