//! Notices that a start finds: the units that they are about are settled before anything else is done with these.
//!
//! A crash between a notice and the end of its units leaves them open. Each shard takes those of its lanes out of their queues when
//! it takes its backlog over, before any task of it runs, and makes their facts durable before it hands anything over. Until
//! then the notice does not leave ([`Usage::owing`]), also if another shard brings it.

use super::super::settle;
use super::{NOTICES_DOMAIN, Owing};
use crate::bridge::Usage;
use crate::shard::backlog::{Ended, Lane, Lanes, Settlement, stored_octets};
use crate::shard::mesh::owner;
use crate::shard::state::Shard;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::crypt::Keys;
use storage::disk::Disk;
use storage::format::journal_entry::Fact;
use storage::format::message::NoticeOf;
use storage::position::{ShardId, StoreId};
use storage::reader::Reader;
use storage::store::Backlog;

/// A notice in the store that nobody has taken yet.
#[derive(Debug)]
pub struct Found {
    about: NoticeOf<'static>,
    #[expect(dead_code, reason = "it is held, never looked into")]
    owing: Owing,
}

impl Found {
    /// The shard that its units are for.
    pub fn owner(&self, shards: u16) -> ShardId {
        owner(&self.about.domain, shards)
    }
}

/// The notices in `backlogs`. One that cannot be read is left to whoever brings it: it is damaged, and settles nothing.
pub(in crate::shard) async fn found<D: Disk>(
    disk: &D,
    store: StoreId,
    keys: &Arc<Keys>,
    backlogs: &[Backlog],
    usage: &Arc<Usage>,
) -> Vec<Found> {
    let reader = Reader::new(disk.clone(), store, Arc::clone(keys));
    let mut all = Vec::new();
    for backlog in backlogs.iter().filter(|backlog| backlog.domain == NOTICES_DOMAIN) {
        let directory = backlog.shard;
        for queued in backlog.clone().into_queued() {
            let Ok(frame) = reader.read_entry(directory, &queued.entry).await else { continue };
            let Ok(message) = frame.message() else { continue };
            let Some(about) = message.extensions.notice.as_ref().map(NoticeOf::detached) else { continue };
            let domain: Arc<str> = about.domain.as_ref().into();
            let owing = Owing::begin(Arc::clone(usage), &domain, about.stamp.0);
            all.push(Found { about, owing });
        }
    }
    all
}

/// Units that a notice is about, taken out of their queue.
#[derive(Debug)]
pub(in crate::shard) struct Unsettled {
    lane: Rc<Lane>,
    ended: Ended,
    found: Found,
}

/// Takes the units of what was found out of their queues, those that are open. What is not open had its fact before the crash.
pub(in crate::shard) fn take(lanes: &Lanes, found: Vec<Found>) -> Vec<Unsettled> {
    let taken = found.into_iter().filter_map(|found| {
        let NoticeOf { domain, stamp, ordinals, outcome } = &found.about;
        let lane = lanes.of(domain)?;
        let ended = lane.queue.borrow_mut().end_units(*stamp, ordinals, *outcome)?;
        Some(Unsettled { lane, ended, found })
    });
    taken.collect()
}

/// Makes that durable.
pub(in crate::shard) async fn settle<D: Disk, C: Clock>(shard: &Shard<D, C>, unsettled: Vec<Unsettled>) {
    for Unsettled { lane, ended, found } in unsettled {
        let Ended { place, ordinals, outcome, is_last, .. } = ended;
        let stamp = place.1.stamp;
        if is_last {
            lane.usage.lower(stored_octets(&place.1));
        }
        tracing::info!(domain = %lane.domain, stamp = stamp.0, units = ordinals.len(), "a notice about it was made before this start");
        let fact = |ordinal: &u16| Fact { stamp, ordinal: *ordinal, outcome, code: 0 };
        let facts = ordinals.iter().map(fact).collect();
        let settlement = Settlement { place, facts, told: None, looking: shard.looking.guard() };
        settle::settle(shard, &lane, &[settlement]).await;
        drop(found);
    }
}
