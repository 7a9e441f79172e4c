//! Whom a configuration has us trust: certificate authorities, and where DNSSEC begins.

use super::resolvers;
use crate::bridge::Trust;
use crate::config::{self, Config};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Reads what is trusted: where a domain verifies anybody the system's authorities, and those of `delivery.tls_roots` in any case.
///
/// # Errors
/// A sentence for the operator that names the key and the file.
pub fn read(config: &Config) -> Result<Trust, String> {
    let trust_anchor = match &config.dns.trust_anchor {
        None => None,
        Some(path) => {
            Some(anchor(path).map_err(|error| format!("dns.trust_anchor: {}: {error}", path.display()))?)
        }
    };
    let mut roots = RootCertStore::empty();
    if config.domains.iter().any(|domain| domain.tls.asks_for_policy()) {
        // One that cannot be read or used does not spoil the others.
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
    }
    if let Some(path) = &config.delivery.tls_roots {
        add(&mut roots, path).map_err(|error| format!("delivery.tls_roots: {}: {error}", path.display()))?;
    }
    let policies_of = policies_of(config);
    if roots.is_empty() && !policies_of.is_empty() {
        return Err(NO_AUTHORITY.to_owned());
    }
    let (roots, mta_sts_port) = (Arc::new(roots), config.delivery.mta_sts_port);
    Ok(Trust { trust_anchor, roots, mta_sts_port, policies_of: Arc::new(policies_of) })
}

/// The domains whose MTA-STS policies are asked for.
#[must_use]
pub fn policies_of(config: &Config) -> HashSet<String> {
    let asking = config.domains.iter().filter(|domain| domain.tls.asks_for_policy());
    asking.map(|domain| domain.name.clone()).collect()
}

/// Who vouches for web servers that are told of alerts: the system's authorities, and those of `delivery.tls_roots`.
#[must_use]
pub fn web_roots(config: &Config) -> Arc<RootCertStore> {
    let mut roots = system_roots();
    if let Some(path) = &config.delivery.tls_roots {
        // Whoever needs it for mail was told when it could not be read.
        let _ = add(&mut roots, path);
    }
    Arc::new(roots)
}

/// The system's authorities.
#[must_use]
pub fn system() -> Arc<RootCertStore> {
    Arc::new(system_roots())
}

/// Those of a file, and no others.
///
/// # Errors
/// A sentence for the operator, without the file.
pub fn only(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, path)?;
    Ok(Arc::new(roots))
}

/// The system's, and those of a file.
///
/// # Errors
/// As [`only`].
pub fn system_and(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = system_roots();
    add(&mut roots, path)?;
    Ok(Arc::new(roots))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Without any, no policy could be fetched, and mail would go as if there were none.
const NO_AUTHORITY: &str = "tls: \"mta-sts\" and \"dane\" need certificate authorities for MTA-STS policies: the system has none, and \
    delivery.tls_roots names none";

fn anchor(path: &Path) -> Result<Arc<str>, String> {
    let octets = config::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(octets).map_err(|error| error.to_string())?;
    resolvers::anchors(Some(&text))?;
    Ok(text.into())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let octets = config::read(path).map_err(|error| error.to_string())?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.len() == before { Err("no certificate in PEM".to_owned()) } else { Ok(()) }
}
