//! Recipients that a primary is asked for: what it says, what it does not say, and that no sender waits for it for long.

use super::manner::{Act, At, Manner};
use super::{DISK_OCTETS, MemoryLink, Primary, SimShard, SimSpawn, converse, primary_of, start};
use crate::bridge::Snapshot;
use crate::config::{Config, OnReject, Recipients, UnknownDuringOutage};
use crate::limits::{CALLOUT_PAUSE, CALLOUT_TIMEOUT, SWEEP_INTERVAL};
use crate::shard::connection;
use crate::shard::link::Spawn;
use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode, UNKNOWN_RECIPIENT_550};
use crate::smtp::server::RecipientVerdict;
use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

/// A shard whose domain has a policy, its primary, and a session at its RCPT.
pub(super) struct Story {
    pub(super) shard: Rc<SimShard>,
    pub(super) primary: Primary,
    pub(super) clock: SimClock,
    spawn: SimSpawn,
    link: MemoryLink,
}

impl Story {
    /// A new session, after MAIL.
    async fn connect(&mut self) {
        let (ours, theirs) = MemoryLink::pair();
        self.link = ours;
        let peer = SocketAddr::from(([192, 0, 2, 1], 25_000));
        self.spawn.spawn(connection::serve(Rc::clone(&self.shard), theirs, peer));
        assert!(converse(&mut self.link, b"", "220 ").await);
        assert!(converse(&mut self.link, b"EHLO sender.test\r\n", "250 ").await);
        assert!(converse(&mut self.link, b"MAIL FROM:<a@example.org>\r\n", "250 ").await);
    }

    /// RCPT, answered by `expected`; how long that took.
    async fn rcpt(&mut self, name: &str, expected: &str) -> Duration {
        let started = self.clock.now();
        let line = format!("RCPT TO:<{name}@example.test>\r\n");
        assert!(converse(&mut self.link, line.as_bytes(), expected).await, "{name}: {expected}");
        self.clock.now() - started
    }

    pub(super) async fn send(&mut self, name: &str) {
        self.rcpt(name, "250").await;
        assert!(converse(&mut self.link, b"DATA\r\n", "354").await);
        assert!(converse(&mut self.link, b"Subject: x\r\n\r\nx\r\n.\r\n", "250").await);
        assert!(converse(&mut self.link, b"MAIL FROM:<a@example.org>\r\n", "250").await);
    }

    pub(super) async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.clock.sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_outage(&self) -> bool {
        let snapshot = self.shard.snapshot.borrow();
        snapshot.recipients_of("example.test").is_some_and(|known| known.is_outage())
    }
}

/// Plays `story` with `policy`, of whom nothing is known being put off, until its end.
pub(super) fn play<F: Future<Output = ()> + 'static>(
    policy: Recipients,
    story: impl FnOnce(Story) -> F + 'static,
) {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, true);
    let (told, done) = (Rc::new(Cell::new(false)), clock.clone());
    let ended = Rc::clone(&told);
    spawn.clone().spawn(async move {
        let shard = start(SimDisk::new(1, DISK_OCTETS), clock.clone(), spawn.clone(), primary.clone()).await;
        let mut config = Config::embedded();
        config.storage.min_free_space_bytes = 0;
        config.domains[0].retry_interval = Duration::from_secs(1);
        config.domains[0].on_reject = OnReject::Hold;
        config.domains[0].recipients.recipients = policy;
        config.domains[0].recipients.unknown_during_outage = UnknownDuringOutage::Defer;
        let usage = Arc::clone(&shard.snapshot.borrow().usage);
        *shard.snapshot.borrow_mut() = Arc::new(Snapshot::new(config, usage));
        let (link, _) = MemoryLink::pair();
        let mut told = Story { shard, primary, clock, spawn, link };
        told.connect().await;
        story(told).await;
        ended.set(true);
    });
    while !told.get() {
        assert!(executor.step() && done.now() < Duration::from_secs(100 * 3600), "the story ends");
    }
}

pub(super) fn ordinary(name: &str) -> RecipientVerdict<'static> {
    match name {
        "good" | "postmaster" => RecipientVerdict::Accept,
        "full" => refusal(552, EnhancedCode::new(5, 2, 2)),
        "grey" => refusal(450, EnhancedCode::new(4, 2, 0)),
        _ => RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550),
    }
}

fn refuses_us(_: &str) -> RecipientVerdict<'static> {
    RecipientVerdict::Refuse(Reply::new(ReplyCode::new(550), None, "go away"))
}

fn refusal(code: u16, enhanced: EnhancedCode) -> RecipientVerdict<'static> {
    RecipientVerdict::Refuse(Reply::new(ReplyCode::new(code), Some(enhanced), "no"))
}

