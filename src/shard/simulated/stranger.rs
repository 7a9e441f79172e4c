//! Another machine answers where the primary was (H41): who is a stranger and who is not, and that nothing which he takes is lost.

use super::manner::{Act, At, Manner};
use super::net::{DOMAIN, Node, plan, play};
use super::primary::{Tls, Xclient};
use super::{DISK_OCTETS, converse, greeted};
use crate::bridge::operator::{Request, State, Thawed};
use crate::bridge::{Change, Memory};
use crate::config::WhenUp;
use crate::limits::{ACQUAINTANCE_AGE, STRANGER_AGE};
use crate::shard::backlog::Health;
use crate::smtp::reply::UNKNOWN_RECIPIENT_550;
use crate::smtp::server::RecipientVerdict;
use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::SimDisk;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(2 * ACQUAINTANCE_AGE.as_secs());

/// It knows two.
fn ordinary(name: &str) -> RecipientVerdict<'static> {
    match name {
        "b" | "c" | "postmaster" => RecipientVerdict::Accept,
        _ => RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550),
    }
}

fn anybody(_: &str) -> RecipientVerdict<'static> {
    RecipientVerdict::Accept
}

impl Node {
    /// The machine that is there from here on.
    fn becomes(&self, name: &str, withheld: &[&str], judges: fn(&str) -> RecipientVerdict<'static>) {
        self.primary.name.replace(name.to_owned());
        self.primary.withheld.replace(withheld.iter().map(|keyword| (*keyword).to_owned()).collect());
        self.primary.judges.set(judges);
        self.primary.taken.borrow_mut().clear();
    }

    fn becomes_ours(&self) {
        self.becomes("mail.example.test", &[], ordinary);
    }

    /// It says 250 to all, and is not ours.
    fn becomes_a_rescue_system(&self) {
        self.becomes("rescue.hoster.test", &["CHUNKING", "DSN"], anybody);
    }

    /// So many messages are handed over to ours.
    async fn know(&self, messages: usize) {
        self.becomes_ours();
        self.primary.up.set(true);
        self.bring(messages).await;
        self.delivered(2 * messages).await;
        self.clock.sleep(SECOND).await;
        assert_eq!(self.status().await.state, State::Up);
        assert!(!self.memory().known.is_empty(), "it was learned");
    }

    /// It goes, and so many come meanwhile.
    async fn outage(&self, messages: usize) {
        self.primary.up.set(false);
        self.bring(messages).await;
        while self.health() != Health::Down {
            self.clock.sleep(SECOND).await;
        }
    }

    fn health(&self) -> Health {
        self.shard.lanes.of(DOMAIN).map(|lane| lane.health.get()).unwrap_or_default()
    }

    fn memory(&self) -> Memory {
        self.shard.lanes.usage_of(DOMAIN).acquaintance.memory()
    }

    async fn change(&self) -> Option<Change> {
        self.status().await.primary_changed
    }

    /// Messages of which copies are kept.
    async fn kept(&self) -> usize {
        let (mut kept, mut after) = (0, 0);
        loop {
            let page = self.copies(true, after).await;
            kept += page.copies.len();
            let Some(more) = page.more else { return kept };
            after = more;
        }
    }

    async fn taken(&self, messages: usize) {
        while self.primary.taken.borrow().len() < messages {
            self.clock.sleep(SECOND / 100).await;
        }
    }
}

fn live(story: impl AsyncFn(&Node) + 'static) {
    play(&SimDisk::new(1, DISK_OCTETS), 1, true, plan(), story);
}

