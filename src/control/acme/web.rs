//! How the authority is spoken with: HTTPS alone, by authorities that are trusted, answers of a bounded size and time.

use super::super::connector::connector;
use crate::limits::{ACME_ANSWER_OCTETS_MAX, ACME_ANSWER_TIMEOUT};
use core::pin::Pin;
use http_body_util::Limited;
use hyper::Request;
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::RootCertStore;
use std::sync::Arc;
use tokio::time::timeout;

/// See the module.
pub(super) struct Web(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Web {
    pub(super) fn new(roots: Arc<RootCertStore>) -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector(roots)))
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let is_plain = request.uri().scheme_str() != Some("https");
        let asked = self.0.request(request);
        Box::pin(async move {
            if is_plain {
                return Err(Error::Str("its directory names an address that is no HTTPS"));
            }
            let answer = timeout(ACME_ANSWER_TIMEOUT, asked).await;
            let answer = answer.map_err(|_| Error::Str("no answer in time"))?;
            let answer = answer.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(answer.map(|body| Limited::new(body, ACME_ANSWER_OCTETS_MAX))))
        })
    }
}
