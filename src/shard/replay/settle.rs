//! Facts on their way to the journal: a few gather, one write makes them durable, then the shards that keep the
//! segments are told.

use super::chronicle;
use crate::bridge::UnitEnd;
use crate::limits::{DISK_RETRY_PAUSE, SETTLEMENT_PAUSE};
use crate::shard::backlog::{Lane, Named, Rows, Settlement};
use crate::shard::keeping;
use crate::shard::mesh::{Note, SettledUnit};
use crate::shard::state::Shard;
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::journal_entry::{FINAL_OUTCOMES, Fact, Outcome};
use storage::format::kept::KeptRun;
use storage::format::offered::Offered;
use storage::position::{ShardId, Stamp};

/// Waits a moment for company, then makes what has gathered durable, however long that takes.
pub(super) async fn write<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, lane: Rc<Lane>) {
    let enough = lane.settlements.enough();
    or(shard.clock.sleep(SETTLEMENT_PAUSE), enough).await;
    write_gathered(&shard, &lane).await;
}

/// Makes what has gathered durable at once; nothing, if somebody else has just done that.
pub(in crate::shard) async fn write_gathered<D: Disk, C: Clock>(shard: &Shard<D, C>, lane: &Lane) {
    let gathered = lane.settlements.take();
    if gathered.is_empty() {
        return;
    }
    settle(shard, lane, &gathered).await;
    lane.settled(gathered.len());
}

/// Makes facts durable, counts what ended by them, then tells the keepers of their segments. All of them must fit one
/// frame. Returns whether they are durable: always, but at the very end of the process.
pub(in crate::shard) async fn settle<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    gathered: &[Settlement],
) -> bool {
    let _telling = shard.telling.guard();
    let facts: Vec<Fact> = gathered.iter().flat_map(|settlement| &settlement.facts).copied().collect();
    let times = keeping::times(shard, lane);
    let kept = keeping::runs(gathered, times);
    for Settlement { place, .. } in gathered {
        let stamp = place.1.stamp;
        let is_over = !lane.queue.borrow().knows(stamp);
        lane.offers.borrow_mut().settled(stamp, is_over);
        if is_over {
            shard.codes.borrow_mut().forget(&place.1);
        }
    }
    let rows = lane.begin_offers(None, |_| true);
    let is_durable = journal(shard, lane, (&facts, &kept, &rows)).await;
    if is_durable {
        for outcome in FINAL_OUTCOMES {
            let ended = facts.iter().filter(|fact| fact.outcome == outcome).count();
            if let Some(end) = end_of(outcome).filter(|_| ended > 0) {
                lane.usage.end(end, ended as u64);
            }
        }
        tell_keepers(shard, &lane.domain, gathered, times).await;
        // Their records stay as long as somebody looks.
        chronicle::settled(shard, lane, gathered).await;
    }
    is_durable
}

/// Tells the journal that a message is about to leave, and which are behind it; whether that is durable: always, but at the very end of the
/// process.
pub(in crate::shard) async fn offer<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    wanted: Named,
    is_in_flight: impl Fn(Stamp) -> bool,
) -> bool {
    let _telling = shard.telling.guard();
    let rows = lane.begin_offers(Some(wanted), is_in_flight);
    journal(shard, lane, (&[], &[], &rows)).await
}

/// Tells the journal of what is not offered any more, as far as it has not heard.
pub(in crate::shard) async fn close_offers<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, lane: Rc<Lane>) {
    let _telling = shard.telling.guard();
    if lane.offers.borrow().has_closed() {
        let rows = lane.begin_offers(None, |_| true);
        journal(&shard, &lane, (&[], &[], &rows)).await;
    }
}

/// A final outcome as usage counts it.
pub(in crate::shard) const fn end_of(outcome: Outcome) -> Option<UnitEnd> {
    match outcome {
        Outcome::Bounced => Some(UnitEnd::Bounced),
        Outcome::Damaged => Some(UnitEnd::Damaged),
        Outcome::Deleted => Some(UnitEnd::Deleted),
        Outcome::Delivered => Some(UnitEnd::Delivered),
        Outcome::Discarded => Some(UnitEnd::Discarded),
        Outcome::Expired => Some(UnitEnd::Expired),
        Outcome::Held | Outcome::Released => None,
    }
}

/// Returns whether the facts are durable: always, but at the very end of the process.
async fn journal<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    (facts, kept, rows): (&[Fact], &[KeptRun], &Rows),
) -> bool {
    loop {
        // Also behind a failure: what was told of a message meanwhile must not be taken back by the second try.
        let still_holds = |row: &Offered| lane.offers.borrow().still_holds(row);
        let result = match shard.journal.append_settlement(facts, kept, rows.all(), still_holds).await {
            Ok(ticket) => ticket.await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                lane.offers.borrow_mut().written(rows);
                return true;
            }
            Err(AppendError::Closed) => return false,
            Err(error) => {
                tracing::error!(%error, domain = %lane.domain, "facts cannot be journalled; trying again");
                shard.clock.sleep(DISK_RETRY_PAUSE).await;
            }
        }
    }
}

async fn tell_keepers<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    gathered: &[Settlement],
    times: Option<(u32, u32)>,
) {
    let mut by_keeper: BTreeMap<ShardId, Vec<SettledUnit>> = BTreeMap::new();
    for Settlement { place: (directory, entry), facts, .. } in gathered {
        let units = facts.iter().filter(|fact| fact.outcome.is_final()).map(|fact| SettledUnit {
            shard: *directory,
            segment: entry.segment,
            unit: entry.unit_base + u32::from(fact.ordinal),
            outcome: fact.outcome,
            kept: times.filter(|_| fact.outcome == Outcome::Delivered),
        });
        by_keeper.entry(ShardId(directory.0 % shard.shards)).or_default().extend(units);
    }
    for (keeper, units) in by_keeper {
        if keeper == shard.id {
            shard.settle(&units);
        } else if shard.mesh.senders[usize::from(keeper.0)].send(Note::Settled(units)).await.is_err() {
            tracing::debug!(%domain, "the keeper has ended; the next start reads the journal");
        }
    }
}
