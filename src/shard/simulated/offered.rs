//! What a crash in the middle of a drain may have delivered is known to the next start, all of it (P4).

use super::node::{self, Plan};
use super::window::fill;
use super::{DISK_OCTETS, SimShard, SimSpawn};
use crate::bridge::operator::{Filter, Message};
use crate::limits::OUTSTANDING_MAX;
use crate::shard::link::Spawn;
use crate::shard::operator;
use crate::shard::replay::settle;
use crate::shard::simulated::primary::{Primary, Script, primary_of};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use futures_lite::future::yield_now;
use std::collections::BTreeSet;
use std::rc::Rc;
use storage::clock::Clock;
use storage::commit::BATCH_OCTETS;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;
use storage::sim::disk::Faults;
use storage::sim::{Executor, Random, SimClock, SimDisk};

const MESSAGES: u32 = 40;

/// What one life saw.
#[derive(Default)]
struct Life {
    /// Messages in the order of acceptance, once all are there.
    stamps: Vec<Stamp>,
    /// Those of which the start said that they may repeat.
    flagged: BTreeSet<Stamp>,
    /// The same, as an operator is shown them.
    listed: BTreeSet<Stamp>,
    /// And how many there are when all is handed over.
    left: Option<u64>,
}

fn plan(connections: u32) -> Plan {
    let mut plan = Plan::one_shard();
    plan.config.domains[0].max_connections = connections;
    plan
}

async fn listed(shard: &Rc<SimShard>) -> Vec<Message> {
    operator::view::list(shard, &Filter { limit: 100, ..Filter::default() }).await.messages
}

/// Lives until the power fails after so many steps behind the primary's return, or all is handed over.
fn live(
    disk: &SimDisk,
    seed: u64,
    connections: u32,
    is_first: bool,
    steps: Option<u64>,
    script: Script,
) -> (SimDisk, Life, Vec<u32>) {
    let clock = SimClock::default();
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary: Primary = primary_of(&clock, &spawn, false);
    primary.script.replace(script);
    let (taken, up) = (Rc::clone(&primary.taken), Rc::clone(&primary.up));
    let life = Rc::<RefCell<Life>>::default();
    let (seen, on_disk) = (Rc::clone(&life), disk.clone());
    spawn.clone().spawn(async move {
        let shard = node::start(on_disk, clock.clone(), &spawn, &primary, plan(connections)).await.remove(0);
        if is_first {
            fill(&shard, &spawn, MESSAGES).await;
            let lane = shard.lanes.of("example.test").expect("it has mail");
            seen.borrow_mut().stamps = lane.queue.borrow().stamps(Stamp::NONE, None, 100);
        } else if let Some(lane) = shard.lanes.of("example.test") {
            let all = lane.queue.borrow().stamps(Stamp::NONE, None, 100);
            let flagged = all.into_iter().filter(|stamp| lane.offers.borrow().is_doubtful(*stamp));
            seen.borrow_mut().flagged = flagged.collect();
            let shown = listed(&shard).await.into_iter().filter(|message| message.may_repeat);
            seen.borrow_mut().listed = shown.map(|message| Stamp(message.stamp)).collect();
        }
        primary.up.set(true);
        loop {
            clock.sleep(Duration::from_secs(5)).await;
            if shard.lanes.all().iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get()) {
                let doubtful =
                    shard.lanes.all().iter().map(|lane| lane.offers.borrow().doubtful() as u64).sum();
                seen.borrow_mut().left = Some(doubtful);
                return;
            }
        }
    });
    let mut behind = 0;
    for _ in 0..2_000_000 {
        behind += u64::from(up.get());
        if steps.is_some_and(|steps| behind > steps) || life.borrow().left.is_some() || !executor.step() {
            break;
        }
    }
    drop(executor);
    let numbers = taken.borrow().iter().map(|taken| taken.subject.parse().expect("a number")).collect();
    (disk.crash(), life.take(), numbers)
}

