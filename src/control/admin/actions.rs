//! What an operator does to messages: to one, to those of a domain and state; and flush and thaw.

use super::problem::Problem;
use super::queue::{Queried, body, cursor_of, domain_of, no_such_message, query, state_of};
use super::{Api, UNKNOWN_DOMAIN, answered};
use crate::bridge::operator::{Action, Done, Filter, MessageState, Request as Asked, Selection, Thawed};
use axum::Json;
use axum::extract::{Path, Request, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// All of them.
const ACTIONS: [Action; 5] = [Action::Bounce, Action::Hold, Action::Release, Action::Discard, Action::Delete];

type Answer = Result<Json<Outcome>, Problem>;

/// What was done; `next` is the `after` to go on with, null when all was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    /// Messages to which it was done
    messages: u64,
    /// And their units
    units: u64,
    /// Messages whose sender nothing proves: no notice goes to him (P5)
    unproven: u64,
    /// Messages that are being sent, and were left alone
    busy: u64,
    next: Option<String>,
}

/// How many messages were made due.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Flushed {
    messages: u64,
}

/// The domain of a flush or a thaw.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    domain: String,
}

/// Which messages of a domain something is done to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Many {
    domain: String,
    /// `queued`, `deferred` or `held`; of bounce, discard and delete needed, `all` among them
    state: Option<String>,
    /// The `next` of the answer before
    after: Option<String>,
}

/// In which domain something is done to one message; in all of its own without it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct In {
    domain: Option<String>,
}

/// What becomes of a bounce that nobody may be sent (P5).
const UNPROVEN: &str = "nothing proves that its sender is the one whom it names, or no notice can be made: it is held; \
                        release, discard or delete it";

/// Does something to one message: `bounce`, `hold`, `release`, `discard` or `delete`
#[utoipa::path(
    post, path = "/api/v1/queue/{id}/{action}", tag = "queue",
    params(("id" = String, Path, description = "Queue id"), ("action" = String, Path, description = "What is done"), In),
    responses((status = 200, body = Outcome), (status = 409, description = "It is not in a state for that"))
)]
pub(super) async fn act_on_one(
    State(api): State<Arc<Api>>,
    Path((id, word)): Path<(String, String)>,
    within: Queried<In>,
) -> Answer {
    let action = action_of(&word)?;
    let domain = query(within)?.domain.map(|name| domain_of(&name)).transpose()?;
    let done = act(&api, action, &Selection::Id(id, domain)).await?;
    if done.found == 0 {
        return Err(no_such_message());
    }
    if done.messages == 0 {
        return Err(Problem::conflict(if done.unproven > 0 {
            UNPROVEN
        } else if done.busy > 0 {
            "the message is being sent; try again"
        } else if action == Action::Release {
            "nothing of the message is held"
        } else {
            "there is nothing to do: all of the message is held already, or has ended"
        }));
    }
    Ok(Json(outcome(done)))
}

