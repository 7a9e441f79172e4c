//! The ledger as arithmetic (P2), in units of (message, recipient) a domain:
//!
//! ```text
//! accepted = delivered + bounced + discarded + expired + deleted + damaged + backlog + held
//! ```
//!
//! Both sides are counted apart: accepted units by records, tallies and ledgers, the others by what is known about each
//! unit. So a row that does not balance tells that something was counted that is not there, or the other way round.
//!
//! Pure: it reads nothing.

use crate::format::journal_entry::{FINAL_OUTCOMES, Outcome};
use crate::format::tally::TallyRow;
use std::collections::BTreeMap;

/// Units of one domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// The domain; empty for units whose domain nothing tells any more.
    pub domain: String,
    /// All that were accepted.
    pub accepted: u64,
    /// A notice about it was made.
    pub bounced: u64,
    /// Its record is unreadable, and that was settled.
    pub damaged: u64,
    /// An operator removed it.
    pub deleted: u64,
    /// The primary took it.
    pub delivered: u64,
    /// Refused and dropped.
    pub discarded: u64,
    /// Its retention ended.
    pub expired: u64,
    /// It waits for the primary.
    pub backlog: u64,
    /// It waits for the operator.
    pub held: u64,
}

/// Rows by domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    rows: BTreeMap<String, Row>,
}

impl Row {
    /// What became of the accepted units.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        let ended = [
            self.bounced,
            self.damaged,
            self.deleted,
            self.delivered,
            self.discarded,
            self.expired,
            self.backlog,
            self.held,
        ];
        ended.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Accepted units of which nothing tells what became of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.accepted.saturating_sub(self.accounted())
    }

    /// Whether every accepted unit is accounted for, and no other.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.accepted == self.accounted()
    }

    fn of(&mut self, outcome: Option<Outcome>) -> &mut u64 {
        match outcome {
            Some(Outcome::Bounced) => &mut self.bounced,
            Some(Outcome::Damaged) => &mut self.damaged,
            Some(Outcome::Deleted) => &mut self.deleted,
            Some(Outcome::Delivered) => &mut self.delivered,
            Some(Outcome::Discarded) => &mut self.discarded,
            Some(Outcome::Expired) => &mut self.expired,
            Some(Outcome::Held) => &mut self.held,
            Some(Outcome::Released) | None => &mut self.backlog,
        }
    }
}

impl Ledger {
    /// Units that were accepted.
    pub fn accept(&mut self, domain: &str, units: u64) {
        let row = self.row(domain);
        row.accepted = row.accepted.saturating_add(units);
    }

    /// Units with this outcome; without one they wait.
    pub fn account(&mut self, domain: &str, outcome: Option<Outcome>, units: u64) {
        let count = self.row(domain).of(outcome);
        *count = count.saturating_add(units);
    }

    /// Units of segments that are gone.
    pub(crate) fn add(&mut self, gone: &TallyRow) {
        self.accept(&gone.domain, gone.accepted);
        for (outcome, units) in FINAL_OUTCOMES.into_iter().zip(gone.ended) {
            self.account(&gone.domain, Some(outcome), units);
        }
    }

    /// The rows, by domain.
    pub fn into_rows(self) -> impl Iterator<Item = Row> {
        self.rows.into_values()
    }

    fn row(&mut self, domain: &str) -> &mut Row {
        if !self.rows.contains_key(domain) {
            let row = Row { domain: domain.to_owned(), ..Row::default() };
            self.rows.insert(domain.to_owned(), row);
        }
        self.rows.get_mut(domain).expect("it was put in")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_balances_by_every_outcome_and_by_no_unit_less() {
        let mut ledger = Ledger::default();
        let outcomes = FINAL_OUTCOMES.into_iter().map(Some).chain([Some(Outcome::Held), None]);
        for (number, outcome) in (1..).zip(outcomes) {
            ledger.accept("a.test", number);
            ledger.account("a.test", outcome, number);
        }
        ledger.accept("b.test", 2);
        ledger.account("b.test", None, 1);
        let rows: Vec<Row> = ledger.into_rows().collect();
        assert_eq!((rows[0].accepted, rows[0].balances(), rows[0].lost()), (36, true, 0));
        assert_eq!((rows[0].bounced, rows[0].expired, rows[0].held, rows[0].backlog), (1, 6, 7, 8));
        assert_eq!((rows[1].balances(), rows[1].lost()), (false, 1));
    }
}
