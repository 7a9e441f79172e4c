//! For tests: an authority, and the certificates that it issues.

use crate::bridge::{Certificates, TlsaRecord, server_config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use ring::digest::{Algorithm, SHA256, SHA512, digest};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

/// What a server shows.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random octets");
        let certificate = params.self_signed(&key).expect("a key").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        roots
    }

    /// A certificate for a name, with the authority's behind it.
    pub(crate) fn issue(&self, name: &str) -> Shown {
        self.issue_until(name, 4000)
    }

    /// One that holds up to the beginning of a year.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Shown {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("random octets");
        let leaf = params.signed_by(&key, &self.issuer).expect("a key");
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Shown { chain, key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key") }
    }
}

impl Shown {
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = (self.chain.clone(), self.key.clone_key());
        let certified =
            CertifiedKey::from_der(chain, key, &default_provider()).expect("they belong together");
        server_config(Certificates::new(vec![Arc::new(certified)])).expect("ring")
    }

    /// A TLSA record of the certificate that is at this place in the chain.
    pub(crate) fn tlsa(&self, at: usize, usage: u8, selector: u8, matching: u8) -> TlsaRecord {
        let certificate = &self.chain[at];
        let key = ParsedCertificate::try_from(certificate).expect("parsed").subject_public_key_info();
        let selected = if selector == 0 { certificate.as_ref() } else { key.as_ref() };
        let by = |algorithm: &'static Algorithm| digest(algorithm, selected).as_ref().to_vec();
        let data = match matching {
            1 => by(&SHA256),
            2 => by(&SHA512),
            _ => selected.to_vec(),
        };
        TlsaRecord { usage, selector, matching, data }
    }
}
