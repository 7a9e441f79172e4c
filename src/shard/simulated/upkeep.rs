//! What a node does beside its mail, in the product's own code: rewrites of sparse segments, live checkpoints, unlinks and
//! other numbers of shards, over small files, while primaries come and go and power fails anywhere.
//!
//! World, workload, faults and checker are apart: [`World`] is what senders saw, [`send`] and [`weather`] make things
//! happen, [`live`] cuts, [`check`] judges.

use super::node::{self, Plan};
use super::primary::{Primary, Taken, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::config::Config;
use crate::limits::OUTSTANDING_MAX;
use crate::shard::link::Spawn;
use crate::smtp::reply::UNVERIFIED_RECIPIENT_450;
use crate::smtp::server::RecipientVerdict;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::format::segment_header::{Purpose, SegmentHeader};
use storage::inspect::Directory;
use storage::sim::{Executor, Random, SimClock, SimDisk};

const DOMAINS: [&str; 4] = ["example.test", "one.test", "two.test", "three.test"];
const NAMES: [&str; 4] = ["a", "b", "later", "much-later"];
const SENDERS: usize = 3;
const LIVES: u64 = 4;
const UNFAIR_ONE_IN: u64 = 100;
/// By then what a primary took is journalled, in a machine whose disk answers at once.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// A message that was answered by 250.
struct Promised {
    recipients: Vec<String>,
    mail_at: u64,
    acknowledged_at: u64,
}

/// What the world outside saw.
#[derive(Default)]
struct World {
    acknowledged: RefCell<BTreeMap<String, Promised>>,
    next: Cell<u32>,
    instant: Cell<u64>,
}

/// What happened beside mail: a test in which little does proves little.
#[derive(Default, Debug)]
struct Done {
    rewrites: usize,
    journals_gone: u32,
    segments_gone: usize,
    messages: usize,
    repeats: usize,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.rewrites += other.rewrites;
        self.journals_gone += other.journals_gone;
        self.segments_gone += other.segments_gone;
        self.messages += other.messages;
        self.repeats += other.repeats;
    }
}

impl Taken {
    fn units(&self) -> impl Iterator<Item = Unit> {
        self.recipients.iter().map(|recipient| (self.subject.clone(), recipient.clone()))
    }
}

impl World {
    fn tick(&self) -> u64 {
        self.instant.set(self.instant.get() + 1);
        self.instant.get()
    }
}

/// Four domains over small files; `large` mail comes in chunk records, and needs larger ones.
fn plan(shards: u16, large: bool) -> Plan {
    let mut config = Config::embedded();
    config.storage.min_free_space_bytes = 0;
    config.domains[0].retry_interval = Duration::from_secs(1);
    for name in &DOMAINS[1..] {
        let mut domain = config.domains[0].clone();
        domain.name = (*name).to_owned();
        // Copies are kept of some of what lies beside each other.
        domain.safety_net = Duration::from_secs(if *name == "two.test" { 20 } else { 0 });
        config.domains.push(domain);
    }
    let segment_octets = if large { 768 << 10 } else { 96 << 10 };
    Plan { shards, segment_octets, journal_octets: 32 << 10, config, ..Plan::one_shard() }
}

