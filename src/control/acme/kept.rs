//! What outlives the process: the certificate with its key, and the account, each a file of the data directory, for us alone.

use super::super::certificate;
use super::super::certificate_end::validity_s;
use super::super::file::{self, Look};
use super::Wanted;
use crate::config::{self, CertificateFiles};
use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The certificate's chain, then its key, in PEM.
const CERTIFICATE: &str = "acme.pem";
/// `{"directory", "credentials"}`; the second is the client library's.
const ACCOUNT: &str = "acme-account.json";

/// What its first line begins with: who issued it.
const ISSUED_BY: &str = "Issued by ";

/// A certificate of the authority's.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is.
    pub(super) files: CertificateFiles,
    /// Of which authority it is.
    pub(super) directory: Option<String>,
    /// Its validity, in seconds since 1970.
    pub(super) begins_s: i64,
    pub(super) ends_s: i64,
    /// In PEM.
    pub(super) key: String,
    leaf: CertificateDer<'static>,
}

/// What an authority has issued, in PEM.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Why it is not kept.
#[derive(Debug)]
pub(super) enum Unkept {
    /// It is not what was wanted.
    Unusable(String),
    /// It cannot be written.
    Disk(String),
}

/// The files of the certificate that is kept, if one is, and can be used.
#[must_use]
pub fn files(data_dir: &Path) -> Option<CertificateFiles> {
    Kept::read(data_dir).map(|kept| kept.files)
}

/// What tells that another is kept.
pub(super) fn look_at(data_dir: &Path) -> Look {
    file::look(&data_dir.join(CERTIFICATE))
}

impl Kept {
    /// The one that is kept; none: it is not there, or cannot be used.
    pub(super) fn read(data_dir: &Path) -> Option<Self> {
        let path = data_dir.join(CERTIFICATE);
        if !path.exists() {
            return None;
        }
        let pem = config::read(&path).ok()?;
        let text = String::from_utf8_lossy(&pem);
        let directory = text.lines().next().and_then(|line| line.strip_prefix(ISSUED_BY)).map(str::to_owned);
        let key = &text[text.find("-----BEGIN PRIVATE KEY-----").unwrap_or(text.len())..];
        let key = key.to_owned();
        let files = CertificateFiles { cert: path.clone(), key: path };
        let loaded = certificate::load(core::slice::from_ref(&files));
        let loaded = loaded
            .inspect_err(|error| {
                tracing::error!(error, "the authority's certificate that is kept cannot be used")
            })
            .ok()?;
        let leaf = loaded.first()?.cert.first()?.clone().into_owned();
        let (begins_s, ends_s) = validity_s(&leaf)?;
        Some(Self { files, directory, begins_s, ends_s, key, leaf })
    }

    /// Keeps a new one: only if it can be used and is for all these names.
    pub(super) fn keep(data_dir: &Path, wanted: &Wanted, issued: &Issued) -> Result<Self, Unkept> {
        let (directory, chain) = (&wanted.acme.directory, issued.chain.trim_end());
        let pem = format!("{ISSUED_BY}{directory}\n{chain}\n{}", issued.key);
        certificate::check_pem(pem.as_bytes(), &wanted.names).map_err(Unkept::Unusable)?;
        let path = data_dir.join(CERTIFICATE);
        file::keep(data_dir, CERTIFICATE, pem.as_bytes())
            .map_err(|error| Unkept::Disk(format!("{}: {error}", path.display())))?;
        Self::read(data_dir).ok_or_else(|| Unkept::Disk("what was kept cannot be read".to_owned()))
    }

    pub(super) fn is_for(&self, name: &str) -> bool {
        certificate::is_named(&self.leaf, name)
    }

    /// For tests of what is due.
    #[cfg(test)]
    pub(super) fn made(names: &[&str], directory: &str, begins_s: i64, ends_s: i64) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names");
        let files = CertificateFiles { cert: CERTIFICATE.into(), key: CERTIFICATE.into() };
        let (directory, key) = (Some(directory.to_owned()), made.signing_key.serialize_pem());
        Self { files, directory, begins_s, ends_s, key, leaf: made.cert.der().clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    directory: String,
    /// The account elsewhere that it is bound to.
    external: Option<String>,
    credentials: AccountCredentials,
}

/// The account at an authority, if one is kept.
pub(super) fn account(wanted: &Wanted) -> Option<AccountCredentials> {
    let octets = config::read_kept(&wanted.data_dir.join(ACCOUNT)).ok()?;
    let account: Account = serde_json::from_slice(&octets)
        .inspect_err(
            |error| tracing::error!(%error, "the account at the authority is damaged; one is made anew"),
        )
        .ok()?;
    let is_ours = account.directory == wanted.acme.directory && account.external == external(wanted);
    is_ours.then_some(account.credentials)
}

/// Keeps the account.
pub(super) fn keep_account(wanted: &Wanted, credentials: AccountCredentials) -> Result<(), String> {
    let account =
        Account { directory: wanted.acme.directory.clone(), external: external(wanted), credentials };
    let octets = serde_json::to_vec(&account).map_err(|error| error.to_string())?;
    let path = wanted.data_dir.join(ACCOUNT);
    file::keep(&wanted.data_dir, ACCOUNT, &octets).map_err(|error| format!("{}: {error}", path.display()))
}

fn external(wanted: &Wanted) -> Option<String> {
    wanted.acme.external_account.as_ref().map(|account| account.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_cannot_be_used_replaces_nothing() {
        let directory = std::env::temp_dir().join(format!("stratamx-acme-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let one = rcgen::generate_simple_self_signed(vec!["mx2.test".to_owned()]).expect("a name");
        let other = rcgen::generate_simple_self_signed(vec!["mx9.test".to_owned()]).expect("a name");
        let text = "hostname = \"mx2.test\"\ndomain = []\n[acme]\nagree_to_terms = true\n";
        let wanted = Wanted::of(&Config::parse(text, "t").unwrap()).unwrap();
        assert!(Kept::read(&directory).is_none());
        let issued = |chain: String, key: String| Issued { chain, key };
        let good = issued(one.cert.pem(), one.signing_key.serialize_pem());
        let kept = Kept::keep(&directory, &wanted, &good).unwrap();
        assert!(kept.is_for("mx2.test") && !kept.is_for("mx9.test") && kept.ends_s > kept.begins_s);
        assert_eq!(kept.directory.as_ref(), Some(&wanted.acme.directory));
        assert_eq!(kept.key.trim_end(), one.signing_key.serialize_pem().trim_end(), "for the renewal");
        for bad in [
            issued(one.cert.pem(), other.signing_key.serialize_pem()),
            issued(other.cert.pem(), other.signing_key.serialize_pem()),
            issued(String::new(), one.signing_key.serialize_pem()),
            issued(one.cert.pem(), String::new()),
        ] {
            assert!(matches!(Kept::keep(&directory, &wanted, &bad), Err(Unkept::Unusable(_))));
        }
        let nowhere = directory.join("nowhere");
        assert!(matches!(Kept::keep(&nowhere, &wanted, &good), Err(Unkept::Disk(_))));
        assert_eq!(Kept::read(&directory).expect("as before").leaf, *one.cert.der());
        file::keep(&directory, CERTIFICATE, b"half of").unwrap();
        assert!(Kept::read(&directory).is_none());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
