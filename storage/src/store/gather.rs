//! From indexes and facts to what is queued, and to what became of all units, segment by segment.

use super::backlog::{Backlog, Decided, in_order};
use crate::facts::Facts;
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::journal_entry::{Authentication, FINAL_OUTCOMES, Fact};
use crate::format::offered::Offered;
use crate::format::tally::{Ledger, TallyRow};
use crate::position::{SegmentId, ShardId};
use crate::shelf::Shelf;
use std::collections::BTreeMap;

/// What is queued, by domain and directory.
#[derive(Default)]
pub(super) struct Gathered {
    domains: BTreeMap<(String, ShardId), Domain>,
    /// Units of all segments that are here, by domain.
    totals: BTreeMap<String, TallyRow>,
}

/// One domain's mail in one directory: entries, a run a segment, and what is decided about their units.
#[derive(Default)]
struct Domain {
    runs: Vec<Vec<IndexEntry>>,
    decided: Vec<Decided>,
    authentications: Vec<Authentication>,
    offered: Vec<Offered>,
}

impl Gathered {
    /// Puts facts onto the units of a segment, and what is open into the queue.
    pub(super) fn take(
        &mut self,
        (shard, segment): (ShardId, SegmentId),
        index: SegmentIndex,
        facts: &Facts,
        shelf: &mut Shelf,
    ) {
        for (domain, mut entries) in index.domains {
            let mut decided = Vec::new();
            let total = total_of(&mut self.totals, &domain);
            entries.retain(|entry| {
                let before = decided.len();
                decide_units(shard, segment, entry, facts, &mut decided);
                let known = &decided[before..];
                for Decided { fact, .. } in known {
                    shelf.settle(shard, segment, entry.unit_base + u32::from(fact.ordinal), fact.outcome);
                }
                total.accepted += u64::from(entry.count);
                for (count, outcome) in total.ended.iter_mut().zip(FINAL_OUTCOMES) {
                    *count += known.iter().filter(|known| known.fact.outcome == outcome).count() as u64;
                }
                let ended = known.iter().filter(|known| known.fact.outcome.is_final()).count();
                let is_open = ended < usize::from(entry.count);
                if !is_open {
                    decided.truncate(before);
                }
                is_open
            });
            if entries.is_empty() {
                continue;
            }
            entries.shrink_to_fit();
            let said = entries.iter().filter_map(|entry| {
                let bits = facts.authentication(entry.stamp);
                (bits != 0).then_some(Authentication { stamp: entry.stamp, bits })
            });
            let offered = entries.iter().filter(|entry| facts.is_offered(entry.stamp, entry.first));
            let offered: Vec<Offered> = offered.map(of_entry).collect();
            let known = self.domains.entry((domain, shard)).or_default();
            known.offered.extend(offered);
            known.authentications.extend(said);
            known.runs.push(entries);
            known.decided.extend(decided);
        }
    }

    /// Units of every domain since the store was made: of the segments that are here, and of those that are gone.
    pub(super) fn totals<'a>(&mut self, ledgers: impl Iterator<Item = &'a Ledger>) -> Vec<TallyRow> {
        let mut totals = core::mem::take(&mut self.totals);
        for row in ledgers.flat_map(|ledger| &ledger.rows) {
            total_of(&mut totals, &row.domain).add(row);
        }
        totals.into_values().collect()
    }

    /// All of it, by domain and directory.
    pub(super) fn finish(self) -> Vec<Backlog> {
        let backlog = |((domain, shard), known): ((String, ShardId), Domain)| {
            let Domain { runs, mut decided, mut authentications, mut offered } = known;
            decided.sort_unstable_by_key(|known: &Decided| (known.fact.stamp, known.fact.ordinal));
            decided.shrink_to_fit();
            authentications.sort_unstable();
            authentications.shrink_to_fit();
            offered.sort_unstable();
            Backlog { domain, shard, runs: in_order(runs), decided, authentications, offered }
        };
        self.domains.into_iter().map(backlog).collect()
    }
}

fn of_entry(entry: &IndexEntry) -> Offered {
    Offered { stamp: entry.stamp, first: entry.first, is_open: true }
}

fn total_of<'a>(totals: &'a mut BTreeMap<String, TallyRow>, domain: &str) -> &'a mut TallyRow {
    if !totals.contains_key(domain) {
        let row = TallyRow { domain: domain.to_owned(), accepted: 0, ended: [0; FINAL_OUTCOMES.len()] };
        totals.insert(domain.to_owned(), row);
    }
    totals.get_mut(domain).expect("it was put in")
}

/// Adds what is known about the units of an entry.
fn decide_units(
    shard: ShardId,
    segment: SegmentId,
    entry: &IndexEntry,
    facts: &Facts,
    decided: &mut Vec<Decided>,
) {
    let range = entry.first..entry.first + entry.count;
    let told = facts.of(entry.stamp).filter(|told| range.contains(&told.fact.ordinal));
    let from = decided.len();
    decided.extend(told.map(|told| Decided { fact: told.fact, since_s: told.since_s }));
    for ordinal in range {
        let unit = entry.unit_base + u32::from(ordinal);
        let Some(outcome) = facts.restated(shard, segment, unit) else { continue };
        // It came first: checkpoints restate what was told before them.
        let fact = Fact { stamp: entry.stamp, ordinal, outcome, code: 0 };
        match decided[from..].iter_mut().find(|known| known.fact.ordinal == ordinal) {
            Some(known) if known.fact.outcome == outcome => {}
            Some(known) => known.fact = fact,
            None => decided.push(Decided { fact, since_s: 0 }),
        }
    }
}
