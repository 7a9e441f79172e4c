//! `domains/NAME/drill`: an outage for one test recipient, while everybody else's mail goes on.
//!
//! Three messages come through our own port and wait, as in an outage; then they are handed over by the domain's own lane, and the trace tells
//! what its mail server said to each. It takes a few seconds, and ends by itself whatever happens: what was held is let go after
//! [`DRILL_HOLD_MAX`], and what is left of the messages is deleted. Nothing is drilled while the domain's mail server is out, or its mail is held.
//!
//! Mail of others that comes meanwhile is relayed rather than carried through, as beside any backlog.

use super::Api;
use super::answered;
use super::domains::known;
use super::orders::is_recipient;
use super::problem::Problem;
use super::queue::{body, still_queued};
use super::status;
use super::submit::Session;
use super::trace::turn;
use crate::bridge::operator::{Action, Request as Asked, Selection, State, TraceWanted, Traced};
use crate::config::canonical_domain;
use crate::limits::{DRILL_DRAIN_MAX, DRILL_HOLD, DRILL_HOLD_MAX, DRILL_MESSAGES, DRILL_POLL};
use axum::Json;
use axum::extract::{Path, Request, State as Shared};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

/// For whom.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Whom the test messages are for; postmaster of the domain if it is left out
    recipient: Option<String>,
}

/// How it went.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Drilled {
    domain: String,
    recipient: String,
    passed: bool,
    /// In a sentence
    verdict: String,
    steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DrillStep)]
pub(super) struct Step {
    /// `primary`, `accepted`, `held`, `drained`, `in order` or `cleaned up`
    step: &'static str,
    passed: bool,
    /// What was seen
    text: String,
}

/// A simulated outage for one test recipient: held, drained, in order
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/drill", tag = "domains", request_body = Wanted,
    params(("name" = String, Path, description = "The domain")),
    responses((status = 200, body = Drilled), (status = 409, description = "Another drill goes on, or nothing is traced"))
)]
pub(super) async fn drill(
    Shared(api): Shared<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Drilled>, Problem> {
    let Wanted { recipient } = body(request).await?;
    let snapshot = api.current.get();
    let domain = known(&snapshot, &canonical_domain(&name).unwrap_or_default())?;
    if snapshot.domain(&domain).is_none() {
        return Err(Problem::conflict("this domain is not configured: add it first"));
    }
    if snapshot.config.storage.trace_retention.is_zero() {
        return Err(Problem::conflict(
            "nothing is traced (storage.trace_retention), so nothing would tell what became of a message",
        ));
    }
    let recipient = recipient.unwrap_or_else(|| format!("postmaster@{domain}"));
    let is_of_domain =
        recipient.rsplit_once('@').is_some_and(|(_, of)| canonical_domain(of).as_deref() == Some(&*domain));
    if !is_recipient(&recipient) || !is_of_domain {
        return Err(Problem::bad_request("recipient is a mail address of this domain"));
    }
    let mut drill =
        Drill { api: &api, domain, recipient, steps: Vec::new(), ids: Vec::new(), is_unsure: false };
    let done = drill.run().await?;
    Ok(Json(drill.told(done)))
}

struct Drill<'a> {
    api: &'a Api,
    domain: Arc<str>,
    recipient: String,
    steps: Vec<Step>,
    ids: Vec<String>,
    /// A message may have been taken whose id is not known.
    is_unsure: bool,
}

