//! What is shown: domains, pages of messages, one message. Never mail content.

use super::figures::figures;
use super::find::TooMuch;
use super::row::{Facts, row, until};
use super::sift::{self, Sifted};
use super::{find, owns};
use crate::bridge::operator::{Cursor, DomainStatus, Filter, MessageDetail, Page, Transports};
use crate::limits::{OPERATOR_PAGE_MAX, OPERATOR_STEP};
use crate::shard::backlog::Lane;
use crate::shard::state::Shard;
use futures_lite::future::yield_now;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
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
    if filter.sift.is_any() {
        return sifted(shard, filter, limit, horizon).await;
    }
    let keys = keys(shard, filter, limit + 1).await;
    let until = keys.get(limit).and(keys.get(limit - 1)).map(|(stamp, lane)| cursor(*stamp, lane));
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut messages = Vec::new();
    for (stamp, lane) in keys.into_iter().take(limit) {
        // What has ended meanwhile is left out.
        let seen = lane.queue.borrow().see(stamp);
        if let Some(seen) = seen {
            messages.push(row(shard, &reader, &lane, &seen).await.0);
        }
    }
    Page { messages, horizon: horizon.0, until, ..Page::default() }
}

/// The same, of what passes a sieve: as much of it as a turn finds.
async fn sifted<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    filter: &Filter,
    limit: usize,
    horizon: Stamp,
) -> Page {
    let lanes = lanes(shard, filter);
    let of = lanes.iter().map(|lane| lane.queue.borrow().messages() as u64).sum();
    let Sifted { messages, until, looked } = sift::run(shard, &lanes, filter, limit).await;
    Page { messages, horizon: horizon.0, until, looked, of }
}

fn lanes<D: Disk, C: Clock>(shard: &Shard<D, C>, filter: &Filter) -> Vec<Rc<Lane>> {
    match &filter.domain {
        Some(domain) => Vec::from_iter(shard.lanes.of(domain)),
        None => shard.lanes.all(),
    }
}

fn cursor(stamp: Stamp, lane: &Lane) -> Cursor {
    Cursor { stamp: stamp.0, domain: Arc::clone(&lane.domain) }
}

/// The first so many messages behind the filter's place, in order.
async fn keys<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    filter: &Filter,
    most: usize,
) -> Vec<(Stamp, Rc<Lane>)> {
    let lanes = lanes(shard, filter);
    let mut first: BinaryHeap<Cursor> = BinaryHeap::new();
    for (number, lane) in lanes.iter().enumerate() {
        if number % OPERATOR_STEP == OPERATOR_STEP - 1 {
            yield_now().await;
        }
        // One more: the message of the place itself may come first.
        let stamps = lane.queue.borrow().stamps(Stamp(filter.after.stamp), filter.state, most + 1);
        for stamp in stamps {
            let key = cursor(stamp, lane);
            if key <= filter.after {
                continue;
            }
            if first.len() == most && first.peek().is_some_and(|last| *last < key) {
                break;
            }
            first.push(key);
            if first.len() > most {
                first.pop();
            }
        }
    }
    let keys = first.into_sorted_vec().into_iter();
    keys.filter_map(|key| Some((Stamp(key.stamp), shard.lanes.of(&key.domain)?))).collect()
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
