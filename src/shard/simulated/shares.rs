//! Who gets how much of what is short: connections that a primary takes, mail that a recipient may get, and a shard's turns
//! between domains.

use super::link::MemoryLink;
use super::manner::{Act, At, Turn};
use super::many::{plan, play};
use super::primary::Primary;
use super::{SimShard, SimSpawn, converse, greeted};
use crate::limits::PACE_REFUSED_PAUSE;
use crate::shard::backlog::Health;
use core::cell::Cell;
use core::net::IpAddr;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::SimClock;

const SECOND: Duration = Duration::from_secs(1);

fn own_host(number: u32) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(number + 1).expect("few")])
}

async fn bring(ours: &mut MemoryLink, number: u32, to: &str) {
    let envelope = format!("MAIL FROM:<m{number}@example.org>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    assert!(converse(ours, envelope.as_bytes(), "354 ").await);
    assert!(converse(ours, format!("Subject: {number}\r\n\r\n.\r\n").as_bytes(), "250 2.0.0 Ok").await);
}

/// Until nothing waits; how long that took, and whether nobody thought of an outage.
async fn drained(shard: &SimShard, primary: &Primary, clock: &SimClock) -> (Duration, bool) {
    let began = clock.now();
    primary.up.set(true);
    shard.lanes.all().iter().for_each(|lane| lane.stirred.notify_all());
    let mut is_well = true;
    loop {
        let lanes = shard.lanes.all();
        let is_idle = lanes.iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get());
        let served = primary.served.get() > 0;
        is_well &= !served
            || lanes
                .iter()
                .all(|lane| !matches!(lane.health.get(), Health::Down | Health::Suspect | Health::Impaired));
        if is_idle {
            return (clock.now() - began, is_well);
        }
        assert!(clock.now() < 100 * 3600 * SECOND, "it ends");
        clock.sleep(Duration::from_millis(10)).await;
    }
}

/// When the messages of a domain were taken, and how many of others between the first and the last.
fn share(primary: &Primary, domain: &str) -> (Duration, usize) {
    let taken = primary.taken.borrow();
    let is_its = |at: usize| taken[at].recipients[0].ends_with(domain);
    let its: Vec<usize> = (0..taken.len()).filter(|at| is_its(*at)).collect();
    let (first, last) = (its[0], its[its.len() - 1]);
    (taken[last].at, last - first + 1 - its.len())
}

/// Ten messages of b beside so many of a; when b was through, and how many of a came in between.
fn beside(many: u32, thinks: Duration) -> (Duration, usize) {
    let told = Rc::new(Cell::new((Duration::ZERO, 0)));
    let result = Rc::clone(&told);
    play(plan(2, SECOND, own_host), async move |shard: Rc<SimShard>, primary, clock, spawn: SimSpawn| {
        let mut ours = greeted(Rc::clone(&shard), &spawn).await;
        for number in 0..many {
            bring(&mut ours, number, &format!("r{}@0.test", number % 60)).await;
        }
        for number in 0..10 {
            bring(&mut ours, 10_000 + number, &format!("r{number}@1.test")).await;
        }
        primary.thinks.set(thinks);
        let began = clock.now();
        drained(&shard, &primary, &clock).await;
        let (at, between) = share(&primary, "1.test");
        told.set((at - began, between));
    });
    result.get()
}

/// HAZARDS, "Fair": with a primary that takes its time by the clock, with one that takes none by turns.
#[test]
fn ten_messages_beside_a_large_drain_take_at_most_twice_their_time_alone() {
    let thinks = Duration::from_millis(50);
    let ((alone, _), (beside_many, between)) = (beside(0, thinks), beside(1500, thinks));
    assert!(between > 0 && beside_many <= 2 * alone, "{alone:?} alone, {beside_many:?} beside, {between}");
    let (_, between) = beside(1500, Duration::ZERO);
    assert!(between > 0 && between <= 20, "{between} of the other in between ten");
}

/// An Exchange server with a limit a source: 421 in place of a greeting is heeded, and says nothing of an outage.
#[test]
fn a_further_connection_that_is_refused_is_pacing_and_no_outage() {
    let mut plan = plan(1, 60 * SECOND, own_host);
    plan.config.domains[0].max_connections = 8;
    play(plan, async |shard: Rc<SimShard>, primary, clock, spawn: SimSpawn| {
        let mut ours = greeted(Rc::clone(&shard), &spawn).await;
        for number in 0..1000 {
            bring(&mut ours, number, &format!("r{number}@0.test")).await;
        }
        clock.sleep(30 * SECOND).await;
        let (live, refused) = (Rc::clone(&primary.live), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&refused);
        primary.served.set(0);
        primary.manner.replace(Some(Rc::new(move |turn: &Turn<'_>| match turn.at {
            At::Greeting if live.get() > 3 => {
                counted.set(counted.get() + 1);
                Act::Reply("421 4.3.2 The maximum number of concurrent connections has exceeded a limit")
            }
            At::DataEnd => Act::Wait(SECOND),
            _ => Act::Regular,
        })));
        let (took, is_well) = drained(&shard, &primary, &clock).await;
        assert_eq!(primary.taken.borrow().len(), 1000);
        assert!(is_well && took < 500 * SECOND, "three at a time: {took:?}");
        let most = took.as_secs() / PACE_REFUSED_PAUSE.as_secs() + 1;
        assert!((1..=most).contains(&refused.get()), "{} refused, {most} at most", refused.get());
    });
}

