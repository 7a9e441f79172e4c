//! `queue`: pages of messages, one message, its content.

use super::problem::Problem;
use super::{Api, answered};
use crate::bridge::operator::{
    Cursor, ExportPart, Filter, Message, MessageDetail, MessageState, Page, Request as Asked, Sift,
};
use crate::config::canonical_domain;
use crate::limits::{ADMIN_BODY_OCTETS_MAX, OPERATOR_EXPORT_PARTS, OPERATOR_PAGE_MAX};
use async_channel::Receiver;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_lite::stream::unfold;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// What a list is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of this domain; else of all
    domain: Option<String>,
    /// `queued`, `deferred`, `held` or `in-flight`
    state: Option<String>,
    /// Received then or later, in seconds since 1970
    received_since_s: Option<u64>,
    /// Received before then, in seconds since 1970
    received_before_s: Option<u64>,
    /// With at least so many octets on disk (`stored`)
    min_size: Option<u64>,
    /// With at most so many octets on disk
    max_size: Option<u64>,
    /// With this reverse-path; looks into each message
    sender: Option<String>,
    /// With this recipient; looks into each message
    recipient: Option<String>,
    /// A mail server said this code last
    code: Option<u16>,
    /// The `next` of the page before
    after: Option<String>,
    /// So many at most; the server has a bound of its own
    limit: Option<usize>,
}

/// A page; `next` is the `after` of the one behind it, null at the end. One by sender or recipient is what a tenth of a second finds,
/// and may be empty with a `next`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Messages {
    messages: Vec<Message>,
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Looked>,
}

/// How many messages were looked at for a page, of how many.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Looked {
    looked: u64,
    of: u64,
}

/// The same message in each of its domains.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Details {
    messages: Vec<MessageDetail>,
}

pub(super) type Queried<T> = Result<Query<T>, QueryRejection>;

/// A page of messages, in the order of acceptance
#[utoipa::path(get, path = "/api/v1/queue", tag = "queue", params(Wanted), responses((status = 200, body = Messages)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Queried<Wanted>,
) -> Result<Json<Messages>, Problem> {
    let wanted = query(wanted)?;
    let sift = Sift {
        received_since_s: wanted.received_since_s,
        received_before_s: wanted.received_before_s,
        min_octets: wanted.min_size,
        max_octets: wanted.max_size,
        sender: wanted.sender.map(|path| path.trim_matches(['<', '>']).to_owned()),
        recipient: wanted.recipient,
        code: wanted.code,
    };
    let Wanted { domain, state, after, limit, .. } = wanted;
    let limit = limit.unwrap_or(OPERATOR_PAGE_MAX).clamp(1, OPERATOR_PAGE_MAX);
    let domain = domain.map(|name| domain_of(&name)).transpose()?;
    let state = state.map(|word| state_of(&word)).transpose()?;
    let filter = Filter { domain, state, after: cursor_of(after.as_deref())?, limit, sift };
    let pages = answered(&api, api.shards.ask(|answer| Asked::List(filter.clone(), answer))).await?;
    let looked = |page: &Page| (page.looked, page.of);
    let (looked, of) = pages.iter().map(looked).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let progress = filter.sift.is_any().then_some(Looked { looked, of });
    let (messages, next) = merged(pages, limit);
    Ok(Json(Messages { messages, next: next.map(|next| next.to_string()), progress }))
}

/// The pages of all shards as one, and where it goes on: no further than each of them is complete.
fn merged(pages: Vec<Page>, limit: usize) -> (Vec<Message>, Option<Cursor>) {
    let horizon = pages.iter().map(|page| page.horizon).min().unwrap_or(0);
    let until = pages.iter().filter_map(|page| page.until.clone()).min();
    let key = |message: &Message| Cursor { stamp: message.stamp, domain: message.domain.as_str().into() };
    let mut messages: Vec<Message> = pages.into_iter().flat_map(|page| page.messages).collect();
    messages.retain(|message| {
        message.stamp < horizon && until.as_ref().is_none_or(|until| key(message) <= *until)
    });
    messages.sort_by_cached_key(key);
    if messages.len() > limit {
        messages.truncate(limit);
        let next = messages.last().map(key);
        return (messages, next);
    }
    // What lies between the horizon and the end of a page was left out: it is next.
    let until =
        until.and_then(|until| if until.stamp < horizon { Some(until) } else { messages.last().map(key) });
    (messages, until)
}

/// One message: envelope, units, trace field; never content
#[utoipa::path(
    get, path = "/api/v1/queue/{id}", tag = "queue", params(("id" = String, Path, description = "Queue id")),
    responses((status = 200, body = Details))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Details>, Problem> {
    Ok(Json(Details { messages: details(&api, &id).await? }))
}

async fn details(api: &Api, id: &str) -> Result<Vec<MessageDetail>, Problem> {
    let messages = still_queued(api, id).await?;
    if messages.is_empty() { Err(no_such_message()) } else { Ok(messages) }
}

/// What is queued or held of a message.
pub(super) async fn still_queued(api: &Api, id: &str) -> Result<Vec<MessageDetail>, Problem> {
    let answers = answered(api, api.shards.ask(|answer| Asked::Show(id.to_owned(), answer))).await?;
    let mut messages: Vec<MessageDetail> = answers.into_iter().flatten().collect();
    messages.sort_by(|one, other| one.message.domain.cmp(&other.message.domain));
    Ok(messages)
}

pub(super) fn no_such_message() -> Problem {
    Problem::not_found(
        "nothing of a message with this queue id is queued or held; its trace tells how it ended",
    )
}

