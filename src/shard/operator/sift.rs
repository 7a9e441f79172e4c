//! A page of messages that a filter sifts: what the index knows is asked of it, for the rest records are read.
//!
//! The messages of all lanes are walked in their order, a window of each lane's next ones at a time, with a turn for others between windows
//! and behind each record. Behind [`SCAN_TURN`] the page ends where the walk has come, with what it has found: another one goes on there, and
//! mail is never kept waiting by it.

use super::row::row;
use crate::bridge::operator::{Cursor, Filter, Message};
use crate::limits::{OPERATOR_STEP, SCAN_TURN, SIFT_STEP};
use crate::shard::backlog::Lane;
use crate::shard::state::Shard;
use futures_lite::future::yield_now;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;
use storage::reader::Reader;

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) messages: Vec<Message>,
    /// Where it goes on; none: it has seen all.
    pub(super) until: Option<Cursor>,
    /// Messages that were looked at.
    pub(super) looked: u64,
}

/// Messages of all lanes in order.
struct Window {
    entries: Vec<(Cursor, usize, IndexEntry)>,
    /// Up to here it is complete; none: there is nothing behind it.
    until: Option<Cursor>,
}

/// The first so many that pass.
pub(super) async fn run<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lanes: &[Rc<Lane>],
    filter: &Filter,
    limit: usize,
) -> Sifted {
    let deadline = shard.clock.now() + SCAN_TURN;
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let mut sifted = Sifted::default();
    let mut place = filter.after.clone();
    loop {
        let window = window(lanes, filter, &place).await;
        for (number, (cursor, lane, entry)) in window.entries.into_iter().enumerate() {
            sifted.looked += 1;
            place = cursor;
            if filter.sift.takes(entry.received_s, entry.stored_octets())
                && let Some(message) = looked_into(shard, &reader, &lanes[lane], filter, &entry).await
            {
                sifted.messages.push(message);
            } else if number % SIFT_STEP != SIFT_STEP - 1 && !filter.sift.is_of_records() {
                continue;
            }
            if sifted.messages.len() >= limit || shard.clock.now() >= deadline {
                sifted.until = Some(place);
                return sifted;
            }
        }
        let Some(until) = window.until else { return sifted };
        place = until;
        if shard.clock.now() >= deadline {
            sifted.until = Some(place);
            return sifted;
        }
        yield_now().await;
    }
}

/// The next messages behind a place.
async fn window(lanes: &[Rc<Lane>], filter: &Filter, place: &Cursor) -> Window {
    let most = if lanes.len() > 1 { OPERATOR_STEP } else { SIFT_STEP };
    let mut entries = Vec::new();
    let mut until: Option<Cursor> = None;
    for (number, lane) in lanes.iter().enumerate() {
        if number % OPERATOR_STEP == OPERATOR_STEP - 1 {
            yield_now().await;
        }
        let some = lane.queue.borrow().entries(Stamp(place.stamp), filter.state, most);
        let key = |entry: &IndexEntry| Cursor { stamp: entry.stamp.0, domain: Arc::clone(&lane.domain) };
        if some.len() == most
            && let Some(last) = some.last().map(key)
        {
            until = Some(until.map_or_else(|| last.clone(), |other| other.min(last.clone())));
        }
        let behind = some.into_iter().map(|entry| (key(&entry), number, entry));
        entries.extend(behind.filter(|(key, ..)| key > place));
    }
    if let Some(until) = &until {
        entries.retain(|(key, ..)| key <= until);
    }
    entries.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
    Window { entries, until }
}

/// The message, if its record, and what was said of it, pass.
async fn looked_into<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    reader: &Reader<D>,
    lane: &Lane,
    filter: &Filter,
    entry: &IndexEntry,
) -> Option<Message> {
    let sift = &filter.sift;
    if sift.code.is_some() && shard.codes.borrow().of(entry) != sift.code {
        return None;
    }
    // What has ended meanwhile is left out.
    let seen = lane.queue.borrow().see(entry.stamp)?;
    let (message, _) = row(shard, reader, lane, &seen).await;
    let is_same = |wanted: &Option<String>, text: Option<&str>| match wanted {
        None => true,
        Some(wanted) => text.is_some_and(|text| wanted.eq_ignore_ascii_case(text)),
    };
    let is_for = |wanted: &String| {
        message.recipients.iter().any(|recipient| wanted.eq_ignore_ascii_case(&recipient.address))
    };
    let passes =
        is_same(&sift.sender, message.reverse_path.as_deref()) && sift.recipient.as_ref().is_none_or(is_for);
    passes.then_some(message)
}
