//! Parallel connections under everything that goes wrong: random recipients, three messages in ten with many of them (H47), primaries
//! that put off, pace, close and die, and power failures. The primary writes down what it saw; a checker that knows nothing of
//! lanes reads that.
//!
//! What the checker wants, for each recipient: first MAILs on the wire and first arrivals in the order of acceptance (P3), but for
//! messages that the primary put off or that broke sessions; every unit arrives; repeats are as many as connections that broke and
//! crashes may leave unknown (P4).

use super::link::MemoryLink;
use super::manner::{Act, At, Manner, Turn};
use super::node::{self, Plan};
use super::primary::{Primary, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::limits::OUTSTANDING_MAX;
use crate::shard::link::Spawn;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, Random, SimClock, SimDisk};

/// What the primary saw.
#[derive(Clone, Default)]
struct Trace {
    /// Messages, by the order of their MAIL; of each only the first.
    offered: Vec<u32>,
    /// Messages that were put off by it.
    put_off: BTreeSet<u32>,
    /// Connections that it ended over a message, by whose sake or not.
    broken: u32,
    /// Message and recipients, in the order of arrival.
    taken: Vec<(u32, Vec<String>)>,
}

/// What was accepted: by number, from 1.
type Accepted = BTreeMap<u32, Vec<String>>;

/// What is wrong with a trace.
fn check(accepted: &Accepted, trace: &Trace, repeats_max: u32) -> Result<(), String> {
    let exempt = |number: &u32| trace.put_off.contains(number);
    let mut units = BTreeMap::<(u32, &str), u32>::new();
    let mut arrived = Vec::new();
    for (number, recipients) in &trace.taken {
        if !arrived.contains(number) {
            arrived.push(*number);
        }
        for recipient in recipients {
            *units.entry((*number, recipient)).or_default() += 1;
        }
    }
    for (what, order) in [("offered", &trace.offered), ("taken", &arrived)] {
        let mut last = BTreeMap::<&str, u32>::new();
        for number in order.iter().filter(|number| !exempt(number)) {
            for recipient in &accepted[number] {
                let before = last.insert(recipient, *number).unwrap_or(0);
                if before > *number {
                    return Err(format!("{before} was {what} before {number}, both to {recipient}"));
                }
            }
        }
    }
    for (number, recipients) in accepted {
        for recipient in recipients {
            if !units.contains_key(&(*number, recipient.as_str())) {
                return Err(format!("{number} to {recipient} is lost"));
            }
        }
    }
    let messages = trace.taken.iter().map(|(number, _)| number);
    let mut repeated = BTreeMap::<u32, u32>::new();
    for ((number, _), times) in &units {
        let most = repeated.entry(*number).or_default();
        *most = (*most).max(times - 1);
    }
    let repeats: u32 = repeated.values().sum();
    if repeats > repeats_max {
        return Err(format!("{repeats} of {} were repeats, at most {repeats_max} may be", messages.count()));
    }
    Ok(())
}

/// What goes wrong, each once in so many times, and until when.
#[derive(Clone, Copy)]
struct Faults {
    closing: u64,
    putting_off: u64,
    breaking: u64,
    until: Duration,
}

/// A primary with these faults, which writes down what it sees.
fn manner(seed: u64, faults: Faults, trace: &Rc<RefCell<Trace>>, thinks: Duration) -> Manner {
    let (random, trace) = (RefCell::new(Random::new(seed)), Rc::clone(trace));
    let once_in = move |times: u64| times > 0 && random.borrow_mut().one_in(times);
    let number =
        |turn: &Turn<'_>| -> Option<u32> { turn.sender.strip_prefix('m')?.split('@').next()?.parse().ok() };
    Rc::new(move |turn: &Turn<'_>| {
        let Some(number) = number(turn) else { return Act::Regular };
        let mut trace = trace.borrow_mut();
        if turn.at == At::Sender && !trace.offered.contains(&number) {
            trace.offered.push(number);
        }
        if turn.since > faults.until {
            return Act::Regular;
        }
        let mut broken = |act| {
            trace.broken += 1;
            act
        };
        match turn.at {
            At::Sender if once_in(faults.closing) => {
                return broken(Act::Reply("421 4.7.0 enough for this connection"));
            }
            At::Sender | At::DataEnd if once_in(faults.breaking) => return broken(Act::Close),
            At::DataEnd if once_in(faults.breaking) => return broken(Act::TakeAndClose),
            At::Sender if once_in(faults.putting_off) => {
                trace.put_off.insert(number);
                return Act::Reply("451 4.3.0 later");
            }
            At::Recipient if once_in(faults.putting_off) => {
                trace.put_off.insert(number);
                return Act::Reply("450 4.2.1 this mailbox, later");
            }
            At::DataEnd if once_in(faults.putting_off) => {
                trace.put_off.insert(number);
                return Act::Reply("432 4.3.2 too much at once");
            }
            _ => {}
        }
        if turn.at == At::DataEnd && !thinks.is_zero() { Act::Wait(thinks) } else { Act::Regular }
    })
}

