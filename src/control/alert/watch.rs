//! The task that looks: every few seconds at all domains, and at what waits for contacts.
//!
//! What it decides is kept in memory until the database has it: a locked one delays what is told, and forgets nothing while the process
//! runs. A look that comes late is a look; there is no timer a domain.

use super::book::{Book, Open};
use super::drift;
use super::outage::Outage;
use super::rules::{self, Certificates, Looked};
use super::state::{OutageKey, State, Unkept};
use super::{Kind, Message, Severity, Sink};
use super::{http::Web, mail, sms, webhook};
use crate::auth::contained::Contained;
use crate::bridge::operator::{DomainStatus, Request, ShardStatus, Shards};
use crate::bridge::{self, Current, Lookup, Snapshot};
use crate::control::acme::{self, Standing};
use crate::control::certificate_end::validity_s;
use crate::control::machine::Machine;
use crate::control::store::alert::{self as rows, Contact, Event, Waiting};
use crate::control::store::{Store, now_s};
use crate::limits::{
    ALERT_DIGEST, DRIFT_LOOK_TIMEOUT, EVENTS_KEPT_A_LOOK, OPERATOR_DOMAINS_A_REQUEST, OUTBOX_SENT_MAX,
    SINK_TIMEOUT, WATCH_INTERVAL, WATCH_TIMEOUT,
};
use core::time::Duration;
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// What the watch works with, and what it knows.
#[derive(Debug)]
pub struct Watch {
    pub(super) shards: Shards,
    /// PID 1 of the appliance, if this is one.
    machine: Option<Arc<Machine>>,
    pub(super) current: Arc<Current>,
    pub(super) store: Store,
    lookup: Lookup,
    web: Web,
    shown: Vec<Arc<bridge::Certificates>>,
    standing: Arc<Standing>,
    state: Mutex<State>,
}

