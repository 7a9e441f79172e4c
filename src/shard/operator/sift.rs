//! A page of messages that a filter sifts by what only their records say: these are read.
//!
//! The messages of all lanes are walked in their order, a window at a time, with a turn for others between windows and behind each
//! record. Behind [`SCAN_TURN`] the page ends where the walk has come, with what it has found: another one goes on there, and
//! mail is never kept waiting by it.

use super::pick::{Picked, passes, pick};
use super::row::row;
use crate::bridge::operator::{Cursor, Filter, Message};
use crate::limits::{SCAN_TURN, SIFT_STEP};
use crate::shard::backlog::Lane;
use crate::shard::state::Shard;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::index_file::IndexEntry;
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
        let (window, _) = pick(lanes, filter, &place, SIFT_STEP, |_| true).await;
        let is_last = window.len() < SIFT_STEP;
        for Picked { cursor, lane, entry } in window {
            sifted.looked += 1;
            place = cursor;
            if !passes(shard, filter, &entry) {
                continue;
            }
            sifted.messages.extend(looked_into(shard, &reader, &lane, filter, &entry).await);
            if sifted.messages.len() >= limit || shard.clock.now() >= deadline {
                sifted.until = Some(place);
                return sifted;
            }
        }
        if is_last {
            return sifted;
        }
        if shard.clock.now() >= deadline {
            sifted.until = Some(place);
            return sifted;
        }
    }
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
