//! The files that a configuration names.

use super::{AdminTls, Config};
use std::path::Path;

impl Config {
    /// Every file that it names, as it names it; each once, in order.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let Self { smtp, storage, delivery, dns, admin, acme, domains, .. } = self;
        let mut files: Vec<&Path> = Vec::new();
        for pair in &smtp.tls {
            files.extend([pair.cert.as_path(), &pair.key]);
        }
        if let AdminTls::Files(pair) = &admin.tls {
            files.extend([pair.cert.as_path(), &pair.key]);
        }
        files.extend(admin.token_file.as_deref());
        files.extend(storage.key_file.as_deref());
        files.extend(delivery.tls_roots.as_deref());
        if let Some(pair) = &delivery.client_certificate {
            files.extend([pair.cert.as_path(), &pair.key]);
        }
        files.extend(dns.trust_anchor.as_deref());
        if let Some(acme) = acme {
            files.extend(acme.roots.as_deref());
            files.extend(acme.external_account.as_ref().map(|account| account.key_file.as_path()));
        }
        for domain in domains {
            files.extend(domain.recipients.list.as_deref());
            files.extend(domain.arc.as_ref().map(|arc| arc.key.as_path()));
        }
        files.sort_unstable();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_a_file_is_named_once() {
        let text = r#"
            [smtp]
            tls = [{ cert = "a.pem", key = "a.key" }, { cert = "b.pem", key = "a.key" }]
            [storage]
            key_file = "keys"
            [delivery]
            tls_roots = "roots.pem"
            client_certificate = { cert = "client.pem", key = "client.key" }
            [dns]
            trust_anchor = "anchor"
            [admin]
            tls = { cert = "admin.pem", key = "admin.key" }
            token_file = "/etc/token"
            [[domain]]
            name = "one.test"
            primary = ["192.0.2.1"]
            recipients = "list"
            recipient_list = "one.txt"
        "#;
        let config = Config::parse(text, "t").unwrap();
        let names: Vec<_> = config.files().into_iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/etc/token",
                "a.key",
                "a.pem",
                "admin.key",
                "admin.pem",
                "anchor",
                "b.pem",
                "client.key",
                "client.pem",
                "keys",
                "one.txt",
                "roots.pem"
            ]
        );
        assert!(Config::embedded().files().is_empty());
    }
}
