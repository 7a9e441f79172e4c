//! What a node does, one step at a time: the alphabet of the exhaustive crash points and of the model. Between any two of its
//! changes of the disk somebody may watch.

use super::node::*;
use super::upkeep::{checkpoint_all, compact, hold, refresh_places};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::format::journal_entry::Outcome;
use storage::position::Stamp;
use storage::sim::disk::Faults;
use storage::sim::{Executor, SimClock, SimDisk};
use storage::store::{StoreOptions, open};

/// A letter of the alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A chunk of a message that never ends.
    Abandon,
    /// A message to two domains.
    Append,
    Checkpoint,
    /// What is sparse is rewritten.
    Compact,
    /// A unit is past its retention.
    Expire,
    Hold,
    /// A message in two chunks and a closing record.
    LargeAppend,
    Release,
    /// The process is killed and starts again. The disk goes on, with what it has not made durable.
    Restart,
    /// Messages until the next segment.
    Roll,
    /// A unit is delivered.
    Settle,
    /// No letter: a large message of which the chunks lie a segment before the closing record.
    Straddle,
    /// No letter: all messages that only filled a segment are delivered.
    Tidy,
    /// What is settled goes.
    Unlink,
    /// A write fails; what comes behind it voids the range.
    Void,
}

impl Step {
    pub(crate) const ALL: [Self; 13] = [
        Self::Abandon,
        Self::Append,
        Self::Checkpoint,
        Self::Compact,
        Self::Expire,
        Self::Hold,
        Self::LargeAppend,
        Self::Release,
        Self::Restart,
        Self::Roll,
        Self::Settle,
        Self::Unlink,
        Self::Void,
    ];
}

/// A step, where and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) step: Step,
    /// Modulo the shards.
    pub(crate) shard: usize,
    /// Which of the units that are fit for it, modulo their number.
    pub(crate) pick: usize,
}

/// Somebody who looks behind every change of the disk, and at the end of a step; who breaks kills the node there.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&SimDisk, &World) -> ControlFlow<()>;

/// Nobody.
pub(crate) fn nobody(_: &SimDisk, _: &World) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A node with all that it runs on.
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) world: World,
    shape: Shape,
    faults: Faults,
    executor: Executor,
    node: Node,
}

/// What the steps are taken with: small files, so that little makes a segment full.
pub(crate) fn small(shards: u16) -> Shape {
    let store = StoreOptions { shards, journal_octets: 32 << 10, ..StoreOptions::default() };
    Shape { store, mail_octets: 96 << 10, bug: None }
}

impl Machine {
    /// A node over `disk`; `None` if who watches killed it.
    pub(crate) fn start(disk: &SimDisk, shape: &Shape, world: &World, watch: Watch<'_>) -> Option<Self> {
        let clock = SimClock::default();
        let mut executor = Executor::new(1, clock.clone());
        world.borrow_mut().failed.clear();
        let started = {
            let (disk, world, shape) = (disk.clone(), Rc::clone(world), shape.clone());
            let spawner = executor.spawner();
            async move {
                let opened = open(&disk, &clock, &shape.store).await.expect("a store that was left opens");
                refresh_places(&opened, &world);
                Node::over(opened, &shape, &disk, &clock, &spawner).await.expect("logs open")
            }
        };
        let node = watched(&mut executor, disk, world, started, watch)?;
        let (disk, world, shape) = (disk.clone(), Rc::clone(world), shape.clone());
        Some(Self { disk, world, shape, faults: Faults::default(), executor, node })
    }

    /// What is wrong with the disk from now on.
    pub(crate) fn plant(&mut self, faults: Faults) {
        self.faults = faults;
        self.disk.set_faults(faults);
    }

    /// Takes a step and waits for all that follows from it. `None` if who watches killed it.
    pub(crate) fn take(mut self, order: Order, watch: Watch<'_>) -> Option<Self> {
        if order.step == Step::Restart {
            let Self { disk, world, shape, faults, executor, node } = self;
            drop((executor, node));
            let again = Self::start(&disk, &shape, &world, watch)?;
            return Some(Self { faults, ..again });
        }
        let step = perform(self.node.clone(), Rc::clone(&self.world), self.faults, order);
        watched(&mut self.executor, &self.disk, &self.world, step, watch)?;
        Some(self)
    }
}

