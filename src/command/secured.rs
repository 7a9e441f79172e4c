//! TLS of the commands with the admin API: on the server itself exactly its certificate, elsewhere what authorities vouch for.

use crate::config::{AdminTls, Config};
use crate::control::{acme, certificate, trust};
use core::error::Error;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;

/// Whose server it is.
#[derive(Debug)]
pub(super) enum Trusted {
    /// Nobody's word counts: it is plain HTTP.
    Nobody,
    /// One that authorities vouch for: the system's, and those of a file.
    Authorities(Option<PathBuf>),
    /// The one that shows this certificate.
    Shown(CertificateDer<'static>),
}

/// The server of a configuration, on its own machine.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn own(config: &Config) -> Result<Trusted, String> {
    let files = match &config.admin.tls {
        AdminTls::None => return Ok(Trusted::Nobody),
        AdminTls::Files(files) => files.clone(),
        AdminTls::Own => {
            let issued = config.acme.as_ref().and_then(|_| acme::files(&config.data_dir));
            issued.unwrap_or_else(|| certificate::self_signed_files(&config.data_dir))
        }
    };
    let shown = certificate::leaf(&files.cert).map_err(|error| {
        format!("admin.tls: {error}; run this as the server's user, or give --url, --token and --ca")
    })?;
    Ok(Trusted::Shown(shown))
}

/// Connections to it.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn connector(trusted: Trusted) -> Result<HttpsConnector<HttpConnector>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?;
    let config = match trusted {
        Trusted::Nobody => builder.with_root_certificates(rustls::RootCertStore::empty()),
        Trusted::Authorities(None) => builder.with_root_certificates(trust::system()),
        Trusted::Authorities(Some(path)) => {
            let roots = trust::system_and(&path);
            builder.with_root_certificates(roots.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        Trusted::Shown(shown) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { shown, provider }))
        }
    };
    let config = config.with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

/// What was wrong with TLS, if that was it.
pub(super) fn fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut error = Some(error);
    while let Some(one) = error {
        if let Some(fault) = one.downcast_ref::<rustls::Error>() {
            return Some(match fault {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    format!(
                        "{fault}; --ca names a file with its authority, or with its own self-signed certificate"
                    )
                }
                fault => fault.to_string(),
            });
        }
        // An error of the system wraps another without being caused by it.
        let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        error = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| one.source());
    }
    None
}

/// One certificate, whatever its names and times are: it is read from the server's own file.
#[derive(Debug)]
struct Pinned {
    shown: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *leaf == self.shown {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "the certificate is not the one in the server's file: is this another server, or was it renewed this moment?".to_owned(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
