//! Notices while power fails at every step: a unit that is bounced has its notice, one, and nobody else is told anything.
//!
//! Primary and smarthost are the same host here; what it took for `example.org` are notices.

mod origin;
mod relayed;
mod slow;

use super::manner::{Act, At, Manner, Turn};
use super::node::{self, Plan};
use super::primary::{Primary, Taken, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::bridge::UnitEnd;
use crate::config::{NOTICES_DOMAIN, OnExpiry, OnReject, Primary as Host};
use crate::limits::NOTICE_RETENTION;
use crate::shard::backlog::Lane;
use crate::shard::link::Spawn;
use crate::shard::mesh::{Said, owner};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use mail_parser::MessageParser;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::format::journal_entry::Authentication;
use storage::inspect::Directory;
use storage::position::Stamp;
use storage::sim::{Executor, SimClock, SimDisk};

const DOMAIN: &str = "example.test";
const HOUR: Duration = Duration::from_secs(3600);
/// SPF passed.
const PROVEN: u32 = 1 << 8 | 3;
/// SPF failed.
const FORGED: u32 = 5;

struct Node {
    shards: Vec<Rc<SimShard>>,
    primary: Primary,
    clock: SimClock,
    spawn: SimSpawn,
}

fn plan(shards: u16) -> Plan {
    let mut plan = Plan { shards, ..Plan::one_shard() };
    let domain = &mut plan.config.domains[0];
    (domain.on_reject, domain.on_expiry) = (OnReject::Bounce, OnExpiry::Bounce);
    domain.smarthost = Host::parse("192.0.2.9").ok();
    plan
}

impl Node {
    /// A message for these, each with its parameters; it is durable.
    async fn bring(&self, sender: &str, recipients: &[&str], subject: &str) {
        let mut ours = greeted(Rc::clone(&self.shards[0]), &self.spawn).await;
        let mut envelope = format!("MAIL FROM:{sender}\r\n");
        for recipient in recipients {
            let (name, parameters) = recipient.split_once(' ').unwrap_or((recipient, ""));
            envelope
                .push_str(&format!("RCPT TO:<{name}@{DOMAIN}> {parameters}\r\n").replace(" \r\n", "\r\n"));
        }
        envelope.push_str("DATA\r\n");
        converse(&mut ours, envelope.as_bytes(), "354 ").await;
        let data = format!("Subject: {subject}\r\n..X: dot\r\n\r\nthe body\r\n.\r\n");
        converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok").await;
    }

    fn owner_of(&self, domain: &str) -> &Rc<SimShard> {
        &self.shards[usize::from(owner(domain, u16::try_from(self.shards.len()).expect("few")).0)]
    }

    fn lane(&self) -> Rc<Lane> {
        self.owner_of(DOMAIN).lanes.made(DOMAIN)
    }

    /// What authentication says of all that waits.
    async fn authenticate(&self, bits: u32) {
        let shard = self.owner_of(DOMAIN);
        shard.empty_inbox();
        let stamps = self.lane().queue.borrow().stamps(Stamp::NONE, None, 99);
        let all: Vec<_> = stamps.into_iter().map(|stamp| Authentication { stamp, bits }).collect();
        shard.journal.append_authentications(None, &all).await.expect("room").await.expect("durable");
        for authentication in all {
            shard.lanes.annotate(&[Said { domains: vec![DOMAIN.into()], authentication }]);
        }
    }

    /// How the domain's units stand.
    fn ended(&self) -> [u64; 6] {
        let usage = Arc::clone(&self.lane().usage);
        UnitEnd::ALL.map(|end| usage.ended(end))
    }

    fn held(&self) -> u64 {
        self.lane().queue.borrow().held_count()
    }

    async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// No notice waits.
    fn has_brought_all(&self) -> bool {
        let usage = self.shards[0].lanes.usage_of(NOTICES_DOMAIN);
        usage.accepted() == UnitEnd::ALL.iter().map(|end| usage.ended(*end)).sum::<u64>()
    }
}

/// Plays a life; gives the disk as a power failure leaves it. `steps`: how many there are behind the instant that the story
/// tells by its cell, at most.
fn live<F: Future<Output = ()> + 'static>(
    disk: &SimDisk,
    seed: u64,
    steps: u64,
    plan: Plan,
    taken: &Rc<RefCell<Vec<Taken>>>,
    manner: Manner,
    story: impl FnOnce(Node, Rc<Cell<bool>>) -> F + 'static,
) -> SimDisk {
    let clock = SimClock::default();
    let mut executor = Executor::new(seed, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let mut primary = primary_of(&clock, &spawn, true);
    primary.taken = Rc::clone(taken);
    primary.manner.replace(Some(manner));
    let (now, ended) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (told, over, disk_of_life, done) = (Rc::clone(&now), Rc::clone(&ended), disk.clone(), clock.clone());
    spawn.clone().spawn(async move {
        let shards = node::start(disk_of_life, clock.clone(), &spawn, &primary, plan).await;
        story(Node { shards, primary, clock, spawn }, told).await;
        over.set(true);
    });
    let mut behind = 0;
    let what = format!("{seed} {steps}");
    while !ended.get() && behind < steps {
        let (can, at) = (executor.step(), done.now());
        assert!(can && at < 200 * HOUR, "the story ends: {what} {can} {at:?}");
        behind += u64::from(now.get());
    }
    drop(executor);
    disk.crash()
}

fn whole(story_disk: &SimDisk) {
    let disk = story_disk.clone();
    let mut executor = Executor::new(1, SimClock::default());
    let walk = executor.run(10_000_000, async move { Directory::walk(disk, Arc::default()).await });
    let audit = walk.expect("a walk ends").expect("a disk that can be read").audit();
    assert!(audit.balances(), "{audit:#?}");
}

/// Says 5xx to the dot of spam, and to some recipients.
fn refuses(turn: &Turn<'_>) -> Act {
    match turn.at {
        At::DataEnd if turn.subject.starts_with("spam") => Act::Reply("554 5.7.1 we do not want this"),
        At::Recipient if turn.recipient.starts_with("bad") => Act::Reply("550 5.1.1 no such user"),
        _ => Act::Regular,
    }
}

fn is_notice(taken: &Taken) -> bool {
    taken.recipients.iter().any(|recipient| recipient.ends_with("@example.org"))
}

/// Plays a whole story in one life, with its notices.
fn play<F: Future<Output = ()> + 'static>(
    plan: Plan,
    story: impl FnOnce(Node) -> F + 'static,
) -> Vec<String> {
    let (disk, taken) = (SimDisk::new(1, DISK_OCTETS), Rc::default());
    let after = live(&disk, 1, u64::MAX, plan, &taken, Rc::new(refuses), |node, _| story(node));
    whole(&after);
    taken.take().into_iter().filter(is_notice).map(|taken| taken.body).collect()
}

