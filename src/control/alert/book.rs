//! What is told of conditions, and when: a pure state machine.
//!
//! - A condition is told when it has held for a while (its kind says how long), and over when it has been gone for a minute. A look that could
//!   see nothing ends nothing.
//! - While it holds and nobody has acknowledged it, it is told again every six hours; at once, and whoever acknowledged it, when it matters
//!   more than what was told.
//! - One that came and went three times in an hour is *flapping*: that is told once. The next time that it opens within the hour it is told only
//!   when it has held for an hour.

use super::{Condition, Kind, Severity};
use crate::limits::{ALERT_CALM, ALERT_FLAPS, ALERT_OVER_AFTER, ALERT_REPEAT};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// What an alert is told by.
pub type Key = (Kind, String);

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It holds.
    Opened,
    /// It matters more than before.
    Worse,
    /// It still holds.
    Repeated,
    /// It comes and goes; no more is told of that.
    Flapping,
    /// It holds no more.
    Over,
    /// The same of one that comes and goes: kept, and told to nobody.
    OverQuietly,
}

impl Told {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Worse => "worse",
            Self::Repeated => "repeated",
            Self::Flapping => "flapping",
            Self::Over | Self::OverQuietly => "over",
        }
    }
}

/// A condition that holds, or held a moment ago.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// As it was seen last.
    pub condition: Condition,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// When it was told last; none: not yet.
    pub told_s: Option<u64>,
    /// How much it mattered when it was told.
    pub told_severity: Severity,
    /// Somebody looks after it.
    pub is_acknowledged: bool,
    /// When it was seen last.
    pub seen_s: u64,
    /// It came and went before, and is told only if it stays.
    pub is_quiet: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Book {
    open: BTreeMap<Key, Open>,
    /// When each was told to have opened, of the last hour.
    openings: BTreeMap<Key, Vec<u64>>,
}

/// What a look has seen.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What holds.
    pub conditions: Vec<Condition>,
    /// Nothing could be seen but that.
    pub is_blind: bool,
    /// What goes on though it does not hold at this moment: a server whose outage has no end yet.
    pub lasting: BTreeSet<Key>,
}

/// How long a condition holds before it is told; that a server is down, as long as the operator says.
const fn holds_before(kind: Kind, down_for: Duration) -> Duration {
    match kind {
        Kind::PrimaryDown => down_for,
        Kind::PrimaryImpaired => Duration::from_secs(600),
        Kind::Spool | Kind::Storage => Duration::from_secs(30),
        Kind::Frozen
        | Kind::PrimaryChanged
        | Kind::Expiry
        | Kind::HeldExpiry
        | Kind::Certificate
        | Kind::DiskHealth
        | Kind::Drift => Duration::ZERO,
    }
}

impl Book {
    /// Goes on from what an earlier life had told.
    #[must_use]
    pub fn restored(open: Vec<Open>) -> Self {
        let key = |open: &Open| (open.condition.kind, open.condition.domain.clone());
        Self { open: open.into_iter().map(|open| (key(&open), open)).collect(), openings: BTreeMap::new() }
    }

    /// One look: what is to be told, with what it is about.
    pub fn step(&mut self, now_s: u64, seen: Look, down_for: Duration) -> Vec<(Told, Open)> {
        let mut told = Vec::new();
        for condition in seen.conditions {
            let key = (condition.kind, condition.domain.clone());
            let open = self.open.entry(key.clone()).or_insert_with(|| Open {
                condition: condition.clone(),
                since_s: now_s,
                told_s: None,
                told_severity: Severity::Information,
                is_acknowledged: false,
                seen_s: now_s,
                is_quiet: false,
            });
            open.condition = condition;
            open.seen_s = now_s;
            let openings = self.openings.entry(key).or_default();
            if let Some(what) = due(open, openings, now_s, down_for) {
                open.told_s = Some(now_s);
                open.told_severity = open.condition.severity;
                open.is_acknowledged &= what != Told::Worse;
                told.push((what, open.clone()));
            }
        }
        for (key, open) in &mut self.open {
            if (seen.is_blind && !matches!(key.0, Kind::Storage | Kind::DiskHealth))
                || seen.lasting.contains(key)
            {
                open.seen_s = now_s;
            }
        }
        self.close(now_s, &mut told);
        told
    }

