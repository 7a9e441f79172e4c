//! Primaries that behave in their own way on a drain, one row each: what they do, and what has become of every unit in the end.
//!
//! In every row the primary was well and took mail for four recipients, then it was gone, and thirty messages came for it.
//! Rows are played from several seeds; those with a crash also with a power failure in the middle of the drain. Whatever a row
//! expects: nothing is lost, nothing is both held and taken, and first arrivals are in order but for those that step aside.

mod closing;
mod greylisting;
mod limited;
mod odd;
mod providers;
mod refusing;

use super::manner::{Act, At, Manner, Turn};
use super::node::{self, Plan};
use super::primary::{Boxes, Primary, Tls, primary_of};
use super::window::{body, bring, fill};
use super::{DISK_OCTETS, SimShard, SimSpawn, greeted};
use crate::config::{Primaries, PrimaryTls, Protocol};
use crate::limits::OUTSTANDING_MAX;
use crate::shard::backlog::{Health, Lane};
use crate::shard::link::Spawn;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, Random, SimClock, SimDisk};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MESSAGES: u32 = 30;

/// See the module.
struct Row {
    name: &'static str,
    /// What it calls itself, by which we know it.
    host: &'static str,
    /// Made anew for each story; it remembers over our crashes.
    manner: fn() -> Manner,
    tls: Tls,
    /// It speaks LMTP.
    boxes: Option<Boxes>,
    policy: PrimaryTls,
    withheld: &'static [&'static str],
    /// So long it takes over each octet, and until then.
    drips: (Duration, Duration),
    /// Those that may come behind later ones.
    aside: fn(u32) -> bool,
    /// Units that end with the operator.
    held: fn(u32, &str) -> bool,
    /// Arrivals beyond the first, of all units together.
    repeats: u32,
    /// All is over by then.
    within: Duration,
    /// States that an operator never sees once the primary is back.
    never: &'static [Health],
    /// States that he sees.
    seen: &'static [Health],
    crash: bool,
}

impl Row {
    /// Everything arrives once, in order, within one probe interval, though the power fails in between.
    const fn new(name: &'static str, manner: fn() -> Manner) -> Self {
        Self {
            name,
            host: "primary.test",
            manner,
            tls: Tls::Not,
            boxes: None,
            policy: PrimaryTls::Opportunistic,
            withheld: &[],
            drips: (Duration::ZERO, Duration::ZERO),
            aside: |_| false,
            held: |_, _| false,
            repeats: 0,
            within: Duration::from_secs(300),
            never: &[Health::Frozen],
            seen: &[],
            crash: true,
        }
    }

    fn prove(&self) {
        for (seed, connections) in [(1, 1), (2, 1), (3, 1), (1, 5), (2, 5), (3, 3), (4, 8)] {
            Story::told(self, seed, connections, false).assert_as_expected(self);
            if self.crash {
                Story::told(self, seed, connections, true).assert_as_expected(self);
            }
        }
    }
}

/// What was seen of a drain.
struct Story {
    what: String,
    primary: Primary,
    connections: u32,
    crashed: bool,
    states: BTreeSet<String>,
    /// Message and recipient of units that are held in the end.
    held: usize,
    took: Duration,
    waiting: usize,
}

impl Story {
    fn told(row: &Row, seed: u64, connections: u32, crashed: bool) -> Self {
        let what = format!("{}, seed {seed}, {connections} connections, crashed: {crashed}", row.name);
        let mut random = Random::new(seed);
        let disk = SimDisk::new(seed, DISK_OCTETS);
        let manner = (row.manner)();
        let mut life = Life::new(seed, row, connections, &what);
        life.begin(row, disk.clone(), Some(Rc::clone(&manner)));
        if crashed {
            let enough = usize::try_from(1 + random.below(20)).expect("small");
            let steps = random.below(60);
            life.run_until(|life| life.primary.taken.borrow().len() >= enough && life.is_back.get(), HOUR);
            (0..steps).for_each(|_| {
                life.executor.step();
            });
            let (taken, since) = (Rc::clone(&life.primary.taken), life.primary.since());
            let (served, states) = (life.primary.served.get(), life.states.take());
            drop(life);
            life = Life::new(seed + 100, row, connections, &what);
            life.primary.taken = taken;
            life.primary.served.set(served);
            life.states.replace(states);
            life.primary.began.set((Duration::ZERO, since));
            life.primary.manner.replace(Some(manner));
            life.primary.drips.set(row.drips);
            life.primary.up.set(true);
            life.is_back.set(true);
            life.begin(row, disk.crash(), None);
        }
        life.run_until(|life| life.is_over.get(), row.within);
        let took = life.primary.since();
        let shard = life.shard.borrow_mut().take().expect("it started");
        let queues = shard.lanes.all();
        let held = queues.iter().map(|lane| lane.queue.borrow().held().len()).sum();
        let waiting = queues.iter().map(|lane| lane.queue.borrow().len()).sum();
        let states = life.states.take();
        Self { what, primary: life.primary.clone(), connections, crashed, states, held, took, waiting }
    }

