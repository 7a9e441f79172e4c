//! What a connection to a host must show before mail goes over it: a pure function of the domain's `tls` and of what the domain
//! and the host publish.
//!
//! | `tls` | a host has to show |
//! |---|---|
//! | `none` | nothing; TLS is not spoken |
//! | `opportunistic` | nothing; TLS where it is offered and works (RFC 7435) |
//! | `require` | TLS, by whoever it is |
//! | `mta-sts` | what the domain's policy asks for (RFC 8461); as `opportunistic` where there is none |
//! | `dane` | what its TLSA records describe (RFC 7672); as `mta-sts` where it has none: DANE wins where both are (RFC 8461 2) |
//!
//! - Under a policy in mode *enforce* the certificate is one for the host's name, by an authority that is trusted here. By MX records
//!   the host must be one that the policy names. A host that the configuration names needs not: that list says which of the
//!   names in an unsigned DNS are the domain's, and here the operator has said so. In mode *testing* the same is looked at,
//!   and told; the mail goes as by `opportunistic`.
//! - TLSA records count as far as DNSSEC says so all the way: by MX records from these on (RFC 7672 2.2), by the configuration from the
//!   host's addresses on. None of the records usable: TLS is a must, and a certificate is what a policy says. A host that is an
//!   address has no records.
//! - An answer about TLSA that fails, or is forged, is no "none" (RFC 7672 2.1.1): the host is left alone for now. A policy that cannot
//!   be fetched is none, unless one is known that is not past its time (RFC 8461 3.3, 5.1).
//! - A name that no certificate can be for gets nothing under an enforced policy: its address does not stand in for it.
//!
//! Whatever is not shown is a failure of now: the next host is tried, the mail waits, nothing is bounced, and the operator is told.

use crate::bridge::{LookupError, Published, Tlsa, Transport};
use crate::config::{Host, PrimaryTls};
use crate::message::mta_sts::{Mode, Policy};
use core::fmt;
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// What a host has to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Requirement {
    /// TLS is not spoken.
    Plain,
    /// Nothing.
    Opportunistic,
    /// TLS.
    Encrypted,
    /// A certificate for its name, by MTA-STS.
    Certificate,
    /// What its TLSA records describe; and the name that it is asked for.
    Published(Arc<Published>, String),
}

/// What is only looked at, and told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Tested {
    Nothing,
    /// Whether it could show [`Requirement::Certificate`].
    Certificate,
    /// The policy does not name it.
    Unnamed,
}

/// The terms on which a host gets mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Terms {
    pub(in crate::shard) requirement: Requirement,
    pub(in crate::shard) tested: Tested,
}

/// Why a host gets none now, whatever it shows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::shard) enum Withheld {
    #[error("whether it has TLSA records (DANE) cannot be found out: {0}")]
    Tlsa(LookupError),
    #[error("the domain's MTA-STS policy does not name it, and is enforced")]
    Unnamed,
    #[error("no certificate can be for its name, and the domain's MTA-STS policy is enforced")]
    NoName,
}

/// How a host came to be one of the domain's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Named {
    /// The configuration says so.
    ByConfiguration,
    /// MX records say so.
    ByExchangers { is_secure: bool },
}

/// Whether the host's TLSA records are worth a question.
pub(in crate::shard) fn asks_for_tlsa(tls: PrimaryTls, named: Named, host: &Host) -> bool {
    let is_secure = named != Named::ByExchangers { is_secure: false };
    tls == PrimaryTls::Dane && is_secure && matches!(host, Host::Name(_))
}

/// The terms for a host of `domain`. `policy` and `tlsa` are the answers where they were asked for, else `None`.
///
/// # Errors
/// See [`Withheld`].
pub(in crate::shard) fn terms(
    tls: PrimaryTls,
    domain: &str,
    host: &Host,
    named: Named,
    policy: Option<&Policy>,
    tlsa: Result<Option<Tlsa>, LookupError>,
) -> Result<Terms, Withheld> {
    let untested = |requirement| Ok(Terms { requirement, tested: Tested::Nothing });
    let otherwise = match tls {
        PrimaryTls::None => return untested(Requirement::Plain),
        PrimaryTls::Opportunistic => return untested(Requirement::Opportunistic),
        PrimaryTls::Require => return untested(Requirement::Encrypted),
        PrimaryTls::MtaSts => Requirement::Opportunistic,
        PrimaryTls::Dane => match tlsa.map_err(Withheld::Tlsa)? {
            None => Requirement::Opportunistic,
            Some(tlsa) => match published(&tlsa, domain, host, named) {
                Some(published) => return untested(Requirement::Published(Arc::new(published), tlsa.base)),
                None => Requirement::Encrypted,
            },
        },
    };
    let Some(policy) = policy else { return untested(otherwise) };
    let is_named = match (host, named) {
        (Host::Name(name), Named::ByExchangers { .. }) => policy.names(name),
        _ => true,
    };
    match (policy.mode, is_named) {
        (Mode::None, _) => untested(otherwise),
        (Mode::Enforce, true) if !may_be_certified(host) => Err(Withheld::NoName),
        (Mode::Enforce, true) => untested(Requirement::Certificate),
        (Mode::Enforce, false) => Err(Withheld::Unnamed),
        (Mode::Testing, true) => Ok(Terms { requirement: otherwise, tested: Tested::Certificate }),
        (Mode::Testing, false) => Ok(Terms { requirement: otherwise, tested: Tested::Unnamed }),
    }
}

