//! Kept records of delivered mail, a page at a time: each shard tells those in the segments that it keeps.
//!
//! Of each segment with copies the entries of the domain are read, one contiguous run of its index; the first of them in the order of all
//! messages make the page, and their records are read, since only these tell recipients and what was queued so itself. Memory is bounded
//! by the page. A record that cannot be read is counted and passed over.

use crate::bridge::operator::{Copies, Copy, Delivered};
use crate::limits::OPERATOR_COPIES_A_REQUEST;
use crate::shard::state::Shard;
use core::time::Duration;
use futures_lite::future::yield_now;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::DiskError;
use storage::format::index_file::IndexEntry;
use storage::format::journal_entry::Outcome;
use storage::position::{Offset, SegmentId, ShardId, Stamp};
use storage::reader::Reader;
use storage::segment::{index_of, lookup::lookup};
use storage::shelf::KeptUnits;

/// See the module.
pub(super) async fn run<D: Disk, C: Clock>(shard: &Shard<D, C>, wanted: &Delivered) -> Copies {
    let mut page = Copies::default();
    let looked = shard.clock.now();
    let mut first: BTreeMap<u64, Copy> = BTreeMap::new();
    let places = shard.shelf.borrow().kept_segments();
    for (directory, segment) in places {
        let units = shard.shelf.borrow().kept_units(directory, segment);
        let entries = match entries_of(shard, directory, segment, &wanted.domain).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, shard = %directory, segment = segment.0, "copies cannot be looked for");
                page.unreadable += 1;
                continue;
            }
        };
        for entry in entries {
            let Some(mut copy) = copy_of(shard, wanted, directory, &entry, &units, &mut page.kept_since_s)
            else {
                continue;
            };
            copy.looked = looked;
            first.insert(copy.stamp, copy);
            if first.len() > OPERATOR_COPIES_A_REQUEST {
                first.pop_last();
                page.more = Some(0);
            }
        }
        yield_now().await;
    }
    let last = first.last_key_value().map(|(stamp, _)| *stamp);
    page.more = page.more.and(last);
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    for copy in first.into_values() {
        match looked_into(&reader, wanted, copy).await {
            Ok(copy) => page.copies.extend(copy),
            Err(error) => {
                tracing::warn!(%error, domain = %wanted.domain, "a kept record cannot be read");
                page.unreadable += 1;
            }
        }
    }
    page
}

/// The entries of a domain in a segment.
async fn entries_of<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    directory: ShardId,
    segment: SegmentId,
    domain: &str,
) -> Result<Vec<IndexEntry>, DiskError> {
    if directory == shard.directory
        && let Some(entries) = shard.mail.active_entries(segment, domain)
    {
        return Ok(entries);
    }
    if let Some(entries) = lookup(&shard.disk, directory, segment, domain).await? {
        return Ok(entries);
    }
    // Sealed a moment ago, or without room for an index.
    let index = index_of(&shard.disk, shard.store, &shard.keys, directory, segment).await?;
    let own = index.domains.into_iter().find(|(name, _)| name == domain);
    Ok(own.map_or_else(Vec::new, |(_, entries)| entries))
}

/// The units of an entry that are wanted; notes since when there are copies at all.
fn copy_of<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    wanted: &Delivered,
    directory: ShardId,
    entry: &IndexEntry,
    units: &KeptUnits,
    kept_since_s: &mut Option<u32>,
) -> Option<Copy> {
    let mut copy = Copy {
        stamp: entry.stamp.0,
        directory: directory.0,
        segment: entry.segment.0,
        offset: entry.offset().0,
        record_octets: entry.frame_octets(),
        size: 0,
        unit_base: entry.unit_base,
        ordinals: Vec::new(),
        delivered_s: u32::MAX,
        until_s: 0,
        looked: Duration::ZERO,
    };
    let shelf = shard.shelf.borrow();
    for ordinal in entry.first..entry.first + entry.count {
        let unit = entry.unit_base + u32::from(ordinal);
        // What a rewrite moved is told of where it lies now.
        let is_here = shelf.outcome(directory, entry.segment, unit) == Some(Outcome::Delivered);
        let Some(run) = units.of(unit).filter(|_| is_here) else { continue };
        *kept_since_s = Some(kept_since_s.unwrap_or(u32::MAX).min(run.delivered_s));
        let is_wanted = (wanted.since_s..wanted.until_s).contains(&run.delivered_s) && !run.replayed;
        if is_wanted {
            copy.ordinals.push(ordinal);
            copy.delivered_s = copy.delivered_s.min(run.delivered_s);
            copy.until_s = copy.until_s.max(run.until_s);
        }
    }
    (copy.stamp > wanted.after && !copy.ordinals.is_empty()).then_some(copy)
}

/// The copy, if its record says that it is wanted.
async fn looked_into<D: Disk>(
    reader: &Reader<D>,
    wanted: &Delivered,
    mut copy: Copy,
) -> Result<Option<Copy>, storage::error::ReadError> {
    let frame = reader.read_entry(ShardId(copy.directory), &entry_of(&copy)).await?;
    let message = frame.message()?;
    if message.extensions.replay_of.is_some() && !wanted.again {
        return Ok(None);
    }
    if let Some(recipient) = &wanted.recipient {
        let is_for = |ordinal: &u16| {
            message
                .recipients
                .get(usize::from(*ordinal))
                .is_some_and(|mailbox| mailbox.eq_ignore_ascii_case(recipient))
        };
        copy.ordinals.retain(is_for);
    }
    copy.size = message.data.unstuffed_octets;
    Ok((!copy.ordinals.is_empty()).then_some(copy))
}

/// Where the record of a copy is.
pub(super) fn entry_of(copy: &Copy) -> IndexEntry {
    let (stamp, segment) = (Stamp(copy.stamp), SegmentId(copy.segment));
    let mut entry = IndexEntry::new(stamp, segment, Offset(copy.offset), copy.record_octets);
    entry.unit_base = copy.unit_base;
    entry
}
