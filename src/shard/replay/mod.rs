//! Handing mail over: one lane a domain with backlog, run by the shard that owns the domain.
//!
//! A lane's task lives while there is something to deliver. It opens a session with the first primary that
//! answers, further ones beside it as that takes them, and sends what is queued in the order of each recipient, merged over all
//! shards' logs; a stamp goes out only when every shard's durable frontier has passed it. While nobody answers it tries again by
//! the schedule. Several messages are in flight on each connection (`delivery`). Who the primary is, as far as it matters, is in `profile`. What each primary's answer means is in
//! `outcome`, what waits and what steps aside in `queue`.
//!
//! After an outage a guard (`backlog::guard`) weighs what the primary refuses before anything of it is final; `watch` does what
//! it says. Whose sender is told when it fails is in `bounce`; `notice` makes what he is told, and brings it to him.

mod acquaint;
mod addressee;
mod bounce;
mod callout;
pub(super) mod chronicle;
mod connect;
mod damage;
mod delivery;
mod expiry;
mod greylisting;
mod lane;
pub(super) mod late;
mod learn;
pub(super) mod names;
pub(super) mod notice;
mod outcome;
mod profile;
mod proxied;
mod race;
mod route;
mod security;
pub(super) mod settle;
mod trial;
mod watch;

use super::link::{Dialer, Spawn};
use super::state::Shard;
use crate::config::NOTICES_DOMAIN;
pub(super) use callout::answer as answer_callouts;
pub(super) use chronicle::run as trace;
pub(super) use expiry::run as expire;
pub(super) use late::settle_late;
pub(super) use learn::{learn, names_the_address};
pub use notice::Found;
pub(super) use notice::found;
pub(super) use notice::{Unsettled, take_found};
pub(super) use proxied::carry;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;
pub(super) use trial::test_message;

/// Starts tasks for lanes that have mail, behind the end of what `unsettled` has of a life before, until the shard shuts down.
pub(super) async fn start_lanes<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    dialer: N,
    spawn: S,
    unsettled: Vec<Unsettled>,
) {
    // What a life before began is ended before anything goes on.
    notice::settle_found(&shard, unsettled).await;
    while !shard.is_shutting_down() {
        for lane in shard.lanes.waiting().await {
            let (shard, dialer) = (Rc::clone(&shard), dialer.clone());
            match &*lane.domain {
                NOTICES_DOMAIN => spawn.spawn(notice::bring(shard, lane, dialer, spawn.clone())),
                _ => spawn.spawn(lane::run(shard, lane, dialer, spawn.clone())),
            }
        }
    }
}