    fn assert_as_expected(&self, row: &Row) {
        let Self { what, states, took, .. } = self;
        let (arrivals, order) = self.arrivals();
        let mut expected_held = 0;
        for number in 1..=MESSAGES {
            for recipient in recipients(number) {
                let count = arrivals.get(&(number, recipient.clone())).copied().unwrap_or(0);
                let is_held = (row.held)(number, &recipient);
                expected_held += usize::from(is_held);
                assert_eq!(
                    count == 0,
                    is_held,
                    "{what}: {number} to {recipient} came {count} times; {}",
                    self.told_of()
                );
            }
        }
        assert_eq!((self.held, self.waiting), (expected_held, 0), "{what}: {}", self.told_of());
        let in_order: Vec<u32> = order.iter().copied().filter(|number| !(row.aside)(*number)).collect();
        if self.connections == 1 {
            assert!(in_order.is_sorted(), "{what}: {order:?}");
        }
        // Who is in all of these (P3).
        let shared: Vec<u32> = in_order.into_iter().filter(|number| number.is_multiple_of(5)).collect();
        assert!(shared.is_sorted(), "{what}: {order:?}");
        let repeats = arrivals.values().sum::<u32>() - u32::try_from(arrivals.len()).expect("few");
        // Two units a message at most.
        let crash = if self.crashed { 2 * OUTSTANDING_MAX } else { 0 };
        assert!(repeats <= row.repeats + crash, "{what}: {repeats} repeats");
        assert!(*took <= row.within, "{what}: {took:?}");
        // Mail that a start found is a suspicion.
        let is_found = |state: &Health| self.crashed && *state == Health::Suspect;
        for state in row.never.iter().filter(|state| !is_found(state)) {
            assert!(!states.contains(&state.state().to_string()), "{what}: never {state:?}: {states:?}");
        }
        // What is seen behind some messages of one connection may be over before with more.
        for state in row.seen.iter().filter(|_| !self.crashed && self.connections == 1) {
            assert!(states.contains(&state.state().to_string()), "{what}: {state:?} among {states:?}");
        }
    }

    fn told_of(&self) -> String {
        let (dialed, served) = (self.primary.dialed.get(), self.primary.served.get());
        format!(
            "{} held, {} wait, {dialed} dialed, {served} served, {:?} took {:?}",
            self.held, self.waiting, self.states, self.took
        )
    }

    /// How often each unit came, and the messages in the order of their first arrivals.
    fn arrivals(&self) -> (BTreeMap<(u32, String), u32>, Vec<u32>) {
        let (mut counts, mut order) = (BTreeMap::new(), Vec::new());
        for taken in self.primary.taken.borrow().iter() {
            let number: u32 = taken.subject.parse().expect("only what was sent");
            assert!(
                taken.body.ends_with(&format!("\r\n\r\n{}\r\n", body(number))),
                "{}: {number}",
                self.what
            );
            if !order.contains(&number) {
                order.push(number);
            }
            for recipient in &taken.recipients {
                let name = recipient.split('@').next().expect("a name").to_owned();
                *counts.entry((number, name)).or_insert(0) += 1;
            }
        }
        (counts, order)
    }
}

/// To whom a message is, as `fill` has it.
fn recipients(number: u32) -> Vec<String> {
    let mut all = vec![format!("r{number}")];
    all.extend(number.is_multiple_of(5).then(|| "second".to_owned()));
    all
}

