//! What every request goes through, and what is provisioned; over the router, without a socket.

mod provisioned;

use super::routes::{guarded, router};
use super::{Api, Callers, Token};
use crate::bridge::operator::{DomainStatus, Request as Asked, ShardStatus, channels};
use crate::bridge::{Current, Snapshot, lookup_channel};
use crate::config::Config;
use crate::control::alert::Watch;
use crate::control::orders::OrderBook;
use crate::control::process::Process;
use crate::control::provisioning::Provisioned;
use crate::control::store::Store;
use crate::control::store::tests::Directory;
use async_channel::Receiver;
use axum::Router;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{Request as HttpRequest, StatusCode};
use axum::routing::get;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const TOKEN: &str = "a token that is long enough";

/// The API, its shards' ends, and a database of its own, which goes with the directory.
fn api(shards: u16) -> (Arc<Api>, Vec<Receiver<Asked>>, Directory) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let directory = Directory::new(&format!("admin-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let (store, _thread) = Store::open(&directory.0).unwrap();
    let (shards, receivers) = channels(shards);
    let config = Config::embedded();
    let (provisioned, wanted) = Provisioned::open(store.clone(), Arc::default(), &config).unwrap();
    let current = Arc::new(Current::new(Arc::new(Snapshot::new(config.clone(), Arc::default()))));
    // What is provisioned is in force at once.
    let (own, seen) = (Arc::downgrade(&provisioned), Arc::clone(&current));
    std::thread::spawn(move || {
        while let (Ok(applied), Some(own)) = (wanted.recv_blocking(), own.upgrade()) {
            let usage = Arc::clone(&seen.get().usage);
            seen.set(Arc::new(Snapshot::new(own.merged(&config), usage)));
            drop(applied);
        }
    });
    let orders = OrderBook::open(std::path::Path::new("/nonexistent"), Arc::default()).unwrap();
    let (lookup, _) = lookup_channel();
    let watch = Watch::open(
        (shards.clone(), None),
        Arc::clone(&current),
        store.clone(),
        lookup.clone(),
        Arc::new(RootCertStore::empty()),
        &crate::control::acme::Parts::default(),
    );
    let api = Api {
        shards,
        watch: Arc::new(watch.unwrap()),
        lookup,
        smtp: Vec::new(),
        current,
        callers: Callers::new(Arc::new(Token::new(TOKEN).unwrap()), Vec::new()),
        orders: Arc::new(orders),
        store,
        provisioned,
        reload: async_channel::bounded(1).0,
        machine: None,
        is_locked: false,
        process: Process::default(),
        backups: Arc::new(Semaphore::new(1)),
        imports: Arc::new(Semaphore::new(1)),
        started: Instant::now(),
        patience: crate::limits::ADMIN_REQUEST_TIMEOUT,
    };
    (Arc::new(api), receivers, directory)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

async fn ask(
    router: &Router,
    method: &str,
    path: &str,
    authorization: &[&str],
    body: String,
) -> (StatusCode, String) {
    let mut request = HttpRequest::builder().method(method).uri(path);
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    let service = TowerToHyperService::new(router.clone());
    let response = service.call(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
    assert_eq!(response.headers().contains_key("www-authenticate"), status == StatusCode::UNAUTHORIZED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn nothing_is_told_without_the_token() {
    run(async {
        let (api, _receivers, _directory) = api(1);
        let router = router(&api);
        let good = format!("bEARER {TOKEN}");
        for wrong in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a token that is long enougH"],
            &["Basic a token that is long enough"],
            &[&good, &good],
        ] {
            for path in ["/api/v1/status", "/api/v1/queue/X", "/nowhere", "/", "/healthz/x"] {
                let (status, body) = ask(&router, "GET", path, wrong, String::new()).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {wrong:?}");
                assert!(
                    body.contains("\"status\":401") && body.contains("\"title\":\"Unauthorized\""),
                    "{body}"
                );
            }
        }
        for (method, path, expected) in [
            ("GET", "/nowhere", StatusCode::NOT_FOUND),
            ("POST", "/api/v1/status", StatusCode::METHOD_NOT_ALLOWED),
            ("GET", "/api/v1/queue?limit=no", StatusCode::BAD_REQUEST),
            ("GET", "/api/v1/queue?colour=red", StatusCode::BAD_REQUEST),
            ("POST", "/api/v1/queue/flush", StatusCode::BAD_REQUEST),
            ("POST", "/api/v1/queue/thaw", StatusCode::BAD_REQUEST),
            ("POST", "/api/v1/queue/melt", StatusCode::METHOD_NOT_ALLOWED),
            ("POST", "/api/v1/queue/X/melt", StatusCode::NOT_FOUND),
        ] {
            let (status, body) = ask(&router, method, path, &[&good], String::new()).await;
            assert_eq!(status, expected, "{path}: {body}");
        }
        let (status, _) = ask(&router, "POST", "/api/v1/queue/flush", &[&good], "x".repeat(1 << 20)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ask(&router, "GET", "/healthz", &[], String::new()).await.0, StatusCode::OK);
    });
}

async fn panics() -> &'static str {
    panic!("as it is meant to")
}

#[test]
fn a_panic_costs_its_request() {
    run(async {
        let (api, _receivers, _directory) = api(1);
        let routes = Router::new().route("/panic", get(panics));
        let router = guarded(routes, &api).with_state(api);
        let good = format!("Bearer {TOKEN}");
        let (status, body) = ask(&router, "GET", "/panic", &[&good], String::new()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
        assert_eq!(ask(&router, "GET", "/other", &[&good], String::new()).await.0, StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_shard_that_is_behind_or_gone_costs_the_request() {
    run(async {
        let (mut api, mut receivers, _directory) = api(2);
        Arc::get_mut(&mut api).unwrap().patience = Duration::ZERO;
        let impatient = router(&api);
        let good = format!("Bearer {TOKEN}");
        // The channels fill, and nobody takes anything out.
        for _ in 0..crate::limits::OPERATOR_QUEUE + 2 {
            let (status, _) = ask(&impatient, "GET", "/api/v1/status", &[&good], String::new()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        }
        // Nobody is waited for who has gone.
        receivers.clear();
        drop(impatient);
        Arc::get_mut(&mut api).unwrap().patience = crate::limits::ADMIN_REQUEST_TIMEOUT;
        let (status, _) = ask(&router(&api), "GET", "/readyz", &[], String::new()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn it_is_ready_when_all_shards_answer() {
    run(async {
        let (api, receivers, _directory) = api(2);
        for receiver in receivers {
            tokio::spawn(async move {
                while let Ok(Asked::Status(answer)) = receiver.recv().await {
                    answer.try_send(ShardStatus::default()).unwrap();
                }
            });
        }
        assert_eq!(ask(&router(&api), "GET", "/readyz", &[], String::new()).await.0, StatusCode::OK);
    });
}

/// Nothing of a server that serves is shown by one that does not, and how it is opened only to administrators.
#[test]
fn a_locked_server_answers_how_it_is_unlocked_and_nothing_else() {
    run(async {
        let (mut api, _receivers, _directory) = api(0);
        Arc::get_mut(&mut api).unwrap().is_locked = true;
        let router = router(&api);
        let good = format!("Bearer {TOKEN}");
        let secret = r#"{"secret":"correct horse battery"}"#;
        for (method, path, authorization, expected) in [
            ("GET", "/healthz", &[][..], StatusCode::OK),
            ("GET", "/readyz", &[], StatusCode::SERVICE_UNAVAILABLE),
            ("GET", "/readyz", &[&*good], StatusCode::SERVICE_UNAVAILABLE),
            ("GET", "/api/v1/status", &[], StatusCode::UNAUTHORIZED),
            ("GET", "/api/v1/status", &[&*good], StatusCode::SERVICE_UNAVAILABLE),
            ("POST", "/api/v1/config/reload", &[&*good], StatusCode::SERVICE_UNAVAILABLE),
            ("POST", "/api/v1/machine/recovery-key", &[&*good], StatusCode::SERVICE_UNAVAILABLE),
            ("GET", "/nowhere", &[&*good], StatusCode::SERVICE_UNAVAILABLE),
            ("GET", "/api/openapi.json", &[&*good], StatusCode::OK),
            ("POST", "/api/v1/machine/unlock", &[], StatusCode::UNAUTHORIZED),
            // Behind the lock nobody is PID 1 here.
            ("POST", "/api/v1/machine/unlock", &[&*good], StatusCode::CONFLICT),
            ("GET", "/api/v1/machine/at-rest", &[&*good], StatusCode::CONFLICT),
        ] {
            let (status, body) = ask(&router, method, path, authorization, secret.to_owned()).await;
            assert_eq!(status, expected, "{method} {path}: {body}");
            let is_locked = status == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(body.contains("locked: "), is_locked, "{path}: {body}");
        }
    });
}

/// A request with a token and headers: the status, the headers, and the body as JSON.
async fn call(
    router: &Router,
    method: &str,
    path: &str,
    (token, headers): (&str, &[(&str, &str)]),
    body: &str,
) -> (StatusCode, axum::http::HeaderMap, Value) {
    let mut request = HttpRequest::builder().method(method).uri(path);
    request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let service = TowerToHyperService::new(router.clone());
    let response = service.call(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Shards that own nothing, and say of each domain that it is unknown.
fn answer(receivers: Vec<Receiver<Asked>>) {
    for (shard, receiver) in receivers.into_iter().enumerate() {
        tokio::spawn(async move {
            while let Ok(asked) = receiver.recv().await {
                if let Asked::Domains(names, answer) = asked {
                    let rows = names.iter().filter(|_| shard == 0);
                    let rows =
                        rows.map(|name| DomainStatus { name: name.to_string(), ..DomainStatus::default() });
                    answer.try_send(rows.collect()).unwrap();
                }
            }
        });
    }
}
