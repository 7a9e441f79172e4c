//! What of an answer that was validated is of the name that was asked for: pure functions of its sections.
//!
//! The validation looks at each set of records alone: one that anybody's zone signed is as secure as ours.

use super::ALIASES_MAX;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// An answer.
#[derive(Clone, Copy)]
pub(super) struct Sections<'a> {
    pub(super) answers: &'a [Record],
    pub(super) authorities: &'a [Record],
}

/// The records that were asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Found {
    /// At least one.
    pub(super) records: Vec<Record>,
    /// Whose they are: where the aliases of the name that was asked for lead.
    pub(super) end: Name,
    /// Whether they are secure, and the aliases.
    pub(super) is_secure: bool,
    /// Whether the first alias is; without one they are.
    pub(super) begins_secure: bool,
}

/// The records of `kind` that aliases lead to from `asked`; `None`: there are none, or one of the sets is neither secure nor insecure.
/// `is_denied`: whether the validation vouches for the denials beside them.
pub(super) fn found(
    asked: &Name,
    kind: RecordType,
    sections: Sections<'_>,
    is_denied: bool,
) -> Option<Found> {
    let mut end = asked.clone();
    let (mut is_secure, mut begins_secure) = (true, None);
    for _ in 0..=ALIASES_MAX {
        let (records, is_end) = match set(sections.answers, &end, kind) {
            records if records.is_empty() => (set(sections.answers, &end, RecordType::CNAME), false),
            records => (records, true),
        };
        let is_set_secure = security(&records, asked, sections, is_denied)?;
        is_secure &= is_set_secure;
        let begins_secure = *begins_secure.get_or_insert(is_set_secure);
        if is_end {
            let records = records.into_iter().cloned().collect();
            return Some(Found { records, end, is_secure, begins_secure });
        }
        let [Record { data: RData::CNAME(alias), .. }] = records[..] else { return None };
        end = alias.0.clone();
    }
    None
}

/// Whether a denial about `name` is secure; `None`: it is neither that nor insecure. A secure one is that of the zone whose SOA it comes with;
/// whether it denies this the validation has looked at.
pub(super) fn denied(name: &Name, authorities: &[Record]) -> Option<bool> {
    let mut zones = authorities.iter().filter(|record| record.record_type() == RecordType::SOA);
    if denials(authorities).next().is_some() {
        let zone = &zones.clone().find(|record| record.proof == Proof::Secure)?.name;
        let is_zones = |record: &Record| {
            signature(authorities, record).is_some_and(|by| by.input().signer_name == *zone)
        };
        let is_theirs = zones.filter(|record| record.proof == Proof::Secure).all(is_zones)
            && denials(authorities).all(is_zones);
        return (zone.zone_of(name) && is_theirs).then_some(true);
    }
    // Whoever can forge a denial could put some unsigned stranger's SOA beside it.
    zones.any(|record| record.proof == Proof::Insecure && record.name.zone_of(name)).then_some(false)
}

fn set<'a>(records: &'a [Record], owner: &Name, kind: RecordType) -> Vec<&'a Record> {
    records.iter().filter(|record| record.record_type() == kind && record.name == *owner).collect()
}

/// Whether a set is secure; `None`: it is neither that nor insecure.
fn security(set: &[&Record], asked: &Name, sections: Sections<'_>, is_denied: bool) -> Option<bool> {
    let first = set.first()?;
    if set.iter().any(|record| record.proof != first.proof) {
        return None;
    }
    match first.proof {
        Proof::Insecure => Some(false),
        Proof::Secure => {
            let signature = signature(sections.answers, first)?.input();
            if signature.num_labels >= first.name.num_labels() {
                return Some(true);
            }
            // RFC 4035 5.3.4: what a wildcard stands for must not exist itself. That was looked at for the name that was asked for, by
            // whatever denials there are: all must be that zone's.
            let mut denials = denials(sections.authorities).peekable();
            let is_zones = |record: &Record| {
                let by = self::signature(sections.authorities, record);
                by.is_some_and(|by| by.input().signer_name == signature.signer_name)
            };
            (first.name == *asked && denials.peek().is_some() && denials.all(is_zones)).then_some(is_denied)
        }
        Proof::Bogus | Proof::Indeterminate => None,
    }
}

fn denials(authorities: &[Record]) -> impl Iterator<Item = &Record> {
    let denies = |record: &&Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    authorities.iter().filter(denies).filter(|record| record.proof == Proof::Secure)
}

