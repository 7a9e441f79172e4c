//! An outage of a domain's mail server, from the first failure to the last message handed over, and its ledger: pure.
//!
//! It begins when the server is down, returns when it takes mail again, and ends when nothing waits any more. The ledger is of (message,
//! recipient) units, by the counts of the store, which outlive restarts:
//! `waiting at the beginning + accepted = delivered + bounced + discarded + expired + deleted + damaged + waiting at the end`.

use crate::bridge::operator::{DomainStatus, State, Transports};
use crate::limits::OUTAGE_SAMPLES_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Counts of a domain at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Units that wait or are held
    pub waiting: u64,
    /// Units accepted, since the store was made
    pub accepted: u64,
    /// Units that a server took
    pub delivered: u64,
    /// Units about which a notice was made
    pub bounced: u64,
    /// Units that were refused and dropped
    pub discarded: u64,
    /// Units that were past their time
    pub expired: u64,
    /// Units that an operator removed
    pub deleted: u64,
    /// Units whose record is damaged
    pub damaged: u64,
    /// Units handed over through TLS, since the process began
    pub encrypted: u64,
    /// Units handed over without
    pub plain: u64,
    /// Units handed over to whom TLSA records or a policy describe
    pub verified: u64,
}

impl Counts {
    fn of(status: &DomainStatus) -> Self {
        let Transports { encrypted, plain, verified_dane, verified_mta_sts } = status.transports;
        Self {
            waiting: status.backlog + status.held,
            accepted: status.accepted,
            delivered: status.delivered,
            bounced: status.bounced,
            discarded: status.discarded,
            expired: status.expired,
            deleted: status.deleted,
            damaged: status.damaged,
            encrypted,
            plain,
            verified: verified_dane + verified_mta_sts,
        }
    }

    /// What came between two times; counts of the process began anew where they are lower.
    fn since(self, before: Self) -> Self {
        let anew = |now: u64, then: u64| if now < then { now } else { now - then };
        Self {
            waiting: self.waiting,
            accepted: self.accepted.saturating_sub(before.accepted),
            delivered: self.delivered.saturating_sub(before.delivered),
            bounced: self.bounced.saturating_sub(before.bounced),
            discarded: self.discarded.saturating_sub(before.discarded),
            expired: self.expired.saturating_sub(before.expired),
            deleted: self.deleted.saturating_sub(before.deleted),
            damaged: self.damaged.saturating_sub(before.damaged),
            encrypted: anew(self.encrypted, before.encrypted),
            plain: anew(self.plain, before.plain),
            verified: anew(self.verified, before.verified),
        }
    }

    const fn ended(self) -> u64 {
        self.delivered + self.bounced + self.discarded + self.expired + self.deleted + self.damaged
    }
}

/// What waited, and what had been delivered, at one time of an outage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// Seconds since 1970
    pub at_s: u64,
    /// Units that waited
    pub waiting: u64,
    /// Units delivered since the outage began
    pub delivered: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// The domain.
    pub domain: String,
    /// Its first failure, in seconds since 1970.
    pub began_s: u64,
    /// What failed.
    pub reason: String,
    /// When the server took mail again.
    pub returned_s: Option<u64>,
    /// When nothing waited any more.
    pub ended_s: Option<u64>,
    /// The counts at its beginning, and at the last look.
    pub first: Counts,
    /// See `first`.
    pub last: Counts,
    /// Most units that waited at a time.
    pub peak: u64,
    /// At most [`OUTAGE_SAMPLES_MAX`], ever further apart.
    pub samples: Vec<Sample>,
    /// Seconds between two of them.
    pub step_s: u64,
}

/// What became of mail in an outage, in units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Ledger {
    /// Units that waited when it began
    pub waiting_before: u64,
    /// What came and what became of it, until the end or the last look; `waiting` is what waits then
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether all of it is accounted for
    pub is_balanced: bool,
}

/// What happened in an outage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The server is down.
    Began,
    /// It takes mail again.
    Returned,
    /// It is down again, before all was handed over.
    LostAgain,
    /// Nothing waits any more.
    Ended,
}

impl Event {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Began => "outage-began",
            Self::Returned => "primary-returned",
            Self::LostAgain => "primary-lost-again",
            Self::Ended => "outage-ended",
        }
    }
}

/// One look at a domain: the outage that is under way behind it, and what happened.
#[must_use]
pub fn step(before: Option<Outage>, status: &DomainStatus, now_s: u64) -> (Option<Outage>, Option<Event>) {
    match before {
        None if status.state == State::Down => (Some(begin(status, now_s)), Some(Event::Began)),
        None => (None, None),
        Some(mut outage) => {
            let event = outage.look(status, now_s);
            (Some(outage), event)
        }
    }
}

