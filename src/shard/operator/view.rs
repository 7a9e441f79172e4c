//! What is shown: domains, pages of messages, one message. Never mail content.

use super::figures::figures;
use super::find::TooMuch;
use super::pick::{self, Picked};
use super::row::{Facts, row, until};
use super::sift::{self, Sifted};
use super::{find, owns, together};
use crate::bridge::operator::{DomainStatus, Filter, MessageDetail, Page, Transports};
use crate::limits::{OPERATOR_PAGE_MAX, OPERATOR_READS};
use crate::shard::backlog::Lane;
use crate::shard::state::Shard;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;
use storage::reader::Reader;

/// Those of the domains that the shard owns.
pub(super) fn domains<D: Disk, C: Clock>(shard: &Shard<D, C>, names: &[Arc<str>]) -> Vec<DomainStatus> {
    names.iter().filter(|name| owns(shard, name)).map(|name| domain(shard, name)).collect()
}

fn domain<D: Disk, C: Clock>(shard: &Shard<D, C>, name: &Arc<str>) -> DomainStatus {
    let (state, figures) = figures(shard, name);
    let lane = shard.lanes.of(name);
    let [encrypted, plain, verified_dane, verified_mta_sts] = figures.taken;
    let is_protected = shard.snapshot.borrow().domain(name).is_some();
    let next_try = lane.as_ref().and_then(|lane| lane.next_try.get());
    let waits = lane.as_ref().is_some_and(|lane| lane.running.get());
    DomainStatus {
        name: name.to_string(),
        state,
        backlog: figures.backlog,
        bytes: figures.bytes,
        oldest_s: figures.oldest_s,
        accepted: figures.accepted,
        delivered: figures.delivered,
        bounced: figures.bounced,
        discarded: figures.discarded,
        expired: figures.expired,
        deleted: figures.deleted,
        damaged: figures.damaged,
        held: figures.held,
        held_oldest_s: figures.held_oldest_s,
        proxied: figures.proxied,
        redirected: figures.redirected,
        replayed: figures.replayed,
        primary_changed: shard.lanes.usage_of(name).acquaintance.change(),
        may_repeat: figures.may_repeat,
        transports: Transports { encrypted, plain, verified_dane, verified_mta_sts },
        messages: figures.messages,
        last_failure: lane.as_ref().and_then(|lane| lane.failure.borrow().clone()),
        next_try_s: next_try.filter(|_| waits && is_protected).map(|next| until(shard, next)),
        cursor: lane.map_or_else(Vec::new, |lane| {
            lane.queue.borrow().cursor().iter().map(ToString::to_string).collect()
        }),
    }
}

/// A page of what a filter lets pass. Below its horizon nothing is missing, whatever arrives meanwhile: the horizon is read
/// before the inbox is emptied (H12).
pub(in crate::shard) async fn list<D: Disk, C: Clock>(shard: &Shard<D, C>, filter: &Filter) -> Page {
    // With a shard missing the horizon stands still: all that is known is shown.
    let is_whole = shard.frontier.held_back_above().is_none();
    let horizon = if is_whole { shard.frontier.horizon() } else { Stamp(u64::MAX) };
    shard.empty_inbox();
    let _looking = shard.looking.guard();
    let limit = filter.limit.clamp(1, OPERATOR_PAGE_MAX);
    let lanes = lanes(shard, filter);
    let of = lanes.iter().map(|lane| lane.queue.borrow().messages() as u64).sum();
    if filter.sift.is_of_records() {
        let Sifted { messages, until, looked } = sift::run(shard, &lanes, filter, limit).await;
        return Page { messages, horizon: horizon.0, until, looked, of };
    }
    let passes = |entry: &IndexEntry| pick::passes(shard, filter, entry);
    let (picked, looked) = pick::pick(&lanes, filter, &filter.after, limit + 1, passes).await;
    let until = picked.get(limit).and(picked.get(limit - 1)).map(|last| last.cursor.clone());
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut messages = Vec::new();
    for some in picked[..picked.len().min(limit)].chunks(OPERATOR_READS) {
        let rows = some.iter().map(async |Picked { lane, entry, .. }| {
            // What has ended meanwhile is left out.
            let seen = lane.queue.borrow().see(entry.stamp)?;
            Some(row(shard, &reader, lane, &seen).await.0)
        });
        messages.extend(together::all(rows).await.into_iter().flatten());
    }
    Page { messages, horizon: horizon.0, until, looked, of }
}

fn lanes<D: Disk, C: Clock>(shard: &Shard<D, C>, filter: &Filter) -> Vec<Rc<Lane>> {
    match &filter.domain {
        Some(domain) => Vec::from_iter(shard.lanes.of(domain)),
        None => shard.lanes.all(),
    }
}

/// The message with a queue id, in each lane that has units of it.
pub(super) async fn show<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    id: &str,
) -> Result<Vec<MessageDetail>, TooMuch> {
    let Some((stamp, lanes)) = find::find(shard, id, None).await? else { return Ok(Vec::new()) };
    let _looking = shard.looking.guard();
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut all = Vec::new();
    for lane in lanes {
        let seen = lane.queue.borrow().see(stamp);
        if let Some(seen) = seen {
            let (message, facts) = row(shard, &reader, &lane, &seen).await;
            let Facts { client, helo, tls, trace } = facts;
            let proven = lane.queue.borrow().is_reverse_path_proven(stamp);
            all.push(MessageDetail { message, client, helo, tls, trace, proven });
        }
    }
    Ok(all)
}
