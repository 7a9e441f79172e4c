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
    /// What becomes of whom `learn` and `verify` do not know.
    pub unknown_during_outage: UnknownDuringOutage,
}

/// Who is a recipient of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Whoever is named in RCPT.
    Any,
    /// Whoever is in a file.
    List,
    /// Whom the primary did not refuse, in what was handed over.
    Learn,
    /// Whom the primary accepts when it is asked.
    Verify,
}

/// What becomes of a recipient of whom nothing is known, while the primary cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownDuringOutage {
    /// It is taken.
    Accept,
    /// The sender is to come again: `450 4.1.1`.
    Defer,
    /// It is refused: `550 5.1.1`.
    Reject,
}

impl RecipientPolicy {
    /// The file that decides, if one does.
    #[must_use]
    pub fn list_in_force(&self) -> Option<&Path> {
        self.list.as_deref().filter(|_| self.recipients == Recipients::List)
    }
}

/// Where a domain is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// In the file: pinned.
    File,
    /// By the API.
    Api,
}

/// The keys that [`read`] reads.
pub(super) const KEYS: [&str; 4] =
    ["recipients", "recipient_list", "subaddress_delimiter", "unknown_during_outage"];

impl Default for RecipientPolicy {
    fn default() -> Self {
        Self {
            recipients: Recipients::Any,
            list: None,
            subaddress_delimiter: Some('+'),
            unknown_during_outage: UnknownDuringOutage::Accept,
        }
    }
}

/// Policies by their names.
const POLICIES: [(&str, Recipients); 4] = [
    ("any", Recipients::Any),
    ("learn", Recipients::Learn),
    ("verify", Recipients::Verify),
    ("list", Recipients::List),
];
const UNKNOWN: [(&str, UnknownDuringOutage); 3] = [
    ("accept", UnknownDuringOutage::Accept),
    ("defer", UnknownDuringOutage::Defer),
    ("reject", UnknownDuringOutage::Reject),
];

/// The policy of a domain.
pub(super) fn read(table: &Table, origin: Origin) -> Result<RecipientPolicy, ConfigError> {
    let default = RecipientPolicy::default();
    let recipients = match table.value("recipients") {
        Some(value) => value.choice(&POLICIES, &[])?,
        None => default.recipients,
    };
    let list = match table.value("recipient_list") {
        Some(value) if value.string()?.is_empty() => return Err(value.error("is no file")),
        Some(value) => Some(PathBuf::from(value.string()?)),
        None if recipients == Recipients::List && origin == Origin::File => {
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
    let unknown_during_outage = match table.value("unknown_during_outage") {
        Some(value) => value.choice(&UNKNOWN, &[])?,
        None => default.unknown_during_outage,
    };
    Ok(RecipientPolicy { recipients, list, subaddress_delimiter, unknown_during_outage })
}

/// What may stand in an unquoted local part and is no letter or digit, of what mail servers offer.
fn is_delimiter(character: char) -> bool {
    "+-=#_.!~".contains(character)
}

impl fmt::Display for Recipients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "any",
            Self::Learn => "learn",
            Self::List => "list",
            Self::Verify => "verify",
        })
    }
}

impl fmt::Display for UnknownDuringOutage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Accept => "accept",
            Self::Defer => "defer",
            Self::Reject => "reject",
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
        let verify = parse("recipients = \"verify\"\nunknown_during_outage = \"defer\"").unwrap();
        assert_eq!(verify.unknown_during_outage, UnknownDuringOutage::Defer);
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