const NOTHING: [u64; 6] = [0; 6];

/// Bounced, damaged, deleted, delivered, discarded, expired.
const fn bounced_and_delivered(bounced: u64, delivered: u64) -> [u64; 6] {
    [bounced, 0, 0, delivered, 0, 0]
}

#[test]
fn one_notice_tells_of_all_that_failed_in_one_try() {
    let notices = play(plan(1), async |node| {
        node.bring(
            "<Ann@Example.org> ENVID=id+2B1",
            &["bad-1 ORCPT=rfc822;Bad+2B@x.test", "good", "bad-2"],
            "x",
        )
        .await;
        // What SPF and DKIM say is not known yet: nothing is decided.
        node.wait_until(|node| node.ended() == bounced_and_delivered(0, 1)).await;
        node.clock.sleep(5 * Duration::from_secs(1)).await;
        assert_eq!((node.held(), node.ended()), (0, bounced_and_delivered(0, 1)));
        node.authenticate(PROVEN).await;
        node.wait_until(|node| node.ended() == bounced_and_delivered(2, 1) && node.has_brought_all()).await;
        assert_eq!(node.held(), 0);
        let addresses = node.primary.addresses.borrow();
        assert!(addresses.iter().any(|address| address.starts_with("192.0.2.9")), "{addresses:?}");
        let taken = node.primary.taken.borrow();
        let to: Vec<_> =
            taken.iter().filter(|taken| is_notice(taken)).map(|taken| &taken.recipients).collect();
        assert_eq!(to, [&["Ann@example.org".to_owned()]]);
    });
    let [notice] = &notices[..] else { panic!("one notice: {notices:#?}") };
    let read = MessageParser::default().parse(notice.as_bytes()).expect("a message");
    assert_eq!(read.parts.len(), 4);
    for words in [
        "To: <Ann@example.org>\r\n",
        "Original-Envelope-Id: id+1\r\n",
        "Original-Recipient: rfc822; Bad+@x.test\r\nFinal-Recipient: rfc822; bad-1@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Final-Recipient: rfc822; bad-2@example.test\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "Subject: x\r\n.X: dot\r\n",
    ] {
        assert!(notice.contains(words), "{words}: {notice}");
    }
    assert!(!notice.contains("good@") && !notice.contains("the body"), "{notice}");
}

