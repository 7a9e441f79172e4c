//! The store against a model in memory: any sequence of steps, with power cuts at any change of the disk, over any number of shards.
//! Whenever all is at rest the queues of the store are those of the model, unit by unit; what a power cut left in doubt
//! is looked up once, and from there on is as it was found.

use super::checker::{check, check_accounts, entries_of, is_damage, read_back};
use super::node::*;
use super::steps::{Machine, Order, Step, nobody, small};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use storage::position::Stamp;
use storage::reader::Reader;
use storage::sim::crash::{Kept, Pending};
use storage::sim::{Random, SimClock, SimDisk};
use storage::store::{Opened, open};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// The power is cut after so many changes of the disk, or behind the step; another number of shards starts.
    Cut {
        order: Order,
        after: usize,
        seed: u64,
        shards: u16,
    },
    /// The process is killed there, and starts again over what the disk has in its cache.
    Kill {
        order: Order,
        after: usize,
    },
    Take(Order),
}

/// Domain -> stamp -> units that have not ended, and whether they are held.
type Queues = BTreeMap<String, BTreeMap<Stamp, BTreeMap<u16, bool>>>;

fn orders() -> impl Strategy<Value = Order> {
    (prop::sample::select(Step::ALL.to_vec()), 0..3_usize, 0..8_usize).prop_map(|(step, shard, pick)| Order {
        step,
        shard,
        pick,
    })
}

fn moves() -> impl Strategy<Value = Move> {
    let cut = (orders(), 0..30_usize, any::<u64>(), 1..4_u16);
    prop_oneof![
        6 => orders().prop_map(Move::Take),
        // What a failed write left no sync makes durable: between it and its void everything is in doubt.
        1 => (orders(), 0..30_usize)
            .prop_filter("a failed write", |(order, _)| order.step != Step::Void)
            .prop_map(|(order, after)| Move::Kill { order, after }),
        1 => cut.prop_map(|(order, after, seed, shards)| Move::Cut { order, after, seed, shards }),
    ]
}

/// The queues as the store has them, but for what was never whole.
fn queues_of(opened: &Opened, torn: &BTreeSet<Stamp>) -> Queues {
    let mut queues = Queues::new();
    for backlog in &opened.backlogs {
        let whole = backlog.clone().into_queued().filter(|queued| !torn.contains(&queued.entry.stamp));
        for queued in whole {
            let messages = queues.entry(backlog.domain.to_string()).or_default();
            let units = messages.entry(queued.entry.stamp).or_default();
            units.extend(queued.open_units().into_iter().map(|unit| (unit, false)));
            units.extend(queued.held_units().map(|known| (known.fact.ordinal, true)));
        }
    }
    queues
}

/// The queues as the model has them.
fn expected(promises: &Promises) -> Queues {
    let mut queues = Queues::new();
    for promise in promises.acknowledged.values() {
        for (ordinal, recipient) in (0..).zip(&promise.recipients) {
            let unit = (promise.stamp, ordinal);
            if !promises.settled.contains(&unit) {
                let (_, domain) = recipient.rsplit_once('@').unwrap();
                let messages = queues.entry(domain.to_owned()).or_default();
                messages.entry(unit.0).or_default().insert(ordinal, promises.held.contains(&unit));
            }
        }
    }
    queues
}

/// Opens the store as it is; what is wrong with it, and its queues.
fn look(disk: &SimDisk, world: &World, shards: u16, learn: bool) -> (Vec<String>, Queues) {
    let (disk, world) = (disk.clone(), Rc::clone(world));
    block_on(&SimClock::default(), async move {
        let opened = match open(&disk, &SimClock::default(), &small(shards).store).await {
            Ok(opened) => opened,
            Err(error) => return (vec![error.to_string()], Queues::new()),
        };
        let mut wrong = check(&disk, &opened, &world).await;
        wrong.extend(check_accounts(&opened, &world.borrow()));
        wrong.extend(opened.findings.iter().filter(|finding| is_damage(finding)).map(|f| format!("{f:?}")));
        if learn {
            adopt(&disk, &opened, &world).await;
        }
        let queues = queues_of(&opened, &world.borrow().torn);
        if learn {
            resolve(&mut world.borrow_mut(), &queues);
        }
        (wrong, queues)
    })
}

