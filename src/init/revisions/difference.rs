//! What is told of files: texts, and what differs in them; of keys, tokens and certificates that they changed, size and hash. Pure.
//!
//! A text is `stratamx.toml`, `appliance.toml`, or a file that the same revision uses as a list of recipients and for nothing else, with an address in
//! each line: naming a key as a list shows nothing of it. A token of ours in a text (in a comment, say) is left out.

use super::super::revision::{Files, MACHINE_FILE, SERVER_FILE};
use crate::config::Config;
use crate::limits::{
    CONFIGURATION_DIFFERENCE_OCTETS_MAX, CONFIGURATION_DIFFERENCE_PATIENCE, CONFIGURATION_TEXT_OCTETS_MAX,
};
use crate::update::configuration::{Difference, Listed};
use core::fmt::Write as _;
use ring::digest::{SHA256, digest};
use similar::TextDiff;
use std::collections::BTreeSet;
use std::path::Path;

/// Lines around each difference.
const CONTEXT_LINES: usize = 3;
/// What a token begins with, and what stands for one.
const TOKEN_PREFIX: &str = "smx_";
const TOKEN_HIDDEN: &str = "smx_(not shown)";

/// The files of a revision, and which of them are texts.
pub(super) struct Shown<'a> {
    files: &'a Files,
    lists: BTreeSet<String>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(files: &'a Files) -> Self {
        let text =
            files.get(SERVER_FILE).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
        let named = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let lists: BTreeSet<String> = match Config::parse(text, SERVER_FILE) {
            Ok(config) => {
                config.domains.iter().filter_map(|domain| named(domain.recipients.list_in_force()?)).collect()
            }
            Err(_) => BTreeSet::new(),
        };
        let mut others = BTreeSet::new();
        if let Ok(table) = text.parse::<toml::Table>() {
            collect(&toml::Value::Table(table), "", &mut others);
        }
        Self { files, lists: lists.difference(&others).cloned().collect() }
    }

    pub(super) fn listed(&self) -> Vec<Listed> {
        self.files.keys().filter_map(|name| self.one(name)).collect()
    }

    fn one(&self, name: &str) -> Option<Listed> {
        let octets = self.files.get(name)?;
        let mut sha256 = String::new();
        for octet in digest(&SHA256, octets).as_ref() {
            let _ = write!(sha256, "{octet:02x}");
        }
        let is_text = self.text(name).is_some();
        Some(Listed { name: name.to_owned(), size: octets.len() as u64, sha256, is_text })
    }

    /// What can be shown of a file.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let octets = self.files.get(name).filter(|octets| octets.len() <= CONFIGURATION_TEXT_OCTETS_MAX)?;
        let text = core::str::from_utf8(octets).ok()?;
        let is_own = name == SERVER_FILE || name == MACHINE_FILE;
        (is_own || self.lists.contains(name) && is_list(text)).then(|| without_tokens(text))
    }
}

/// All that differs, by name.
pub(super) fn differences(before: &Files, after: &Files) -> Vec<Difference> {
    let (old, new) = (Shown::of(before), Shown::of(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut left = CONFIGURATION_DIFFERENCE_OCTETS_MAX;
    let mut differences = Vec::new();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let (was, is) = (old.one(name), new.one(name));
        let is_told = [&was, &is].into_iter().flatten().all(|file| file.is_text);
        let diff = is_told.then(|| {
            let text = |shown: &Shown<'_>| shown.text(name).unwrap_or_default();
            let mut diff = unified(name, &text(&old), &text(&new));
            cut(&mut diff, left);
            left = left.saturating_sub(diff.len());
            diff
        });
        differences.push(Difference { name: name.clone(), before: was, after: is, diff });
    }
    differences
}

fn unified(name: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::configure().timeout(CONFIGURATION_DIFFERENCE_PATIENCE).diff_lines(before, after);
    let (a, b) = (format!("a/{name}"), format!("b/{name}"));
    diff.unified_diff().context_radius(CONTEXT_LINES).header(&a, &b).to_string()
}

/// Whole lines of it, as many as there is room for.
fn cut(diff: &mut String, most: usize) {
    if diff.len() > most {
        let end = (0..=most).rev().find(|end| diff.is_char_boundary(*end)).unwrap_or(0);
        let end = diff[..end].rfind('\n').map_or(0, |end| end + 1);
        diff.truncate(end);
        diff.push_str("(more differs than is shown)\n");
    }
}

/// Files that are named by anything but as a list of recipients.
fn collect(value: &toml::Value, key: &str, names: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| collect(value, key, names)),
        toml::Value::Array(values) => values.iter().for_each(|value| collect(value, key, names)),
        // `recipients` is a word.
        toml::Value::String(text) if !["recipient_list", "recipients"].contains(&key) => {
            names.extend(Path::new(text).file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
        _ => {}
    }
}

/// An address, or a whole domain, in each line that is not empty.
fn is_list(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line.contains('@'))
}

fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(TOKEN_PREFIX) {
        let (before, token) = rest.split_at(at);
        let is_part = |character: char| character.is_ascii_alphanumeric() || ['_', '-'].contains(&character);
        let end = token.find(|character| !is_part(character)).unwrap_or(token.len());
        out.push_str(before);
        out.push_str(TOKEN_HIDDEN);
        rest = &token[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "hostname = \"mx2.test\"\npostmaster = \"p@a.test\"\n[smtp]\nlisten = [\"0.0.0.0:25\"]\n[storage]\n\
        key_file = \"keys\"\n[admin]\ntoken_file = \"token\"\n[[domain]]\nname = \"a.test\"\nprimary = [\"192.0.2.1\"]\n\
        recipients = \"list\"\nrecipient_list = \"list\"\n";

    fn files(server: &str) -> Files {
        let pairs = [
            (SERVER_FILE, server),
            (MACHINE_FILE, ""),
            ("list", "a@a.test\n"),
            ("keys", "secret"),
            ("token", "smx_secret"),
        ];
        pairs.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into()
    }

    fn texts(files: &Files) -> Vec<String> {
        let listed = Shown::of(files).listed();
        listed.into_iter().filter_map(|file| file.is_text.then_some(file.name)).collect()
    }

    #[test]
    fn only_what_is_no_secret_is_a_text() {
        assert_eq!(texts(&files(SERVER)), [MACHINE_FILE, "list", SERVER_FILE]);
        // Whoever may change the configuration does not get at keys by it.
        for (from, to) in [
            ("recipient_list = \"list\"", "recipient_list = \"keys\""),
            ("recipient_list = \"list\"", "recipient_list = \"./token\""),
            ("recipients = \"list\"\nrecipient_list = \"list\"", "recipient_list = \"list\""),
            ("key_file = \"keys\"", "key_file = \"list\""),
            ("hostname", "hostnam"),
        ] {
            assert_eq!(
                texts(&files(&SERVER.replace(from, to))),
                [MACHINE_FILE, SERVER_FILE],
                "{from} -> {to}"
            );
        }
        let mut pem = files(
            &SERVER
                .replace("recipient_list = \"list\"", "recipient_list = \"keys\"")
                .replace("key_file = \"keys\"", ""),
        );
        pem.insert("keys".to_owned(), b"-----BEGIN".to_vec());
        assert!(!texts(&pem).contains(&"keys".to_owned()), "a key that was named a list");
        let mut latin = files(SERVER);
        latin.insert(MACHINE_FILE.to_owned(), vec![0xfc]);
        assert!(!texts(&latin).contains(&MACHINE_FILE.to_owned()));
    }

    #[test]
    fn a_token_in_a_comment_is_left_out() {
        let text = "# smx_0123456789abcdef, and smx_abc\nhostname = 1\n";
        assert_eq!(without_tokens(text), "# smx_(not shown), and smx_(not shown)\nhostname = 1\n");
        let shown = files(&format!("# smx_abcdef\n{SERVER}"));
        assert!(!Shown::of(&shown).text(SERVER_FILE).unwrap().contains("abcdef"));
    }

    #[test]
    fn what_differs_is_told_with_its_lines_or_by_its_hash() {
        let before = files(SERVER);
        let mut after = files(&SERVER.replace("192.0.2.1", "192.0.2.9"));
        after.insert("keys".to_owned(), b"another".to_vec());
        after.remove("token");
        after.insert("cert.pem".to_owned(), b"new".to_vec());
        let told = differences(&before, &after);
        let names: Vec<_> = told.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["cert.pem", "keys", SERVER_FILE, "token"]);
        assert!(told[0].before.is_none() && told[3].after.is_none());
        assert!(told[1].diff.is_none() && told[1].before.as_ref().unwrap().size == 6, "{:?}", told[1]);
        let diff = told[2].diff.as_ref().unwrap();
        let expected = "--- a/stratamx.toml\n+++ b/stratamx.toml\n@@ -8,6 +8,6 @@\n token_file = \"token\"\n [[domain]]\n \
            name = \"a.test\"\n-primary = [\"192.0.2.1\"]\n+primary = [\"192.0.2.9\"]\n recipients = \"list\"\n recipient_list = \"list\"\n";
        assert_eq!(diff, expected);
        assert!(!format!("{told:?}").contains("secret") && !format!("{told:?}").contains("another"));
    }

    #[test]
    fn what_differs_too_much_is_cut_off_and_says_so() {
        let list = |first: usize| {
            let mut all = files(SERVER);
            let lines: String = (first..first + 30_000).map(|number| format!("ü{number}@a.test\n")).collect();
            all.insert("list".to_owned(), lines.into_bytes());
            all
        };
        let told = differences(&list(0), &list(100_000));
        let diff = told[0].diff.as_ref().unwrap();
        assert!(diff.len() < CONFIGURATION_DIFFERENCE_OCTETS_MAX + 100);
        assert!(diff.ends_with("@a.test\n(more differs than is shown)\n"), "{}", &diff[diff.len() - 80..]);
    }
}
