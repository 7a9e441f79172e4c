//! Connections to the admin API, and what every request goes through.

use super::Api;
use super::at_rest;
use super::backup;
use super::caller::Caller;
use super::places::{Places, Visitor};
use super::problem::Problem;
use super::{restore, update};
use crate::auth::contained::Contained;
use crate::control::acme::ALPN;
use crate::limits::{
    ADMIN_CONNECTION_TIMEOUT, ADMIN_HANDSHAKE_TIMEOUT, ADMIN_HEADER_OCTETS_MAX, ADMIN_HEADER_TIMEOUT,
    BACKUP_CONNECTION_TIMEOUT, RESTORE_REQUEST_TIMEOUT, UPDATE_REQUEST_TIMEOUT,
};
use async_channel::Receiver;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request as HttpRequest};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use futures_lite::future::or;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// A pause when no connection can be taken: the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Paths that ask for no token.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Takes connections until it is stopped.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stopped: Receiver<()>,
) {
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
    or(accept(&listener, tls.map(TlsAcceptor::from), &router), end).await;
}

async fn accept(listener: &tokio::net::TcpListener, tls: Option<TlsAcceptor>, router: &Router) {
    let places = Places::default();
    loop {
        let permit = places.take().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (place, router, tls) = (places.enter(permit), router.clone(), tls.clone());
                tokio::spawn(
                    async move { or(secured(stream, tls, router, place.visitor()), place.lost()).await },
                );
                // What it has to say is heard before many others come.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin API cannot be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection, secured if it is to be.
async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, visitor: Visitor) {
    let Some(tls) = tls else { return connection(stream, router, visitor).await };
    match timeout(ADMIN_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        // An authority has seen what it wanted (RFC 8737 3).
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ALPN) => {}
        Ok(Ok(stream)) => connection(stream, router, visitor).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client of the admin API"),
        Err(_) => tracing::debug!("a handshake with the admin API took too long"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    visitor: Visitor,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER_TIMEOUT)
        .max_buf_size(ADMIN_HEADER_OCTETS_MAX);
    let inner = TowerToHyperService::new(router);
    let lasting = visitor.clone();
    let service = service_fn(move |mut request: HttpRequest<Incoming>| {
        request.extensions_mut().insert(visitor.clone());
        inner.call(request)
    });
    let served = http.serve_connection(TokioIo::new(stream), service);
    let served = async {
        if let Err(error) = served.await {
            tracing::debug!(%error, "a connection to the admin API ended badly");
        }
    };
    let bound = async {
        sleep(ADMIN_CONNECTION_TIMEOUT).await;
        if lasting.is_lasting() {
            sleep(BACKUP_CONNECTION_TIMEOUT.saturating_sub(ADMIN_CONNECTION_TIMEOUT)).await;
        }
        tracing::debug!("a connection to the admin API took too long");
    };
    or(served, bound).await;
}

/// A token, a bounded time, and no panic that gets further than this request.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let caller = caller(&api, &request);
    if let Some(visitor) = request.extensions().get::<Visitor>().filter(|_| caller.is_some()) {
        visitor.prove();
    }
    if !OPEN_PATHS.contains(&request.uri().path()) {
        let Some(caller) = caller else {
            return Problem::unauthorized().into_response();
        };
        request.extensions_mut().insert(caller);
    }
    if api.is_locked && !at_rest::is_served(request.method(), request.uri().path()) {
        return Problem::unavailable(at_rest::LOCKED).into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // An image comes over lines of any speed.
    let is_update = path == update::PATH && method == Method::POST;
    // Files of a large store are many.
    let is_backup = path == backup::PATH;
    let is_restore = path == restore::PATH && method == Method::POST;
    let patience = match (is_restore, is_update || is_backup) {
        (true, _) => RESTORE_REQUEST_TIMEOUT,
        (_, true) => UPDATE_REQUEST_TIMEOUT,
        _ => api.patience,
    };
    match timeout(patience, Contained::new(next.run(request))).await {
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

fn caller(api: &Api, request: &Request) -> Option<Caller> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    // RFC 9110 11.1: the scheme in any case of letters.
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    if scheme.eq_ignore_ascii_case(b"bearer ") { api.callers.known(token.trim_ascii()) } else { None }
}

/// What the framework refuses in its own words, such as a path that is no UTF-8, is a problem too.
pub(super) async fn told_as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_told = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    if is_told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    Problem::of_framework(status).into_response()
}
