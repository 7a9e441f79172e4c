//! From a [`Config`] to TOML text that reads back to the same configuration.

use core::fmt;
use std::path::Path;

use super::unit::{format_duration, format_size};
use super::{
    Acme, Admin, AdminTls, ArcSeal, CertificateFiles, Config, Delivery, ExternalAccount, Primaries, Primary,
    Rates, RecipientPolicy, Smtp,
};

impl Config {
    /// What holds, as TOML that reads back to the same configuration.
    pub fn effective(&self) -> impl fmt::Display {
        Effective(self)
    }
}

/// Prints a configuration as TOML.
struct Effective<'a>(&'a Config);

impl fmt::Display for Effective<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config {
            hostname,
            postmaster,
            data_dir,
            cores,
            smtp,
            storage,
            delivery,
            dns,
            admin,
            acme,
            domains,
        } = self.0;
        writeln!(out, "hostname = {}", quoted(hostname))?;
        writeln!(out, "postmaster = {}", quoted(postmaster))?;
        writeln!(out, "data_dir = {}", quoted(data_dir.display()))?;
        writeln!(out, "cores = {cores}")?;
        if domains.is_empty() {
            writeln!(out, "domain = []")?;
        }
        writeln!(out, "\n[smtp]\nlisten = {}", quoted_list(&smtp.listen))?;
        writeln!(out, "max_message_size = {}", quoted(format_size(smtp.max_message_size_bytes)))?;
        writeln!(out, "max_recipients = {}", smtp.max_recipients)?;
        writeln!(out, "max_connections = {}", smtp.max_connections)?;
        writeln!(out, "max_connections_per_ip = {}", smtp.max_connections_per_ip)?;
        write_edge(out, smtp)?;
        writeln!(out, "xclient_from = {}", quoted_list(&smtp.xclient_from))?;
        writeln!(out, "\n[storage]\nsegment_size = {}", quoted(format_size(storage.segment_size_bytes)))?;
        writeln!(out, "min_free_space = {}", quoted(format_size(storage.min_free_space_bytes)))?;
        let key_file = storage.key_file.as_deref().unwrap_or(Path::new(""));
        writeln!(out, "key_file = {}", quoted(key_file.display()))?;
        write_delivery(out, delivery)?;
        writeln!(out, "\n[dns]\nnameservers = {}", quoted_list(&dns.nameservers))?;
        writeln!(out, "trust_anchor = {}", quoted(file(dns.trust_anchor.as_deref())))?;
        write_admin(out, admin)?;
        if let Some(acme) = acme {
            write_acme(out, acme)?;
        }
        for domain in domains {
            writeln!(out, "\n[[domain]]\nname = {}", quoted(&domain.name))?;
            match &domain.primaries {
                Primaries::Hosts(hosts) => writeln!(out, "primary = {}", quoted_list(hosts))?,
                Primaries::Exchangers => writeln!(out, "primary = \"mx\"")?,
            }
            writeln!(out, "protocol = {}", quoted(domain.primaries.protocol()))?;
            write_recipients(out, &domain.recipients)?;
            writeln!(out, "when_up = {}", quoted(domain.when_up))?;
            writeln!(out, "retry_interval = {}", quoted(format_duration(domain.retry_interval)))?;
            writeln!(out, "retention = {}", quoted(format_duration(domain.retention)))?;
            writeln!(out, "on_expiry = {}", quoted(domain.on_expiry))?;
            writeln!(out, "held_retention = {}", quoted(format_duration(domain.held_retention)))?;
            writeln!(out, "safety_net = {}", quoted(format_duration(domain.safety_net)))?;
            writeln!(out, "on_reject = {}\ntls = {}", quoted(domain.on_reject), quoted(domain.tls))?;
            writeln!(out, "max_connections = {}", domain.max_connections)?;
            writeln!(out, "smarthost = {}", quoted(smarthost(domain.smarthost.as_ref())))?;
            writeln!(out, "authenticate = {}", domain.authenticate)?;
            writeln!(out, "arc = {}", domain.arc.as_ref().map_or_else(|| "{}".to_owned(), seal))?;
            let (messages, bytes) = (domain.quota.messages, quoted(format_size(domain.quota.octets)));
            writeln!(out, "quota = {{ messages = {messages}, bytes = {bytes} }}")?;
            writeln!(out, "etrn_from = {}", quoted_list(&domain.etrn_from))?;
        }
        Ok(())
    }
}

