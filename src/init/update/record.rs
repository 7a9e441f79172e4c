//! What is known of updates over restarts: a small file on the data partition, written whole or not at all.
//!
//! A key that is not known is left out, and one that is missing is nothing: the version before and the next one read each other's (H13).

use super::super::tool::write_durably;
use crate::update::{Good, Last};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const FILE: &str = "update.json";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// An update that was begun, and whose end is not known yet.
    pub(super) pending: Option<Pending>,
    /// The last one that stayed.
    pub(super) good: Option<Good>,
    /// How the last one ended.
    pub(super) last: Option<Last>,
}

/// See [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) version: String,
    /// Why a start of it failed, where it could tell.
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// What a start finds of an update that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It runs and stays: the power failed before that was written down.
    Good,
    /// It was never complete.
    Interrupted,
    /// It runs, and has to prove itself.
    OnTrial,
    /// It had its starts.
    RolledBack,
    /// It has starts left, and somebody chose another version.
    Waiting,
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Good => "it runs and stays",
            Self::Interrupted => "it was interrupted, and the version before runs",
            Self::OnTrial => "it runs on trial",
            Self::RolledBack => "it did not prove itself, and the version before runs: rolled back",
            Self::Waiting => "it was not started yet",
        })
    }
}

impl Record {
    /// Reads it; one that cannot be read is nothing.
    pub(super) fn read(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Durable on return.
    pub(super) fn keep(&self, directory: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        write_durably(directory, FILE, text.as_bytes(), 0o600).map_err(|error| error.to_string())
    }
}

/// What became of an update, by what runs now and how many starts its file has left; none: there is no such file.
pub(super) fn judge(pending: &str, running: &str, is_on_trial: bool, left: Option<u32>) -> Found {
    match (pending == running, is_on_trial, left) {
        (true, true, _) => Found::OnTrial,
        (true, false, _) => Found::Good,
        (false, _, None) => Found::Interrupted,
        (false, _, Some(0)) => Found::RolledBack,
        (false, _, Some(_)) => Found::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::Outcome;

    #[test]
    fn the_loaders_count_tells_what_became_of_an_update() {
        for (running, is_on_trial, left, expected) in [
            ("2", true, Some(2), Found::OnTrial),
            ("2", true, Some(0), Found::OnTrial),
            ("2", true, None, Found::OnTrial),
            ("2", false, Some(u32::MAX), Found::Good),
            ("2", false, None, Found::Good),
            ("1", false, None, Found::Interrupted),
            ("1", true, None, Found::Interrupted),
            ("1", false, Some(0), Found::RolledBack),
            ("1", true, Some(0), Found::RolledBack),
            ("1", false, Some(3), Found::Waiting),
            ("1", false, Some(u32::MAX), Found::Waiting),
        ] {
            assert_eq!(judge("2", running, is_on_trial, left), expected, "{running} {is_on_trial} {left:?}");
        }
    }

    #[test]
    fn a_record_outlives_a_restart_and_another_version() {
        let directory = std::env::temp_dir().join(format!("stratamx-record-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(Record::read(&directory), Record::default());
        let last = Last { version: None, outcome: Outcome::Refused, error: Some("why".to_owned()), at_s: 7 };
        let pending = Some(Pending { version: "2".to_owned(), error: None });
        let record = Record { pending, good: None, last: Some(last) };
        record.keep(&directory).unwrap();
        assert_eq!(Record::read(&directory), record);
        fs::write(directory.join(FILE), "{\"pending\":{\"version\":\"2\",\"new\":1},\"later\":[]}").unwrap();
        assert_eq!(Record::read(&directory).pending.unwrap().version, "2");
        for torn in ["", "{", "\0\0\0"] {
            fs::write(directory.join(FILE), torn).unwrap();
            assert_eq!(Record::read(&directory), Record::default());
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