/// Messages to one of so many recipients, three in ten to several.
fn workload(random: &mut Random, messages: u32, people: u64) -> Accepted {
    let one = |random: &mut Random| {
        let number = random.below(people);
        format!("p{number}")
    };
    let all = (1..=messages).map(|number| {
        let count = if random.below(10) < 3 { 2 + random.below(people) } else { 1 };
        let recipients: BTreeSet<String> = (0..count).map(|_| one(random)).collect();
        (number, recipients.into_iter().collect())
    });
    all.collect()
}

async fn bring(ours: &mut MemoryLink, number: u32, recipients: &[String], octets: usize) {
    let mut envelope = format!("MAIL FROM:<m{number}@example.org>\r\n");
    for recipient in recipients {
        write!(envelope, "RCPT TO:<{recipient}@example.test>\r\n").expect("a text takes it");
    }
    assert!(converse(ours, format!("{envelope}DATA\r\n").as_bytes(), "354 ").await);
    let body = "0123456789\r\n".repeat(octets / 12);
    let data = format!("Subject: {number}\r\n\r\n{body}.\r\n");
    assert!(converse(ours, data.as_bytes(), "250 2.0.0 Ok").await);
}

/// One story.
#[derive(Clone, Copy)]
struct Plot {
    seed: u64,
    connections: u32,
    chunking: bool,
    crashes: u32,
    faults: Faults,
    messages: u32,
    people: u64,
}

/// What is left of a life for the next one.
struct Told {
    trace: Rc<RefCell<Trace>>,
    accepted: Accepted,
    /// The most connections that were there at a time.
    most: usize,
    served: u32,
}

fn play(plot: Plot) -> Told {
    let mut random = Random::new(plot.seed);
    let accepted = workload(&mut random, plot.messages, plot.people);
    let trace = Rc::<RefCell<Trace>>::default();
    let mut disk = SimDisk::new(plot.seed, DISK_OCTETS);
    let thinks = Duration::from_millis(random.below(3) * 20);
    let manner = manner(plot.seed, plot.faults, &trace, thinks);
    let (mut most, mut served, mut since) = (0, 0, Duration::ZERO);
    for life in 0..=plot.crashes {
        let clock = SimClock::default();
        let mut executor = Executor::new(plot.seed + u64::from(life), clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, life > 0);
        if !plot.chunking {
            primary.withheld.replace(vec!["CHUNKING".to_owned()]);
        }
        primary.manner.replace(Some(Rc::clone(&manner)));
        primary.began.set((Duration::ZERO, since));
        let is_over = Rc::new(Cell::new(false));
        let slot = Rc::new(RefCell::new(None::<Rc<SimShard>>));
        begin(plot, life, &accepted, disk.clone(), (&clock, &spawn, &primary), &slot, &is_over);
        let enough = random.below(u64::from(plot.messages) / (u64::from(plot.crashes) + 1));
        let (mut steps, last) = (random.below(200), life == plot.crashes);
        while !is_over.get() {
            assert!(executor.step(), "seed {}: nothing happens any more", plot.seed);
            assert!(clock.now() < Duration::from_secs(200 * 3600), "seed {}: it ends", plot.seed);
            most = most.max(primary.live.get());
            if !last && primary.taken.borrow().len() as u64 > enough {
                if steps == 0 {
                    break;
                }
                steps -= 1;
            }
        }
        served += primary.served.get();
        since = primary.since();
        let taken = primary.taken.take();
        let number = |subject: &str| subject.parse().expect("only what was sent");
        let name = |mailbox: &String| mailbox.split('@').next().expect("a name").to_owned();
        let seen = taken
            .iter()
            .map(|taken| (number(&taken.subject), taken.recipients.iter().map(name).collect::<Vec<_>>()));
        trace.borrow_mut().taken.extend(seen);
        disk = disk.crash();
    }
    Told { trace, accepted, most, served }
}

