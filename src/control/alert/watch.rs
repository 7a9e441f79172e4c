//! The task that looks: every few seconds at all domains, and at what waits for contacts.
//!
//! What it decides is kept in memory until the database has it: a locked one delays what is told, and forgets nothing while the process
//! runs. A look that comes late is a look; there is no timer a domain.

use super::book::{Book, Open, Told};
use super::outage::{self, Outage};
use super::rules::{self, Seen, Spool, span};
use super::{Condition, Kind, Message, Severity, Sink};
use super::{http::Web, mail, sms, webhook};
use crate::bridge::operator::{DomainStatus, Request, ShardStatus, Shards};
use crate::bridge::{Current, Lookup, Snapshot};
use crate::control::store::alert::{self as rows, Contact, Event, Waiting};
use crate::control::store::{Store, now_s};
use crate::limits::{
    ALERT_DIGEST, ALERT_LINES_MAX, OPERATOR_DOMAINS_A_REQUEST, OUTAGE_KEPT_INTERVAL, OUTBOX_SENT_MAX,
    SINK_TIMEOUT, WATCH_INTERVAL, WATCH_TIMEOUT,
};
use core::time::Duration;
use rustls::RootCertStore;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{interval, timeout};

/// What the watch works with, and what it knows.
#[derive(Debug)]
pub struct Watch {
    shards: Shards,
    current: Arc<Current>,
    store: Store,
    lookup: Lookup,
    web: Web,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    outages: BTreeMap<String, Outage>,
    /// Their numbers in the database.
    numbers: BTreeMap<String, i64>,
    /// Domains of whose outage contacts were told.
    told: BTreeSet<String>,
    /// When outages that go on were kept last.
    kept_s: u64,
    /// Free octets, by when they were seen, of the last hour.
    free: VecDeque<(u64, u64)>,
    unkept: Unkept,
}

/// What the database does not have yet.
#[derive(Clone, Debug, Default)]
struct Unkept {
    outages: BTreeMap<String, Outage>,
    alerts: Vec<(Open, bool)>,
    /// And whether contacts are told.
    events: Vec<(Event, bool)>,
}

