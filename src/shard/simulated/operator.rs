//! An operator at work while power fails: what he was told is done stays done, what he was not told may be either way, and
//! nothing is lost or comes twice for it.

use super::node::{self, Plan};
use super::primary::{Primary, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::bridge::operator::{
    Action, DomainStatus, Done, Filter, MessageState, Page, Request, Selection, Shards, channels,
};
use crate::shard::link::Spawn;
use crate::shard::operator;
use core::cell::RefCell;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::inspect::Directory;
use storage::sim::{Executor, Random, SimClock, SimDisk};

const DOMAIN: &str = "example.test";

/// What the operator and the senders know, by the number of the message: its subject.
#[derive(Default)]
struct Known {
    promised: BTreeSet<String>,
    /// Queue ids, by subject.
    ids: BTreeMap<String, String>,
    /// Told to be held, and not asked to be released since.
    held: BTreeSet<String>,
    /// Asked to be removed, and whether that was told to be done.
    removed: BTreeMap<String, bool>,
    next: u32,
}

struct World {
    known: RefCell<Known>,
}

/// A shard with its operator's task.
async fn start(
    disk: SimDisk,
    clock: SimClock,
    spawn: &SimSpawn,
    primary: &Primary,
) -> (Rc<SimShard>, Shards) {
    let shard = node::start(disk, clock, spawn, primary, Plan::one_shard()).await.remove(0);
    let (asking, mut asked) = channels(1);
    let requests = asked.pop().expect("one a shard");
    spawn.spawn(operator::run(Rc::clone(&shard), requests, primary.clone(), spawn.clone()));
    (shard, asking)
}

async fn act(shards: &Shards, action: Action, selection: Selection) -> Option<Done> {
    shards.ask(|answer| Request::Act(action, selection.clone(), answer)).await.ok()?.pop()
}

async fn list(shards: &Shards, filter: &Filter) -> Page {
    shards.ask(|answer| Request::List(filter.clone(), answer)).await.expect("it answers").remove(0)
}

async fn status(shards: &Shards) -> DomainStatus {
    let names: Vec<Arc<str>> = vec![DOMAIN.into()];
    let answer = shards.ask(|answer| Request::Domains(names.clone(), answer)).await;
    answer.expect("it answers").remove(0).remove(0)
}

/// A message for two recipients; its queue id.
async fn bring(shard: &Rc<SimShard>, spawn: &SimSpawn, world: &World) {
    let subject = {
        let mut known = world.known.borrow_mut();
        known.next += 1;
        known.next.to_string()
    };
    let mut ours = greeted(Rc::clone(shard), spawn).await;
    let envelope =
        "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\n";
    converse(&mut ours, envelope.as_bytes(), "354 ").await;
    let data = format!("Subject: {subject}\r\n\r\nbody\r\n.\r\n");
    if !converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok: queued as ").await {
        return;
    }
    let number = shard.numbers.get();
    let id = storage::position::QueueId::new(shard.incarnation, shard.directory, number).to_string();
    let mut known = world.known.borrow_mut();
    known.ids.insert(subject.clone(), id);
    known.promised.insert(subject);
}

/// Does something to one message after the other, until the life ends.
async fn operate(shard: Rc<SimShard>, shards: Shards, world: Rc<World>, spawn: SimSpawn, mut random: Random) {
    loop {
        if random.below(2) == 0 {
            bring(&shard, &spawn, &world).await;
            continue;
        }
        let all: Vec<(String, String)> = {
            let known = world.known.borrow();
            let ids = known.ids.iter().filter(|(subject, _)| !known.removed.contains_key(*subject));
            ids.map(|(subject, id)| (subject.clone(), id.clone())).collect()
        };
        if all.is_empty() {
            continue;
        }
        let (subject, id) = all[usize::try_from(random.below(all.len() as u64)).expect("few")].clone();
        let actions = [Action::Hold, Action::Hold, Action::Release, Action::Discard, Action::Delete];
        let action = actions[usize::try_from(random.below(5)).expect("few")];
        match action {
            Action::Release => drop(world.known.borrow_mut().held.remove(&subject)),
            Action::Discard | Action::Delete => {
                world.known.borrow_mut().removed.insert(subject.clone(), false);
            }
            Action::Bounce | Action::Hold => {}
        }
        let done = act(&shards, action, Selection::Id(id, None)).await;
        let is_done = done.is_some_and(|done| done.messages == 1);
        let mut known = world.known.borrow_mut();
        match action {
            Action::Hold if is_done => drop(known.held.insert(subject)),
            Action::Discard | Action::Delete => drop(known.removed.insert(subject, is_done)),
            _ => {}
        }
    }
}

/// A life with the primary down, cut off anywhere.
fn live(disk: &SimDisk, world: &Rc<World>, random: &mut Random) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(random.next(), clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let (disk_of_life, world, seed) = (disk.clone(), Rc::clone(world), random.next());
    spawn.clone().spawn(async move {
        let (shard, shards) = start(disk_of_life, clock, &spawn, &primary).await;
        spawn.spawn(operate(shard, shards, world, spawn.clone(), Random::new(seed)));
    });
    for _ in 0..2_000 + random.below(12_000) {
        executor.step();
    }
    drop(executor);
    disk.crash()
}