impl Watch {
    /// Goes on from what an earlier life kept. Blocks.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(
        (shards, machine): (Shards, Option<Arc<Machine>>),
        current: Arc<Current>,
        store: Store,
        lookup: Lookup,
        roots: Arc<RootCertStore>,
        acme: &acme::Parts,
    ) -> Result<Self, String> {
        let kept = store.run_blocking(|connection| {
            if let Err(error) = rows::calm_clock(connection) {
                // A full disk keeps nobody from starting.
                tracing::warn!(%error, "what waits for contacts stays due as it was");
            }
            let alerts = rows::alerts(connection, true, i64::MAX, usize::MAX >> 1)?;
            Ok((rows::open_outages(connection)?, alerts, rows::unproven(connection)?))
        });
        let (outages, alerts, unproven) = kept.map_err(|error| error.to_string())?;
        let now = seconds(now_s());
        let open = alerts.into_iter().map(|alert| Open {
            told_severity: alert.condition.severity,
            condition: alert.condition,
            // Not later than now, whatever the clock said.
            since_s: seconds(alert.since_s).min(now),
            told_s: Some(seconds(alert.told_s).min(now)),
            is_acknowledged: alert.acknowledged_by.is_some(),
            seen_s: now,
            is_quiet: false,
        });
        let key = |outage: &Outage| (outage.domain.clone(), outage.began_s);
        let numbers = outages.iter().map(|(id, outage)| (key(outage), *id)).collect();
        let outages = outages.into_iter().map(|(_, outage)| (outage.domain.clone(), outage)).collect();
        let book = Book::restored(open.collect());
        let state = State { book, outages, numbers, unproven, ..State::default() };
        let shown = acme.watches.iter().map(|watch| Arc::clone(watch.certificates())).collect();
        let (web, standing, state) = (Web::new(roots), Arc::clone(&acme.standing), Mutex::new(state));
        Ok(Self { shards, machine, current, store, lookup, web, shown, standing, state })
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
        self.send(contact, &[event], &format!("test-{}-{}", contact.id, now_s())).await
    }

    /// The number of an outage that ended by then, and is to be proved.
    pub(super) fn unproven(&self, ended_s: u64) -> Option<i64> {
        let mut state = self.state();
        let at = state.unproven.iter().position(|(ended, _)| *ended <= ended_s)?;
        // One that fails lets the others go first.
        let one = state.unproven.remove(at);
        state.unproven.push(one);
        Some(one.1)
    }

    /// It is.
    pub(super) fn proven(&self, id: i64) {
        self.state().unproven.retain(|(_, other)| *other != id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look, at so many seconds of this watch's clock.
    async fn look(&self, now_s: u64) {
        let snapshot = self.current.get();
        let seen = timeout(WATCH_TIMEOUT, self.ask(&snapshot)).await.ok().flatten();
        let (certificates, disk) = (self.certificates(), self.disk());
        self.state().decide(&snapshot, seen, (&certificates, &disk), now_s);
        self.keep().await;
    }

    /// What is shown, and whether there will be a new one.
    fn certificates(&self) -> Certificates {
        let leaves = self.shown.iter().flat_map(|certificates| certificates.leaves());
        let validity = leaves.filter_map(|leaf| validity_s(&leaf)).collect();
        Certificates { validity, stands: self.standing.now(), now_s: now_s() }
    }

    /// What is known of the disk, where this is an appliance.
    fn disk(&self) -> Looked {
        let Some(machine) = &self.machine else { return Looked::Nothing };
        machine.known().map_or(Looked::Unknown, |known| Looked::Seen(Box::new(known.disk)))
    }

    /// One look at the records of the domain whose turn it is.
    async fn look_at_records(&self) {
        let snapshot = self.current.get();
        let domains = snapshot.config.domains.iter().map(|domain| domain.name.clone()).collect();
        let Some(domain) = self.state().drift.next(&domains) else { return };
        let looked = timeout(DRIFT_LOOK_TIMEOUT, drift::look(&self.lookup, &snapshot, &domain)).await;
        self.state().drift.looked(&domain, looked.unwrap_or(None));
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

    /// Hands what is not kept to the database, a bounded part of it; tried again at the next look.
    async fn keep(&self) {
        let (unkept, numbers) = {
            let state = self.state();
            let Unkept { outages, alerts, events } = &state.unkept;
            let some = Unkept {
                outages: outages
                    .iter()
                    .take(EVENTS_KEPT_A_LOOK)
                    .map(|(key, one)| (key.clone(), one.clone()))
                    .collect(),
                alerts: alerts.iter().take(EVENTS_KEPT_A_LOOK).cloned().collect(),
                events: events.iter().take(EVENTS_KEPT_A_LOOK).cloned().collect(),
            };
            let numbers: BTreeMap<OutageKey, i64> = some
                .outages
                .keys()
                .filter_map(|key| state.numbers.get(key).map(|number| (key.clone(), *number)))
                .collect();
            (some, numbers)
        };
        if unkept.outages.is_empty() && unkept.alerts.is_empty() && unkept.events.is_empty() {
            return;
        }
        let due_s = now_s() + i64::try_from(ALERT_DIGEST.as_secs()).unwrap_or(i64::MAX);
        let written = unkept.clone();
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            let mut given = BTreeMap::new();
            for (key, outage) in &unkept.outages {
                given
                    .insert(key.clone(), rows::keep_outage(&transaction, numbers.get(key).copied(), outage)?);
            }
            for (open, is_over) in &unkept.alerts {
                rows::keep_alert(&transaction, open, *is_over)?;
            }
            rows::keep_events(&transaction, &unkept.events, due_s)?;
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
        // Nobody but this task adds to it, and what it holds now is what was written, and more behind it.
        state.unkept.alerts.drain(..written.alerts.len());
        state.unkept.events.drain(..written.events.len());
        for (key, id) in given {
            let ended_s = written.outages.get(&key).and_then(|outage| outage.ended_s);
            state.unkept.outages.remove(&key);
            if let Some(ended_s) = ended_s {
                state.numbers.remove(&key);
                state.unproven.push((ended_s, id));
            } else {
                state.numbers.insert(key, id);
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
        let pause = pause(tries);
        let again_s = now_s() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
        let of = lines.clone();
        let begun = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            rows::sending(&transaction, &of, again_s)?;
            transaction.commit()
        });
        if begun.await.is_err() {
            // It would go again and again: nothing could say that it went.
            return;
        }
        let (first, last) = (lines.first().copied(), lines.last().copied());
        let id = format!("{}-{}-{}", contact.id, first.unwrap_or_default(), last.unwrap_or_default());
        let error = self.send(&contact, &events, &id).await.err();
        if let Some(error) = &error {
            tracing::warn!(
                contact = contact.name,
                error,
                again_in_s = pause.as_secs(),
                "an alert did not go out"
            );
        }
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            rows::sent(&transaction, &lines, error.as_deref())?;
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

/// Looks and tells until the runtime ends. A panic costs one look.
pub async fn run(watch: Arc<Watch>) {
    let telling = Arc::clone(&watch);
    tokio::spawn(async move {
        let mut ticks = interval(WATCH_INTERVAL);
        loop {
            ticks.tick().await;
            if Contained::new(telling.send_due()).await.is_none() {
                tracing::error!("telling contacts panicked; it goes on");
            }
        }
    });
    let looking = Arc::clone(&watch);
    tokio::spawn(async move {
        loop {
            let domains = looking.current.get().config.domains.len();
            sleep(drift::pause(domains)).await;
            if Contained::new(looking.look_at_records()).await.is_none() {
                tracing::error!("a look at records panicked; the next one comes");
            }
        }
    });
    // Seconds since 1970 at the start, then by the clock that never steps: nothing is told, or ends, by a step of the other.
    let (began, began_s) = (Instant::now(), seconds(now_s()));
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if Contained::new(watch.look(began_s + began.elapsed().as_secs())).await.is_none() {
            tracing::error!("a look for outages panicked; the next one comes");
        }
    }
}

/// Behind so many tries: half a minute, doubled up to an hour.
fn pause(tries: u32) -> Duration {
    Duration::from_secs((30_u64 << tries.min(7)).min(3_600))
}

/// What leaves: a line a happening, of a message's worth.
fn composed(hostname: &str, events: &[Event]) -> Message {
    let first = events.iter().rev().max_by_key(|event| event.severity);
    let what = first.map_or("", |event| event.kind.as_str()).replace('-', " ");
    let about = first.map_or("", |event| event.domain.as_str());
    let more = if events.len() > 1 { format!(" and {} more", events.len() - 1) } else { String::new() };
    let about = if about.is_empty() { String::new() } else { format!("{about}: ") };
    let subject = format!("[{hostname}] {about}{what}{more}");
    let mut lines: Vec<&Event> = events.iter().collect();
    // What matters comes first: a short message has room for little.
    lines.sort_by_key(|event| core::cmp::Reverse(event.severity));
    let text = lines
        .iter()
        .map(|event| format!("{}  {}\n", rules::instant(seconds(event.at_s)), event.text))
        .collect();
    Message { subject, text, events: events.iter().map(Event::json).collect() }
}

fn seconds(at_s: i64) -> u64 {
    u64::try_from(at_s).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut many: Vec<Event> = (0..40).map(|n| event(&format!("d{n}.test"), Severity::Warning)).collect();
        many.push(event("worst.test", Severity::Critical));
        let digest = composed("mx2", &many);
        assert_eq!(digest.subject, "[mx2] worst.test: primary down opened and 40 more");
        assert!(digest.text.lines().count() == 41 && digest.events.len() == 41);
        assert!(digest.text.lines().next().is_some_and(|line| line.ends_with("worst.test is down.")));
    }
}