#[test]
fn p5_nobody_is_told_but_a_proven_sender_who_wants_it() {
    for (sender, parameters, bits, bounced, held) in [
        ("<a@example.org>", "", FORGED, 0, 1),
        ("<a@example.org>", " NOTIFY=NEVER", PROVEN, 1, 0),
        ("<a@example.org>", " NOTIFY=SUCCESS,DELAY", FORGED, 1, 0),
        ("<>", "", PROVEN, 1, 0),
    ] {
        let recipient = format!("bad{parameters}");
        let notices = play(plan(1), async move |node| {
            node.bring(sender, &[&recipient], "x").await;
            node.authenticate(bits).await;
            node.wait_until(|node| node.ended() != NOTHING || node.held() > 0).await;
            node.clock.sleep(HOUR).await;
            assert_eq!(
                (node.ended(), node.held()),
                (bounced_and_delivered(bounced, 0), held),
                "{sender} {recipient}"
            );
        });
        assert_eq!(notices, [] as [String; 0], "{sender} {parameters}");
    }
    // Never known: as if forged, once it is too late to come.
    let notices = play(plan(1), async |node| {
        node.bring("<a@example.org>", &["bad"], "x").await;
        node.wait_until(|node| node.held() == 1).await;
        assert_eq!(node.ended(), NOTHING);
    });
    assert_eq!(notices.len(), 0);
}

#[test]
fn a_crash_at_any_step_leaves_one_notice() {
    let (mut repeats, mut crashes) = (0, 0);
    for shards in [1, 2] {
        // Up to the last one some 150 steps are left.
        for (seed, steps) in (0..320).map(|number| (number / 160, 1 + number % 160)) {
            let (disk, taken) = (SimDisk::new(seed, DISK_OCTETS), Rc::default());
            let manner: Manner = Rc::new(refuses);
            let early = Rc::new(Cell::new(false));
            let told = Rc::clone(&early);
            let cut =
                live(&disk, seed, steps, plan(shards), &taken, Rc::clone(&manner), async move |node, now| {
                    node.primary.up.set(false);
                    node.bring("<a@example.org>", &["one", "two"], "spam").await;
                    node.authenticate(PROVEN).await;
                    node.primary.up.set(true);
                    now.set(true);
                    node.wait_until(|node| {
                        node.ended() == bounced_and_delivered(2, 0) && node.has_brought_all()
                    })
                    .await;
                    told.set(true);
                });
            crashes += u32::from(!early.get());
            let after = live(&cut, seed + 1_000, u64::MAX, plan(shards), &taken, manner, async |node, _| {
                node.wait_until(|node| node.ended() == bounced_and_delivered(2, 0) && node.has_brought_all())
                    .await;
                assert_eq!(node.held(), 0);
            });
            whole(&after);
            let taken = taken.take();
            let notices: Vec<&Taken> = taken.iter().filter(|taken| is_notice(taken)).collect();
            let line = |notice: &&Taken| {
                notice.body.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned)
            };
            let ids: BTreeSet<_> = notices.iter().filter_map(line).collect();
            assert_eq!(ids.len(), 1, "{shards} shards, seed {seed}, {steps} steps: {ids:?}");
            assert!(notices.len() <= 2, "what was on its way to the smarthost comes twice at most (P4)");
            repeats += notices.len() - 1;
        }
    }
    println!("{crashes} crashes, {repeats} repeats");
    assert!(crashes > 50, "a test in which little is cut off proves little: {crashes}");
}

#[test]
fn what_is_past_its_retention_is_told_to_those_who_are_proven() {
    let mut plan = plan(1);
    plan.config.domains[0].retention = 10 * HOUR;
    plan.config.domains[0].held_retention = 20 * HOUR;
    let notices = play(plan, async |node| {
        node.primary.up.set(false);
        // Else they would have been received nobody knows when.
        node.clock.sleep(HOUR).await;
        node.bring("<a@example.org>", &["one", "two NOTIFY=NEVER"], "x").await;
        node.authenticate(PROVEN).await;
        node.clock.sleep(Duration::from_secs(1)).await;
        node.bring("<b@example.org>", &["three"], "y").await;
        node.wait_until(|node| node.held() == 1).await;
        node.wait_until(|node| node.ended() == [1, 0, 0, 0, 0, 1]).await;
        // Held mail ends without a notice (H48).
        node.wait_until(|node| node.ended() == [1, 0, 0, 0, 0, 2] && node.held() == 0).await;
        node.primary.up.set(true);
        node.wait_until(Node::has_brought_all).await;
    });
    let [notice] = &notices[..] else { panic!("one notice: {notices:#?}") };
    assert!(notice.contains("To: <a@example.org>\r\n") && notice.contains("Status: 5.4.7\r\n"), "{notice}");
    assert!(notice.contains("one@example.test") && !notice.contains("two@"), "{notice}");
}