    /// Takes out what is gone.
    fn close(&mut self, now_s: u64, told: &mut Vec<(Told, Open)>) {
        let openings = &mut self.openings;
        self.open.retain(|key, open| {
            if now_s < open.seen_s + ALERT_OVER_AFTER.as_secs() {
                return true;
            }
            let is_flapping = openings.get(key).is_some_and(|all| all.len() > ALERT_FLAPS);
            if open.told_s.is_some() {
                told.push((if is_flapping { Told::OverQuietly } else { Told::Over }, open.clone()));
            }
            false
        });
        openings.retain(|_, all| all.last().is_some_and(|last| now_s < last + ALERT_CALM.as_secs()));
    }

    /// Somebody looks after it: whether it is open.
    pub fn acknowledge(&mut self, key: &Key) -> bool {
        let open = self.open.get_mut(key);
        open.map(|open| open.is_acknowledged = true).is_some()
    }

    /// What is open and was told.
    pub fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values().filter(|open| open.told_s.is_some())
    }
}

fn due(open: &mut Open, openings: &mut Vec<u64>, now_s: u64, down_for: Duration) -> Option<Told> {
    let held_s = now_s.saturating_sub(open.since_s);
    match open.told_s {
        None if held_s < holds_before(open.condition.kind, down_for).as_secs() => None,
        // It came and went, and now it stays.
        None if open.is_quiet => (held_s >= ALERT_CALM.as_secs()).then_some(Told::Opened),
        None => {
            openings.retain(|at_s| now_s < at_s + ALERT_CALM.as_secs());
            openings.push(now_s);
            match openings.len() {
                count if count <= ALERT_FLAPS => Some(Told::Opened),
                count if count == ALERT_FLAPS + 1 => Some(Told::Flapping),
                _ => {
                    open.is_quiet = true;
                    None
                }
            }
        }
        Some(_) if open.condition.severity > open.told_severity => Some(Told::Worse),
        Some(told_s) => {
            let is_due = !open.is_acknowledged && now_s >= told_s + ALERT_REPEAT.as_secs();
            is_due.then_some(Told::Repeated)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(severity: Severity) -> Vec<Condition> {
        let text = "down".to_owned();
        vec![Condition { kind: Kind::PrimaryDown, domain: "a.test".to_owned(), severity, text }]
    }

    fn look(conditions: &[Condition]) -> Look {
        Look { conditions: conditions.to_vec(), ..Look::default() }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn words(told: Vec<(Told, Open)>) -> Vec<&'static str> {
        told.into_iter().map(|(told, _)| told.word()).collect()
    }

    /// Looks every 5 s from one time to another; what was told at which.
    fn looks(book: &mut Book, from: u64, to: u64, conditions: &[Condition]) -> Vec<(u64, &'static str)> {
        let times = (from..to).step_by(5);
        times
            .flat_map(|at| {
                words(book.step(at, look(conditions), MINUTE)).into_iter().map(move |word| (at, word))
            })
            .collect()
    }

    #[test]
    fn it_is_told_when_it_has_held_again_until_somebody_looks_and_when_it_is_over() {
        let mut book = Book::default();
        let condition = down(Severity::Warning);
        assert_eq!(looks(&mut book, 1_000, 1_055, &condition), []);
        assert_eq!(looks(&mut book, 1_055, 1_200, &condition), [(1_060, "opened")]);
        assert_eq!(looks(&mut book, 1_200, 22_700, &condition), [(1_060 + 21_600, "repeated")]);
        assert_eq!(words(book.step(22_700, look(&down(Severity::Critical)), MINUTE)), ["worse"]);
        assert!(book.acknowledge(&(Kind::PrimaryDown, "a.test".to_owned())));
        assert_eq!(looks(&mut book, 22_705, 90_000, &down(Severity::Critical)), []);
        assert_eq!(looks(&mut book, 90_000, 90_200, &[]), [(90_055, "over")]);
        assert_eq!(book.open().count(), 0);
        assert!(!book.acknowledge(&(Kind::PrimaryDown, "a.test".to_owned())));
    }

    #[test]
    fn a_moment_is_not_told_and_a_gap_does_not_end_it() {
        let mut book = Book::default();
        assert_eq!(looks(&mut book, 0, 50, &down(Severity::Critical)), []);
        assert_eq!(looks(&mut book, 50, 200, &[]), [], "it never was one");
        assert_eq!(looks(&mut book, 200, 300, &down(Severity::Critical)), [(260, "opened")]);
        assert_eq!(looks(&mut book, 300, 340, &[]), []);
        assert_eq!(looks(&mut book, 340, 500, &down(Severity::Critical)), []);
    }

    #[test]
    fn what_comes_and_goes_is_told_three_times_then_once_more_then_not() {
        let mut book = Book::default();
        let mut told = Vec::new();
        for round in 0..6 {
            let at = round * 300;
            told.extend(looks(&mut book, at, at + 150, &down(Severity::Critical)));
            told.extend(looks(&mut book, at + 150, at + 300, &[]));
        }
        let words: Vec<_> = told.iter().map(|(_, word)| *word).collect();
        // The last "over" is kept, and told to nobody.
        assert_eq!(words, ["opened", "over", "opened", "over", "opened", "over", "flapping", "over"]);
        let stays = looks(&mut book.clone(), 1_800, 9_000, &down(Severity::Critical));
        assert_eq!(stays, [(1_800 + 3_600, "opened")], "what came and went and then stays is told");
        assert_eq!(looks(&mut book, 1_800, 9_000, &[]), []);
        let calm = looks(&mut book, 9_000, 9_200, &down(Severity::Critical));
        assert_eq!(calm, [(9_060, "opened")], "after an hour it is told again");
    }

    #[test]
    fn who_sees_nothing_ends_nothing_and_an_outage_without_an_end_goes_on() {
        let mut book = Book::default();
        looks(&mut book, 0, 100, &down(Severity::Critical));
        for at in (100..1_000).step_by(5) {
            let blind = Look { is_blind: true, ..Look::default() };
            assert!(book.step(at, blind, MINUTE).is_empty());
        }
        let key = (Kind::PrimaryDown, "a.test".to_owned());
        for at in (1_000..2_000).step_by(5) {
            let lasting = Look { lasting: BTreeSet::from([key.clone()]), ..Look::default() };
            assert!(book.step(at, lasting, MINUTE).is_empty());
        }
        assert_eq!(looks(&mut book, 2_000, 2_100, &[]), [(2_055, "over")]);
    }

    #[test]
    fn what_wavers_at_a_mark_is_told_once() {
        let mut book = Book::default();
        looks(&mut book, 0, 100, &down(Severity::Warning));
        assert_eq!(looks(&mut book, 100, 105, &down(Severity::Critical)), [(100, "worse")]);
        for at in (105..2_000).step_by(10) {
            assert_eq!(looks(&mut book, at, at + 5, &down(Severity::Warning)), []);
            assert_eq!(looks(&mut book, at + 5, at + 10, &down(Severity::Critical)), []);
        }
    }

    #[test]
    fn what_an_earlier_life_told_is_not_told_again() {
        let mut before = Book::default();
        looks(&mut before, 0, 100, &down(Severity::Critical));
        let mut book = Book::restored(before.open().cloned().collect());
        assert_eq!(looks(&mut book, 105, 1_000, &down(Severity::Critical)), []);
        assert_eq!(looks(&mut book, 1_000, 1_100, &[]), [(1_055, "over")]);
    }
}