fn begin(
    plot: Plot,
    life: u32,
    accepted: &Accepted,
    disk: SimDisk,
    (clock, spawn, primary): (&SimClock, &SimSpawn, &Primary),
    slot: &Rc<RefCell<Option<Rc<SimShard>>>>,
    is_over: &Rc<Cell<bool>>,
) {
    let mut plan = Plan::one_shard();
    plan.config.domains[0].retry_interval = Duration::from_secs(60);
    plan.config.domains[0].max_connections = plot.connections;
    let (clock, spawn, primary) = (clock.clone(), spawn.clone(), primary.clone());
    let (slot, is_over, accepted) = (Rc::clone(slot), Rc::clone(is_over), accepted.clone());
    spawn.clone().spawn(async move {
        let shard = node::start(disk, clock.clone(), &spawn, &primary, plan).await.remove(0);
        slot.replace(Some(Rc::clone(&shard)));
        if life == 0 {
            let mut random = Random::new(plot.seed ^ 77);
            let mut ours = greeted(Rc::clone(&shard), &spawn).await;
            for (number, recipients) in &accepted {
                let octets = if random.one_in(20) { 100_000 } else { 12 + random.below(9_000) };
                bring(&mut ours, *number, recipients, usize::try_from(octets).expect("small")).await;
            }
            primary.began.set((clock.now(), Duration::ZERO));
            primary.up.set(true);
        }
        loop {
            let lanes = shard.lanes.all();
            if lanes.iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get()) {
                break;
            }
            drop(lanes);
            clock.sleep(Duration::from_secs(1)).await;
        }
        is_over.set(true);
    });
}

fn plot(seed: u64) -> Plot {
    let mut random = Random::new(seed ^ 0xA11);
    Plot {
        seed,
        connections: 1 + u32::try_from(seed % 8).expect("small"),
        chunking: random.one_in(3),
        crashes: u32::try_from(random.below(3)).expect("small"),
        faults: Faults {
            closing: [0, 30, 60][usize::try_from(random.below(3)).expect("small")],
            putting_off: [0, 40, 80][usize::try_from(random.below(3)).expect("small")],
            breaking: [0, 40, 80][usize::try_from(random.below(3)).expect("small")],
            until: Duration::from_secs(20 * 60),
        },
        messages: 60,
        people: 3 + random.below(30),
    }
}

#[test]
fn p3_h47_no_recipient_sees_an_inversion_over_any_number_of_connections() {
    let (mut parallel, mut broken, mut put_off, mut repeats) = (0, 0, 0, 0);
    for seed in 1..=100 {
        let plot = plot(seed);
        let told = play(plot);
        let trace = told.trace.borrow();
        let repeats_max = OUTSTANDING_MAX * (plot.crashes + trace.broken);
        let checked = check(&told.accepted, &trace, repeats_max);
        assert_eq!(
            checked,
            Ok(()),
            "seed {seed}: {} connections, {} crashes",
            plot.connections,
            plot.crashes
        );
        // Each crash may leave those of before to be closed.
        assert!(told.most <= plot.connections as usize + 1, "seed {seed}: {} at a time", told.most);
        parallel += usize::from(told.most > 2);
        broken += trace.broken;
        put_off += trace.put_off.len();
        repeats += trace.taken.len() - told.accepted.len().min(trace.taken.len());
    }
    assert!(
        parallel > 41 && broken > 100 && put_off > 100 && repeats > 16,
        "{parallel} {broken} {put_off} {repeats}"
    );
}

