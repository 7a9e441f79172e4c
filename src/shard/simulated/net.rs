//! A rescue system says 250 to everything: what was delivered there and is kept goes to the right primary once more.

use super::node::{self, Plan};
use super::primary::{Primary, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::bridge::Snapshot;
use crate::bridge::operator::{Copies, Delivered, DomainStatus, Replayed, Request, Shards, channels};
use crate::config::{ExpiryClockTrust, WhenUp};
use crate::limits::OPERATOR_REPLAYED_AGE;
use crate::shard::link::Spawn;
use crate::shard::mesh::Note;
use crate::shard::node::Synchronisation;
use crate::shard::operator;
use core::cell::Cell;
use core::time::Duration;
use futures_lite::future::zip;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::position::UnixMillis;
use storage::sim::disk::Faults;
use storage::sim::{Executor, SimClock, SimDisk};

pub(super) const DOMAIN: &str = "example.test";
const MESSAGES: usize = 300;
/// One of them is larger than a record may be.
const LARGE: usize = 17;
const SECOND: Duration = Duration::from_secs(1);
const NET: Duration = Duration::from_secs(3_600);

/// A shard with an operator.
pub(super) struct Node {
    pub(super) shard: Rc<SimShard>,
    pub(super) shards: Shards,
    pub(super) primary: Primary,
    pub(super) clock: SimClock,
    pub(super) spawn: SimSpawn,
}

impl Node {
    pub(super) async fn bring(&self, count: usize) {
        let mut ours = greeted(Rc::clone(&self.shard), &self.spawn).await;
        for number in 0..count {
            let envelope = format!(
                "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@{DOMAIN}>\r\nRCPT TO:<c@{DOMAIN}>\r\nDATA\r\n"
            );
            converse(&mut ours, envelope.as_bytes(), "354 ").await;
            let body = ("x".repeat(60) + "\r\n").repeat(if number == LARGE { 9_000 } else { 20 });
            let data = format!("Subject: {number}\r\n\r\n..dots\r\n{body}.\r\n");
            assert!(converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok").await);
        }
    }

    pub(super) async fn status(&self) -> DomainStatus {
        let names: Vec<Arc<str>> = vec![DOMAIN.into()];
        let answer = self.shards.ask(|answer| Request::Domains(names.clone(), answer)).await;
        answer.expect("it answers").remove(0).remove(0)
    }

    pub(super) async fn delivered(&self, units: usize) {
        for _ in 0..600 {
            if self.status().await.delivered == units as u64 {
                return;
            }
            self.clock.sleep(SECOND).await;
        }
        panic!("{:?}", self.status().await);
    }

    pub(super) async fn copies(&self, again: bool, after: u64) -> Copies {
        let wanted = Delivered {
            domain: DOMAIN.into(),
            since_s: 0,
            until_s: u32::MAX,
            recipient: Some(format!("B@{DOMAIN}")),
            again,
            after,
        };
        self.shards.ask(|answer| Request::Copies(wanted.clone(), answer)).await.expect("it answers").remove(0)
    }

    /// Page by page, as the API does.
    pub(super) async fn replay(&self) -> Replayed {
        let mut sum = Replayed::default();
        let mut after = 0;
        loop {
            let page = self.copies(false, after).await;
            let ask = |answer| Request::Replay(DOMAIN.into(), page.copies.clone(), answer);
            let done = self.shards.ask(ask).await.expect("it answers").remove(0).expect("it owns the domain");
            assert_eq!((done.gone, &done.refused, page.unreadable), (0, &None, 0));
            sum.messages += done.messages;
            sum.units += done.units;
            let Some(more) = page.more else { return sum };
            after = more;
        }
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.primary.taken.borrow().iter().map(|taken| taken.subject.clone()).collect()
    }
}

/// One life, and what the disk has behind it.
fn live(disk: &SimDisk, seed: u64, min_free: u64, story: impl AsyncFn(&Node) + 'static) -> SimDisk {
    let mut plan = plan();
    plan.config.storage.min_free_space_bytes = min_free;
    plan.config.domains[0].safety_net = NET;
    play(disk, seed, true, plan, story)
}

/// Small segments, one connection, and nothing carried through.
pub(super) fn plan() -> Plan {
    let mut plan = Plan { segment_octets: 768 << 10, journal_octets: 64 << 10, ..Plan::one_connection() };
    plan.config.domains[0].when_up = WhenUp::Relay;
    plan
}

/// One life with a primary that is up or not; it ends by a power failure.
pub(super) fn play(
    disk: &SimDisk,
    seed: u64,
    up: bool,
    plan: Plan,
    story: impl AsyncFn(&Node) + 'static,
) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, up);
    let of_life = disk.clone();
    let played = executor.run(u64::MAX, async move {
        let shard = node::start(of_life, clock.clone(), &spawn, &primary, plan).await.remove(0);
        let (shards, mut asked) = channels(1);
        let requests = asked.pop().expect("one a shard");
        spawn.spawn(operator::run(Rc::clone(&shard), requests, primary.clone(), spawn.clone()));
        story(&Node { shard, shards, primary, clock, spawn }).await;
    });
    played.expect("the story ends");
    drop(executor);
    disk.crash()
}