/// What the validation found a record's set to be signed by.
fn signature<'a>(section: &'a [Record], record: &Record) -> Option<&'a RRSIG> {
    section.iter().find_map(|candidate| match &candidate.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature))
            if candidate.name == record.name
                && candidate.proof == Proof::Secure
                && signature.input().type_covered == record.record_type() =>
        {
            Some(signature)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use hickory_resolver::proto::dnssec::Algorithm;
    use hickory_resolver::proto::dnssec::rdata::NSEC;
    use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn address(owner: &str, last: u8, proof: Proof) -> Record {
        record(owner, RData::A(A(Ipv4Addr::new(192, 0, 2, last))), proof)
    }

    fn alias(owner: &str, to: &str, proof: Proof) -> Record {
        record(owner, RData::CNAME(CNAME(name(to))), proof)
    }

    fn nsec(owner: &str) -> Record {
        let nsec = NSEC::new(name("next.test."), [RecordType::A]);
        record(owner, RData::DNSSEC(DNSSECRData::NSEC(nsec)), Proof::Secure)
    }

    fn soa(zone: &str, proof: Proof) -> Record {
        record(zone, RData::SOA(SOA::new(name("ns.test."), name("admin.test."), 1, 60, 60, 60, 0)), proof)
    }

    /// The record, and the signature of a zone over it; `num_labels` fewer than it has: by a wildcard.
    fn by(zone: &str, num_labels: u8, record: Record) -> [Record; 2] {
        let input = SigInput {
            type_covered: record.record_type(),
            algorithm: Algorithm::ED25519,
            num_labels,
            original_ttl: 60,
            sig_expiration: SerialNumber::new(2),
            sig_inception: SerialNumber::new(1),
            key_tag: 1,
            signer_name: name(zone),
        };
        let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, Vec::new())));
        let mut signature = Record::from_rdata(record.name.clone(), 60, data);
        signature.proof = Proof::Secure;
        [record, signature]
    }

    fn signed(zone: &str, record: Record) -> [Record; 2] {
        let labels = record.name.num_labels();
        by(zone, labels, record)
    }

    fn look(answers: &[Record], authorities: &[Record]) -> Option<Found> {
        found(&name("mail.us.test."), RecordType::A, Sections { answers, authorities }, true)
    }

    const MAIL: &str = "mail.us.test.";
    use Proof::{Bogus, Indeterminate, Insecure, Secure};

    #[test]
    fn a_stranger_s_records_are_neither_used_nor_judged() {
        let own = signed("us.test.", address(MAIL, 1, Secure));
        let theirs = signed("evil.test.", address("evil.test.", 9, Secure));
        let only = look(&own, &[]).expect("secure");
        assert!(only.is_secure && only.records == own[..1] && only.end == name(MAIL));
        assert_eq!(look(&[theirs.clone(), own.clone()].concat(), &[]), Some(only.clone()));
        let unsigned = [address("plain.test.", 9, Insecure), alias("x.plain.test.", MAIL, Insecure)];
        assert_eq!(look(&[&unsigned[..], &own].concat(), &[]), Some(only));
        assert_eq!(look(&theirs, &[]), None, "nothing of ours");
    }

    #[test]
    fn aliases_are_followed_from_the_name_on() {
        let first = signed("us.test.", alias(MAIL, "host.them.test.", Secure));
        let stray = signed("evil.test.", alias("a.evil.test.", "b.evil.test.", Secure));
        let last = signed("them.test.", address("host.them.test.", 1, Secure));
        let chain = look(&[last.clone(), stray, first.clone()].concat(), &[]).expect("secure");
        assert!(chain.is_secure && chain.begins_secure && chain.end == name("host.them.test."));
        let plain = address("host.them.test.", 1, Insecure);
        let chain = look(&[&first[..], &[plain]].concat(), &[]).expect("insecure");
        assert!(!chain.is_secure && chain.begins_secure);
        let chain = look(&[&[alias(MAIL, "host.them.test.", Insecure)][..], &last].concat(), &[]);
        assert!(chain.is_some_and(|chain| !chain.is_secure && !chain.begins_secure));
        assert_eq!(look(&first, &[]), None, "it leads nowhere");
        assert_eq!(look(&signed("us.test.", alias(MAIL, MAIL, Secure)), &[]), None, "a circle");
        for proof in [Bogus, Indeterminate] {
            assert_eq!(look(&[&first[..], &[address("host.them.test.", 1, proof)]].concat(), &[]), None);
        }
        assert_eq!(look(&first[..1], &[]), None, "its signature is not there");
    }

    #[test]
    fn a_wildcard_counts_with_its_zone_s_word_that_it_stands_for_the_name() {
        let wild = by("us.test.", 2, address(MAIL, 1, Secure));
        assert_eq!(look(&wild, &[]), None, "played again");
        let stranger = [soa("plain.test.", Insecure)];
        assert_eq!(look(&wild, &stranger), None, "the validation looks no further then");
        let (ours, theirs) =
            (signed("us.test.", nsec("a.us.test.")), signed("evil.test.", nsec("evil.test.")));
        assert!(look(&wild, &ours).is_some_and(|found| found.is_secure));
        assert_eq!(look(&wild, &theirs), None);
        assert_eq!(look(&wild, &[ours.clone(), theirs].concat()), None);
        let sections = Sections { answers: &wild, authorities: &ours };
        let unproven = found(&name(MAIL), RecordType::A, sections, false).expect("insecure");
        assert!(!unproven.is_secure, "too many iterations");
        // It was looked at for the name that was asked for only.
        let first = signed("us.test.", alias(MAIL, "host.us.test.", Secure));
        let last = by("us.test.", 2, address("host.us.test.", 1, Secure));
        assert_eq!(look(&[first, last].concat(), &ours), None);
    }

    #[test]
    fn a_denial_is_its_zone_s() {
        let (ours, theirs) =
            (signed("us.test.", nsec("a.us.test.")), signed("evil.test.", nsec("evil.test.")));
        let (us, evil) =
            (signed("us.test.", soa("us.test.", Secure)), signed("evil.test.", soa("evil.test.", Secure)));
        let below = signed("sub.us.test.", nsec("a.sub.us.test."));
        let mail = |sets: &[&[Record]]| denied(&name(MAIL), &sets.concat());
        assert_eq!(mail(&[&ours, &us]), Some(true));
        for sets in [
            &[&ours[..]][..],
            &[&theirs],
            &[&theirs, &evil],
            &[&theirs, &us],
            &[&ours, &us, &theirs],
            &[&ours, &us, &evil],
            &[&evil, &us, &ours],
            &[&below, &us],
            &[&theirs, &[soa("us.test.", Insecure)]],
            &[&[soa("plain.test.", Insecure)]],
            &[&[soa("us.test.", Bogus)]],
            &[],
        ] {
            assert_eq!(mail(sets), None, "{sets:?}");
        }
        assert_eq!(mail(&[&[soa("us.test.", Insecure)]]), Some(false));
    }
}
