//! A primary that comes back half restored must not eat what was queued for it (H40, and the bounce guard of DESIGN.md 5).

use super::recipients::{Story, play};
use crate::config::Recipients;
use crate::limits::PROBED_RECIPIENTS_MAX;
use crate::metrics::{Contact, GuardEvent};
use crate::shard::backlog::Health;
use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode, UNKNOWN_RECIPIENT_550};
use crate::smtp::server::RecipientVerdict;
use core::time::Duration;
use storage::clock::Clock;

const HOUR: Duration = Duration::from_secs(3600);

impl Story {
    fn health(&self) -> Health {
        let lanes = self.shard.lanes.all();
        lanes.first().map(|lane| lane.health.get()).unwrap_or_default()
    }

    fn taken(&self) -> usize {
        self.primary.taken.borrow().len()
    }

    fn held(&self) -> u64 {
        self.shard.counters.held.value()
    }

    /// The primary is well and takes a message for each of them.
    async fn know(&mut self, names: &[&str]) {
        self.primary.judges.set(regular);
        for name in names {
            self.send(name).await;
        }
        let count = names.len();
        self.wait_until(|story| story.taken() == count && story.health() == Health::Up).await;
        self.primary.taken.borrow_mut().clear();
    }

    /// The primary goes, and these come for it.
    async fn outage(&mut self, names: &[&str]) {
        self.primary.up.set(false);
        for name in names {
            self.send(name).await;
        }
        self.wait_until(|story| story.health() == Health::Down).await;
    }
}

/// Whole: it knows who is not called spam.
fn regular(name: &str) -> RecipientVerdict<'static> {
    if name.starts_with("spam") { refuses_all(name) } else { RecipientVerdict::Accept }
}

fn refuses_all(_: &str) -> RecipientVerdict<'static> {
    RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550)
}

/// Half of its mailboxes are back.
fn knows_half(name: &str) -> RecipientVerdict<'static> {
    if name.ends_with(['1', '3', '5', '7', '9']) { RecipientVerdict::Accept } else { refuses_all(name) }
}

/// Puts everybody off but one.
fn greylists(name: &str) -> RecipientVerdict<'static> {
    let reply = Reply::new(ReplyCode::new(450), Some(EnhancedCode::new(4, 7, 1)), "come again");
    if name.starts_with("r-") && name != "r-1" { RecipientVerdict::Refuse(reply) } else { regular(name) }
}

const STAFF: [&str; 8] = ["r-1", "r-2", "r-3", "r-4", "r-5", "r-6", "r-7", "r-8"];

#[test]
fn a_half_restored_primary_eats_nothing_and_gets_everything_in_order() {
    for judges in [refuses_all as fn(&str) -> RecipientVerdict<'static>, knows_half] {
        play(Recipients::Any, async move |mut story| {
            story.know(&STAFF).await;
            let queued: Vec<&str> = STAFF.into_iter().cycle().take(40).collect();
            story.outage(&queued).await;
            story.primary.judges.set(judges);
            story.primary.up.set(true);
            story.wait_until(|story| story.health() == Health::Frozen).await;
            let early = story.taken();
            assert!(early <= 6, "it was stopped among the canaries: {early}");
            story.clock.sleep(6 * HOUR).await;
            assert_ne!(story.taken(), queued.len());
            assert_eq!(story.held(), 0, "nothing is final");
            // It is whole again: no operator, no word from anybody.
            story.primary.judges.set(regular);
            story.wait_until(|story| story.taken() == queued.len()).await;
            story.wait_until(|story| story.health() == Health::Up).await;
            assert_eq!(story.held(), 0);
            let counters = &story.shard.counters;
            let events = |event| counters.guard.of(event).value();
            assert!(events(GuardEvent::Frozen) >= 1, "{counters:?}");
            assert_eq!(events(GuardEvent::Frozen), events(GuardEvent::Thawed));
            // It was asked whether it is back before it was, and when it was.
            let probes = |contact| counters.probes.of(contact).value();
            assert!(probes(Contact::Unserved) >= 1 && probes(Contact::Served) >= 1, "{counters:?}");
            assert_eq!(counters.lag.count(), 48, "each message that was taken, once");
        });
    }
}

#[test]
fn h40_spam_among_good_mail_stops_nothing_and_is_judged_in_the_end() {
    play(Recipients::Any, async |mut story| {
        story.know(&STAFF).await;
        let mut queued = Vec::new();
        for (staff, spam) in STAFF.into_iter().zip(["spam-1", "spam-2", "spam-3"].into_iter().cycle()) {
            queued.extend([spam, staff]);
        }
        story.outage(&queued).await;
        story.primary.up.set(true);
        story.wait_until(|story| story.health() == Health::Up).await;
        assert_eq!(story.taken(), STAFF.len());
        assert_eq!(story.held(), STAFF.len() as u64, "as on_reject has it");
    });
}

#[test]
fn with_nobody_known_the_operator_thaws() {
    play(Recipients::Any, async |mut story| {
        story.outage(&["spam-1", "spam-2", "r-1", "r-2", "spam-3"]).await;
        story.primary.judges.set(regular);
        story.primary.up.set(true);
        story.wait_until(|story| story.health() == Health::Frozen).await;
        story.clock.sleep(HOUR).await;
        assert_eq!((story.health(), story.taken(), story.held()), (Health::Frozen, 0, 0));
        assert!(story.shard.lanes.thaw("example.test", story.clock.now()));
        story.wait_until(|story| story.health() == Health::Up).await;
        assert_eq!((story.taken(), story.held()), (2, 3));
        assert!(!story.shard.lanes.thaw("example.test", story.clock.now()), "it is not frozen");
    });
}

#[test]
fn a_probe_that_is_put_off_decides_nothing() {
    play(Recipients::Any, async |mut story| {
        story.know(&STAFF).await;
        story.outage(&["spam-1", "r-1"]).await;
        story.primary.judges.set(greylists);
        story.primary.up.set(true);
        story.clock.sleep(HOUR).await;
        assert_eq!(story.held(), 0, "nothing is final");
        assert_ne!(story.health(), Health::Frozen, "and nothing speaks against it");
        story.primary.judges.set(regular);
        story.wait_until(|story| story.held() == 1).await;
        story.wait_until(|story| story.health() == Health::Up).await;
        // Nothing but mail was ever delivered, also not to those that were asked for.
        assert_eq!(story.taken(), 1);
        const { assert!(PROBED_RECIPIENTS_MAX > 1, "one of those that are asked for is put off") };
    });
}