/// A message that came back though nobody was told that it was taken is in the queue now, and has to stay there. One that
/// came back without all of its chunks stays until somebody wants to deliver it: the store cannot tell it from one that
/// was promised in the last batch and rotted.
async fn adopt(disk: &SimDisk, opened: &Opened, world: &World) {
    let reader = Reader::new(disk.clone(), opened.store.store, Default::default());
    for (stamp, (shard, entry)) in entries_of(opened) {
        if world.borrow().stamps.contains(&stamp) {
            continue;
        }
        let Ok(read) = read_back(&reader, shard, &entry).await else {
            assert!(
                entry.stored_octets() > u64::from(entry.frame_octets()),
                "a record by itself is whole or not there"
            );
            world.borrow_mut().torn.insert(stamp);
            continue;
        };
        let number = read.queue_id.0;
        assert_eq!(read.data, data_of(number, read.data.len()), "{number} is nobody's mail");
        let place = storage::log::Place { segment: entry.segment, unit_base: entry.unit_base };
        let (recipients, data) = (read.recipients, read.data);
        let promise = Promise { number, stamp, shard, place, recipients, data };
        let mut world = world.borrow_mut();
        world.stamps.insert(stamp);
        world.largest_acknowledged = world.largest_acknowledged.max(stamp);
        world.acknowledged.insert(number, Rc::new(promise));
    }
}

/// What was in doubt is as it was found.
fn resolve(promises: &mut Promises, queues: &Queues) {
    let (mut open, mut held) = (BTreeSet::new(), BTreeSet::new());
    for (stamp, units) in queues.values().flatten() {
        open.extend(units.keys().map(|ordinal| (*stamp, *ordinal)));
        held.extend(units.iter().filter(|(_, held)| **held).map(|(ordinal, _)| (*stamp, *ordinal)));
    }
    // Also of messages that came back without a promise.
    let all = promises.acknowledged.values();
    let units =
        all.flat_map(|promise| (0..).zip(&promise.recipients).map(|(ordinal, _)| (promise.stamp, ordinal)));
    promises.settled = units.filter(|unit| !open.contains(unit)).collect();
    promises.settling = promises.settled.clone();
    promises.held = held.clone();
    promises.holding = held;
}

fn below(bound: usize, random: &mut Random) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

/// Cuts the power: of what is pending the seed says what is kept.
fn cut(disk: &SimDisk, seed: u64) -> SimDisk {
    let mut random = Random::new(seed);
    let mut kept = |change: &Pending| match (random.below(4), change) {
        (0, Pending::Write { sectors, .. }) => Kept::Head(below(*sectors, &mut random)),
        (1, Pending::Write { sectors, .. }) => Kept::Tail(below(*sectors, &mut random)),
        (0 | 2, _) => Kept::All,
        _ => Kept::Nothing,
    };
    disk.cut(&disk.pending().iter().map(&mut kept).collect::<Vec<_>>())
}

/// Takes a step as far as so many changes of the disk, and ends the life.
fn end_within(machine: Machine, order: Order, mut after: usize) {
    drop(machine.take(order, &mut |_, _| {
        after = after.saturating_sub(1);
        if after == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
}

/// Lives through all moves.
fn live(moves: &[Move]) -> Result<(), TestCaseError> {
    let world = World::default();
    let (mut disk, mut shards) = (SimDisk::new(1, DISK_OCTETS), 1);
    let mut machine = Machine::start(&disk, &small(shards), &world, &mut nobody).unwrap();
    for (place, next) in moves.iter().enumerate() {
        match *next {
            Move::Take(order) => machine = machine.take(order, &mut nobody).unwrap(),
            Move::Cut { order, after, seed, shards: next } => {
                end_within(machine, order, after);
                (disk, shards) = (cut(&disk, seed), next);
                let (wrong, _) = look(&disk, &world, shards, true);
                prop_assert!(wrong.is_empty(), "behind the cut of move {place}: {wrong:?}");
                machine = Machine::start(&disk, &small(shards), &world, &mut nobody).unwrap();
            }
            Move::Kill { order, after } => {
                end_within(machine, order, after);
                let (wrong, _) = look(&disk.fork(), &world, shards, true);
                prop_assert!(wrong.is_empty(), "behind the kill of move {place}: {wrong:?}");
                machine = Machine::start(&disk, &small(shards), &world, &mut nobody).unwrap();
            }
        }
        // Now all that anybody knows is durable.
        let (wrong, queues) = look(&cut(&disk, place as u64), &world, shards, false);
        prop_assert!(wrong.is_empty(), "behind move {place}: {wrong:?}");
        prop_assert_eq!(queues, expected(&world.borrow()), "behind move {}", place);
    }
    Ok(())
}

proptest! {
    // A fixed seed: what fails here fails everywhere. PROPTEST_RNG_SEED and PROPTEST_CASES try others.
    #![proptest_config(Config {
        cases: Config::default().cases.max(256),
        rng_seed: match Config::default().rng_seed { RngSeed::Random => RngSeed::Fixed(1), fixed => fixed },
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    })]

    #[test]
    fn the_store_is_what_the_model_says(moves in prop::collection::vec(moves(), 1..40)) {
        live(&moves)?;
    }
}
