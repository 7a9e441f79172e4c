//! What DNSSEC says about a domain's mail exchangers and a host's TLSA records (RFC 7672 2), by the resolver that validates.
//!
//! What counts, and nothing else does ([`signed`]): the aliases that lead from the name that was asked for, and the records of that type
//! where they end; or a denial by the zone that this lies in. Whoever owns some other signed zone can add records of his to an answer.
//! That is *secure* when all of it is signed up to a key that is trusted; *insecure* when a signed denial says that its zone is not; anything
//! else is no answer, and mail waits.
//!
//! Not followed: DNAME, whose synthesized aliases nobody signs, and aliases that come in several answers: they are no answer.

mod signed;

use super::answers::{absolute, found_exchangers, implicit, judge};
use crate::bridge::{LookupError, SecureExchangers, Tlsa, TlsaRecord};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use signed::{Found, Sections};

/// Most aliases that are followed.
const ALIASES_MAX: usize = 8;

/// What name servers say.
enum Said {
    /// There are none.
    Nothing { is_secure: bool, exists: bool },
    /// These.
    Records(Found),
}

async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Said, LookupError> {
    let asked =
        Name::from_ascii(absolute(name)).map_err(|error| LookupError::Temporary(error.to_string()))?;
    let forged = || LookupError::Temporary(format!("{kind} of {name} cannot be validated (DNSSEC)"));
    match resolver.lookup(asked.clone(), kind).await {
        Ok(found) => {
            let sections = Sections { answers: found.answers(), authorities: found.authorities() };
            signed::found(&asked, kind, sections, true).map(Said::Records).ok_or_else(forged)
        }
        // RFC 9276 3.2: too many iterations of NSEC3 make a denial as good as unsigned, but nothing that is not denied.
        Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, response, query, .. })) => {
            let sections = Sections { answers: &response.answers, authorities: &response.authorities };
            if !response.answers.is_empty() {
                return signed::found(&asked, kind, sections, false).map(Said::Records).ok_or_else(forged);
            }
            if signed::denied(query.name(), sections.authorities) != Some(true) {
                return Err(forged());
            }
            aliases(resolver, &asked, query.name()).await?.ok_or_else(forged)?;
            Ok(Said::Nothing { is_secure: false, exists: response.response_code != ResponseCode::NXDomain })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let authorities = none.authorities.as_deref().unwrap_or_default();
            let is_secure = signed::denied(none.query.name(), authorities).ok_or_else(forged)?;
            let is_ours = aliases(resolver, &asked, none.query.name()).await?.ok_or_else(forged)?;
            let exists = none.response_code != ResponseCode::NXDomain;
            Ok(Said::Nothing { is_secure: is_secure && is_ours, exists })
        }
        Err(error) => Err(failed(name, kind, &error)),
    }
}

/// Whether the aliases from one name to another, which a denial does not come with, are secure; `None`: they are neither that
/// nor insecure, or lead elsewhere.
async fn aliases(resolver: &TokioResolver, from: &Name, to: &Name) -> Result<Option<bool>, LookupError> {
    let (mut name, mut is_secure) = (from.clone(), true);
    for _ in 0..ALIASES_MAX {
        if name == *to {
            return Ok(Some(is_secure));
        }
        let kind = RecordType::CNAME;
        let found = resolver.lookup(name.clone(), kind).await;
        let found = found.map_err(|error| failed(&name.to_ascii(), kind, &error))?;
        let sections = Sections { answers: found.answers(), authorities: found.authorities() };
        let Some(found) = signed::found(&name, kind, sections, true) else { return Ok(None) };
        let [Record { data: RData::CNAME(alias), .. }] = &found.records[..] else { return Ok(None) };
        is_secure &= found.is_secure;
        name = alias.0.clone();
    }
    Ok(None)
}

fn failed(name: &str, kind: RecordType, error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => {
            LookupError::Temporary(format!("{kind} of {name} is not signed as it must be (DNSSEC)"))
        }
        error => judge(error),
    }
}

/// The mail exchangers of a domain, and whether that is secure.
pub(super) async fn exchangers(
    resolver: &TokioResolver,
    domain: &str,
) -> Result<SecureExchangers, LookupError> {
    match ask(resolver, domain, RecordType::MX).await? {
        Said::Nothing { exists: false, .. } => Err(LookupError::NoAddress),
        Said::Nothing { is_secure, .. } => Ok(SecureExchangers { exchangers: implicit(domain), is_secure }),
        Said::Records(Found { records, is_secure, .. }) => {
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
            Said::Records(Found { records, is_secure: true, .. }) => {
                let records: Vec<TlsaRecord> = records.iter().filter_map(tlsa_record).collect();
                if records.is_empty() {
                    return Err(LookupError::Temporary(format!(
                        "the answer about TLSA of {name} holds none"
                    )));
                }
                return Ok(Some(Tlsa { base, records }));
            }
            Said::Records(_) | Said::Nothing { .. } => {}
        }
    }
    Ok(None)
}

/// The names that a host's TLSA records may be of, in their order: where its aliases lead, if all of them are secure; itself.
async fn bases(resolver: &TokioResolver, host: &str) -> Result<Vec<String>, LookupError> {
    let (v4, v6) = (ask(resolver, host, RecordType::A).await, ask(resolver, host, RecordType::AAAA).await);
    let found = match (v4, v6) {
        (Ok(Said::Records(found)), _) | (_, Ok(Said::Records(found))) => found,
        (Ok(_), Ok(_)) => return Ok(Vec::new()),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let own = host.to_ascii_lowercase();
    let mut bases = Vec::new();
    if found.is_secure {
        bases.push(found.end.to_ascii().trim_end_matches('.').to_ascii_lowercase());
    }
    if found.begins_secure && !bases.contains(&own) {
        bases.push(own);
    }
    Ok(bases)
}

fn tlsa_record(record: &Record) -> Option<TlsaRecord> {
    let RData::TLSA(tlsa) = &record.data else { return None };
    let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
    Some(TlsaRecord { usage, selector, matching, data: tlsa.cert_data.clone() })
}