/// A life of the node.
struct Life {
    executor: Executor,
    clock: SimClock,
    spawn: SimSpawn,
    primary: Primary,
    shard: Rc<RefCell<Option<Rc<SimShard>>>>,
    states: Rc<RefCell<BTreeSet<String>>>,
    is_back: Rc<Cell<bool>>,
    is_over: Rc<Cell<bool>>,
    /// That it may have.
    connections: u32,
    what: String,
}

impl Life {
    fn new(seed: u64, row: &Row, connections: u32, what: &str) -> Self {
        let clock = SimClock::default();
        let executor = Executor::new(seed, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, true);
        primary.tls.set(row.tls);
        primary.boxes.set(row.boxes);
        primary.name.replace(row.host.to_owned());
        primary.withheld.replace(row.withheld.iter().map(|word| (*word).to_owned()).collect());
        let (shard, states, is_back, is_over) = Default::default();
        let what = what.to_owned();
        Self { executor, clock, spawn, primary, shard, states, is_back, is_over, connections, what }
    }

    /// With a manner: the primary is well, is gone, and comes back with it. Else that has happened.
    fn begin(&self, row: &Row, disk: SimDisk, manner: Option<Manner>) {
        let mut plan = Plan::one_shard();
        plan.config.domains[0].retry_interval = 5 * MINUTE;
        plan.config.domains[0].tls = row.policy;
        if let (Some(_), Primaries::Hosts(hosts)) = (row.boxes, &mut plan.config.domains[0].primaries) {
            hosts.iter_mut().for_each(|host| host.protocol = Protocol::Lmtp);
        }
        plan.config.domains[0].max_connections = self.connections;
        let (clock, spawn, primary) = (self.clock.clone(), self.spawn.clone(), self.primary.clone());
        let (slot, drips) = (Rc::clone(&self.shard), row.drips);
        let (is_back, is_over) = (Rc::clone(&self.is_back), Rc::clone(&self.is_over));
        self.spawn.spawn(async move {
            let shard = node::start(disk, clock.clone(), &spawn, &primary, plan).await.remove(0);
            slot.replace(Some(Rc::clone(&shard)));
            if let Some(manner) = manner {
                know(&shard, &spawn, &primary).await;
                fill(&shard, &spawn, MESSAGES).await;
                while shard.lanes.all()[0].health.get() != Health::Down {
                    clock.sleep(Duration::from_secs(1)).await;
                }
                primary.served.set(0);
                primary.manner.replace(Some(manner));
                primary.drips.set(drips);
                primary.began.set((clock.now(), Duration::ZERO));
                primary.up.set(true);
                is_back.set(true);
            }
            loop {
                let lanes = shard.lanes.all();
                let is_idle = |lane: &Rc<Lane>| lane.queue.borrow().len() == 0 && !lane.running.get();
                if lanes.iter().all(is_idle) {
                    break;
                }
                drop(lanes);
                clock.sleep(Duration::from_secs(1)).await;
            }
            is_over.set(true);
        });
    }

    fn run_until(&mut self, is_so: impl Fn(&Self) -> bool, within: Duration) {
        let mut last = None;
        while !is_so(self) {
            assert!(self.executor.step(), "{}: nothing happens any more", self.what);
            if let Some(shard) = &*self.shard.borrow()
                && self.is_back.get()
                && let Some(lane) = shard.lanes.all().first()
            {
                let health = lane.health.get();
                // How it was before it came back does not count.
                if last.replace(health).is_some_and(|before| before != health) {
                    self.states.borrow_mut().insert(health.state().to_string());
                }
            }
            assert!(self.clock.now() < 100 * HOUR, "{}: the story ends", self.what);
            // Much later, so that the assertions say what is wrong.
            if self.is_back.get() && self.primary.since() > 4 * within + 8 * HOUR {
                return;
            }
        }
    }
}

/// The primary takes mail for some, and the shard learns that.
async fn know(shard: &Rc<SimShard>, spawn: &SimSpawn, primary: &Primary) {
    let mut ours = greeted(Rc::clone(shard), spawn).await;
    for number in 1..=4 {
        bring(&mut ours, number).await;
    }
    while primary.taken.borrow().len() < 4 || shard.lanes.all()[0].health.get() != Health::Up {
        primary.clock.sleep(Duration::from_secs(1)).await;
    }
    primary.taken.borrow_mut().clear();
    primary.up.set(false);
}
