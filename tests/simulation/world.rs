//! A world: several lives of one node, each ended by a power failure, a kill or in order, and a last one in which everything heals.

use crate::canary::Bug;
use crate::checker;
use crate::disk::SlowDisk;
use crate::faults::{DISK_OCTETS, START_MS, Weather};
use crate::history::History;
use crate::network::Tasks;
use crate::node::{self, Running};
use crate::operator::Operator;
use crate::plan::Plan;
use crate::primary::Outside;
use crate::sender::{Letters, Sender};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::inspect::Directory;
use storage::ledger::Row;
use storage::position::UnixMillis;
use storage::sim::disk::{Faults, Fired};
use storage::sim::{Executor, Random, SimClock, SimDisk};

/// What one seed saw.
#[derive(Default)]
pub struct Story {
    pub history: Rc<History>,
    pub wrong: Vec<String>,
    pub crashes: u64,
    pub crashes_with_unsynced_octets: u64,
    pub disk: Fired,
    pub steps: u64,
    pub simulated: Duration,
    /// Copies that were looked for (H41).
    pub copies: usize,
    /// The ledger of the last life.
    pub rows: Vec<Row>,
}

/// What the last life told before it ended.
#[derive(Default)]
pub struct Healing {
    /// When all was well again, by the world's time.
    pub at: Cell<Option<Duration>>,
    /// Tasks of the node, and files, when nothing was to be done any more.
    pub tasks_left: Cell<usize>,
    pub is_over: Cell<bool>,
    /// Domains whose lanes the guard had frozen.
    pub frozen: RefCell<Vec<String>>,
}

/// A story from beginning to end.
pub fn story(seed: u64, bug: Option<Bug>) -> Story {
    let plan = Rc::new(Plan::new(seed));
    tell(&plan, bug)
}

/// Steps of a life at most: a life that goes round in a circle ends here.
const STEPS_MAX: u64 = 30_000_000;

/// The story of a plan.
pub fn tell(plan: &Rc<Plan>, bug: Option<Bug>) -> Story {
    let mut story = Story::default();
    let mut random = Random::new(plan.seed);
    let mut disk = SimDisk::new(random.next(), DISK_OCTETS);
    let (letters, healing) = (Rc::<Letters>::default(), Rc::<Healing>::default());
    let mut was_killed = false;
    for number in 1..=plan.lives {
        story.history.life.set(number);
        let is_last = number == plan.lives;
        let mut life = Life::new(plan, &story, &disk, &letters, &healing, bug, &mut random);
        let ended = life.live(is_last, &mut random);
        story.steps += life.steps;
        story.history.began.set(story.history.time(life.clock.now()));
        drop(life);
        disk = match ended {
            Ended::InOrder => {
                story.history.count("shut down in order");
                disk
            }
            Ended::Killed => {
                story.history.count("process killed");
                disk
            }
            Ended::PowerFailed => {
                story.crashes += 1;
                story.crashes_with_unsynced_octets += u64::from(disk.unsynced_octets() > 0);
                disk.crash()
            }
            Ended::Stuck => {
                story.wrong.push(format!("life {number} does not end"));
                break;
            }
        };
        was_killed |= ended != Ended::PowerFailed && !is_last;
        // Also one in order: what is not journalled within its grace is left behind.
        story.history.crashes.borrow_mut().push(story.history.began.get());
        if bug == Some(Bug::RottenRecord) && is_last {
            rot(&disk);
        }
        audit(&disk, plan, is_last, &healing, &mut story);
        let (mut uncopied, copies) = checker::of_copies(plan, &story.history, &healing, &disk);
        story.wrong.append(&mut uncopied);
        story.copies += copies;
        if !story.wrong.is_empty() {
            break;
        }
    }
    story.disk = disk.fired();
    story.simulated = story.history.began.get();
    // A process leaves files to the next one, which cannot know what failed before it, unless the power fails between.
    if disk.syncs_after_failure() > 0 && !was_killed {
        story.wrong.push("a sync was tried again behind a failed one".to_owned());
    }
    story.wrong.append(&mut story.history.wrong.borrow_mut());
    story.wrong.append(&mut checker::of_history(plan, &story.history, &healing));
    story
}

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    InOrder,
    Killed,
    PowerFailed,
    Stuck,
}

struct Life {
    executor: Executor,
    clock: SimClock,
    weather: Weather,
    plan: Rc<Plan>,
    healing: Rc<Healing>,
    letters: Rc<Letters>,
    running: Rc<RefCell<Option<Rc<Running>>>>,
    steps: u64,
}

