//! Facts on their way to the journal: a few gather, one write makes them durable, then the shards that keep the
//! segments are told.
//!
//! `outstanding` counts messages whose facts are not durable yet. That is what a crash repeats, and it is bounded
//! by [`OUTSTANDING_MAX`](crate::limits::OUTSTANDING_MAX) (P4).

use super::Lane;
use super::queue::Place;
use crate::limits::{DISK_RETRY_PAUSE, SETTLEMENT_PAUSE, SETTLEMENTS_A_WRITE};
use crate::shard::Shard;
use crate::shard::mesh::{Note, SettledUnit};
use core::cell::{Cell, RefCell};
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::AppendError;
use storage::format::journal_entry::Fact;
use storage::notify::Notify;
use storage::position::ShardId;

/// The settlements of one lane.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    gathering: RefCell<Vec<(Place, Vec<Fact>)>>,
    outstanding: Cell<u32>,
    enough: Notify,
}

impl Settlements {
    /// Messages whose facts are not durable.
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding.get()
    }

    /// Adds the facts about one message. Returns `true` when they are the first that gather: then the caller
    /// starts [`write`].
    pub(super) fn add(&self, place: Place, facts: Vec<Fact>) -> bool {
        self.outstanding.set(self.outstanding.get() + 1);
        let mut gathering = self.gathering.borrow_mut();
        gathering.push((place, facts));
        if gathering.len() >= SETTLEMENTS_A_WRITE {
            self.enough.notify_all();
        }
        gathering.len() == 1
    }
}

/// Waits a moment for company, then makes what has gathered durable, however long that takes.
pub(super) async fn write<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, lane: Rc<Lane>) {
    let enough = lane.settlements.enough.wait();
    or(shard.clock.sleep(SETTLEMENT_PAUSE), enough).await;
    let gathered = lane.settlements.gathering.take();
    let facts: Vec<Fact> = gathered.iter().flat_map(|(_, facts)| facts).copied().collect();
    if journal(&shard, &lane.domain, &facts).await {
        tell_keepers(&shard, &lane.domain, &gathered).await;
    }
    let count = u32::try_from(gathered.len()).expect("bounded by what may be outstanding");
    lane.settlements.outstanding.set(lane.settlements.outstanding.get() - count);
    lane.settled.notify_all();
}

/// Returns whether the facts are durable: always, but at the very end of the process.
async fn journal<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &Arc<str>, facts: &[Fact]) -> bool {
    loop {
        let result = match shard.journal.append_facts(facts).await {
            Ok(ticket) => ticket.await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return true,
            Err(AppendError::Closed) => return false,
            Err(error) => {
                tracing::error!(%error, %domain, "facts cannot be journalled; trying again");
                shard.clock.sleep(DISK_RETRY_PAUSE).await;
            }
        }
    }
}

async fn tell_keepers<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Arc<str>,
    gathered: &[(Place, Vec<Fact>)],
) {
    let mut by_keeper: BTreeMap<ShardId, Vec<SettledUnit>> = BTreeMap::new();
    for ((directory, entry), facts) in gathered {
        let units = facts.iter().filter(|fact| fact.outcome.is_final()).map(|fact| SettledUnit {
            shard: *directory,
            segment: entry.segment,
            unit: entry.unit_base + u32::from(fact.ordinal),
            domain: Arc::clone(domain),
            outcome: fact.outcome,
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
