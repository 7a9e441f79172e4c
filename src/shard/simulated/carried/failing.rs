//! A primary that fails underneath while mail is carried through to it: at every point, late, and with the power failing too.

use super::super::manner::{Act, At, Manner};
use super::super::node::{self, Plan};
use super::super::primary::{Xclient, primary_of};
use super::super::{DISK_OCTETS, SimSpawn, drain};
use super::{SECOND, Story, play, play_planned, send};
use crate::config::{OnReject, Primary as Host, WhenUp};
use crate::limits::{PROXY_END_TIMEOUT, UPSTREAM_OUTCOME_TIMEOUT};
use crate::shard::mesh::Said;
use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::format::journal_entry::Authentication;
use storage::position::Stamp;
use storage::sim::{Executor, Random, SimClock, SimDisk};

#[test]
fn h21_a_primary_that_fails_underneath_is_the_senders_affair_at_no_point() {
    for (at, act, may_be_twice) in [
        (At::Greeting, Act::Close, false),
        (At::Hello, Act::Reply("421 4.3.2 no time"), false),
        (At::Sender, Act::Close, false),
        (At::Sender, Act::Reply("421 4.3.2 no time"), false),
        (At::Recipient, Act::Close, false),
        (At::Recipient, Act::Wait(Duration::from_secs(90)), false),
        (At::DataStart, Act::Close, false),
        (At::DataStart, Act::Says(b"350 go\r\n"), false),
        (At::DataStart, Act::Says(b"354 go\r\n250 2.0.0 taken\r\n"), false),
        (At::Sender, Act::Says(b"250 ok\r\n250 ok\r\n"), false),
        (At::Data, Act::Close, false),
        (At::DataEnd, Act::Close, false),
        (At::DataEnd, Act::TakeAndClose, true),
        (At::DataEnd, Act::TakeAndHang, true),
        (At::DataEnd, Act::Reply("421 4.3.2 no time"), false),
        (At::DataEnd, Act::Says(b"354 what?\r\n"), true),
    ] {
        for lines in [3, 9_000] {
            play(async move |story| {
                story.warm().await;
                let mut link = story.session().await;
                let times = Rc::new(Cell::new(1));
                story.behaves(move |now| if now == at && times.replace(0) > 0 { act } else { Act::Regular });
                let reply = send(&mut link, &["b@example.test", "c@example.test"], "1", lines).await;
                assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{at:?} {act:?}: {reply}");
                // The next one of the same session is carried, or joins it.
                assert!(
                    send(&mut link, &["b@example.test"], "2", 1).await.starts_with("250 "),
                    "{at:?} {act:?}"
                );
                story.drained().await;
                let subjects = story.subjects();
                let count = |subject: &str| subjects.iter().filter(|taken| *taken == subject).count();
                let first = if may_be_twice { 2 } else { 1 };
                assert_eq!((count("1"), count("2")), (first, 1), "{at:?} {act:?}: {subjects:?}");
                let last_of_first = subjects.iter().position(|subject| subject == "1");
                assert!(
                    last_of_first < subjects.iter().position(|subject| subject == "2"),
                    "{at:?} {act:?}: {subjects:?}"
                );
            });
        }
    }
}

#[test]
fn h21_a_late_answer_settles_what_became_ours() {
    for (thinks, times) in
        [(PROXY_END_TIMEOUT + 30 * SECOND, 1), (PROXY_END_TIMEOUT + UPSTREAM_OUTCOME_TIMEOUT * 2, 2)]
    {
        play(async move |story| {
            story.warm().await;
            let mut link = story.session().await;
            story.primary.thinks.set(thinks);
            let began = story.clock.now();
            let reply = send(&mut link, &["b@example.test", "c@example.test"], "1", 3).await;
            assert!(reply.contains("queued as") && !reply.contains("taken"), "{reply}");
            let waited = story.clock.now() - began;
            assert!(waited >= PROXY_END_TIMEOUT && waited < PROXY_END_TIMEOUT + 10 * SECOND, "{waited:?}");
            story.primary.thinks.set(Duration::ZERO);
            // Somebody who knows that the primary is back does not know better than the primary.
            story.shard.lanes.flush("example.test");
            story.drained().await;
            // Who answers after ten minutes more may have it too.
            story.clock.sleep(2 * UPSTREAM_OUTCOME_TIMEOUT).await;
            assert_eq!(story.subjects().iter().filter(|subject| *subject == "1").count(), times);
            assert_eq!(story.shard.counters.delivered.value(), 1 + 2, "both units, once");
        });
    }
}

