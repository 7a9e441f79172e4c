use super::*;
use futures_lite::future::block_on;
use std::collections::HashMap;

/// A zone: records by type and name.
#[derive(Default)]
struct Zone(HashMap<(&'static str, String), Vec<&'static str>>);

impl Zone {
    fn of(lines: &[&'static str]) -> Self {
        let mut zone = Self::default();
        for line in lines {
            let mut parts = line.splitn(3, ' ');
            let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
            let known = zone.0.entry((kind, name.to_owned())).or_default();
            known.push(parts.next().unwrap());
        }
        zone
    }

    fn find(&self, kind: &'static str, name: &str) -> Result<Vec<&'static str>, DnsError> {
        assert!(!name.ends_with('.') && !name.is_empty(), "{name}");
        if name.starts_with("dead.") {
            return Err(DnsError::Temporary);
        }
        self.0.get(&(kind, name.to_owned())).cloned().ok_or(DnsError::NotFound)
    }
}

impl Dns for Zone {
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError> {
        Ok(self.find("TXT", name)?.into_iter().map(|text| text.as_bytes().to_vec()).collect())
    }
    async fn a(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError> {
        Ok(self.find("A", name)?.into_iter().map(|text| text.parse().unwrap()).collect())
    }
    async fn aaaa(&self, name: &str) -> Result<Vec<Ipv6Addr>, DnsError> {
        Ok(self.find("AAAA", name)?.into_iter().map(|text| text.parse().unwrap()).collect())
    }
    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsError> {
        Ok(self.find("MX", name)?.into_iter().map(str::to_owned).collect())
    }
    async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        Ok(self.find("PTR", &address.to_string())?.into_iter().map(str::to_owned).collect())
    }
}

/// The zone of RFC 7208 appendix A.
const RFC_7208_A: [&str; 18] = [
    "example.com MX mail-a.example.com",
    "example.com MX mail-b.example.com",
    "example.com A 192.0.2.10",
    "example.com A 192.0.2.11",
    "amy.example.com A 192.0.2.65",
    "bob.example.com A 192.0.2.66",
    "mail-a.example.com A 192.0.2.129",
    "mail-b.example.com A 192.0.2.130",
    "www.example.com A 192.0.2.10",
    "example.org MX mail-c.example.org",
    "mail-c.example.org A 192.0.2.140",
    "192.0.2.10 PTR example.com",
    "192.0.2.65 PTR amy.example.com",
    "192.0.2.66 PTR bob.example.com",
    "192.0.2.129 PTR mail-a.example.com",
    "192.0.2.140 PTR mail-c.example.org",
    "10.0.0.4 PTR bob.example.com",
    "mary.mobile-users._spf.example.com A 127.0.0.2",
];

fn result_in(zone: &Zone, client: &str, helo: &str, reverse_path: &str) -> Spf {
    let client = client.parse().unwrap();
    block_on(check(zone, &Identity { client, helo, reverse_path, receiver: "mx2.example.net" }))
}

fn result(records: &[&'static str], client: &str, reverse_path: &str) -> Spf {
    let zone = Zone::of(&[&RFC_7208_A[..], records].concat());
    result_in(&zone, client, "mail-a.example.com", reverse_path)
}

#[test]
fn rfc_7208_a_1_simple_examples() {
    let with = |record: &'static str, client: &str| result(&[record], client, "strong-bad@example.com");
    for (record, client, expected) in [
        ("example.com TXT v=spf1 +all", "192.0.2.1", Spf::Pass),
        ("example.com TXT v=spf1 a -all", "192.0.2.10", Spf::Pass),
        ("example.com TXT v=spf1 a -all", "192.0.2.11", Spf::Pass),
        ("example.com TXT v=spf1 a -all", "192.0.2.65", Spf::Fail),
        ("example.com TXT v=spf1 a:example.org -all", "192.0.2.10", Spf::Fail),
        ("example.com TXT v=spf1 mx -all", "192.0.2.129", Spf::Pass),
        ("example.com TXT v=spf1 mx -all", "192.0.2.130", Spf::Pass),
        ("example.com TXT v=spf1 mx -all", "192.0.2.10", Spf::Fail),
        ("example.com TXT v=spf1 mx:example.org -all", "192.0.2.140", Spf::Pass),
        ("example.com TXT v=spf1 mx mx:example.org -all", "192.0.2.140", Spf::Pass),
        ("example.com TXT v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.131", Spf::Pass),
        ("example.com TXT v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.143", Spf::Pass),
        ("example.com TXT v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.132", Spf::Fail),
        ("example.com TXT v=spf1 ptr -all", "192.0.2.10", Spf::Pass),
        ("example.com TXT v=spf1 ptr -all", "192.0.2.65", Spf::Pass),
        ("example.com TXT v=spf1 ptr -all", "192.0.2.140", Spf::Fail),
        ("example.com TXT v=spf1 ptr -all", "10.0.0.4", Spf::Fail),
        ("example.com TXT v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.65", Spf::Fail),
        ("example.com TXT v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.129", Spf::Pass),
    ] {
        assert_eq!(with(record, client), expected, "{record} for {client}");
    }
}

#[test]
fn rfc_7208_a_2_to_a_4_other_domains_and_exists() {
    let organisation = [
        "example.org TXT v=spf1 include:example.com include:example.net -all",
        "example.com TXT v=spf1 ip4:192.0.2.10 -all",
        "example.net TXT v=spf1 ip4:192.0.2.20 -all",
        "la.example.org TXT v=spf1 redirect=example.org",
    ];
    for (client, expected) in
        [("192.0.2.10", Spf::Pass), ("192.0.2.20", Spf::Pass), ("192.0.2.30", Spf::Fail)]
    {
        assert_eq!(result(&organisation, client, "a@example.org"), expected);
        assert_eq!(result(&organisation, client, "a@la.example.org"), expected, "redirected");
    }
    // A.3, A.4: by local part and address.
    let users = [
        "example.com TXT v=spf1 mx include:mobile-users._spf.%{d} -all",
        "mobile-users._spf.example.com TXT v=spf1 exists:%{l1r+}.mobile-users._spf.example.com",
    ];
    assert_eq!(result(&users, "203.0.113.1", "mary@example.com"), Spf::Pass);
    assert_eq!(result(&users, "203.0.113.1", "fred@example.com"), Spf::Fail);
    let listed = [
        "example.com TXT v=spf1 -exists:%{ir}.sbl.example.org ?all",
        "1.2.0.192.sbl.example.org A 127.0.0.2",
    ];
    assert_eq!(result(&listed, "192.0.2.1", "a@example.com"), Spf::Fail);
    assert_eq!(result(&listed, "192.0.2.2", "a@example.com"), Spf::Neutral);
}

#[test]
fn a_neutral_include_of_a_record_that_includes_proves_nothing() {
    // The match of the innermost record is that record's, not the whole one's (RFC 7208 5.2).
    let records = [
        "example.org TXT v=spf1 ?include:shared.example.net -all",
        "shared.example.net TXT v=spf1 include:inner.example.net ~all",
        "inner.example.net TXT v=spf1 ip4:192.0.2.0/24 -all",
    ];
    assert_eq!(result(&records, "192.0.2.1", "a@example.org"), Spf::Neutral);
    assert_eq!(result(&records, "198.51.100.1", "a@example.org"), Spf::Fail);
}

#[test]
fn results_that_are_no_answers() {
    for (records, expected) in [
        (&[][..], Spf::None),
        (&["example.com TXT v=spf10 +all"], Spf::None),
        (&["example.com TXT hello", "example.com TXT V=SPF1"], Spf::Neutral),
        (&["example.com TXT v=spf1 +all", "example.com TXT v=spf1 -all"], Spf::PermError),
        (&["example.com TXT v=spf1 nonsense:x -all"], Spf::PermError),
        (&["example.com TXT v=spf1 include:nothing.example -all"], Spf::PermError),
        (&["example.com TXT v=spf1 redirect=nothing.example"], Spf::PermError),
        (&["example.com TXT v=spf1 a:dead.example -all"], Spf::TempError),
        (&["example.com TXT v=spf1 include:dead.example -all"], Spf::TempError),
        (&["example.com TXT v=spf1 ?all redirect=nothing.example"], Spf::Neutral),
    ] {
        assert_eq!(result(records, "192.0.2.1", "a@example.com"), expected, "{records:?}");
    }
    assert_eq!(result(&[], "192.0.2.1", "a@dead.example.com"), Spf::TempError);
    assert_eq!(result(&["localhost TXT v=spf1 +all"], "192.0.2.1", "a@localhost"), Spf::None);
    assert_eq!(result(&[], "192.0.2.1", "a@[192.0.2.1]"), Spf::None);
}

#[test]
fn the_null_reverse_path_is_the_identity_of_helo() {
    let records = ["mail-a.example.com TXT v=spf1 a -all", "example.com TXT v=spf1 -all"];
    assert_eq!(result(&records, "192.0.2.129", ""), Spf::Pass);
    assert_eq!(result(&records, "192.0.2.129", "a@example.com"), Spf::Fail, "HELO is not asked for");
    let zone = Zone::of(&records);
    assert_eq!(result_in(&zone, "192.0.2.129", "[192.0.2.129]", ""), Spf::None);
}

#[test]
fn ipv6_has_its_own_records() {
    let records = [
        "example.com TXT v=spf1 ip6:2001:db8::/32 a:six.example.com ip4:0.0.0.0/0 -all",
        "six.example.com AAAA 2001:db9::1",
    ];
    assert_eq!(result(&records, "2001:db8:7::1", "a@example.com"), Spf::Pass);
    assert_eq!(result(&records, "2001:db9::1", "a@example.com"), Spf::Pass);
    assert_eq!(result(&records, "2001:db9::2", "a@example.com"), Spf::Fail);
    assert_eq!(result(&records, "192.0.2.1", "a@example.com"), Spf::Pass);
}

#[test]
fn rfc_7208_4_6_4_lookups_are_bounded() {
    // Ten terms pass, the eleventh does not; a record that includes itself ends like that.
    let ten = "example.com TXT v=spf1 a a a a a a a a a a ip4:192.0.2.1 -all";
    let eleven = "example.com TXT v=spf1 a a a a a a a a a a a ip4:192.0.2.1 -all";
    assert_eq!(result(&[ten], "192.0.2.1", "a@example.com"), Spf::Pass);
    assert_eq!(result(&[eleven], "192.0.2.1", "a@example.com"), Spf::PermError);
    let circle = ["example.com TXT v=spf1 include:example.com -all"];
    assert_eq!(result(&circle, "192.0.2.1", "a@example.com"), Spf::PermError);
    // Two void lookups pass, the third does not.
    let two = "example.com TXT v=spf1 a:x.test mx:y.test ip4:192.0.2.1 -all";
    let three = "example.com TXT v=spf1 a:x.test mx:y.test exists:z.test ip4:192.0.2.1 -all";
    assert_eq!(result(&[two], "192.0.2.1", "a@example.com"), Spf::Pass);
    assert_eq!(result(&[three], "192.0.2.1", "a@example.com"), Spf::PermError);
    // More than ten exchangers.
    let mut exchangers = vec!["example.net MX nobody.example.net"; 11];
    exchangers.push("nobody.example.net A 198.51.100.1");
    exchangers.push("example.com TXT v=spf1 mx:example.net ip4:192.0.2.1 -all");
    assert_eq!(result(&exchangers, "192.0.2.1", "a@example.com"), Spf::PermError);
}

#[test]
fn rfc_7208_7_4_macros_expand() {
    // Example.com's user strong-bad@email.example.com, as in the RFC.
    for (text, expected) in [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
    ] {
        let name: &'static str = Box::leak(format!("{expected} A 127.0.0.2").into_boxed_str());
        let record: &'static str =
            Box::leak(format!("email.example.com TXT v=spf1 exists:{text}.x.test -all").into_boxed_str());
        let name: &'static str = Box::leak(name.replacen(" A", ".x.test A", 1).into_boxed_str());
        let found = result(&[record, name], "192.0.2.3", "strong-bad@email.example.com");
        assert_eq!(found, Spf::Pass, "{text} is {expected}");
    }
}