impl Watch {
    /// Goes on from what an earlier life kept. Blocks.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(
        shards: Shards,
        current: Arc<Current>,
        store: Store,
        lookup: Lookup,
        roots: Arc<RootCertStore>,
    ) -> Result<Self, String> {
        let kept = store.run_blocking(|connection| {
            Ok((rows::open_outages(connection)?, rows::alerts(connection, true, i64::MAX, 10_000)?))
        });
        let (outages, alerts) = kept.map_err(|error| error.to_string())?;
        let now = seconds(now_s());
        let told = alerts.iter().filter(|alert| alert.condition.kind == Kind::PrimaryDown);
        let told = told.map(|alert| alert.condition.domain.clone()).collect();
        let open = alerts.into_iter().map(|alert| Open {
            condition: alert.condition,
            since_s: seconds(alert.since_s),
            told_s: Some(seconds(alert.told_s)),
            is_acknowledged: alert.acknowledged_by.is_some(),
            seen_s: now,
        });
        let numbers = outages.iter().map(|(id, outage)| (outage.domain.clone(), *id)).collect();
        let outages = outages.into_iter().map(|(_, outage)| (outage.domain.clone(), outage)).collect();
        let book = Book::restored(open.collect());
        let state = State { book, outages, numbers, told, ..State::default() };
        Ok(Self { shards, current, store, lookup, web: Web::new(roots), state: Mutex::new(state) })
    }

    /// Somebody looks after an alert.
    pub fn acknowledge(&self, key: &(Kind, String)) {
        self.state().book.acknowledge(key);
    }

    /// Sends a message to a contact at once.
    ///
    /// # Errors
    /// Why it did not go out.
    pub async fn try_contact(&self, contact: &Contact) -> Result<(), String> {
        let event = Event {
            id: 0,
            at_s: now_s(),
            domain: contact.domain.clone(),
            kind: "test".to_owned(),
            severity: Severity::Information,
            text: "This is a test: alerts of this server reach you.".to_owned(),
        };
        self.send(contact, &[event], "test").await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look.
    async fn look(&self) {
        let snapshot = self.current.get();
        let seen = timeout(WATCH_TIMEOUT, self.ask(&snapshot)).await.ok().flatten();
        self.state().decide(&snapshot, seen, seconds(now_s()));
        self.keep().await;
    }

    /// All rows; none: a shard does not answer.
    async fn ask(&self, snapshot: &Snapshot) -> Option<(Vec<DomainStatus>, Vec<ShardStatus>)> {
        let shards = self.shards.ask(Request::Status).await.ok()?;
        let names: Vec<Arc<str>> =
            snapshot.config.domains.iter().map(|domain| domain.name.as_str().into()).collect();
        let mut all = Vec::with_capacity(names.len());
        for names in names.chunks(OPERATOR_DOMAINS_A_REQUEST) {
            let answers = self.shards.ask(|answer| Request::Domains(names.to_vec(), answer)).await.ok()?;
            all.extend(answers.into_iter().flatten());
        }
        Some((all, shards))
    }

    /// Hands what is not kept to the database; tried again at the next look.
    async fn keep(&self) {
        let (unkept, numbers) = {
            let state = self.state();
            (state.unkept.clone(), state.numbers.clone())
        };
        if unkept.outages.is_empty() && unkept.alerts.is_empty() && unkept.events.is_empty() {
            return;
        }
        let due_s = now_s() + i64::try_from(ALERT_DIGEST.as_secs()).unwrap_or(i64::MAX);
        let (alerts, events) = (unkept.alerts.len(), unkept.events.len());
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            let mut given = BTreeMap::new();
            for (domain, outage) in &unkept.outages {
                let id = rows::keep_outage(&transaction, numbers.get(domain).copied(), outage)?;
                given.insert(domain.clone(), (id, outage.ended_s.is_some()));
            }
            for (open, is_over) in &unkept.alerts {
                rows::keep_alert(&transaction, open, *is_over)?;
            }
            for (event, is_told) in &unkept.events {
                rows::keep_event(&transaction, event, *is_told, due_s)?;
            }
            transaction.commit().map(|()| given)
        });
        let given = match kept.await {
            Ok(given) => given,
            Err(error) => {
                tracing::warn!(%error, "what happened is not kept yet; it is tried again");
                return;
            }
        };
        let mut state = self.state();
        // Nobody but this task adds to it.
        state.unkept.outages.clear();
        state.unkept.alerts.drain(..alerts);
        state.unkept.events.drain(..events);
        for (domain, (id, is_over)) in given {
            if is_over {
                state.numbers.remove(&domain);
            } else {
                state.numbers.insert(domain, id);
            }
        }
    }

    /// Sends what is due.
    async fn send_due(self: &Arc<Self>) {
        let due = self.store.run(|connection| rows::due(connection, now_s(), OUTBOX_SENT_MAX)).await;
        let Ok(due) = due else { return };
        let mut sending = tokio::task::JoinSet::new();
        for waiting in due {
            let own = Arc::clone(self);
            sending.spawn(async move { own.send_waiting(waiting).await });
        }
        while sending.join_next().await.is_some() {}
    }

    async fn send_waiting(&self, waiting: Waiting) {
        let Waiting { lines, contact, events, tries } = waiting;
        let id = format!("{}-{}", contact.id, lines.first().copied().unwrap_or_default());
        let sent = self.send(&contact, &events, &id).await;
        let failed = sent.err().map(|error| {
            let pause = pause(tries);
            tracing::warn!(
                contact = contact.name,
                error,
                again_in_s = pause.as_secs(),
                "an alert did not go out"
            );
            (now_s() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX), error)
        });
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            rows::sent(&transaction, &lines, failed.as_ref().map(|(due_s, error)| (*due_s, error.as_str())))?;
            transaction.commit()
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "that an alert went out is not kept: it may go once more");
        }
    }

    async fn send(&self, contact: &Contact, events: &[Event], id: &str) -> Result<(), String> {
        let snapshot = self.current.get();
        let message = composed(&snapshot.config.hostname, events);
        let sent = async {
            match &contact.sink {
                Sink::Mail { to } => {
                    let smarthost = snapshot.config.delivery.smarthost.as_ref();
                    let hostname = snapshot.config.hostname.as_str();
                    mail::send(&mail::Own { hostname, smarthost, lookup: &self.lookup }, to, &message).await
                }
                Sink::Webhook { url, secret } => {
                    let hostname = snapshot.config.hostname.as_str();
                    webhook::send(&self.web, (url, secret), (id, now_s()), hostname, &message).await
                }
                Sink::Sms { account, auth_token, from, to, base_url } => {
                    let own = sms::Account { base_url: base_url.as_deref(), account, auth_token, from };
                    sms::send(&self.web, &own, to, &message).await
                }
                Sink::Template { url, body, media_type, authorization_secret, to } => {
                    let authorization = authorization_secret.as_deref();
                    let own = sms::Template { url, body, media_type, authorization };
                    sms::fill_in(&self.web, &own, to, &message).await
                }
            }
        };
        timeout(SINK_TIMEOUT, sent).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// Looks and tells until the runtime ends.
pub async fn run(watch: Arc<Watch>) {
    let telling = Arc::clone(&watch);
    tokio::spawn(async move {
        let mut ticks = interval(WATCH_INTERVAL);
        loop {
            ticks.tick().await;
            telling.send_due().await;
        }
    });
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watch.look().await;
    }
}

