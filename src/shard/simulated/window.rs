//! Windows of messages in flight on one connection, over primaries that break at every point, do not swallow chunks, put off and refuse: nothing is
//! lost, the order holds, repeats stay bounded, and no body is read as commands.

use super::link::MemoryLink;
use super::node::{self, Plan};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::limits::OUTSTANDING_MAX;
use crate::shard::link::Spawn;
use crate::shard::simulated::primary::{Primary, Script, primary_of};
use core::cell::Cell;
use core::time::Duration;
use std::collections::HashMap;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, Random, SimClock, SimDisk};

/// Messages with increasing numbers as subjects, taken while the primary is down; every third is dotted, some have two recipients.
pub(super) async fn fill(shard: &Rc<SimShard>, spawn: &SimSpawn, messages: u32) {
    let mut ours = greeted(Rc::clone(shard), spawn).await;
    for number in 1..=messages {
        bring(&mut ours, number).await;
    }
}

pub(super) async fn bring(ours: &mut MemoryLink, number: u32) {
    let second = if number.is_multiple_of(5) { "RCPT TO:<second@example.test>\r\n" } else { "" };
    let envelope =
        format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<r{number}@example.test>\r\n{second}DATA\r\n");
    assert!(converse(ours, envelope.as_bytes(), "354 ").await);
    let data = format!("Subject: {number}\r\n\r\n{}\r\n.\r\n", body(number).replace("\n.", "\n.."));
    assert!(converse(ours, data.as_bytes(), "250 2.0.0 Ok").await);
}

/// What a server that reads a body as commands would do harm with.
pub(super) fn body(number: u32) -> String {
    let dots = if number.is_multiple_of(3) { "\r\n.dots\r\n..\r\n." } else { "" };
    format!("RSET\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.test>\r\nNOOP\r\n{number}{dots}")
}

/// Drains so many messages to the primary, whose script may end connections; it is mended after a while.
struct Story {
    primary: Primary,
    shard_hosts_trusted: bool,
}

fn story(seed: u64, messages: u32, prepare: impl FnOnce(&Primary, &SimClock)) -> Story {
    let (disk, clock) = (SimDisk::new(seed, DISK_OCTETS), SimClock::default());
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    prepare(&primary, &clock);
    let trusted = Rc::new(Cell::new(true));
    let told = {
        let (primary, trusted) = (primary.clone(), Rc::clone(&trusted));
        async move {
            let mut plan = Plan::one_connection();
            // So that what steps aside comes back behind the rest.
            plan.config.domains[0].retry_interval = Duration::from_secs(300);
            let shard = node::start(disk, clock.clone(), &spawn, &primary, plan).await.remove(0);
            fill(&shard, &spawn, messages).await;
            primary.up.set(true);
            for _ in 0..40_000 {
                clock.sleep(Duration::from_secs(5)).await;
                if shard.lanes.all().iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get())
                {
                    break;
                }
            }
            let host = "127.0.0.1:2526".parse().unwrap();
            trusted.set(shard.hosts.may_have_chunks(host, clock.now()));
        }
    };
    assert!(executor.run(2_000_000, told).is_some(), "seed {seed}: the drain ends");
    Story { primary, shard_hosts_trusted: trusted.get() }
}

impl Story {
    /// How often each message came, in the order of its first arrival.
    fn arrivals(&self) -> (Vec<u32>, HashMap<u32, u32>) {
        let (mut order, mut counts) = (Vec::new(), HashMap::new());
        for taken in self.primary.taken.borrow().iter() {
            let number: u32 = taken.subject.parse().expect("only what was sent");
            assert!(taken.recipients.iter().all(|recipient| !recipient.starts_with("victim")));
            assert!(
                taken.body.ends_with(&format!("\r\n\r\n{}\r\n", body(number))),
                "{number}: {:?}",
                taken.body
            );
            if *counts.entry(number).and_modify(|count| *count += 1).or_insert(1) == 1 {
                order.push(number);
            }
        }
        (order, counts)
    }

    fn assert_whole_and_in_order(&self, messages: u32, seed: u64) -> u32 {
        let (order, counts) = self.arrivals();
        assert_eq!(order, (1..=messages).collect::<Vec<_>>(), "seed {seed}: all of them, A before B");
        counts.values().sum::<u32>() - messages
    }
}