fn begin(status: &DomainStatus, now_s: u64) -> Outage {
    let failure = status.last_failure.as_ref();
    let counts = Counts::of(status);
    let mut outage = Outage {
        domain: status.name.clone(),
        began_s: failure.map_or(now_s, |failure| u64::from(failure.at_s).min(now_s)),
        reason: failure.map(|failure| failure.reason.clone()).unwrap_or_default(),
        returned_s: None,
        ended_s: None,
        first: counts,
        last: counts,
        peak: 0,
        samples: Vec::new(),
        step_s: 1,
    };
    outage.sample(now_s);
    outage
}

impl Outage {
    fn look(&mut self, status: &DomainStatus, now_s: u64) -> Option<Event> {
        self.last = Counts::of(status);
        let waits = status.backlog > 0;
        let event = match (status.state, self.returned_s) {
            (State::Down, Some(_)) => {
                self.returned_s = None;
                Some(Event::LostAgain)
            }
            // A small backlog is gone before anybody looks.
            (State::Up, returned) if !waits => {
                self.returned_s = returned.or(Some(now_s));
                self.ended_s = Some(now_s);
                Some(Event::Ended)
            }
            (State::Up | State::Recovering, None) => {
                self.returned_s = Some(now_s);
                Some(Event::Returned)
            }
            _ => None,
        };
        self.sample(now_s);
        event
    }

    fn sample(&mut self, now_s: u64) {
        self.peak = self.peak.max(self.last.waiting);
        let is_due = self.samples.last().is_none_or(|last| now_s >= last.at_s + self.step_s);
        if !is_due && self.ended_s.is_none() {
            return;
        }
        let delivered = self.last.since(self.first).delivered;
        self.samples.push(Sample { at_s: now_s, waiting: self.last.waiting, delivered });
        if self.samples.len() > OUTAGE_SAMPLES_MAX {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.step_s *= 2;
        }
    }

    /// What became of mail until now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let counts = self.last.since(self.first);
        let waiting_before = self.first.waiting;
        let is_balanced = waiting_before + counts.accepted == counts.ended() + counts.waiting;
        Ledger { waiting_before, counts, is_balanced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::Failure;

    fn row(state: State, accepted: u64, delivered: u64) -> DomainStatus {
        DomainStatus {
            name: "a.test".to_owned(),
            state,
            accepted,
            delivered,
            backlog: accepted - delivered,
            last_failure: Some(Failure { at_s: 90, reason: "refused".to_owned() }),
            ..DomainStatus::default()
        }
    }

    #[test]
    fn an_outage_lasts_until_nothing_waits_and_its_ledger_balances() {
        let (outage, event) = step(None, &row(State::Suspect, 5, 5), 100);
        assert_eq!((&outage, event), (&None, None), "one failure is none");
        let (outage, event) = step(outage, &row(State::Down, 7, 5), 110);
        assert_eq!(event, Some(Event::Began));
        assert_eq!(outage.as_ref().map(|outage| outage.began_s), Some(90), "it began with the first failure");
        let (outage, event) = step(outage, &row(State::Down, 20, 5), 200);
        assert_eq!(event, None);
        let (outage, event) = step(outage, &row(State::Recovering, 20, 6), 300);
        assert_eq!(event, Some(Event::Returned));
        let (outage, event) = step(outage, &row(State::Down, 20, 9), 310);
        assert_eq!(event, Some(Event::LostAgain));
        let (outage, _) = step(outage, &row(State::Recovering, 20, 9), 400);
        let (outage, event) = step(outage, &row(State::Up, 21, 20), 410);
        assert_eq!(event, None, "one still waits");
        let (outage, event) = step(outage, &row(State::Up, 21, 21), 420);
        assert_eq!(event, Some(Event::Ended));
        let outage = outage.expect("it is told");
        assert_eq!((outage.returned_s, outage.ended_s, outage.peak), (Some(400), Some(420), 15));
        let ledger = outage.ledger();
        assert_eq!((ledger.waiting_before, ledger.counts.accepted, ledger.counts.delivered), (2, 14, 16));
        assert!(ledger.is_balanced);
        let lost = Outage { last: Counts { delivered: 20, ..outage.last }, ..outage };
        assert!(!lost.ledger().is_balanced, "a unit that is nowhere is seen");
    }

    #[test]
    fn a_month_has_no_more_samples_than_an_hour() {
        let (mut outage, _) = step(None, &row(State::Down, 1, 0), 1_000);
        for look in 0..500_000 {
            (outage, _) = step(outage, &row(State::Down, 1 + look, 0), 1_000 + look * 5);
        }
        let outage = outage.expect("it goes on");
        assert!(outage.samples.len() <= OUTAGE_SAMPLES_MAX && outage.samples.len() * 2 >= OUTAGE_SAMPLES_MAX);
        assert_eq!(outage.samples[0].at_s, 1_000, "its beginning stays");
        assert!(outage.samples.is_sorted_by_key(|sample| sample.at_s));
    }
}
