//! The first messages behind a place that pass what memory knows of them: domain, state, age, size, last code.
//!
//! What is found so far bounds what is looked at: once enough are known, nothing above the last of them is of interest, so that a page
//! of a thousand domains costs a look at the head of each. Others have a turn each few thousand entries, whatever the filter leaves out.

use super::others_turn;
use crate::bridge::operator::{Cursor, Filter};
use crate::limits::SIFT_STEP;
use crate::shard::backlog::{Lane, Stretch};
use crate::shard::state::Shard;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;

/// A message of one of the lanes that were asked for.
pub(super) struct Picked {
    pub(super) cursor: Cursor,
    pub(super) lane: Rc<Lane>,
    pub(super) entry: IndexEntry,
}

/// A lane costs as much as so many of its entries: its lists are looked at each by itself.
const LANE_COSTS: usize = 4;

/// The first `most` of them, in order, and how many were looked at.
pub(super) async fn pick<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lanes: &[Rc<Lane>],
    filter: &Filter,
    after: &Cursor,
    most: usize,
    passes: impl Fn(&IndexEntry) -> bool,
) -> (Vec<Picked>, u64) {
    let mut first: BTreeMap<Cursor, (usize, IndexEntry)> = BTreeMap::new();
    let (mut looked, mut since_turn) = (0, 0);
    for (number, lane) in lanes.iter().enumerate() {
        since_turn += LANE_COSTS;
        let mut next = Some(Stamp(after.stamp));
        while let Some(from) = next {
            let is_full = first.len() == most;
            let last = first.last_key_value().filter(|_| is_full).map_or(u64::MAX, |(last, _)| last.stamp);
            // One more: the message of the place itself may come first.
            let stretch =
                Stretch { from, until: Stamp(last), state: filter.state, most: most + 1, steps: SIFT_STEP };
            let part = lane.queue.borrow().part(&stretch, &passes);
            next = part.next.filter(|next| next.0 <= last);
            looked += part.looked as u64;
            since_turn += part.looked;
            for entry in part.entries {
                let cursor = Cursor { stamp: entry.stamp.0, domain: Arc::clone(&lane.domain) };
                if cursor > *after {
                    first.insert(cursor, (number, entry));
                }
                if first.len() > most {
                    first.pop_last();
                }
            }
            if since_turn >= SIFT_STEP {
                since_turn = 0;
                others_turn(shard).await;
            }
        }
    }
    let picked = first.into_iter();
    let picked =
        picked.map(|(cursor, (lane, entry))| Picked { cursor, lane: Rc::clone(&lanes[lane]), entry });
    (picked.collect(), looked)
}

/// Whether a message passes what memory knows of it.
pub(super) fn passes<D: Disk, C: Clock>(shard: &Shard<D, C>, filter: &Filter, entry: &IndexEntry) -> bool {
    let sift = &filter.sift;
    sift.takes(entry.received_s, entry.stored_octets())
        && (sift.code.is_none() || shard.codes.borrow().of(entry) == sift.code)
}