#[test]
fn h41_what_a_rescue_system_took_is_kept_by_itself_and_goes_to_the_right_primary() {
    live(async |node| {
        node.know(3).await;
        assert_eq!((node.kept().await, node.change().await), (0, None), "nothing is kept without a reason");
        node.outage(40).await;
        node.becomes_a_rescue_system();
        node.primary.up.set(true);
        node.delivered(2 * 43).await;
        let change = node.change().await.expect("it is told");
        assert!(change.what.contains("name mail.example.test -> rescue.hoster.test"), "{change:?}");
        assert!(change.what.contains("refused -> accepted"), "{change:?}");
        assert_eq!(node.kept().await, 40, "all of the drain, and nothing from before it");
        node.outage(1).await;
        node.becomes_ours();
        node.primary.up.set(true);
        node.delivered(2 * 44).await;
        node.primary.taken.borrow_mut().clear();
        // What came last went to ours, and is kept too: he may be there again.
        assert_eq!(node.replay().await.messages, 41);
        node.delivered(2 * 44 + 41).await;
        let mut expected: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        expected.push("0".to_owned());
        assert_eq!(node.subjects(), expected, "all of it, in its order");
        let status = node.status().await;
        assert_eq!((status.accepted, status.replayed, status.backlog), (2 * 44 + 41, 41, 0), "nothing twice");
        assert_eq!(node.replay().await.messages, 0);
        // A day after he was met last all is as it was.
        node.clock.sleep(STRANGER_AGE + 60 * SECOND).await;
        node.bring(1).await;
        node.clock.sleep(60 * SECOND).await;
        assert_eq!((node.change().await, node.kept().await), (None, 0));
    });
}

/// A short outage, or one in which no mail came, is not seen: he is met with canaries all the same.
#[test]
fn h41_an_outage_that_nobody_saw_is_one() {
    live(async |node| {
        node.know(3).await;
        node.clock.sleep(QUIET).await;
        node.becomes_a_rescue_system();
        node.primary.thinks.set(SECOND);
        node.bring(20).await;
        node.taken(1).await;
        let lane = node.shard.lanes.of(DOMAIN).expect("it has mail");
        assert!(lane.guard.borrow().is_watching() && node.health() == Health::Recovering);
        assert!(lane.guard.borrow().room() <= 5, "canaries");
        node.delivered(2 * 23).await;
        assert_eq!(node.kept().await, 20);
        let known = node.shard.snapshot.borrow().recipients_of(DOMAIN).map(|known| known.is_outage());
        assert_eq!(known, Some(true), "H26: recipients are not learned from him");
    });
}

#[test]
fn a_restart_in_the_middle_of_the_drain_compares_again_and_keeps_on() {
    let file = Rc::new(RefCell::new(Memory::default()));
    let disk = SimDisk::new(1, DISK_OCTETS);
    let written = Rc::clone(&file);
    let disk = play(&disk, 1, true, plan(), async move |node| {
        node.know(3).await;
        written.replace(node.memory());
        node.clock.sleep(60 * SECOND).await;
    });
    let read = Rc::clone(&file);
    let disk = play(&disk, 2, false, plan(), async move |node| {
        node.shard.lanes.usage_of(DOMAIN).acquaintance.restore(read.borrow().clone());
        node.outage(60).await;
        node.becomes_a_rescue_system();
        node.primary.thinks.set(SECOND / 10);
        node.primary.up.set(true);
        node.taken(20).await;
        assert!(node.change().await.is_some());
        // The power fails before that is written down.
    });
    let read = Rc::clone(&file);
    play(&disk, 3, false, plan(), async move |node| {
        let acquaintance = &node.shard.lanes.usage_of(DOMAIN).acquaintance;
        assert!(!acquaintance.keeps_copies(node.shard.wall_s()));
        acquaintance.restore(read.borrow().clone());
        node.becomes_a_rescue_system();
        node.primary.up.set(true);
        node.delivered(2 * 63).await;
        assert!(node.change().await.is_some());
        assert_eq!(node.kept().await, 60, "before the failure and behind it");
    });
}

#[test]
fn a_farm_is_no_alarm_and_neither_is_a_renewed_key() {
    live(async |node| {
        node.primary.tls.set(Tls::Offered);
        node.know(3).await;
        let other = || node.becomes("node2.farm.test", &["CHUNKING", "DSN"], ordinary);
        other();
        node.bring(1).await;
        node.delivered(2 * 4).await;
        node.clock.sleep(SECOND).await;
        assert!(node.memory().known.len() >= 2, "another machine, while all is well");
        for (count, is_other) in [(5, true), (6, false), (7, true)] {
            node.outage(1).await;
            if is_other {
                other()
            } else {
                node.becomes_ours()
            }
            // Each session shows a key of its own.
            node.primary.up.set(true);
            node.delivered(2 * count).await;
            node.clock.sleep(SECOND).await;
        }
        assert_eq!((node.change().await, node.kept().await), (None, 0));
    });
}

