//! MTA-STS and DANE with the real server: a signed zone, a web server of policies, and a real Postfix that shows one
//! certificate or another.

use super::harness::client::Client;
use super::harness::policy_host::{Authority, PolicyHost};
use super::harness::signed_zone::SignedZone;
use super::harness::*;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const HOST: &str = "mail.example.test";

fn bring(server: &Server, to: &str) {
    let sent = Client::connect(server.address).message(to, "hello");
    assert!(sent.starts_with("250 2.0.0 Ok: queued as "), "{sent}");
}

/// A configuration with the zone as the one name server, and trust in what the test made.
fn configured(
    scratch: &Scratch,
    zone: &SignedZone,
    primary: SocketAddr,
    delivery: &str,
    rest: &str,
) -> PathBuf {
    let anchor = scratch.path("anchor");
    zone.write_anchor(&anchor);
    let delivery = format!("tls_roots = \"{}\"\n{delivery}", scratch.path("ca.pem").display());
    let rest = format!(
        "when_up = \"relay\"\n{rest}\n[dns]\nnameservers = [\"{}\"]\ntrust_anchor = \"{}\"",
        zone.address,
        anchor.display()
    );
    let named_primary = Some(format!("{HOST}:{}", primary.port()));
    configure(scratch, &Settings { named_primary, delivery: &delivery, rest: &rest, ..Settings::default() })
}

#[test]
fn an_enforced_policy_keeps_mail_until_postfix_shows_its_name_also_when_nobody_tells_of_it_any_more() {
    let scratch = Scratch::new("mta-sts");
    let (authority, zone) = (Authority::new(), SignedZone::start());
    fs::write(scratch.path("ca.pem"), &authority.pem).unwrap();
    zone.add_text("_mta-sts.example.test", "v=STSv1; id=1;");
    let policy = "version: STSv1\r\nmode: enforce\r\nmx: other.test\r\nmax_age: 86400\r\n";
    let web = PolicyHost::start(authority.issue("mta-sts.example.test"), policy);
    let primary = free_address();
    let delivery = format!("tls = \"mta-sts\"\nmta_sts_port = {}", web.address.port());
    let config = configured(&scratch, &zone, primary, &delivery, "");
    let (directory, record) = (scratch.path("postfix"), scratch.path("record"));
    let certificate = scratch.path("postfix.pem");
    authority.issue("wrong.example.test").write(&certificate);
    let postfix = Primary::postfix_showing(&certificate, &primary.to_string(), &directory, &record);
    let mut server = Server::start(&config);
    bring(&server, "a@example.test");
    let told = server.process.wait_for("its security is not what it has to be");
    assert!(told.contains("mail.example.test:") && told.contains("certificate not valid for name"), "{told}");
    postfix.stop();
    authority.issue(HOST).write(&certificate);
    let postfix = Primary::postfix_showing(&certificate, &primary.to_string(), &directory, &record);
    let line = server.process.wait_for("handed over");
    assert!(line.contains("TLSv1.3") && line.contains("verified-mta-sts"), "{line}");
    let seen = server.stop();
    assert_eq!(
        seen.iter().filter(|line| line.contains("not valid for name")).count(),
        1,
        "told once: {seen:#?}"
    );
    postfix.stop();
    drop(web);
    // A start later, without a web server, and with STARTTLS taken away.
    let postfix = Primary::postfix(&primary.to_string(), &directory, &record);
    let mut server = Server::start(&config);
    bring(&server, "b@example.test");
    let told = server.process.wait_for("its security is not what it has to be");
    assert!(told.contains("TLS is required, and not offered"), "{told}");
    server.stop();
    postfix.stop();
    let arrivals = fs::read_to_string(&record).unwrap().lines().count();
    assert_eq!(arrivals, 1, "the second one waits");
}

