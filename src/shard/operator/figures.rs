//! What the shard measures for whoever asks: its counters as they are, and the counts of its domains.

use super::owns;
use crate::bridge::operator::{Figures, Measured, State};
use crate::bridge::{Transport, UnitEnd};
use crate::limits::METRICS_STEP;
use crate::shard::state::Shard;
use futures_lite::future::yield_now;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// The shard, and those of the domains that it owns: the first so many each, the others together. Others have turns between
/// steps, so a number may be younger than another.
pub(super) async fn measure<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    names: &[Arc<str>],
    shown: usize,
) -> Measured {
    let (mut each, mut rest) = (Vec::new(), Figures::default());
    for (place, name) in names.iter().enumerate().filter(|(_, name)| owns(shard, name)) {
        let (_, figures) = figures(shard, name);
        if place < shown {
            each.push((place, figures));
        } else {
            rest.add(&figures);
        }
        if place % METRICS_STEP == METRICS_STEP - 1 {
            yield_now().await;
        }
    }
    let (used, most) = shard.receiving.memory.used();
    let segments =
        shard.shelf.borrow().sealed_segments() + usize::from(shard.mail.active_segment().is_some());
    Measured {
        counters: shard.counters.clone(),
        shown: each,
        rest,
        sessions: shard.interrupts.alive() as u64,
        receive_octets: (used as u64, most as u64),
        segments: segments as u64,
        free_octets: shard.free_octets().await,
    }
}

/// What is known of a domain that the shard owns.
pub(super) fn figures<D: Disk, C: Clock>(shard: &Shard<D, C>, name: &str) -> (State, Figures) {
    let snapshot = Arc::clone(&shard.snapshot.borrow());
    let usage = snapshot.usage_of(name);
    let lane = shard.lanes.of(name);
    let held = lane.as_ref().map_or(0, |lane| lane.queue.borrow().held_count());
    // Ended first: what is accepted meanwhile, by any shard, is backlog.
    let ended = UnitEnd::ALL.map(|end| usage.ended(end));
    let [bounced, damaged, deleted, delivered, discarded, expired] = ended;
    let accepted = usage.accepted();
    let held_since = lane.as_ref().and_then(|lane| lane.queue.borrow().held_since_s());
    let oldest = lane.as_ref().and_then(|lane| lane.queue.borrow().oldest_s());
    let health = lane.as_ref().map(|lane| lane.health.get()).unwrap_or_default();
    let is_held = usage.orders.get().held_for(shard.wall_s().into()).is_some();
    let state = match (snapshot.domain(name).is_some(), is_held) {
        // H14: of a domain that is not configured nothing is tried.
        (false, _) => State::Unknown,
        (true, true) => State::Held,
        (true, false) => health.state(),
    };
    let figures = Figures {
        backlog: accepted.saturating_sub(ended.iter().sum::<u64>() + held),
        messages: usage.messages(),
        bytes: usage.octets(),
        oldest_s: oldest.map_or(0, |oldest| shard.wall_s().saturating_sub(oldest).into()),
        held_oldest_s: held_since.map_or(0, |since| shard.wall_s().saturating_sub(since).into()),
        accepted,
        delivered,
        bounced,
        discarded,
        expired,
        deleted,
        damaged,
        held,
        proxied: usage.passage.proxied(),
        redirected: usage.redirected(),
        replayed: usage.replayed(),
        may_repeat: lane.as_ref().map_or(0, |lane| lane.offers.borrow().doubtful() as u64),
        changed: usage.acquaintance.change().is_some().into(),
        taken: Transport::ALL.map(|through| usage.taken(through)),
        ..Figures::of(state)
    };
    (state, figures)
}
