//! What DNSSEC says about a domain's mail exchangers and a host's TLSA records (RFC 7672 2), by the resolver that validates.
//!
//! An answer is *secure* when all of its records, aliases among them, are signed up to a key that is trusted; *insecure* when a
//! signed denial says that its zone is not; anything else is no answer. That a record does not exist has to be told as well: an
//! answer without records counts as insecure only by the word of a zone that the name lies in, since whoever can forge one could
//! put some unsigned stranger's SOA beside it.

use super::answers::{absolute, found_exchangers, implicit, judge};
use crate::bridge::{LookupError, SecureExchangers, Tlsa, TlsaRecord};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// What name servers say.
enum Said {
    /// There are none.
    Nothing { is_secure: bool, exists: bool },
    /// These, with the aliases that led there.
    Records { records: Vec<Record>, is_secure: bool },
}

async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Said, LookupError> {
    let asked = absolute(name);
    let failed = |error: &NetError| match error {
        NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => {
            LookupError::Temporary(format!("{kind} of {name} is not signed as it must be (DNSSEC)"))
        }
        error => judge(error),
    };
    let forged = || LookupError::Temporary(format!("{kind} of {name} cannot be validated (DNSSEC)"));
    match resolver.lookup(asked.as_str(), kind).await {
        Ok(found) => {
            let records = found.answers().iter().filter(|record| !is_signature(record.record_type()));
            let records: Vec<Record> = records.cloned().collect();
            let is_secure = security(&records).ok_or_else(forged)?;
            Ok(Said::Records { records, is_secure })
        }
        // RFC 9276 3.2: too many iterations of NSEC3 make a zone as good as unsigned.
        Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, response, .. })) => {
            Ok(Said::Nothing { is_secure: false, exists: response.response_code != ResponseCode::NXDomain })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let name = Name::from_ascii(&asked).map_err(|error| LookupError::Temporary(error.to_string()))?;
            let is_secure = denial(&name, &none).ok_or_else(forged)?;
            let error = NetError::Dns(DnsError::NoRecordsFound(none));
            Ok(Said::Nothing { is_secure, exists: !error.is_nx_domain() })
        }
        Err(error) => Err(failed(&error)),
    }
}

const fn is_signature(kind: RecordType) -> bool {
    matches!(kind, RecordType::RRSIG)
}

/// Whether records are secure; `None`: they are neither that nor insecure.
fn security(records: &[Record]) -> Option<bool> {
    let is_known = |record: &Record| matches!(record.proof, Proof::Secure | Proof::Insecure);
    (!records.is_empty() && records.iter().all(is_known))
        .then(|| records.iter().all(|record| record.proof == Proof::Secure))
}

/// Whether a denial is secure; `None`: it is neither that nor insecure.
fn denial(name: &Name, none: &NoRecords) -> Option<bool> {
    let authorities = none.authorities.as_deref().unwrap_or_default();
    let denies = |record: &&Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    // The resolver has looked at whether they deny this.
    if authorities.iter().filter(denies).any(|record| record.proof == Proof::Secure) {
        return Some(true);
    }
    let is_theirs = |record: &Record| {
        record.record_type() == RecordType::SOA
            && record.name.zone_of(name)
            && record.proof == Proof::Insecure
    };
    authorities.iter().any(is_theirs).then_some(false)
}

/// The mail exchangers of a domain, and whether that is secure.
pub(super) async fn exchangers(
    resolver: &TokioResolver,
    domain: &str,
) -> Result<SecureExchangers, LookupError> {
    match ask(resolver, domain, RecordType::MX).await? {
        Said::Nothing { exists: false, .. } => Err(LookupError::NoAddress),
        Said::Nothing { is_secure, .. } => Ok(SecureExchangers { exchangers: implicit(domain), is_secure }),
        Said::Records { records, is_secure } => {
            Ok(SecureExchangers { exchangers: found_exchangers(&records, domain), is_secure })
        }
    }
}

/// The TLSA records of a host (RFC 7672 2.2.3); `None`: there are none, or nothing secure leads to them.
pub(super) async fn tlsa(
    resolver: &TokioResolver,
    host: &str,
    port: u16,
) -> Result<Option<Tlsa>, LookupError> {
    for base in bases(resolver, host).await? {
        let name = format!("_{port}._tcp.{base}");
        match ask(resolver, &name, RecordType::TLSA).await? {
            Said::Records { records, is_secure: true } => {
                let records: Vec<TlsaRecord> = records.iter().filter_map(tlsa_record).collect();
                if records.is_empty() {
                    return Err(LookupError::Temporary(format!(
                        "the answer about TLSA of {name} holds none"
                    )));
                }
                return Ok(Some(Tlsa { base, records }));
            }
            Said::Records { .. } | Said::Nothing { .. } => {}
        }
    }
    Ok(None)
}

/// The names that a host's TLSA records may be of, in their order: where its aliases lead, if all of them are secure; itself.
async fn bases(resolver: &TokioResolver, host: &str) -> Result<Vec<String>, LookupError> {
    let (v4, v6) = (ask(resolver, host, RecordType::A).await, ask(resolver, host, RecordType::AAAA).await);
    let (records, is_secure) = match (v4, v6) {
        (Ok(Said::Records { records, is_secure }), _) | (_, Ok(Said::Records { records, is_secure })) => {
            (records, is_secure)
        }
        (Ok(_), Ok(_)) => return Ok(Vec::new()),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let plain = |name: &Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let address = records.iter().find(|record| matches!(record.data, RData::A(_) | RData::AAAA(_)));
    let own = host.to_ascii_lowercase();
    let mut bases: Vec<String> =
        address.filter(|_| is_secure).map(|record| plain(&record.name)).into_iter().collect();
    let alias = records.iter().find(|record| plain(&record.name) == own);
    if alias.is_some_and(|record| record.proof == Proof::Secure) && !bases.contains(&own) {
        bases.push(own);
    }
    Ok(bases)
}

fn tlsa_record(record: &Record) -> Option<TlsaRecord> {
    let RData::TLSA(tlsa) = &record.data else { return None };
    let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
    Some(TlsaRecord { usage, selector, matching, data: tlsa.cert_data.clone() })
}