#[test]
fn tlsa_records_decide_whom_a_host_has_to_be() {
    let scratch = Scratch::new("dane");
    let (authority, zone) = (Authority::new(), SignedZone::start());
    fs::write(scratch.path("ca.pem"), &authority.pem).unwrap();
    let primary = free_address();
    let name = format!("_{}._tcp.{HOST}", primary.port());
    let shown = authority.issue("whatever.test");
    let certificate = scratch.path("postfix.pem");
    shown.write(&certificate);
    let record = scratch.path("record");
    let postfix =
        Primary::postfix_showing(&certificate, &primary.to_string(), &scratch.path("postfix"), &record);
    zone.set_tlsa(&name, (3, 1, 1), &[7; 32], false);
    // Who owns another signed zone would have us take his key for the host's.
    zone.set_tlsa("_25._tcp.evil", (3, 1, 1), &shown.key_digest, false);
    let config = configured(&scratch, &zone, primary, "tls = \"dane\"", "");
    let mut server = Server::start(&config);
    bring(&server, "a@example.test");
    let told = server.process.wait_for("its security is not what it has to be");
    assert!(told.contains("no TLSA record of the host describes its certificate"), "{told}");
    // The right one, but forged.
    zone.set_tlsa(&name, (3, 1, 1), &shown.key_digest, true);
    let told = server.process.wait_for("its security is not what it has to be");
    assert!(told.contains("is not signed as it must be (DNSSEC)"), "{told}");
    zone.set_tlsa(&name, (3, 1, 1), &shown.key_digest, false);
    let line = server.process.wait_for("handed over");
    assert!(line.contains("TLSv1.3") && line.contains("verified-dane"), "{line}");
    // One that nobody can use asks for TLS, and for nobody.
    zone.set_tlsa(&name, (1, 1, 1), &[7; 32], false);
    server.process.signal("-HUP");
    server.process.wait_for("configuration reloaded");
    bring(&server, "b@example.test");
    let line = server.process.wait_for("handed over");
    assert!(line.contains("TLSv1.3") && line.contains("encrypted"), "{line}");
    let line = server.process.seen.iter().find(|line| line.contains("the admin API listens")).unwrap();
    let api = serde_json::from_str::<Value>(line).unwrap()["address"].as_str().unwrap().to_owned();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_stratamx"))
        .args(["status", "--json", "--url", &format!("http://{api}"), "--token"])
        .arg(fs::read_to_string(scratch.path("data/admin-token")).unwrap().trim())
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let transports = &status["domains"][0]["transports"];
    assert_eq!((&transports["verified_dane"], &transports["encrypted"]), (&1.into(), &1.into()), "{status}");
    server.stop();
    postfix.stop();
    assert_eq!(fs::read_to_string(&record).unwrap().lines().count(), 2);
}

#[test]
fn records_of_mail_exchangers_count_as_far_as_they_are_signed() {
    let scratch = Scratch::new("signed-mx");
    let zone = SignedZone::start();
    fs::write(scratch.path("ca.pem"), Authority::new().pem).unwrap();
    zone.add_exchanger("signed.test", "mail.signed.test", false);
    zone.set_tlsa("_25._tcp.mail.signed.test", (3, 1, 1), &[7; 32], true);
    zone.add_exchanger("forged.test", "mail.forged.test", true);
    zone.add_exchanger("plain.test", "mail.plain.test", false);
    // Nobody listens there.
    zone.add_address("mail.plain.test", Ipv4Addr::new(127, 83, 1, 9));
    let domain = |name| format!("[[domain]]\nname = \"{name}\"\nprimary = \"mx\"\nretry_interval = \"1s\"\n");
    let domains = ["signed.test", "forged.test", "plain.test"].map(domain).concat();
    let config = configured(&scratch, &zone, free_address(), "tls = \"dane\"", &domains);
    let mut server = Server::start(&config);
    for (domain, why) in [
        ("signed.test", "TLSA of _25._tcp.mail.signed.test is not signed as it must be"),
        ("forged.test", "MX of forged.test is not signed as it must be"),
    ] {
        bring(&server, &format!("b@{domain}"));
        server.process.wait_for(why);
    }
    bring(&server, "b@plain.test");
    let seen = {
        // It is dialed, as opportunistically as ever.
        let api = server.process.seen.iter().find(|line| line.contains("the admin API listens")).unwrap();
        let api = serde_json::from_str::<Value>(api).unwrap()["address"].as_str().unwrap().to_owned();
        let token = fs::read_to_string(scratch.path("data/admin-token")).unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let shown = std::process::Command::new(env!("CARGO_BIN_EXE_stratamx"))
                .args([
                    "domain",
                    "show",
                    "plain.test",
                    "--url",
                    &format!("http://{api}"),
                    "--token",
                    token.trim(),
                ])
                .output()
                .unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            if shown.contains("last failure") || std::time::Instant::now() > end {
                break shown;
            }
        }
    };
    assert!(seen.contains("127.83.1.9:25: no connection"), "{seen}");
    server.stop();
}