/// The checker sees what it is for: each of these traces is a right one with one thing changed.
#[test]
fn the_checker_sees_an_inversion_a_loss_and_a_repeat() {
    let told = play(Plot {
        crashes: 0,
        faults: Faults { closing: 0, putting_off: 0, breaking: 0, until: Duration::ZERO },
        connections: 5,
        people: 3,
        ..plot(5)
    });
    let (trace, accepted) = (told.trace.borrow(), &told.accepted);
    assert_eq!(check(accepted, &trace, 0), Ok(()));
    // Of two to the same person who is second in the first one's list.
    let (first, second) = (1..59)
        .find_map(|at| {
            let mine = accepted[&at].get(1)?;
            (at + 1..60).find(|later| accepted[later].first() == Some(mine)).map(|later| (at, later))
        })
        .expect("three people share much");
    let mut swapped = trace.clone();
    let place = |number| swapped.offered.iter().position(|other| *other == number).expect("it was offered");
    let places = (place(first), place(second));
    swapped.offered.swap(places.0, places.1);
    assert!(check(accepted, &swapped, 0).is_err_and(|what| what.contains("offered")));
    let mut late = trace.clone();
    let at = late.taken.iter().position(|(number, _)| *number == first).expect("it came");
    let moved = late.taken.remove(at);
    late.taken.push(moved.clone());
    assert!(check(accepted, &late, 0).is_err_and(|what| what.contains("taken")));
    let mut lost = trace.clone();
    lost.taken[at].1.pop();
    assert!(check(accepted, &lost, 0).is_err_and(|what| what.contains("lost")));
    let mut twice = trace.clone();
    twice.taken.push(moved);
    assert!(check(accepted, &twice, 0).is_err_and(|what| what.contains("repeats")));
    assert_eq!(check(accepted, &twice, 1), Ok(()));
    assert!(told.served > 1 && told.most > 1, "{} {}", told.served, told.most);
}

/// A primary that dies under all connections at once, three times: whoever was on one of them was alone there, and nobody is
/// to blame (H44). One that stepped aside would come five minutes later.
#[test]
fn h44_a_primary_that_dies_under_several_connections_makes_nobody_step_aside() {
    for chunking in [true, false] {
        let (clock, disk) = (SimClock::default(), SimDisk::new(3, DISK_OCTETS));
        let mut executor = Executor::new(3, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, false);
        if !chunking {
            primary.withheld.replace(vec!["CHUNKING".to_owned()]);
        }
        let (live, deaths, dying) = (Rc::clone(&primary.live), Rc::new(Cell::new(0)), Cell::new(false));
        let died = Rc::clone(&deaths);
        primary.manner.replace(Some(Rc::new(move |turn: &Turn<'_>| {
            match turn.at {
                At::Greeting if live.get() == 1 => dying.set(false),
                At::DataEnd if live.get() >= 2 && died.get() < 3 && !dying.replace(true) => {
                    died.set(died.get() + 1)
                }
                _ => {}
            }
            match turn.at {
                At::Greeting | At::Hello if dying.get() => Act::Close,
                At::DataEnd if dying.get() => Act::Close,
                At::DataEnd => Act::Wait(Duration::from_millis(400)),
                _ => Act::Regular,
            }
        })));
        let told = primary.clone();
        let story = async move {
            let mut plan = Plan::one_shard();
            plan.config.domains[0].retry_interval = Duration::from_secs(300);
            let shard = node::start(disk, clock.clone(), &spawn, &told, plan).await.remove(0);
            let mut ours = greeted(Rc::clone(&shard), &spawn).await;
            for number in 1..=300 {
                bring(&mut ours, number, &[format!("p{number}")], 100).await;
            }
            told.up.set(true);
            let began = clock.now();
            while told.taken.borrow().len() < 300 {
                clock.sleep(Duration::from_secs(1)).await;
            }
            clock.now() - began
        };
        let took = executor.run(50_000_000, story).expect("the drain ends");
        assert!(deaths.get() == 3 && took < Duration::from_secs(280), "{} deaths, {took:?}", deaths.get());
    }
}