impl Drill<'_> {
    /// What the mail server said, if all went well.
    async fn run(&mut self) -> Result<Option<String>, Problem> {
        if !self.primary_is_there().await? {
            return Ok(None);
        }
        let begun = self.hold(Some(self.recipient.clone())).await?;
        if !begun {
            return Err(Problem::conflict("another drill of this domain goes on; it ends within a minute"));
        }
        let passed = self.accepted().await && self.stays_held(Instant::now()).await;
        // Whatever was seen: nothing waits for it any longer.
        let released = self.hold(None).await;
        let said = if passed { self.drained().await } else { Ok(None) };
        self.clean_up().await;
        released?;
        said
    }

    async fn primary_is_there(&mut self) -> Result<bool, Problem> {
        let status = answered(self.api, status::domains(self.api, &[Arc::clone(&self.domain)])).await?;
        let status = status.into_iter().next().unwrap_or_default();
        let state = status.state;
        let is_there = matches!(state, State::Up | State::Unknown);
        let text = match (is_there, &status.last_failure) {
            (true, _) => "its mail server is not known to be out".to_owned(),
            (false, Some(failure)) => {
                format!("the domain is {state}: {}; a drill says nothing now", failure.reason)
            }
            (false, None) => format!("the domain is {state}; a drill says nothing now"),
        };
        self.note("primary", is_there, text);
        Ok(is_there)
    }

    /// Begins or ends the outage; whether it has begun.
    async fn hold(&self, recipient: Option<String>) -> Result<bool, Problem> {
        let domain = &self.domain;
        let asked = self.api.shards.ask(|answer| {
            Asked::Drill(Arc::clone(domain), recipient.clone().map(|to| (to, DRILL_HOLD_MAX)), answer)
        });
        Ok(answered(self.api, asked).await?.into_iter().any(|begun| begun))
    }

    /// The messages are ours.
    async fn accepted(&mut self) -> bool {
        let result = self.submit().await;
        self.is_unsure = result.is_err();
        let text = match &result {
            Ok(()) => format!("{} messages through our own port: {}", self.ids.len(), self.ids.join(", ")),
            Err(error) => format!(
                "our own port did not take message {} of {DRILL_MESSAGES}: {error}",
                self.ids.len() + 1
            ),
        };
        self.note("accepted", result.is_ok(), text);
        result.is_ok()
    }

    async fn submit(&mut self) -> Result<(), String> {
        let Some(address) = self.api.smtp.first().copied() else { return Err("nothing listens".to_owned()) };
        let hostname = self.api.current.get().config.hostname.clone();
        let mut session = Session::open(reachable(address), &hostname).await?;
        for number in 1..=DRILL_MESSAGES {
            let message = message(&hostname, &self.recipient, number);
            let reply = session.bring(&self.recipient, &message).await?;
            let id = reply.rsplit_once("queued as ").map(|(_, id)| id.trim().to_owned());
            self.ids.push(id.ok_or_else(|| {
                format!("it went straight through to the mail server, which said {reply}: nothing was held")
            })?);
        }
        session.close().await;
        Ok(())
    }

    async fn stays_held(&mut self, since: Instant) -> bool {
        sleep(DRILL_HOLD.saturating_sub(since.elapsed())).await;
        let mut waiting = 0;
        for id in &self.ids {
            waiting += usize::from(still_queued(self.api, id).await.is_ok_and(|found| !found.is_empty()));
        }
        let is_held = waiting == self.ids.len();
        let text = if is_held {
            format!("all of them waited for {} s", DRILL_HOLD.as_secs())
        } else {
            format!("{} of {} did not wait", self.ids.len() - waiting, self.ids.len())
        };
        self.note("held", is_held, text);
        is_held
    }

    /// All of them were handed over, in order: what was said to the last.
    async fn drained(&mut self) -> Result<Option<String>, Problem> {
        let end = Instant::now() + DRILL_DRAIN_MAX;
        let events = loop {
            let events = self.events().await?;
            let ended =
                |id: &String| events.iter().any(|event| event.id.as_ref() == Some(id) && is_final(event));
            if self.ids.iter().all(ended) || Instant::now() >= end {
                break events;
            }
            sleep(DRILL_POLL).await;
        };
        let taken: Vec<&Traced> =
            events.iter().filter(|event| event.recipients.iter().any(|to| to.what == "delivered")).collect();
        let said = taken.last().and_then(|event| event.recipients.first().map(|to| (event, to)));
        let said = said.map(|(event, to)| {
            format!("{} said {} {}", event.host.as_deref().unwrap_or("it"), to.code, to.text)
        });
        let is_all = taken.len() == self.ids.len();
        let other =
            events.iter().rev().find(|event| event.recipients.iter().any(|to| to.what != "delivered"));
        let text = match (is_all, other.and_then(|event| event.recipients.first())) {
            (true, _) => format!("all of them were handed over; {}", said.as_deref().unwrap_or_default()),
            (false, Some(to)) => {
                format!(
                    "{} of {} were handed over; {}: {} {}",
                    taken.len(),
                    self.ids.len(),
                    to.what,
                    to.code,
                    to.text
                )
            }
            (false, None) => format!(
                "{} of {} were handed over within {} s: the domain's lane did not get to them; see: stratamx domain show {}",
                taken.len(),
                self.ids.len(),
                DRILL_DRAIN_MAX.as_secs(),
                self.domain
            ),
        };
        self.note("drained", is_all, text);
        if !is_all {
            return Ok(None);
        }
        let order: Vec<&str> = taken.iter().filter_map(|event| event.id.as_deref()).collect();
        let is_ordered = order == self.ids && taken.is_sorted_by_key(|event| event.order);
        let text = if is_ordered { "as they came".to_owned() } else { format!("as {}", order.join(", ")) };
        self.note("in order", is_ordered, text);
        Ok(said.filter(|_| is_ordered))
    }

    /// What the trace has of the messages.
    async fn events(&self) -> Result<Vec<Traced>, Problem> {
        let now_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let mut wanted = TraceWanted {
            domain: Some(Arc::clone(&self.domain)),
            recipient: Some(self.recipient.clone()),
            since_s: now_s.saturating_sub(60),
            until_s: u64::MAX,
            ..TraceWanted::default()
        };
        let mut events = Vec::new();
        loop {
            let (some, next, _) = turn(self.api, wanted.clone()).await?;
            let is_ours = |event: &Traced| event.id.as_ref().is_some_and(|id| self.ids.contains(id));
            events.extend(some.into_iter().filter(is_ours));
            match next {
                Some(next) => wanted.after = Some(next),
                None => return Ok(events),
            }
        }
    }

    /// Nothing of it is left.
    async fn clean_up(&mut self) {
        let mut left = Vec::new();
        for id in &self.ids {
            if still_queued(self.api, id).await.is_ok_and(|found| found.is_empty()) {
                continue;
            }
            let selection = Selection::Id(id.clone(), Some(Arc::clone(&self.domain)));
            let asked = self.api.shards.ask(|answer| Asked::Act(Action::Delete, selection.clone(), answer));
            let deleted =
                answered(self.api, asked).await.is_ok_and(|all| all.iter().any(|done| done.messages > 0));
            if !deleted {
                left.push(id.clone());
            }
        }
        let text = match (left.is_empty(), self.is_unsure) {
            (true, false) => "nothing of it is left".to_owned(),
            (true, true) => format!(
                "no reply came to message {}: if it was taken it will be handed over",
                self.ids.len() + 1
            ),
            (false, _) => format!("these are still queued, and will be handed over: {}", left.join(", ")),
        };
        self.note("cleaned up", left.is_empty() && !self.is_unsure, text);
    }

    fn note(&mut self, step: &'static str, passed: bool, text: String) {
        tracing::info!(domain = %self.domain, step, passed, text, "drill");
        self.steps.push(Step { step, passed, text });
    }

    fn told(self, said: Option<String>) -> Drilled {
        let failed = self.steps.iter().find(|step| !step.passed);
        let verdict = match (failed, &said) {
            (None, Some(said)) => format!("held, drained and in order; {said}"),
            (Some(step), _) => format!("failed at \"{}\": {}", step.step, step.text),
            (None, None) => "failed: the mail server's reply is not known".to_owned(),
        };
        let passed = failed.is_none() && said.is_some();
        Drilled {
            domain: self.domain.to_string(),
            recipient: self.recipient,
            passed,
            verdict,
            steps: self.steps,
        }
    }
}

fn is_final(event: &Traced) -> bool {
    event.recipients.iter().any(|recipient| recipient.is_final)
}

/// Where a listener is reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

fn message(hostname: &str, recipient: &str, number: usize) -> String {
    let now = jiff::Timestamp::now();
    let date = jiff::fmt::rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    format!(
        "Date: {date}\r\nFrom: Backup mail server <postmaster@{hostname}>\r\nTo: <{recipient}>\r\n\
         Subject: Test of the backup mail server, {number} of {DRILL_MESSAGES}\r\nMessage-ID: <drill-{number}-{}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         This message was held by the backup mail server {hostname} for a few seconds, as in an\r\n\
         outage, and then handed over. Nobody needs to do anything.",
        now.as_microsecond()
    )
}
