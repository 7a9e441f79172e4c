//! What an operator orders about a whole domain until he takes it back: maintenance, and a redirect.

use super::problem::Problem;
use super::queue::body;
use super::{Api, answered, domains};
use crate::bridge::operator::Request as Asked;
use crate::bridge::{Maintenance, Redirect, Standing};
use crate::config::{Primary, canonical_domain};
use crate::limits::{MAINTENANCE_MAX, ORDER_TEXT_OCTETS_MAX, REDIRECT_HOSTS_MAX};
use axum::Json;
use axum::extract::{Path, Request, State};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use utoipa::ToSchema;

/// Nothing is handed over from `from_s` (now, if it is left out) to `until_s`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    from_s: Option<u64>,
    until_s: u64,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
}

/// Mail goes to these hosts, once the first of them that serves us has taken a test message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Away {
    to: Vec<String>,
    /// Whom the test message is for; postmaster of the domain if it is left out.
    test_recipient: Option<String>,
    /// Only the test.
    #[serde(default)]
    test_only: bool,
    #[serde(default)]
    by: String,
}

/// What is in force now; `test` is what became of a test message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ordered {
    name: String,
    orders: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<String>,
}

type Answer = Result<Json<Ordered>, Problem>;

/// Maintenance: nothing is handed over for a time
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/hold", tag = "domains", request_body = Hold,
    params(("name" = String, Path, description = "The domain")), responses((status = 200, body = Ordered))
)]
pub(super) async fn hold(State(api): State<Arc<Api>>, Path(name): Path<String>, request: Request) -> Answer {
    let domain = known(&api, &name)?;
    let Hold { from_s, until_s, by, reason } = body(request).await?;
    let from_s = from_s.unwrap_or_else(now_s);
    is_short(&[&by, &reason])?;
    if until_s <= from_s.max(now_s()) {
        return Err(Problem::bad_request("until_s lies behind now, and behind from_s"));
    }
    if until_s > now_s().saturating_add(MAINTENANCE_MAX.as_secs()) {
        return Err(Problem::bad_request("until_s is within 30 days: mail that waits longer may expire"));
    }
    tracing::info!(%domain, from_s, until_s, by, reason, "held for maintenance by an operator");
    let window = Maintenance { from_s, until_s, by, reason };
    order(&api, domain, false, None, |standing| standing.maintenance = Some(window)).await
}

/// Ends the maintenance early
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/release", tag = "domains",
    params(("name" = String, Path, description = "The domain")), responses((status = 200, body = Ordered))
)]
pub(super) async fn release(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    let domain = known(&api, &name)?;
    tracing::info!(%domain, "its maintenance is ended by an operator");
    order(&api, domain, false, None, |standing| standing.maintenance = None).await
}

/// Mail goes to other hosts, behind a test message
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/redirect", tag = "domains", request_body = Away,
    params(("name" = String, Path, description = "The domain")), responses((status = 200, body = Ordered), (status = 409, description = "The test message was not taken"))
)]
pub(super) async fn redirect(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let domain = known(&api, &name)?;
    let Away { to, test_recipient, test_only, by } = body(request).await?;
    is_short(&[&by])?;
    if !(1..=REDIRECT_HOSTS_MAX).contains(&to.len()) {
        return Err(Problem::bad_request("to is a list of one host to eight, as host[:port]"));
    }
    let parse = |host: &String| {
        Primary::parse(host).map_err(|error| Problem::bad_request(&format!("to: {host:?} {error}")))
    };
    let to = to.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let recipient = test_recipient.unwrap_or_else(|| format!("postmaster@{domain}"));
    if !is_recipient(&recipient) {
        return Err(Problem::bad_request("test_recipient is no mail address"));
    }
    let asked =
        api.shards.ask(|answer| Asked::Try(Arc::clone(&domain), to.clone(), recipient.clone(), answer));
    let tested = answered(&api, asked).await?.into_iter().flatten().next();
    let test = match tested {
        Some(Ok(said)) => Some(said),
        Some(Err(error)) => {
            return Err(Problem::conflict(&format!("the test message was not taken: {error}")));
        }
        None => return Err(Problem::unavailable("too many test messages are under way; try again")),
    };
    if test_only {
        let orders = Standing::clone(&api.current.get().usage_of(&domain).orders.get());
        return Ok(Json(Ordered { name: domain.to_string(), orders, test }));
    }
    let hosts = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::warn!(%domain, to = hosts, by, "redirected by an operator");
    let redirect = Redirect { to, since_s: now_s(), by };
    order(&api, domain, true, test, |standing| standing.redirect = Some(redirect)).await
}

/// Ends the redirect
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/direct", tag = "domains",
    params(("name" = String, Path, description = "The domain")), responses((status = 200, body = Ordered))
)]
pub(super) async fn direct(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    let domain = known(&api, &name)?;
    tracing::warn!(%domain, "its redirect is ended by an operator");
    order(&api, domain, true, None, |standing| standing.redirect = None).await
}

/// Makes it durable, then tells the lane.
async fn order(
    api: &Arc<Api>,
    domain: Arc<str>,
    is_rerouted: bool,
    test: Option<String>,
    change: impl FnOnce(&mut Standing) + Clone + Send + 'static,
) -> Answer {
    let mut written = write(api, &domain, change.clone()).await?;
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull) {
        api.store.make_room().await;
        written = write(api, &domain, change).await?;
    }
    written.map_err(|error| {
        Problem::unwritten(&error, &format!("the order cannot be written: {error}; nothing has changed"))
    })?;
    let told = api.shards.ask(|answer| Asked::Ordered(Arc::clone(&domain), is_rerouted, answer));
    answered(api, told).await?;
    let orders = Standing::clone(&api.current.get().usage_of(&domain).orders.get());
    Ok(Json(Ordered { name: domain.to_string(), orders, test }))
}

async fn write(
    api: &Arc<Api>,
    domain: &Arc<str>,
    change: impl FnOnce(&mut Standing) + Send + 'static,
) -> Result<io::Result<()>, Problem> {
    let (book, name) = (Arc::clone(&api.orders), Arc::clone(domain));
    let written = tokio::task::spawn_blocking(move || book.change(&name, now_s(), change)).await;
    written.map_err(|_| Problem::internal())
}

/// A domain that is configured, or that has or had mail (H14).
fn known(api: &Api, name: &str) -> Result<Arc<str>, Problem> {
    let wanted = canonical_domain(name).unwrap_or_default();
    domains::known(&api.current.get(), &wanted)
}

/// Whether a test message may be for it.
pub(super) fn is_recipient(text: &str) -> bool {
    text.is_ascii()
        && text.len() <= ORDER_TEXT_OCTETS_MAX
        && text.contains('@')
        && !text.contains(|octet: char| octet.is_control() || "<> ".contains(octet))
}

fn is_short(texts: &[&String]) -> Result<(), Problem> {
    let is_short = texts.iter().all(|text| text.len() <= ORDER_TEXT_OCTETS_MAX);
    if is_short { Ok(()) } else { Err(Problem::bad_request("by and reason are 255 octets long at most")) }
}

fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
