//! A shard on the simulated machine: its own code over a disk that crashes, a clock that jumps and links in memory.
//! What no test with real processes can do: look at the disk at the very instant at which a reply leaves.

mod carried;
mod clock_jump;
mod edge;
mod guard;
mod inquiry;
mod lanes;
mod link;
mod manner;
mod many;
mod naming;
mod net;
mod node;
mod notices;
mod offered;
mod operator;
mod orders;
mod primary;
mod reading;
mod recipients;
mod route;
mod scripted;
mod secured;
mod serving;
mod shares;
mod stranger;
mod upkeep;
mod verified;
mod window;

use super::connection;
use super::link::{Link, Spawn};
use super::state::Shard;
use crate::limits::SWEEP_INTERVAL;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use link::MemoryLink;
use node::Plan;
use primary::{Primary, primary_of};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use storage::clock::Clock;
use storage::format::store_file::StoreFile;
use storage::position::SegmentId;
use storage::sim::executor::Spawner;
use storage::sim::{Executor, Random, SimClock, SimDisk};

type SimShard = Shard<SimDisk, SimClock>;

const DISK_OCTETS: u64 = 256 << 20;

#[derive(Clone)]
struct SimSpawn(Spawner);

impl Spawn for SimSpawn {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }
}

/// One shard with its standing tasks, over a disk that may have one already.
async fn start(disk: SimDisk, clock: SimClock, spawn: SimSpawn, primary: Primary) -> Rc<SimShard> {
    node::start(disk, clock, &spawn, &primary, Plan::one_shard()).await.remove(0)
}

/// What the world outside saw.
#[derive(Default)]
struct World {
    /// Messages that were answered by 250.
    acknowledged: RefCell<Vec<Promised>>,
    next: Cell<u32>,
    /// Counts what happens outside.
    instant: Cell<u64>,
}

#[derive(Clone)]
struct Promised {
    subject: String,
    mail_at: u64,
    acknowledged_at: u64,
}

impl World {
    fn tick(&self) -> u64 {
        self.instant.set(self.instant.get() + 1);
        self.instant.get()
    }
}

/// A sender that brings messages one after the other over one connection, until the life ends.
async fn send(shard: Rc<SimShard>, world: Rc<World>, spawn: SimSpawn) {
    let mut ours = greeted(shard, &spawn).await;
    loop {
        let number = world.next.get();
        world.next.set(number + 1);
        let mail_at = world.tick();
        let envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n";
        converse(&mut ours, envelope, "354 ").await;
        let filler = "x".repeat(usize::try_from(number % 50).unwrap_or_default() * 37);
        let data = format!("Subject: {number}\r\n\r\n..dots\r\n{filler}\r\n.\r\n");
        if !converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok: queued as ").await {
            return;
        }
        let acknowledged_at = world.tick();
        let subject = number.to_string();
        world.acknowledged.borrow_mut().push(Promised { subject, mail_at, acknowledged_at });
    }
}

/// A session that has said EHLO.
async fn greeted(shard: Rc<SimShard>, spawn: &SimSpawn) -> MemoryLink {
    let (mut ours, theirs) = MemoryLink::pair();
    let peer = SocketAddr::from(([192, 0, 2, 1], 25_000));
    spawn.spawn(connection::serve(shard, theirs, peer));
    converse(&mut ours, b"", "220 ").await;
    converse(&mut ours, b"EHLO sender.test\r\n", "250 ").await;
    ours
}

/// Sends, then reads until a line that starts with `expected`; `false` at the end of the stream.
async fn converse(link: &mut MemoryLink, octets: &[u8], expected: &str) -> bool {
    let _ = link.write(octets).await;
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text.lines().any(|line| line.starts_with(expected)) && text.ends_with("\r\n") {
            return true;
        }
        let mut memory = [0; 256];
        match link.read(&mut memory).await {
            Ok(count @ 1..) => heard.extend_from_slice(&memory[..count]),
            _ => return false,
        }
    }
}

/// One life: three senders, cut off by a power failure at the instant `stop` says so, or after `steps`.
fn live(disk: &SimDisk, world: &Rc<World>, seed: u64, steps: u64, stop: impl Fn(&World) -> bool) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let (disk_of_life, world_of_life) = (disk.clone(), Rc::clone(world));
    spawn.clone().spawn(async move {
        let shard = start(disk_of_life, clock, spawn.clone(), primary).await;
        for _ in 0..3 {
            spawn.spawn(send(Rc::clone(&shard), Rc::clone(&world_of_life), spawn.clone()));
        }
    });
    for _ in 0..steps {
        if stop(world) || !executor.step() {
            break;
        }
    }
    drop(executor);
    disk.crash()
}