/// Behind so many tries: half a minute, doubled up to an hour.
fn pause(tries: u32) -> Duration {
    Duration::from_secs((30_u64 << tries.min(7)).min(3_600))
}

impl State {
    fn decide(
        &mut self,
        snapshot: &Snapshot,
        seen: Option<(Vec<DomainStatus>, Vec<ShardStatus>)>,
        now_s: u64,
    ) {
        let is_known = seen.is_some();
        let (domains, shards) = seen.unwrap_or_default();
        for status in &domains {
            self.step(status, now_s);
        }
        let spool = is_known.then(|| self.spool(snapshot, &shards, now_s));
        let configured = snapshot.config.domains.iter();
        let retention = configured.map(|domain| (domain.name.clone(), domain.retention)).collect();
        let seen = Seen { domains: &domains, retention: &retention, outages: &self.outages, spool };
        let conditions = rules::conditions(&seen);
        for (told, open) in self.book.step(now_s, conditions, snapshot.config.admin.alert_after) {
            self.tell(told, open, now_s);
        }
        if now_s >= self.kept_s + OUTAGE_KEPT_INTERVAL.as_secs() {
            self.kept_s = now_s;
            self.unkept.outages.extend(self.outages.clone());
        }
    }

    fn step(&mut self, status: &DomainStatus, now_s: u64) {
        let before = self.outages.remove(&status.name);
        let (after, event) = outage::step(before, status, now_s);
        let Some(outage) = after else { return };
        if let Some(what) = event {
            let is_told = match what {
                outage::Event::Began => false,
                outage::Event::Ended => self.told.remove(&status.name),
                _ => self.told.contains(&status.name),
            };
            let text = in_words(what, &outage, status);
            tracing::info!(domain = status.name, event = what.word(), text, "outage");
            self.push(&status.name, what.word(), Severity::Critical, text, now_s, is_told);
            self.unkept.outages.insert(status.name.clone(), outage.clone());
        }
        if outage.ended_s.is_none() {
            self.outages.insert(status.name.clone(), outage);
        }
    }