#[test]
fn h41_what_a_rescue_system_took_goes_to_the_right_primary_once_more() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let disk = live(&disk, 1, 0, async |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
        node.clock.sleep(10 * SECOND).await;
        assert!(node.shard.shelf.borrow().keeps_copies(), "segments are sealed, and all in them is settled");
    });
    let disk = live(&disk, 2, 0, async |node| {
        assert_eq!(node.status().await.backlog, 0, "settled is settled");
        assert_eq!(node.replay().await.messages, MESSAGES as u64);
        node.delivered(3 * MESSAGES).await;
        let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(node.subjects(), expected, "all of it, in its order");
        assert!(node.primary.taken.borrow().iter().all(|taken| taken.recipients == ["b@example.test"]));
        let status = node.status().await;
        assert_eq!((status.accepted, status.replayed), (3 * MESSAGES as u64, MESSAGES as u64));
        assert_eq!(node.replay().await.messages, 0, "the same command does it once");
    });
    live(&disk, 3, 0, async |node| {
        assert_eq!(node.replay().await.messages, 0, "also behind a crash");
        let mut again = node.copies(true, 0).await;
        while again.copies.is_empty() {
            again = node.copies(true, again.more.expect("what was queued once more is kept, too")).await;
        }
        node.clock.sleep(NET + 10 * SECOND).await;
        assert_eq!(node.copies(true, 0).await, Copies::default(), "their time is over");
        assert!(node.shard.shelf.borrow().len() <= 1, "and their segments are gone");
    });
}

#[test]
fn copies_are_given_up_before_mail_is_refused() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let disk = live(&disk, 1, 0, async |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
    });
    // Less is free than twice this, and more than once.
    live(&disk, 2, DISK_OCTETS * 3 / 4, async |node| {
        assert!(node.shard.shelf.borrow().keeps_copies());
        node.clock.sleep(300 * SECOND).await;
        assert!(!node.shard.shelf.borrow().keeps_copies());
        assert!(node.shard.shelf.borrow().len() <= 1, "their segments are gone");
        node.bring(1).await;
        node.delivered(2 * MESSAGES + 2).await;
    });
}

/// Two operators at once, or one whose request took too long: both pages were looked for before the first was queued.
#[test]
fn h10_a_page_that_is_asked_for_twice_is_queued_once() {
    live(&SimDisk::new(1, DISK_OCTETS), 1, 0, async |node| {
        const FEW: usize = 40;
        node.bring(FEW).await;
        node.delivered(2 * FEW).await;
        let page = node.copies(false, 0).await;
        assert_eq!((page.copies.len(), page.more), (FEW, None));
        let replay = async || {
            let ask = |answer| Request::Replay(DOMAIN.into(), page.copies.clone(), answer);
            node.shards.ask(ask).await.expect("it answers").remove(0).expect("it owns the domain")
        };
        // A question that comes behind it does not wait for it.
        let is_done = Cell::new(false);
        let first = async {
            let done = replay().await;
            is_done.set(true);
            done
        };
        let beside = async {
            node.status().await;
            assert!(!is_done.get(), "others are answered meanwhile");
            replay().await
        };
        let (first, beside) = zip(first, beside).await;
        assert_eq!((first.messages, first.refused), (FEW as u64, None));
        assert!(beside.messages == 0 && beside.refused.is_some(), "{beside:?}");
        let behind = replay().await;
        assert_eq!((behind.messages, behind.units, behind.gone, behind.refused), (0, 0, 0, None));
        node.clock.sleep(OPERATOR_REPLAYED_AGE + SECOND).await;
        let late = replay().await;
        assert!(late.messages == 0 && late.refused.is_some(), "what is old is looked for anew: {late:?}");
        assert_eq!(node.replay().await.messages, 0);
        assert_eq!(node.status().await.replayed, FEW as u64);
    });
}

