//! A configuration out of a backup, held against the one in force.

use super::super::place;
use super::super::revision::{self, CURRENT, Files, SERVER_FILE, files_of};
use super::Revisions;
use crate::config::Config;

impl Revisions {
    /// Why nothing else can be put in force now, if so.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let inner = self.lock();
        inner.probation.as_ref().map(|trial| {
            format!(
                "configuration revision {} is on probation: confirm it, or wait until {} is in force again",
                trial.record.number, trial.record.before
            )
        })
    }

    /// Whether these files can be in force at the next start.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn fits(&self, files: &Files) -> Result<(), String> {
        let inner = self.lock();
        let before = files_of(&inner.root.join(CURRENT))?;
        inner.refuse_fixed(&before, files).map_err(|refused| refused.to_string())?;
        let text = files.get(SERVER_FILE).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
        let config = Config::parse(&text, SERVER_FILE).map_err(|error| error.to_string())?;
        // The directory of none yet: mail is led to from any of them in the same way.
        place::place(&inner.root.join("new"), &config.data_dir)?;
        revision::check(&inner.root, files, inner.owner)
    }
}