/// Empty for none.
fn file(path: Option<&Path>) -> std::path::Display<'_> {
    path.unwrap_or(Path::new("")).display()
}

fn smarthost(host: Option<&Primary>) -> String {
    host.map(Primary::to_string).unwrap_or_default()
}

/// The keys of `recipients.rs`.
fn write_recipients(out: &mut fmt::Formatter<'_>, policy: &RecipientPolicy) -> fmt::Result {
    let RecipientPolicy { recipients, list, subaddress_delimiter, unknown_during_outage } = policy;
    writeln!(out, "recipients = {}", quoted(recipients))?;
    if let Some(list) = list {
        writeln!(out, "recipient_list = {}", quoted(list.display()))?;
    }
    let delimiter = subaddress_delimiter.map(String::from).unwrap_or_default();
    writeln!(out, "subaddress_delimiter = {}", quoted(delimiter))?;
    writeln!(out, "unknown_during_outage = {}", quoted(unknown_during_outage))
}

/// The keys of `edge.rs`.
fn write_edge(out: &mut fmt::Formatter<'_>, smtp: &Smtp) -> fmt::Result {
    let Rates { connections_per_minute_per_ip, messages_per_minute_per_ip } = smtp.rate;
    writeln!(out, "proxy_from = {}", quoted_list(&smtp.proxy_from))?;
    match smtp.tls.as_slice() {
        [one] => writeln!(out, "tls = {}", pair(one))?,
        all => writeln!(out, "tls = [{}]", all.iter().map(pair).collect::<Vec<_>>().join(", "))?,
    }
    writeln!(
        out,
        "rate = {{ connections_per_minute_per_ip = {connections_per_minute_per_ip}, \
         messages_per_minute_per_ip = {messages_per_minute_per_ip} }}"
    )
}

/// The keys of `[delivery]`.
fn write_delivery(out: &mut fmt::Formatter<'_>, delivery: &Delivery) -> fmt::Result {
    writeln!(out, "\n[delivery]\nretry_interval = {}", quoted(format_duration(delivery.retry_interval)))?;
    writeln!(out, "retention = {}", quoted(format_duration(delivery.retention)))?;
    writeln!(out, "on_expiry = {}", quoted(delivery.on_expiry))?;
    writeln!(out, "held_retention = {}", quoted(format_duration(delivery.held_retention)))?;
    writeln!(out, "safety_net = {}", quoted(format_duration(delivery.safety_net)))?;
    writeln!(out, "expiry_clock = {}", quoted(delivery.expiry_clock))?;
    writeln!(out, "on_reject = {}\ntls = {}", quoted(delivery.on_reject), quoted(delivery.tls))?;
    writeln!(out, "max_connections = {}", delivery.max_connections)?;
    writeln!(out, "smarthost = {}", quoted(smarthost(delivery.smarthost.as_ref())))?;
    if let Some(files) = &delivery.client_certificate {
        writeln!(out, "client_certificate = {}", pair(files))?;
    }
    writeln!(out, "tls_roots = {}", quoted(file(delivery.tls_roots.as_deref())))?;
    writeln!(out, "mta_sts_port = {}", delivery.mta_sts_port)?;
    writeln!(out, "authenticate = {}", delivery.authenticate)?;
    if let Some(arc) = &delivery.arc {
        writeln!(out, "arc = {}", seal(arc))?;
    }
    Ok(())
}

/// The keys of `[admin]`.
fn write_admin(out: &mut fmt::Formatter<'_>, admin: &Admin) -> fmt::Result {
    let listen = admin.listen.map(|address| address.to_string()).unwrap_or_default();
    writeln!(out, "\n[admin]\nlisten = {}", quoted(listen))?;
    match &admin.tls {
        AdminTls::None => {}
        AdminTls::Own => writeln!(out, "tls = \"own\"")?,
        AdminTls::Files(files) => writeln!(out, "tls = {}", pair(files))?,
    }
    writeln!(out, "token_file = {}", quoted(file(admin.token_file.as_deref())))?;
    writeln!(out, "alert_after = {}", quoted(format_duration(admin.alert_after)))
}

