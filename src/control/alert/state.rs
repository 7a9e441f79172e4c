//! What the watch knows, and what it makes of a look: pure.

use super::book::{Book, Look, Open, Told};
use super::drift::Drift;
use super::outage::{self, Outage};
use super::rules::{self, Certificates, Looked, Seen, Spool, span};
use super::{Condition, Kind, Severity};
use crate::bridge::Snapshot;
use crate::bridge::operator::{DomainStatus, ShardStatus};
use crate::control::acme::Stands;
use crate::control::store::alert::Event;
use crate::limits::{EVENTS_UNKEPT_MAX, OUTAGE_KEPT_INTERVAL, OUTAGES_KEPT_A_LOOK};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) book: Book,
    pub(super) outages: BTreeMap<String, Outage>,
    /// Their numbers in the database, by domain and beginning.
    pub(super) numbers: BTreeMap<OutageKey, i64>,
    /// When outages that go on were kept last.
    pub(super) kept_s: BTreeMap<String, u64>,
    /// Free octets, by when they were seen, of the last hour.
    pub(super) free: VecDeque<(u64, u64)>,
    pub(super) unkept: Unkept,
    /// When outages ended that are not proved yet, and their numbers.
    pub(super) unproven: Vec<(u64, i64)>,
    pub(super) drift: Drift,
}

/// The domain of an outage, and its beginning.
pub(super) type OutageKey = (String, u64);

/// What the database does not have yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Unkept {
    pub(super) outages: BTreeMap<OutageKey, Outage>,
    pub(super) alerts: Vec<(Open, bool)>,
    /// And whether contacts are told.
    pub(super) events: Vec<(Event, bool)>,
}

impl State {
    /// One look: none of it: a shard does not answer.
    pub(super) fn decide(
        &mut self,
        snapshot: &Snapshot,
        seen: Option<(Vec<DomainStatus>, Vec<ShardStatus>)>,
        (certificates, disk): (&Certificates, &Looked),
        now_s: u64,
    ) {
        let is_blind = seen.is_none();
        let (domains, shards) = seen.unwrap_or_default();
        for status in &domains {
            let elsewhere = snapshot.usage_of(&status.name).orders.get().redirect.is_some();
            self.step(status, elsewhere, now_s);
        }
        if !is_blind {
            self.leave(snapshot, now_s);
        }
        let spool = (!is_blind).then(|| self.spool(snapshot, &shards, now_s));
        let configured = snapshot.config.domains.iter();
        let retention = configured
            .map(|domain| (domain.name.clone(), (domain.retention, domain.held_retention)))
            .collect();
        let (domains, outages) = (&domains[..], &self.outages);
        let seen = Seen { domains, retention: &retention, outages, spool, certificates, disk };
        let mut conditions = rules::conditions(&seen);
        conditions.extend(self.drift.conditions());
        let configured = snapshot.config.domains.iter().map(|domain| domain.name.clone()).collect();
        let lasting = self.outages.values().filter(|outage| outage.returned_s.is_none());
        let lasting = lasting.map(|outage| (Kind::PrimaryDown, outage.domain.clone()));
        let is_unsettled = certificates.stands == Stands::Unknown;
        let certificate = is_unsettled.then(|| (Kind::Certificate, String::new()));
        let disk = (*disk == Looked::Unknown).then(|| (Kind::DiskHealth, String::new()));
        let lasting =
            lasting.chain(self.drift.unsettled(&configured)).chain(certificate).chain(disk).collect();
        let look = Look { conditions, is_blind, lasting };
        for (told, open) in self.book.step(now_s, look, snapshot.config.admin.alert_after) {
            self.tell(told, open, now_s);
        }
        self.keep_some(now_s);
    }

    /// Outages that go on are written now and then, a few at a look: what a plot may miss behind a crash.
    fn keep_some(&mut self, now_s: u64) {
        let due = |domain: &String| {
            let kept_s = self.kept_s.get(domain).copied().unwrap_or(0);
            now_s >= kept_s + OUTAGE_KEPT_INTERVAL.as_secs()
        };
        let domains: Vec<String> =
            self.outages.keys().filter(|domain| due(domain)).take(OUTAGES_KEPT_A_LOOK).cloned().collect();
        for domain in domains {
            if let Some(outage) = self.outages.get(&domain).cloned() {
                self.kept_s.insert(domain, now_s);
                self.unkept.outages.insert((outage.domain.clone(), outage.began_s), outage);
            }
        }
    }

