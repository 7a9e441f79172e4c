//! Lists of recipients: read from files, and read again when the files change.
//!
//! A list that cannot be used never replaces one that could: the error is logged once for each change, with the line,
//! and the list in force stays. Since a list refuses mail for good, two mistakes are taken for such: a list without a
//! single address, which is what a file that is being rewritten looks like, and an address of another domain. A file
//! is read only when it has stayed the same from one look to the next, so that a half-written one is not taken.
//!
//! What primaries said about recipients is kept in the data directory, once a minute and at the end ([`known_file`]).
//!
//! Who looks, and when, is [`super::files`].

use super::file::{Look, keep, look};
use super::known_file;
use crate::bridge::{RecipientList, RecipientListBuilder, Recipients};
use crate::config::{self, Config};
use crate::limits::{RECIPIENT_LIST_LINE_OCTETS_MAX, RECIPIENT_LIST_OCTETS_MAX};
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file of what primaries said, in the data directory.
const KNOWN_FILE: &str = "recipients";

/// A list that was read, and of which domain.
#[derive(Debug)]
pub struct Loaded {
    domain: String,
    path: PathBuf,
    seen: Look,
    list: Arc<RecipientList>,
}

/// Reads the lists of all domains that have one.
///
/// # Errors
/// A sentence for the operator that names the file, and the line where there is one.
pub fn load(config: &Config) -> Result<Vec<Loaded>, String> {
    let listed = config.domains.iter().filter_map(|domain| {
        let path = domain.recipients.list_in_force()?;
        Some((domain.name.as_str(), path))
    });
    listed
        .map(|(domain, path)| {
            // Before the file is read: what changes meanwhile is a change.
            let seen = look(path);
            let list = Arc::new(read(path, domain)?);
            Ok(Loaded { domain: domain.to_owned(), path: path.to_owned(), seen, list })
        })
        .collect()
}

fn read(path: &Path, domain: &str) -> Result<RecipientList, String> {
    let failed = |what: &dyn core::fmt::Display| format!("{}: {what}", path.display());
    let mut file = config::open_list(path).map_err(|error| failed(&error))?;
    parse(&mut file, domain).map_err(|error| match error {
        BadList::At(line, what) => format!("{}:{line}: {what}", path.display()),
        BadList::Whole(what) => failed(&what),
    })
}

/// Why a list is not taken.
#[derive(PartialEq, Eq, Debug)]
enum BadList {
    /// This line.
    At(usize, String),
    Whole(String),
}

/// One address a line; blank lines, and lines that begin with `#`, say nothing. `@domain` means everybody in it.
fn parse(file: &mut impl BufRead, domain: &str) -> Result<RecipientList, BadList> {
    let mut list = RecipientListBuilder::default();
    let (mut line, mut octets) = (Vec::new(), 0);
    for number in 1.. {
        line.clear();
        let limit = RECIPIENT_LIST_LINE_OCTETS_MAX as u64 + 1;
        let read = file.take(limit).read_until(b'\n', &mut line);
        octets += read.map_err(|error| BadList::Whole(error.to_string()))? as u64;
        if line.is_empty() {
            break;
        }
        let bad = |what: String| BadList::At(number, what);
        if line.len() > RECIPIENT_LIST_LINE_OCTETS_MAX {
            return Err(bad("the line is too long for an address".to_owned()));
        }
        if octets > RECIPIENT_LIST_OCTETS_MAX {
            return Err(BadList::Whole("the file is too large".to_owned()));
        }
        let text = core::str::from_utf8(&line).map_err(|_| bad("not UTF-8".to_owned()))?;
        let text = text.strip_prefix('\u{feff}').filter(|_| number == 1).unwrap_or(text).trim();
        if !text.is_empty() && !text.starts_with('#') {
            list.add(text, domain).map_err(|error| bad(format!("{text:?} {error}")))?;
        }
    }
    if list.is_empty() {
        return Err(BadList::Whole("no address in it; it would refuse everybody".to_owned()));
    }
    Ok(list.finish())
}

/// Keeps what is known of recipients as it is in the files.
#[derive(Debug)]
pub struct Keeper {
    recipients: Arc<Recipients>,
    data_dir: PathBuf,
    watched: Mutex<Vec<Watched>>,
}

/// A list's file, and what it was like.
#[derive(Debug)]
struct Watched {
    domain: String,
    path: PathBuf,
    /// When it was read.
    read: Look,
    /// At the last look.
    seen: Look,
}

