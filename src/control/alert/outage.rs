//! An outage of a domain's mail server, from the first failure to the last message handed over, and its ledger: pure.
//!
//! It begins when the server is down, returns when it has taken mail for a minute, and ends when everything due was handed over (what it
//! defers by itself may still wait), or nothing waits and nobody asks it any more. The ledger is of (message,
//! recipient) units, by the counts of the store, which outlive restarts:
//! `waiting at the beginning + accepted = delivered + bounced + discarded + expired + deleted + damaged + waiting at the end`.

use super::proof::Proof;
use crate::bridge::operator::{DomainStatus, State, Transports};
use crate::limits::{ALERT_OVER_AFTER, OUTAGE_REASON_CHARACTERS_MAX, OUTAGE_SAMPLES_MAX};
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

/// Units that were handed over, through what; added up over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Through {
    /// TLS.
    pub encrypted: u64,
    /// Nothing.
    pub plain: u64,
    /// TLS, with whom TLSA records or a policy describe.
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

    /// What came between two times.
    fn since(self, before: Self, through: Through) -> Self {
        Self {
            waiting: self.waiting,
            accepted: self.accepted.saturating_sub(before.accepted),
            delivered: self.delivered.saturating_sub(before.delivered),
            bounced: self.bounced.saturating_sub(before.bounced),
            discarded: self.discarded.saturating_sub(before.discarded),
            expired: self.expired.saturating_sub(before.expired),
            deleted: self.deleted.saturating_sub(before.deleted),
            damaged: self.damaged.saturating_sub(before.damaged),
            encrypted: through.encrypted,
            plain: through.plain,
            verified: through.verified,
        }
    }

    /// Units that ended.
    #[must_use]
    pub const fn ended(self) -> u64 {
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
    /// Of what was handed over, through what.
    #[serde(default)]
    pub through: Through,
    /// Since when it takes mail again, while that is not told yet.
    #[serde(default)]
    pub serving_since_s: Option<u64>,
    /// Contacts were told of it.
    #[serde(default)]
    pub is_told: bool,
    /// Most units that waited at a time.
    pub peak: u64,
    /// At most [`OUTAGE_SAMPLES_MAX`], ever further apart.
    pub samples: Vec<Sample>,
    /// Seconds between two of them.
    pub step_s: u64,
    /// What the traces say of it, a while behind its end.
    #[serde(default)]
    pub proof: Option<Proof>,
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
    /// Everything due was handed over, or nothing waits any more.
    Ended,
    /// The domain is not protected any more.
    Left,
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
            Self::Left => "outage-left",
        }
    }
}

/// One look at a domain: the outage that is under way behind it, and what happened. While mail goes `elsewhere` nothing tells of its own server.
#[must_use]
pub fn step(
    before: Option<Outage>,
    status: &DomainStatus,
    elsewhere: bool,
    now_s: u64,
) -> (Option<Outage>, Option<Event>) {
    match before {
        None if status.state == State::Down && !is_left_alone(status) => {
            (Some(begin(status, now_s)), Some(Event::Began))
        }
        None => (None, None),
        Some(mut outage) => {
            let event = outage.look(status, elsewhere, now_s);
            (Some(outage), event)
        }
    }
}

/// It was down when it was asked last, and there is nothing to ask it for.
#[must_use]
pub fn is_left_alone(status: &DomainStatus) -> bool {
    status.state == State::Down && status.messages == 0 && status.next_try_s.is_none()
}

/// What a server says may be long.
#[must_use]
pub fn shortened(reason: &str) -> String {
    reason.chars().take(OUTAGE_REASON_CHARACTERS_MAX).collect()
}

fn begin(status: &DomainStatus, now_s: u64) -> Outage {
    let failure = status.last_failure.as_ref();
    let counts = Counts::of(status);
    let mut outage = Outage {
        domain: status.name.clone(),
        began_s: failure.map_or(now_s, |failure| u64::from(failure.at_s).min(now_s)),
        reason: failure.map(|failure| shortened(&failure.reason)).unwrap_or_default(),
        returned_s: None,
        ended_s: None,
        first: counts,
        last: counts,
        through: Through::default(),
        serving_since_s: None,
        is_told: false,
        peak: 0,
        samples: Vec::new(),
        step_s: 1,
        proof: None,
    };
    outage.sample(now_s);
    outage
}

impl Outage {
    fn look(&mut self, status: &DomainStatus, elsewhere: bool, now_s: u64) -> Option<Event> {
        let (last, now) = (self.last, Counts::of(status));
        // Counts of the process begin anew with it.
        let grown = |now: u64, then: u64| if now < then { now } else { now - then };
        self.through.encrypted += grown(now.encrypted, last.encrypted);
        self.through.plain += grown(now.plain, last.plain);
        self.through.verified += grown(now.verified, last.verified);
        self.last = now;
        let event = if elsewhere { None } else { self.event(status, now_s) };
        self.sample(now_s);
        event
    }

    fn event(&mut self, status: &DomainStatus, now_s: u64) -> Option<Event> {
        match status.state {
            State::Up => {
                self.returned_s = self.returned_s.or(self.serving_since_s).or(Some(now_s));
                self.ended_s = Some(now_s);
                Some(Event::Ended)
            }
            _ if is_left_alone(status) => {
                self.ended_s = Some(now_s);
                Some(Event::Ended)
            }
            State::Down => {
                self.serving_since_s = None;
                self.returned_s.take().map(|_| Event::LostAgain)
            }
            State::Recovering if self.returned_s.is_none() => {
                let since_s = *self.serving_since_s.get_or_insert(now_s);
                let holds = now_s >= since_s.saturating_add(ALERT_OVER_AFTER.as_secs());
                holds.then(|| {
                    self.returned_s = Some(since_s);
                    Event::Returned
                })
            }
            _ => None,
        }
    }