/// Whether a certificate can be for it: a name that is none must not be asked for by its address in its stead.
fn may_be_certified(host: &Host) -> bool {
    match host {
        Host::Name(name) => matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_))),
        Host::Address(_) => true,
    }
}

/// RFC 7672 3.2.2: an authority's certificate is for the name that the records are of, for the host's, or by MX records for the domain's.
fn published(tlsa: &Tlsa, domain: &str, host: &Host, named: Named) -> Option<Published> {
    let own = match host {
        Host::Name(name) => Some(name.as_str()),
        Host::Address(_) => None,
    };
    let domain = Some(domain).filter(|_| named != Named::ByConfiguration);
    Published::new(&tlsa.records, [Some(tlsa.base.as_str()), own, domain].into_iter().flatten())
}

impl Requirement {
    /// Whether nothing goes in plain text.
    pub(in crate::shard) const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted | Self::Certificate | Self::Published(..))
    }

    /// How a session that kept to it is counted.
    pub(in crate::shard) const fn transport(&self, is_secured: bool) -> Transport {
        match self {
            _ if !is_secured => Transport::Plain,
            Self::Certificate => Transport::VerifiedMtaSts,
            Self::Published(..) => Transport::VerifiedDane,
            Self::Encrypted | Self::Opportunistic | Self::Plain => Transport::Encrypted,
        }
    }
}