/// The message itself, as it would be handed over
#[utoipa::path(
    get, path = "/api/v1/queue/{id}/export", tag = "queue", params(("id" = String, Path, description = "Queue id")),
    responses((status = 200, content_type = "message/rfc822", body = Vec<u8>))
)]
pub(super) async fn export(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let details = details(&api, &id).await?;
    let domain: Arc<str> =
        details.first().map(|detail| detail.message.domain.as_str().into()).unwrap_or_default();
    let asked = api
        .shards
        .stream(OPERATOR_EXPORT_PARTS, |parts| Asked::Export(id.clone(), Arc::clone(&domain), parts));
    let parts = answered(&api, asked).await?;
    let first = match parts.recv().await {
        Ok(ExportPart::Data(first)) => first,
        Ok(ExportPart::Failed(error)) => return Err(Problem::unavailable(&error)),
        // It ended between the two questions.
        Ok(ExportPart::End) | Err(_) => return Err(no_such_message()),
    };
    let name = format!("attachment; filename=\"{id}.eml\"");
    let head = [(CONTENT_TYPE, "message/rfc822".to_owned()), (CONTENT_DISPOSITION, name)];
    let parts = unfold((Some(first), Some(parts)), next_part);
    Ok((head, Body::from_stream(parts)).into_response())
}

/// What comes of an export, and what is left of it.
type Exporting = (Option<Vec<u8>>, Option<Receiver<ExportPart>>);

/// The next part; an end that was not told is an error, so that the client knows that it has not got all.
async fn next_part((first, parts): Exporting) -> Option<(Result<Vec<u8>, String>, Exporting)> {
    let parts = parts?;
    if let Some(first) = first {
        return Some((Ok(first), (None, Some(parts))));
    }
    match parts.recv().await {
        Ok(ExportPart::Data(part)) => Some((Ok(part), (None, Some(parts)))),
        Ok(ExportPart::End) => None,
        Ok(ExportPart::Failed(error)) => Some((Err(error), (None, None))),
        Err(_) => Some((Err("the export was cut off".to_owned()), (None, None))),
    }
}

pub(super) fn state_of(word: &str) -> Result<MessageState, Problem> {
    let state = MessageState::parse(word);
    state.ok_or_else(|| Problem::bad_request("state is one of queued, deferred, held, in-flight"))
}

pub(super) fn domain_of(name: &str) -> Result<Arc<str>, Problem> {
    let domain = canonical_domain(name).map(|domain| Arc::from(&*domain));
    domain.ok_or_else(|| Problem::bad_request("this is not the name of a domain"))
}

pub(super) fn cursor_of(text: Option<&str>) -> Result<Cursor, Problem> {
    let Some(text) = text else { return Ok(Cursor::default()) };
    Cursor::parse(text).ok_or_else(|| Problem::bad_request("after is the next of an answer before"))
}

pub(super) fn query<T>(query: Queried<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::bad_request(&error.body_text()))
}

pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let octets = to_bytes(request.into_body(), ADMIN_BODY_OCTETS_MAX).await;
    let octets = octets.map_err(|_| Problem::too_large())?;
    serde_json::from_slice(&octets).map_err(|error| Problem::bad_request(&format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(stamp: u64, domain: &str) -> Message {
        Message {
            id: None,
            domain: domain.to_owned(),
            state: MessageState::Queued,
            reverse_path: None,
            recipients: Vec::new(),
            size: 0,
            received_s: 0,
            held_since_s: None,
            next_try_s: None,
            stored: 0,
            last_code: None,
            deferrals: 0,
            may_repeat: false,
            unreadable: None,
            stamp,
        }
    }

    fn page(stamps: &[(u64, &str)], horizon: u64, is_all: bool) -> Page {
        let messages: Vec<Message> = stamps.iter().map(|(stamp, domain)| message(*stamp, domain)).collect();
        let last = stamps.last().filter(|_| !is_all);
        let until = last.map(|(stamp, domain)| Cursor { stamp: *stamp, domain: (*domain).into() });
        Page { messages, horizon, until, ..Page::default() }
    }

    #[test]
    fn pages_of_shards_are_one_without_hole_or_repeat() {
        let stamps = |merged: &(Vec<Message>, Option<Cursor>)| {
            let all = merged.0.iter().map(|message| (message.stamp, message.domain.clone()));
            (all.collect::<Vec<_>>(), merged.1.as_ref().map(|next| next.stamp))
        };
        let own = |all: &[(u64, &str)]| all.iter().map(|(s, d)| (*s, (*d).to_owned())).collect::<Vec<_>>();
        let one = page(&[(1, "a"), (4, "a")], 9, true);
        let other = page(&[(1, "b"), (2, "b")], 9, false);
        let all = merged(vec![one.clone(), other.clone()], 9);
        assert_eq!(
            stamps(&all),
            (own(&[(1, "a"), (1, "b"), (2, "b")]), Some(2)),
            "3 may be in the other's next"
        );
        let cut = merged(vec![one.clone(), other.clone()], 2);
        assert_eq!(stamps(&cut), (own(&[(1, "a"), (1, "b")]), Some(1)));
        assert_eq!(cut.1.map(|next| next.domain), Some("b".into()));
        let late = page(&[(3, "c")], 4, true);
        assert_eq!(
            stamps(&merged(vec![one, late], 9)),
            (own(&[(1, "a"), (3, "c")]), None),
            "4 is not told yet"
        );
        let ahead = page(&[(1, "a"), (8, "a")], 9, false);
        let behind = page(&[], 5, true);
        assert_eq!(stamps(&merged(vec![ahead, behind], 9)), (own(&[(1, "a")]), Some(1)), "8 comes again");
    }
}
