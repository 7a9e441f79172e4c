//! The first administrator's token: read from its file, or made there at the first start.
//!
//! Whoever can read the file may do everything, so it is ours alone (0600), and a file that others can read is
//! refused. The process keeps no token, only a keyed hash of it under a key that it made itself; comparing two of
//! those tells nothing by the time it takes.

use crate::config;
use crate::control::file::keep;
use crate::limits::{ADMIN_TOKEN_CHARACTERS_MIN, ADMIN_TOKEN_OCTETS_MAX};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

/// What a token that was made begins with: people and scanners of secrets see what it is.
const PREFIX: &str = "smx_";
/// Random octets of a token that is made.
const RANDOM_OCTETS: usize = 32;
/// The permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// What tells the token that is in force.
#[derive(Debug)]
pub struct Token {
    key: hmac::Key,
    tag: RwLock<hmac::Tag>,
}

impl Token {
    /// Tells this token.
    ///
    /// # Errors
    /// No random octets can be had.
    pub fn new(token: &str) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "no random octets can be had".to_owned())?;
        let tag = RwLock::new(hmac::sign(&key, token.as_bytes()));
        Ok(Self { key, tag })
    }

    /// Tells another one from now on.
    pub fn replace(&self, token: &str) {
        let tag = hmac::sign(&self.key, token.as_bytes());
        *self.tag.write().unwrap_or_else(PoisonError::into_inner) = tag;
    }

    /// Whether it is this one, in a time that does not tell how near it came.
    #[must_use]
    pub fn is(&self, token: &[u8]) -> bool {
        let tag = *self.tag.read().unwrap_or_else(PoisonError::into_inner);
        token.len() <= ADMIN_TOKEN_OCTETS_MAX && hmac::verify(&self.key, token, tag.as_ref()).is_ok()
    }
}

/// The token in a file.
///
/// # Errors
/// A sentence that names the file.
pub fn read(path: &Path) -> Result<String, String> {
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let status = rustix::fs::stat(path).map_err(|error| failed(&error))?;
    if status.st_mode & OTHERS != 0 {
        return Err(failed(&"others may read the token: chmod 600"));
    }
    let octets = config::read(path).map_err(|error| failed(&error))?;
    let text = core::str::from_utf8(&octets).map_err(|error| failed(&error))?.trim();
    let is_token = text.bytes().all(|octet| octet.is_ascii_graphic());
    if !is_token || !(ADMIN_TOKEN_CHARACTERS_MIN..=ADMIN_TOKEN_OCTETS_MAX).contains(&text.len()) {
        let wanted =
            format!("not a token: one line of {ADMIN_TOKEN_CHARACTERS_MIN} ASCII characters or more");
        return Err(failed(&wanted));
    }
    Ok(text.to_owned())
}

/// The token in `name` of the data directory, which is ours; made where there is none. And whether it was made.
///
/// # Errors
/// A sentence that names the file.
pub fn read_or_make(path: &Path) -> Result<(String, bool), String> {
    match rustix::fs::stat(path).map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound) => make(path).map(|token| (token, true)),
        _ => read(path).map(|token| (token, false)),
    }
}

/// A new token.
///
/// # Errors
/// No random octets can be had.
pub(super) fn random() -> Result<String, String> {
    let mut random = [0; RANDOM_OCTETS];
    SystemRandom::new().fill(&mut random).map_err(|_| "no random octets can be had".to_owned())?;
    let mut token = String::from(PREFIX);
    for octet in random {
        token.push_str(&format!("{octet:02x}"));
    }
    Ok(token)
}

fn make(path: &Path) -> Result<String, String> {
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let token = random().map_err(|error| failed(&error))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(&"not a file"))?;
    keep(directory, name, format!("{token}\n").as_bytes()).map_err(|error| failed(&error))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_all_others_and_none_is_kept() {
        let secret = "smx_0123456789abcdef0123";
        let token = Token::new(secret).unwrap();
        assert!(token.is(secret.as_bytes()));
        for other in ["", "smx_", "smx_0123456789abcdef0124", "smx_0123456789abcdef01234"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert!(!token.is(&vec![b'a'; 1 << 20]));
        assert!(!format!("{token:?}").contains("0123456789"));
        token.replace("another token altogether");
        assert!(!token.is(secret.as_bytes()) && token.is(b"another token altogether"));
    }
}
