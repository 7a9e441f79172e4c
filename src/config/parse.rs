//! From TOML text to a [`Config`]: what each key means, its bounds, its default, and which keys are not built yet.

use core::time::Duration;
use std::collections::HashSet;
use std::path::PathBuf;

use super::domain::read_domain;
use super::host::{parse_domain, parse_mailbox};
use super::policy::{POLICY_KEYS, read_duration, read_policy, read_size};
use super::reader::{ConfigError, Document, Table};
use super::recipients::Origin;
use super::{Admin, Config, Cores, Delivery, Dns, Domain, ExpiryClockTrust, Smtp, Storage, machine_name};
use super::{acme, admin, edge};
use crate::limits;

/// The port of DNS.
const DNS_PORT: u16 = 53;

impl Config {
    /// Reads a text; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let document = Document::new(file, text);
        let root = document.parse()?;
        read_root(&document.root(&root))
    }
}

fn read_root(root: &Table) -> Result<Config, ConfigError> {
    root.expect_keys(&[
        "hostname",
        "postmaster",
        "data_dir",
        "cores",
        "smtp",
        "storage",
        "delivery",
        "dns",
        "admin",
        "acme",
        "domain",
    ])?;
    let delivery = read_delivery(&root.table("delivery")?)?;
    let admin = admin::read(&root.table("admin")?)?;
    let domains = read_domains(root, &delivery, &admin)?;
    let smtp = read_smtp(&root.table("smtp")?)?;
    let acme = acme::read(root, &smtp, &admin)?;
    Ok(Config {
        hostname: match root.value("hostname") {
            Some(value) => parse_domain(value.string()?).map_err(|error| value.error(error))?,
            None => machine_name(),
        },
        postmaster: read_postmaster(root, &domains)?,
        data_dir: match root.value("data_dir") {
            Some(value) if value.string()?.is_empty() => return Err(value.error("is not a directory")),
            Some(value) => PathBuf::from(value.string()?),
            None => PathBuf::from("/var/lib/stratamx"),
        },
        cores: match root.value("cores") {
            Some(value) if value.string().is_ok_and(|text| text == "auto") => Cores::Auto,
            Some(value) if value.string().is_ok_and(|text| text == "all") => Cores::All,
            Some(value) => Cores::Count(value.integer(1..=limits::CORES_MAX)?),
            None => Cores::Auto,
        },
        smtp,
        storage: read_storage(&root.table("storage")?)?,
        delivery,
        dns: read_dns(&root.table("dns")?)?,
        admin,
        acme,
        domains,
    })
}

fn read_smtp(table: &Table) -> Result<Smtp, ConfigError> {
    let keys = [
        "listen",
        "max_message_size",
        "max_recipients",
        "max_connections",
        "max_connections_per_ip",
        "proxy_from",
        "rate",
        "tls",
        "xclient_from",
    ];
    table.expect_keys(&keys)?;
    let default = Smtp::default();
    let number = |key, bounds, default| table.value(key).map_or(Ok(default), |value| value.integer(bounds));
    let sizes = limits::MESSAGE_OCTETS_MIN..=limits::MESSAGE_OCTETS_MAX;
    Ok(Smtp {
        listen: match table.value("listen") {
            Some(value) => edge::read_addresses(&value, 1..=limits::LISTENERS_MAX, None)?,
            None => default.listen,
        },
        max_message_size_bytes: read_size(table, "max_message_size", sizes, default.max_message_size_bytes)?,
        max_recipients: number(
            "max_recipients",
            limits::RECIPIENTS_MIN..=limits::RECIPIENTS_MAX,
            default.max_recipients,
        )?,
        max_connections: number("max_connections", 1..=limits::CONNECTIONS_MAX, default.max_connections)?,
        max_connections_per_ip: number(
            "max_connections_per_ip",
            1..=limits::CONNECTIONS_MAX,
            default.max_connections_per_ip,
        )?,
        rate: edge::read_rates(&table.table("rate")?)?,
        proxy_from: edge::read_networks(table, "proxy_from")?,
        tls: edge::read_tls(table)?,
        xclient_from: edge::read_networks(table, "xclient_from")?,
    })
}

