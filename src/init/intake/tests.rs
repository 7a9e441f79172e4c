//! What is taken, and what stays.

use super::*;
use crate::config::Config;

const GOOD: &str = "hostname = \"mx2.test\"\n[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n";

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn a_credential_is_a_file_and_no_path() {
    let text = b"io.systemd.credential:stratamx.toml=hostname = \"a=b\"\n";
    assert_eq!(
        credentials::credential(text).unwrap(),
        (SERVER_FILE.to_owned(), b"hostname = \"a=b\"\n".to_vec())
    );
    let binary = b"io.systemd.credential.binary:key.pem=AAEC";
    assert_eq!(credentials::credential(binary).unwrap(), ("key.pem".to_owned(), vec![0, 1, 2]));
    for wrong in [
        "io.systemd.credential:../key=x",
        "io.systemd.credential:.new=x",
        "io.systemd.credential:a/b=x",
        "vendor=x",
    ] {
        assert_eq!(credentials::credential(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn what_nothing_given_says_is_a_configuration() {
    let config = Config::parse(&nothing_given("stratamx-1.invalid", None), "t").unwrap();
    assert!(config.domains.is_empty() && config.admin.listen.is_some());
}

#[test]
fn the_hypervisor_has_the_last_word_and_nobodys_file_is_dropped() {
    let seed = Seed {
        files: files(&[(SERVER_FILE, "seed")]),
        host_name: Some("seed.test".to_owned()),
        network: Some(super::super::settings::Network { vlan: Some(7), ..Default::default() }),
        ..Seed::default()
    };
    let partition = files(&[("key.pem", "partition"), ("cert.pem", "partition")]);
    let hypervisor = files(&[("key.pem", "hypervisor")]);
    let in_force = files(&[(SERVER_FILE, GOOD), (MACHINE_FILE, "[clock]\nservers = []\n")]);
    let offered = layered(&in_force, Some(&seed), &partition, &hypervisor);
    assert_eq!(offered["key.pem"], b"hypervisor", "a credential without stratamx.toml");
    assert_eq!(offered["cert.pem"], b"partition", "beside the hypervisor");
    assert_eq!(offered[SERVER_FILE], b"seed");
    let settings = Settings::parse(core::str::from_utf8(&offered[MACHINE_FILE]).unwrap()).unwrap();
    assert_eq!(settings.network.vlan, Some(7));
    assert!(settings.clock.servers.is_empty(), "the rest of the file in force");
    let only_named = Seed { files: Files::new(), network: None, ..seed };
    assert!(
        layered(&in_force, Some(&only_named), &Files::new(), &Files::new()).is_empty(),
        "it is configured"
    );
    for nobody in [Files::new(), files(&[(SERVER_FILE, &nothing_given("a.invalid", None))])] {
        let offered = layered(&nobody, Some(&only_named), &Files::new(), &Files::new());
        assert_eq!(offered[SERVER_FILE], nothing_given("seed.test", None).into_bytes());
    }
}

#[test]
fn a_host_name_is_changed_and_nothing_else() {
    for (text, expected) in [
        (
            "# mine\nhostname = \"a.test\" # old\n[smtp]\nlisten = []\n",
            "# mine\nhostname = \"b.test\"\n[smtp]\nlisten = []\n",
        ),
        (
            "hostname=\"a.test\"\npostmaster = \"p@a.test\"",
            "hostname = \"b.test\"\npostmaster = \"p@a.test\"\n",
        ),
        ("cores = 1\n", "hostname = \"b.test\"\ncores = 1\n"),
        ("[x]\nhostname = \"other\"\n", "hostname = \"b.test\"\n[x]\nhostname = \"other\"\n"),
    ] {
        assert_eq!(with_host_name(text, "b.test").unwrap(), expected, "{text}");
    }
    let ours = with_host_name(&nothing_given("a.invalid", Some("keys")), "b.test").unwrap();
    assert_eq!(ours, nothing_given("b.test", Some("keys")));
    for text in
        ["\"hostname\" = \"a.test\"\n", "x = \"\"\"\nhostname = 1\n\"\"\"\nhostname = \"a.test\"\n", "a ="]
    {
        assert!(with_host_name(text, "b.test").unwrap_err().starts_with(SERVER_FILE), "{text}");
    }
}
