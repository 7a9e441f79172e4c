//! What authentication asks DNS, so that tests answer from a table.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DnsError {
    /// The name, or records of this type, do not exist (RCODE 3, or 0 with nothing): an answer.
    #[error("no such records")]
    NotFound,
    /// No answer.
    #[error("no answer")]
    Temporary,
}

/// Questions to DNS. Names have no dot at their end.
#[expect(async_fn_in_trait, reason = "the futures stay on their thread")]
pub trait Dns {
    /// TXT records, the strings of each joined (RFC 7208 3.3).
    ///
    /// # Errors
    /// See [`DnsError`], here and below.
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError>;
    /// IPv4 addresses.
    ///
    /// # Errors
    /// See [`DnsError`].
    async fn a(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError>;
    /// IPv6 addresses.
    ///
    /// # Errors
    /// See [`DnsError`].
    async fn aaaa(&self, name: &str) -> Result<Vec<Ipv6Addr>, DnsError>;
    /// Mail exchangers, the best first.
    ///
    /// # Errors
    /// See [`DnsError`].
    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsError>;
    /// Names of an address.
    ///
    /// # Errors
    /// See [`DnsError`].
    async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, DnsError>;
}

/// Records of one type, each as `pick` has it; hickory follows aliases and keeps answers for as long as they live.
async fn records<T>(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
    pick: impl Fn(&RData) -> Option<T>,
) -> Result<Vec<T>, DnsError> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let found: Vec<T> = lookup.answers().iter().filter_map(|record| pick(&record.data)).collect();
            if found.is_empty() { Err(DnsError::NotFound) } else { Ok(found) }
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Err(DnsError::NotFound),
        Err(_) => Err(DnsError::Temporary),
    }
}

/// A whole name: no search list applies.
fn whole(name: &str) -> Result<Name, DnsError> {
    let name = Name::from_str_relaxed(format!("{}.", name.trim_end_matches('.')));
    // What no name can be does not exist.
    name.map_err(|_| DnsError::NotFound)
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

impl Dns for TokioResolver {
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError> {
        let joined = |data: &RData| match data {
            RData::TXT(txt) => Some(txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect()),
            _ => None,
        };
        records(self, whole(name)?, RecordType::TXT, joined).await
    }

    async fn a(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError> {
        let address = |data: &RData| if let RData::A(a) = data { Some(a.0) } else { None };
        records(self, whole(name)?, RecordType::A, address).await
    }

    async fn aaaa(&self, name: &str) -> Result<Vec<Ipv6Addr>, DnsError> {
        let address = |data: &RData| if let RData::AAAA(aaaa) = data { Some(aaaa.0) } else { None };
        records(self, whole(name)?, RecordType::AAAA, address).await
    }

    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let exchanger = |data: &RData| match data {
            RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
            _ => None,
        };
        let mut found = records(self, whole(name)?, RecordType::MX, exchanger).await?;
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        let name = |data: &RData| if let RData::PTR(ptr) = data { Some(text(&ptr.0)) } else { None };
        records(self, Name::from(address), RecordType::PTR, name).await
    }
}
