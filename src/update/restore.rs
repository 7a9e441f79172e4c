//! Restoring a backup onto an appliance: what the server asks of PID 1, what it is answered, and what both hold an archive against.
//!
//! The archive is looked at by the program itself, as the server's user (`stratamx restore`): it says in JSON what the archive is ([`Looked`]). An appliance
//! keeps its configuration as a flat set of files, so one that names files elsewhere has no place there ([`Looked::unfit`]).

use super::at_rest::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path};
use utoipa::ToSchema;

/// The archive in the server's data directory, complete.
pub const FILE: &str = "restore.tar.zst";
/// Beside it: one that a server before left, while it is overwritten.
pub const LEFT: &str = ".restore-left";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Take the archive that is in the data directory in place of what is there, by a start of the machine.
    Begin {
        /// The configuration stays as it is.
        keep_configuration: bool,
        /// Who wants it, as the audit log names him.
        caller: String,
    },
    /// How it stands.
    Status,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is ordered; the machine starts again now.
    Ordered,
    /// Nothing has changed.
    Refused(Refused),
    /// How it stands.
    Status(Status),
}

/// Why nothing has changed; a sentence each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The archive cannot be taken.
    #[error("{0}")]
    Invalid(String),
    /// The disk is too small for it, or does not take it.
    #[error("{0}")]
    NoRoom(String),
    /// Not now.
    #[error("{0}")]
    State(String),
}

/// How restoring stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Restore)]
pub struct Status {
    /// What goes on
    pub state: State,
    /// Why no backup can be taken back now; null: one can
    pub refused: Option<String>,
    /// How the last one ended
    pub last: Option<Last>,
}

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestoreState)]
pub enum State {
    /// Nothing
    Idle,
    /// An archive is being looked at
    Looking,
    /// It is ordered, and the machine starts again
    Restarting,
}

/// A backup that was to be taken back, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RestoreLast)]
pub struct Last {
    /// What it was
    #[serde(flatten)]
    pub of: Of,
    /// How it ended
    pub outcome: Outcome,
    /// Why it was given up
    pub error: Option<String>,
    /// Recipients for whom mail waits in what was restored, null where that is not known
    pub backlog: Option<u64>,
    /// Recipients for whom it is held
    pub held: Option<u64>,
    /// When it ended, in seconds since 1970
    pub at_s: u64,
}

/// See [`Last`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = RestoreOf)]
pub struct Of {
    /// The host that the backup was made of
    pub hostname: String,
    /// When it was made, in seconds since 1970
    pub made_at_s: u64,
    /// Whether the configuration was to stay as it was
    pub keep_configuration: bool,
    /// By which token it was asked for
    pub caller: String,
}

/// See [`Last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestoreOutcome)]
pub enum Outcome {
    /// It was given up, and the machine is as it was before
    GivenUp,
    /// The machine is what the archive says
    Restored,
}

/// What the program says of an archive that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Looked {
    /// Of which server.
    pub hostname: String,
    /// When it was made, in seconds since 1970.
    pub made_at_s: u64,
    /// What comes out of it.
    pub octets: u64,
    /// Whether there is a configuration in it.
    pub has_configuration: bool,
    /// Whether that one names a key file of mail at rest.
    pub has_key_file: bool,
    /// What the configuration names.
    pub named: Vec<Named>,
    /// Of what was unpacked.
    pub queue: Option<Queue>,
    /// For PID 1 alone: the files of the configuration that have a place on an appliance, in Base64, by their names.
    pub files: BTreeMap<String, Secret>,
    /// For PID 1 alone: the text of the key file of mail at rest, whoever made it.
    pub keys: Option<Secret>,
}

/// A file that a configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// As the configuration has it.
    pub path: String,
    /// False: it was not there.
    pub held: bool,
}

/// What waits in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Recipients for whom mail waits.
    pub backlog: u64,
    /// Recipients for whom it is held.
    pub held: u64,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

impl Looked {
    /// Why its configuration cannot be an appliance's, if so.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        if !self.has_configuration {
            return Some(format!(
                "the backup holds no configuration, since its server ran by the embedded one: {KEEPING}"
            ));
        }
        let elsewhere: Vec<&str> =
            self.named.iter().map(|named| named.path.as_str()).filter(|path| flat(path).is_none()).collect();
        if elsewhere.is_empty() {
            return None;
        }
        Some(format!(
            "the configuration in it names files elsewhere than beside itself, where an appliance has none: {}: {KEEPING}, \
             then hand in a changed one with those files by stratamx configuration apply",
            elsewhere.join(", ")
        ))
    }
}

const KEEPING: &str = "take it back with the configuration kept (--keep-configuration, ?configuration=keep)";

/// The name of a file that stands beside the configuration which names it so; none: it stands elsewhere.
#[must_use]
pub fn flat(path: &str) -> Option<&str> {
    let mut parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.to_str(),
        _ => None,
    }
}

/// Why no backup is taken back while mail is here.
#[must_use]
pub fn has_mail(backlog: u64, held: u64) -> Option<String> {
    (backlog + held > 0).then(|| {
        format!(
            "mail waits here for {backlog} recipients, and for {held} it is held: two queues cannot be made one, and nothing is thrown away. Hand it over, \
             release or delete it first (stratamx queue list), or take the backup back on a machine without mail"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_the_configuration_has_a_place_on_an_appliance() {
        for (path, expected) in [
            ("keys", Some("keys")),
            ("./keys.pem", Some("keys.pem")),
            ("/etc/keys", None),
            ("../keys", None),
            ("lists/keys", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(flat(path), expected, "{path}");
        }
        let named = |path: &str| Named { path: path.to_owned(), held: false };
        let mut looked = Looked { named: vec![named("a"), named("/etc/b")], ..Looked::default() };
        assert!(looked.unfit().unwrap().contains("no configuration"));
        looked.has_configuration = true;
        let why = looked.unfit().unwrap();
        assert!(why.contains("none: /etc/b: ") && why.contains("--keep-configuration"), "{why}");
        looked.named.pop();
        assert_eq!(looked.unfit(), None);
    }

    #[test]
    fn mail_that_is_here_is_counted() {
        assert_eq!(has_mail(0, 0), None);
        assert!(has_mail(3, 1).unwrap().contains("for 3 recipients, and for 1 it is held"));
        assert!(has_mail(0, 1).is_some());
    }
}