#[test]
fn p4_whatever_a_crash_repeats_was_listed_at_the_start_and_is_no_more_than_may_be_outstanding() {
    let (mut repeated, mut flagged) = (0, 0);
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let connections = 1 + u32::try_from(random.below(3)).expect("small");
        let disk = SimDisk::new(seed, DISK_OCTETS);
        let steps = 20 + random.below(800);
        // In every third story a connection is lost before the power is.
        let script = if seed % 3 == 0 {
            Script::CloseBehind(vec![2_000 + random.below(9_000)])
        } else {
            Script::Nothing
        };
        let (disk, first, before) = live(&disk, random.next(), connections, true, Some(steps), script);
        let stamps = first.stamps;
        let (disk, second, after) =
            live(&disk, random.next(), connections, false, Some(random.below(600)), Script::Nothing);
        let (disk, third, last) = live(&disk, random.next(), connections, false, None, Script::Nothing);
        for (earlier, later, life) in
            [(&before, &after, &second), (&before, &last, &third), (&after, &last, &third)]
        {
            for number in later.iter().filter(|number| earlier.contains(number)) {
                let stamp = stamps[*number as usize - 1];
                assert!(
                    life.flagged.contains(&stamp),
                    "seed {seed}: {number} came twice, and nobody said it may"
                );
                repeated += 1;
            }
        }
        assert_eq!(second.flagged, second.listed, "seed {seed}: shown as it is");
        let lost_connections = if seed % 3 == 0 { 2 } else { 1 };
        assert!(
            second.flagged.len() <= lost_connections * OUTSTANDING_MAX as usize,
            "seed {seed}: {:?}",
            second.flagged
        );
        flagged += second.flagged.len();
        assert_eq!(third.left, Some(0), "seed {seed}: what has ended is in no doubt");
        let (_, fourth, again) = live(&disk, random.next(), connections, false, None, Script::Nothing);
        assert!(
            fourth.flagged.is_empty() && again.is_empty(),
            "seed {seed}: nothing is left, and nothing comes again"
        );
        let all: BTreeSet<u32> = before.into_iter().chain(after).chain(last).collect();
        assert_eq!(all.len(), MESSAGES as usize, "seed {seed}: nothing is lost");
    }
    assert!(
        repeated > 20 && flagged > 100,
        "a test in which little repeats proves little: {repeated} {flagged}"
    );
}

/// Two writes wait for room in a full batch: one that closes a row, and one that opens it again. Whoever gets in first, and though the batch
/// fails and both are tried again, the journal knows in the end that the message is on its way.
#[test]
fn p4_a_row_that_is_opened_again_is_not_closed_by_a_write_that_waited() {
    for seed in 1..=120 {
        let (disk, clock) = (SimDisk::new(seed, DISK_OCTETS), SimClock::default());
        let mut executor = Executor::new(seed, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, false);
        let on_disk = disk.clone();
        let story = async move {
            let shard =
                node::start(on_disk.clone(), clock.clone(), &spawn, &primary, plan(1)).await.remove(0);
            fill(&shard, &spawn, 1).await;
            let lane = shard.lanes.of("example.test").expect("it has mail");
            let stamp = lane.queue.borrow().stamps(Stamp::NONE, None, 1)[0];
            assert!(settle::offer(&shard, &lane, (stamp, 0), |_| false).await);
            assert!(lane.offers.borrow_mut().leaves(stamp));
            lane.offers.borrow_mut().known(stamp);
            // Facts that say nothing, as many as fit.
            let nothing = Fact { stamp, ordinal: 0, outcome: Outcome::Released, code: 0 };
            let full = vec![nothing; (BATCH_OCTETS - 256) / 16];
            let ticket = shard.journal.append_facts(&full).await.expect("a journal");
            if seed % 3 == 0 {
                // The full batch fails, or the one behind it.
                let faults = Faults { fail_call: Some(1 + seed % 7), ..Faults::default() };
                on_disk.set_faults(faults);
            }
            let is_closed = Rc::<Cell<bool>>::default();
            let (told, own_shard, own_lane) = (Rc::clone(&is_closed), Rc::clone(&shard), Rc::clone(&lane));
            spawn.spawn(async move {
                settle::close_offers(own_shard, own_lane).await;
                told.set(true);
            });
            while lane.offers.borrow().has_closed() {
                yield_now().await;
            }
            assert!(settle::offer(&shard, &lane, (stamp, 0), |_| false).await);
            assert!(lane.offers.borrow_mut().leaves(stamp));
            let _ = ticket.await;
            while !is_closed.get() {
                clock.sleep(Duration::from_millis(10)).await;
            }
            stamp
        };
        let stamp = executor.run(4_000_000, story).expect("the story ends");
        drop(executor);
        let (_, life, _) = live(&disk.crash(), seed, 1, false, Some(0), Script::Nothing);
        assert_eq!(life.flagged, BTreeSet::from([stamp]), "seed {seed}: it had left");
    }
}