/// What it says of one, and not of two, has to be asked for in parts.
#[test]
fn a_primary_that_takes_one_recipient_a_transaction_is_asked_for_all_three() {
    play(Recipients::Verify, async |mut story| {
        story.primary.judges.set(ordinary);
        let said = Cell::new(0);
        let one_each: Manner = Rc::new(move |turn| match turn.at {
            At::Hello => Act::Says(b"250-primary.test\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=1\r\n"),
            At::Sender => {
                said.set(0);
                Act::Regular
            }
            At::Recipient if said.replace(1) == 1 => Act::Reply("452 4.5.3 too many recipients"),
            _ => Act::Regular,
        });
        story.primary.manner.replace(Some(one_each));
        for (name, expected) in [("good", "250"), ("bad", "550 5.1.1")] {
            story.rcpt(name, expected).await;
        }
        story.primary.up.set(false);
        // That it does not accept anybody is known: what it said of this one is worth something.
        for (name, expected) in [("new", "450 4.1.1"), ("good", "250")] {
            story.rcpt(name, expected).await;
        }
    });
}

#[test]
fn a_primary_that_is_up_is_asked_once_and_its_answers_serve_while_it_is_down() {
    play(Recipients::Verify, async |mut story| {
        story.primary.judges.set(ordinary);
        for (name, expected) in [("good", "250"), ("bad", "550 5.1.1"), ("full", "250"), ("grey", "250")] {
            story.rcpt(name, expected).await;
        }
        let asked = story.primary.dialed.get();
        assert_eq!(asked, 4);
        for (name, expected) in [("Good+detail", "250"), ("BAD", "550 5.1.1"), ("postmaster", "250")] {
            story.rcpt(name, expected).await;
        }
        assert_eq!(story.primary.dialed.get(), asked, "answers are remembered");
        story.primary.up.set(false);
        // The first learns that nobody is there, the others know.
        for (name, expected) in [("new", "450 4.1.1"), ("new", "450 4.1.1"), ("good+again", "250")] {
            story.rcpt(name, expected).await;
        }
        assert_eq!(story.primary.dialed.get(), asked + 1);
        story.primary.up.set(true);
        story.clock.sleep(CALLOUT_PAUSE).await;
        story.rcpt("new", "550 5.1.1").await;
    });
}

#[test]
fn a_primary_that_takes_anybody_or_refuses_us_says_nothing() {
    play(Recipients::Verify, async |mut story| {
        // Refuses whomever it is asked for, postmaster too.
        story.primary.judges.set(refuses_us);
        for name in ["one", "one", "two"] {
            story.rcpt(name, "250").await;
        }
        story.primary.judges.set(ordinary);
        story.rcpt("three", "550 5.1.1").await;
    });
    play(Recipients::Verify, async |mut story| {
        story.primary.judges.set(|_| RecipientVerdict::Accept);
        for name in ["one", "two", "three"] {
            story.rcpt(name, "250").await;
        }
        assert_eq!(story.primary.dialed.get(), 1, "it is not asked any more");
        story.primary.judges.set(ordinary);
        story.primary.up.set(false);
        story.rcpt("four", "250").await;
    });
}

#[test]
fn a_primary_that_hangs_costs_a_sender_ten_seconds_and_others_less() {
    play(Recipients::Verify, async |mut story| {
        story.primary.hangs.set(|_| true);
        let waited = story.rcpt("one", "450 4.1.1").await;
        assert!(CALLOUT_TIMEOUT <= waited && waited <= CALLOUT_TIMEOUT + 2 * SWEEP_INTERVAL, "{waited:?}");
        assert!(story.rcpt("two", "450 4.1.1").await < Duration::from_secs(1));
    });
}

/// H22, H26: a directory that is not back yet refuses everybody, and nobody may hear that from us.
#[test]
fn a_half_restored_primary_refuses_nobody_through_us() {
    play(Recipients::Verify, async |mut story| {
        story.primary.judges.set(ordinary);
        story.rcpt("good", "250").await;
        story.rcpt("bad", "550").await;
        story.primary.up.set(false);
        story.send("good").await;
        story.wait_until(Story::is_outage).await;
        story.primary.judges.set(|_| RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550));
        story.primary.up.set(true);
        let dialed = story.primary.dialed.get();
        for (name, expected) in [("new", "450 4.1.1"), ("good", "250")] {
            story.rcpt(name, expected).await;
        }
        assert_eq!(story.primary.dialed.get(), dialed, "it is not asked before it has what waits");
        story.wait_until(|story| !story.is_outage()).await;
        assert_eq!(story.shard.counters.held.value(), 0, "and what it refused of that waits on");
        for name in ["new", "good", "newer"] {
            story.rcpt(name, "250").await;
        }
        story.primary.judges.set(ordinary);
        story.rcpt("newest", "550 5.1.1").await;
    });
}

#[test]
fn h26_what_is_delivered_is_learned() {
    play(Recipients::Learn, async |mut story| {
        story.primary.judges.set(ordinary);
        for day in 1..=2 {
            story.send("good").await;
            let taken = Rc::clone(&story.primary.taken);
            story.wait_until(|_| taken.borrow().len() == day).await;
            story.send("bad").await;
            story.wait_until(|story| story.shard.counters.held.value() == day as u64).await;
            story.clock.sleep(Duration::from_secs(25 * 3600)).await;
            story.connect().await;
        }
        story.rcpt("bad", "550 5.1.1").await;
        story.rcpt("new", "250").await;
        story.primary.up.set(false);
        story.send("good").await;
        story.wait_until(Story::is_outage).await;
        for (name, expected) in [("good+x", "250"), ("bad", "550 5.1.1"), ("newer", "450 4.1.1")] {
            story.rcpt(name, expected).await;
        }
    });
}