#[test]
fn a_notice_that_nobody_takes_ends_by_itself() {
    // The smarthost refuses it, or is not there for days.
    for is_there in [true, false] {
        let notices = play(plan(1), async move |node| {
            let sender = if is_there { "<bad@example.org>" } else { "<a@example.org>" };
            node.primary.refuses.set(Some([192, 0, 2, 9].into()).filter(|_| !is_there));
            // What came in the first second of 1970 came at a time that is not known, and never expires.
            node.clock.sleep(Duration::from_secs(1)).await;
            node.bring(sender, &["bad"], "x").await;
            node.authenticate(PROVEN).await;
            let from = node.clock.now();
            node.wait_until(|node| node.ended() == bounced_and_delivered(1, 0)).await;
            node.wait_until(Node::has_brought_all).await;
            let took = node.clock.now() - from;
            let usage = node.shards[0].lanes.usage_of(NOTICES_DOMAIN);
            let end = if is_there { UnitEnd::Discarded } else { UnitEnd::Expired };
            assert_eq!((usage.accepted(), usage.ended(end)), (1, 1), "{is_there}");
            assert!(is_there || took > NOTICE_RETENTION - HOUR, "{took:?}");
            assert_eq!(node.ended(), bounced_and_delivered(1, 0), "its unit has ended");
        });
        assert_eq!(notices.len(), 0);
    }
}

#[test]
fn what_microsoft_means_for_later_ends_nothing() {
    let (disk, taken) = (SimDisk::new(1, DISK_OCTETS), Rc::<RefCell<Vec<Taken>>>::default());
    // Primary and smarthost are theirs: both mailboxes are over their rates for a while, and then one is unknown.
    let manner: Manner = Rc::new(|turn| match (turn.at, turn.recipient) {
        (At::Recipient, "busy" | "bad") if turn.since < HOUR => Act::Reply("554 5.2.122 over its limit"),
        (At::Recipient, "bad") => Act::Reply("550 5.1.10 RESOLVER.ADR.RecipientNotFound"),
        (At::Recipient, "a") if turn.since < 6 * HOUR => Act::Reply("554 5.2.121 one sender's share"),
        _ => Act::Regular,
    });
    let mut plan = plan(1);
    plan.config.domains[0].max_connections = 5;
    let after = live(&disk, 1, u64::MAX, plan, &taken, manner, async |node, _| {
        node.primary.name.replace("AM1PEPF0001.mail.protection.outlook.com".to_owned());
        let began = node.clock.now();
        for number in 0..20 {
            for recipient in ["busy", "good"] {
                node.bring("<a@example.org>", &[recipient], &number.to_string()).await;
            }
        }
        node.bring("<a@example.org>", &["bad"], "x").await;
        node.authenticate(PROVEN).await;
        node.wait_until(|node| node.ended()[3] >= 20).await;
        assert!(node.clock.now() - began < HOUR / 2, "who is not over his rate waits for nobody");
        assert_eq!((node.ended(), node.held()), (bounced_and_delivered(0, 20), 0), "put off, and no more");
        node.wait_until(|node| node.ended() == bounced_and_delivered(1, 40)).await;
        node.wait_until(Node::has_brought_all).await;
        assert!(node.clock.now() - began >= 6 * HOUR);
        let usage = node.shards[0].lanes.usage_of(NOTICES_DOMAIN);
        assert_eq!((usage.accepted(), usage.ended(UnitEnd::Delivered), node.held()), (1, 1, 0));
    });
    whole(&after);
    assert_eq!(taken.borrow().iter().filter(|taken| is_notice(taken)).count(), 1);
}

#[test]
fn a_notice_does_not_leave_before_its_units_are_settled() {
    play(plan(1), async |node| {
        node.bring("<a@example.org>", &["bad"], "x").await;
        node.shards[0].empty_inbox();
        let stamp = node.lane().queue.borrow().stamps(Stamp::NONE, None, 1)[0];
        let usage = Arc::clone(&node.shards[0].snapshot.borrow().usage);
        // As if that were not durable yet.
        usage.owing().begin(DOMAIN, stamp.0);
        node.authenticate(PROVEN).await;
        node.wait_until(|node| node.ended() == bounced_and_delivered(1, 0)).await;
        node.clock.sleep(HOUR).await;
        assert!(!node.has_brought_all());
        usage.owing().end(DOMAIN, stamp.0);
        node.wait_until(Node::has_brought_all).await;
    });
}
