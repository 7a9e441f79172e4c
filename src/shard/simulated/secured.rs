//! TLS with a primary, by what it offers and what the domain wants.

use super::many::{plan, play, send_to_all};
use super::primary::Tls;
use crate::config::PrimaryTls::{self, None, Opportunistic, Require};
use core::net::IpAddr;
use core::time::Duration;
use storage::clock::Clock;

const MINUTE: Duration = Duration::from_secs(60);

/// What becomes of a message: whether it came through TLS; or it waits.
fn deliver(policy: PrimaryTls, tls: Tls) -> Option<bool> {
    let mut plan = plan(1, MINUTE, |_| IpAddr::from([192, 0, 2, 1]));
    plan.config.domains[0].tls = policy;
    let (told, outcome) = std::sync::mpsc::channel();
    play(plan, async move |shard, primary, clock, spawn| {
        primary.up.set(true);
        primary.tls.set(tls);
        send_to_all(&shard, &spawn, 1).await;
        clock.sleep(3 * MINUTE).await;
        let first = primary.taken.borrow().first().map(|taken| taken.is_secured);
        assert!(primary.taken.borrow().len() <= 1, "once");
        if first.is_none() {
            // It waits, and goes as soon as that can be.
            assert_eq!(shard.counters.held.value(), 0);
            primary.tls.set(Tls::Offered);
            clock.sleep(2 * MINUTE).await;
            assert!(primary.taken.borrow().first().is_some_and(|taken| taken.is_secured));
        }
        told.send(first).expect("the test listens");
    });
    outcome.recv().expect("the story told it")
}

#[test]
fn tls_is_used_as_the_domain_wants_it_and_never_lost_unnoticed() {
    for (policy, tls, expected) in [
        (None, Tls::Offered, Some(false)),
        (None, Tls::Not, Some(false)),
        (Opportunistic, Tls::Offered, Some(true)),
        (Opportunistic, Tls::Not, Some(false)),
        (Opportunistic, Tls::Refused, Some(false)),
        (Opportunistic, Tls::Broken, Some(false)),
        (Require, Tls::Offered, Some(true)),
        (Require, Tls::Not, Option::None),
        (Require, Tls::Refused, Option::None),
        (Require, Tls::Broken, Option::None),
    ] {
        assert_eq!(deliver(policy, tls), expected, "{policy} and {tls:?}");
    }
}
