//! The directory that the server works in, where somebody else makes a new one for each configuration: PID 1 of the appliance.
//!
//! Names of files in a configuration are relative to it, so a reload goes there first. One that fails goes back: what is in force has its files there.

use crate::update::configuration::DIRECTORY_VARIABLE;
use std::io;
use std::path::PathBuf;

/// Where the server was before it went to the directory in force; there is none where nobody makes any.
#[derive(Debug)]
pub(super) struct Before(Option<PathBuf>);

/// Goes to the directory in force.
///
/// # Errors
/// A sentence for the operator; the server works where it did.
pub(super) fn follow() -> Result<Before, String> {
    let Some(link) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return Ok(Before(None)) };
    let failed = |error: io::Error| format!("{}: {error}", link.display());
    let before = std::env::current_dir().map_err(failed)?;
    std::env::set_current_dir(&link).map_err(failed)?;
    Ok(Before(Some(before)))
}

impl Before {
    /// Goes back.
    pub(super) fn restore(self) {
        if let Some(Err(error)) = self.0.map(std::env::set_current_dir) {
            tracing::error!(%error, "the directory of the configuration in force cannot be worked in any more");
        }
    }
}
