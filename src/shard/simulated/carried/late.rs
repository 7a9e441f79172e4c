//! A primary whose reply to the end of data is late, or never comes, while its sender waits (H21): one row for each thing that it may say in the
//! end. In every row the sender has our 250, the message is listed as one that may repeat for as long as that is so, and behind a power failure
//! the next start lists it, too.

use super::super::manner::{Act, At, Manner};
use super::super::node::{self, Plan};
use super::super::primary::{Xclient, primary_of};
use super::super::{DISK_OCTETS, SimShard, SimSpawn};
use super::{SECOND, Story, play, send};
use crate::bridge::operator::{Filter, Message};
use crate::config::WhenUp;
use crate::limits::{OUTSTANDING_MAX, PROXY_END_TIMEOUT, UPSTREAM_OUTCOME_TIMEOUT};
use crate::shard::link::Spawn;
use crate::shard::operator;
use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

/// See the module.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    /// So long the primary thinks, and then it does that.
    thinks: Duration,
    act: Act,
    /// The same when it is offered again; the reply is the message's own then.
    then: Act,
    /// How often it says something to the end of the data, and how often it has the message.
    asked: u32,
    arrivals: usize,
    /// Messages that may repeat while it is offered again.
    doubtful: usize,
    held: usize,
}

const LATE: Duration = PROXY_END_TIMEOUT.saturating_add(Duration::from_secs(30));
const REFUSED: Act = Act::Reply("554 5.7.1 not this");
const PUT_OFF: Act = Act::Reply("451 4.3.0 later");
const REGULAR: Row = Row {
    name: "250",
    thinks: LATE,
    act: Act::Regular,
    then: Act::Regular,
    asked: 1,
    arrivals: 1,
    doubtful: 0,
    held: 0,
};
const ROWS: [Row; 8] = [
    REGULAR,
    // A refusal is said again, and weighed as any: here it is held. What it refused it has not.
    Row { name: "5xx", act: REFUSED, then: REFUSED, asked: 2, arrivals: 0, held: 2, ..REGULAR },
    Row { name: "5xx, and then it takes it", act: REFUSED, asked: 2, ..REGULAR },
    Row { name: "4xx", act: PUT_OFF, asked: 2, ..REGULAR },
    Row { name: "closes", act: Act::Close, asked: 2, doubtful: 1, ..REGULAR },
    Row { name: "has it and closes", act: Act::TakeAndClose, asked: 2, arrivals: 2, doubtful: 1, ..REGULAR },
    Row {
        name: "has it and says nothing",
        act: Act::TakeAndHang,
        asked: 2,
        arrivals: 2,
        doubtful: 1,
        ..REGULAR
    },
    // The connection ends at once: nobody waits for an answer.
    Row {
        name: "has it and closes at once",
        thinks: Duration::ZERO,
        act: Act::TakeAndClose,
        asked: 2,
        arrivals: 2,
        doubtful: 1,
        ..REGULAR
    },
];

async fn flagged(shard: &Rc<SimShard>) -> Vec<Message> {
    let page = operator::view::list(shard, &Filter { limit: 100, ..Filter::default() }).await;
    page.messages.into_iter().filter(|message| message.may_repeat).collect()
}

fn doubtful(shard: &SimShard) -> usize {
    shard.lanes.made("example.test").offers.borrow().doubtful()
}

fn outstanding(shard: &SimShard) -> u64 {
    shard.snapshot.borrow().usage_of("example.test").passage.outstanding()
}

/// What the primary does with message 1; counts how often it was asked, and how much was in doubt when it was again.
fn behaves(story: &Story, row: Row) -> Rc<Cell<(u32, usize)>> {
    let seen = Rc::<Cell<(u32, usize)>>::default();
    let (told, shard) = (Rc::clone(&seen), Rc::clone(&story.shard));
    let manner: Manner = Rc::new(move |turn| {
        if turn.at != At::DataEnd || turn.subject != "1" {
            return Act::Regular;
        }
        let asked = told.get().0 + 1;
        told.set((asked, doubtful(&shard)));
        if asked == 1 { row.act } else { row.then }
    });
    story.primary.manner.replace(Some(manner));
    story.primary.thinks.set(row.thinks);
    seen
}

#[test]
fn h21_whatever_comes_late_is_told_apart_and_settles_or_repeats() {
    for row in ROWS {
        play(async move |story| {
            let name = row.name;
            story.warm().await;
            let mut link = story.session().await;
            let seen = behaves(&story, row);
            let reply = send(&mut link, &["b@example.test", "c@example.test"], "1", 3).await;
            assert!(reply.contains("queued as") && !reply.contains("taken"), "{name}: {reply}");
            if row.thinks > Duration::ZERO {
                assert_eq!(seen.get(), (0, 0), "{name}: it is thinking");
                assert_eq!((flagged(&story.shard).await.len(), doubtful(&story.shard)), (1, 1), "{name}");
                assert_eq!(outstanding(&story.shard), 1, "{name}");
            }
            story.primary.thinks.set(Duration::ZERO);
            // Somebody who knows that the primary is back does not know better than the primary.
            story.shard.lanes.flush("example.test");
            let held = |story: &Story| {
                story.shard.lanes.all().iter().map(|lane| lane.queue.borrow().held().len()).sum::<usize>()
            };
            story
                .until(|story| {
                    let lane = story.shard.lanes.made("example.test");
                    let is_over = lane.queue.borrow().len() == 0 && lane.settlements.outstanding() == 0;
                    is_over && seen.get().0 == row.asked
                })
                .await;
            story.clock.sleep(2 * UPSTREAM_OUTCOME_TIMEOUT).await;
            let arrivals = story.subjects().iter().filter(|subject| *subject == "1").count();
            assert_eq!((seen.get().0, arrivals, held(&story)), (row.asked, row.arrivals, row.held), "{name}");
            if row.asked > 1 {
                assert_eq!(seen.get().1, row.doubtful, "{name}: what may repeat when it is offered again");
            }
            let delivered = if row.held > 0 { 0 } else { 2 };
            assert_eq!(story.shard.counters.delivered.value(), 1 + delivered, "{name}: each unit once");
            assert_eq!(
                (doubtful(&story.shard), outstanding(&story.shard)),
                (0, 0),
                "{name}: nothing is left"
            );
        });
    }
}

