//! Reading the key file of mail at rest.

use crate::config::{self, Storage};
use storage::crypt::Keys;

/// The permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// The keys that the configuration names; none without a key file.
///
/// # Errors
/// A sentence for the operator: the file cannot be read, others can read it, or what is wrong in which line.
pub(super) fn load(storage: &Storage) -> Result<Keys, String> {
    let Some(path) = &storage.key_file else { return Ok(Keys::default()) };
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let status = rustix::fs::stat(path).map_err(|error| failed(&error))?;
    if status.st_mode & OTHERS != 0 {
        return Err(failed(&"others may read the keys: chmod 600"));
    }
    let octets = config::read(path).map_err(|error| failed(&error))?;
    let text = core::str::from_utf8(&octets).map_err(|error| failed(&error))?;
    Keys::parse(text).map_err(|error| failed(&error))
}