/// The last life: the primary is up. What is held stays until all of it is released; what was removed never comes.
fn settle(disk: &SimDisk, world: &World, random: &mut Random) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(random.next(), clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, true);
    let taken = Rc::clone(&primary.taken);
    let disk_of_life = disk.clone();
    let story = async move {
        let (_shard, shards) = start(disk_of_life, clock.clone(), &spawn, &primary).await;
        clock.sleep(Duration::from_secs(60)).await;
        let before: BTreeSet<String> =
            primary.taken.borrow().iter().map(|taken| taken.subject.clone()).collect();
        let filter =
            Filter { domain: Some(DOMAIN.into()), state: Some(MessageState::Held), ..Filter::default() };
        let done = act(&shards, Action::Release, Selection::All(filter)).await.expect("it answers");
        assert_eq!((done.busy, done.more), (0, None));
        clock.sleep(Duration::from_secs(60)).await;
        (before, done.messages, status(&shards).await)
    };
    let (before, released, status) = executor.run(20_000_000, story).expect("the story ends");
    let known = world.known.borrow();
    let early = known.held.iter().find(|subject| before.contains(*subject));
    assert_eq!(early, None, "told to be held, and handed over all the same");
    let mut seen = BTreeSet::new();
    for taken in taken.borrow().iter() {
        assert!(seen.insert(taken.subject.clone()), "{} came twice", taken.subject);
        assert_eq!(taken.recipients.len(), 2);
        assert_ne!(known.removed.get(&taken.subject), Some(&true), "{} was removed", taken.subject);
    }
    for subject in &known.promised {
        let is_gone = known.removed.contains_key(subject);
        assert!(is_gone || seen.contains(subject), "{subject} was promised and is lost");
    }
    assert!(
        released >= known.held.iter().filter(|subject| !known.removed.contains_key(*subject)).count() as u64
    );
    let ended = status.delivered + status.discarded + status.deleted;
    assert_eq!((status.backlog, status.held, status.accepted), (0, 0, ended));
    assert_eq!(status.delivered, 2 * seen.len() as u64);
    disk.crash()
}

fn assert_balanced(disk: &SimDisk) {
    let disk = disk.clone();
    let mut executor = Executor::new(1, SimClock::default());
    let walk = executor.run(10_000_000, async move { Directory::walk(disk, Arc::default()).await });
    let audit = walk.expect("a walk ends").expect("a disk that can be read").audit();
    assert!(audit.balances(), "{audit:#?}");
}

#[test]
fn what_an_operator_was_told_is_done_survives_every_crash() {
    let (mut promised, mut held, mut removed) = (0, 0, 0);
    for seed in 1..=16 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let world = Rc::new(World { known: RefCell::default() });
        let mut disk = SimDisk::new(seed, DISK_OCTETS);
        for _ in 0..3 {
            disk = live(&disk, &world, &mut random);
            assert_balanced(&disk);
        }
        let disk = settle(&disk, &world, &mut random);
        assert_balanced(&disk);
        let known = world.known.borrow();
        promised += known.promised.len();
        held += known.held.len();
        removed += known.removed.values().filter(|is_done| **is_done).count();
    }
    println!("{promised} promised, {held} held, {removed} removed");
    assert!(promised > 300 && held > 20 && removed > 100, "a test in which little happens proves little");
}

#[test]
fn counts_are_those_of_the_store_and_not_of_the_process() {
    let mut disk = SimDisk::new(1, DISK_OCTETS);
    let world = Rc::new(World { known: RefCell::default() });
    for life in 1..=3_u64 {
        let clock = SimClock::default();
        let mut executor = Executor::new(life, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, false);
        let (of_life, world_of_life) = (disk.clone(), Rc::clone(&world));
        let story = async move {
            let (shard, shards) = start(of_life, clock.clone(), &spawn, &primary).await;
            for _ in 0..4 {
                bring(&shard, &spawn, &world_of_life).await;
            }
            let page = list(&shards, &Filter { limit: 100, ..Filter::default() }).await;
            let ids: Vec<String> = page.messages.iter().filter_map(|message| message.id.clone()).collect();
            let last = ids.last().cloned().expect("four came");
            act(&shards, Action::Delete, Selection::Id(last, None)).await.expect("it answers");
            let hold = Selection::Id(ids[ids.len() - 2].clone(), None);
            act(&shards, Action::Hold, hold).await.expect("it answers");
            primary.up.set(true);
            shards.ask(|answer| Request::Flush(DOMAIN.into(), answer)).await.expect("it answers");
            clock.sleep(Duration::from_secs(30)).await;
            status(&shards).await
        };
        let status = executor.run(5_000_000, story).expect("the story ends");
        let counts = [status.accepted, status.delivered, status.deleted, status.held, status.backlog];
        assert_eq!(counts, [8 * life, 4 * life, 2 * life, 2 * life, 0], "life {life}");
        drop(executor);
        disk = disk.crash();
    }
}

#[test]
fn pages_have_no_hole_and_no_repeat_while_mail_comes() {
    let clock = SimClock::default();
    let mut executor = Executor::new(7, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let world = World { known: RefCell::default() };
    let disk = SimDisk::new(7, DISK_OCTETS);
    let story = async move {
        let (shard, shards) = start(disk, clock, &spawn, &primary).await;
        for _ in 0..30 {
            bring(&shard, &spawn, &world).await;
        }
        let mut filter = Filter { limit: 7, ..Filter::default() };
        let mut ids = Vec::new();
        loop {
            let page = list(&shards, &filter).await;
            assert!(page.messages.len() <= 7);
            ids.extend(page.messages.into_iter().map(|message| message.id.expect("readable")));
            let Some(until) = page.until else { break };
            filter.after = until;
            bring(&shard, &spawn, &world).await;
        }
        let known = world.known.borrow();
        let expected: BTreeSet<&String> = known.ids.values().collect();
        (ids.len(), known.ids.len(), ids.iter().collect::<BTreeSet<_>>() == expected)
    };
    let (listed, brought, is_all) = executor.run(5_000_000, story).expect("the story ends");
    assert_eq!((listed, is_all), (brought, true), "none twice, and none left out");
    assert!(listed > 33, "{listed} listed");
}
