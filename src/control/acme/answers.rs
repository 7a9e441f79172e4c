//! What the authority finds when it looks whether a name is ours: as long as an order needs it, and nothing else.

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The protocol of a handshake that asks (RFC 8737 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// See the module.
#[derive(Debug, Default)]
pub struct Answers(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// By token.
    pages: HashMap<String, String>,
    /// By name.
    handshakes: HashMap<String, Arc<CertifiedKey>>,
}

/// Takes what was answered back when it is dropped.
#[derive(Debug)]
pub(super) struct Answering<'a>(&'a Answers);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *self.0.found() = Found::default();
    }
}

impl Answers {
    /// An order begins.
    pub(super) fn begin(&self) -> Answering<'_> {
        Answering(self)
    }

    /// The page of a token (RFC 8555 8.3).
    pub(super) fn page(&self, token: &str) -> Option<String> {
        self.found().pages.get(token).cloned()
    }

    /// The certificate that a handshake for a name is shown.
    fn handshake(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.found().handshakes.get(&name.to_ascii_lowercase()).cloned()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering<'_> {
    pub(super) fn by_page(&self, token: &str, authorization: &str) {
        self.0.found().pages.insert(token.to_owned(), authorization.to_owned());
    }

    /// A certificate for the name alone, with the digest in it (RFC 8737 3).
    pub(super) fn by_handshake(&self, name: &str, digest: &[u8]) -> Result<(), String> {
        let failed = |error: rcgen::Error| error.to_string();
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let chain = vec![params.self_signed(&key).map_err(failed)?.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        let key = any_supported_type(&key).map_err(|error| error.to_string())?;
        // Not read back: no reader takes an extension that is critical and not known to it.
        let shown = Arc::new(CertifiedKey::new(chain, key));
        self.0.found().handshakes.insert(name.to_ascii_lowercase(), shown);
        Ok(())
    }
}

/// Whether a handshake asks whether a name is ours, and for nothing else.
#[must_use]
pub fn asks(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(ALPN) && protocols.next().is_none())
}

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if asks(&hello) { self.handshake(hello.server_name()?) } else { None }
    }
}