/// Completes "it has to ...".
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain | Self::Opportunistic => "do nothing",
            Self::Encrypted => "speak TLS",
            Self::Certificate => "show a trusted certificate for its name by the domain's MTA-STS policy",
            Self::Published(..) => "show the certificate that its TLSA records (DANE) describe",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Requirement::{Certificate, Encrypted, Opportunistic, Plain};
    use super::*;
    use crate::bridge::TlsaRecord;
    use crate::config::PrimaryTls::{Dane, MtaSts};

    fn policy(mode: Mode) -> Policy {
        Policy { mode, max_age_s: 1, mx: vec!["mail.example.test".to_owned()] }
    }

    fn tlsa(usage: u8) -> Tlsa {
        let record = TlsaRecord { usage, selector: 1, matching: 1, data: vec![0; 32] };
        Tlsa { base: "base.example.test".to_owned(), records: vec![record] }
    }

    fn failed() -> LookupError {
        LookupError::Temporary("SERVFAIL".to_owned())
    }

    const MX: Named = Named::ByExchangers { is_secure: true };
    const CONFIGURED: Named = Named::ByConfiguration;

    #[test]
    fn what_a_host_has_to_show() {
        let name = |name: &str| Host::Name(name.to_owned());
        let mail = || name("mail.example.test");
        let untested = |requirement| Ok(Terms { requirement, tested: Tested::Nothing });
        let tested = |requirement, tested| Ok(Terms { requirement, tested });
        let published = |names: &[&str]| {
            let published = Published::new(&tlsa(3).records, names.iter().copied()).expect("usable");
            untested(Requirement::Published(Arc::new(published), "base.example.test".to_owned()))
        };
        let by_mx = ["base.example.test", "mail.example.test", "example.test"];
        let elsewhere = || name("elsewhere.test");
        let address = || Host::Address([192, 0, 2, 1].into());
        for (row, (tls, host, named, mode, tlsa, expected)) in [
            (PrimaryTls::None, mail(), MX, Some(Mode::Enforce), Ok(Some(tlsa(3))), untested(Plain)),
            (
                PrimaryTls::Opportunistic,
                mail(),
                MX,
                Some(Mode::Enforce),
                Err(failed()),
                untested(Opportunistic),
            ),
            (PrimaryTls::Require, mail(), MX, Some(Mode::Enforce), Ok(None), untested(Encrypted)),
            (MtaSts, mail(), MX, None, Ok(None), untested(Opportunistic)),
            (MtaSts, mail(), MX, Some(Mode::None), Ok(None), untested(Opportunistic)),
            (MtaSts, mail(), MX, Some(Mode::Enforce), Ok(None), untested(Certificate)),
            (MtaSts, mail(), MX, Some(Mode::Testing), Ok(None), tested(Opportunistic, Tested::Certificate)),
            (MtaSts, elsewhere(), MX, Some(Mode::Enforce), Ok(None), Err(Withheld::Unnamed)),
            (MtaSts, elsewhere(), MX, Some(Mode::Testing), Ok(None), tested(Opportunistic, Tested::Unnamed)),
            // What the operator names is the domain's; its certificate is looked at all the same.
            (MtaSts, elsewhere(), CONFIGURED, Some(Mode::Enforce), Ok(None), untested(Certificate)),
            (MtaSts, address(), CONFIGURED, Some(Mode::Enforce), Ok(None), untested(Certificate)),
            // DANE wins, on what the policy does not name too; and is never overruled when it fails.
            (Dane, mail(), MX, Some(Mode::Enforce), Ok(Some(tlsa(3))), published(&by_mx)),
            (Dane, mail(), MX, Some(Mode::Testing), Ok(Some(tlsa(2))), {
                let published = Published::new(&tlsa(2).records, by_mx).expect("usable");
                untested(Requirement::Published(Arc::new(published), "base.example.test".to_owned()))
            }),
            (Dane, mail(), CONFIGURED, None, Ok(Some(tlsa(3))), published(&by_mx[..2])),
            (Dane, mail(), MX, Some(Mode::Enforce), Err(failed()), Err(Withheld::Tlsa(failed()))),
            (Dane, mail(), MX, None, Err(failed()), Err(Withheld::Tlsa(failed()))),
            // None usable: TLS is a must, and the policy says more.
            (Dane, mail(), MX, None, Ok(Some(tlsa(1))), untested(Encrypted)),
            (Dane, mail(), MX, Some(Mode::Enforce), Ok(Some(tlsa(0))), untested(Certificate)),
            (
                Dane,
                mail(),
                MX,
                Some(Mode::Testing),
                Ok(Some(tlsa(0))),
                tested(Encrypted, Tested::Certificate),
            ),
            // None: the policy, if there is one.
            (Dane, mail(), MX, None, Ok(None), untested(Opportunistic)),
            (Dane, mail(), MX, Some(Mode::Enforce), Ok(None), untested(Certificate)),
            (Dane, elsewhere(), MX, Some(Mode::Enforce), Ok(None), Err(Withheld::Unnamed)),
        ]
        .into_iter()
        .enumerate()
        {
            let policy = mode.map(policy);
            assert_eq!(
                terms(tls, "example.test", &host, named, policy.as_ref(), tlsa),
                expected,
                "row {row}"
            );
        }
    }

    #[test]
    fn tlsa_records_are_asked_for_as_far_as_dnssec_leads_to_them() {
        let (name, address) =
            (Host::Name("mail.example.test".to_owned()), Host::Address([192, 0, 2, 1].into()));
        let insecure = Named::ByExchangers { is_secure: false };
        for (tls, named, host, expected) in [
            (Dane, MX, &name, true),
            (Dane, CONFIGURED, &name, true),
            (Dane, insecure, &name, false),
            (Dane, CONFIGURED, &address, false),
            (MtaSts, MX, &name, false),
            (PrimaryTls::Require, MX, &name, false),
        ] {
            assert_eq!(asks_for_tlsa(tls, named, host), expected, "{tls} {named:?} {host:?}");
        }
        assert!(Dane.asks_for_policy() && MtaSts.asks_for_policy() && !PrimaryTls::Require.asks_for_policy());
    }

    #[test]
    fn a_session_counts_as_what_it_showed() {
        assert_eq!(Certificate.transport(true), Transport::VerifiedMtaSts);
        assert_eq!(Opportunistic.transport(true), Transport::Encrypted);
        assert_eq!(Opportunistic.transport(false), Transport::Plain);
        assert!(Encrypted.is_encrypted() && Certificate.is_encrypted() && !Opportunistic.is_encrypted());
    }

    #[test]
    fn a_name_that_no_certificate_can_be_for_gets_nothing_under_an_enforced_policy() {
        let policy = |mode| Policy { mode, max_age_s: 1, mx: vec!["a-.example.test".to_owned()] };
        for host in ["a-.example.test", "192.0.2.1"] {
            let host = Host::Name(host.to_owned());
            let terms =
                |mode| terms(MtaSts, "example.test", &host, CONFIGURED, Some(&policy(mode)), Ok(None));
            assert_eq!(terms(Mode::Enforce), Err(Withheld::NoName));
            assert!(terms(Mode::Testing).is_ok());
        }
    }
}