impl Life {
    fn new(
        plan: &Rc<Plan>,
        story: &Story,
        disk: &SimDisk,
        letters: &Rc<Letters>,
        healing: &Rc<Healing>,
        bug: Option<Bug>,
        random: &mut Random,
    ) -> Self {
        let clock = SimClock::default();
        let elapsed = u64::try_from(story.history.began.get().as_millis()).expect("small");
        clock.set_wall(UnixMillis(START_MS + elapsed));
        let seed = random.next();
        let executor = if random.one_in(2) {
            Executor::new(seed, clock.clone())
        } else {
            Executor::unfair(seed, clock.clone(), 100)
        };
        let spawner = executor.spawner();
        let outside = Outside {
            hosts: Rc::clone(&plan.hosts),
            history: Rc::clone(&story.history),
            clock: clock.clone(),
            spawner: spawner.clone(),
            tasks: Tasks::new(spawner, bug == Some(Bug::LeakedTasks)),
            random: Rc::new(RefCell::new(Random::new(random.next()))),
            breaking: Rc::default(),
            latency: plan.latency,
            bug,
            late_until: Rc::default(),
        };
        let crash = Faults {
            misdirect_one_in: Some(4),
            shear_one_in: Some(4),
            ignore_syncs: bug == Some(Bug::IgnoredSyncs),
            ..Faults::default()
        };
        disk.set_faults(crash);
        let slow = SlowDisk::new(disk.clone(), &clock);
        let weather = Weather {
            outside,
            disk: slow,
            raw: disk.clone(),
            reading_fails: plan.reading_fails,
            is_calm: Rc::default(),
            is_ahead: Rc::default(),
        };
        Self {
            executor,
            clock,
            weather,
            plan: Rc::clone(plan),
            healing: Rc::clone(healing),
            letters: Rc::clone(letters),
            running: Rc::default(),
            steps: 0,
        }
    }

    fn step(&mut self) -> bool {
        self.steps += 1;
        self.executor.step() && self.steps < STEPS_MAX
    }

    fn live(&mut self, is_last: bool, random: &mut Random) -> Ended {
        if self.weather.outside.bug == Some(Bug::ForgottenPrimaries) {
            self.plan.acquaintances.take();
        }
        let shards = 1 + u16::try_from(random.below(4)).expect("few");
        let (weather, plan, slot) = (self.weather.clone(), Rc::clone(&self.plan), Rc::clone(&self.running));
        self.executor.spawner().spawn(async move {
            let (disk, clock) = (weather.disk.clone(), weather.outside.clock.clone());
            let node = node::start(disk, clock, &weather.outside, &plan, shards).await;
            slot.replace(Some(Rc::new(node)));
        });
        while self.running.borrow().is_none() {
            if !self.step() {
                return Ended::Stuck;
            }
        }
        let node = Rc::clone(self.running.borrow().as_ref().expect("it was waited for"));
        if let Some(rescue) = self.plan.rescue {
            self.executor.spawner().spawn(self.weather.clone().of_machines(rescue));
        }
        if let Some(length) = self.plan.lengths.get(self.weather.outside.history.life.get() as usize - 1) {
            return self.live_for(*length, &node, random);
        }
        self.populate(&node, random);
        if self.weather.outside.bug != Some(Bug::IgnoredSyncs) && self.plan.rescue.is_none() {
            self.weather.start(random);
        }
        let end = self.clock.now() + Duration::from_secs(20 + random.below(500));
        while self.clock.now() < end {
            if !self.step() {
                return Ended::Stuck;
            }
        }
        if node.keep_acquaintances(&self.plan) {
            self.weather.outside.history.count("a stranger was met");
        }
        if is_last {
            return if self.heal(&node) { Ended::InOrder } else { Ended::Stuck };
        }
        // Two times in three something is on its way to the disk.
        let unsynced = random.below(3) > 0;
        let most = self.steps + 20_000;
        while unsynced && self.weather.raw.unsynced_octets() == 0 && self.steps < most && self.step() {}
        for _ in 0..random.below(if unsynced { 3 } else { 400 }) {
            self.step();
        }
        match random.below(4) {
            // What a failed write left in the cache the next process takes for written, and a later power cut undoes: two faults at
            // once that nobody can tell apart. So a life with a failure ends with the power.
            0 if !self.has_failed() => Ended::Killed,
            1 if self.shut_down(&node) => Ended::InOrder,
            _ => Ended::PowerFailed,
        }
    }

    fn has_failed(&self) -> bool {
        let fired = self.weather.raw.fired();
        fired.no_space > 0 || !fired.eio.is_empty()
    }

    /// A life in which only time passes. Senders come in its first hour.
    fn live_for(&mut self, length: Duration, node: &Rc<Running>, random: &mut Random) -> Ended {
        if !self.letters.is_over.get() {
            self.senders(node, 60_000, random);
        }
        let (hour, end) = (Duration::from_secs(3600), self.clock.now() + length);
        while self.clock.now() < end {
            if self.clock.now() > hour {
                self.letters.is_over.set(true);
            }
            if !self.step() {
                return Ended::Stuck;
            }
        }
        node.keep_acquaintances(&self.plan);
        Ended::PowerFailed
    }

