//! The client of sinks that are web servers: one request, no redirect, an answer of a bounded size and time.

use super::super::connector::connector;
use crate::limits::SINK_ANSWER_OCTETS_MAX;
use core::fmt;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use std::sync::Arc;

/// Characters of an answer that an error repeats.
const SHOWN_MAX: usize = 200;

/// See the module.
pub(super) struct Web(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl fmt::Debug for Web {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Web")
    }
}

impl Web {
    /// Trusts these authorities.
    pub(super) fn new(roots: Arc<RootCertStore>) -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector(roots)))
    }

    /// Sends it; anything but a 2xx is an error.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<(), String> {
        let response = self.0.request(request).await.map_err(|error| causes(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), SINK_ANSWER_OCTETS_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text: String =
            String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        Err(format!("it answers {status} {text}"))
    }
}

/// An error with those behind it.
fn causes(error: &dyn core::error::Error) -> String {
    let mut all = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        all.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    all
}
