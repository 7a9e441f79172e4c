//! The certificates of the receiving side: read from files, read again when the files change, made where none are
//! configured.
//!
//! A file that cannot be used never replaces one that could: the error is logged once for each change, and the
//! certificates in force stay. Key and certificate that do not belong together are such an error, so a renewal that
//! writes one file after the other is at worst one line in the log.
//!
//! The certificate that is made where none is given is for our own name, signed by its own key, and kept in one file
//! of the data directory (mode 0600): the key stays the same over restarts and over a change of the name, so that
//! a TLSA record for it (RFC 7672, `3 1 1`) stays true.

use super::file::{Look, keep, look};
use crate::bridge::Certificates;
use crate::config::{self, CertificateFiles};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The file of the certificate that was made here, in the data directory.
const SELF_SIGNED_FILE: &str = "self-signed.pem";

/// The permissions of who is neither the owner nor of the group: keys are often shared with a group of servers.
const OTHERS: u32 = 0o007;

/// Reads certificates with their keys, as configured.
///
/// # Errors
/// A sentence for the operator that names the file.
pub fn load(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, String> {
    files.iter().map(|pair| load_one(pair).map(Arc::new)).collect()
}

fn load_one(files: &CertificateFiles) -> Result<CertifiedKey, String> {
    let failed = |path: &Path, what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let read = |path: &Path| config::read(path).map_err(|error| failed(path, &error));
    let (chain, key) = (read(&files.cert)?, read(&files.key)?);
    if rustix::fs::stat(&files.key).is_ok_and(|status| status.st_mode & OTHERS != 0) {
        // Not an error: other programs put it there, and mail goes on.
        tracing::warn!(path = %files.key.display(), "anybody on this machine may read this key: chmod o-rwx");
    }
    let chain = chain_in(&chain).map_err(|error| failed(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(&files.key, &error))?;
    // The chain's syntax, its key against the other, and whether ring can sign with it.
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| failed(&files.key, &format_args!("with {}: {error}", files.cert.display())))
}

fn chain_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("no certificate in PEM".to_owned()) } else { Ok(chain) }
}

/// Whether octets in PEM are a chain for all these names, and its key.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn check_pem(pem: &[u8], names: &[String]) -> Result<(), String> {
    let chain = chain_in(pem)?;
    let missing = names.iter().find(|name| !chain.first().is_some_and(|leaf| is_named(leaf, name)));
    if let Some(name) = missing {
        return Err(format!("the certificate that was issued is not for {name}"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    key.map(drop).map_err(|error| format!("the certificate that was issued: {error}"))
}

/// Whether a certificate is for a name (RFC 9525 6).
pub(super) fn is_named(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else { return false };
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
}

/// The certificate for `hostname` that is kept in `data_dir`; made where it is not there.
///
/// # Errors
/// A sentence for the operator: the file cannot be read or written.
pub fn self_signed(data_dir: &Path, hostname: &str) -> Result<CertificateFiles, String> {
    let files = self_signed_files(data_dir);
    let path = files.cert.clone();
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let key = match config::read(&path) {
        Ok(pem) if is_for(&pem, hostname) => return Ok(files),
        Ok(pem) => key_in(&pem).map_err(|error| failed(&error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            KeyPair::generate().map_err(|error| failed(&error))?
        }
        Err(error) => return Err(failed(&error)),
    };
    let pem = make(hostname, &key).map_err(|error| failed(&error))?;
    keep(data_dir, SELF_SIGNED_FILE, pem.as_bytes()).map_err(|error| failed(&error))?;
    tracing::info!(file = %path.display(), "a self-signed certificate was made; smtp.tls names a better one");
    Ok(files)
}

/// Where the self-signed one is.
#[must_use]
pub fn self_signed_files(data_dir: &Path) -> CertificateFiles {
    let path = data_dir.join(SELF_SIGNED_FILE);
    CertificateFiles { cert: path.clone(), key: path }
}

/// The certificate of a file, without its chain.
///
/// # Errors
/// A sentence for the operator that names the file.
pub fn leaf(path: &Path) -> Result<CertificateDer<'static>, String> {
    let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let pem = config::read(path).map_err(|error| failed(&error))?;
    CertificateDer::from_pem_slice(&pem).map_err(|error| failed(&error))
}

fn is_for(pem: &[u8], hostname: &str) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
        && CertificateDer::from_pem_slice(pem).is_ok_and(|leaf| is_named(&leaf, hostname))
}

fn key_in(pem: &[u8]) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    KeyPair::try_from(key.secret_der()).map_err(|error| error.to_string())
}

/// Certificate and key, in PEM.
fn make(hostname: &str, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(vec![hostname.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    // RFC 5280 A.1: a common name has at most 64 characters; the name that counts is the alternative one.
    let common: String = hostname.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    Ok(params.self_signed(key)?.pem() + &key.serialize_pem())
}

/// Reads the certificates again when their files change.
#[derive(Debug)]
pub struct Watch {
    certificates: Arc<Certificates>,
    watched: Mutex<Watched>,
}

/// Files, and what they were like when they were last read.
#[derive(Debug)]
struct Watched {
    files: Vec<CertificateFiles>,
    seen: Vec<Look>,
    /// They are our own, self-signed or of an authority, not the operator's.
    is_own: bool,
}

impl Watch {
    /// Watches the files that `certificates` came from; `is_own`: they are not the operator's.
    #[must_use]
    pub fn new(certificates: Arc<Certificates>, files: Vec<CertificateFiles>, is_own: bool) -> Self {
        let seen = look_at(&files);
        Self { certificates, watched: Mutex::new(Watched { files, seen, is_own }) }
    }

    /// What is shown.
    #[must_use]
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Shows what these files hold from now on.
    ///
    /// # Errors
    /// As [`load`]; nothing is changed then.
    pub fn use_files(&self, files: Vec<CertificateFiles>, is_own: bool) -> Result<(), String> {
        let seen = look_at(&files);
        let loaded = load(&files)?;
        // One lock around both, so that a look at the files of before does not come behind.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        self.certificates.replace(loaded);
        *watched = Watched { files, seen, is_own };
        Ok(())
    }

    /// Our own certificate is in this file now; nothing where the operator's is shown.
    ///
    /// # Errors
    /// As [`load`]; nothing is changed then.
    pub fn show_own(&self, own: &CertificateFiles) -> Result<(), String> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let files = core::slice::from_ref(own);
        let seen = look_at(files);
        if !watched.is_own || (watched.files == files && watched.seen == seen) {
            return Ok(());
        }
        self.certificates.replace(load(files)?);
        *watched = Watched { files: files.to_vec(), seen, is_own: true };
        Ok(())
    }

    /// One look: reads what has changed since the last one. Whether it was taken, if something has.
    pub fn look_again(&self) -> Option<Result<(), String>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look_at(&watched.files);
        if seen == watched.seen {
            return None;
        }
        watched.seen = seen;
        Some(load(&watched.files).map(|loaded| self.certificates.replace(loaded)))
    }
}

fn look_at(files: &[CertificateFiles]) -> Vec<Look> {
    files.iter().flat_map(|pair| [&pair.cert, &pair.key]).map(|path| look(path)).collect()
}