/// Runs `future` to its end, under the eyes of who watches.
fn watched<T: 'static>(
    executor: &mut Executor,
    disk: &SimDisk,
    world: &World,
    future: impl Future<Output = T> + 'static,
    watch: Watch<'_>,
) -> Option<T> {
    let done = Rc::new(Cell::new(None));
    executor.spawner().spawn({
        let done = Rc::clone(&done);
        async move { done.set(Some(future.await)) }
    });
    let mut changes = disk.changes();
    loop {
        assert!(executor.step(), "a step hangs");
        let ended = done.take();
        if (disk.changes() != changes || ended.is_some()) && watch(disk, world).is_break() {
            return None;
        }
        changes = disk.changes();
        if ended.is_some() {
            return ended;
        }
    }
}

async fn perform(node: Node, world: World, faults: Faults, order: Order) {
    let shard = node.shards[order.shard % node.shards.len()].clone();
    let recipients = ["a@one.test", "b@two.test"];
    match order.step {
        Step::Abandon => {
            let mut arriving = Arriving::new(&shard, &world);
            arriving.chunk(&data_of(arriving.number, 6_000)).await;
            // A session that sends more makes it durable.
            send(&shard, &world, &recipients[..1], 10, 0).await;
            arriving.abandon();
        }
        Step::Append => drop(send(&shard, &world, &recipients, 3_000, 0).await),
        Step::Checkpoint => drop(checkpoint_all(&node, &world).await),
        Step::Compact => drop(compact(&node, &shard, &world).await),
        Step::Expire => end(&node, &shard, &world, order.pick, Outcome::Expired).await,
        Step::Hold => {
            if let Some(unit) = pick(&open_units(&world), order.pick) {
                hold(&node, &node.shards[0], &world, unit, true).await;
            }
        }
        Step::LargeAppend => drop(send(&shard, &world, &recipients, 15_000, 2).await),
        Step::Release => {
            let held: Vec<_> = world.borrow().held.iter().copied().collect();
            if let Some(unit) = pick(&held, order.pick) {
                hold(&node, &node.shards[0], &world, unit, false).await;
            }
        }
        Step::Restart => unreachable!("that ends the node"),
        Step::Roll => roll(&shard, &world).await,
        Step::Settle => end(&node, &shard, &world, order.pick, Outcome::Delivered).await,
        Step::Straddle => {
            let mut arriving = Arriving::new(&shard, &world);
            arriving.chunk(&data_of(arriving.number, 6_000)).await;
            roll(&shard, &world).await;
            arriving.close(&world, &recipients, b"").await;
        }
        Step::Tidy => {
            while let Some(place) = filler(&world) {
                end(&node, &shard, &world, place, Outcome::Delivered).await;
            }
        }
        Step::Unlink => drop(node.reclaim().await),
        Step::Void => {
            node.disk.set_faults(Faults { fail_call: Some(1), ..faults });
            send(&shard, &world, &recipients, 3_000, 0).await;
            node.disk.set_faults(faults);
            send(&shard, &world, &recipients, 3_000, 0).await;
        }
    }
    // Until nobody has anything to do: time moves only then.
    node.clock.sleep(Duration::from_secs(2)).await;
}

async fn roll(shard: &Shard, world: &World) {
    let before = shard.mail.active_segment();
    while shard.mail.active_segment() == before {
        send(shard, world, &[FILLER], 20_000, 0).await;
    }
}

/// Who gets the messages that only fill a segment.
const FILLER: &str = "filler@one.test";

/// Where one of them is among the open units.
fn filler(world: &World) -> Option<usize> {
    let open = open_units(world);
    let world = world.borrow();
    let mut fillers = world.acknowledged.values().filter(|promise| promise.recipients == [FILLER]);
    fillers.find_map(|promise| open.iter().position(|unit| unit.0 == promise.stamp))
}

async fn end(node: &Node, owner: &Shard, world: &World, which: usize, outcome: Outcome) {
    let Some((stamp, ordinal)) = pick(&open_units(world), which) else { return };
    let promise = {
        let world = world.borrow();
        let mut promises = world.acknowledged.values();
        promises.find(|promise| promise.stamp == stamp).cloned().expect("open units are promised")
    };
    node.end(owner, world, &promise, ordinal, outcome).await;
}

/// Units that nobody has begun to end or to hold, in order.
fn open_units(world: &World) -> Vec<(Stamp, u16)> {
    let world = world.borrow();
    let units = world.acknowledged.values().flat_map(|promise| {
        (0..u16::try_from(promise.recipients.len()).unwrap()).map(|ordinal| (promise.stamp, ordinal))
    });
    units.filter(|unit| !world.settling.contains(unit) && !world.holding.contains(unit)).collect()
}

fn pick<T: Copy>(among: &[T], which: usize) -> Option<T> {
    among.get(which % among.len().max(1)).copied()
}
