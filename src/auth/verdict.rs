//! What a message's header section, the hashes of its body and DNS say together: signatures (RFC 6376), DMARC (RFC 7489; the
//! author's organisation is found as RFC 9989 4.10 says), and whether the reverse-path is proven (P5, H28).

use crate::bridge::MessageQuestion;
use crate::limits::{DKIM_BUDGET, DMARC_BUDGET};
use crate::message::authentication::{Dkim, Dmarc, Policy, SIGNATURES_MAX, Spf, Verdict, is_proof};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hickory_resolver::TokioResolver;
use mail_auth::common::cache::NoCache;
use mail_auth::common::crypto::{Algorithm, HashAlgorithm};
use mail_auth::dkim::{Canonicalization, DkimError};
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, Error, MX, MessageAuthenticator, Parameters,
    RecordSet, ResolverCache, SpfOutput, SpfResult, Txt, dmarc,
};
use tokio::time::timeout;

/// Asks DNS through `resolver`, which keeps answers; at most for [`DKIM_BUDGET`] and [`DMARC_BUDGET`].
pub async fn reach(resolver: &TokioResolver, question: &MessageQuestion, spf: Spf) -> Verdict {
    let authenticator = MessageAuthenticator(resolver.clone());
    judge(&authenticator, question, spf, None::<&NoCache<Box<str>, Txt>>).await
}

/// The same, with a cache of TXT records.
async fn judge<T: ResolverCache<Box<str>, Txt>>(
    authenticator: &MessageAuthenticator,
    question: &MessageQuestion,
    spf: Spf,
    records: Option<&T>,
) -> Verdict {
    let sender = question.reverse_path.rsplit_once('@').map(|(_, domain)| domain);
    // H28: what HELO passes says nothing about a reverse-path.
    let mut verdict =
        Verdict { spf: Some(spf), spf_proves: spf == Spf::Pass && sender.is_some(), ..Verdict::default() };
    let Some(header) = &question.header else { return verdict };
    verdict.dkim_known = true;
    let Some(mut message) = AuthenticatedMessage::parse(header) else { return verdict };
    let places = prepare(&mut message, question);
    let outputs = match timeout(DKIM_BUDGET, authenticator.verify_dkim(cached(&message, records))).await {
        // Those of malformed signatures name none; they are in `places` already.
        Ok(outputs) => outputs.into_iter().filter(|output| output.signature().is_some()).collect(),
        Err(_) => Vec::new(),
    };
    let mut results = outputs.iter();
    for (slot, place) in verdict.dkim.iter_mut().zip(places) {
        *slot = Some(match place {
            Place::Decided(result) => result,
            Place::Asked => results.next().map_or(Dkim::TempError, result_of),
        });
    }
    let passes = outputs.iter().filter(|output| *output.result() == DkimResult::Pass);
    let mut signers = passes.filter_map(DkimOutput::signature).map(|signature| signature.d.as_str());
    verdict.dkim_proves = sender.is_some_and(|domain| signers.any(|signer| is_proof(signer, domain)));
    let identity = sender.unwrap_or(&question.helo);
    let spf_output = SpfOutput::new(identity.to_owned()).with_result(spf_result(spf));
    let parameters = DmarcParameters::new(&message, &outputs, identity, &spf_output);
    match timeout(DMARC_BUDGET, authenticator.verify_dmarc(cached(parameters, records))).await {
        Ok(output) => {
            verdict.dmarc = Some(dmarc_result(&output.result()));
            verdict.policy = output.dmarc_record().map(|_| policy(output.policy()));
        }
        Err(_) => verdict.dmarc = Some(Dmarc::TempError),
    }
    verdict
}

/// A field of a signature.
enum Place {
    /// Its result is known without DNS.
    Decided(Dkim),
    /// Its result comes from the next output.
    Asked,
}

