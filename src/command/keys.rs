//! Reading the key file of mail at rest.

use crate::config::Storage;
use crate::limits::CONFIG_OCTETS_MAX;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use storage::crypt::Keys;

/// The keys that the configuration names; none without a key file.
///
/// # Errors
/// A sentence for the operator: the file cannot be read, others can read it, or what is wrong in which line.
pub(super) fn load(storage: &Storage) -> Result<Keys, String> {
    let Some(path) = &storage.key_file else { return Ok(Keys::default()) };
    let failed = |what: String| format!("{}: {what}", path.display());
    let io = |error: std::io::Error| failed(error.to_string());
    #[expect(clippy::disallowed_methods, reason = "the one place where a key file is read")]
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
        return Err(failed("others may read the keys: chmod 600".to_owned()));
    }
    let mut text = String::new();
    file.take(CONFIG_OCTETS_MAX).read_to_string(&mut text).map_err(io)?;
    Keys::parse(&text).map_err(|error| failed(error.to_string()))
}
