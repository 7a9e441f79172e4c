//! Alerts, contacts, and what happened.

use super::Api;
use super::caller::Caller;
use super::problem::Problem;
use super::queue::{body, domain_of};
use super::tokens::check_name;
use crate::control::alert::{Condition, Severity, Sink, is_mailbox};
use crate::control::store::alert::{self as rows, Alert, Contact, Event};
use crate::control::store::now_s;
use crate::limits::{CONTACTS_MAX, STORE_PAGE_MAX};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which page of alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedAlerts {
    /// Only those that hold
    #[serde(default)]
    open: bool,
    /// Those before this one
    before: Option<i64>,
    /// So many at most; the server has a bound of its own
    limit: Option<usize>,
}

/// Which page of what happened.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedEvents {
    /// Of this domain; else of all, and of the server
    domain: Option<String>,
    /// Those before this one
    before: Option<i64>,
    /// So many at most; the server has a bound of its own
    limit: Option<usize>,
}

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
struct ShownAlert {
    id: i64,
    kind: crate::control::alert::Kind,
    /// Empty: the whole server
    domain: String,
    severity: Severity,
    text: String,
    /// In seconds since 1970
    since_s: i64,
    told_s: i64,
    /// Null: it holds
    over_s: Option<i64>,
    acknowledged_by: Option<String>,
}

/// A page, the latest first; `next` is the `before` of the one behind it, null at the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alerts {
    alerts: Vec<ShownAlert>,
    next: Option<i64>,
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
struct ShownEvent {
    id: i64,
    /// In seconds since 1970
    at_s: i64,
    /// Empty: the whole server
    domain: String,
    kind: String,
    severity: Severity,
    text: String,
}

/// A page, the latest first; `next` is the `before` of the one behind it, null at the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<ShownEvent>,
    next: Option<i64>,
}

/// Who is told; secrets are not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownContact {
    id: i64,
    name: String,
    /// `mail`, `webhook`, `sms` or `template`
    kind: &'static str,
    /// The address, web address or number
    target: String,
    /// Of this domain only; empty: of all, and of the server
    domain: String,
    /// What matters less is not told
    severity: Severity,
    created_s: i64,
    /// Why what waits for it did not go out
    last_error: Option<String>,
}

/// All contacts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Contacts {
    contacts: Vec<ShownContact>,
}

/// A new contact.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewContact {
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// `{"kind": "mail", "to"}`, `{"kind": "webhook", "url", "secret"}`, `{"kind": "sms", "account", "auth_token", "from", "to"}` (Twilio; another
    /// `base_url`) or `{"kind": "template", "url", "body", "media_type", "authorization_secret", "to"}` with {to} and {text} in url and body
    #[schema(value_type = Object)]
    sink: Value,
    /// Of this domain only; left out: of all, and of the server
    #[serde(default)]
    domain: String,
    /// What matters less is not told; left out: everything is
    severity: Option<Severity>,
}

/// Alerts, the latest first
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", params(WantedAlerts), responses((status = 200, body = Alerts)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<WantedAlerts>, QueryRejection>,
) -> Result<Json<Alerts>, Problem> {
    let Query(WantedAlerts { open, before, limit }) =
        wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let limit = limit.unwrap_or(STORE_PAGE_MAX).clamp(1, STORE_PAGE_MAX);
    let before = before.unwrap_or(i64::MAX);
    let found = api.store.run(move |connection| rows::alerts(connection, open, before, limit)).await?;
    let next = found.last().map(|alert| alert.id).filter(|_| found.len() == limit);
    let alerts = found.into_iter().map(|alert| {
        let Alert { id, condition, since_s, told_s, over_s, acknowledged_by } = alert;
        let Condition { kind, domain, severity, text } = condition;
        ShownAlert { id, kind, domain, severity, text, since_s, told_s, over_s, acknowledged_by }
    });
    Ok(Json(Alerts { alerts: alerts.collect(), next }))
}

