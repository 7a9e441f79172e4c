//! What a clock decides at the edge: who says nothing where a PROXY header or a handshake is due, who sends an octet now
//! and then, and what is said while memory is short.

use super::super::accept;
use super::super::link::Link;
use super::{DISK_OCTETS, MemoryLink, SimShard, SimSpawn, converse, primary_of, start};
use crate::bridge::{Certificates, Snapshot, server_config};
use crate::config::Config;
use crate::limits::{
    DATA_PACE_WINDOW, HANDSHAKES_A_SHARD_MAX, PROXY_HEADER_TIMEOUT, RECEIVE_OCTETS_A_SHARD, SWEEP_INTERVAL,
    TARPIT_PAUSE, TLS_HANDSHAKE_TIMEOUT, UNHURT_ERRORS_MAX,
};
use crate::metrics::{Admission, Class, Handshake};
use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

/// A shard that trusts 192.0.2.1 as a balancer and offers TLS, and what connects to it.
struct Edge {
    shard: Rc<SimShard>,
    spawn: SimSpawn,
    clock: SimClock,
}

impl Edge {
    /// The other end of a connection from `peer`.
    async fn connect(&self, peer: [u8; 4]) -> MemoryLink {
        let (ours, theirs) = MemoryLink::pair();
        accept::admit(&self.shard, theirs, SocketAddr::from((peer, 25_000)), &self.spawn).await;
        ours
    }

    /// The same, greeted.
    async fn greeted(&self, peer: [u8; 4]) -> MemoryLink {
        let mut link = self.connect(peer).await;
        assert!(converse(&mut link, b"", "220 ").await);
        link
    }

    /// Reads to the end of the stream: what was said, and how long it took.
    async fn listen(&self, link: &mut MemoryLink) -> (String, Duration) {
        let start = self.clock.now();
        let (mut heard, mut memory) = (Vec::new(), [0; 256]);
        while let Ok(count @ 1..) = link.read(&mut memory).await {
            heard.extend_from_slice(&memory[..count]);
        }
        (String::from_utf8_lossy(&heard).into_owned(), self.clock.now() - start)
    }
}

/// Runs `story` on a shard to its end.
fn play<F: Future<Output = ()> + 'static>(story: impl FnOnce(Edge) -> F + 'static) {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let (told, done) = (Rc::new(Cell::new(false)), clock.clone());
    let ended = Rc::clone(&told);
    super::Spawn::spawn(&spawn.clone(), async move {
        let shard = start(SimDisk::new(1, DISK_OCTETS), clock.clone(), spawn.clone(), primary).await;
        let mut config = Config::embedded();
        config.storage.min_free_space_bytes = 0;
        config.smtp.proxy_from = vec!["192.0.2.1".parse().expect("a network")];
        let tls = server_config(Certificates::new(Vec::new())).expect("random octets");
        let snapshot = Snapshot::new(config, Arc::default()).with_tls(tls);
        *shard.snapshot.borrow_mut() = Arc::new(snapshot);
        story(Edge { shard, spawn, clock }).await;
        ended.set(true);
    });
    while !told.get() {
        assert!(executor.step() && done.now() < Duration::from_secs(7_200), "the story ends");
    }
}

fn assert_about(found: Duration, expected: Duration) {
    assert!(expected <= found && found <= expected + 2 * SWEEP_INTERVAL, "{found:?}, not {expected:?}");
}

#[test]
fn a_balancer_that_says_nothing_is_closed_without_a_word() {
    play(async |edge| {
        let mut link = edge.connect([192, 0, 2, 1]).await;
        let _ = link.write(b"\r\n\r\n\0\r\n").await;
        let (said, took) = edge.listen(&mut link).await;
        assert_eq!(said, "");
        assert_about(took, PROXY_HEADER_TIMEOUT);
        assert!(edge.shard.receiving.caps.enter(1).is_some(), "and its place came back");
        assert_eq!(edge.shard.counters.connections.of(Admission::BadHeader).value(), 1);
    });
}

#[test]
fn a_header_in_single_octets_is_a_header() {
    play(async |edge| {
        let mut link = edge.connect([192, 0, 2, 1]).await;
        let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\x7f\0\0\x01\x12\x34\0\x19";
        for octet in header {
            let _ = link.write(&[*octet]).await;
            edge.clock.sleep(Duration::from_millis(10)).await;
        }
        assert!(converse(&mut link, b"", "220 ").await);
    });
}