/// Takes out of the message what is not to be verified, puts the hashes in, and tells the fields in their order.
fn prepare(message: &mut AuthenticatedMessage<'_>, question: &MessageQuestion) -> Vec<Place> {
    let mut places = Vec::new();
    let mut asked: Vec<*const u8> = Vec::new();
    let fields = message.headers.iter().filter(|(name, _)| is_signature(name));
    for (_, value) in fields.take(SIGNATURES_MAX) {
        // A field is the same where its value lies at the same place.
        let at = value.as_ptr();
        let parsed = message.dkim_headers.iter().find(|header| header.value.as_ptr() == at);
        let place = match parsed {
            // RFC 8301 3.1: a signature by rsa-sha1 is not believed.
            Some(header) if header.header.a == Algorithm::RsaSha1 => Place::Decided(Dkim::Policy),
            Some(_) => {
                asked.push(at);
                Place::Asked
            }
            None => {
                let error = message.errors.iter().find(|header| header.value.as_ptr() == at);
                let in_part =
                    error.is_some_and(|header| header.header == Error::Dkim(DkimError::SignatureLength));
                Place::Decided(if in_part { Dkim::Policy } else { Dkim::Neutral })
            }
        };
        places.push(place);
    }
    message.dkim_headers.retain(|header| asked.contains(&header.value.as_ptr()));
    message.errors.clear();
    for header in &mut message.dkim_headers {
        // Reports (RFC 6651) and third parties (RFC 6541) would be more lookups, which nobody asked for.
        header.header.r = false;
        header.header.atps = None;
    }
    for (canonicalization, algorithm, length, hash) in &mut message.body_hashes {
        let found = match canonicalization {
            Canonicalization::Relaxed => question.bodies.relaxed,
            Canonicalization::Simple => question.bodies.simple,
        };
        let found = found.filter(|_| *algorithm == HashAlgorithm::Sha256 && *length == 0);
        *hash = found.map_or(Vec::new(), |found| found.to_vec());
    }
    places
}

fn is_signature(name: &[u8]) -> bool {
    name.trim_ascii().eq_ignore_ascii_case(b"dkim-signature")
}

pub(super) type Asked<'x, P, T> = Parameters<
    'x,
    P,
    T,
    NoCache<Box<str>, RecordSet<MX>>,
    NoCache<Box<str>, RecordSet<Ipv4Addr>>,
    NoCache<Box<str>, RecordSet<Ipv6Addr>>,
    NoCache<IpAddr, RecordSet<Box<str>>>,
>;

pub(super) fn cached<'x, P, T: ResolverCache<Box<str>, Txt>>(
    params: P,
    records: Option<&'x T>,
) -> Asked<'x, P, T> {
    Parameters {
        params,
        cache_txt: records,
        cache_mx: None,
        cache_ptr: None,
        cache_ipv4: None,
        cache_ipv6: None,
    }
}

/// RFC 8601 2.7.1: a hash that differs is `fail`; what cannot be judged is `neutral`.
fn result_of(output: &DkimOutput<'_>) -> Dkim {
    match output.result() {
        DkimResult::Pass => Dkim::Pass,
        DkimResult::Fail(_) | DkimResult::Neutral(Error::Dkim(DkimError::FailedBodyHashMatch)) => Dkim::Fail,
        DkimResult::Neutral(_) | DkimResult::None => Dkim::Neutral,
        DkimResult::PermError(_) => Dkim::PermError,
        DkimResult::TempError(_) => Dkim::TempError,
    }
}

const fn spf_result(spf: Spf) -> SpfResult {
    match spf {
        Spf::None => SpfResult::None,
        Spf::Neutral => SpfResult::Neutral,
        Spf::Pass => SpfResult::Pass,
        Spf::Fail => SpfResult::Fail,
        Spf::SoftFail => SpfResult::SoftFail,
        Spf::TempError => SpfResult::TempError,
        Spf::PermError => SpfResult::PermError,
    }
}

const fn dmarc_result(result: &DmarcResult) -> Dmarc {
    match result {
        DmarcResult::None => Dmarc::None,
        DmarcResult::Pass => Dmarc::Pass,
        DmarcResult::Fail(_) => Dmarc::Fail,
        DmarcResult::TempError(_) => Dmarc::TempError,
        DmarcResult::PermError(_) => Dmarc::PermError,
    }
}

const fn policy(policy: dmarc::Policy) -> Policy {
    match policy {
        dmarc::Policy::Quarantine => Policy::Quarantine,
        dmarc::Policy::Reject => Policy::Reject,
        dmarc::Policy::None | dmarc::Policy::Unspecified => Policy::None,
    }
}

#[cfg(test)]
pub(super) mod tests;