#[test]
fn whole_transactions_fly_where_chunks_are_swallowed_and_bodies_are_as_they_came() {
    for seed in 1..=10 {
        let story = story(seed, 60, |_, _| {});
        assert_eq!(story.assert_whole_and_in_order(60, seed), 0);
        let by_chunk = story.primary.taken.borrow().iter().filter(|taken| taken.by_chunk).count();
        assert!(by_chunk >= 55, "seed {seed}: {by_chunk}");
        assert!(story.primary.most_behind.get() > 4 && story.shard_hosts_trusted);
        assert_eq!(story.primary.dialed.get(), story.primary.served.get() + story.primary.refused.get());
    }
}

#[test]
fn a_host_without_chunking_is_sent_the_next_envelope_behind_the_dot() {
    for withheld in [&["CHUNKING"][..], &["CHUNKING", "PIPELINING"]] {
        let story = story(3, 40, |primary, _| {
            *primary.withheld.borrow_mut() = withheld.iter().map(|word| (*word).to_owned()).collect();
        });
        assert_eq!(story.assert_whole_and_in_order(40, 3), 0);
        assert_eq!(story.primary.served.get(), 1, "one session: {withheld:?}");
        assert!(story.primary.taken.borrow().iter().all(|taken| !taken.by_chunk));
        assert_eq!(story.primary.rode.get() > 30, withheld.len() == 1, "{}", story.primary.rode.get());
    }
}

/// The connection ends behind each octet that the primary reads, in each of its lives one further.
#[test]
fn p4_a_primary_that_closes_anywhere_loses_nothing_and_repeats_little() {
    let mut repeated = 0;
    for chunking in [true, false] {
        for seed in 1..=60 {
            let mut random = Random::new(seed);
            let script = Script::CloseBehind((0..6).map(|_| 300 + random.below(9_000)).collect());
            let story = story(seed, 30, |primary, _| {
                primary.script.replace(script);
                if !chunking {
                    primary.withheld.replace(vec!["CHUNKING".to_owned()]);
                }
            });
            let repeats = story.assert_whole_and_in_order(30, seed);
            assert!(repeats <= 6 * OUTSTANDING_MAX, "seed {seed}: {repeats}");
            repeated += repeats;
        }
    }
    assert!(repeated > 0, "a test in which nothing is unknown proves little");
}

#[test]
fn p4_one_lost_connection_repeats_no_more_than_may_be_outstanding() {
    for seed in 1..=40 {
        let script = Script::CloseBehind(vec![4_000 + 211 * seed]);
        let story = story(seed, 60, |primary, _| drop(primary.script.replace(script)));
        let repeats = story.assert_whole_and_in_order(60, seed);
        assert!(repeats <= OUTSTANDING_MAX, "seed {seed}: {repeats}");
    }
}

#[test]
fn h45_a_host_that_does_not_swallow_a_chunk_executes_no_line_of_a_body() {
    let story = story(7, 40, |primary, _| drop(primary.script.replace(Script::DoesNotSwallow)));
    assert_eq!(story.assert_whole_and_in_order(40, 7), 0);
    assert!(story.primary.taken.borrow().iter().all(|taken| !taken.by_chunk), "no window opens");
    assert!(!story.shard_hosts_trusted, "it is remembered beyond the connection");
    assert_eq!(story.primary.served.get(), 2, "found out once");
}

#[test]
fn a_421_in_the_middle_of_a_window_loses_nothing() {
    for seed in 1..=20 {
        let script = Script::ClosingAfter(u32::try_from(5 + seed).unwrap());
        let story = story(seed, 50, |primary, _| drop(primary.script.replace(script)));
        assert_eq!(story.assert_whole_and_in_order(50, seed), 0, "it says 421 and takes nothing behind");
        assert!(story.primary.served.get() > 1);
    }
}

#[test]
fn a_refused_recipient_in_the_middle_of_a_window_waits_alone() {
    use crate::smtp::reply::UNKNOWN_RECIPIENT_550;
    use crate::smtp::server::RecipientVerdict;
    let story = story(5, 60, |primary, _| {
        primary.judges.set(|local_part| match local_part {
            "r20" | "r21" | "r33" | "second" => RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550),
            _ => RecipientVerdict::Accept,
        });
    });
    let (order, counts) = story.arrivals();
    let expected: Vec<u32> = (1..=60).filter(|number| ![20, 21, 33].contains(number)).collect();
    assert_eq!(order, expected);
    assert!(counts.values().all(|count| *count == 1));
    assert!(story.primary.rode.get() > 20, "it stayed in step, with others behind");
    assert!(story.primary.taken.borrow().iter().all(|taken| taken.recipients.len() == 1));
}