    /// The domain is not protected any more.
    pub fn leave(&mut self, now_s: u64) {
        self.ended_s = Some(now_s);
    }

    fn sample(&mut self, now_s: u64) {
        self.peak = self.peak.max(self.last.waiting);
        let is_due = self.samples.last().is_none_or(|last| now_s >= last.at_s + self.step_s);
        if !is_due && self.ended_s.is_none() {
            return;
        }
        let delivered = self.last.delivered.saturating_sub(self.first.delivered);
        // Time never goes back in a plot, whatever the clock did.
        let at_s = self.samples.last().map_or(now_s, |last| now_s.max(last.at_s));
        self.samples.push(Sample { at_s, waiting: self.last.waiting, delivered });
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
        let counts = self.last.since(self.first, self.through);
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
            messages: accepted - delivered,
            last_failure: Some(Failure { at_s: 90, reason: "refused".to_owned() }),
            ..DomainStatus::default()
        }
    }

    fn looks(
        outage: Option<Outage>,
        all: &[(DomainStatus, u64)],
    ) -> (Option<Outage>, Vec<(u64, &'static str)>) {
        let (mut outage, mut events) = (outage, Vec::new());
        for (status, at_s) in all {
            let (after, event) = step(outage, status, false, *at_s);
            outage = after;
            events.extend(event.map(|event| (*at_s, event.word())));
        }
        (outage, events)
    }

    #[test]
    fn an_outage_lasts_until_all_is_handed_over_and_its_ledger_balances() {
        let (outage, events) = looks(
            None,
            &[
                (row(State::Suspect, 5, 5), 100),
                (row(State::Down, 7, 5), 110),
                (row(State::Down, 20, 5), 200),
                (row(State::Recovering, 20, 6), 300),
                (row(State::Recovering, 20, 8), 360),
                (row(State::Down, 20, 9), 370),
                (row(State::Recovering, 20, 9), 400),
                (row(State::Recovering, 21, 20), 410),
                (row(State::Up, 22, 21), 420),
            ],
        );
        let expected = [
            (110, "outage-began"),
            (360, "primary-returned"),
            (370, "primary-lost-again"),
            (420, "outage-ended"),
        ];
        assert_eq!(events, expected);
        let outage = outage.expect("it is told");
        assert_eq!(outage.began_s, 90, "it began with the first failure");
        assert_eq!((outage.returned_s, outage.ended_s, outage.peak), (Some(400), Some(420), 15));
        let ledger = outage.ledger();
        assert_eq!((ledger.waiting_before, ledger.counts.accepted, ledger.counts.delivered), (2, 15, 16));
        assert!(ledger.is_balanced && ledger.counts.waiting == 1);
        let lost = Outage { last: Counts { delivered: 20, ..outage.last }, ..outage };
        assert!(!lost.ledger().is_balanced, "a unit that is nowhere is seen");
    }

    #[test]
    fn a_server_that_takes_a_probe_and_fails_behind_it_is_not_back() {
        let flaps = (0..100)
            .map(|n| (row(if n % 2 == 0 { State::Down } else { State::Recovering }, 9, 0), 100 + n * 5));
        let (_, events) = looks(None, &flaps.collect::<Vec<_>>());
        assert_eq!(events, [(100, "outage-began")]);
    }

    #[test]
    fn a_lane_that_nobody_tries_any_more_is_no_outage_and_a_redirect_tells_nothing() {
        let empty = DomainStatus { messages: 0, next_try_s: None, ..row(State::Down, 9, 9) };
        let waits = DomainStatus { messages: 2, ..row(State::Down, 9, 7) };
        assert_eq!(looks(None, &[(empty.clone(), 100)]).1, []);
        let (outage, events) = looks(None, &[(waits.clone(), 100), (empty, 200)]);
        assert_eq!(events, [(100, "outage-began"), (200, "outage-ended")]);
        assert_eq!(outage.and_then(|outage| outage.returned_s), None);
        let (outage, _) = step(None, &waits, false, 100);
        let (outage, event) = step(outage, &row(State::Up, 9, 9), true, 200);
        assert_eq!((event, outage.and_then(|outage| outage.ended_s)), (None, None));
    }

    #[test]
    fn what_went_through_tls_is_added_up_over_a_restart() {
        let through = |encrypted| {
            let transports = Transports { encrypted, ..Transports::default() };
            DomainStatus { transports, ..row(State::Down, 9, 0) }
        };
        let (outage, _) = looks(None, &[(through(100), 100), (through(130), 105), (through(50), 110)]);
        assert_eq!(outage.map(|outage| outage.ledger().counts.encrypted), Some(80));
    }

    #[test]
    fn a_month_has_no_more_samples_than_an_hour() {
        let (mut outage, _) = step(None, &row(State::Down, 1, 0), false, 1_000);
        for look in 0..500_000 {
            (outage, _) = step(outage, &row(State::Down, 1 + look, 0), false, 1_000 + look * 5);
        }
        let outage = outage.expect("it goes on");
        assert!(outage.samples.len() <= OUTAGE_SAMPLES_MAX && outage.samples.len() * 2 >= OUTAGE_SAMPLES_MAX);
        assert_eq!(outage.samples[0].at_s, 1_000, "its beginning stays");
        assert!(outage.samples.is_sorted_by_key(|sample| sample.at_s));
    }
}