/// A sender that brings messages one after the other, with pauses, until the life ends.
async fn send(shard: Rc<SimShard>, world: Rc<World>, spawn: SimSpawn, mut random: Random, large: bool) {
    let clock = shard.clock.clone();
    let mut ours = greeted(shard, &spawn).await;
    loop {
        clock.sleep(Duration::from_millis(random.below(1_500))).await;
        let subject = world.next.replace(world.next.get() + 1).to_string();
        let recipients = recipients(&mut random);
        let mail_at = world.tick();
        if !converse(&mut ours, b"MAIL FROM:<a@example.org>\r\n", "250 2.1.0").await {
            return;
        }
        for recipient in &recipients {
            converse(&mut ours, format!("RCPT TO:<{recipient}>\r\n").as_bytes(), "250 2.1.5").await;
        }
        converse(&mut ours, b"DATA\r\n", "354 ").await;
        let lines = if large && random.below(40) == 0 { 9_000 } else { random.below(200) };
        let filler = "x".repeat(60) + "\r\n";
        let body = filler.repeat(usize::try_from(lines).expect("few"));
        let data = format!("Subject: {subject}\r\n\r\n..dots\r\n{body}.\r\n");
        if !converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok: queued as ").await {
            return;
        }
        let acknowledged_at = world.tick();
        world.acknowledged.borrow_mut().insert(subject, Promised { recipients, mail_at, acknowledged_at });
    }
}

/// One to three mailboxes, of one domain or of several.
fn recipients(random: &mut Random) -> Vec<String> {
    let mut pick = |words: &[&'static str; 4]| words[usize::try_from(random.below(4)).expect("few")];
    let (first, second, third) = (pick(&NAMES), pick(&NAMES), pick(&NAMES));
    let (one, other) = (pick(&DOMAINS), pick(&DOMAINS));
    let mut recipients =
        vec![format!("{first}@{one}"), format!("{second}@{one}"), format!("{third}@{other}")];
    recipients.truncate(1 + usize::try_from(random.below(3)).expect("few"));
    let mut seen = HashSet::new();
    recipients.retain(|recipient| seen.insert(recipient.clone()));
    recipients
}

fn defers_some(name: &str) -> RecipientVerdict<'static> {
    match name {
        "later" | "much-later" => RecipientVerdict::Refuse(UNVERIFIED_RECIPIENT_450),
        _ => RecipientVerdict::Accept,
    }
}

/// The primary is up for a while and down for a while, and mostly defers some.
async fn weather(primary: Primary, mut random: Random) {
    loop {
        primary.up.set(random.below(4) > 0);
        primary.judges.set(if random.below(8) > 0 { defers_some } else { |_| RecipientVerdict::Accept });
        primary.thinks.set(Duration::from_millis(random.below(3) * random.below(400)));
        primary.clock.sleep(Duration::from_secs(5 + random.below(60))).await;
    }
}

/// A message and one of its recipients.
type Unit = (String, String);

/// What the primary took, over all lives.
#[derive(Default)]
struct Record {
    taken: Vec<Taken>,
    /// Taken so long before its life ended that it was settled: offered again by nobody.
    settled: HashSet<Unit>,
    done: Done,
}

impl Record {
    /// Adds what was taken in a life that ended at `end`.
    fn add(&mut self, taken: Vec<Taken>, end: Duration) {
        for message in &taken {
            let again = message.units().find(|unit| self.settled.contains(unit));
            assert_eq!(again, None, "settled before a crash, and taken again behind it");
        }
        let settled = taken.iter().filter(|message| message.at + SETTLED_AFTER < end);
        self.settled.extend(settled.flat_map(Taken::units));
        self.taken.extend(taken);
    }
}

