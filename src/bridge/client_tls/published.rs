//! What a host's TLSA records say about its certificate (RFC 6698, RFC 7671, RFC 7672 3.1).
//!
//! - Usage 3 (DANE-EE): a record describes the host's own certificate; names and dates in it say nothing (RFC 7672 3.1.1).
//! - Usage 2 (DANE-TA): a record describes a certificate that the host's is issued under; the chain up to it is verified, and one of
//!   the names must be in the host's (RFC 7672 3.1.2, 3.2.2).
//! - Usages 0 and 1 are unusable in SMTP (RFC 7672 3.1.3), as is whatever is not defined. A set without a usable record is no
//!   [`Published`]: the host must speak TLS, and shows what it likes (RFC 7672 2.1).

use crate::limits::TLSA_RECORDS_MAX;
use ring::digest::{SHA256, SHA512, digest};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

/// A TLSA record as it is in DNS (RFC 6698 2.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsaRecord {
    /// Certificate usage.
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// What is to be found there.
    pub data: Vec<u8>,
}

/// The usable records of a host, and its names.
#[derive(PartialEq, Eq, Debug)]
pub struct Published {
    records: Vec<TlsaRecord>,
    names: Vec<ServerName<'static>>,
}

impl Published {
    /// Those of `records` that can be used for a host that is called by any of `names`; `None`: there is none.
    #[must_use]
    pub fn new<'a>(records: &[TlsaRecord], names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let usable = records.iter().take(TLSA_RECORDS_MAX).filter(|record| record.is_usable());
        let mut usable: Vec<TlsaRecord> = usable.cloned().collect();
        // RFC 7671 9: beside a stronger digest of the same kind a weaker one says nothing.
        let strong: Vec<(u8, u8)> =
            usable.iter().filter(|one| one.matching == 2).map(TlsaRecord::kind).collect();
        usable.retain(|record| record.matching != 1 || !strong.contains(&record.kind()));
        let names = names.into_iter().filter_map(|name| ServerName::try_from(name.to_owned()).ok());
        (!usable.is_empty()).then(|| Self { records: usable, names: names.collect() })
    }

    /// Whether a chain is what was published. `chained` says whether the host's certificate is issued under these authorities.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        chained: impl Fn(&RootCertStore) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let of = |usage| self.records.iter().filter(move |record| record.usage == usage);
        if of(DANE_EE).any(|record| record.describes(leaf)) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        for record in of(DANE_TA) {
            let whole = CertificateDer::from(record.data.as_slice());
            let is_whole = (record.selector, record.matching) == (0, 0);
            let described = others.iter().filter(|other| record.describes(other));
            for authority in described.chain(Some(&whole).filter(|_| is_whole)) {
                // One that is no certificate vouches for nothing.
                let _ = roots.add(authority.clone().into_owned());
            }
        }
        if roots.is_empty() {
            return Err(Error::General("no TLSA record of the host describes its certificate".to_owned()));
        }
        chained(&roots)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let is_named = self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok());
        if is_named { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

/// SHA-256 of the public key of a certificate (its SubjectPublicKeyInfo, as TLSA selector 1 has it); `None`: it is none.
#[must_use]
pub fn key_digest(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let key = ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info();
    digest(&SHA256, key.as_ref()).as_ref().try_into().ok()
}

const DANE_TA: u8 = 2;
const DANE_EE: u8 = 3;

impl TlsaRecord {
    fn is_usable(&self) -> bool {
        let is_long_enough = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == SHA256.output_len(),
            2 => self.data.len() == SHA512.output_len(),
            _ => false,
        };
        matches!(self.usage, DANE_TA | DANE_EE) && self.selector <= 1 && is_long_enough
    }

    const fn kind(&self) -> (u8, u8) {
        (self.usage, self.selector)
    }

    fn describes(&self, certificate: &CertificateDer<'_>) -> bool {
        let key;
        let selected = if self.selector == 0 {
            certificate.as_ref()
        } else {
            let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
            key = parsed.subject_public_key_info();
            key.as_ref()
        };
        match self.matching {
            0 => self.data == selected,
            1 => self.data == digest(&SHA256, selected).as_ref(),
            _ => self.data == digest(&SHA512, selected).as_ref(),
        }
    }
}
