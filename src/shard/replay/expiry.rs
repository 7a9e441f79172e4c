//! Letting mail go that is past its time: a task of each shard, over the lanes that it owns.
//!
//! Now and then, a few entries at a step, with a turn for others between: a million that expire at once neither
//! hold the core nor fill the journal's batch. Each unit gets a fact in the journal first; its keeper is told when
//! that is durable, as with any other settlement (H4). What is in flight is left for the next round.

use super::names::Names;
use super::{notice, settle};
use crate::config::NOTICES_DOMAIN;
use crate::limits::{EXPIRY_ENTRIES_A_STEP, EXPIRY_FACTS_A_WRITE, NOTICE_RETENTION};
use crate::shard::backlog::{Ended, Lane, Settlement, Walk, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::expiry_clock::{News, agreement, interval};
use crate::shard::retention::Retention;
use crate::shard::state::Shard;
use core::time::Duration;
use futures_lite::future::{or, yield_now};
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::{Fact, Outcome};

/// Lets mail expire until the shard shuts down.
pub(in crate::shard) async fn run<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    loop {
        let stirred = shard.lanes.stirred.wait();
        if shard.is_shutting_down() {
            return;
        }
        let pause = interval(shortest_retention(&shard));
        or(shard.clock.sleep(pause), stirred).await;
        if !may_expire(&shard) {
            continue;
        }
        for lane in shard.lanes.all() {
            expire(&shard, &lane).await;
        }
    }
}

fn shortest_retention<D: Disk, C: Clock>(shard: &Shard<D, C>) -> Duration {
    let snapshot = shard.snapshot.borrow();
    let kept = snapshot.config.domains.iter().map(|domain| domain.retention.min(domain.held_retention));
    kept.min().unwrap_or(Duration::MAX).min(NOTICE_RETENTION)
}

/// Whether the clocks are good enough (H5). One shard tells what there is to tell; all see the same.
fn may_expire<D: Disk, C: Clock>(shard: &Shard<D, C>) -> bool {
    let trust = shard.snapshot.borrow().config.delivery.expiry_clock;
    let (now, wall) = (shard.clock.now(), shard.clock.wall());
    let (synchronised, agreed) = ((shard.synchronisation)(), agreement(shortest_retention(shard)));
    let (may, news) = shard.expiry_clock.borrow_mut().observe(now, wall, synchronised, trust, agreed);
    if shard.id.0 != 0 {
        return may;
    }
    match news {
        Some(News::Jumped(by_ms)) => tracing::error!(
            by_s = i64::try_from(by_ms / 1000).unwrap_or(i64::MAX),
            "wall time jumped against monotonic time: nothing expires until both have agreed for a day; when the clock \
             is right, SIGHUP ends the wait"
        ),
        Some(News::NotSynchronised) => tracing::warn!(
            "nothing says that the clock is synchronised: no mail expires; systemd-timesyncd does, or \
             delivery.expiry_clock = \"trusted\""
        ),
        Some(News::Resumed) => {
            tracing::info!("wall and monotonic time have agreed for a day: mail expires again")
        }
        None => {}
    }
    may
}

/// One round over a lane.
async fn expire<D: Disk, C: Clock>(shard: &Shard<D, C>, lane: &Lane) {
    let mut walk = Walk::start();
    while !walk.is_over() && !shard.is_shutting_down() {
        // From the decision on: a checkpoint, and a rewrite, wait until it is known.
        let (_deciding, looking) = (shard.telling.guard(), shard.looking.guard());
        let ended = {
            let snapshot = shard.snapshot.borrow();
            let now_s = u64::from(shard.wall_s());
            let retention = match (&*lane.domain, snapshot.domain(&lane.domain)) {
                (NOTICES_DOMAIN, _) => Retention::of_notices(now_s),
                (_, Some(domain)) => Retention::of(domain, now_s),
                // H14: mail of a domain that is not configured waits for it to come back, however long.
                (_, None) => return,
            };
            lane.queue.borrow_mut().expire(&mut walk, EXPIRY_ENTRIES_A_STEP, &retention)
        };
        if ended.is_empty() {
            yield_now().await;
        } else {
            write(shard, lane, ended, &looking).await;
        }
    }
}

/// Makes facts of what ended, durable on return.
async fn write<D: Disk, C: Clock>(shard: &Shard<D, C>, lane: &Lane, ended: Vec<Ended>, looking: &Guard) {
    let mut gathered: Vec<Settlement> = Vec::new();
    let mut facts = 0;
    let mut names = Names::new(&shard.disk);
    for Ended { place, ordinals, outcome, said, is_last } in ended {
        let (_, entry) = place;
        if outcome == Outcome::Bounced {
            if is_last {
                lane.usage.lower(stored_octets(&entry));
            }
            notice::give_up(shard, lane, place, looking, &ordinals, said, notice::Why::Expired).await;
            continue;
        }
        let queue_id = names.queue_id(place).await.map(|queue_id| queue_id.to_string());
        let fact = |ordinal: &u16| Fact { stamp: entry.stamp, ordinal: *ordinal, outcome, code: 0 };
        let units = ordinals.len();
        tracing::info!(
            queue_id,
            domain = %lane.domain,
            received_s = entry.received_s,
            units,
            "{}",
            if outcome == Outcome::Held { "past its retention: held" } else { "past its retention: expired" }
        );
        let counters = &shard.counters;
        let counter = if outcome == Outcome::Held { &counters.held } else { &counters.expired };
        counter.add(units as u64);
        if is_last {
            lane.usage.lower(stored_octets(&entry));
        }
        if facts + units > EXPIRY_FACTS_A_WRITE {
            settle::settle(shard, lane, &core::mem::take(&mut gathered)).await;
            facts = 0;
        }
        facts += units;
        let facts = ordinals.iter().map(fact).collect();
        gathered.push(Settlement { place, facts, told: None, looking: looking.clone() });
    }
    settle::settle(shard, lane, &gathered).await;
}