/// Makes all due that waits in a domain
#[utoipa::path(post, path = "/api/v1/queue/flush", tag = "queue", request_body = Whole, responses((status = 200, body = Flushed)))]
pub(super) async fn flush(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Flushed>, Problem> {
    let domain = domain_of(&body::<Whole>(request).await?.domain)?;
    known(&api, &domain)?;
    let counts = answered(&api, api.shards.ask(|answer| Asked::Flush(Arc::clone(&domain), answer))).await?;
    Ok(Json(Flushed { messages: counts.iter().sum() }))
}

/// Lets a lane go on that the bounce guard has stopped
#[utoipa::path(post, path = "/api/v1/queue/thaw", tag = "queue", request_body = Whole, responses((status = 200, body = Thawed)))]
pub(super) async fn thaw(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Thawed>, Problem> {
    let domain = domain_of(&body::<Whole>(request).await?.domain)?;
    known(&api, &domain)?;
    let was = answered(&api, api.shards.ask(|answer| Asked::Thaw(Arc::clone(&domain), answer))).await?;
    let (was_frozen, was_changed) =
        (was.iter().any(|was| was.was_frozen), was.iter().any(|was| was.was_changed));
    Ok(Json(Thawed { was_frozen, was_changed }))
}

/// Tells senders that it could not be delivered, of a domain and state, a thousand a request
#[utoipa::path(post, path = "/api/v1/queue/bounce", tag = "queue", request_body = Many, responses((status = 200, body = Outcome)))]
pub(super) async fn bounce_many(State(api): State<Arc<Api>>, request: Request) -> Answer {
    act_on_many(&api, Action::Bounce, request).await
}

/// Keeps messages for the operator, of a domain and state, a thousand a request
#[utoipa::path(post, path = "/api/v1/queue/hold", tag = "queue", request_body = Many, responses((status = 200, body = Outcome)))]
pub(super) async fn hold_many(State(api): State<Arc<Api>>, request: Request) -> Answer {
    act_on_many(&api, Action::Hold, request).await
}

/// Queues held messages again, of a domain and state, a thousand a request
#[utoipa::path(post, path = "/api/v1/queue/release", tag = "queue", request_body = Many, responses((status = 200, body = Outcome)))]
pub(super) async fn release_many(State(api): State<Arc<Api>>, request: Request) -> Answer {
    act_on_many(&api, Action::Release, request).await
}

/// Drops messages, counted as discarded, of a domain and state, a thousand a request
#[utoipa::path(post, path = "/api/v1/queue/discard", tag = "queue", request_body = Many, responses((status = 200, body = Outcome)))]
pub(super) async fn discard_many(State(api): State<Arc<Api>>, request: Request) -> Answer {
    act_on_many(&api, Action::Discard, request).await
}

/// Drops messages, counted as deleted, of a domain and state, a thousand a request
#[utoipa::path(post, path = "/api/v1/queue/delete", tag = "queue", request_body = Many, responses((status = 200, body = Outcome)))]
pub(super) async fn delete_many(State(api): State<Arc<Api>>, request: Request) -> Answer {
    act_on_many(&api, Action::Delete, request).await
}

async fn act_on_many(api: &Arc<Api>, action: Action, request: Request) -> Answer {
    let Many { domain, state, after } = body(request).await?;
    let state = match (action, state.as_deref()) {
        (Action::Hold, None) => None,
        (Action::Release, None | Some("held")) => Some(MessageState::Held),
        (Action::Hold, Some(word @ ("queued" | "deferred"))) => Some(state_of(word)?),
        (Action::Bounce | Action::Discard | Action::Delete, Some("all")) => None,
        (
            Action::Bounce | Action::Discard | Action::Delete,
            Some(word @ ("queued" | "deferred" | "held")),
        ) => Some(state_of(word)?),
        _ => {
            return Err(Problem::bad_request(
                "this is not done to messages in this state; bounce, discard and delete want one, or \"all\"",
            ));
        }
    };
    let after = cursor_of(after.as_deref())?;
    let domain = domain_of(&domain)?;
    known(api, &domain)?;
    let filter = Filter { domain: Some(domain), state, after, ..Filter::default() };
    Ok(Json(outcome(act(api, action, &Selection::All(filter)).await?)))
}

/// A name that was mistyped is not a domain with nothing to do.
pub(super) fn known(api: &Api, domain: &str) -> Result<(), Problem> {
    let snapshot = api.current.get();
    let has_mail = || snapshot.usage.known(domain).is_some_and(|usage| usage.messages() > 0);
    let is_known = snapshot.domain(domain).is_some() || has_mail();
    if is_known { Ok(()) } else { Err(Problem::not_found(UNKNOWN_DOMAIN)) }
}

async fn act(api: &Api, action: Action, selection: &Selection) -> Result<Done, Problem> {
    let answers =
        answered(api, api.shards.ask(|answer| Asked::Act(action, selection.clone(), answer))).await?;
    let mut sum = Done::default();
    for done in answers {
        sum.messages += done.messages;
        sum.units += done.units;
        sum.busy += done.busy;
        sum.unproven += done.unproven;
        sum.found += done.found;
        sum.more = sum.more.or(done.more);
    }
    Ok(sum)
}

fn outcome(done: Done) -> Outcome {
    let Done { messages, units, unproven, busy, more, .. } = done;
    Outcome { messages, units, unproven, busy, next: more.map(|more| more.to_string()) }
}

fn action_of(word: &str) -> Result<Action, Problem> {
    let action = ACTIONS.into_iter().find(|action| action.word() == word);
    action.ok_or_else(|| {
        Problem::not_found("no such action; there are bounce, hold, release, discard and delete")
    })
}
