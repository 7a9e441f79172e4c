//! Listeners that the authority visits: a page for a token, or a handshake for a name; to anybody else they say that there is nothing.

use super::answers::{ALPN, Answers};
use crate::limits::{ACME_VISIT_TIMEOUT, ACME_VISITORS_MAX, ADMIN_HEADER_OCTETS_MAX, LISTEN_BACKLOG};
use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Where pages are looked for (RFC 8555 8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// A pause when no connection can be taken: the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener on an address; `[::]:80` stands beside `0.0.0.0:80`.
///
/// # Errors
/// A sentence for the operator.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|error| format!("acme.listen: cannot listen on {address}: {error}"))
}

/// Shows pages.
pub(super) async fn pages(listener: TcpListener, answers: Arc<Answers>) {
    each(listener, |stream| {
        let answers = Arc::clone(&answers);
        async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(ACME_VISIT_TIMEOUT)
                .max_buf_size(ADMIN_HEADER_OCTETS_MAX)
                .keep_alive(false);
            let service = service_fn(|request: Request<Incoming>| {
                let response = page(&request, &answers);
                async move { Ok::<_, Infallible>(response) }
            });
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a visitor who looked for a page");
            }
        }
    })
    .await;
}

fn page(request: &Request<Incoming>, answers: &Answers) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PATH).filter(|_| request.method() == Method::GET);
    let mut response = Response::new(Full::default());
    match token.and_then(|token| answers.page(token)) {
        Some(authorization) => {
            *response.body_mut() = Full::new(authorization.into());
            let kind = hyper::header::HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

/// Shakes hands, and ends.
pub(super) async fn handshakes(listener: TcpListener, answers: Arc<Answers>) {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(answers);
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    each(listener, |stream| {
        let accepted = acceptor.accept(stream);
        async move {
            if let Err(error) = accepted.await {
                tracing::debug!(%error, "a visitor who wanted no handshake of an authority's");
            }
        }
    })
    .await;
}

/// A task for each visitor; so many at a time, each for a bounded time.
async fn each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "acme.listen cannot be served"),
    };
    let places = Arc::new(Semaphore::new(ACME_VISITORS_MAX));
    loop {
        let place: Option<OwnedSemaphorePermit> = Arc::clone(&places).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = timeout(ACME_VISIT_TIMEOUT, serve(stream));
                tokio::spawn(async move {
                    let _place = place;
                    // Whoever took too long has had his time.
                    let _ = served.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a visitor cannot be received");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