/// P4: our 250 comes when the journal knows that the primary may have it, whenever the power fails behind that.
#[test]
fn h21_behind_a_power_failure_the_start_knows_what_the_primary_may_have() {
    for row in ROWS {
        for seed in 1..=6 {
            let (disk, clock) = (SimDisk::new(seed, DISK_OCTETS), SimClock::default());
            let mut executor = Executor::new(seed, clock.clone());
            let spawn = SimSpawn(executor.spawner());
            let primary = primary_of(&clock, &spawn, true);
            primary.xclient.set(Xclient::Always);
            let (on_disk, told) = (disk.clone(), primary.clone());
            let first = async move {
                let mut plan = Plan::one_shard();
                plan.config.domains[0].when_up = WhenUp::Proxy;
                let shard = node::start(on_disk, clock.clone(), &spawn, &told, plan).await.remove(0);
                let story = Story { shard, spawn, clock, primary: told };
                story.warm().await;
                story.clock.sleep(SECOND).await;
                let mut link = story.session().await;
                behaves(&story, row);
                assert!(send(&mut link, &["b@example.test"], "1", 3).await.contains("queued as"));
            };
            assert!(executor.run(4_000_000, first).is_some(), "{}: seed {seed}", row.name);
            drop(executor);
            let disk = disk.crash();
            let clock = SimClock::default();
            let mut executor = Executor::new(seed, clock.clone());
            let spawn = SimSpawn(executor.spawner());
            let primary = primary_of(&clock, &spawn, false);
            let second = async move {
                let shard =
                    node::start(disk, clock.clone(), &spawn, &primary, Plan::one_shard()).await.remove(0);
                let listed = flagged(&shard).await;
                assert_eq!((listed.len(), doubtful(&shard)), (1, 1), "{}: seed {seed}", row.name);
                primary.up.set(true);
                let story = Story { shard, spawn, clock, primary };
                story.drained().await;
                assert_eq!((story.subjects(), doubtful(&story.shard)), (vec!["1".to_owned()], 0));
            };
            assert!(executor.run(4_000_000, second).is_some(), "{}: seed {seed}", row.name);
        }
    }
}

/// P4: twenty senders wait for a primary that never answers. Sixteen reach the end of their data; the others are ours, and while the primary owes sixteen
/// answers the lane hands nothing over beside them.
#[test]
fn p4_who_waits_for_a_late_answer_counts_with_what_the_lane_hands_over() {
    play(async |story| {
        story.warm().await;
        let hung = Rc::<Cell<u32>>::default();
        let (count, clock, began) = (Rc::clone(&hung), story.clock.clone(), story.clock.now());
        story.behaves(move |at| {
            let hangs = at == At::DataEnd && clock.now() - began < UPSTREAM_OUTCOME_TIMEOUT;
            count.set(count.get() + u32::from(hangs));
            if hangs { Act::TakeAndHang } else { Act::Regular }
        });
        let answered = Rc::<Cell<u32>>::default();
        for number in 1..=OUTSTANDING_MAX + 4 {
            let (mut link, answered) = (story.session().await, Rc::clone(&answered));
            story.spawn.spawn(async move {
                let reply = send(&mut link, &["b@example.test"], &number.to_string(), 1).await;
                assert!(reply.contains("queued as"), "{number}: {reply}");
                answered.set(answered.get() + 1);
            });
        }
        story.until(|_| answered.get() == OUTSTANDING_MAX + 4).await;
        for _ in 0..100 {
            assert!(outstanding(&story.shard) <= OUTSTANDING_MAX.into(), "{}", outstanding(&story.shard));
            assert!(hung.get() <= OUTSTANDING_MAX, "{} have their end, and no answer", hung.get());
            story.clock.sleep(5 * SECOND).await;
        }
        assert_eq!(hung.get(), OUTSTANDING_MAX, "a test in which nobody hangs proves nothing");
        story.drained().await;
        let subjects = story.subjects();
        let count = |number: u32| subjects.iter().filter(|subject| **subject == number.to_string()).count();
        let counts: Vec<usize> = (1..=OUTSTANDING_MAX + 4).map(count).collect();
        assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 2 * OUTSTANDING_MAX as usize + 4, "{counts:?}");
        assert_eq!((doubtful(&story.shard), outstanding(&story.shard)), (0, 0));
    });
}
