//! The message with a queue id, among what is queued and held. Nothing maps ids to places, since that would cost memory a
//! message: the headers of records are looked at, those of the directory that the id names, a step at a time.
//!
//! Ids of a directory grow with the order of its messages but for those that were on their way at the same time. So a first
//! walk looks into the steps only whose last id is not below the one that is wanted; what it does not find a second one
//! does, which looks at all. Both together have a bound, so that a question about a large queue ends.

use crate::limits::{OPERATOR_FIND_STEP, OPERATOR_FIND_TIMEOUT};
use crate::shard::backlog::{Lane, Place};
use crate::shard::replay::names::Names;
use crate::shard::state::Shard;
use futures_lite::future::yield_now;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::position::{QueueId, Stamp};

/// It was not found, and not everything was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMuch;

/// A message, and the lanes that have units of it.
pub(super) type Found = (Stamp, Vec<Rc<Lane>>);

/// The message with the queue id `id`; of its lanes only that of `domain`, where one is named.
pub(super) async fn find<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    id: &str,
    domain: Option<&Arc<str>>,
) -> Result<Option<Found>, TooMuch> {
    let Some(id) = QueueId::parse(id) else { return Ok(None) };
    let lanes = match domain {
        Some(domain) => Vec::from_iter(shard.lanes.of(domain)),
        None => shard.lanes.all(),
    };
    let deadline = shard.clock.now() + OPERATOR_FIND_TIMEOUT;
    for skips in [true, false] {
        for lane in &lanes {
            let mut from = Stamp::NONE;
            loop {
                if shard.clock.now() > deadline {
                    return Err(TooMuch);
                }
                let (found, next) = step(shard, lane, id, from, skips).await;
                if let Some(stamp) = found {
                    let has_units = |lane: &&Rc<Lane>| lane.queue.borrow().knows(stamp);
                    return Ok(Some((stamp, lanes.iter().filter(has_units).map(Rc::clone).collect())));
                }
                let Some(next) = next else { break };
                from = next;
                yield_now().await;
            }
        }
    }
    Ok(None)
}

/// Looks at a few messages of a lane; where it goes on.
async fn step<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    id: QueueId,
    from: Stamp,
    skips: bool,
) -> (Option<Stamp>, Option<Stamp>) {
    // A rewrite may take a record elsewhere between steps, not within one.
    let _looking = shard.looking.guard();
    let (places, next): (Vec<Place>, _) = {
        let queue = lane.queue.borrow();
        let stamps = queue.stamps(from, None, OPERATOR_FIND_STEP);
        let places = stamps.iter().filter_map(|stamp| queue.place(*stamp));
        let ours = places.filter(|(directory, _)| *directory == id.shard()).collect();
        (ours, stamps.last().filter(|_| stamps.len() == OPERATOR_FIND_STEP).map(|last| last.after()))
    };
    let mut names = Names::new(&shard.disk);
    if let Some(last) = places.last().filter(|_| skips) {
        let last = names.queue_id(*last).await;
        if last.is_some_and(|last| last < id) {
            return (None, next);
        }
    }
    for place in places {
        if names.queue_id(place).await == Some(id) {
            return (Some(place.1.stamp), next);
        }
    }
    (None, next)
}
