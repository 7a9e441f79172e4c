//! TLS of the blaster: rustls with ring. Certificates are not verified unless authorities are named, since a load generator talks to a
//! server that its user owns; sessions are resumed where the server lets them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What all sessions share, so that they resume each other's.
#[derive(Clone, Debug)]
pub(crate) struct Secrecy {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secrecy {
    /// Towards the server of this name; its certificate is verified against `authorities`, if any are given.
    pub(crate) fn new(host: &str, authorities: Option<&Path>) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = match authorities {
            Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
            None => {
                let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        Ok(Self { config: Arc::new(config), name })
    }

    /// The client's side of a handshake.
    pub(crate) fn begin(&self) -> io::Result<Connection> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(connection.map_err(io::Error::other)?.into())
    }
}

fn roots(path: &Path) -> io::Result<RootCertStore> {
    let wrong = |error: &dyn core::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"no certificate in it")) } else { Ok(roots) }
}

/// Takes every certificate; that its key signed the handshake is still checked.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        let path = std::env::temp_dir().join(format!("stratamx-authorities-{}", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        assert!(Secrecy::new("127.0.0.1", Some(&path)).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Secrecy::new("127.0.0.1", Some(&path)).is_err());
        assert!(Secrecy::new("mx.example.test", None).is_ok());
    }
}
