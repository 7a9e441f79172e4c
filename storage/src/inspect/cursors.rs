//! Cursors: for each domain and shard directory the place before which everything that can be read is settled. Nothing on disk is a cursor;
//! this is what the facts sum up to.

use super::Directory;
use super::account::Standing;
use crate::disk::Disk;
use crate::format::journal_entry::Outcome;
use std::collections::BTreeMap;

/// One domain in one shard directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// The domain.
    pub domain: String,
    /// The directory.
    pub shard: u16,
    /// The oldest message with a unit that is not settled; `None` if all are.
    pub oldest: Option<Oldest>,
    /// The highest stamp of a message of the domain that is here.
    pub last_stamp: u64,
    /// Messages that are here.
    pub messages: u64,
    /// Their units.
    pub units: u64,
    /// Units that ended.
    pub settled: u64,
    /// Units that wait for the operator.
    pub held: u64,
    /// Units that wait for the primary.
    pub queued: u64,
}

/// A message before which everything is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Oldest {
    /// Its stamp: all units below are settled.
    pub stamp: u64,
    /// Its name.
    pub queue_id: String,
    /// Its file, relative to the data directory.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// When it was received, in seconds since 1970.
    pub received_s: u32,
}

pub(super) fn cursors<D: Disk>(directory: &Directory<D>) -> Vec<Cursor> {
    let standing = Standing::of(directory);
    let counted = directory.counted(&standing);
    let mut cursors: BTreeMap<(u32, u16), Cursor> = BTreeMap::new();
    for copies in counted.chunk_by(|one, other| one.0 == other.0) {
        // In the order of stamps: the first that is open is the oldest.
        let (file, message) = directory.at_place(copies[0]);
        let mut ordinal = 0_u16;
        for group in file.groups_of(message) {
            let cursor = cursors.entry((group.domain, file.shard.0)).or_default();
            cursor.last_stamp = message.stamp.0;
            cursor.messages += 1;
            for _ in 0..group.units {
                let known = directory.outcome_of(copies, ordinal);
                ordinal = ordinal.saturating_add(1);
                cursor.units += 1;
                match known {
                    Some(outcome) if outcome.is_final() => {
                        cursor.settled += 1;
                        continue;
                    }
                    Some(Outcome::Held) => cursor.held += 1,
                    _ => cursor.queued += 1,
                }
                cursor.oldest.get_or_insert_with(|| Oldest {
                    stamp: message.stamp.0,
                    queue_id: message.queue_id.to_string(),
                    path: file.shown.path.clone(),
                    offset: message.offset,
                    received_s: message.received_s,
                });
            }
        }
    }
    let named = cursors.into_iter().map(|((domain, shard), cursor)| Cursor {
        domain: directory.names.name(domain).to_string(),
        shard,
        ..cursor
    });
    let mut named: Vec<Cursor> = named.collect();
    named.sort_by(|a, b| (&a.domain, a.shard).cmp(&(&b.domain, b.shard)));
    named
}