/// Says that somebody looks after an alert: it is not told again
#[utoipa::path(
    post, path = "/api/v1/alerts/{id}/acknowledge", tag = "alerts", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204, description = "It is not told again while it holds"))
)]
pub(super) async fn acknowledge(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::not_found("there is no such alert that holds");
    let Path(id) = id.map_err(|_| unknown())?;
    let found = api.store.run(move |connection| rows::acknowledge(connection, id, &caller.name)).await?;
    api.watch.acknowledge(&found.ok_or_else(unknown)?);
    Ok(StatusCode::NO_CONTENT)
}

/// What happened, the latest first
#[utoipa::path(get, path = "/api/v1/events", tag = "alerts", params(WantedEvents), responses((status = 200, body = Events)))]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<WantedEvents>, QueryRejection>,
) -> Result<Json<Events>, Problem> {
    let Query(WantedEvents { domain, before, limit }) =
        wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let domain = domain.map(|name| domain_of(&name)).transpose()?;
    let limit = limit.unwrap_or(STORE_PAGE_MAX).clamp(1, STORE_PAGE_MAX);
    let before = before.unwrap_or(i64::MAX);
    let found =
        api.store.run(move |connection| rows::events(connection, domain.as_deref(), before, limit)).await?;
    let next = found.last().map(|event| event.id).filter(|_| found.len() == limit);
    let events = found.into_iter().map(|event| {
        let Event { id, at_s, domain, kind, severity, text } = event;
        ShownEvent { id, at_s, domain, kind, severity, text }
    });
    Ok(Json(Events { events: events.collect(), next }))
}

/// Who is told
#[utoipa::path(get, path = "/api/v1/contacts", tag = "alerts", responses((status = 200, body = Contacts)))]
pub(super) async fn contacts(State(api): State<Arc<Api>>) -> Result<Json<Contacts>, Problem> {
    let found = api.store.run(|connection| {
        let all = rows::contacts(connection)?.into_iter();
        all.map(|contact| Ok((rows::last_error(connection, contact.id)?, contact)))
            .collect::<Result<Vec<_>, _>>()
    });
    let contacts = found.await?.into_iter().map(|(error, contact)| shown(contact, error));
    Ok(Json(Contacts { contacts: contacts.collect() }))
}

