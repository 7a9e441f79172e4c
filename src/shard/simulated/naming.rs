//! Whose a message is survives the drain: each arrives with its own client at a primary that understands XCLIENT, over one
//! connection or over one a client; nobody's mail goes in another's name, and who breaks sessions by his name blocks nobody.

use super::link::MemoryLink;
use super::node::{self, Plan};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse};
use crate::shard::connection;
use crate::shard::link::Spawn;
use crate::shard::simulated::primary::{Primary, Xclient, primary_of};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::{Executor, SimClock, SimDisk};

/// Clients by their number, of which 9 is on our own host.
fn client(number: u8) -> (IpAddr, String) {
    let address = match number {
        3 => "2001:db8::3".parse().expect("an address"),
        9 => "127.0.0.1".parse().expect("an address"),
        _ => IpAddr::from([198, 51, 100, number]),
    };
    (address, format!("c{number}.example"))
}

/// A message of each of these clients, one after the other, taken while the primary is down.
async fn fill(shard: &Rc<SimShard>, spawn: &SimSpawn, clients: &[u8]) {
    for (number, of) in clients.iter().enumerate() {
        let (address, helo) = client(*of);
        let (mut ours, theirs) = MemoryLink::pair();
        spawn.spawn(connection::serve(Rc::clone(shard), theirs, SocketAddr::new(address, 25_000)));
        assert!(converse(&mut ours, b"", "220 ").await);
        assert!(converse(&mut ours, format!("EHLO {helo}\r\n").as_bytes(), "250 ").await);
        let envelope = format!("MAIL FROM:<s@example.org>\r\nRCPT TO:<r{number}@example.test>\r\nDATA\r\n");
        assert!(converse(&mut ours, envelope.as_bytes(), "354 ").await);
        let data = format!("Subject: {number}\r\n\r\n{number}\r\n.\r\n");
        assert!(converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok").await);
    }
}

fn drained(clients: &[u8], xclient: Xclient, withheld: &[&str]) -> Primary {
    let (disk, clock) = (SimDisk::new(1, DISK_OCTETS), SimClock::default());
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    primary.xclient.set(xclient);
    primary.withheld.replace(withheld.iter().map(|word| (*word).to_owned()).collect());
    let (told, clients) = (primary.clone(), clients.to_vec());
    let mut plan = Plan::one_connection();
    if xclient == Xclient::ClosesOver {
        // What steps aside waits for longer than the primary is left alone.
        plan.config.domains[0].retry_interval = Duration::from_secs(300);
    }
    let story = async move {
        let shard = node::start(disk, clock.clone(), &spawn, &told, plan).await.remove(0);
        fill(&shard, &spawn, &clients).await;
        told.up.set(true);
        for _ in 0..4_000 {
            clock.sleep(Duration::from_secs(1)).await;
            if shard.lanes.all().iter().all(|lane| lane.queue.borrow().len() == 0 && !lane.running.get()) {
                break;
            }
        }
    };
    assert!(executor.run(2_000_000, story).is_some(), "the drain ends");
    primary
}

/// Each message once, with its own client; the order in which they came.
fn arrivals(primary: &Primary, clients: &[u8]) -> Vec<usize> {
    let taken = primary.taken.borrow();
    for message in taken.iter() {
        let of = clients[message.subject.parse::<usize>().expect("a number")];
        let (address, helo) = client(of);
        let expected = (of != 9).then_some(address);
        assert_eq!(message.client, expected, "{}", message.subject);
        let helo = if of == 9 { "mx2.example.test" } else { &helo };
        assert!(message.hello == helo || of == 9, "{}", message.hello);
    }
    taken.iter().map(|message| message.subject.parse().expect("a number")).collect()
}

const MIXED: [u8; 16] = [1, 1, 2, 2, 2, 3, 1, 3, 3, 9, 9, 1, 2, 1, 2, 2];

#[test]
fn each_message_arrives_with_its_own_client() {
    for withheld in [&[][..], &["CHUNKING"], &["CHUNKING", "PIPELINING"]] {
        for xclient in [Xclient::Always, Xclient::Once] {
            let primary = drained(&MIXED, xclient, withheld);
            let order = arrivals(&primary, &MIXED);
            assert_eq!(order, (0..MIXED.len()).collect::<Vec<_>>(), "{xclient:?}, {withheld:?}");
            let turns = MIXED.windows(2).filter(|pair| pair[0] != pair[1]).count();
            match xclient {
                // Ours go over a connection of their own, on which the next client is named.
                Xclient::Always => assert_eq!(primary.served.get(), 2),
                _ => assert_eq!(primary.served.get() as usize, turns),
            }
        }
    }
}

/// FIELD 2b: at most 3.2 round trips a message with XCLIENT; what is written at once is one.
#[test]
fn another_client_each_time_costs_three_round_trips_a_message() {
    let clients: Vec<u8> = (0..100).map(|number| 1 + number % 8).collect();
    for (withheld, most) in [(&["CHUNKING"][..], 3.2), (&[], 2.3)] {
        let primary = drained(&clients, Xclient::Always, withheld);
        assert_eq!(arrivals(&primary, &clients).len(), 100);
        assert_eq!(primary.served.get(), 1);
        let round_trips = f64::from(primary.pieces.get()) / 100.0;
        assert!(round_trips <= most, "{withheld:?}: {round_trips}");
    }
}

#[test]
fn one_client_is_named_once_and_windows_are_as_wide_as_ever() {
    let clients = [4; 60];
    let primary = drained(&clients, Xclient::Once, &[]);
    assert_eq!(arrivals(&primary, &clients).len(), 60);
    assert!(primary.served.get() == 1 && primary.most_behind.get() > 4, "{}", primary.most_behind.get());
}

/// Client 6 breaks each session by its name: its message steps aside as one that breaks sessions by its data does (H44).
#[test]
fn h44_who_breaks_sessions_by_his_name_blocks_nobody() {
    let clients = [1, 2, 6, 2, 1, 3];
    let primary = drained(&clients, Xclient::ClosesOver, &[]);
    let order = arrivals(&primary, &clients);
    assert_eq!(order[..5], [0, 1, 3, 4, 5], "it steps aside, {} connections", primary.served.get());
    assert_eq!(primary.taken.borrow().len(), 6, "and comes when the primary is mended");
}

/// Google's rate is 12 at once to one recipient, and a session is for one client here: what is picked for a session that speaks for another
/// does not leave, and is nobody's share.
#[test]
fn who_waits_for_a_session_in_another_name_has_his_share_once() {
    let (disk, clock) = (SimDisk::new(1, DISK_OCTETS), SimClock::default());
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    primary.xclient.set(Xclient::Once);
    primary.name.replace("mx.google.com".to_owned());
    let told = primary.clone();
    let story = async move {
        let shard = node::start(disk, clock.clone(), &spawn, &told, Plan::one_connection()).await.remove(0);
        for number in 0..24 {
            let (address, helo) = client(1 + number % 2);
            let (mut ours, theirs) = MemoryLink::pair();
            spawn.spawn(connection::serve(Rc::clone(&shard), theirs, SocketAddr::new(address, 25_000)));
            assert!(converse(&mut ours, b"", "220 ").await);
            assert!(converse(&mut ours, format!("EHLO {helo}\r\n").as_bytes(), "250 ").await);
            let envelope = b"MAIL FROM:<s@example.org>\r\nRCPT TO:<one@example.test>\r\nDATA\r\n";
            assert!(converse(&mut ours, envelope, "354 ").await);
            let data = format!("Subject: {number}\r\n\r\n{number}\r\n.\r\n");
            assert!(converse(&mut ours, data.as_bytes(), "250 2.0.0 Ok").await);
        }
        told.up.set(true);
        while told.taken.borrow().len() < 24 {
            clock.sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(executor.run(4_000_000, story).is_some(), "the drain ends");
    let taken = primary.taken.borrow();
    let behind = |number: usize| taken[number].at - taken[0].at;
    assert!(behind(11) < Duration::from_millis(1250), "a burst: {:?}", behind(11));
    let (least, most) = (Duration::from_millis(1250) * 11, Duration::from_millis(1250) * 13);
    assert!((least..=most).contains(&behind(23)), "and then one an interval: {:?}", behind(23));
}
