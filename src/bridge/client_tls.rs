//! How TLS is spoken with primaries, by what a host has to show.
//!
//! - Anybody: whose certificate it is is not looked at. Whoever could put another one there could as well take STARTTLS out of the
//!   reply to EHLO (RFC 7435), and most primaries show one that they signed themselves.
//! - Named: a certificate for the host's name, by an authority that is trusted here (RFC 8461 4.2).
//! - Watched: anybody, and what named would have said is kept for the operator (RFC 8461 5, "testing").
//! - Published: what the host's TLSA records say ([`Published`], RFC 7672).
//!
//! The signature over the handshake is verified in any case, so that the session is with the holder of the key. Sessions are not
//! resumed: a drain is one session, and one that was resumed would not be verified.

#[cfg(test)]
pub(crate) mod authority;
mod published;

use super::Certificates;
pub use published::{Published, TlsaRecord, key_digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Debug)]
pub struct ClientTls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    anybody: Arc<ClientConfig>,
    named: Arc<ClientConfig>,
}

/// What a certificate would have been good for.
#[derive(Debug, Default)]
pub struct Observed(Mutex<Option<Error>>);

impl Observed {
    /// What was wrong with the certificate of the last handshake, asked once; `None`: nothing.
    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientTls {
    /// TLS 1.2 and 1.3, with these authorities. A server that asks for a certificate is shown the first of `own`, if there is one then.
    ///
    /// # Panics
    /// Never: the provider has suites of both versions.
    #[must_use]
    pub fn new(own: Arc<Certificates>, roots: RootCertStore) -> Arc<Self> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = Verifier { provider: Arc::clone(&provider), demand: Demand::Nothing };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has suites of both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Own(own)));
        config.resumption = Resumption::disabled();
        let anybody = Arc::new(config);
        let named = demanding(&anybody, &provider, Demand::Name(Arc::clone(&roots)));
        Arc::new(Self { provider, roots, anybody, named })
    }

    /// With whoever is there.
    #[must_use]
    pub fn anybody(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.anybody)
    }

    /// With whom an authority calls by the name that the session is opened for.
    #[must_use]
    pub fn named(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.named)
    }

    /// With whoever is there, noting what is wrong with him.
    #[must_use]
    pub fn watched(&self, observed: &Arc<Observed>) -> Arc<ClientConfig> {
        let demand = Demand::Observed(Arc::clone(&self.roots), Arc::clone(observed));
        demanding(&self.anybody, &self.provider, demand)
    }

    /// With whom TLSA records describe.
    #[must_use]
    pub fn published(&self, published: &Arc<Published>) -> Arc<ClientConfig> {
        demanding(&self.anybody, &self.provider, Demand::Published(Arc::clone(published)))
    }
}

/// Another verifier; everything else is shared.
fn demanding(config: &ClientConfig, provider: &Arc<CryptoProvider>, demand: Demand) -> Arc<ClientConfig> {
    let mut config = config.clone();
    let verifier = Verifier { provider: Arc::clone(provider), demand };
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    Arc::new(config)
}

/// What a certificate must be good for.
#[derive(Debug)]
enum Demand {
    Name(Arc<RootCertStore>),
    Nothing,
    Observed(Arc<RootCertStore>, Arc<Observed>),
    Published(Arc<Published>),
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    demand: Demand,
}

