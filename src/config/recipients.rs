//! Keys of `[[domain]]` about who its recipients are.

use core::fmt;
use std::path::{Path, PathBuf};

use super::reader::{ConfigError, Table};

/// What is known about the recipients of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientPolicy {
    /// Who is a recipient.
    pub recipients: Recipients,
    /// The file with a domain's addresses; as it was written, so relative to the working directory.
    pub list: Option<PathBuf>,
    /// Stands between a user and a detail; none: there are no details.
    pub subaddress_delimiter: Option<char>,
}

/// Who is a recipient of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Whoever is named in RCPT.
    Any,
    /// Whoever is in a file.
    List,
}

impl RecipientPolicy {
    /// The file that decides, if one does.
    #[must_use]
    pub fn list_in_force(&self) -> Option<&Path> {
        self.list.as_deref().filter(|_| self.recipients == Recipients::List)
    }
}

/// The keys that [`read`] reads.
pub(super) const KEYS: [&str; 3] = ["recipients", "recipient_list", "subaddress_delimiter"];

impl Default for RecipientPolicy {
    fn default() -> Self {
        Self { recipients: Recipients::Any, list: None, subaddress_delimiter: Some('+') }
    }
}

/// The policy of a domain.
pub(super) fn read(table: &Table) -> Result<RecipientPolicy, ConfigError> {
    let default = RecipientPolicy::default();
    let recipients = match table.value("recipients") {
        Some(value) => {
            value.choice(&[("any", Recipients::Any), ("list", Recipients::List)], &["learn", "verify"])?
        }
        None => default.recipients,
    };
    let list = match table.value("recipient_list") {
        Some(value) if value.string()?.is_empty() => return Err(value.error("is no file")),
        Some(value) => Some(PathBuf::from(value.string()?)),
        None if recipients == Recipients::List => {
            return Err(table.missing("recipient_list", "is missing: recipients = \"list\" needs a file"));
        }
        None => None,
    };
    let subaddress_delimiter = match table.value("subaddress_delimiter") {
        Some(value) => {
            let mut characters = value.string()?.chars();
            match (characters.next(), characters.next()) {
                (None, _) => None,
                (Some(one), None) if is_delimiter(one) => Some(one),
                _ => return Err(value.error("is not one of + - = # _ . ! ~ or empty")),
            }
        }
        None => default.subaddress_delimiter,
    };
    Ok(RecipientPolicy { recipients, list, subaddress_delimiter })
}

/// What may stand in an unquoted local part and is no letter or digit, of what mail servers offer.
fn is_delimiter(character: char) -> bool {
    "+-=#_.!~".contains(character)
}

impl fmt::Display for Recipients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "any",
            Self::List => "list",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(keys: &str) -> Result<RecipientPolicy, String> {
        let text = format!("[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n{keys}\n");
        let mut config = Config::parse(&text, "t").map_err(|error| error.to_string())?;
        Ok(config.domains.remove(0).recipients)
    }

    #[test]
    fn a_policy_is_any_until_it_is_told() {
        assert_eq!(parse(""), Ok(RecipientPolicy::default()));
        let list =
            parse("recipients = \"list\"\nrecipient_list = \"r.txt\"\nsubaddress_delimiter = \"-\"").unwrap();
        assert_eq!((list.recipients, list.subaddress_delimiter), (Recipients::List, Some('-')));
        assert_eq!(list.list, Some(PathBuf::from("r.txt")));
        assert_eq!(parse("subaddress_delimiter = \"\"").unwrap().subaddress_delimiter, None);
        // The file may wait there for the day on which the policy is `list`.
        assert!(parse("recipients = \"any\"\nrecipient_list = \"r.txt\"").is_ok());
    }

    #[test]
    fn a_bad_policy_is_named_with_its_line() {
        for (keys, expected) in [
            ("recipients = \"list\"", "t:1: domain[0].recipient_list: is missing: recipients"),
            ("recipient_list = \"\"", "t:4: domain[0].recipient_list: \"\" is no file"),
            ("subaddress_delimiter = \"++\"", "t:4: domain[0].subaddress_delimiter: \"++\" is not one of"),
            ("subaddress_delimiter = \"a\"", "t:4: domain[0].subaddress_delimiter: \"a\" is not one of"),
            ("recipients = \"all\"", "t:4: domain[0].recipients: \"all\" is not one of"),
        ] {
            let error = parse(keys).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