#[test]
fn a_handshake_that_does_not_come_ends_the_connection() {
    play(async |edge| {
        let mut link = edge.greeted([198, 51, 100, 7]).await;
        assert!(converse(&mut link, b"EHLO client.example\r\n", "250 HELP").await);
        assert!(converse(&mut link, b"STARTTLS\r\n", "220 2.0.0").await);
        let (said, took) = edge.listen(&mut link).await;
        assert_eq!(said, "");
        assert_about(took, TLS_HANDSHAKE_TIMEOUT);
        let counters = &edge.shard.counters;
        let counted = |outcome| counters.handshakes.of(outcome).value();
        assert_eq!((counted(Handshake::Failed), counted(Handshake::Completed)), (1, 0));
        assert_eq!(counters.replies.values().collect::<Vec<_>>()[0], ("2xx", 2), "EHLO and STARTTLS");
    });
}

#[test]
fn an_octet_now_and_then_is_too_slow() {
    play(async |edge| {
        let mut link = edge.greeted([198, 51, 100, 7]).await;
        let envelope = b"HELO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@example.test>\r\nDATA\r\n";
        assert!(converse(&mut link, envelope, "354 ").await);
        let (mut said, start) = (Vec::new(), edge.clock.now());
        while said.is_empty() {
            let _ = link.write(b"x").await;
            edge.clock.sleep(Duration::from_secs(1)).await;
            if link.has_unread() {
                said = edge.listen(&mut link).await.0.into_bytes();
            }
        }
        assert!(said.starts_with(b"421 4.4.2"), "{said:?}");
        assert_about(edge.clock.now() - start, DATA_PACE_WINDOW);
    });
}

#[test]
fn who_errs_too_often_waits_and_nobody_else_does() {
    play(async |edge| {
        let mut client = edge.greeted([198, 51, 100, 7]).await;
        let mut other = edge.greeted([198, 51, 100, 8]).await;
        let start = edge.clock.now();
        for _ in 0..UNHURT_ERRORS_MAX {
            assert!(converse(&mut client, b"NONSENSE\r\n", "500 ").await);
        }
        assert_eq!(edge.clock.now(), start, "the first errors are free");
        let _ = client.write(b"NONSENSE\r\n").await;
        assert!(converse(&mut other, b"NONSENSE\r\n", "500 ").await);
        assert_eq!(edge.clock.now(), start, "another client is served meanwhile");
        assert!(!client.has_unread());
        assert!(converse(&mut client, b"", "500 ").await);
        assert_about(edge.clock.now() - start, TARPIT_PAUSE);
        let held = edge.clock.now();
        assert!(converse(&mut client, b"NOOP\r\n", "250 ").await);
        assert_eq!(edge.clock.now(), held, "what is no error is answered at once");
    });
}

/// Who errs until his 220 is held back has his place among the handshakes all the same.
#[test]
fn p7_a_handshake_counts_from_the_word_that_it_may_begin() {
    play(async |edge| {
        let mut client = edge.greeted([198, 51, 100, 7]).await;
        let nonsense = b"NONSENSE\r\n".repeat(usize::try_from(UNHURT_ERRORS_MAX + 1).expect("few"));
        let _ = client.write(&[&b"EHLO client.example\r\n"[..], &nonsense, b"STARTTLS\r\n"].concat()).await;
        edge.clock.sleep(TARPIT_PAUSE / 2).await;
        let snapshot = Arc::clone(&edge.shard.snapshot.borrow());
        let admit = || edge.shard.receiving.admit_handshake(&snapshot).ok();
        let places: Vec<_> = core::iter::from_fn(admit).collect();
        assert_eq!(places.len() + 1, usize::try_from(HANDSHAKES_A_SHARD_MAX).expect("few"));
        drop(client);
        edge.clock.sleep(2 * TLS_HANDSHAKE_TIMEOUT).await;
        assert!(admit().is_some(), "and it ends with the session");
    });
}

#[test]
fn p7_short_memory_is_told_to_who_comes_and_to_who_begins() {
    play(async |edge| {
        let mut before = edge.greeted([198, 51, 100, 7]).await;
        assert!(converse(&mut before, b"EHLO client.example\r\n", "250 HELP").await);
        edge.shard.receiving.memory.change(0, RECEIVE_OCTETS_A_SHARD);
        let (said, _) = edge.listen(&mut edge.connect([198, 51, 100, 8]).await).await;
        assert!(said.starts_with("421 4.3.1"), "{said}");
        assert!(converse(&mut before, b"MAIL FROM:<a@b.test>\r\n", "452 4.3.1").await);
        assert!(converse(&mut before, b"STARTTLS\r\n", "454 4.7.0").await);
        let counters = &edge.shard.counters;
        assert_eq!(counters.connections.of(Admission::Memory).value(), 1);
        assert_eq!(counters.handshakes.of(Handshake::Refused).value(), 1);
        assert_eq!(counters.replies.of(Class::Transient).value(), 2);
        edge.shard.receiving.memory.change(RECEIVE_OCTETS_A_SHARD, 0);
        assert!(converse(&mut before, b"MAIL FROM:<a@b.test>\r\n", "250 2.1.0").await);
    });
}