/// Adds a contact
#[utoipa::path(
    post, path = "/api/v1/contacts", tag = "alerts", request_body = NewContact,
    responses((status = 201, body = ShownContact), (status = 409, description = "It would be the only one, and could not be reached in an outage"))
)]
pub(super) async fn add_contact(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<(StatusCode, Json<ShownContact>), Problem> {
    let NewContact { name, sink, domain, severity } = body(request).await?;
    check_name(&name)?;
    let sink: Sink =
        serde_json::from_value(sink).map_err(|error| Problem::unprocessable(&format!("sink: {error}")))?;
    check(&sink).map_err(|error| Problem::unprocessable(&format!("sink: {error}")))?;
    let domain = if domain.is_empty() { domain } else { domain_of(&domain)?.to_string() };
    let severity = severity.unwrap_or(Severity::Information);
    let mut contact = Contact { id: 0, name, sink, domain, severity, created_s: now_s() };
    let others = api.store.run(|connection| rows::contacts(connection)).await?;
    if others.len() >= CONTACTS_MAX {
        return Err(Problem::conflict("there are 256 contacts, which is the most"));
    }
    if is_inside(&api, &contact) && others.iter().all(|other| is_inside(&api, other)) {
        return Err(Problem::conflict(INSIDE));
    }
    let new = contact.clone();
    contact.id = api.store.run(move |connection| rows::add_contact(connection, &new)).await?;
    Ok((StatusCode::CREATED, Json(shown(contact, None))))
}

/// Removes a contact, with what waits for it
#[utoipa::path(
    delete, path = "/api/v1/contacts/{id}", tag = "alerts", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204, description = "It is gone"), (status = 409, description = "Only contacts would be left that cannot be reached in an outage"))
)]
pub(super) async fn remove_contact(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = known(&api, id).await?.id;
    let all = api.store.run(|connection| rows::contacts(connection)).await?;
    let left: Vec<Contact> = all.into_iter().filter(|contact| contact.id != id).collect();
    if !left.is_empty() && left.iter().all(|contact| is_inside(&api, contact)) {
        return Err(Problem::conflict(INSIDE));
    }
    api.store.run(move |connection| rows::remove_contact(connection, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test message to a contact, now
#[utoipa::path(
    post, path = "/api/v1/contacts/{id}/test", tag = "alerts", params(("id" = i64, Path, description = "Its number")),
    responses((status = 204, description = "It was taken"), (status = 409, description = "Why it was not"))
)]
pub(super) async fn try_contact(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let contact = known(&api, id).await?;
    let tried = api.watch.try_contact(&contact).await;
    tried
        .map_err(|error| Problem::conflict(&format!("{} was not reached: {error}", contact.sink.target())))?;
    Ok(StatusCode::NO_CONTENT)
}

const INSIDE: &str = "it is in a domain that this server protects: in an outage nobody reads it. Add a contact elsewhere first";

/// A mailbox that is down when there is something to tell.
fn is_inside(api: &Api, contact: &Contact) -> bool {
    let Sink::Mail { to } = &contact.sink else { return false };
    let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
    let name = crate::config::canonical_domain(domain).unwrap_or_default();
    api.current.get().domain(&name).is_some()
}

async fn known(api: &Api, id: Result<Path<i64>, PathRejection>) -> Result<Contact, Problem> {
    let unknown = || Problem::not_found("there is no such contact");
    let Path(id) = id.map_err(|_| unknown())?;
    let all = api.store.run(|connection| rows::contacts(connection)).await?;
    all.into_iter().find(|contact| contact.id == id).ok_or_else(unknown)
}

fn check(sink: &Sink) -> Result<(), String> {
    let is_web = |url: &str| {
        let uri = url.replace(['{', '}'], "x").parse::<axum::http::Uri>().ok();
        let is_web =
            uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if is_web { Ok(()) } else { Err("url: not an address like https://example.com/alerts".to_owned()) }
    };
    let is_set =
        |name: &str, text: &str| if text.is_empty() { Err(format!("{name}: is empty")) } else { Ok(()) };
    match sink {
        Sink::Mail { to } => {
            if is_mailbox(to) {
                Ok(())
            } else {
                Err("to: not a mail address".to_owned())
            }
        }
        Sink::Webhook { url, secret } => {
            is_web(url)?;
            is_set("secret", secret)?;
            let is_key = secret.strip_prefix("whsec_").is_none_or(|rest| STANDARD.decode(rest).is_ok());
            if is_key { Ok(()) } else { Err("secret: behind whsec_ stands Base64".to_owned()) }
        }
        Sink::Sms { account, auth_token, from, to, base_url } => {
            for (name, text) in [("account", account), ("auth_token", auth_token), ("from", from), ("to", to)]
            {
                is_set(name, text)?;
            }
            base_url.as_deref().map_or(Ok(()), is_web)
        }
        Sink::Template { url, body, media_type, to, .. } => {
            is_web(url)?;
            is_set("to", to)?;
            let is_known = ["", "application/json", "application/x-www-form-urlencoded", "text/plain"]
                .contains(&media_type.as_str());
            if !is_known {
                return Err(
                    "media_type: one of application/json, application/x-www-form-urlencoded, text/plain"
                        .to_owned(),
                );
            }
            if media_type.is_empty() && !body.is_empty() {
                return Err(
                    "media_type: a body needs one, so that {text} is escaped as it wants it".to_owned()
                );
            }
            let has_text = url.contains("{text}") || body.contains("{text}");
            if has_text { Ok(()) } else { Err("neither url nor body has {text} in it".to_owned()) }
        }
    }
}

fn shown(contact: Contact, last_error: Option<String>) -> ShownContact {
    let Contact { id, name, sink, domain, severity, created_s } = contact;
    let (kind, target) = (sink.word(), sink.target().to_owned());
    ShownContact { id, name, kind, target, domain, severity, created_s, last_error }
}