impl Verifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let chained = |roots: &RootCertStore| {
            let parsed = ParsedCertificate::try_from(leaf)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, now, algorithms)
        };
        let certified = |roots: &RootCertStore| {
            chained(roots)?;
            verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
        };
        match &self.demand {
            Demand::Name(roots) => certified(roots),
            Demand::Nothing => Ok(()),
            Demand::Observed(roots, observed) => {
                let wrong = certified(roots).err();
                *observed.0.lock().unwrap_or_else(PoisonError::into_inner) = wrong;
                Ok(())
            }
            Demand::Published(published) => published.verify(leaf, others, chained),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, others, name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Shows the first certificate to whoever asks for one, whatever authorities he names.
#[derive(Debug)]
struct Own(Arc<Certificates>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.choose(None)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::authority::{Authority, Shown};
    use super::*;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    const NAME: &str = "mail.example.test";

    fn client(roots: RootCertStore) -> Arc<ClientTls> {
        ClientTls::new(Certificates::new(Vec::new()), roots)
    }

    /// A handshake in memory; what the client has against the server.
    fn handshake(config: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), Error> {
        let mut client = ClientConnection::new(config, ServerName::try_from(NAME).unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut octets = Vec::new();
            client.write_tls(&mut octets).unwrap();
            server.read_tls(&mut octets.as_slice()).unwrap();
            server.process_new_packets()?;
            octets.clear();
            while server.wants_write() {
                server.write_tls(&mut octets).unwrap();
            }
            let mut rest = octets.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_name_is_one_that_an_authority_vouches_for_now() {
        let (ours, other) = (Authority::new(), Authority::new());
        let tls = client(ours.roots());
        for (row, (shown, is_good)) in [
            (ours.issue(NAME), true),
            (ours.issue("*.example.test"), true),
            (ours.issue("other.example.test"), false),
            (ours.issue_until(NAME, 2001), false),
            (other.issue(NAME), false),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(handshake(tls.named(), shown.server()).is_ok(), *is_good, "row {row}");
            assert_eq!(handshake(tls.anybody(), shown.server()), Ok(()), "row {row}");
            let observed = Arc::default();
            assert_eq!(handshake(tls.watched(&observed), shown.server()), Ok(()), "row {row}");
            assert_eq!(observed.take().is_none(), *is_good, "row {row}");
            let nobody = client(RootCertStore::empty());
            assert!(handshake(nobody.named(), shown.server()).is_err(), "row {row}");
        }
    }

    fn tlsa(shown: &Shown, records: &[TlsaRecord], names: &[&str]) -> Option<Result<(), Error>> {
        let published = Published::new(records, names.iter().copied())?;
        let tls = client(RootCertStore::empty());
        Some(handshake(tls.published(&Arc::new(published)), shown.server()))
    }

    #[test]
    fn a_host_is_whom_its_tlsa_records_describe() {
        let (ours, other) = (Authority::new(), Authority::new());
        let (right, elsewhere) = (ours.issue(NAME), ours.issue("elsewhere.test"));
        let old = ours.issue_until("elsewhere.test", 2001);
        let stranger = other.issue(NAME);
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                // 3: itself, whatever its name and dates. 2: what is issued under the authority, for one of the names, now.
                let own = |of: &Shown| [of.tlsa(0, 3, selector, matching)];
                assert_eq!(tlsa(&old, &own(&old), &[NAME]), Some(Ok(())));
                assert!(tlsa(&stranger, &own(&right), &[NAME]).unwrap().is_err());
                let authority = [right.tlsa(1, 2, selector, matching)];
                assert_eq!(tlsa(&right, &authority, &["base.test", NAME]), Some(Ok(())));
                assert!(tlsa(&elsewhere, &authority, &["base.test", NAME]).unwrap().is_err());
                assert!(tlsa(&old, &authority, &["elsewhere.test"]).unwrap().is_err());
                assert!(tlsa(&stranger, &authority, &[NAME]).unwrap().is_err());
                // One of several is enough, in any order.
                let both = [own(&right)[0].clone(), stranger.tlsa(0, 3, selector, matching)];
                assert_eq!(tlsa(&stranger, &both, &[NAME]), Some(Ok(())));
                // A usage of the other kind describes nobody here.
                assert!(tlsa(&right, &[right.tlsa(0, 2, selector, matching)], &[NAME]).unwrap().is_err());
            }
        }
        // The authority itself need not be shown where the record holds all of it.
        let mut alone = ours.issue(NAME);
        alone.chain.truncate(1);
        assert_eq!(tlsa(&alone, &[right.tlsa(1, 2, 0, 0)], &[NAME]), Some(Ok(())));
        assert!(tlsa(&alone, &[right.tlsa(1, 2, 0, 1)], &[NAME]).unwrap().is_err());
    }

    #[test]
    fn what_cannot_be_used_is_nothing_and_the_stronger_digest_decides() {
        let ours = Authority::new();
        let (right, other) = (ours.issue(NAME), ours.issue(NAME));
        let odd = |usage, selector, matching, length| TlsaRecord {
            usage,
            selector,
            matching,
            data: vec![1; length],
        };
        for record in [
            right.tlsa(0, 1, 1, 1),
            right.tlsa(1, 0, 0, 1),
            odd(3, 1, 1, 31),
            odd(3, 1, 2, 32),
            odd(3, 1, 0, 0),
            odd(3, 2, 1, 32),
            odd(3, 1, 3, 32),
            odd(255, 1, 1, 32),
        ] {
            assert_eq!(tlsa(&right, core::slice::from_ref(&record), &[NAME]), None, "{record:?}");
        }
        let usable = [odd(3, 1, 1, 31), right.tlsa(0, 3, 1, 1)];
        assert_eq!(tlsa(&right, &usable, &[NAME]), Some(Ok(())));
        // RFC 7671 9.
        let weaker = [right.tlsa(0, 3, 1, 1), other.tlsa(0, 3, 1, 2)];
        assert!(tlsa(&right, &weaker, &[NAME]).unwrap().is_err());
        assert_eq!(tlsa(&right, &[right.tlsa(0, 3, 1, 1), other.tlsa(0, 3, 0, 2)], &[NAME]), Some(Ok(())));
    }
}
