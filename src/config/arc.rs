//! What the configuration says about ARC seals (RFC 8617): with which key mail is sealed that is handed over.

use super::host::parse_domain;
use super::reader::{ConfigError, Table, Value};
use std::path::PathBuf;

/// A key, and where its public half is published: `selector._domainkey.domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArcSeal {
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// The private key, RSA or Ed25519, in PEM.
    pub key: PathBuf,
}

/// The table `arc`; an empty one switches sealing off for a domain.
pub(super) fn read_arc(table: &Table, default: Option<&ArcSeal>) -> Result<Option<ArcSeal>, ConfigError> {
    let Some(value) = table.value("arc") else { return Ok(default.cloned()) };
    let arc = value.table()?;
    arc.expect_keys(&["domain", "selector", "key"])?;
    if ["domain", "selector", "key"].iter().all(|key| arc.value(key).is_none()) {
        return Ok(None);
    }
    let key = arc.required("key")?;
    let path = key.string()?;
    if path.is_empty() {
        return Err(key.error("is no file"));
    }
    let domain = arc.required("domain")?;
    let name = parse_domain(domain.string()?).map_err(|error| domain.error(error))?;
    let selector = read_selector(&arc.required("selector")?)?;
    Ok(Some(ArcSeal { domain: name, selector, key: path.into() }))
}

/// RFC 6376 3.1: labels, of which the last may be a number.
fn read_selector(value: &Value) -> Result<String, ConfigError> {
    let text = value.string()?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
    };
    if text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(value.error("is no selector (labels of letters, digits and hyphens)"))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(rest: &str) -> Result<Config, String> {
        let text = format!(
            "[delivery]\narc = {{ domain = \"Mx.test\", selector = \"s1\", key = \"a.pem\" }}\n\
             [[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n{rest}"
        );
        Config::parse(&text, "t").map_err(|error| error.to_string())
    }

    #[test]
    fn a_domain_has_a_key_of_its_own_or_that_of_all_or_none() {
        let arc = |rest: &str| parse(rest).expect("it is right").domains[0].arc.clone();
        assert_eq!(arc("").expect("that of all").domain, "mx.test");
        let own = arc("arc = { domain = \"one.test\", selector = \"k.2026\", key = \"b.pem\" }");
        assert_eq!(own.map(|arc| arc.selector), Some("k.2026".to_owned()));
        assert_eq!(arc("arc = {}"), None);
        for (wrong, expected) in [
            ("arc = { domain = \"a.test\", selector = \"s\" }", "t:6: domain[0].arc.key: is missing"),
            (
                "arc = { domain = \"a b\", selector = \"s\", key = \"k\" }",
                "t:6: domain[0].arc.domain: \"a b\" is not",
            ),
            (
                "arc = { domain = \"a.test\", selector = \"\", key = \"k\" }",
                "t:6: domain[0].arc.selector: \"\"",
            ),
            (
                "arc = { domain = \"a.test\", selector = \"s\", key = \"\" }",
                "t:6: domain[0].arc.key: \"\" is no file",
            ),
            ("arc = \"a.pem\"", "t:6: domain[0].arc: \"a.pem\" is not a table"),
        ] {
            let error = parse(wrong).expect_err(wrong);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