/// The keys of `acme.rs`.
fn write_acme(out: &mut fmt::Formatter<'_>, acme: &Acme) -> fmt::Result {
    let Acme { directory, contact, names, challenge, listen, roots, external_account } = acme;
    writeln!(out, "\n[acme]\nagree_to_terms = true\ndirectory = {}", quoted(directory))?;
    writeln!(out, "contact = {}", quoted(contact.as_deref().unwrap_or_default()))?;
    writeln!(out, "names = {}\nchallenge = {}", quoted_list(names), quoted(challenge))?;
    writeln!(out, "listen = {}\nroots = {}", quoted_list(listen), quoted(file(roots.as_deref())))?;
    if let Some(ExternalAccount { id, key_file }) = external_account {
        let (id, file) = (quoted(id), quoted(key_file.display()));
        writeln!(out, "external_account = {{ id = {id}, key_file = {file} }}")?;
    }
    Ok(())
}

/// A table of two files.
fn pair(CertificateFiles { cert, key }: &CertificateFiles) -> String {
    format!("{{ cert = {}, key = {} }}", quoted(cert.display()), quoted(key.display()))
}

/// A table of a key and its place.
fn seal(ArcSeal { domain, selector, key }: &ArcSeal) -> String {
    let (domain, selector) = (quoted(domain), quoted(selector));
    format!("{{ domain = {domain}, selector = {selector}, key = {} }}", quoted(key.display()))
}

/// A TOML string.
fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// A TOML list of strings.
fn quoted_list(values: &[impl ToString]) -> String {
    let values: Vec<String> = values.iter().map(quoted_one).collect();
    format!("[{}]", values.join(", "))
}

fn quoted_one(value: &impl ToString) -> String {
    quoted(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key, and nothing as it is by default.
    const ODD: &str = r#"
            hostname = "MX2.example.net"
            postmaster = "Hostmaster@Two.test"
            data_dir = 'quote " and \ backslash'
            cores = 3
            [smtp]
            listen = ["[::1]:0", "127.0.0.1:25"]
            max_message_size = 65537
            max_recipients = 100
            max_connections = 7
            max_connections_per_ip = 5
            proxy_from = ["192.0.2.0/24", "2001:db8::1"]
            tls = [{ cert = "a \"b\".pem", key = 'k\x' }, { cert = "c", key = "d" }]
            rate = { connections_per_minute_per_ip = 1, messages_per_minute_per_ip = 2 }
            xclient_from = ["127.0.0.0/8", "::1"]
            [storage]
            segment_size = "4100KiB"
            min_free_space = 0
            [delivery]
            retry_interval = "61s"
            on_reject = "discard"
            retention = "8d"
            held_retention = "1s"
            safety_net = "2d"
            on_expiry = "discard"
            authenticate = false
            expiry_clock = "trusted"
            tls = "dane"
            tls_roots = "private.pem"
            mta_sts_port = 8443
            client_certificate = { cert = "e", key = "f" }
            arc = { domain = "mx.test", selector = "s", key = 'k "k"' }
            max_connections = 50
            smarthost = "relay.example.net:587"
            [dns]
            nameservers = ["::1", "192.0.2.1", "[::1]:5353"]
            trust_anchor = "anchor.key"
            [admin]
            listen = "[::1]:0"
            token_file = 'a "token"'
            alert_after = "90s"
            [[domain]]
            name = "one.test"
            primary = ["mail", "[2001:db8::1]:26", "192.0.2.1"]
            on_reject = "bounce"
            smarthost = "[2001:db8::2]:26"
            authenticate = true
            [[domain]]
            name = "two.test"
            tls = "mta-sts"
            primary = ["mail_2.two.test:65535"]
            protocol = "lmtp"
            retry_interval = "1d"
            retention = "3650d"
            max_connections = 1
            on_expiry = "bounce"
            smarthost = ""
            held_retention = "90s"
            quota = { messages = 17, bytes = "3GiB" }
            etrn_from = ["2001:db8::/32", "192.0.2.7"]
            [[domain]]
            name = "Bücher.test"
            primary = ["pošta.bücher.test"]
            recipients = "list"
            recipient_list = 'a "list" of \ .txt'
            subaddress_delimiter = ""
            unknown_during_outage = "reject"
        "#;

    #[test]
    fn what_is_printed_reads_back_to_the_same_configuration() {
        let mut single = Config::embedded();
        single.smtp.tls = vec![CertificateFiles { cert: "cert.pem".into(), key: "key.pem".into() }];
        let mut closed = Config::embedded();
        closed.admin.listen = None;
        let bare = Config::parse("domain = []", "t").unwrap();
        for config in [Config::embedded(), bare, single, closed, Config::parse(ODD, "odd.toml").unwrap()] {
            let text = config.effective().to_string();
            assert_eq!(Config::parse(&text, "effective"), Ok(config), "{text}");
        }
    }
}
