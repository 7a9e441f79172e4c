//! Connections to the admin API, and what every request goes through.

use super::Api;
use super::problem::Problem;
use crate::auth::contained::Contained;
use crate::limits::{
    ADMIN_CONNECTION_TIMEOUT, ADMIN_CONNECTIONS_MAX, ADMIN_HEADER_OCTETS_MAX, ADMIN_HEADER_TIMEOUT,
};
use async_channel::Receiver;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use futures_lite::future::or;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A pause when no connection can be taken: the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Paths that ask for no token.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Takes connections until it is stopped.
pub(super) async fn run(listener: TcpListener, router: Router, stopped: Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin API cannot be served");
            return;
        }
    };
    let end = async {
        // Nothing is ever sent.
        let _ = stopped.recv().await;
    };
    or(accept(&listener, &router), end).await;
}

async fn accept(listener: &tokio::net::TcpListener, router: &Router) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin API cannot be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER_TIMEOUT)
        .max_buf_size(ADMIN_HEADER_OCTETS_MAX);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(ADMIN_CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin API ended badly"),
        Err(_) => tracing::debug!("a connection to the admin API took too long"),
    }
}

/// A token, a bounded time, and no panic that gets further than this request.
pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if !OPEN_PATHS.contains(&request.uri().path()) && !is_known(&api, &request) {
        return Problem::unauthorized().into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match timeout(api.patience, Contained::new(next.run(request))).await {
        Ok(Some(response)) => response,
        Ok(None) => {
            tracing::error!(%method, path, "a request to the admin API panicked");
            Problem::internal().into_response()
        }
        Err(_) => {
            Problem::unavailable("no answer in time; it may have been done all the same").into_response()
        }
    }
}

fn is_known(api: &Api, request: &Request) -> bool {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    // RFC 9110 11.1: the scheme in any case of letters.
    let value = value.as_bytes();
    let Some((scheme, token)) = value.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && api.token.is(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::{Token, guarded, router};
    use super::*;
    use crate::bridge::operator::{Request as Asked, ShardStatus, channels};
    use crate::bridge::{Current, Snapshot};
    use crate::config::Config;
    use crate::control::orders::OrderBook;
    use axum::body::Body;
    use axum::http::{Request as HttpRequest, StatusCode};
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use hyper::service::Service as _;
    use tokio::time::Instant;

    const TOKEN: &str = "a token that is long enough";

    fn api(shards: u16) -> (Arc<Api>, Vec<Receiver<Asked>>) {
        let (shards, receivers) = channels(shards);
        let snapshot = Arc::new(Snapshot::new(Config::embedded(), Arc::default()));
        let token = Arc::new(Token::new(TOKEN).unwrap());
        let current = Arc::new(Current::new(snapshot));
        let orders = OrderBook::open(std::path::Path::new("/nonexistent"), Arc::default()).unwrap();
        let orders = Arc::new(orders);
        let (started, patience) = (Instant::now(), crate::limits::ADMIN_REQUEST_TIMEOUT);
        (Arc::new(Api { shards, current, token, orders, started, patience }), receivers)
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
            let (api, _receivers) = api(1);
            let router = router(api);
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
                ("POST", "/api/v1/queue/melt", StatusCode::NOT_FOUND),
            ] {
                let (status, body) = ask(&router, method, path, &[&good], String::new()).await;
                assert_eq!(status, expected, "{path}: {body}");
            }
            let (status, _) =
                ask(&router, "POST", "/api/v1/queue/flush", &[&good], "x".repeat(1 << 20)).await;
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
            let (api, _receivers) = api(1);
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
            let (api, mut receivers) = api(2);
            let impatient = Api {
                shards: api.shards.clone(),
                current: Arc::clone(&api.current),
                token: Arc::clone(&api.token),
                orders: Arc::clone(&api.orders),
                started: api.started,
                patience: Duration::ZERO,
            };
            let (router, impatient) = (router(api), router(Arc::new(impatient)));
            let good = format!("Bearer {TOKEN}");
            // The channels fill, and nobody takes anything out.
            for _ in 0..crate::limits::OPERATOR_QUEUE + 2 {
                let (status, _) = ask(&impatient, "GET", "/api/v1/status", &[&good], String::new()).await;
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            }
            // Nobody is waited for who has gone.
            receivers.clear();
            let (status, _) = ask(&router, "GET", "/readyz", &[], String::new()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        });
    }

    #[test]
    fn it_is_ready_when_all_shards_answer() {
        run(async {
            let (api, receivers) = api(2);
            for receiver in receivers {
                tokio::spawn(async move {
                    while let Ok(Asked::Status(answer)) = receiver.recv().await {
                        answer.try_send(ShardStatus::default()).unwrap();
                    }
                });
            }
            assert_eq!(ask(&router(api), "GET", "/readyz", &[], String::new()).await.0, StatusCode::OK);
        });
    }
}
