use super::*;
use crate::auth::body::BodyHashing;
use crate::bridge::Stored;
use core::borrow::Borrow;
use core::hash::Hash;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::ResponseCode;
use mail_auth::DnsError;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::DkimSigner;
use mail_auth::dmarc::Dmarc as DmarcRecord;
use std::collections::HashMap;
use std::time::Instant;

/// TXT records by name; others do not exist, those below `dead.test` get no answer.
#[derive(Default)]
pub(in crate::auth) struct Records(HashMap<String, Txt>);

impl Records {
    pub(in crate::auth) fn key(mut self, name: &str, text: &str) -> Self {
        let key = DomainKey::parse(text.as_bytes()).expect("a key record");
        self.0.insert(format!("{name}."), Txt::DomainKey(key.into()));
        self
    }

    fn policy(mut self, domain: &str, text: &str) -> Self {
        let record = DmarcRecord::parse(text.as_bytes()).expect("a policy record");
        self.0.insert(format!("_dmarc.{domain}."), Txt::Dmarc(record.into()));
        self
    }
}

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let known = self.0.iter().find(|(known, _)| {
            let known: Box<str> = known.as_str().into();
            let borrowed: &Q = known.borrow();
            borrowed == name
        });
        let absent = || Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
        Some(known.map_or_else(absent, |(_, record)| record.clone()))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

/// The verdict on a message that came in pieces of 100 octets.
fn verdict(records: &Records, message: &str, reverse_path: &str, spf: Spf) -> Verdict {
    let mut hashing = BodyHashing::default();
    message.as_bytes().chunks(100).for_each(|piece| hashing.write(piece));
    let hashed = hashing.finish();
    let question = MessageQuestion {
        stored: Stored { queue_id: 1, stamp: 1, domains: Vec::new() },
        reverse_path: reverse_path.to_owned(),
        helo: "helo.test".to_owned(),
        header: hashed.header,
        bodies: hashed.bodies,
        spf: async_channel::bounded(1).1,
        answer: async_channel::bounded(1).0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = ResolverConfig::from_name_servers(Vec::new());
        let authenticator = MessageAuthenticator::new(config, ResolverOpts::default()).unwrap();
        judge(&authenticator, &question, spf, Some(records)).await
    })
}

/// RFC 8463 appendix A.3: both of its signatures are of one message, and made by the rules of RFC 6376.
const RFC_8463: &str = include_str!("../../../tests/integration/rfc_8463.eml");

fn rfc_8463_keys() -> Records {
    Records::default()
        .key(
            "brisbane._domainkey.football.example.com",
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        )
        .key(
            "test._domainkey.football.example.com",
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
        )
}

fn dkim(verdict: &Verdict) -> Vec<&'static str> {
    verdict.dkim.iter().flatten().map(|result| result.word()).collect()
}

#[test]
fn rfc_8463_a_3_both_signatures_are_valid_and_prove_their_domain() {
    let records = rfc_8463_keys().policy("football.example.com", "v=DMARC1; p=reject");
    let found = verdict(&records, RFC_8463, "joe@football.example.com", Spf::SoftFail);
    let text = "spf=softfail dkim=pass,pass dmarc=pass policy=reject proven=dkim";
    assert_eq!(found.to_string(), text);
    // One octet of the body, one of a signed field.
    let body = verdict(&records, &RFC_8463.replace("Joe.", "Jim."), "joe@football.example.com", Spf::None);
    assert_eq!(body.to_string(), "spf=none dkim=fail,fail dmarc=fail policy=reject proven=no");
    let field =
        verdict(&records, &RFC_8463.replace("dinner", "supper"), "joe@football.example.com", Spf::None);
    assert_eq!(dkim(&field), ["fail", "fail"]);
    // A field that is not signed.
    let added = verdict(&records, &format!("X: y\r\n{RFC_8463}"), "joe@football.example.com", Spf::None);
    assert_eq!(dkim(&added), ["pass", "pass"]);
}

#[test]
fn h28_a_valid_signature_of_another_domain_proves_nothing() {
    let records = rfc_8463_keys();
    for (reverse_path, proven) in [
        ("joe@football.example.com", true),
        ("bounce+1@mail.football.example.com", true),
        ("victim@example.com", false),
        ("victim@victim.example", false),
        ("", false),
    ] {
        let found = verdict(&records, RFC_8463, reverse_path, Spf::Fail);
        assert_eq!(dkim(&found), ["pass", "pass"]);
        assert_eq!(found.proves_reverse_path(), proven, "{reverse_path}");
    }
}

