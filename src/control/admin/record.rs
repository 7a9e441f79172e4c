//! Changes, and looks at the content of mail: each is in the audit log before it is done, and one with an `Idempotency-Key` is done
//! once, however often it comes.
//!
//! Whoever cannot be written down does nothing: while the database cannot be written, changes are 503. Secrets in a body are left
//! out. A key belongs to its caller and to one request (method, path, body); it is kept for a day. A request that failed by our fault
//! (5xx) frees its key, since nothing tells what was done: each of our changes can be asked for again.

use super::Api;
use super::at_rest;
use super::caller::Caller;
use super::problem::Problem;
use crate::auth::contained::Contained;
use crate::control::store::answer::{self, Given, Known};
use crate::control::store::{Connection, audit};
use crate::limits::{
    ADMIN_ANSWER_OCTETS_MAX, ADMIN_BODY_OCTETS_MAX, AUDIT_BODY_OCTETS_MAX, CONFIGURATION_CHANGE_OCTETS_MAX,
    IDEMPOTENCY_ANSWER_OCTETS_MAX, IDEMPOTENCY_KEY_OCTETS_MAX,
};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::digest::{Context, SHA256};
use serde_json::Value;
use std::sync::Arc;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Whose answers are not kept, nor anything that is made of the question.
const TOLD_ONCE: [&str; 4] = ["/api/v1/tokens", at_rest::PASSPHRASE, at_rest::RECOVERY_KEY, at_rest::UNLOCK];
/// Keys of a body whose values are not written down.
const SECRETS: [&str; 6] = ["content", "passphrase", "password", "secret", "token", "key"];

/// A request whose body is small.
pub(super) async fn recorded(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    to_its_end(record(api, request, next, ADMIN_BODY_OCTETS_MAX)).await
}

/// A request with files of the configuration, whose content is not written down.
pub(super) async fn recorded_configuration(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    to_its_end(record(api, request, next, CONFIGURATION_CHANGE_OCTETS_MAX)).await
}

/// Work that goes on when its client has gone, or waits no longer: what was begun is written down with how it ended, and its key has
/// its answer. A panic costs the request.
async fn to_its_end(work: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(Contained::new(work)).await {
        Ok(Some(response)) => response,
        Ok(None) | Err(_) => {
            tracing::error!("a change by the admin API panicked");
            Problem::internal().into_response()
        }
    }
}

async fn record(api: Arc<Api>, request: Request, next: Next, octets_max: usize) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, octets_max).await else {
        return Problem::too_large().into_response();
    };
    let told = told(&body);
    let key = match key(&parts.headers, &parts.method, parts.uri.path()) {
        Ok(key) => key.map(|key| (key, fingerprint(&parts.method, &parts.uri.to_string(), &body))),
        Err(problem) => return problem.into_response(),
    };
    let request = Request::from_parts(parts, Body::from(body));
    match key {
        None => written(&api, request, told, next).await,
        Some((key, fingerprint)) => once(&api, request, told, key, fingerprint, next).await,
    }
}

/// A request whose body is large, and not written down.
pub(super) async fn recorded_import(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let told = format!("{} octets", length.unwrap_or("unknown"));
    to_its_end(async move { written(&api, request, told, next).await }).await
}

async fn written(api: &Api, request: Request, told: String, next: Next) -> Response {
    let caller = caller(&request);
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let begin = move |connection: &mut Connection| audit::begin(connection, &caller, &method, &path, &told);
    let id = match api.store.run_again(begin).await {
        Ok(id) => id,
        Err(error) => {
            let detail = format!("what cannot be written down is not done: {error}");
            return Problem::of_store(&error, &detail).into_response();
        }
    };
    // Here too, so that the end of one that panics is written down.
    let response = Contained::new(next.run(request)).await;
    let response = response.unwrap_or_else(|| Problem::internal().into_response());
    let status = response.status().as_u16();
    if let Err(error) = api.store.run_again(move |connection| audit::end(connection, id, status)).await {
        tracing::warn!(entry = id, status, %error, "the audit log does not have how a request was answered");
    }
    response
}