#[test]
fn a_host_that_takes_anybody_now_is_another_whatever_else_it_shows() {
    live(async |node| {
        node.know(3).await;
        node.outage(5).await;
        node.primary.judges.set(anybody);
        node.primary.up.set(true);
        node.delivered(2 * 8).await;
        assert!(node.change().await.is_some_and(|change| change.what.contains("refused -> accepted")));
        assert_eq!(node.kept().await, 5);
    });
}

/// Some end the session over a recipient that does not exist: mail goes, at once.
#[test]
fn a_host_that_ends_sessions_over_nobody_gets_its_mail() {
    live(async |node| {
        node.know(3).await;
        let closes: Manner = Rc::new(|turn| match turn.at {
            At::Recipient if turn.recipient.starts_with("no-such-user") => Act::Close,
            _ => Act::Regular,
        });
        node.outage(5).await;
        node.primary.manner.replace(Some(closes));
        node.primary.up.set(true);
        node.delivered(2 * 8).await;
        assert_eq!((node.change().await, node.status().await.state), (None, State::Up));
    });
}

#[test]
fn a_new_server_of_the_same_people_is_known_when_it_has_shown_itself_or_the_operator_says_so() {
    live(async |node| {
        node.know(3).await;
        node.outage(5).await;
        node.becomes("new.example.test", &["DSN", "ETRN"], ordinary);
        node.primary.up.set(true);
        node.delivered(2 * 8).await;
        node.clock.sleep(SECOND).await;
        assert_eq!(node.change().await, None, "it takes whom the old one took, and refuses nobody's mail");
        assert_eq!(node.kept().await, 5, "all the same");
        assert_eq!(node.memory().known.len(), 2);
        node.outage(1).await;
        node.becomes_a_rescue_system();
        node.primary.up.set(true);
        node.delivered(2 * 9).await;
        assert!(node.change().await.is_some());
        let thaw = || node.shards.ask(|answer| Request::Thaw(DOMAIN.into(), answer));
        let was = |thawed: Vec<Thawed>| thawed.first().map(|was| (was.was_frozen, was.was_changed));
        assert_eq!(was(thaw().await.expect("it answers")), Some((false, true)));
        assert_eq!(was(thaw().await.expect("it answers")), Some((false, false)), "once");
        let kept = node.kept().await;
        node.bring(1).await;
        node.delivered(2 * 10).await;
        assert_eq!((node.change().await, node.kept().await), (None, kept));
    });
}

#[test]
fn h41_nothing_is_carried_through_to_a_stranger() {
    let mut plan = plan();
    plan.config.domains[0].when_up = WhenUp::Proxy;
    play(&SimDisk::new(1, DISK_OCTETS), 1, true, plan, async |node| {
        node.primary.xclient.set(Xclient::Always);
        node.know(1).await;
        let proxied = || node.shard.lanes.usage_of(DOMAIN).passage.proxied();
        let bring = async || {
            let mut ours = greeted(Rc::clone(&node.shard), &node.spawn).await;
            let envelope = format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@{DOMAIN}>\r\nDATA\r\n");
            converse(&mut ours, envelope.as_bytes(), "354 ").await;
            assert!(converse(&mut ours, b"Subject: x\r\n\r\nx\r\n.\r\n", "250 ").await);
        };
        bring().await;
        assert_eq!(proxied(), 1, "while all is well");
        node.clock.sleep(QUIET).await;
        node.becomes_a_rescue_system();
        for _ in 0..3 {
            bring().await;
            node.clock.sleep(10 * SECOND).await;
        }
        assert_eq!((proxied(), node.kept().await), (1, 3), "it is ours, and kept");
        node.becomes_ours();
        // The lane meets it, and then senders do.
        bring().await;
        node.clock.sleep(10 * SECOND).await;
        bring().await;
        assert_eq!(proxied(), 2);
    });
}
