//! H5 in a running shard: its clock jumps by a month while mail waits.

use super::super::link::Spawn;
use super::super::{connection, mesh};
use super::{DISK_OCTETS, MemoryLink, SimShard, SimSpawn, converse, primary_of, start};
use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::position::UnixMillis;
use storage::sim::{Executor, SimClock, SimDisk};

/// Steps until `time` has passed by monotonic time.
fn pass(executor: &mut Executor, clock: &SimClock, time: Duration) {
    let end = clock.now() + time;
    while clock.now() < end {
        assert!(executor.step(), "the standing tasks go on");
    }
}

#[test]
fn h5_a_month_forward_and_back_lets_nothing_expire_until_the_operator_looked() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const MONTH_MS: u64 = 31 * 86_400_000;
    const START_MS: u64 = 1_800_000_000_000;
    let clock = SimClock::default();
    clock.set_wall(UnixMillis(START_MS));
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, false);
    let (disk, running) = (SimDisk::new(1, DISK_OCTETS), Rc::<RefCell<Option<Rc<SimShard>>>>::default());
    let (clock_of_life, started) = (clock.clone(), Rc::clone(&running));
    spawn.clone().spawn(async move {
        let shard = start(disk, clock_of_life, spawn.clone(), primary).await;
        let (mut ours, theirs) = MemoryLink::pair();
        let peer = SocketAddr::from(([192, 0, 2, 1], 25_000));
        spawn.spawn(connection::serve(Rc::clone(&shard), theirs, peer));
        converse(&mut ours, b"", "220 ").await;
        converse(&mut ours, b"EHLO sender.test\r\n", "250 ").await;
        let envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n";
        converse(&mut ours, envelope, "354 ").await;
        assert!(converse(&mut ours, b"Subject: 1\r\n\r\n.\r\n", "250 2.0.0").await);
        *started.borrow_mut() = Some(shard);
    });
    pass(&mut executor, &clock, HOUR);
    let shard = running.take().expect("the message was acknowledged");
    let wall = |ahead_ms: u64| {
        let elapsed = u64::try_from(clock.now().as_millis()).expect("small");
        clock.set_wall(UnixMillis(START_MS + elapsed + ahead_ms));
    };
    let counts = || (shard.counters.held.value(), shard.counters.expired.value());
    for ahead_ms in [MONTH_MS, 0, MONTH_MS] {
        wall(ahead_ms);
        pass(&mut executor, &clock, HOUR);
        assert_eq!(counts(), (0, 0), "{ahead_ms} ms ahead");
    }
    // The operator says that this is the time: the message is older than 30 days.
    let snapshot = Arc::clone(&shard.snapshot.borrow());
    shard.take_note(mesh::Note::Configuration(snapshot, async_channel::bounded(1).0));
    pass(&mut executor, &clock, HOUR);
    assert_eq!(counts(), (1, 0));
    // From then on it is held for 30 days, and counted; then it expires by itself, since the clocks agree.
    let usage = shard.snapshot.borrow().usage_of("example.test");
    assert_eq!(usage.messages(), 1);
    pass(&mut executor, &clock, Duration::from_secs(30 * 86_400));
    assert_eq!((counts(), usage.messages(), usage.octets()), ((1, 1), 0, 0));
}
