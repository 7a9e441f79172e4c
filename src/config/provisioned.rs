//! Domains that come through the API: the keys of `[[domain]]`, but those that name files of the server.

use super::domain::{OWN_KEYS, read_domain};
use super::policy::POLICY_KEYS;
use super::reader::{ConfigError, Document};
use super::recipients::Origin;
use super::{Delivery, Domain, recipients};

/// Keys that name files, which no client of the API may, and what there is in their place.
const FILES: [(&str, &str); 2] = [
    ("recipient_list", "names a file of the server: import the addresses (PUT .../recipients)"),
    ("arc", "names a key file of the server: that of [delivery] holds"),
];

impl Domain {
    /// Reads a domain's keys, TOML as under `[[domain]]`; what is left out is as `delivery` has it.
    ///
    /// # Errors
    /// As for a file, without one.
    pub fn parse_provisioned(text: &str, delivery: &Delivery) -> Result<Self, ConfigError> {
        let document = Document::new("", text);
        let root = document.parse()?;
        let table = document.root(&root);
        for (key, instead) in FILES {
            if let Some(value) = table.value(key) {
                return Err(value.error(instead));
            }
        }
        read_domain(&table, delivery, Origin::Api)
    }

    /// The keys that the API takes.
    #[must_use]
    pub fn provisioned_keys() -> Vec<&'static str> {
        let all = [&OWN_KEYS[..], &recipients::KEYS, &POLICY_KEYS].concat();
        all.into_iter().filter(|key| FILES.iter().all(|(file, _)| file != key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Recipients;

    #[test]
    fn a_domain_of_the_api_has_the_keys_of_one_of_the_file_but_names_no_files() {
        let delivery = Delivery { max_connections: 7, ..Delivery::default() };
        let read = |text: &str| {
            let text = format!("name = \"Bücher.test\"\nprimary = [\"192.0.2.1\"]\n{text}");
            Domain::parse_provisioned(&text, &delivery).map_err(|error| error.to_string())
        };
        let domain = read("recipients = \"list\"\nretention = \"2d\"").expect("it is right");
        assert_eq!((domain.name.as_str(), domain.max_connections), ("xn--bcher-kva.test", 7));
        assert_eq!((domain.recipients.recipients, domain.recipients.list), (Recipients::List, None));
        for (wrong, expected) in [
            ("recipient_list = \"/etc/shadow\"", "recipient_list: \"/etc/shadow\" names a file"),
            ("arc = { domain = \"a.test\", selector = \"s\", key = \"/etc/shadow\" }", "arc: "),
            ("retention = \"1y\"", "retention: "),
            ("colour = \"red\"", "colour: unknown key"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(expected), "{error}");
        }
        assert!(Domain::provisioned_keys().contains(&"quota"));
        assert!(!Domain::provisioned_keys().contains(&"arc"));
    }
}