#[test]
fn p7_copies_are_given_up_before_a_domain_is_refused_for_its_share() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let below = disk.clone();
    live(&disk, 1, 0, async move |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
        node.primary.up.set(false);
        for _ in 0..20 {
            node.bring(LARGE + 1).await;
        }
        assert!(node.shard.shelf.borrow().keeps_copies());
        let stored = node.shard.snapshot.borrow().usage.octets();
        assert!(stored > 10_000_000, "{stored}");
        // By itself that is enough: more than four segments.
        below.set_free(4_000_000);
        node.clock.sleep(60 * SECOND).await;
        assert!(!node.shard.shelf.borrow().keeps_copies());
    });
}

#[test]
fn nothing_is_given_up_while_nothing_tells_how_much_is_free() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let below = disk.clone();
    live(&disk, 1, 0, async move |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
        below.set_faults(Faults { fail_free: true, ..Faults::default() });
        node.clock.sleep(60 * SECOND).await;
        assert_eq!((node.shard.free_octets().await, node.shard.shelf.borrow().keeps_copies()), (0, true));
    });
}

#[test]
fn no_copy_is_queued_once_more_for_which_there_is_no_room() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let below = disk.clone();
    live(&disk, 1, 0, async move |node| {
        node.bring(40).await;
        node.delivered(80).await;
        let page = node.copies(false, 0).await;
        assert!(page.copies[LARGE].size > 500_000, "{}", page.copies[LARGE].size);
        below.set_free(400_000);
        node.shard.free.set((Duration::ZERO, None));
        let ask = |answer| Request::Replay(DOMAIN.into(), page.copies.clone(), answer);
        let done = node.shards.ask(ask).await.expect("it answers").remove(0).expect("it owns the domain");
        assert_eq!((done.messages, done.gone), (LARGE as u64, 0));
        assert!(done.refused.is_some_and(|reason| reason.contains("short of space")));
    });
}

/// A machine without a battery, or with a wrong one: its clock is set right when the network is there.
#[test]
fn h5_a_start_by_a_clock_that_is_a_month_ahead_lets_no_copy_go() {
    const MONTH_MS: u64 = 31 * 86_400_000;
    let disk = live(&SimDisk::new(1, DISK_OCTETS), 1, 0, async |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
    });
    live(&disk, 2, 0, async |node| {
        node.clock.set_wall(UnixMillis(node.clock.wall().0 + MONTH_MS));
        node.clock.sleep(30 * SECOND).await;
        assert!(node.shard.shelf.borrow().keeps_copies());
        node.clock.set_wall(UnixMillis(node.clock.wall().0 - MONTH_MS));
        node.clock.sleep(NET + 120 * SECOND).await;
        assert!(node.shard.shelf.borrow().keeps_copies(), "their time is over, by a clock that jumped");
        // The operator says that this is the time.
        let snapshot = Arc::clone(&node.shard.snapshot.borrow());
        node.shard.take_note(Note::Configuration(snapshot, async_channel::bounded(1).0));
        node.clock.sleep(10 * SECOND).await;
        assert!(!node.shard.shelf.borrow().keeps_copies());
    });
}

#[test]
fn h5_no_copy_goes_by_a_clock_that_nobody_vouches_for() {
    let mut plan = plan();
    plan.config.domains[0].safety_net = NET;
    plan.synchronisation = || Synchronisation::Unknown;
    play(&SimDisk::new(1, DISK_OCTETS), 1, true, plan, async |node| {
        node.bring(MESSAGES).await;
        node.delivered(2 * MESSAGES).await;
        node.clock.sleep(NET + 120 * SECOND).await;
        assert!(node.shard.shelf.borrow().keeps_copies());
        let trusted = {
            let snapshot = node.shard.snapshot.borrow();
            let mut config = snapshot.config.clone();
            config.delivery.expiry_clock = ExpiryClockTrust::Trusted;
            Snapshot::new(config, Arc::clone(&snapshot.usage))
        };
        node.shard.take_note(Note::Configuration(Arc::new(trusted), async_channel::bounded(1).0));
        node.clock.sleep(10 * SECOND).await;
        assert!(!node.shard.shelf.borrow().keeps_copies());
    });
}
