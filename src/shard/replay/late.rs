//! A message that is ours since the primary's reply to its end was late (H21): *outcome pending upstream*. It waits aside at its owner for as long as the
//! primary may still answer; a 250 settles it, anything else lets the lane offer it again, under the guard. A crash forgets the
//! mark, and the message is offered again (P4).

use super::settle::settle;
use crate::shard::backlog::{Changed, Settlement, stored_octets};
use crate::shard::mesh::{Late, Note, owner};
use crate::shard::state::Shard;
use crate::smtp::reply::ReceivedReply;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;

/// Tells the owner before the message arrives there.
pub(in crate::shard) async fn await_upstream<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &str,
    stamp: Stamp,
) {
    tell(shard, Late { domain: domain.into(), stamp, code: None }).await;
}

/// The primary has answered at last, or will not.
pub(in crate::shard) async fn late<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    stamp: Stamp,
    reply: Option<ReceivedReply>,
) {
    let code = Some(reply.map_or(0, |reply| reply.code));
    tell(shard, Late { domain: Arc::clone(domain), stamp, code }).await;
}

async fn tell<D: Disk, C: Clock>(shard: &Shard<D, C>, late: Late) {
    let owner = owner(&late.domain, shard.shards);
    if owner == shard.id {
        return shard.take_note(Note::Upstream(late));
    }
    if shard.mesh.senders[usize::from(owner.0)].send(Note::Upstream(late)).await.is_err() {
        tracing::debug!("the owner has ended");
    }
}

/// Settles what primaries took late, as it is told, until the shard ends.
pub(in crate::shard) async fn settle_late<D: Disk, C: Clock>(shard: std::rc::Rc<Shard<D, C>>) {
    while !shard.is_shutting_down() {
        for Late { domain, stamp, code } in shard.lanes.taken_late().await {
            let Some(lane) = shard.lanes.of(&domain) else { continue };
            let (_deciding, looking) = (shard.telling.guard(), shard.looking.guard());
            let Changed::Done { place, ordinals, is_last } = lane.queue.borrow_mut().end(stamp, None) else {
                // It was offered again meanwhile.
                continue;
            };
            let fact = |ordinal: &u16| Fact {
                stamp,
                ordinal: *ordinal,
                outcome: Outcome::Delivered,
                code: code.unwrap_or(0),
            };
            let facts: Vec<Fact> = ordinals.iter().map(fact).collect();
            shard.counters.delivered.add(facts.len() as u64);
            if settle(&shard, &lane, &[Settlement { place, facts, looking }]).await && is_last {
                lane.usage.lower(stored_octets(&place.1));
            }
        }
    }
}
