//! Where mail goes by the domain's own MX records, as they change; that a loop is noticed, and that nobody's mail is bounced
//! for what stands in DNS.

use super::node::{self, Plan};
use super::{DISK_OCTETS, MemoryLink, SimShard, SimSpawn, converse, primary_of};
use crate::bridge::{Asked, Exchanger, LookupError, Question, lookup_channel};
use crate::config::Primaries;
use crate::shard::connection;
use crate::shard::link::Spawn;
use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

type Records = Rc<RefCell<Result<Vec<(u16, &'static str)>, LookupError>>>;

/// Answers for the lookup thread: MX records as they are just now, and an address a host.
async fn name_server(asked: Asked, records: Records) {
    while let Ok(question) = asked.questions.recv().await {
        match question {
            Question::Exchangers { answer, .. } => {
                let exchanger = |(preference, host): &(u16, &str)| Exchanger {
                    preference: *preference,
                    host: (*host).to_owned(),
                };
                let found = records.borrow().clone();
                let _ = answer.try_send(found.map(|found| found.iter().map(exchanger).collect()));
            }
            Question::Addresses { host, answer } => {
                let _ = answer.try_send(Ok(vec![address_of(&host)]));
            }
            Question::NameServers(_) | Question::Records { .. } => unreachable!("nobody asks"),
        }
    }
}

fn address_of(host: &str) -> IpAddr {
    IpAddr::from([192, 0, 2, if host == "first.test" { 1 } else { 2 }])
}

async fn send(shard: &Rc<SimShard>, spawn: &SimSpawn) {
    let (mut link, theirs) = MemoryLink::pair();
    spawn.spawn(connection::serve(Rc::clone(shard), theirs, SocketAddr::from(([192, 0, 2, 9], 25_000))));
    converse(&mut link, b"", "220 ").await;
    converse(&mut link, b"HELO sender.test\r\n", "250 ").await;
    let envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n";
    converse(&mut link, envelope, "354 ").await;
    assert!(converse(&mut link, b"Subject: 1\r\n\r\n.\r\n", "250 2.0.0").await);
}

#[test]
fn mail_goes_where_mx_records_say_and_waits_where_they_name_nobody() {
    let (lookup, asked) = lookup_channel();
    let mut plan = Plan { lookup, ..Plan::one_shard() };
    plan.config.hostname = "mx2.test".to_owned();
    plan.config.domains[0].primaries = Primaries::Exchangers;
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, true);
    let records = Records::new(RefCell::new(Ok(Vec::new())));
    spawn.spawn(name_server(asked, Rc::clone(&records)));
    let story = async move {
        let minute = Duration::from_secs(60);
        let shard =
            node::start(SimDisk::new(1, DISK_OCTETS), clock.clone(), &spawn, &primary, plan).await.remove(0);
        // Nobody before us; a null MX; no such domain; no answer.
        for says in [
            Ok(vec![(10, "mx2.test"), (20, "second.test")]),
            Ok(vec![(0, "")]),
            Err(LookupError::NoAddress),
            Err(LookupError::Temporary("timeout".to_owned())),
        ] {
            *records.borrow_mut() = says;
            send(&shard, &spawn).await;
            clock.sleep(minute).await;
            assert_eq!((primary.dialed.get(), shard.counters.held.value()), (0, 0), "it waits");
        }
        // The best one first, the next when that is not there.
        *records.borrow_mut() = Ok(vec![(30, "mx2.test"), (20, "second.test"), (10, "first.test")]);
        clock.sleep(minute).await;
        assert_eq!(primary.taken.borrow().len(), 4, "and then all of it goes");
        assert_eq!(primary.addresses.take(), ["192.0.2.1:25"]);
        primary.refuses.set(Some(address_of("first.test")));
        send(&shard, &spawn).await;
        clock.sleep(minute).await;
        assert_eq!(primary.taken.borrow().len(), 5);
        assert_eq!(primary.addresses.take(), ["192.0.2.1:25", "192.0.2.2:25"]);
        // Records that lead back to us by another name.
        primary.name.replace("MX2.test".to_owned());
        primary.refuses.set(None);
        send(&shard, &spawn).await;
        clock.sleep(minute).await;
        assert_eq!(primary.taken.borrow().len(), 5, "not to ourselves");
        primary.name.replace("first.test".to_owned());
        clock.sleep(minute).await;
        assert_eq!((primary.taken.borrow().len(), shard.counters.held.value()), (6, 0));
    };
    assert!(executor.run(5_000_000, story).is_some(), "the story ends");
}
