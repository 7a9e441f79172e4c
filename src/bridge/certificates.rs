//! The certificates that senders are shown: replaced by the control plane as a whole, chosen by the shards with
//! each handshake.
//!
//! A handshake takes a read lock for as long as an `Arc` is cloned. What was chosen stays valid for its session,
//! whatever is replaced meanwhile.

use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};
use std::sync::{Arc, PoisonError, RwLock};

/// See the module.
#[derive(Debug)]
pub struct Certificates(RwLock<Arc<[Arc<CertifiedKey>]>>);

impl Certificates {
    /// Shows these; the first to who names no server, or one that none of them is for.
    #[must_use]
    pub fn new(certificates: Vec<Arc<CertifiedKey>>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(certificates.into())))
    }

    /// Shows others from the next handshake on.
    pub fn replace(&self, certificates: Vec<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificates.into();
    }

    /// The certificates themselves, each without its chain, in their order.
    #[must_use]
    pub fn leaves(&self) -> Vec<CertificateDer<'static>> {
        let all = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        all.iter().filter_map(|certificate| certificate.cert.first().cloned()).collect()
    }

    /// Whether one of them is for this server name.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let all = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let name = ServerName::try_from(name);
        name.is_ok_and(|name| all.iter().any(|certificate| is_for(certificate, &name)))
    }

    /// The certificate for a server name: the first with a matching name among its subject alternative names
    /// (RFC 9525 6), wildcards included. A sender's opportunistic TLS is happy with any, so that no match is no failure.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let all = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let wanted = name.and_then(|name| ServerName::try_from(name).ok());
        let matching = wanted.and_then(|name| all.iter().find(|certificate| is_for(certificate, &name)));
        matching.or_else(|| all.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

fn is_for(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(Ok(leaf)) = certificate.cert.first().map(ParsedCertificate::try_from) else { return false };
    verify_server_name(&leaf, name).is_ok()
}

/// How TLS is spoken with senders: 1.2 and 1.3 (RFC 8996 ended the older ones), sessions resumed by tickets, so that
/// nothing of a session that ended is kept; no client certificates, no early data.
///
/// # Errors
/// No random octets for the keys of tickets.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;

    fn certificate(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider()).unwrap())
    }

    #[test]
    fn a_certificate_is_chosen_by_its_names() {
        let (one, two) = (certificate(&["mx2.example.net"]), certificate(&["mx.other.test", "*.wild.test"]));
        let certificates = Certificates::new(vec![Arc::clone(&one), Arc::clone(&two)]);
        for (name, expected) in [
            (None, &one),
            (Some("mx2.example.net"), &one),
            (Some("MX.Other.test"), &two),
            (Some("a.wild.test"), &two),
            (Some("a.b.wild.test"), &one),
            (Some("elsewhere.test"), &one),
            (Some("not a name"), &one),
            (Some("192.0.2.1"), &one),
        ] {
            let chosen = certificates.choose(name).unwrap();
            assert!(Arc::ptr_eq(&chosen, expected), "{name:?}");
        }
        certificates.replace(vec![Arc::clone(&two)]);
        assert!(Arc::ptr_eq(&certificates.choose(Some("mx2.example.net")).unwrap(), &two));
        certificates.replace(Vec::new());
        assert!(certificates.choose(None).is_none());
    }
}
