//! Reading the key file of mail at rest: the one that the configuration names, else that of the appliance, where PID 1 names one. While PID 1 has not opened it, it is not
//! there, and the machine is locked.

use crate::config::{self, Storage};
use crate::update::at_rest::KEYS_VARIABLE;
use std::path::PathBuf;
use storage::crypt::Keys;

/// The permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Whether the machine's keys are not open: there is mail that cannot be read, and none may be taken.
pub(super) fn are_locked(storage: &Storage) -> bool {
    storage.key_file.is_none() && machines().is_some_and(|path| !path.exists())
}

/// The machine's key file, on an appliance that encrypts.
pub(super) fn machines() -> Option<PathBuf> {
    std::env::var_os(KEYS_VARIABLE).map(PathBuf::from)
}

/// The keys of the key file that is named; none without one.
///
/// # Errors
/// A sentence for the operator: the file cannot be read, others can read it, or what is wrong in which line.
pub(super) fn load(storage: &Storage) -> Result<Keys, String> {
    let Some(path) = storage.key_file.clone().or_else(machines) else { return Ok(Keys::default()) };
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let status = rustix::fs::stat(&path).map_err(|error| failed(&error))?;
    if status.st_mode & OTHERS != 0 {
        return Err(failed(&"others may read the keys: chmod 600"));
    }
    let octets = config::read(&path).map_err(|error| failed(&error))?;
    let text = core::str::from_utf8(&octets).map_err(|error| failed(&error))?;
    Keys::parse(text).map_err(|error| failed(&error))
}