    fn tell(&mut self, told: Told, open: Open, now_s: u64) {
        let Condition { kind, domain, severity, text } = open.condition.clone();
        if kind == Kind::PrimaryDown && told != Told::Over {
            self.told.insert(domain.clone());
        }
        // That a server is back is told by its outage.
        let is_told = !(kind == Kind::PrimaryDown && told == Told::Over);
        let text = match told {
            Told::Opened | Told::Worse => text,
            Told::Repeated => format!("Still: {text}"),
            Told::Flapping => {
                format!("It comes and goes; no more is told of it until it was calm for an hour. {text}")
            }
            Told::Over => format!("Over, after {}: {text}", span(now_s.saturating_sub(open.since_s))),
        };
        let word = format!("{}-{}", kind.word(), told.word());
        tracing::warn!(domain, alert = word, severity = severity.word(), text, "alert");
        self.unkept.alerts.push((open, told == Told::Over));
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

fn in_words(event: outage::Event, outage: &Outage, status: &DomainStatus) -> String {
    let name = &status.name;
    let lasted = |end: u64| span(end.saturating_sub(outage.began_s));
    match event {
        outage::Event::Began => format!("The mail server of {name} is down: {}.", outage.reason),
        outage::Event::LostAgain => {
            format!("The mail server of {name} is down again; {} messages wait here.", status.messages)
        }
        outage::Event::Returned => format!(
            "The mail server of {name} is back after {}; {} messages are handed over now, in order.",
            lasted(outage.returned_s.unwrap_or(outage.began_s)),
            status.messages
        ),
        outage::Event::Ended => {
            let ledger = outage.ledger();
            let others = ledger.counts.bounced
                + ledger.counts.discarded
                + ledger.counts.expired
                + ledger.counts.deleted;
            format!(
                "The outage of {name} is over after {}: {} accepted, {} delivered, {others} ended otherwise, {} held; {}.",
                lasted(outage.ended_s.unwrap_or(outage.began_s)),
                ledger.waiting_before + ledger.counts.accepted,
                ledger.counts.delivered,
                ledger.counts.waiting,
                if ledger.is_balanced {
                    "all accounted for"
                } else {
                    "the counts do not add up: look at stratamx-segment audit"
                },
            )
        }
    }
}

/// What leaves: a line a happening.
fn composed(hostname: &str, events: &[Event]) -> Message {
    let first = events.iter().max_by_key(|event| event.severity);
    let what = first.map_or("", |event| event.kind.as_str()).replace('-', " ");
    let about = first.map_or("", |event| event.domain.as_str());
    let more = if events.len() > 1 { format!(" and {} more", events.len() - 1) } else { String::new() };
    let about = if about.is_empty() { String::new() } else { format!("{about}: ") };
    let subject = format!("[{hostname}] {about}{what}{more}");
    let mut text: String = events
        .iter()
        .take(ALERT_LINES_MAX)
        .map(|event| format!("{}  {}\n", rules::instant(seconds(event.at_s)), event.text))
        .collect();
    if events.len() > ALERT_LINES_MAX {
        text.push_str(&format!("... and {} more\n", events.len() - ALERT_LINES_MAX));
    }
    Message { subject, text, events: events.iter().take(ALERT_LINES_MAX).map(Event::json).collect() }
}

fn seconds(at_s: i64) -> u64 {
    u64::try_from(at_s).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::State as Health;
    use crate::config::Config;

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
            (2, Health::Recovering, 9, 3),
            (30, Health::Up, 9, 9),
        ];
        assert_eq!(told(&outage), ["primary-down-opened", "primary-returned", "outage-ended"]);
        assert!(told(&[(3, Health::Up, 0, 0), (8, Health::Down, 9, 0), (30, Health::Up, 9, 9)]).is_empty());
    }

    #[test]
    fn what_happens_together_is_one_message() {
        let event = |domain: &str, severity| Event {
            id: 1,
            at_s: 1_795_388_400,
            domain: domain.to_owned(),
            kind: "primary-down-opened".to_owned(),
            severity,
            text: format!("{domain} is down."),
        };
        let one = composed("mx2", &[event("a.test", Severity::Critical)]);
        assert_eq!(one.subject, "[mx2] a.test: primary down opened");
        assert_eq!(one.text, "2026-11-22 23:00:00 UTC  a.test is down.\n");
        let many: Vec<Event> = (0..60).map(|n| event(&format!("d{n}.test"), Severity::Warning)).collect();
        let digest = composed("mx2", &many);
        assert!(digest.subject.ends_with("and 59 more"), "{}", digest.subject);
        assert!(digest.text.lines().count() == 51 && digest.text.ends_with("... and 10 more\n"));
    }
}
