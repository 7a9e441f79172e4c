//! Sealing what is handed over (RFC 8617): who trusts the seal may believe what we found out about a message's origin, though the message comes
//! to him from us. Cryptography and the reading of chains are mail-auth's.
//!
//! Promises: a chain that came with a message is only gone on with if it was looked into and holds. Where DNS did not answer, or the chain is malformed or
//! broken, there is no seal. Nothing but our own seal is added, nothing is changed.

use super::verdict::cached;
use crate::bridge::{BodyHashes, SealQuestion};
use crate::limits::ARC_BUDGET;
use hickory_resolver::TokioResolver;
use mail_auth::arc::ArcSealer;
use mail_auth::common::cache::NoCache;
use mail_auth::common::crypto::{DkimKey, Ed25519Key, HashAlgorithm, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::Canonicalization;
use mail_auth::{
    AuthenticatedMessage, AuthenticationResults, DkimResult, MessageAuthenticator, ResolverCache, Txt,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

/// Fields that the seal covers: what people see, and what other signatures say (RFC 8617 4.1.2, RFC 6376 5.4.1). None that servers
/// behind us add or change.
const COVERED: [&str; 14] = [
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "DKIM-Signature",
];

/// Longest chain (RFC 8617 4.2.1, 5.1.1).
const SETS_MAX: usize = 49;

/// Whether a file has a key that can sign: RSA of 2048 bits or more (RFC 8301 3.2 says at least 1024), or Ed25519, as PEM.
///
/// # Errors
/// What is wrong with it.
pub fn check(pem: &[u8]) -> Result<(), String> {
    key(pem).map(drop)
}

fn key(pem: &[u8]) -> Result<DkimKey, String> {
    let der =
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key in PEM: {error}"))?;
    if let PrivateKeyDer::Pkcs8(der) = &der
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
    {
        return Ok(DkimKey::Ed25519(key));
    }
    let key = RsaKey::<Sha256>::from_key_der(der);
    key.map(DkimKey::Rsa)
        .map_err(|error| format!("neither an RSA key of 2048 bits or more nor Ed25519: {error}"))
}

/// The fields of a seal; `None`: there can be none.
pub async fn seal(resolver: &TokioResolver, question: &SealQuestion) -> Option<String> {
    let authenticator = MessageAuthenticator(resolver.clone());
    made(&authenticator, question, None::<&NoCache<Box<str>, Txt>>).await
}

async fn made<T: ResolverCache<Box<str>, Txt>>(
    authenticator: &MessageAuthenticator,
    question: &SealQuestion,
    records: Option<&T>,
) -> Option<String> {
    let mut message = AuthenticatedMessage::parse(&question.header)?;
    put_in(&mut message, question.bodies);
    let chain = timeout(ARC_BUDGET, authenticator.verify_arc(cached(&message, records))).await.ok()?;
    let sets = message.as_headers.len();
    let is_whole = !message.has_arc_errors
        && sets <= SETS_MAX
        && (message.ams_headers.len(), message.aar_headers.len()) == (sets, sets);
    // RFC 8617 5.1.2 would have a seal behind a chain that failed cover itself alone, which mail-auth does not; it says nothing that helps anybody.
    if !is_whole || !matches!(chain.result(), DkimResult::None | DkimResult::Pass) {
        return None;
    }
    // mail-auth signs these words as they are: canonical at once, and folded below, which changes nothing (RFC 6376 3.4.2).
    let said = format!("{}{}", question.hostname, question.results);
    let said = said.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let results = AuthenticationResults::new(&said).with_arc_result(&chain, question.client);
    let key = key(&question.key.pem).ok()?;
    let sealer = ArcSealer::from_key(key)
        .domain(question.key.domain.as_str())
        .selector(question.key.selector.as_str())
        .headers(COVERED)
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Relaxed);
    let set = sealer.seal(&message, &results, &chain).ok()?;
    Some(folded(&set.to_header()))
}

/// The last field of a set, the results, with each on a line of its own.
fn folded(set: &str) -> String {
    const RESULTS: &str = "ARC-Authentication-Results: ";
    let (fields, results) = set.rsplit_once(RESULTS).unwrap_or((set, ""));
    let (instance, results) = results.split_once("; ").unwrap_or(("", results));
    format!("{fields}{RESULTS}{instance}; {}", results.replace("; ", ";\r\n\t"))
}

/// The message has no body here: the hashes are those of the one that is stored.
fn put_in(message: &mut AuthenticatedMessage<'_>, bodies: BodyHashes) {
    for (canonicalization, algorithm, length, hash) in &mut message.body_hashes {
        let found = match canonicalization {
            Canonicalization::Relaxed => bodies.relaxed,
            Canonicalization::Simple => bodies.simple,
        };
        let found = found.filter(|_| *algorithm == HashAlgorithm::Sha256 && *length == 0);
        *hash = found.map_or(Vec::new(), |found| found.to_vec());
    }
    let of_seal = (Canonicalization::Relaxed, HashAlgorithm::Sha256, 0);
    let is_there = message.body_hashes.iter().any(|(c, a, l, _)| (*c, *a, *l) == of_seal);
    if !is_there && let Some(relaxed) = bodies.relaxed {
        message.body_hashes.push((of_seal.0, of_seal.1, of_seal.2, relaxed.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::BodyHashing;
    use super::super::verdict::tests::Records;
    use super::*;
    use crate::bridge::SealKey;
    use hickory_resolver::config::{ResolverConfig, ResolverOpts};
    use std::sync::Arc;

    const RSA: &[u8] = include_bytes!("arc/rsa.pem");
    const ED25519: &[u8] = include_bytes!("arc/ed25519.pem");
    const MESSAGE: &str = "From: a@example.org\r\nSubject:  two\r\n\tlines\r\nDate: Sun, 22 Nov 2026 20:00:00 +0000\r\n\
                           \r\nbody  \r\n..dot\r\n\r\n\r\n";

    fn keys() -> Records {
        let rsa = format!("v=DKIM1; k=rsa; p={}", include_str!("arc/rsa.pub"));
        let ed25519 = format!("v=DKIM1; k=ed25519; p={}", include_str!("arc/ed25519.pub"));
        Records::default().key("r1._domainkey.mx.test", &rsa).key("e1._domainkey.other.test", &ed25519)
    }

    fn authenticator() -> MessageAuthenticator {
        let config = ResolverConfig::from_name_servers(Vec::new());
        MessageAuthenticator::new(config, ResolverOpts::default()).unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    /// A message as it is stored, sealed.
    fn sealed(message: &str, (domain, selector, pem): (&str, &str, &[u8])) -> Option<String> {
        let mut hashing = BodyHashing::relaxed();
        message.as_bytes().chunks(7).for_each(|piece| hashing.write(piece));
        let hashed = hashing.finish();
        let key = SealKey { domain: domain.to_owned(), selector: selector.to_owned(), pem: pem.to_vec() };
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let question = SealQuestion {
            header: hashed.header.unwrap(),
            bodies: hashed.bodies,
            hostname: "mx2.test".to_owned(),
            results: ";\r\n\tspf=pass smtp.mailfrom=a@example.org;\r\n\tdkim=none".to_owned(),
            client: [192, 0, 2, 7].into(),
            key: Arc::new(key),
            answer: async_channel::bounded(1).0,
        };
        run(async { made(&authenticator(), &question, Some(&keys())).await })
    }

    /// What somebody who trusts nobody finds, with the message whole and unstuffed.
    fn verified(message: &str) -> DkimResult {
        let whole = message.replace("\r\n..", "\r\n.");
        let parsed = AuthenticatedMessage::parse(whole.as_bytes()).unwrap();
        run(async { authenticator().verify_arc(cached(&parsed, Some(&keys()))).await.result().clone() })
    }

    const OURS: (&str, &str, &[u8]) = ("mx.test", "r1", RSA);
    const OTHERS: (&str, &str, &[u8]) = ("other.test", "e1", ED25519);

    #[test]
    fn a_seal_holds_for_the_message_as_it_goes_and_for_no_other() {
        for key in [OURS, OTHERS] {
            let seal = sealed(MESSAGE, key).expect("it is sealed");
            assert!(seal.contains("ARC-Seal: i=1;") && seal.contains("cv=none"), "{seal}");
            let results = "ARC-Authentication-Results: i=1; mx2.test;\r\n\tspf=pass smtp.mailfrom=a@example.org;\r\n\tdkim=none;\r\n\tarc=none";
            assert!(seal.contains(results) && seal.ends_with("\r\n"), "{seal}");
            let whole = format!("{seal}Received: x\r\n{MESSAGE}");
            assert_eq!(verified(&whole), DkimResult::Pass);
            for (what, by) in
                [("body", "bodY"), ("two", "too"), ("spf=pass", "spf=fail"), ("..dot", "..dots")]
            {
                assert_ne!(verified(&whole.replacen(what, by, 1)), DkimResult::Pass, "{what}");
            }
        }
    }

    #[test]
    fn a_chain_is_gone_on_with_if_it_holds() {
        let first = format!("{}{MESSAGE}", sealed(MESSAGE, OTHERS).unwrap());
        let second = sealed(&first, OURS).expect("it is sealed");
        assert!(second.contains("ARC-Seal: i=2;") && second.contains("cv=pass"), "{second}");
        assert!(second.contains("arc=pass"), "{second}");
        assert_eq!(verified(&format!("{second}{first}")), DkimResult::Pass);
        // Somebody changed the message on the way.
        let changed = first.replacen("body", "bodY", 1);
        assert_eq!(sealed(&changed, OURS), None);
        let says_so = first.replacen("cv=none", "cv=fail", 1);
        assert_eq!(sealed(&says_so, OURS), None);
        // A chain that is none, or was cut, is not begun anew.
        for cut in ["ARC-Seal:", "ARC-Message-Signature:", "ARC-Authentication-Results:"] {
            assert_eq!(sealed(&first.replacen(cut, "X-Cut:", 1), OURS), None, "{cut}");
        }
        assert_eq!(sealed(&first.replacen("i=1;", "i=x;", 1), OURS), None);
    }

    #[test]
    fn only_what_can_sign_is_a_key() {
        assert_eq!((check(RSA), check(ED25519)), (Ok(()), Ok(())));
        let error = check(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err();
        assert!(error.starts_with("no private key in PEM"), "{error}");
        assert!(check(b"").is_err());
        let short = String::from_utf8_lossy(ED25519).replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vx");
        assert!(check(short.as_bytes()).unwrap_err().starts_with("neither an RSA key"));
    }
}
