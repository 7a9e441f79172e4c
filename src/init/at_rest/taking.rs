//! The keys of a backup that is taken back: sealed beside those in force before the machine starts again, and put in their place by that start, with the mail that they open.
//!
//! Nothing of them is on the disk in plain: where the machine seals none, mail of a backup that is encrypted is refused, and it is said what to set. The new file has the slots of
//! the one in force, so whatever opens the machine opens it behind the restart too. Keys of the machine's own stay in it where the backup has none of their number: every appliance
//! calls its first key 1, so of two with one number that of the backup counts. What the other one opens goes with the data directory that it belongs to.

use super::{AtRest, FILE, State, overwrite};
use crate::init::tool::{sync_directory, write_durably};
use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Beside [`FILE`], until the swap.
pub(super) const RESTORED: &str = "at-rest.restored";
/// Why nothing is changed about keys that are about to go.
pub(super) const REPLACED: &str =
    "a backup is taken back, and the machine starts again: once more behind that";
/// Hexadecimal digits of a key.
const DIGITS: usize = 64;

/// Keys by their numbers.
type Lines = BTreeMap<u32, String>;

impl AtRest {
    /// Seals the keys of a backup for the next start.
    ///
    /// # Errors
    /// A sentence with what has to be set first.
    pub(crate) fn take_over(&self, keys: &str) -> Result<(), String> {
        let theirs = lines(keys)?;
        let mut inner = self.lock();
        let (sealed, wrapping) = match &inner.state {
            State::Open(sealed, wrapping) => (sealed, wrapping),
            State::Plain(why) => {
                return Err(format!(
                    "mail in the backup is encrypted, and this machine has no keys of its own to seal them with ({why}): set [at_rest] key = \"passphrase\" \
                     or \"tpm\" in appliance.toml (stratamx configuration apply), set the passphrase (stratamx at-rest passphrase), then once more"
                ));
            }
            State::Own => {
                return Err(
                    "mail in the backup is encrypted, and the machine's own keys are not used while its configuration names storage.key_file: take that key \
                     out first (stratamx configuration apply), then once more"
                        .to_owned(),
                );
            }
            State::Locked(..) | State::Unset => return Err(inner.unchangeable()),
        };
        let own = lines(&sealed.keys(wrapping).map_err(|error| error.to_string())?)?;
        let new = sealed.with_keys(wrapping, &text(&united(own, theirs)))?;
        let written = write_durably(&inner.places.state, RESTORED, new.text()?.as_bytes(), 0o600);
        written.map_err(|error| format!("{RESTORED}: {error}"))?;
        inner.is_replaced = true;
        Ok(())
    }

    /// They are not wanted after all.
    pub(crate) fn keep_own(&self) {
        let mut inner = self.lock();
        let _ = forget(&inner.places.state);
        inner.is_replaced = false;
    }
}

/// Whether all keys of one file stand in another.
///
/// # Errors
/// A sentence: one of them is no key file.
pub(crate) fn holds(own: &str, theirs: &str) -> Result<bool, String> {
    let own = lines(own)?;
    Ok(lines(theirs)?.iter().all(|(id, key)| own.get(id) == Some(key)))
}

/// Puts the sealed keys of the backup in force, if there are any; those before are overwritten. Done twice it is done once.
///
/// # Errors
/// Of the file system.
pub(crate) fn put_in_force(state: &Path) -> io::Result<()> {
    let before = OpenOptions::new().write(true).open(state.join(FILE));
    match fs::rename(state.join(RESTORED), state.join(FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    sync_directory(state)?;
    if let Ok(before) = before {
        // It has no name any more; what cannot be overwritten goes as any file does.
        let _ = overwrite(before);
    }
    Ok(())
}

/// The sealed keys of a backup that is not taken back go.
///
/// # Errors
/// Of the file system.
pub(crate) fn forget(state: &Path) -> io::Result<()> {
    super::erase_these(state, &[&format!("{RESTORED}.new"), RESTORED])
}

/// Of one number that of the backup.
fn united(own: Lines, theirs: Lines) -> Lines {
    let mut all = own;
    all.extend(theirs);
    all
}

/// As the server reads it: a line a key, `<number> <64 hexadecimal digits>`; empty lines and `#` comments aside.
fn lines(text: &str) -> Result<Lines, String> {
    let mut keys = Lines::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let key = line.split_once(char::is_whitespace).and_then(|(id, key)| {
            let id: u32 = id.parse().ok().filter(|id| *id > 0)?;
            let key = key.trim().to_ascii_lowercase();
            (key.len() == DIGITS && key.chars().all(|digit| digit.is_ascii_hexdigit())).then_some((id, key))
        });
        let (id, key) = key.ok_or("what should be the keys of mail at rest is no key file")?;
        if keys.insert(id, key).is_some() {
            return Err(format!("key {id} of mail at rest stands there twice"));
        }
    }
    Ok(keys)
}

fn text(keys: &Lines) -> String {
    keys.iter().fold(String::new(), |mut text, (id, key)| {
        let _ = writeln!(text, "{id} {key}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char) -> String {
        digit.to_string().repeat(DIGITS)
    }

    #[test]
    fn the_backups_keys_count_and_the_machines_own_stay_beside_them() {
        let own = lines(&format!("1 {}\n3 {}\n", key('a'), key('b'))).unwrap();
        let theirs = lines(&format!("# of a backup\n1 {}\n2 {} # second\n\n", key('C'), key('d'))).unwrap();
        let expected = format!("1 {}\n2 {}\n3 {}\n", key('c'), key('d'), key('b'));
        assert_eq!(text(&united(own, theirs)), expected);
        for wrong in ["1", "0 aa", "1 aa\n", &format!("x {}", key('a')), &format!("1 {}0", key('a'))] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
        assert!(lines(&format!("1 {}\n1 {}\n", key('a'), key('b'))).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_key_file_holds_another() {
        let own = format!("1 {}\n2 {}\n", key('a'), key('b'));
        assert_eq!(holds(&own, &format!("2 {}\n", key('B'))), Ok(true));
        assert_eq!(holds(&own, &format!("2 {}\n", key('a'))), Ok(false));
        assert_eq!(holds(&own, &format!("3 {}\n", key('a'))), Ok(false));
    }
}