/// One life of up to eight minutes, cut off by a power failure; the disk behind it.
fn live(disk: &SimDisk, world: &Rc<World>, random: &mut Random, plan: Plan, record: &mut Record) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::unfair(random.next(), clock.clone(), UNFAIR_ONE_IN);
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    spawn.spawn(weather(primary.clone(), Random::new(random.next())));
    let running = Rc::<RefCell<Vec<Rc<SimShard>>>>::default();
    let large = plan.segment_octets > 256 << 10;
    let seeds: Vec<u64> = (0..SENDERS).map(|_| random.next()).collect();
    let (started, world, taken) = (Rc::clone(&running), Rc::clone(world), Rc::clone(&primary.taken));
    let (disk_of_life, clock_of_life) = (disk.clone(), clock.clone());
    spawn.clone().spawn(async move {
        let shards = node::start(disk_of_life, clock_of_life, &spawn, &primary, plan).await;
        for (number, seed) in seeds.into_iter().enumerate() {
            let shard = Rc::clone(&shards[number % shards.len()]);
            spawn.spawn(send(shard, Rc::clone(&world), spawn.clone(), Random::new(seed), large));
        }
        *started.borrow_mut() = shards;
    });
    while running.borrow().is_empty() {
        assert!(executor.step(), "a start ends");
    }
    let oldest = |shard: &Rc<SimShard>| shard.checkpoints.oldest.get().0;
    let gone = || running.borrow().iter().map(oldest).sum::<u32>();
    let (journals, before) = (gone(), segments(disk));
    let end = clock.now() + Duration::from_secs(20 + random.below(460));
    while clock.now() < end && executor.step() {}
    // Every second life ends soon after a checkpoint: what it forgot shows.
    let (checkpoint, late) = (random.below(2) == 0, clock.now() + Duration::from_secs(60));
    let seen = gone();
    while checkpoint && gone() == seen && clock.now() < late && executor.step() {}
    for _ in 0..random.below(400) {
        executor.step();
    }
    let after = segments(disk);
    let done = &mut record.done;
    done.journals_gone += gone() - journals;
    done.segments_gone += before.keys().filter(|path| !after.contains_key(*path)).count();
    done.rewrites += after.iter().filter(|(path, copy)| **copy && !before.contains_key(*path)).count();
    running.take();
    drop(executor);
    record.add(taken.take(), clock.now());
    disk.crash()
}

/// The segments of mail on a disk, and which of them are copies.
fn segments(disk: &SimDisk) -> BTreeMap<String, bool> {
    let mut segments = BTreeMap::new();
    for path in disk.paths() {
        let header = disk.content(&path).and_then(|octets| SegmentHeader::decode(&octets).ok());
        if let Some(header) = header.filter(|header| header.purpose == Purpose::Mail) {
            segments.insert(path, !header.sources.is_empty());
        }
    }
    segments
}

/// The last life: the primary is up and takes everybody, until it has all that was promised.
fn drain(disk: &SimDisk, world: &World, record: &mut Record, random: &mut Random, plan: Plan) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(random.next(), clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, true);
    let (disk_of_life, clock_of_life, own) = (disk.clone(), clock.clone(), primary.clone());
    spawn.clone().spawn(async move {
        node::start(disk_of_life, clock_of_life, &spawn, &own, plan).await;
    });
    let mut wanted: HashSet<Unit> = HashSet::new();
    for (subject, promised) in world.acknowledged.borrow().iter() {
        wanted.extend(promised.recipients.iter().map(|recipient| (subject.clone(), recipient.clone())));
    }
    wanted.retain({
        let taken: HashSet<Unit> = record.taken.iter().flat_map(Taken::units).collect();
        move |unit| !taken.contains(unit)
    });
    let mut struck = 0;
    // Bounded: a message that is lost never comes.
    while !wanted.is_empty() && clock.now() < Duration::from_secs(6 * 3_600) && executor.step() {
        let taken = primary.taken.borrow();
        for unit in taken[struck..].iter().flat_map(Taken::units) {
            wanted.remove(&unit);
        }
        struck = taken.len();
    }
    assert!(wanted.is_empty(), "promised and lost: {wanted:?}");
    let end = clock.now() + Duration::from_secs(150);
    while clock.now() < end && executor.step() {}
    drop(executor);
    record.add(primary.taken.take(), clock.now());
    disk.crash()
}