    /// Outages of domains that are not protected any more.
    fn leave(&mut self, snapshot: &Snapshot, now_s: u64) {
        let gone: Vec<String> =
            self.outages.keys().filter(|name| snapshot.domain(name).is_none()).cloned().collect();
        for name in gone {
            let Some(mut outage) = self.outages.remove(&name) else { continue };
            outage.leave(now_s);
            let text = in_words(outage::Event::Left, &outage, 0);
            self.happened(outage::Event::Left, outage, text, now_s);
        }
    }

    fn step(&mut self, status: &DomainStatus, elsewhere: bool, now_s: u64) {
        let before = self.outages.remove(&status.name);
        let (after, event) = outage::step(before, status, elsewhere, now_s);
        let Some(outage) = after else { return };
        if outage.ended_s.is_none() {
            self.outages.insert(status.name.clone(), outage.clone());
        }
        if let Some(what) = event {
            let text = in_words(what, &outage, status.messages);
            self.happened(what, outage, text, now_s);
        }
    }

    fn happened(&mut self, what: outage::Event, outage: Outage, text: String, now_s: u64) {
        // Who was told that it is down is told that it is back; that it is lost again is told as the alert that it is.
        let is_told = outage.is_told && !matches!(what, outage::Event::Began | outage::Event::LostAgain);
        tracing::info!(domain = outage.domain, event = what.word(), text, "outage");
        self.push(&outage.domain.clone(), what.word(), Severity::Critical, text, now_s, is_told);
        if outage.ended_s.is_some() {
            self.kept_s.remove(&outage.domain);
        }
        self.unkept.outages.insert((outage.domain.clone(), outage.began_s), outage);
    }

    fn tell(&mut self, told: Told, open: Open, now_s: u64) {
        let Condition { kind, domain, severity, text } = open.condition.clone();
        let is_over = matches!(told, Told::Over | Told::OverQuietly);
        if let Some(outage) = self.outages.get_mut(&domain).filter(|_| kind == Kind::PrimaryDown && !is_over)
        {
            outage.is_told = true;
            self.unkept.outages.insert((domain.clone(), outage.began_s), outage.clone());
        }
        // That a server is back is told by its outage.
        let is_told = !(is_over && (kind == Kind::PrimaryDown || told == Told::OverQuietly));
        let text = match told {
            Told::Opened | Told::Worse => text,
            Told::Repeated => format!("Still: {text}"),
            Told::Flapping => {
                format!(
                    "It comes and goes; no more is told of that, until it stays, or was calm for an hour. {text}"
                )
            }
            Told::Over | Told::OverQuietly => {
                format!("Over, after {}: {text}", span(now_s.saturating_sub(open.since_s)))
            }
        };
        let word = format!("{}-{}", kind.word(), told.word());
        tracing::warn!(domain, alert = word, severity = severity.word(), text, "alert");
        self.unkept.alerts.push((open, is_over));
        self.push(&domain, &word, severity, text, now_s, is_told);
    }

    fn push(
        &mut self,
        domain: &str,
        kind: &str,
        severity: Severity,
        text: String,
        now_s: u64,
        is_told: bool,
    ) {
        let at_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let event = Event { id: 0, at_s, domain: domain.to_owned(), kind: kind.to_owned(), severity, text };
        if self.unkept.events.len() >= EVENTS_UNKEPT_MAX {
            self.unkept.events.remove(0);
        }
        self.unkept.events.push((event, is_told));
    }

    fn spool(&mut self, snapshot: &Snapshot, shards: &[ShardStatus], now_s: u64) -> Spool {
        let free = shards.iter().map(|shard| shard.free_octets).min().unwrap_or(0);
        self.free.retain(|(at_s, _)| now_s < at_s + 3_600);
        // One a minute is enough of a line.
        if self.free.back().is_none_or(|(at_s, _)| now_s >= at_s + 60) {
            self.free.push_back((now_s, free));
        }
        let first = self.free.front().filter(|(at_s, _)| now_s >= at_s + 600);
        let shrinks_an_hour =
            first.map_or(0, |(at_s, was)| was.saturating_sub(free) * 3_600 / (now_s - at_s));
        let min_free = snapshot.config.storage.min_free_space_bytes;
        Spool { queued: snapshot.usage.octets(), free, min_free, shrinks_an_hour }
    }
}