/// H44: the message that breaks sessions is found, tried alone three times, and steps aside; those beside it in the window are not.
#[test]
fn h44_only_what_breaks_sessions_steps_aside() {
    for seed in [1, 2, 3] {
        let poison = 20 + u32::try_from(seed).unwrap();
        let story = story(seed, 40, |primary, _| drop(primary.script.replace(Script::BreaksOver(poison, 4))));
        let (order, counts) = story.arrivals();
        let others: Vec<u32> = order.iter().copied().filter(|number| *number != poison).collect();
        assert_eq!(others, (1..=40).filter(|number| *number != poison).collect::<Vec<_>>(), "seed {seed}");
        assert!(
            order.iter().position(|number| *number == poison).unwrap() > poison as usize - 1,
            "it stepped aside"
        );
        assert!(counts.values().all(|count| *count <= 2), "seed {seed}: {counts:?}");
        assert_eq!(
            story.primary.served.get(),
            6,
            "seed {seed}: in a window, three times alone, on, and back"
        );
    }
}

/// A life that ends in the middle of a window: what the next one repeats is bounded, nothing is lost, the order holds.
#[test]
fn p4_a_crash_in_the_middle_of_a_window_repeats_a_bounded_number() {
    let mut repeated = 0;
    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(seed, DISK_OCTETS);
        let taken = {
            let clock = SimClock::default();
            let mut executor = Executor::new(seed, clock.clone());
            let spawn = SimSpawn(executor.spawner());
            let primary = primary_of(&clock, &spawn, false);
            let (disk, taken, of_life) = (disk.clone(), Rc::clone(&primary.taken), primary.clone());
            spawn.clone().spawn(async move {
                let shard =
                    node::start(disk, clock, &spawn, &of_life, Plan::one_connection()).await.remove(0);
                fill(&shard, &spawn, 50).await;
                of_life.up.set(true);
                core::future::pending::<()>().await;
            });
            let enough = usize::try_from(1 + random.below(45)).unwrap();
            while taken.borrow().len() < enough && executor.step() {}
            for _ in 0..random.below(60) {
                executor.step();
            }
            taken
        };
        let disk = disk.crash();
        let clock = SimClock::default();
        let mut executor = Executor::new(seed, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let mut primary = primary_of(&clock, &spawn, true);
        primary.taken = taken;
        let taken = Rc::clone(&primary.taken);
        let story = {
            let primary = primary.clone();
            async move {
                let _shards =
                    node::start(disk, clock.clone(), &spawn, &primary, Plan::one_connection()).await;
                clock.sleep(Duration::from_secs(60)).await;
            }
        };
        assert!(executor.run(u64::MAX, story).is_some());
        assert!(taken.borrow().len() >= 50);
        let story = Story { primary, shard_hosts_trusted: true };
        let repeats = story.assert_whole_and_in_order(50, seed);
        assert!(repeats <= OUTSTANDING_MAX, "seed {seed}: {repeats}");
        repeated += repeats;
    }
    assert!(repeated > 0);
}

/// A peer that answers while we write, over a connection that holds little: without reading while writing both would wait for ever.
#[test]
fn a_peer_that_answers_while_we_write_and_a_narrow_link_do_not_stop_each_other() {
    let story = story(4, 60, |primary, _| primary.narrow.set(Some(40)));
    assert_eq!(story.assert_whole_and_in_order(60, 4), 0);
    assert!(story.primary.taken.borrow().iter().filter(|taken| taken.by_chunk).count() > 50);
}

#[test]
fn what_is_written_is_the_end_of_one_message_and_the_next_envelope_at_once() {
    let story = story(6, 30, |primary, _| primary.withheld.replace(vec!["CHUNKING".to_owned()]).clear());
    assert_eq!(story.assert_whole_and_in_order(30, 6), 0);
    let writes = story.primary.pieces.get();
    assert!(writes < 30 + 12, "about one write a message: {writes}");
}
