//! Facts about units, gathered from all journals of a store (H2, H10).
//!
//! Journals are a union: a unit that any journal settles is settled, whichever shard wrote it and however
//! often. A final outcome is for ever; hold and release, which are not, take the highest sequence.

use crate::format::journal_entry::{Fact, Outcome, Tally};
use crate::position::{SegmentId, ShardId, Stamp};
use std::collections::BTreeMap;

/// See the module. Built in two steps: [`Facts::add`] all, then [`Facts::finish`].
#[derive(Debug, Default)]
pub struct Facts {
    rows: Vec<(Stamp, u16, Stamp, Fact)>,
    tallies: BTreeMap<(ShardId, SegmentId), Tally>,
    last: Stamp,
}

impl Facts {
    /// A fact that was journalled with this sequence.
    pub fn add(&mut self, sequence: Stamp, fact: Fact) {
        self.last = self.last.max(sequence).max(fact.stamp);
        self.rows.push((fact.stamp, fact.ordinal, sequence, fact));
    }

    /// The tally of an unlinked segment, or a part of it. Rows are a union by domain: the same one from two
    /// journals counts once.
    pub fn add_tally(&mut self, sequence: Stamp, tally: Tally) {
        self.last = self.last.max(sequence);
        let place = (tally.shard, tally.segment);
        let whole = self.tallies.entry(place).or_insert_with(|| Tally { domains: Vec::new(), ..tally });
        for row in tally.domains {
            match whole.domains.binary_search_by(|known| known.domain.cmp(&row.domain)) {
                Ok(at) => whole.domains[at] = row,
                Err(at) => whole.domains.insert(at, row),
            }
        }
    }

    /// One fact a unit.
    pub fn finish(&mut self) {
        self.rows.sort_by_key(|(stamp, ordinal, sequence, fact)| {
            // The last of a unit wins: final outcomes above others, among these the highest sequence.
            (*stamp, *ordinal, fact.outcome.is_final(), *sequence)
        });
        let mut kept: Vec<(Stamp, u16, Stamp, Fact)> = Vec::with_capacity(self.rows.len());
        for row in self.rows.drain(..) {
            match kept.last_mut() {
                Some(last) if (last.0, last.1) == (row.0, row.1) => *last = row,
                _ => kept.push(row),
            }
        }
        kept.retain(|(_, _, _, fact)| fact.outcome != Outcome::Released);
        self.rows = kept;
    }

    /// The facts about one message, by ordinal.
    pub fn of(&self, stamp: Stamp) -> impl Iterator<Item = &Fact> {
        let from = self.rows.partition_point(|row| row.0 < stamp);
        self.rows[from..].iter().take_while(move |row| row.0 == stamp).map(|row| &row.3)
    }

    /// All tallies.
    pub fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.tallies.values()
    }

    /// The highest stamp or sequence that any journal names.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(outcome: Outcome) -> Fact {
        Fact { stamp: Stamp(5), ordinal: 0, outcome, code: 0 }
    }

    #[test]
    fn h10_journals_are_a_union_and_final_outcomes_stay() {
        let mut facts = Facts::default();
        facts.add(Stamp(20), fact(Outcome::Held));
        facts.add(Stamp(10), fact(Outcome::Delivered));
        facts.add(Stamp(10), fact(Outcome::Delivered));
        facts.finish();
        let found: Vec<_> = facts.of(Stamp(5)).map(|fact| fact.outcome).collect();
        assert_eq!(found, [Outcome::Delivered]);
        assert_eq!(facts.last(), Stamp(20));
    }

    #[test]
    fn h10_hold_and_release_take_the_highest_sequence() {
        let mut facts = Facts::default();
        facts.add(Stamp(11), fact(Outcome::Released));
        facts.add(Stamp(10), fact(Outcome::Held));
        facts.finish();
        assert_eq!(facts.of(Stamp(5)).count(), 0, "released last");
        let mut facts = Facts::default();
        facts.add(Stamp(12), fact(Outcome::Held));
        facts.add(Stamp(11), fact(Outcome::Released));
        facts.finish();
        assert_eq!(facts.of(Stamp(5)).count(), 1, "held again");
    }
}