fn in_words(event: outage::Event, outage: &Outage, messages: u64) -> String {
    let name = &outage.domain;
    let lasted = |end: u64| span(end.saturating_sub(outage.began_s));
    match event {
        outage::Event::Began => format!("The mail server of {name} is down: {}.", outage.reason),
        outage::Event::LostAgain => {
            format!("The mail server of {name} is down again; {messages} messages wait here.")
        }
        outage::Event::Returned => format!(
            "The mail server of {name} is back after {}; {messages} messages are handed over now, in order.",
            lasted(outage.returned_s.unwrap_or(outage.began_s)),
        ),
        outage::Event::Ended => {
            let ledger = outage.ledger();
            let counts = &ledger.counts;
            let mut others = String::new();
            for (count, what) in [
                (counts.bounced, "refused and bounced"),
                (counts.discarded, "discarded"),
                (counts.expired, "expired"),
                (counts.deleted, "deleted"),
                (counts.damaged, "damaged"),
            ] {
                if count > 0 {
                    others.push_str(&format!(", {count} {what}"));
                }
            }
            let whole = if ledger.is_balanced {
                ""
            } else {
                " The counts do not add up: look at stratamx-segment audit."
            };
            let is_back = outage.returned_s.is_some();
            let back = if is_back {
                ""
            } else {
                " Whether its mail server is back is not known: nothing waits for it."
            };
            format!(
                "The outage of {name} is over after {}: of mail for {} recipients {} delivered{others}, {} waiting or held.{whole}{back}",
                lasted(outage.ended_s.unwrap_or(outage.began_s)),
                ledger.waiting_before + counts.accepted,
                counts.delivered,
                counts.waiting,
            )
        }
        outage::Event::Left => {
            format!("{name} is not protected any more; what waits of it waits until it is.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::State as Health;
    use crate::config::Config;
    use crate::update::machine;
    use std::sync::Arc;

    fn row(state: Health, accepted: u64, delivered: u64) -> DomainStatus {
        let (name, messages) = ("example.test".to_owned(), accepted - delivered);
        DomainStatus {
            name,
            state,
            accepted,
            delivered,
            backlog: messages,
            messages,
            ..DomainStatus::default()
        }
    }

    /// What contacts are told of looks every 5 s.
    fn told(looks: &[(u64, Health, u64, u64)]) -> Vec<String> {
        let snapshot = Snapshot::new(Config::embedded(), Arc::default());
        let shards = vec![ShardStatus { free_octets: 1 << 40, ..ShardStatus::default() }];
        let (mut state, mut at) = (State::default(), 1_000_000);
        for (times, health, accepted, delivered) in looks {
            for _ in 0..*times {
                state.decide(
                    &snapshot,
                    Some((vec![row(*health, *accepted, *delivered)], shards.clone())),
                    (&Certificates::default(), &Looked::Nothing),
                    at,
                );
                at += 5;
            }
        }
        let events = state.unkept.events.into_iter().filter(|(_, is_told)| *is_told);
        events.map(|(event, _)| event.kind).collect()
    }

    #[test]
    fn an_outage_is_told_three_times_and_a_short_one_never() {
        let outage = [
            (3, Health::Up, 0, 0),
            (30, Health::Down, 9, 0),
            (15, Health::Recovering, 9, 3),
            (30, Health::Up, 9, 9),
        ];
        assert_eq!(told(&outage), ["primary-down-opened", "primary-returned", "outage-ended"]);
        assert!(told(&[(3, Health::Up, 0, 0), (8, Health::Down, 9, 0), (30, Health::Up, 9, 9)]).is_empty());
    }

    #[test]
    fn an_alert_of_the_disk_stays_while_nobody_can_tell_and_ends_when_it_is_well() {
        let snapshot = Snapshot::new(Config::embedded(), Arc::default());
        let shards = vec![ShardStatus { free_octets: 1 << 40, ..ShardStatus::default() }];
        let disk = |state| {
            let device = "nvme0n1".to_owned();
            Looked::Seen(Box::new(machine::Disk { device, state, ..machine::Disk::default() }))
        };
        let (mut state, mut at) = (State::default(), 1_000_000);
        let mut look = |looked: &Looked, times| {
            for _ in 0..times {
                let seen = Some((Vec::new(), shards.clone()));
                state.decide(&snapshot, seen, (&Certificates::default(), looked), at);
                at += 5;
            }
            state.unkept.events.drain(..).map(|(event, _)| event.kind).collect::<Vec<_>>()
        };
        assert_eq!(look(&disk(machine::State::Failing), 3), ["disk-health-opened"]);
        assert_eq!(look(&Looked::Unknown, 100), Vec::<String>::new());
        assert_eq!(look(&disk(machine::State::Healthy), 30), ["disk-health-over"]);
    }
}