async fn once(
    api: &Arc<Api>,
    request: Request,
    told: String,
    key: String,
    fingerprint: Vec<u8>,
    next: Next,
) -> Response {
    let caller = caller(&request);
    let (own, wanted) = (caller.clone(), key.clone());
    let known = api.store.run_again(move |connection| {
        let transaction = connection.transaction()?;
        let known = answer::take(&transaction, &own, &wanted, &fingerprint)?;
        transaction.commit().map(|()| known)
    });
    match known.await {
        Err(error) => Problem::from(error).into_response(),
        Ok(Known::Others) => {
            Problem::unprocessable("this Idempotency-Key was used for another request").into_response()
        }
        Ok(Known::UnderWay) => Problem::conflict(
            "a request with this Idempotency-Key is under way, or was cut off: look, then use another key",
        )
        .into_response(),
        Ok(Known::Given(given)) => given_before(given),
        Ok(Known::New) => {
            let response = written(api, request, told, next).await;
            keep(api, &caller, &key, response).await
        }
    }
}

async fn keep(api: &Api, caller: &str, key: &str, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ADMIN_ANSWER_OCTETS_MAX).await else {
        return Problem::internal().into_response();
    };
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let given = Given { status: parts.status.as_u16(), kind: kind.to_owned(), body: body.to_vec() };
    let is_small = body.len() <= IDEMPOTENCY_ANSWER_OCTETS_MAX;
    let given = Some(given).filter(|_| is_small && !parts.status.is_server_error());
    let (caller, key) = (caller.to_owned(), key.to_owned());
    let kept = api.store.run_again(move |connection| {
        let transaction = connection.transaction()?;
        answer::give(&transaction, &caller, &key, given.as_ref())?;
        transaction.commit()
    });
    if let Err(error) = kept.await {
        tracing::warn!(%error, "an answer is not kept for its Idempotency-Key");
    }
    Response::from_parts(parts, Body::from(body))
}

fn given_before(Given { status, kind, body }: Given) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn caller(request: &Request) -> String {
    request.extensions().get::<Caller>().map(|caller| caller.name.to_string()).unwrap_or_default()
}

fn key(headers: &HeaderMap, method: &Method, path: &str) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(KEY).filter(|_| *method == Method::POST) else { return Ok(None) };
    if TOLD_ONCE.contains(&path) {
        return Err(Problem::bad_request(
            "what is told once is kept nowhere: it is made without an Idempotency-Key",
        ));
    }
    match key.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_OCTETS_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request("Idempotency-Key is 1 to 255 visible ASCII characters")),
    }
}

fn fingerprint(method: &Method, path: &str, body: &Bytes) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// What the audit log has of a body.
fn told(body: &Bytes) -> String {
    let too_long = || format!("{} octets", body.len());
    if body.is_empty() {
        return String::new();
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            conceal(&mut value);
            let text = value.to_string();
            if text.len() > AUDIT_BODY_OCTETS_MAX { too_long() } else { text }
        }
        // Nothing tells where a secret would be.
        Err(_) => too_long(),
    }
}

fn conceal(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = key.to_ascii_lowercase();
                if key == "sink" {
                    conceal_all(value);
                } else if SECRETS.iter().any(|secret| key == *secret || key.ends_with(&format!("_{secret}")))
                {
                    *value = Value::from("not written down");
                } else {
                    conceal(value);
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(conceal),
        _ => {}
    }
}

/// Of whom is told only the kind and to whom: an address of a web server is a key to it.
fn conceal_all(sink: &mut Value) {
    for (key, value) in sink.as_object_mut().into_iter().flatten() {
        if !["kind", "to", "from", "media_type"].contains(&key.as_str()) {
            *value = Value::from("not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_not_written_down_and_long_bodies_are_their_length() {
        let body = |value: &Value| told(&Bytes::from(value.to_string()));
        let given =
            json!({ "a": [{ "auth_token": "x", "Password": "y" }], "primary": ["192.0.2.1"], "monkey": 1 });
        let expected = "{\"Password\":\"not written down\",\"auth_token\":\"not written down\"}";
        let text = body(&given);
        assert!(
            text.contains(expected) && text.contains("192.0.2.1") && text.contains("\"monkey\":1"),
            "{text}"
        );
        assert_eq!(body(&json!({ "a": "x".repeat(5000) })), "5008 octets");
        assert_eq!(told(&Bytes::from_static(b"password=x")), "10 octets");
        for key in ["secret", "passphrase"] {
            assert!(!body(&json!({ key: "correct horse" })).contains("horse"), "{key}");
        }
        assert_eq!(told(&Bytes::new()), "");
        let sink =
            json!({ "sink": { "kind": "webhook", "url": "https://hooks.example/T0/secret", "to": "x" } });
        let files = json!({ "files": [{ "name": "key.pem", "content": "c2VjcmV0" }] });
        assert!(!body(&files).contains("c2V") && body(&files).contains("key.pem"), "{}", body(&files));
        assert!(!body(&sink).contains("T0") && body(&sink).contains("webhook"), "{}", body(&sink));
    }
}