impl Keeper {
    /// For a process that knows nobody yet; `data_dir` is its own.
    #[must_use]
    pub fn new(recipients: Arc<Recipients>, data_dir: &Path) -> Self {
        Self { recipients, data_dir: data_dir.to_owned(), watched: Mutex::default() }
    }

    /// Takes what primaries said before the process began. Without it everybody is unknown, until they say it again.
    pub fn restore(&self) {
        let path = self.data_dir.join(KNOWN_FILE);
        let mut octets = Vec::new();
        let read = config::open_list(&path).and_then(|mut file| file.read_to_end(&mut octets));
        let file = path.display();
        match read {
            Ok(_) => match known_file::restore(&octets, &self.recipients) {
                Some(recipients) => {
                    tracing::info!(%file, recipients, "what primaries said about recipients was read")
                }
                None => {
                    tracing::error!(%file, "what primaries said about recipients is damaged: it is learned anew")
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%file, %error, "what primaries said about recipients cannot be read")
            }
        }
    }

    /// Writes down what primaries said, if there is anything new.
    pub fn keep(&self) {
        let Some(news) = self.recipients.news() else { return };
        if let Err(error) = keep(&self.data_dir, KNOWN_FILE, &known_file::encode(&news)) {
            self.recipients.not_kept();
            tracing::error!(%error, "what primaries said about recipients cannot be written; it is tried again");
        }
    }

    /// These lists are in force from now on, and watched.
    pub fn use_lists(&self, lists: Vec<Loaded>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for one in watched.drain(..).filter(|one| lists.iter().all(|list| list.domain != one.domain)) {
            // Whoever still looks at it, by a configuration that is about to go, finds none.
            self.recipients.domain(&one.domain).use_list(Arc::default());
        }
        for Loaded { domain, path, seen, list } in lists {
            tracing::info!(domain, file = %path.display(), recipients = list.len(), "recipients read");
            self.recipients.domain(&domain).use_list(list);
            watched.push(Watched { domain, path, read: seen, seen });
        }
    }

    /// One look at all files; reads those that have changed and come to rest.
    pub fn look_again(&self) {
        // Held while a file is read: a reload comes after it, and replaces what it took.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for one in watched.iter_mut() {
            let now = look(&one.path);
            let is_at_rest = core::mem::replace(&mut one.seen, now) == now;
            if now == one.read || !is_at_rest {
                continue;
            }
            one.read = now;
            let (domain, file) = (&one.domain, one.path.display());
            match read(&one.path, &one.domain) {
                Ok(list) => {
                    tracing::info!(domain, %file, recipients = list.len(), "recipients read again");
                    self.recipients.domain(&one.domain).use_list(Arc::new(list));
                }
                Err(error) => tracing::error!(domain, error, "recipient_list: the list in force stays"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<RecipientList, BadList> {
        parse(&mut text.as_bytes(), "xn--bcher-kva.test")
    }

    #[test]
    fn a_list_has_an_address_a_line() {
        let list = parsed(
            "\u{feff}# ours\r\n\r\n  A@b\u{fc}cher.test\r\n\"b c\"@BÜCHER.test \n\n #x@other.test\nü@xn--bcher-kva.TEST",
        )
        .expect("a list");
        assert_eq!(list.len(), 3);
        assert!(list.contains("a") && list.contains("b c") && list.contains("ü") && !list.contains("x"));
        assert!(parsed("@bücher.test").expect("a list").contains("whoever"));
    }

    #[test]
    fn a_bad_list_names_its_line_and_none_is_taken_in_part() {
        for (text, line, expected) in [
            ("a@bücher.test\nb@other.test\n", 2, "\"b@other.test\" is in another domain"),
            ("\n\nb\n", 3, "\"b\" is not a mail address"),
            ("a@bücher.test OK\n", 1, "\"a@bücher.test OK\" is not a mail address"),
            ("@other.test\n", 1, "\"@other.test\" is in another domain"),
        ] {
            match parsed(text).expect_err("bad") {
                BadList::At(at, what) => assert!(at == line && what.starts_with(expected), "{at}: {what}"),
                BadList::Whole(what) => panic!("{what}"),
            }
        }
        let long = format!("{}@bücher.test", "a".repeat(3000));
        assert!(matches!(parsed(&long), Err(BadList::At(1, _))));
        let latin1 = b"\xfc@b.test\n";
        assert!(matches!(parse(&mut &latin1[..], "b.test"), Err(BadList::At(1, _))));
        for text in ["", "# nobody\n", "\n\n"] {
            assert!(matches!(parsed(text), Err(BadList::Whole(_))), "{text:?}");
        }
    }
}