/// One that refuses all but one, by TCP.
#[test]
fn who_takes_one_connection_gets_everything_over_that() {
    play(plan(1, 60 * SECOND, own_host), async |shard: Rc<SimShard>, primary, clock, spawn: SimSpawn| {
        let mut ours = greeted(Rc::clone(&shard), &spawn).await;
        for number in 0..100 {
            bring(&mut ours, number, &format!("r{number}@0.test")).await;
        }
        clock.sleep(30 * SECOND).await;
        primary.served.set(0);
        let up = Rc::clone(&primary.up);
        primary.manner.replace(Some(Rc::new(move |turn: &Turn<'_>| {
            // It listens no more when it has one.
            up.set(false);
            if turn.at == At::DataEnd { Act::Wait(SECOND) } else { Act::Regular }
        })));
        let (took, is_well) = drained(&shard, &primary, &clock).await;
        assert!(is_well && took < 130 * SECOND, "{took:?}");
        assert!(primary.served.get() == 1 && primary.taken.borrow().len() == 100);
    });
}

/// One that takes further connections and never greets them: nothing waits for those, also what comes later.
#[test]
fn a_further_connection_that_is_never_greeted_delays_nothing() {
    play(plan(1, 60 * SECOND, own_host), async |shard: Rc<SimShard>, primary, clock, spawn: SimSpawn| {
        let mut ours = greeted(Rc::clone(&shard), &spawn).await;
        for number in 0..20 {
            bring(&mut ours, number, &format!("r{number}@0.test")).await;
        }
        clock.sleep(30 * SECOND).await;
        primary.served.set(0);
        let (live, hangs) = (Rc::clone(&primary.live), Rc::new(Cell::new(true)));
        let still = Rc::clone(&hangs);
        primary.manner.replace(Some(Rc::new(move |turn: &Turn<'_>| match turn.at {
            At::Greeting if still.get() && live.get() > 1 => Act::Wait(3600 * SECOND),
            At::DataEnd => Act::Wait(SECOND / 10),
            _ => Act::Regular,
        })));
        let (took, is_well) = drained(&shard, &primary, &clock).await;
        assert!(is_well && took < 10 * SECOND && primary.served.get() > 1, "{took:?}");
        hangs.set(false);
        bring(&mut ours, 20, "late@0.test").await;
        clock.sleep(SECOND).await;
        assert_eq!(primary.taken.borrow().len(), 21);
    });
}

/// A mailbox at Google gets no more than its rate, in order; mail for others passes it.
#[test]
fn a_recipient_who_had_his_share_holds_up_nobody_else() {
    play(plan(1, 60 * SECOND, own_host), async |shard: Rc<SimShard>, primary, clock, spawn: SimSpawn| {
        primary.name.replace("mx.google.com".to_owned());
        let mut ours = greeted(Rc::clone(&shard), &spawn).await;
        for number in 0..400 {
            let to = if number % 4 == 0 { format!("o{}", number % 40) } else { "Hot".to_owned() };
            bring(&mut ours, number, &format!("{to}@0.test")).await;
        }
        let both =
            "MAIL FROM:<both@example.org>\r\nRCPT TO:<hot@0.test>\r\nRCPT TO:<late@0.test>\r\nDATA\r\n";
        assert!(converse(&mut ours, both.as_bytes(), "354 ").await);
        assert!(converse(&mut ours, b"Subject: 400\r\n\r\n.\r\n", "250 2.0.0 Ok").await);
        bring(&mut ours, 401, "late@0.test").await;
        let began = clock.now();
        let (took, is_well) = drained(&shard, &primary, &clock).await;
        assert!(is_well);
        let taken = primary.taken.borrow();
        let of = |name: &str| -> Vec<(u32, Duration)> {
            let its = taken.iter().filter(|taken| taken.recipients.iter().any(|to| to.starts_with(name)));
            its.map(|taken| (taken.subject.parse().expect("a number"), taken.at - began)).collect()
        };
        let (hot, others, late) = (of("hot"), of("o"), of("late"));
        let hot = [of("Hot"), hot].concat();
        assert_eq!((hot.len(), others.len(), late.len(), taken.len()), (301, 100, 2, 402));
        assert!(hot.is_sorted() && late.is_sorted(), "in order, also behind who waits: {late:?}");
        assert!(others.iter().all(|(_, at)| *at < 10 * SECOND), "{others:?}");
        for (at, (_, begin)) in hot.iter().enumerate() {
            let within = hot[at..].iter().take_while(|(_, end)| *end < *begin + 60 * SECOND).count();
            assert!(within <= 60, "{within} within a minute");
        }
        assert!(took < 400 * SECOND, "{took:?}");
    });
}
