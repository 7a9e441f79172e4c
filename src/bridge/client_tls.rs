//! How TLS is spoken with primaries.
//!
//! Whose certificate it is is not looked at: whoever could put another one there could as well take STARTTLS out of the reply
//! to EHLO (RFC 7435), and most primaries show one that they signed themselves. The signature over the handshake is verified, so that
//! the session is with the holder of the key. Who a primary is will be MTA-STS's and DANE's to say.

use super::Certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// How TLS is spoken with primaries: 1.2 and 1.3. One that asks for a certificate is shown the first of `own`, if there is one
/// then. Sessions are not resumed: a drain is one session.
#[must_use]
pub fn client_config(own: Arc<Certificates>) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyHolder(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Own(own)));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Takes any certificate whose key signed the handshake.
#[derive(Debug)]
struct AnyHolder(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyHolder {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
