//! What outlives the process: the certificate with its key, and the account, each a file of the data directory, for us alone.

use super::super::certificate_end::validity_s;
use super::super::{certificate, file};
use crate::config::{self, CertificateFiles};
use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The certificate's chain, then its key, in PEM.
const CERTIFICATE: &str = "acme.pem";
/// `{"directory", "credentials"}`; the second is the client library's.
const ACCOUNT: &str = "acme-account.json";

/// A certificate of the authority's.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is.
    pub(super) files: CertificateFiles,
    /// Its validity, in seconds since 1970.
    pub(super) begins_s: i64,
    pub(super) ends_s: i64,
    leaf: CertificateDer<'static>,
}

/// The files of the certificate that is kept, if one is, and can be used.
#[must_use]
pub fn files(data_dir: &Path) -> Option<CertificateFiles> {
    Kept::read(data_dir).map(|kept| kept.files)
}

impl Kept {
    /// The one that is kept; none: it is not there, or cannot be used.
    pub(super) fn read(data_dir: &Path) -> Option<Self> {
        let path = data_dir.join(CERTIFICATE);
        if !path.exists() {
            return None;
        }
        let files = CertificateFiles { cert: path.clone(), key: path };
        let loaded = certificate::load(core::slice::from_ref(&files));
        let key = loaded.inspect_err(|error| tracing::error!(error, "a new certificate is ordered")).ok()?;
        let leaf = key.first()?.cert.first()?.clone().into_owned();
        let (begins_s, ends_s) = validity_s(&leaf)?;
        Some(Self { files, begins_s, ends_s, leaf })
    }

    /// Keeps a new one: only if it can be used and is for all these names.
    pub(super) fn keep(data_dir: &Path, names: &[String], chain: &str, key: &str) -> Result<Self, String> {
        let pem = format!("{}\n{key}", chain.trim_end());
        certificate::check_pem(pem.as_bytes(), names)?;
        let failed = |error: std::io::Error| format!("{}: {error}", data_dir.join(CERTIFICATE).display());
        file::keep(data_dir, CERTIFICATE, pem.as_bytes()).map_err(failed)?;
        Self::read(data_dir).ok_or_else(|| "what was kept cannot be read".to_owned())
    }

    pub(super) fn is_for(&self, name: &str) -> bool {
        certificate::is_named(&self.leaf, name)
    }

    /// For tests of what is due.
    #[cfg(test)]
    pub(super) fn made(names: &[&str], begins_s: i64, ends_s: i64) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names");
        let files = CertificateFiles { cert: CERTIFICATE.into(), key: CERTIFICATE.into() };
        Self { files, begins_s, ends_s, leaf: made.cert.der().clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    directory: String,
    credentials: AccountCredentials,
}

/// The account at an authority, if one is kept.
pub(super) fn account(data_dir: &Path, directory: &str) -> Option<AccountCredentials> {
    let octets = config::read_kept(&data_dir.join(ACCOUNT)).ok()?;
    let account: Account = serde_json::from_slice(&octets)
        .inspect_err(
            |error| tracing::error!(%error, "the account at the authority is damaged; one is made anew"),
        )
        .ok()?;
    (account.directory == directory).then_some(account.credentials)
}

/// Keeps the account.
pub(super) fn keep_account(
    data_dir: &Path,
    directory: &str,
    credentials: AccountCredentials,
) -> Result<(), String> {
    let account = Account { directory: directory.to_owned(), credentials };
    let octets = serde_json::to_vec(&account).map_err(|error| error.to_string())?;
    file::keep(data_dir, ACCOUNT, &octets)
        .map_err(|error| format!("{}: {error}", data_dir.join(ACCOUNT).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_replaces_nothing() {
        let directory = std::env::temp_dir().join(format!("stratamx-acme-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let names = ["mx2.test".to_owned()];
        let one = rcgen::generate_simple_self_signed(names.to_vec()).expect("a name");
        let other = rcgen::generate_simple_self_signed(vec!["mx9.test".to_owned()]).expect("a name");
        assert!(Kept::read(&directory).is_none());
        let kept = Kept::keep(&directory, &names, &one.cert.pem(), &one.signing_key.serialize_pem()).unwrap();
        assert!(kept.is_for("mx2.test") && !kept.is_for("mx9.test") && kept.ends_s > kept.begins_s);
        for (chain, key) in [
            (one.cert.pem(), other.signing_key.serialize_pem()),
            (other.cert.pem(), other.signing_key.serialize_pem()),
            (String::new(), one.signing_key.serialize_pem()),
            (one.cert.pem(), String::new()),
        ] {
            assert!(Kept::keep(&directory, &names, &chain, &key).is_err());
        }
        assert_eq!(Kept::read(&directory).expect("as before").leaf, *one.cert.der());
        std::fs::write(directory.join(CERTIFICATE), "half of").unwrap();
        assert!(Kept::read(&directory).is_none());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