    /// Senders and an operator.
    fn populate(&self, node: &Rc<Running>, random: &mut Random) {
        let pause_ms = [1_500, 8_000, 40_000][usize::try_from(random.below(3)).expect("few")];
        self.senders(node, pause_ms, random);
        let outside = &self.weather.outside;
        let operator = Rc::new(self.operator(node));
        outside.spawner.spawn(operator.work(self.weather.clone(), Random::new(random.next())));
    }

    fn senders(&self, node: &Rc<Running>, pause_ms: u64, random: &mut Random) {
        let outside = &self.weather.outside;
        let (own, tasks) = (Rc::clone(node), outside.tasks.clone());
        let admit: Rc<dyn Fn(_, _)> = Rc::new(move |link, peer| own.admit_soon(link, peer, &tasks));
        for _ in 0..1 + random.below(3) {
            let sender = Sender {
                outside: outside.clone(),
                letters: Rc::clone(&self.letters),
                domains: Rc::clone(&self.plan.domains),
                random: Random::new(random.next()),
                pause_ms,
                large: self.plan.large,
                admit: Rc::clone(&admit),
            };
            outside.spawner.spawn(sender.run());
        }
    }

    fn operator(&self, node: &Rc<Running>) -> Operator {
        Operator { node: Rc::clone(node), plan: Rc::clone(&self.plan), outside: self.weather.outside.clone() }
    }

    fn shut_down(&mut self, node: &Rc<Running>) -> bool {
        let (done, node) = (Rc::new(Cell::new(false)), Rc::clone(node));
        let told = Rc::clone(&done);
        self.executor.spawner().spawn(async move {
            node.shut_down().await;
            told.set(true);
        });
        let most = self.steps + 2_000_000;
        while !done.get() && self.steps < most && self.step() {}
        done.get()
    }

    /// All is well from now on; until everything is done that is to be done.
    fn heal(&mut self, node: &Rc<Running>) -> bool {
        self.weather.calm();
        self.letters.is_over.set(true);
        let operator = self.operator(node);
        let (healing, plan, letters) =
            (Rc::clone(&self.healing), Rc::clone(&self.plan), Rc::clone(&self.letters));
        let outside = self.weather.outside.clone();
        self.executor.spawner().spawn(async move {
            let now = outside.history.time(outside.clock.now());
            if outside.bug == Some(Bug::LateReturn) {
                outside.late_until.set(now + Duration::from_secs(3600));
            }
            operator.node.reload(plan.config.clone()).await;
            for status in operator.statuses().await {
                use stratamx::bridge::operator::State::{Frozen, Held};
                if matches!(status.state, Frozen | Held) {
                    healing.frozen.borrow_mut().push(status.name);
                }
            }
            healing.at.set(Some(now));
            // Who comes again has an hour at most.
            while !letters.is_empty() {
                outside.clock.sleep(Duration::from_secs(60)).await;
            }
            outside.clock.sleep(Duration::from_secs(400)).await;
            operator.look_after().await;
            outside.clock.sleep(Duration::from_secs(200)).await;
            if operator.node.keeps_copies() {
                // For a day, and a day more where the clock jumped (H5): then their files are gone like all others (H41, P7).
                outside.history.count("copies were kept");
                outside.clock.sleep(Duration::from_secs(50 * 3600)).await;
            }
            healing.tasks_left.set(outside.tasks.live());
            operator.node.shut_down().await;
            healing.is_over.set(true);
        });
        while !self.healing.is_over.get() {
            if !self.step() {
                return false;
            }
        }
        true
    }
}

/// P2, recounted from the disk; at the end also against what the outside saw.
fn audit(disk: &SimDisk, plan: &Plan, is_last: bool, healing: &Healing, story: &mut Story) {
    let mut executor = Executor::new(1, SimClock::default());
    // Whoever looks has a disk that reads.
    disk.set_faults(Faults::default());
    let own = disk.clone();
    let walk = executor.run(100_000_000, async move { Directory::walk(own, Arc::default()).await });
    let Some(Ok(directory)) = walk else {
        return story.wrong.push("the disk cannot be walked".to_owned());
    };
    let audit = directory.audit();
    if !audit.balances() {
        story.wrong.push(format!("P2: life {}: {audit:?}", story.history.life.get()));
    }
    story.wrong.append(&mut checker::of_audit(plan, &story.history, &audit, healing));
    if is_last && plan.heals() {
        checker::bounds(healing, disk, &mut story.wrong);
    }
    story.rows = audit.rows;
}

/// Octets in the middle of the first record that is found.
fn rot(disk: &SimDisk) {
    let path = disk.paths().into_iter().find(|path| path.ends_with(".log")).expect("a segment");
    disk.rot(&path, 4096 + 64, &[0xFF; 16]);
}
