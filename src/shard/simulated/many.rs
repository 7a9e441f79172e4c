//! Many domains that are down at once (H49): connections have a bound, a host that many share is asked by one of them, and
//! everything starts again within one probe interval.

use super::node::{self, Plan};
use super::{DISK_OCTETS, Primary, SimShard, SimSpawn, converse, greeted, primary_of};
use crate::config::{Config, Host, Primaries, Primary as Address, Protocol};
use crate::limits::{
    DIAL_TIMEOUT, HOST_STAGGER, OPEN_TIMEOUT, PROBES_A_SHARD_MAX, SESSIONS_A_SHARD_MAX, SWEEP_INTERVAL,
};
use core::net::IpAddr;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

const MINUTE: Duration = Duration::from_secs(60);

/// So many domains, whose primaries have the addresses that `address` gives them.
pub(super) fn plan(domains: u32, retry_interval: Duration, address: fn(u32) -> IpAddr) -> Plan {
    let mut plan = Plan::one_shard();
    let example = Config::embedded().domains.remove(0);
    let domain = |number: u32| {
        let mut domain = example.clone();
        domain.name = format!("{number}.test");
        domain.retry_interval = retry_interval;
        domain.primaries = Primaries::Hosts(vec![Address {
            host: Host::Address(address(number)),
            port: 25,
            protocol: Protocol::Smtp,
        }]);
        domain
    };
    plan.config.domains = (0..domains).map(domain).collect();
    plan
}

/// One domain with two hosts, in order.
fn plan_of_two_hosts() -> Plan {
    let mut plan = plan(1, 5 * MINUTE, |_| IpAddr::from([192, 0, 2, 1]));
    let second =
        Address { host: Host::Address(IpAddr::from([192, 0, 2, 2])), port: 25, protocol: Protocol::Smtp };
    let Primaries::Hosts(hosts) = &mut plan.config.domains[0].primaries else { unreachable!() };
    hosts.push(second);
    plan
}

/// A message for each of the domains.
pub(super) async fn send_to_all(shard: &Rc<SimShard>, spawn: &SimSpawn, domains: u32) {
    let mut link = greeted(Rc::clone(shard), spawn).await;
    for number in 0..domains {
        let envelope = format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@{number}.test>\r\nDATA\r\n");
        converse(&mut link, envelope.as_bytes(), "354 ").await;
        let data = format!("Subject: {number}\r\n\r\n.\r\n");
        assert!(converse(&mut link, data.as_bytes(), "250 2.0.0").await);
    }
}

/// Plays `story` on one shard with `plan`.
pub(super) fn play<F: Future<Output = ()> + 'static>(
    plan: Plan,
    story: impl FnOnce(Rc<SimShard>, Primary, SimClock, SimSpawn) -> F + 'static,
) {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let told = async move {
        let disk = SimDisk::new(1, DISK_OCTETS);
        let shard = node::start(disk, clock.clone(), &spawn, &primary, plan).await.remove(0);
        story(shard, primary, clock, spawn).await;
    };
    assert!(executor.run(50_000_000, told).is_some(), "the story ends");
}

#[test]
fn h49_black_holes_have_a_bound_and_all_drain_within_one_interval_of_their_return() {
    let domains = 900;
    let own_host = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    play(plan(domains, 5 * MINUTE, own_host), async move |shard, primary, clock, spawn| {
        primary.swallows.set(|_| true);
        send_to_all(&shard, &spawn, domains).await;
        clock.sleep(10 * MINUTE).await;
        let (now, most) = primary.dialing.get();
        assert!(most as usize <= PROBES_A_SHARD_MAX + SESSIONS_A_SHARD_MAX, "before it was known: {most}");
        primary.dialing.set((now, now));
        // A reload has all of them look at once.
        shard.lanes.stir();
        clock.sleep(30 * MINUTE).await;
        let (_, most) = primary.dialing.get();
        assert_eq!(most as usize, PROBES_A_SHARD_MAX, "more domains than that were down");
        primary.up.set(true);
        primary.swallows.set(|_| false);
        let started = clock.now();
        while primary.taken.borrow().len() < domains as usize {
            clock.sleep(Duration::from_secs(1)).await;
        }
        let took = clock.now() - started;
        assert!(took <= 5 * MINUTE + DIAL_TIMEOUT + SWEEP_INTERVAL, "{took:?}");
    });
}

#[test]
fn h49_a_host_that_many_domains_share_is_asked_by_one_of_them() {
    let domains = 300;
    let one_host = |_| IpAddr::from([192, 0, 2, 1]);
    play(plan(domains, 5 * MINUTE, one_host), async move |shard, primary, clock, spawn| {
        send_to_all(&shard, &spawn, domains).await;
        clock.sleep(30 * MINUTE).await;
        let before = primary.dialed.get();
        clock.sleep(30 * MINUTE).await;
        let asked = primary.dialed.get() - before;
        assert!((6..=180).contains(&asked), "in 30 minutes, at most once in 10 s: {asked}");
        primary.up.set(true);
        let started = clock.now();
        while primary.taken.borrow().len() < domains as usize {
            clock.sleep(Duration::from_secs(1)).await;
        }
        let took = clock.now() - started;
        assert!(took <= 5 * MINUTE, "who waits for the host hears that it is back: {took:?}");
    });
}

#[test]
fn a_host_that_swallows_everything_does_not_stand_before_the_next_one() {
    play(plan_of_two_hosts(), async move |shard, primary, clock, spawn| {
        primary.up.set(true);
        primary.swallows.set(|address| address == IpAddr::from([192, 0, 2, 1]));
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(HOST_STAGGER + SWEEP_INTERVAL).await;
        assert_eq!(primary.taken.borrow().len(), 1);
        assert_eq!(primary.addresses.take(), ["192.0.2.1:25", "192.0.2.2:25"], "in order");
    });
}

#[test]
fn a_host_that_accepts_and_says_nothing_leaves_the_next_one_its_turn() {
    play(plan_of_two_hosts(), async move |shard, primary, clock, spawn| {
        primary.up.set(true);
        primary.hangs.set(|address| address == IpAddr::from([192, 0, 2, 1]));
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(OPEN_TIMEOUT + 2 * SWEEP_INTERVAL).await;
        assert_eq!(primary.taken.borrow().len(), 1);
    });
}
