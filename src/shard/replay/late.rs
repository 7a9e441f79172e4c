//! A message that is ours though its primary may have it (H21): *outcome pending upstream*. Its end was sent while its sender waited, and no reply came
//! in time, or the connection ended.
//!
//! - Before the sender has our 250 the journal knows that the message may be there, as of any that is offered (`backlog::offers`), so whatever ends
//!   the process, the next start lists it and tells when it is sent again (P4).
//! - Where a reply is owed it waits aside at its owner for as long as the primary may still give it: a 250 settles it without another try; a
//!   refusal is no verdict, it is offered again and what is said then goes through the guard. A crash forgets that it waits aside, and it is
//!   offered at once.
//! - Where the connection ended it is in order at once, and may repeat.
//! - While a reply is owed, and until the fact behind it is durable, it counts among the [`OUTSTANDING_MAX`](crate::limits::OUTSTANDING_MAX) of its
//!   domain ([`crate::bridge::Passage`]).
//! - The arrival may overtake the mark on its way to the owner: then it is in order, as where the connection ended, and what it has left behind is
//!   never taken back by the mark.
//! - A late refusal says nothing of a second try that is under way.
//!
//! Failure answers: a journal that takes nothing keeps no sender waiting; the mark is in memory, and told with the next row about the message.

use super::settle::settle;
use crate::bridge::EndSent;
use crate::shard::backlog::{Changed, Settlement, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::mesh::{Late, Note, Outstanding, owner};
use crate::shard::state::Shard;
use crate::smtp::reply::ReceivedReply;
use std::sync::Arc;
use storage::clock::Clock;
use storage::commit::Ticket;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::format::offered::Offered;
use storage::position::Stamp;

/// A row about a message that is on its way to the journal.
pub(in crate::shard) struct Marked {
    ticket: Option<Ticket>,
    /// A checkpoint waits for it.
    _telling: Guard,
}

/// Tells the owner before the message arrives there, then the journal.
pub(in crate::shard) async fn mark<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    stamp: Stamp,
    news: Outstanding,
) -> Marked {
    let telling = shard.telling.guard();
    tell(shard, Late { domain: Arc::clone(domain), stamp, news, place: None }).await;
    // All its recipients are of this domain.
    let row = Offered { stamp, first: 0, is_open: true };
    let appended = shard.journal.append_settlement(&[], &[], &[row], |_| true).await;
    Marked { ticket: appended.inspect_err(|error| not_told(domain, error)).ok(), _telling: telling }
}

impl Marked {
    /// Completes when the journal has it, or does not take it.
    pub(in crate::shard) async fn told(self, domain: &str) {
        if let Some(ticket) = self.ticket
            && let Err(error) = ticket.await
        {
            not_told(domain, &error);
        }
    }
}

fn not_told(domain: &str, error: &AppendError) {
    tracing::error!(%error, domain, "it cannot be journalled that the primary may have a message: a crash now forgets it");
}

/// The primary has answered at last, or will not; or the message does not arrive after all.
pub(in crate::shard) async fn late<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    stamp: Stamp,
    reply: Option<ReceivedReply>,
    place: Option<EndSent>,
) {
    let news = reply.map_or(Outstanding::Silent, |reply| Outstanding::Replied(reply.code));
    tell(shard, Late { domain: Arc::clone(domain), stamp, news, place: place.map(Arc::new) }).await;
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
        for Late { domain, stamp, news, place: _outstanding } in shard.lanes.taken_late().await {
            let Outstanding::Replied(code) = news else { continue };
            let Some(lane) = shard.lanes.of(&domain) else { continue };
            let (_deciding, looking) = (shard.telling.guard(), shard.looking.guard());
            let Changed::Done { place, ordinals, is_last } = lane.queue.borrow_mut().end(stamp, None) else {
                // It was offered again meanwhile.
                continue;
            };
            let fact = |ordinal: &u16| Fact { stamp, ordinal: *ordinal, outcome: Outcome::Delivered, code };
            let facts: Vec<Fact> = ordinals.iter().map(fact).collect();
            shard.counters.delivered.add(facts.len() as u64);
            if settle(&shard, &lane, &[Settlement { place, facts, told: None, looking }]).await && is_last {
                lane.usage.lower(stored_octets(&place.1));
            }
        }
    }
}
