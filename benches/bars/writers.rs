//! What the log costs above the bare disk. The log runs for some tens of commits, whose sizes are recorded; then a plain writer with
//! O_DIRECT writes and syncs just these, in a file preallocated in the same way; and so on in turns. Each turn gives one
//! ratio, and the middle of many is judged: a disk that others use too changes its mind within a second, so turns are
//! short and ratios of long runs say nothing.

use crate::common::raw::RawFile;
use crate::common::{
    Node, SEGMENT_OCTETS, Scratch, body_of, check_queue, disk_at, on_executor, one_domain, send_one, sized,
};
use crate::{Bar, Bound, median};
use std::time::Duration;
use storage::clock::Clock;
use storage::sim::meter::MeteredDisk;

const MESSAGE_OCTETS: usize = 10 << 10;

pub(crate) fn bars() -> Vec<Bar> {
    let many = bandwidth(256, sized(32, 1), 1_024);
    vec![
        bandwidth(16, sized(128, 2), 256),
        latency(sized(4_000, 20)),
        // Told beside: how it is with very many.
        Bar { bound: Bound::None, ..many },
    ]
}

/// Bandwidth of the log over that of the plain writer, in `turns` of so many messages.
fn bandwidth(writers: usize, turns: usize, messages: usize) -> Bar {
    let scratch = Scratch::new("bandwidth");
    let body = body_of(MESSAGE_OCTETS);
    let mut pairs = Vec::with_capacity(turns);
    let mut octets = 0;
    on_executor(async {
        let disk = MeteredDisk::new(disk_at(scratch.path()).await);
        let (node, _) = Node::start(&disk).await;
        let room = (turns * messages) as u64 * 2 * MESSAGE_OCTETS as u64;
        let mut raw = RawFile::create(scratch.path(), room).await;
        let _ = disk.take();
        for _ in 0..turns {
            let log = node.send(writers, messages, &body, one_domain).await;
            let commits = disk.take().commits;
            octets += commits.iter().map(|octets| u64::from(*octets)).sum::<u64>();
            pairs.push((log, raw.write_and_sync(&commits).await));
        }
        raw.remove().await;
        node.stop().await;
        check_queue(&disk, turns * messages, &body).await;
        assert!(octets >= (turns * messages * MESSAGE_OCTETS) as u64, "all of it was written");
        assert!(turns < 100 || octets > SEGMENT_OCTETS, "rolls are among it");
    });
    let ratio = median_ratio(&pairs);
    let rate = |of: fn(&(Duration, Duration)) -> Duration| {
        octets as f64 / pairs.iter().map(of).sum::<Duration>().as_secs_f64() / 1e6
    };
    println!(
        "bar=bandwidth writers={writers} size=10KiB turns={turns} messages={} log_mb_s={:.1} raw_mb_s={:.1} ratio={:.3}",
        turns * messages,
        rate(|pair| pair.0),
        rate(|pair| pair.1),
        1.0 / ratio
    );
    let name = format!("bandwidth of {writers} writers, 10 KiB, over plain O_DIRECT");
    Bar::new(name, 1.0 / ratio, "ratio", Bound::AtLeast(0.9))
}

/// Median latency of one writer's message over that of one plain write and sync of as many blocks, in turns.
fn latency(messages: usize) -> Bar {
    let scratch = Scratch::new("latency");
    let body = body_of(MESSAGE_OCTETS);
    let mut pairs = Vec::with_capacity(messages);
    on_executor(async {
        let disk = MeteredDisk::new(disk_at(scratch.path()).await);
        let (node, _) = Node::start(&disk).await;
        let mut raw = RawFile::create(scratch.path(), (messages * 2 * MESSAGE_OCTETS) as u64).await;
        let _ = disk.take();
        for number in 0..messages {
            let start = node.clock.now();
            send_one(&node.mail, number as u64, "user@one.test", &body).await;
            let log = node.clock.now() - start;
            let commits = disk.take().commits;
            assert_eq!(commits.len(), 1, "one commit a message");
            pairs.push((log, raw.write_and_sync(&commits).await));
        }
        raw.remove().await;
        node.stop().await;
        check_queue(&disk, messages, &body).await;
    });
    let (log, raw): (Vec<Duration>, Vec<Duration>) = pairs.iter().copied().unzip();
    println!(
        "bar=latency writers=1 size=10KiB messages={messages} log_us={} raw_us={} log_p99_us={} raw_p99_us={}",
        median(&log).as_micros(),
        median(&raw).as_micros(),
        percentile_99(&log).as_micros(),
        percentile_99(&raw).as_micros()
    );
    let ratio = median(&log).as_secs_f64() / median(&raw).as_secs_f64();
    Bar::new("latency of one writer, 10 KiB, over write + fdatasync", ratio, "ratio", Bound::Below(1.3))
}

fn median_ratio(pairs: &[(Duration, Duration)]) -> f64 {
    let ratios: Vec<f64> = pairs.iter().map(|(log, raw)| log.as_secs_f64() / raw.as_secs_f64()).collect();
    median(&ratios)
}

fn percentile_99(values: &[Duration]) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * 99 / 100]
}
