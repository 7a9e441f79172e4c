//! `trace`: what became of messages, of one or of those that a filter lets pass. Never content.

use super::problem::Problem;
use super::queue::{Queried, domain_of, query, still_queued};
use super::{Api, answered};
use crate::bridge::operator::{
    MessageDetail, Progress, Request as Asked, TraceCursor, TracePage, TraceWanted, Traced,
};
use crate::limits::TRACE_SEARCH_TIMEOUT;
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

/// Which rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of this domain; else of all
    domain: Option<String>,
    /// With this reverse-path
    sender: Option<String>,
    /// With this recipient
    recipient: Option<String>,
    /// With this reply code
    code: Option<u16>,
    /// From then on, in seconds since 1970
    since_s: Option<u64>,
    /// Before then, in seconds since 1970
    until_s: Option<u64>,
    /// The `next` of the page before
    after: Option<String>,
}

/// Where a search for one message goes on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Further {
    /// The `next` of the answer before
    after: Option<String>,
}

/// What was found in a tenth of a second, by time; `next` is the `after` to go on with, null when all was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TraceRows {
    events: Vec<Traced>,
    next: Option<String>,
    progress: Progress,
}

/// What became of one message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageTrace {
    id: String,
    /// What of it is queued or held, in each of its domains
    messages: Vec<MessageDetail>,
    /// What happened, by time
    events: Vec<Traced>,
    next: Option<String>,
    progress: Progress,
}

/// What became of messages, a page at a time
#[utoipa::path(get, path = "/api/v1/trace", tag = "trace", params(Wanted), responses((status = 200, body = TraceRows)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Queried<Wanted>,
) -> Result<Json<TraceRows>, Problem> {
    let Wanted { domain, sender, recipient, code, since_s, until_s, after } = query(wanted)?;
    let wanted = TraceWanted {
        id: None,
        domain: domain.map(|name| domain_of(&name)).transpose()?,
        sender: sender.map(|path| path.trim_matches(['<', '>']).to_owned()),
        recipient,
        code,
        since_s: since_s.unwrap_or(0),
        until_s: until_s.unwrap_or(u64::MAX),
        after: after.map(|text| cursor(&text)).transpose()?,
    };
    let (events, next, progress) = turn(&api, wanted).await?;
    Ok(Json(TraceRows { events, next: next.map(|next| next.to_string()), progress }))
}

/// What became of one message: how it was accepted, each try, its end for each recipient
#[utoipa::path(
    get, path = "/api/v1/trace/{id}", tag = "trace",
    params(("id" = String, Path, description = "Queue id"), Further), responses((status = 200, body = MessageTrace))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    further: Queried<Further>,
) -> Result<Json<MessageTrace>, Problem> {
    let after = query(further)?.after.map(|text| cursor(&text)).transpose()?;
    let is_first = after.is_none();
    let messages = if is_first { still_queued(&api, &id).await? } else { Vec::new() };
    let mut wanted =
        TraceWanted { id: Some(id.to_ascii_uppercase()), until_s: u64::MAX, after, ..TraceWanted::default() };
    let mut events = Vec::new();
    let end = Instant::now() + TRACE_SEARCH_TIMEOUT;
    let (next, progress) = loop {
        let (more, next, progress) = turn(&api, wanted.clone()).await?;
        events.extend(more);
        match next {
            Some(next) if Instant::now() < end => wanted.after = Some(next),
            next => break (next, progress),
        }
    };
    if is_first && next.is_none() && events.is_empty() && messages.is_empty() {
        return Err(Problem::not_found(
            "nothing is known of a message with this queue id: it is not queued, and no trace of it is kept",
        ));
    }
    events.sort_by_key(|event| event.at_ms);
    let next = next.map(|next| next.to_string());
    Ok(Json(MessageTrace { id, messages, events, next, progress }))
}

/// All shards look for a tenth of a second.
pub(super) async fn turn(
    api: &Api,
    wanted: TraceWanted,
) -> Result<(Vec<Traced>, Option<TraceCursor>, Progress), Problem> {
    let wanted = Arc::new(wanted);
    let asked = api.shards.ask(|answer| Asked::Trace(Arc::clone(&wanted), answer));
    Ok(TracePage::merged(answered(api, asked).await?))
}

fn cursor(text: &str) -> Result<TraceCursor, Problem> {
    TraceCursor::parse(text).ok_or_else(|| Problem::bad_request("after is the next of an answer before"))
}
