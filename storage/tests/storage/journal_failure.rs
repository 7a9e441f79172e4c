//! Every call of the journal and of a rewrite that can fail does: what is answered is so, and what is answered with an error
//! is tried again and loses nothing.

use super::checker::{check_accounts, check_on, is_damage, open_on};
use super::hazards::promise_of;
use super::node::*;
use super::upkeep::{compact, hold};
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::format::journal_entry::Outcome;
use storage::format::segment_header::Purpose;
use storage::position::ShardId;
use storage::segment::path;
use storage::shelf::Shelf;
use storage::sim::SimDisk;
use storage::sim::disk::{Faults, Operation};
use storage::store::StoreOptions;

const MESSAGES: u64 = 12;

/// What a life told.
struct Told {
    disk: SimDisk,
    world: World,
    /// Calls that change the disk, while facts were told.
    calls: u64,
    /// Facts that were answered with an error.
    refused: usize,
    latched: usize,
}

/// Delivers one unit of each message, and holds the other, each by a write of its own; call `call` fails. Then, if it is to,
/// tells again what was refused.
fn settle_while_a_call_fails(call: u64, again: bool) -> Told {
    let disk = SimDisk::new(call, DISK_OCTETS);
    let world = World::default();
    // Soon full, so that journals roll meanwhile.
    let options = StoreOptions { journal_octets: 32 << 10, ..store_options(1) };
    let (calls, refused, latched) = live_with(&disk, options, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = node.shards[0].clone();
            for _ in 0..MESSAGES {
                assert!(send(&shard, &world, &["a@one.test", "b@two.test"], 1_000, 0).await);
            }
            node.clock.sleep(Duration::from_secs(5)).await;
            node.disk.set_faults(Faults { fail_call: Some(call), ..Faults::default() });
            let mut refused = Vec::new();
            for number in 1..=MESSAGES {
                let promise = promise_of(&world, number);
                node.deliver(&shard, &world, &promise, 0).await;
                let held = hold(&node, &shard, &world, (promise.stamp, 1), true).await;
                let settled = world.borrow().settled.contains(&(promise.stamp, 0));
                refused.extend((!settled).then_some((number, 0)));
                refused.extend((!held).then_some((number, 1)));
                if refused.last().is_some_and(|(last, _)| *last == number) {
                    // The log goes on in another journal.
                    node.clock.sleep(Duration::from_secs(5)).await;
                }
            }
            let calls = node.disk.calls();
            node.disk.set_faults(Faults::default());
            for (number, ordinal) in refused.iter().filter(|_| again) {
                let promise = promise_of(&world, *number);
                if *ordinal == 0 {
                    node.deliver(&shard, &world, &promise, 0).await;
                } else {
                    assert!(hold(&node, &shard, &world, (promise.stamp, 1), true).await, "call {call}");
                }
            }
            (calls, refused.len(), node.troubles.borrow().len())
        }
    });
    Told { disk, world, calls, refused, latched }
}

#[test]
fn h8_whatever_call_of_the_journal_fails_what_is_answered_is_so() {
    let all = settle_while_a_call_fails(u64::MAX, false);
    assert_eq!((all.refused, all.latched), (0, 0));
    assert!(all.calls > 48, "a write and a sync a fact: {}", all.calls);
    let (mut refused, mut latched) = (0, 0);
    for call in 1..=all.calls {
        for again in [false, true] {
            for power_cut in [false, true] {
                let told = settle_while_a_call_fails(call, again);
                assert!(told.refused <= 2, "call {call}: one failure, and the log goes on: {}", told.refused);
                assert_eq!(told.disk.syncs_after_failure(), 0, "call {call}: nothing is synced again");
                (refused, latched) = (refused + told.refused, latched + told.latched);
                if again {
                    let settled = u64::try_from(told.world.borrow().settled.len()).unwrap();
                    let held = u64::try_from(told.world.borrow().held.len()).unwrap();
                    assert_eq!((settled, held), (MESSAGES, MESSAGES), "call {call}: all was told in the end");
                }
                let disk = if power_cut { told.disk.crash() } else { told.disk };
                for _ in 0..2 {
                    let opened = open_on(&disk.fork(), 1).unwrap();
                    let damage: Vec<_> =
                        opened.findings.iter().filter(|finding| is_damage(finding)).collect();
                    assert_eq!(damage, Vec::<&storage::store::Finding>::new(), "call {call}");
                    assert_eq!(check_on(&disk, 1, &told.world), Vec::<String>::new(), "call {call}");
                }
            }
        }
    }
    assert!(
        refused > 100 && latched > 100,
        "failures that nobody notices prove nothing: {refused} {latched}"
    );
}

/// A rewrite and the removal of its sources; call `call` fails.
fn compact_while_a_call_fails(call: u64) -> (SimDisk, World, u64) {
    let disk = SimDisk::new(90, DISK_OCTETS);
    let world = World::default();
    let calls = live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = node.shards[0].clone();
            for _ in 0..2 {
                node.fill(&shard, &world).await;
            }
            let last = world.borrow().next_number;
            for number in (1..last).filter(|number| number % 5 != 0) {
                let promise = promise_of(&world, number);
                node.end(&shard, &world, &promise, 0, Outcome::Delivered).await;
            }
            node.disk.set_faults(Faults { fail_call: Some(call), ..Faults::default() });
            compact(&node, &shard, &world).await;
            let calls = node.disk.calls();
            node.disk.set_faults(Faults::default());
            // Whatever failed is tried again.
            compact(&node, &shard, &world).await;
            node.reclaim().await;
            assert!(send(&shard, &world, &["a@one.test"], 1_000, 0).await, "call {call}");
            calls
        }
    });
    (disk, world, calls)
}

#[test]
fn whatever_call_of_a_rewrite_fails_nothing_is_lost_and_what_is_gone_goes() {
    let (_, _, calls) = compact_while_a_call_fails(u64::MAX);
    assert!(calls > 12, "{calls}");
    let mut removals = 0;
    for call in 1..=calls {
        for power_cut in [false, true] {
            let (disk, world, _) = compact_while_a_call_fails(call);
            removals += disk.fired().eio.get(&Operation::Remove).copied().unwrap_or(0);
            let disk = if power_cut { disk.crash() } else { disk };
            for _ in 0..2 {
                assert_eq!(check_on(&disk, 1, &world), Vec::<String>::new(), "call {call}");
            }
            let opened = open_on(&disk, 1).unwrap();
            assert_eq!(opened.findings, [], "call {call}");
            assert_eq!(check_accounts(&opened, &world.borrow()), Vec::<String>::new(), "call {call}");
            // A file that could not be removed goes with the next start.
            let gone = opened.shelves.iter().flat_map(Shelf::ledgers).flat_map(|(_, ledger)| &ledger.gone);
            let numbers: Vec<u32> = gone.flat_map(|range| range.clone()).collect();
            assert!(numbers.len() >= 2, "call {call}: {numbers:?}");
            for number in numbers {
                let file = path(ShardId(0), Purpose::Mail, storage::position::SegmentId(number));
                assert_eq!(disk.content(&file), None, "call {call}: {file} is tallied");
            }
        }
    }
    assert!(removals >= 4, "{removals} removals failed");
}
