//! Where the server finds its mail: on the data partition, whatever its configuration calls the directory.

use rustix::mount::mount_bind;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What is the machine's own, or a revision's.
const TAKEN: [&str; 14] = [
    "/proc",
    "/sys",
    "/dev",
    "/bin",
    "/sbin",
    "/etc",
    "/lib",
    "/run",
    "/data/state",
    "/data/config/current",
    // Directories that are removed whole.
    "/data/config.kept",
    "/data/factory-reset",
    "/data/mail.before",
    "/data/restore",
];

/// Makes the directory that the configuration names be `mail`, whatever its name: a configuration that comes from another machine serves as it is,
/// and a changed one finds the mail where it was.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn lead_to(mail: &Path, directory: &Path, data_dir: &Path) -> Result<PathBuf, String> {
    let place = place(directory, data_dir)?;
    if place == mail {
        return Ok(place);
    }
    let failed = |error: &dyn core::fmt::Display| format!("data_dir: {}: {error}", place.display());
    fs::create_dir_all(&place).map_err(|error| failed(&error))?;
    // A link on the way may lead anywhere.
    if fs::canonicalize(&place).map_err(|error| failed(&error))? != place {
        return Err(failed(&"leads elsewhere by a link"));
    }
    mount_bind(mail, &place).map_err(|error| failed(&error))?;
    Ok(place)
}

/// Its whole path, of a server that works in `directory`.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn place(directory: &Path, data_dir: &Path) -> Result<PathBuf, String> {
    let refused =
        |path: &Path| Err(format!("data_dir: {} is not for mail; leave the key out", path.display()));
    let joined = directory.join(data_dir);
    if joined.components().any(|part| part == Component::ParentDir) {
        return refused(&joined);
    }
    // Without any `.` in it.
    let place: PathBuf = joined.components().collect();
    let is_taken = TAKEN.iter().any(|taken| place.starts_with(taken))
        || Path::new("/data").starts_with(&place)
        || directory.starts_with(&place);
    if is_taken { refused(&place) } else { Ok(place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_led_to_from_anywhere_but_the_machines_own_places() {
        let directory = Path::new("/data/config/7");
        for (data_dir, expected) in [
            ("/data/mail", "/data/mail"),
            ("/var/lib/stratamx", "/var/lib/stratamx"),
            ("./stratamx-data", "/data/config/7/stratamx-data"),
            ("mail/./in", "/data/config/7/mail/in"),
            ("/data/mail/", "/data/mail"),
        ] {
            assert_eq!(place(directory, Path::new(data_dir)).unwrap(), Path::new(expected), "{data_dir}");
        }
        for refused in [
            "/",
            "/data",
            "/data/",
            "/data/config",
            "/data/config/7",
            ".",
            "./",
            "..",
            "../7",
            "/data/mail/..",
            "/data/mail/../state",
            "/proc/1",
            "/etc",
            "/data/state/x",
            "mail/../..",
            "/data/config/current/x",
        ] {
            assert!(place(directory, Path::new(refused)).unwrap_err().starts_with("data_dir: "), "{refused}");
        }
    }
}
