//! Who has our name servers asked about him, and when.

use super::node::{self, Plan};
use super::{DISK_OCTETS, MemoryLink, SimSpawn, converse, primary_of};
use crate::bridge::{AuthenticationQuestion, lookup_channel};
use crate::shard::connection;
use crate::shard::link::Spawn;
use core::net::SocketAddr;
use std::rc::Rc;
use storage::sim::{Executor, SimClock, SimDisk};

/// P7: else whoever says MAIL and goes takes all places for questions.
#[test]
fn a_sender_is_asked_about_at_the_first_recipient_that_wants_it() {
    let (lookup, asked) = lookup_channel();
    let mut plan = Plan { lookup, ..Plan::one_shard() };
    let mut other = plan.config.domains[0].clone();
    other.name = "off.test".to_owned();
    other.authenticate = false;
    plan.config.domains.push(other);
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let story = async move {
        let shard = node::start(SimDisk::new(1, DISK_OCTETS), clock, &spawn, &primary, plan).await.remove(0);
        let (mut link, theirs) = MemoryLink::pair();
        let peer = SocketAddr::from(([192, 0, 2, 1], 25_000));
        spawn.spawn(connection::serve(Rc::clone(&shard), theirs, peer));
        let mut expected = 0;
        for (command, reply, questions) in [
            ("", "220 ", 0),
            ("EHLO client.example", "250 HELP", 0),
            ("MAIL FROM:<one@example.org>", "250 2.1.0", 0),
            ("RCPT TO:<a@elsewhere.example>", "550 5.7.1", 0),
            ("RCPT TO:<a@off.test>", "250 2.1.5", 0),
            ("RCPT TO:<a@example.test>", "250 2.1.5", 1),
            ("RCPT TO:<b@example.test>", "250 2.1.5", 0),
            ("RSET", "250 2.0.0", 0),
            ("MAIL FROM:<two@example.org>", "250 2.1.0", 0),
            ("RCPT TO:<a@example.test>", "250 2.1.5", 1),
            // The message itself.
            ("DATA", "354 ", 0),
            ("Subject: x\r\n\r\n.", "250 2.0.0", 1),
        ] {
            let line = if command.is_empty() { String::new() } else { format!("{command}\r\n") };
            assert!(converse(&mut link, line.as_bytes(), reply).await, "{command}");
            expected += questions;
            assert_eq!(asked.authentications.len(), expected, "{command}");
        }
        let senders = core::iter::from_fn(|| asked.authentications.try_recv().ok());
        let senders = senders.filter_map(|question| match question {
            AuthenticationQuestion::Sender(asked) => Some(asked.reverse_path),
            AuthenticationQuestion::Message(_) | AuthenticationQuestion::Seal(_) => None,
        });
        assert_eq!(senders.collect::<Vec<_>>(), ["one@example.org", "two@example.org"]);
    };
    assert!(executor.run(1_000_000, story).is_some(), "the story ends");
}