#[test]
fn h28_spf_proves_a_reverse_path_that_there_is_and_only_by_a_pass() {
    let mail = "From: a@b.test\r\n\r\nbody\r\n";
    let records = Records::default().policy("b.test", "v=DMARC1; p=quarantine");
    let proven = |reverse_path, spf| verdict(&records, mail, reverse_path, spf).proves_reverse_path();
    assert!(proven("a@b.test", Spf::Pass));
    assert!(!proven("", Spf::Pass), "that was HELO");
    for spf in [Spf::None, Spf::Neutral, Spf::Fail, Spf::SoftFail, Spf::TempError, Spf::PermError] {
        assert!(!proven("a@b.test", spf), "{spf:?}");
    }
    let found = verdict(&records, mail, "a@b.test", Spf::Pass);
    assert_eq!(found.to_string(), "spf=pass dkim=none dmarc=pass policy=quarantine proven=spf");
    let found = verdict(&records, mail, "a@other.test", Spf::Pass);
    assert_eq!(
        found.to_string(),
        "spf=pass dkim=none dmarc=fail policy=quarantine proven=spf",
        "not aligned"
    );
    let found = verdict(&Records::default(), mail, "a@b.test", Spf::None);
    assert_eq!(found.to_string(), "spf=none dkim=none dmarc=none proven=no");
}

#[test]
fn signatures_that_are_not_believed_are_told_apart_and_in_order() {
    let signature = |rest: &str| {
        format!("DKIM-Signature: v=1; d=football.example.com; s=test; h=from; bh=AAAA; b=AAAA; {rest}\r\n")
    };
    let first = [
        signature("a=rsa-sha1"),
        signature("a=rsa-sha256; l=3"),
        "DKIM-Signature: nonsense\r\n".to_owned(),
        signature("a=rsa-sha256; x=5; t=4"),
    ];
    let message = first.concat() + RFC_8463;
    let found = verdict(&rfc_8463_keys(), &message, "joe@football.example.com", Spf::None);
    assert_eq!(dkim(&found), ["policy", "policy", "neutral", "neutral", "pass", "pass"]);
    assert!(found.dkim_proves);
    // Without its key there is nothing to verify with.
    let found = verdict(&Records::default(), RFC_8463, "joe@football.example.com", Spf::None);
    assert_eq!((dkim(&found), found.dkim_proves), (vec!["permerror", "permerror"], false));
    // Of many, those beyond the bound are not looked at.
    let many = signature("a=rsa-sha256").repeat(SIGNATURES_MAX) + RFC_8463;
    let found = verdict(&rfc_8463_keys(), &many, "joe@football.example.com", Spf::None);
    assert_eq!((dkim(&found).len(), found.dkim_proves), (SIGNATURES_MAX, false));
}

#[test]
fn what_a_signer_signs_is_valid_in_either_form() {
    let pair = Ed25519Key::generate_pkcs8().unwrap();
    let key = || Ed25519Key::from_pkcs8_der(&pair).unwrap();
    let record = format!("v=DKIM1; k=ed25519; p={}", base64(&key().public_key()));
    let records = Records::default().key("s._domainkey.a.test", &record);
    let message = "From: x@a.test\r\nSubject:  two   words\r\n\r\nline \t one  \r\n\r\n\r\n";
    for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
        let mut signer =
            DkimSigner::from_key(key()).domain("a.test").selector("s").headers(["From", "Subject"]);
        (signer.template.ch, signer.template.cb) = (form, form);
        let signed = signer.sign(message.as_bytes()).unwrap().to_header() + message;
        let found = verdict(&records, &signed, "bounce@a.test", Spf::None);
        assert_eq!(found.to_string(), "spf=none dkim=pass dmarc=none proven=dkim", "{form:?}");
    }
}

/// RFC 4648 4, of 32 octets.
fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..4 {
            let place = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() { char::from(DIGITS[place]) } else { '=' });
        }
    }
    text
}

#[test]
fn a_header_section_that_was_not_kept_and_one_that_is_none_are_no_verdict() {
    let long = format!("X: {}\r\n{RFC_8463}", "y".repeat(crate::limits::HEADER_KEPT_OCTETS_MAX));
    let found = verdict(&rfc_8463_keys(), &long, "joe@football.example.com", Spf::Fail);
    assert_eq!(found.to_string(), "spf=fail dkim=unknown dmarc=unknown proven=no");
    for odd in ["", "\r\n", "\r\nbody\r\n", "no colon\r\n\r\n", "From: a@b.test, c@d.test\r\n\r\n"] {
        let found = verdict(&rfc_8463_keys(), odd, "joe@football.example.com", Spf::None);
        assert!(!found.proves_reverse_path() && dkim(&found).is_empty(), "{odd:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_header_section_panics(odd: Vec<u8>, text in "[A-Za-z:;=,<>@. \r\n-]{0,200}") {
        for header in [odd, format!("DKIM-Signature: {text}\r\nFrom: {text}\r\n\r\n").into_bytes()] {
            if let Some(message) = AuthenticatedMessage::parse(&header) {
                proptest::prop_assert!(message.headers.len() <= header.len());
            }
        }
    }
}