/// Its late 5xx is no verdict: it is asked again, and what it says then is weighed and told as any refusal is.
#[test]
fn h21_a_late_refusal_is_told_once_it_is_said_again() {
    let mut plan = Plan::one_shard();
    let domain = &mut plan.config.domains[0];
    (domain.when_up, domain.on_reject) = (WhenUp::Proxy, OnReject::Bounce);
    domain.smarthost = Host::parse("192.0.2.9").ok();
    play_planned(1, plan, async |story| {
        story.warm().await;
        let asked = Rc::new(Cell::new(0));
        let (told, shard) = (Rc::clone(&asked), Rc::clone(&story.shard));
        let manner: Manner = Rc::new(move |turn| match turn.at {
            At::DataEnd if turn.subject == "1" => {
                assert_eq!((shard.counters.notices.value(), shard.counters.bounced.value()), (0, 0));
                told.set(told.get() + 1);
                Act::Reply("554 5.7.1 not this")
            }
            _ => Act::Regular,
        });
        story.primary.manner.replace(Some(manner));
        let mut link = story.session().await;
        story.primary.thinks.set(PROXY_END_TIMEOUT + 30 * SECOND);
        let reply = send(&mut link, &["b@example.test", "c@example.test"], "1", 3).await;
        assert!(reply.contains("queued as"), "{reply}");
        let lane = story.shard.lanes.made("example.test");
        story.until(|_| lane.queue.borrow().len() > 0).await;
        let stamps = lane.queue.borrow().stamps(Stamp::NONE, None, 9);
        for stamp in stamps {
            // SPF passed.
            let authentication = Authentication { stamp, bits: 1 << 8 | 3 };
            story.shard.lanes.annotate(&[Said { domains: vec!["example.test".into()], authentication }]);
        }
        story.clock.sleep(10 * SECOND).await;
        assert_eq!(asked.get(), 0, "it is thinking");
        story.until(|_| asked.get() == 1).await;
        story.primary.thinks.set(Duration::ZERO);
        story.drained().await;
        let counters = &story.shard.counters;
        assert_eq!((asked.get(), counters.notices.value(), counters.bounced.value()), (2, 1, 2));
        let taken = story.primary.taken.borrow();
        let notices: Vec<_> = taken.iter().filter(|taken| taken.recipients == ["a@example.org"]).collect();
        assert_eq!(notices.len(), 1);
        assert!(notices[0].body.contains("b@example.test") && notices[0].body.contains("c@example.test"));
    });
}

#[test]
fn p1_power_fails_at_a_250_behind_a_primary_that_failed() {
    let mut ours = 0;
    for seed in 1..=30 {
        let mut random = Random::new(seed);
        let (disk, clock) = (SimDisk::new(seed, DISK_OCTETS), SimClock::default());
        let mut executor = Executor::new(random.next(), clock.clone());
        let spawn = SimSpawn(executor.spawner());
        let primary = primary_of(&clock, &spawn, true);
        primary.xclient.set(Xclient::Always);
        let (told, on_disk) = (primary.clone(), disk.clone());
        let acknowledged = Rc::new(Cell::new(0));
        let (stop, count) = (1 + random.below(6), Rc::clone(&acknowledged));
        let mut of_story = Random::new(random.next());
        let story = async move {
            let random = &mut of_story;
            let shard = node::start(on_disk, clock.clone(), &spawn, &told, Plan::one_shard()).await.remove(0);
            let story = Story { shard, spawn, clock, primary: told };
            story.warm().await;
            let breaks = Rc::new(Cell::new(random.next()));
            story.behaves(move |at| {
                let mut random = Random::new(breaks.get());
                breaks.set(random.next());
                match random.below(12) {
                    0 => Act::Close,
                    1 if at == At::DataEnd => Act::TakeAndClose,
                    _ => Act::Regular,
                }
            });
            for number in 1.. {
                let mut link = story.session().await;
                let reply = send(&mut link, &["b@example.test"], &number.to_string(), 5).await;
                assert!(reply.starts_with("250 "), "{reply}");
                count.set(number);
                if number == stop {
                    return;
                }
                story.clock.sleep(Duration::from_secs(random.below(90))).await;
            }
        };
        assert!(executor.run(4_000_000, story).is_some(), "seed {seed}: the story ends");
        drop(executor);
        let after = disk.crash();
        let before: Vec<String> = primary.taken.take().into_iter().map(|taken| taken.subject).collect();
        let expected = usize::try_from(acknowledged.get()).expect("few") + 1 - before.len().min(1);
        let later = drain(&after, random.next(), expected);
        for number in 1..=acknowledged.get() {
            let subject = number.to_string();
            assert!(before.contains(&subject) || later.contains(&subject), "seed {seed}: {subject} is lost");
        }
        ours += later.len();
    }
    assert!(ours > 10, "a test in which little fails proves little: {ours}");
}
