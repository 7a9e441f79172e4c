//! A disk on which a read fails: once, it costs nobody his place; for good, it costs what lies there its place and nothing else.

use super::node::{self, Plan};
use super::window::fill;
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::shard::simulated::primary::primary_of;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::disk::Faults;
use storage::sim::{Executor, SimClock, SimDisk};

const SMALL: u32 = 6;

/// One that does not fit a record: its data lies in chunks.
async fn bring_large(shard: &Rc<SimShard>, spawn: &SimSpawn) {
    let mut ours = greeted(Rc::clone(shard), spawn).await;
    let envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<large@example.test>\r\nDATA\r\n";
    assert!(converse(&mut ours, envelope, "354 ").await);
    let line = "a line of some length, as lines are, and so many that they fill chunks\r\n";
    let data = format!("Subject: {}\r\n\r\n{}.\r\n", SMALL + 1, line.repeat(12_000));
    assert!(converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok").await);
}

#[test]
fn p3_a_read_that_fails_once_costs_nobody_his_place() {
    let mut failed = 0;
    for call in 1..=40 {
        let (disk, clock) = (SimDisk::new(call, DISK_OCTETS), SimClock::default());
        let mut executor = Executor::new(call, clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, false);
        let (told, on_disk) = (primary.clone(), disk.clone());
        let story = async move {
            let mut plan = Plan::one_connection();
            // What stepped aside would come long behind the rest.
            plan.config.domains[0].retry_interval = Duration::from_secs(300);
            let shard = node::start(on_disk.clone(), clock.clone(), &spawn, &told, plan).await.remove(0);
            fill(&shard, &spawn, 2).await;
            bring_large(&shard, &spawn).await;
            let mut ours = greeted(Rc::clone(&shard), &spawn).await;
            for number in 3..=SMALL {
                super::window::bring(&mut ours, number).await;
            }
            on_disk.set_faults(Faults { fail_reading: Some(call), ..Faults::default() });
            told.up.set(true);
            shard.lanes.flush("example.test");
            for _ in 0..600 {
                clock.sleep(Duration::from_secs(1)).await;
                if shard.lanes.all().iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get())
                {
                    break;
                }
            }
            shard.lanes.all().iter().map(|lane| lane.queue.borrow().len()).sum::<usize>()
        };
        let waiting = executor.run(8_000_000, story).expect("the story ends");
        failed += disk.fired().eio.values().sum::<u64>();
        let subjects: Vec<String> =
            primary.taken.borrow().iter().map(|taken| taken.subject.clone()).collect();
        assert_eq!(subjects, ["1", "2", "7", "3", "4", "5", "6"], "reading {call}: {waiting} wait");
    }
    assert!(failed >= 8, "a test in which few reads fail proves little: {failed}");
}
