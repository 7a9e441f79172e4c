//! Fetching a policy: one GET over HTTPS, of a server whose certificate an authority vouches for (RFC 8461 3.3).
//!
//! No redirects, no cookies, nothing cached but by us; status 200, media type text/plain and a body of a bounded size, or it is no
//! policy. The time for all of it is bounded by who calls.

use crate::bridge::Trust;
use crate::limits::{DIAL_TIMEOUT, MTA_STS_POLICY_OCTETS_MAX};
use core::net::SocketAddr;
use hickory_resolver::TokioResolver;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How web servers are spoken with.
pub(in crate::control) struct Web {
    tls: TlsConnector,
    port: u16,
}

impl Web {
    pub(in crate::control) fn new(trust: &Trust) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has suites of both versions")
            .with_root_certificates(Arc::clone(&trust.roots))
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), port: trust.mta_sts_port }
    }
}

/// The text of a domain's policy.
pub(super) async fn fetch(resolver: &TokioResolver, web: &Web, domain: &str) -> Result<String, String> {
    let host = format!("mta-sts.{domain}");
    let name = ServerName::try_from(host.clone()).map_err(|error| format!("{host}: {error}"))?;
    let stream = connect(resolver, web.port, &host).await?;
    let stream = web.tls.connect(name, stream).await.map_err(|error| format!("{host}: no TLS: {error}"))?;
    let failed = |error: hyper::Error| format!("{host}: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the sender, or by the server; what goes wrong is told to the sender.
    let connection = spawn_local(async move { drop(connection.await) });
    let authority = if web.port == 443 { host.clone() } else { format!("{host}:{}", web.port) };
    let request = Request::get("/.well-known/mta-sts.txt")
        .header(HOST, authority)
        .header(ACCEPT, "text/plain")
        .header(USER_AGENT, concat!("stratamx/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed);
    let text = match response {
        Ok(response) => read(response).await.map_err(|error| format!("{host}: {error}")),
        Err(error) => Err(error),
    };
    connection.abort();
    text
}

async fn connect(resolver: &TokioResolver, port: u16, host: &str) -> Result<TcpStream, String> {
    let found = resolver.lookup_ip(format!("{host}.")).await.map_err(|error| format!("{host}: {error}"))?;
    let mut last = format!("{host} has no address");
    for address in found.iter() {
        match timeout(DIAL_TIMEOUT, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{host} at {address}: {error}"),
            Err(_) => last = format!("{host} at {address}: no connection in time"),
        }
    }
    Err(last)
}

async fn read(response: Response<Incoming>) -> Result<String, String> {
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        // RFC 8461 3.3: whatever else it is, a redirect too.
        return Err(format!("it answers {}", parts.status));
    }
    let media = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("text/plain") {
        return Err(format!("it sends {media:?}, not text/plain"));
    }
    let body =
        Limited::new(body, MTA_STS_POLICY_OCTETS_MAX).collect().await.map_err(|error| error.to_string())?;
    String::from_utf8(body.to_bytes().into()).map_err(|_| "it sends no UTF-8".to_owned())
}