/// P3 and P4 over all that primaries took, in the order in which they took it.
fn check(world: &World, record: &mut Record) {
    let acknowledged = world.acknowledged.borrow();
    let mut first: HashSet<Unit> = HashSet::new();
    let mut latest_mail: HashMap<String, u64> = HashMap::new();
    let mut repeated: HashMap<String, HashSet<String>> = HashMap::new();
    for (subject, recipient) in record.taken.iter().flat_map(Taken::units) {
        let (_, domain) = recipient.split_once('@').expect("a mailbox");
        if !first.insert((subject.clone(), recipient.clone())) {
            repeated.entry(domain.to_owned()).or_default().insert(subject);
            continue;
        }
        // What the primary put off steps aside.
        let Some(promised) = acknowledged.get(&subject).filter(|_| !recipient.contains("later")) else {
            continue;
        };
        let latest = latest_mail.entry(recipient).or_default();
        assert!(promised.acknowledged_at >= *latest, "{subject} was overtaken");
        *latest = (*latest).max(promised.mail_at);
    }
    record.done.messages = acknowledged.len();
    for (domain, subjects) in repeated {
        let bound = usize::try_from(LIVES * u64::from(OUTSTANDING_MAX)).expect("few");
        assert!(subjects.len() <= bound, "{domain} was given {} messages again", subjects.len());
        record.done.repeats += subjects.len();
    }
}

/// P2: the ledger balances, recounted from the disk, and all that was accepted was handed over.
fn audit(disk: &SimDisk, random: &mut Random) {
    let mut executor = Executor::new(random.next(), SimClock::default());
    let disk = disk.clone();
    let walk = executor.run(10_000_000, async move { Directory::walk(disk, Arc::default()).await });
    let directory = walk.expect("a walk ends").expect("a disk that can be read");
    let mut damage = directory.verify();
    // An open segment behind a power failure, and an index, which is derived, that was being written.
    damage.retain(|problem| {
        !problem.what.ends_with("a crash may have torn it") && !problem.path.ends_with(".index")
    });
    assert_eq!(damage, []);
    let audit = directory.audit();
    assert!(audit.balances(), "{audit:#?}");
}

/// A whole story; what was done beside mail.
fn story(seed: u64) -> Done {
    let mut random = Random::new(seed);
    let world = Rc::<World>::default();
    let large = random.below(3) == 0;
    let mut disk = SimDisk::new(seed, DISK_OCTETS);
    let mut record = Record::default();
    for _ in 0..LIVES {
        let shards = 1 + u16::try_from(random.below(3)).expect("few");
        disk = live(&disk, &world, &mut random, plan(shards, large), &mut record);
        audit(&disk, &mut random);
    }
    let disk = drain(&disk, &world, &mut record, &mut random, plan(2, large));
    check(&world, &mut record);
    audit(&disk, &mut random);
    record.done
}

#[test]
fn rewrites_and_checkpoints_beside_mail_lose_nothing_and_change_no_order() {
    let mut done = Done::default();
    for seed in 1..=10 {
        println!("seed {seed}");
        done.add(&story(seed));
    }
    println!("{done:?}");
    assert!(
        done.messages > 5_000 && done.rewrites > 20 && done.journals_gone > 100 && done.segments_gone > 50
    );
}

/// Windows that are too narrow for seeds: nobody restates before all have told what their older journals say.
#[test]
fn a_checkpoint_waits_for_whoever_is_telling() {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let disk = SimDisk::new(1, DISK_OCTETS);
    let begin = async move { node::start(disk, clock, &spawn, &primary, plan(2, false)).await };
    let shards = executor.run(100_000, begin).expect("a start ends");
    let parts_done = || shards.iter().filter(|shard| shard.checkpoints.up_to.get().is_some()).count();
    for teller in [0, 1] {
        shards.iter().for_each(|shard| shard.checkpoints.up_to.set(None));
        let telling = shards[teller].telling.guard();
        shards[0].checkpoints.want();
        for _ in 0..20_000 {
            executor.step();
        }
        assert_eq!(parts_done(), 0, "shard {teller} has not told all that it knows");
        drop(telling);
        for _ in 0..20_000 {
            executor.step();
        }
        assert_eq!(parts_done(), 2);
    }
}
