//! The seeds of the test command, and counts of what happened in them: a fault that does not fire proves nothing.

use crate::canary::Bug;
use crate::world::{Story, story};
use std::collections::BTreeMap;

/// Seeds of the test command; each test has a part of them, since tests run side by side.
const SEEDS: u64 = 500;
const PARTS: u64 = 5;
/// How often each kind of fault has to fire in a part: a hundred times in 2,000 seeds.
const FIRED_MIN: u64 = 100 * (SEEDS / PARTS) / 2_000;

/// What must fire.
const FAULTS: [&str; 29] = [
    "DNS says nothing",
    "a stranger was met",
    "another machine answers",
    "clock jumps a month",
    "connection broken at an octet",
    "copies were kept",
    "disk is full",
    "operator acts",
    "operator flushes",
    "partition",
    "primary 421 after n",
    "primary 4xx to all",
    "primary 550 to all",
    "primary closes in a state",
    "primary drips",
    "primary greylists",
    "primary is slow",
    "primary never answers the dot",
    "primary out of spec",
    "primary refuses connections",
    "primary says nothing",
    "primary swallows connections",
    "process killed",
    "reload",
    "sender resets",
    "sender stops in the middle",
    "shut down in order",
    "syncs are slow",
    "carried through",
];

/// What happened in a number of seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    sent: usize,
    taken: usize,
    notices: usize,
    crashes: u64,
    unsynced: u64,
    hours: u64,
    steps: u64,
    fired: BTreeMap<&'static str, u64>,
    disk: storage::sim::disk::Fired,
}

impl Total {
    fn add(&mut self, story: &Story) {
        let history = &story.history;
        self.seeds += 1;
        self.sent += history.sent.borrow().len();
        self.taken += history.taken.borrow().len();
        self.notices += history.notices.borrow().len();
        self.crashes += story.crashes;
        self.unsynced += story.crashes_with_unsynced_octets;
        self.hours += story.simulated.as_secs() / 3600;
        self.steps += story.steps;
        for (what, times) in history.fired.borrow().iter() {
            *self.fired.entry(what).or_default() += times;
        }
        self.disk.add(&story.disk);
    }

    fn print(&self) {
        println!(
            "{} seeds, {} hours, {} steps: {} messages sent, {} taken by primaries, {} notices",
            self.seeds, self.hours, self.steps, self.sent, self.taken, self.notices
        );
        println!("{} power failures, {} of them with unsynced octets", self.crashes, self.unsynced);
        for (what, times) in &self.fired {
            println!("{times:>9}  {what}");
        }
        println!("disk: {}", self.disk);
    }

    fn assert_much_happened(&self) {
        for what in FAULTS {
            let times = self.fired.get(what).copied().unwrap_or(0);
            assert!(times >= FIRED_MIN, "{what} fired {times} times, at least {FIRED_MIN} it has to");
        }
        for (what, times) in self.disk.rows().into_iter().filter(|(what, _)| !UNUSED.contains(what)) {
            assert!(times >= FIRED_MIN, "{what} fired {times} times, at least {FIRED_MIN} it has to");
        }
        assert!(self.disk.eio.values().sum::<u64>() >= FIRED_MIN, "{}", self.disk);
        assert!(self.unsynced * 10 >= self.crashes * 3, "{} of {}", self.unsynced, self.crashes);
    }
}

/// Bits rot in the canary alone; reads that give too little are read errors to the node, and a directory is synced at once: the
/// storage's own simulator has all of these.
const UNUSED: [&str; 3] = ["lost directory entry", "rotten octet", "short read"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tells seeds, up to the first that goes wrong.
fn tell(seeds: core::ops::Range<u64>) -> Total {
    let mut total = Total::default();
    for seed in seeds {
        let story = story(seed, None);
        for wrong in &story.wrong {
            println!("seed {seed}: {wrong}");
        }
        assert!(
            story.wrong.is_empty(),
            "repeat: STRATAMX_SEED={seed} cargo test -p stratamx --test simulation soak -- --nocapture"
        );
        total.add(&story);
    }
    total
}

fn part(number: u64) {
    let first = 1 + number * (SEEDS / PARTS);
    let total = tell(first..first + SEEDS / PARTS);
    total.print();
    total.assert_much_happened();
}

#[test]
fn promises_hold_in_the_first_hundred_seeds() {
    part(0);
}

#[test]
fn promises_hold_in_the_second_hundred_seeds() {
    part(1);
}

#[test]
fn promises_hold_in_the_third_hundred_seeds() {
    part(2);
}

#[test]
fn promises_hold_in_the_fourth_hundred_seeds() {
    part(3);
}

#[test]
fn promises_hold_in_the_fifth_hundred_seeds() {
    part(4);
}

/// `make soak`: as many seeds as wanted, from any on; one by itself tells what the node logs.
#[test]
fn soak() {
    let Some(first) = number("STRATAMX_SEED") else { return };
    let seeds = number("STRATAMX_SEEDS").unwrap_or(1);
    if seeds == 1 {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::DEBUG)
            .init();
    }
    tell(first..first + seeds).print();
}

#[test]
fn one_seed_decides_everything() {
    let told = |story: Story| (story.steps, story.simulated, story.disk, story.rows);
    assert_eq!(told(story(7, None)), told(story(7, None)));
}

/// The first seed in which the checker for `word` finds what is planted.
#[track_caller]
fn assert_caught(bug: Bug, word: &str) {
    const WITHIN: u64 = 12;
    let caught = (1..=WITHIN).find_map(|seed| {
        let wrong = story(seed, Some(bug)).wrong;
        wrong.into_iter().find(|wrong| wrong.contains(word)).map(|wrong| format!("seed {seed}: {wrong}"))
    });
    println!("{bug:?}: {caught:?}");
    assert!(caught.is_some(), "{bug:?} is not caught in {WITHIN} seeds");
}

#[test]
fn canaries_of_loss_are_found_out() {
    assert_caught(Bug::ForgettingPrimary, "P1, P2");
    assert_caught(Bug::ForgettingPrimary, "H21");
    assert_caught(Bug::IgnoredSyncs, "P");
    assert_caught(Bug::RottenRecord, "P2");
}

#[test]
fn canaries_of_order_and_repeats_are_found_out() {
    assert_caught(Bug::LateOffer, "P3");
    assert_caught(Bug::TakenTwice, "P4");
    assert_caught(Bug::GarbledOctet, "other octets");
}

#[test]
fn canaries_of_notices_are_found_out() {
    assert_caught(Bug::LyingSpf, "who is not proven");
    assert_caught(Bug::LostNotice, "P5");
}

#[test]
fn canaries_of_bounds_and_recovery_are_found_out() {
    assert_caught(Bug::LeakedTasks, "P7");
    assert_caught(Bug::SwallowedReply, "P7: silence");
    assert_caught(Bug::LateReturn, "P8");
}