fn read_storage(table: &Table) -> Result<Storage, ConfigError> {
    table.expect_keys(&["segment_size", "min_free_space", "key_file", "trace_retention"])?;
    let default = Storage::default();
    let sizes = limits::SEGMENT_OCTETS_MIN..=limits::SEGMENT_OCTETS_MAX;
    let segment_size_bytes = read_size(table, "segment_size", sizes, default.segment_size_bytes)?;
    match table.value("segment_size") {
        Some(value) if !segment_size_bytes.is_multiple_of(limits::SEGMENT_OCTETS_MULTIPLE) => {
            Err(value.error(format!("is not a multiple of {}", limits::SEGMENT_OCTETS_MULTIPLE)))
        }
        _ => Ok(Storage {
            segment_size_bytes,
            key_file: edge::read_file(table, "key_file")?,
            trace_retention: read_duration(
                table,
                "trace_retention",
                Duration::ZERO..=limits::TRACE_RETENTION_MAX,
                default.trace_retention,
            )?,
            min_free_space_bytes: read_size(
                table,
                "min_free_space",
                0..=limits::FREE_SPACE_OCTETS_MAX,
                default.min_free_space_bytes,
            )?,
        }),
    }
}

fn read_delivery(table: &Table) -> Result<Delivery, ConfigError> {
    let own = ["expiry_clock", "client_certificate", "tls_roots", "mta_sts_port"];
    table.expect_keys(&[&POLICY_KEYS[..], &own].concat())?;
    let default = Delivery::default();
    let client_certificate = match table.value("client_certificate") {
        Some(value) => Some(edge::read_certificate(&value.table()?)?),
        None => None,
    };
    let expiry_clock = match table.value("expiry_clock") {
        Some(value) => value.choice(
            &[("synchronised", ExpiryClockTrust::Synchronised), ("trusted", ExpiryClockTrust::Trusted)],
            &[],
        )?,
        None => default.expiry_clock,
    };
    let tls_roots = edge::read_file(table, "tls_roots")?;
    let mta_sts_port = match table.value("mta_sts_port") {
        Some(value) => value.port()?,
        None => default.mta_sts_port,
    };
    let policy = read_policy(table, &default)?;
    Ok(Delivery { expiry_clock, client_certificate, tls_roots, mta_sts_port, ..policy })
}

fn read_dns(table: &Table) -> Result<Dns, ConfigError> {
    table.expect_keys(&["nameservers", "trust_anchor"])?;
    let nameservers = match table.value("nameservers") {
        Some(value) => edge::read_addresses(&value, 0..=limits::NAMESERVERS_MAX, Some(DNS_PORT))?,
        None => Vec::new(),
    };
    Ok(Dns { nameservers, trust_anchor: edge::read_file(table, "trust_anchor")? })
}

fn read_domains(root: &Table, delivery: &Delivery, admin: &Admin) -> Result<Vec<Domain>, ConfigError> {
    let Some(tables) = root.value("domain") else {
        // A file that is cut short, or just being written, is no configuration: its domains would be refused for good.
        let reason = "is missing: at least one [[domain]], or domain = [] where all come through the API";
        return Err(root.missing("domain", reason));
    };
    let least = usize::from(admin.listen.is_none());
    let mut domains = Vec::new();
    let mut names = HashSet::new();
    for value in tables.list(least..=limits::DOMAINS_MAX)? {
        let table = value.table()?;
        let domain = read_domain(&table, delivery, Origin::File)?;
        if !names.insert(domain.name.clone()) {
            return Err(table.required("name")?.error("is there twice"));
        }
        domains.push(domain);
    }
    Ok(domains)
}

