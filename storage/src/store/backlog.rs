//! What a start finds queued: entries as the indexes have them, in stamp order, and what is decided about them.

use crate::checkpoint;
use crate::format::checkpoint::HeldUnit;
use crate::format::index_file::IndexEntry;
use crate::format::journal_entry::{Authentication, Fact, Outcome};
use crate::format::offered::Offered;
use crate::position::{ShardId, Stamp};
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// All that one domain has queued in one shard directory. Handed over message by message, so that it never lies in memory
/// twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// The domain.
    pub domain: String,
    /// The directory.
    pub shard: ShardId,
    /// Entries with an unsettled unit, sorted by stamp; one run, once they are in order.
    pub(super) runs: Vec<Vec<IndexEntry>>,
    /// What is decided about their units, sorted by message and recipient.
    pub(super) decided: Vec<Decided>,
    /// What authentication said, sorted by message.
    pub(super) authentications: Vec<Authentication>,
    /// What may be with the primary, sorted by message.
    pub(super) offered: Vec<Offered>,
}

/// A unit about which something is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decided {
    /// What.
    pub fact: Fact,
    /// Since when, in seconds since 1970.
    pub since_s: u32,
}

/// A message's units in one domain, as they are after all facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queued {
    /// Where and what.
    pub entry: IndexEntry,
    /// What is known about units of it: settled ones and held ones.
    pub decided: Vec<Decided>,
    /// What authentication said of it, packed; 0 where nothing is known.
    pub authentication: u32,
    /// It was offered before the store was closed, and no outcome of that is known (P4).
    pub may_repeat: bool,
}

impl Backlog {
    /// Messages.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// All of it in stamp order.
    pub fn into_queued(self) -> impl Iterator<Item = Queued> {
        let mut decided = self.decided.into_iter().peekable();
        let mut authentications = self.authentications.into_iter().peekable();
        self.runs.into_iter().flatten().map(move |entry| {
            let behind = (entry.stamp, entry.first + entry.count);
            let mut known = Vec::new();
            while let Some(next) = decided.next_if(|next| (next.fact.stamp, next.fact.ordinal) < behind) {
                if (next.fact.stamp, next.fact.ordinal) >= (entry.stamp, entry.first) {
                    known.push(next);
                }
            }
            while authentications.next_if(|next| next.stamp < entry.stamp).is_some() {}
            let said = authentications.peek().filter(|next| next.stamp == entry.stamp);
            let authentication = said.map_or(0, |said| said.bits);
            let key = |offered: &Offered| (offered.stamp, offered.first);
            let may_repeat = self.offered.binary_search_by_key(&(entry.stamp, entry.first), key).is_ok();
            Queued { entry, decided: known, authentication, may_repeat }
        })
    }
}

/// Brings runs into stamp order. Those of new mail follow each other; a rewrite, or a copy, lies across others.
pub(super) fn in_order(mut runs: Vec<Vec<IndexEntry>>) -> Vec<Vec<IndexEntry>> {
    let ends = |run: &Vec<IndexEntry>| Some((run.first()?.stamp, run.last()?.stamp));
    runs.sort_by_key(ends);
    let apart =
        runs.windows(2).all(|pair| ends(&pair[0]).map(|ends| ends.1) < ends(&pair[1]).map(|ends| ends.0));
    // One run: with mail of 10,000 domains in each of 20 segments the heads of runs are 7 octets a message.
    if apart { vec![runs.concat()] } else { vec![merged(runs).collect()] }
}

/// The entries of all runs in stamp order; two copies of one record are one (H10).
fn merged(runs: Vec<Vec<IndexEntry>>) -> impl Iterator<Item = IndexEntry> {
    let mut runs: Vec<_> = runs.into_iter().map(Vec::into_iter).collect();
    let mut heads = BinaryHeap::new();
    for (number, run) in runs.iter_mut().enumerate() {
        heads.extend(run.next().map(|entry| Reverse((entry.stamp, entry.first, number, entry))));
    }
    let mut last = (Stamp::NONE, 0);
    core::iter::from_fn(move || {
        loop {
            let Reverse((stamp, first, number, entry)) = heads.pop()?;
            heads.extend(runs[number].next().map(|next| Reverse((next.stamp, next.first, number, next))));
            if core::mem::replace(&mut last, (stamp, first)) != (stamp, first) {
                return Some(entry);
            }
        }
    })
}

/// What is queued, as a checkpoint restates it.
pub(super) fn restated(backlogs: &[Backlog]) -> checkpoint::Queued {
    let decided = backlogs.iter().flat_map(|backlog| &backlog.decided);
    let held = decided.filter(|known| known.fact.outcome == Outcome::Held);
    let held = held.map(|Decided { fact, since_s }| HeldUnit {
        stamp: fact.stamp,
        ordinal: fact.ordinal,
        code: fact.code,
        since_s: *since_s,
    });
    let authentications = backlogs.iter().flat_map(|backlog| &backlog.authentications).copied();
    let (held, authentications) = (held.collect(), authentications.collect());
    let offered = backlogs.iter().flat_map(|backlog| &backlog.offered).copied().collect();
    let mut queued = checkpoint::Queued { held, authentications, kept: Vec::new(), offered };
    // A message in several domains is in the backlog of each.
    queued.authentications.sort_unstable();
    queued.authentications.dedup();
    // A copy of a record in another directory is one message (H10).
    queued.offered.sort_unstable();
    queued.offered.dedup();
    queued
}

impl Queued {
    /// Ordinals that nobody has decided about.
    #[must_use]
    pub fn open_units(&self) -> Vec<u16> {
        let range = self.entry.first..self.entry.first + self.entry.count;
        range.filter(|ordinal| !self.decided.iter().any(|known| known.fact.ordinal == *ordinal)).collect()
    }

    /// Units that wait for the operator.
    pub fn held_units(&self) -> impl Iterator<Item = &Decided> {
        self.decided.iter().filter(|known| known.fact.outcome == Outcome::Held)
    }
}