/// The last life: the primary is up and is handed everything; what it took, in order.
fn drain(disk: &SimDisk, seed: u64, expected: usize) -> Vec<String> {
    let clock = SimClock::default();
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, true);
    let (disk, taken) = (disk.clone(), Rc::clone(&primary.taken));
    spawn.clone().spawn(async move {
        start(disk, clock, spawn.clone(), primary).await;
    });
    let (mut idle, mut steps) = (0, 0);
    // Bounded: a message that is lost never comes.
    while idle < 2_000 && steps < 2_000_000 && executor.step() {
        idle = if taken.borrow().len() < expected { 0 } else { idle + 1 };
        steps += 1;
    }
    taken.take().into_iter().map(|taken| taken.subject).collect()
}

/// P1 and P3: everything promised arrived, and what was promised before another's MAIL was offered before it.
fn assert_kept(acknowledged: &[Promised], taken: &[String], seed: u64) {
    let by_subject: HashMap<&str, &Promised> =
        acknowledged.iter().map(|promised| (promised.subject.as_str(), promised)).collect();
    let arrived: HashSet<&str> = taken.iter().map(String::as_str).collect();
    for promised in acknowledged {
        let subject = &promised.subject;
        assert!(arrived.contains(subject.as_str()), "seed {seed}: {subject} was promised and is lost");
    }
    let mut latest_mail = 0;
    for promised in taken.iter().filter_map(|subject| by_subject.get(subject.as_str())) {
        let overtaken = promised.acknowledged_at < latest_mail;
        assert!(!overtaken, "seed {seed}: {} was overtaken by a later one", promised.subject);
        latest_mail = latest_mail.max(promised.mail_at);
    }
}

#[test]
fn p1_power_fails_at_the_very_instant_of_a_250() {
    let seeds = 100;
    for seed in 1..=seeds {
        let mut random = Random::new(seed);
        let world = Rc::<World>::default();
        let nth = usize::try_from(1 + random.below(6)).expect("small");
        let disk = SimDisk::new(seed, DISK_OCTETS);
        let after =
            live(&disk, &world, random.next(), 200_000, |world| world.acknowledged.borrow().len() >= nth);
        let acknowledged = world.acknowledged.take();
        assert_eq!(acknowledged.len(), nth, "seed {seed}: the story got as far as meant");
        let taken = drain(&after, random.next(), acknowledged.len());
        assert_kept(&acknowledged, &taken, seed);
    }
}

#[test]
fn lives_that_end_anywhere_keep_every_promise_in_order() {
    let mut promised = 0;
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let world = Rc::<World>::default();
        let mut disk = SimDisk::new(seed, DISK_OCTETS);
        for _ in 0..3 {
            let steps = 300 + random.below(4_000);
            disk = live(&disk, &world, random.next(), steps, |_| false);
        }
        let acknowledged = world.acknowledged.take();
        let taken = drain(&disk, random.next(), acknowledged.len());
        assert_kept(&acknowledged, &taken, seed);
        promised += acknowledged.len();
    }
    assert!(promised > 500, "a test in which little happens proves little: {promised}");
}

#[test]
fn h1_ceilings_are_raised_in_the_store_file_long_before_they_are_reached() {
    let (disk, clock) = (SimDisk::new(1, DISK_OCTETS), SimClock::default());
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let on_disk = |disk: &SimDisk| {
        StoreFile::decode(&disk.content("store").expect("it was opened")).expect("a slot is right")
    };
    let story = {
        let disk = disk.clone();
        async move {
            let shard = start(disk.clone(), clock.clone(), spawn, primary).await;
            let before = on_disk(&disk);
            let last = SegmentId(before.number_ceiling.0 - 1);
            assert_eq!(shard.frontier.number(last), Ok(last), "the last one below it");
            assert!(shard.frontier.number(before.number_ceiling).is_err());
            clock.sleep(2 * SWEEP_INTERVAL).await;
            let after = on_disk(&disk);
            assert!(after.number_ceiling > before.number_ceiling, "{after:?}");
            assert_eq!(after.stamp_ceiling, before.stamp_ceiling, "of stamps there are enough");
            assert!(shard.frontier.number(before.number_ceiling).is_ok());
            after
        }
    };
    let after = executor.run(u64::MAX, story).expect("the story ends");
    assert_eq!(on_disk(&disk.crash()), after, "durable before it is used");
}