fn read_postmaster(root: &Table, domains: &[Domain]) -> Result<String, ConfigError> {
    let Some(value) = root.value("postmaster") else {
        let first = domains.first().map_or("localhost", |domain| &domain.name);
        return Ok(format!("postmaster@{first}"));
    };
    let (local, domain) = parse_mailbox(value.string()?).map_err(|error| value.error(error))?;
    // Without a pinned domain it is in one that comes through the API.
    if !domains.is_empty() && !domains.iter().any(|protected| protected.name == domain) {
        return Err(
            value.error("is not built yet outside of the protected domains; name an address in one of them")
        );
    }
    Ok(format!("{local}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::super::{OnExpiry, OnReject, Quota};
    use super::*;
    use crate::config::Primaries;
    use core::time::Duration;

    /// A domain to end a text with, so that it is complete.
    const DOMAIN: &str = "[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n";

    fn error(text: &str) -> String {
        Config::parse(text, "t").expect_err(text).to_string()
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = Config::parse(DOMAIN, "t").unwrap();
        assert_eq!(config.postmaster, "postmaster@one.test");
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/stratamx"));
        assert_eq!(config.cores, Cores::Auto);
        assert_eq!(config.smtp, Smtp::default());
        assert_eq!(
            config.storage,
            Storage {
                segment_size_bytes: 64 << 20,
                min_free_space_bytes: 1 << 30,
                key_file: None,
                trace_retention: core::time::Duration::from_secs(30 * 86_400),
            }
        );
        assert_eq!(config.dns.nameservers, []);
        let domain = &config.domains[0];
        assert_eq!((domain.retry_interval, domain.on_reject), (Duration::from_secs(300), OnReject::Bounce));
        assert_eq!(domain.max_connections, 5);
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!((domain.retention, domain.held_retention), (month, month));
        assert_eq!((domain.on_expiry, domain.quota), (OnExpiry::Bounce, Quota { messages: 0, octets: 0 }));
    }

    #[test]
    fn what_is_kept_for_how_long_and_how_much_of_it() {
        let text = "[delivery]\nretention = \"7d\"\non_expiry = \"discard\"\nexpiry_clock = \"trusted\"\n[[domain]]\n\
                    name = \"a.test\"\nprimary = [\"a\"]\nquota = { messages = 5 }\n[[domain]]\nname = \"b.test\"\n\
                    primary = [\"b\"]\nretention = \"2s\"\nheld_retention = \"3s\"\non_expiry = \"hold\"\n\
                    quota = { bytes = \"1MiB\" }\n";
        let config = Config::parse(text, "t").unwrap();
        assert_eq!(config.delivery.expiry_clock, ExpiryClockTrust::Trusted);
        let kept = |index: usize| {
            let domain: &Domain = &config.domains[index];
            (domain.retention.as_secs(), domain.held_retention.as_secs(), domain.on_expiry, domain.quota)
        };
        let week = 7 * 86_400;
        assert_eq!(kept(0), (week, 30 * 86_400, OnExpiry::Discard, Quota { messages: 5, octets: 0 }));
        assert_eq!(kept(1), (2, 3, OnExpiry::Hold, Quota { messages: 0, octets: 1 << 20 }));
    }

    #[test]
    fn a_domain_overrides_the_defaults_of_delivery() {
        let text = "[delivery]\nretry_interval = \"90s\"\non_reject = \"discard\"\nmax_connections = 9\n[[domain]]\nname = \"a.test\"\n\
                    primary = [\"a\"]\n[[domain]]\nname = \"b.test\"\nprimary = [\"b\"]\nretry_interval = \"2h\"\n\
                    on_reject = \"hold\"\nmax_connections = 1\nauthenticate = false\n";
        let config = Config::parse(text, "t").unwrap();
        let policy =
            |index: usize| (config.domains[index].retry_interval.as_secs(), config.domains[index].on_reject);
        assert_eq!(policy(0), (90, OnReject::Discard));
        assert_eq!(policy(1), (7_200, OnReject::Hold));
        assert_eq!(config.domains.iter().map(|domain| domain.max_connections).collect::<Vec<_>>(), [9, 1]);
        assert_eq!(
            config.domains.iter().map(|domain| domain.authenticate).collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_those_that_are() {
        for (line, expected) in [
            (
                "on_reject = \"return\"",
                "domain[0].on_reject: \"return\" is not one of \"bounce\", \"hold\", \"discard\"",
            ),
            (
                "tls = \"starttls\"",
                "domain[0].tls: \"starttls\" is not one of \"opportunistic\", \"require\", \"none\", \"mta-sts\", \"dane\"",
            ),
            (
                "when_up = \"always\"",
                "domain[0].when_up: \"always\" is not one of \"proxy\", \"relay\", \"defer\"",
            ),
        ] {
            assert_eq!(error(&format!("{DOMAIN}{line}")), format!("t:4: {expected}"));
        }
        let text = DOMAIN.replace("[\"192.0.2.1\"]", "\"mx\"");
        let config = Config::parse(&text, "t").expect("good");
        assert_eq!(config.domains[0].primaries, Primaries::Exchangers);
        let again = Config::parse(&config.effective().to_string(), "t").expect("good");
        assert_eq!(again.domains[0].primaries, Primaries::Exchangers);
        let text = DOMAIN.replace("[\"192.0.2.1\"]", "\"elsewhere\"");
        assert!(error(&text).starts_with("t:3: domain[0].primary: "), "{}", error(&text));
        let quota = format!("{DOMAIN}quota = {{ messages = -1 }}");
        assert_eq!(error(&quota), "t:4: domain[0].quota.messages: -1 is not within 0 and 1000000000");
        let quota = format!("{DOMAIN}quota = {{ mails = 1 }}");
        assert!(error(&quota).starts_with("t:4: domain[0].quota.mails: unknown key; known here: messages, "));
    }

    #[test]
    fn cores_are_told_by_word_or_number_and_come_back_as_they_were_told() {
        for (text, cores) in [("\"auto\"", Cores::Auto), ("\"all\"", Cores::All), ("3", Cores::Count(3))] {
            let config = Config::parse(&format!("cores = {text}\n{DOMAIN}"), "t").expect("good");
            assert_eq!(config.cores, cores);
            let again = Config::parse(&config.effective().to_string(), "t").expect("good");
            assert_eq!(again.cores, cores);
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_line_key_and_reason() {
        for (text, expected) in [
            ("cores = 0", "t:1: cores: 0 is not within 1 and 1024"),
            ("cores = \"many\"", "t:1: cores: \"many\" is not a whole number"),
            ("hostname = \"mx2.\"", "t:1: hostname: \"mx2.\" is not a domain name"),
            ("data_dir = \"\"", "t:1: data_dir: \"\" is not a directory"),
            ("smtp = 1", "t:1: smtp: 1 is not a table"),
            ("[smtp]\nlisten = []", "t:2: smtp.listen: [] has not 1 to 64 elements"),
            ("[smtp]\nlisten = [\n\"[::]:25\",\n25]", "t:4: smtp.listen[1]: 25 is not a text in quotes"),
            (
                "[smtp]\nlisten = [\"localhost:25\"]",
                "t:2: smtp.listen[0]: \"localhost:25\" is not \"ip:port\"",
            ),
            (
                "[smtp]\nlisten = [\"[::]:25\", \"[::]:25\"]",
                "t:2: smtp.listen[1]: \"[::]:25\" is there twice",
            ),
            (
                "[smtp]\nmax_message_size = \"1KiB\"",
                "t:2: smtp.max_message_size: \"1KiB\" is not within 64KiB and 2GiB",
            ),
            ("[smtp]\nmax_message_size = 1.5", "t:2: smtp.max_message_size: 1.5 is neither"),
            ("[smtp]\nmax_recipients = 99", "t:2: smtp.max_recipients: 99 is not within 100 and 1000"),
            (
                "[smtp]\nxclient_from = [\"192.0.2.1/24\"]",
                "t:2: smtp.xclient_from[0]: \"192.0.2.1/24\" has bits behind its prefix; the network is \"192.0.2.0/24\"",
            ),
            (
                "[[domain]]\nname = \"a.test\"\nprimary = [\"a\"]\netrn_from = [\"a.test\"]",
                "t:4: domain[0].etrn_from[0]: \"a.test\" is not a network such as \"192.0.2.0/24\", \"2001:db8::/32\" or one address",
            ),
            ("[delivery]\nmax_connections = 51", "t:2: delivery.max_connections: 51 is not within 1 and 50"),
            ("[smtp]\nmax_connections = -1", "t:2: smtp.max_connections: -1 is not within 1 and 100000"),
            (
                "[storage]\nsegment_size = \"3MiB\"",
                "t:2: storage.segment_size: \"3MiB\" is not within 4MiB and 1GiB",
            ),
            (
                "[storage]\nsegment_size = 4194305",
                "t:2: storage.segment_size: 4194305 is not a multiple of 4096",
            ),
            (
                "[delivery]\nretry_interval = \"0s\"",
                "t:2: delivery.retry_interval: \"0s\" is not within 1s and 1d",
            ),
            ("[delivery]\nretry_interval = 300", "t:2: delivery.retry_interval: 300 is not a text in quotes"),
            (
                "[delivery]\nretry_interval = \"5 min\"",
                "t:2: delivery.retry_interval: \"5 min\" is not a duration",
            ),
            ("[delivery]\nretention = \"0s\"", "t:2: delivery.retention: \"0s\" is not within 1s and 3650d"),
            (
                "[delivery]\nheld_retention = \"11y\"",
                "t:2: delivery.held_retention: \"11y\" is not a duration",
            ),
            (
                "[delivery]\nexpiry_clock = \"ntp\"",
                "t:2: delivery.expiry_clock: \"ntp\" is not one of \"synchronised\", \"trusted\"",
            ),
            ("[delivery]\nauthenticate = 1", "t:2: delivery.authenticate: 1 is neither true nor false"),
            ("[dns]\nnameservers = [\"one.test\"]", "t:2: dns.nameservers[0]: \"one.test\" is not \"ip\" or"),
            ("postmaster = \"me@two.test\"", "t:1: postmaster: \"me@two.test\" is not built yet outside of"),
        ] {
            let found = error(&format!("{text}\n{DOMAIN}"));
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn the_second_of_two_equal_domains_is_the_wrong_one() {
        let text = format!("{DOMAIN}{}", DOMAIN.replace("one.test", "ONE.test"));
        assert_eq!(error(&text), "t:5: domain[1].name: \"ONE.test\" is there twice");
    }

    #[test]
    fn what_is_missing_is_named_at_its_table() {
        assert_eq!(
            error(""),
            "t:1: domain: is missing: at least one [[domain]], or domain = [] where all come through the API"
        );
        assert_eq!(Config::parse("domain = []", "t").map(|config| config.domains), Ok(Vec::new()));
        assert!(error("domain = []\n[admin]\nlisten = \"\"").starts_with("t:1: domain: "));
        assert_eq!(error("cores = 1\n[[domain]]\nname = \"a.test\""), "t:2: domain[0].primary: is missing");
        assert_eq!(
            error(&format!("{DOMAIN}[[domain]]\nprimary = [\"a\"]")),
            "t:4: domain[1].name: is missing"
        );
    }

    #[test]
    fn unknown_keys_and_broken_text_are_named() {
        for (text, expected) in [
            ("hostnme = \"a\"", "t:1: hostnme: unknown key; known here: hostname, "),
            ("[smtp]\nlisten_on = 1", "t:2: smtp.listen_on: unknown key; known here: listen, "),
            ("cores = 1\ncores = 2", "t:2: cores: duplicate key"),
            ("cores = \n[smtp]", "t:1: cores: "),
            ("a b", "t:1: a b: "),
        ] {
            let found = error(&format!("{text}\n{DOMAIN}"));
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
        assert!(error(&format!("{DOMAIN}backup = 1")).starts_with("t:4: domain[0].backup: unknown key"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String, tail in "[a-z\\[\\]=\"{},.0-9\n ]{0,80}") {
            let _ = (Config::parse(&text, "t"), Config::parse(&tail, "t"));
        }
    }
}
