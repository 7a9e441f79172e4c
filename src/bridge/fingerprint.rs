//! What a host shows of itself in one session, and whether that is who was known: a table. Pure.
//!
//! A session shows *names* (of its greeting, and of its reply to EHLO), the word for its *software* as the greeting has it, the *keywords* of
//! EHLO, and the *key* of its certificate where TLS is spoken. What it answers for a recipient that cannot exist is its domain's: machines
//! behind one name share their directory. *Turned*: it refused such a one, and accepts it now.
//!
//! The first row that fits decides; `-` is anything:
//!
//! | answer | software | name | keywords | key | then |
//! |---|---|---|---|---|---|
//! | turned | - | - | - | - | changed |
//! | - | other | - | - | - | changed |
//! | - | - | other | other | - | changed |
//! | - | - | sibling | other | - | changed |
//! | - | - | other | - | other | changed |
//! | - | - | - | other | other | changed |
//! | - | hidden | other | - | - | changed |
//! | - | hidden | sibling | - | - | changed |
//! | - | hidden | - | other | - | changed |
//! | - | hidden | - | - | other | changed |
//! | - | same | same | same | same | same |
//! | - | - | - | - | - | ordinary |
//!
//! - *Turned* and *other software* say it alone: a rescue system takes whatever comes, and nobody changes his mail server unawares. A newer
//!   version of the same is the same: versions are not looked at.
//! - Any other sign alone is ordinary life: a key is renewed, an upgrade brings an extension, a machine is renamed, a banner is shortened
//!   (*hidden*: one of both names its software). Two of them together are another machine. But for a *sibling* (`mx1.example.com` and
//!   `mx2.example.com`) with a key of its own: that is a farm.
//! - Of SIZE and LIMITS the values are left out: they are settings, and a full disk halves one. STARTTLS and AUTH are left out since
//!   they depend on whether a session is secured yet, which no host can help.
//! - A key is compared where both sessions have one. Microsoft's and Google's hosts are thousands: their first label and keys say nothing.
//!
//! Whatever a host says is kept short, and printable, before anything else is done with it.

use crate::limits::{EHLO_KEYWORD_OCTETS_MAX, FINGERPRINT_KEYWORDS_MAX, FINGERPRINT_WORD_OCTETS_MAX};
use core::fmt::Write;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The name in its greeting.
    pub greeting: String,
    /// The name in its reply to EHLO; empty where it knows HELO only.
    pub hello: String,
    /// The word for its software, if its greeting has one.
    pub software: Option<String>,
    /// What it offers.
    pub keywords: BTreeSet<String>,
    /// SHA-256 of its public key, in hexadecimal; none without TLS.
    pub key: Option<String>,
}

/// What is answered for a recipient that cannot exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// He is accepted: so is anybody.
    Accepts,
    /// He is refused.
    Refuses,
}

/// Whether a host is who was known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Likeness {
    /// In all that is looked at.
    Same,
    /// But for what changes in ordinary life.
    Ordinary,
    /// It is another.
    Changed,
}

/// A session as it is seen, for [`Fingerprint::of`].
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The text of the greeting.
    pub greeting: &'a str,
    /// The name in the reply to EHLO.
    pub hello: &'a str,
    /// Keywords of EHLO, in upper case.
    pub keywords: &'a [String],
    /// SHA-256 of the public key of the host's certificate.
    pub key: Option<[u8; 32]>,
    /// It is one of thousands: its first label and its key say nothing.
    pub is_of_many: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Same,
    Sibling,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Software {
    Same,
    Hidden,
    Other,
}

/// What differs.
#[derive(Clone, Copy, Debug)]
struct Signs {
    is_turned: bool,
    software: Software,
    name: Name,
    keywords_differ: bool,
    keys_differ: bool,
}

impl Signs {
    /// The table of the module.
    fn likeness(self) -> Likeness {
        let weak = [
            self.software == Software::Hidden,
            self.name != Name::Same,
            self.keywords_differ,
            self.keys_differ,
        ];
        let count = weak.iter().filter(|sign| **sign).count();
        let is_farm = count == 2 && self.name == Name::Sibling && self.keys_differ;
        match count {
            _ if self.is_turned || self.software == Software::Other => Likeness::Changed,
            0 => Likeness::Same,
            1 => Likeness::Ordinary,
            _ if is_farm => Likeness::Ordinary,
            _ => Likeness::Changed,
        }
    }
}

impl Fingerprint {
    /// That of a session.
    #[must_use]
    pub fn of(session: &Session<'_>) -> Self {
        let name = |name: &str| {
            let name = word(name.trim_end_matches('.'));
            match name.split_once('.') {
                Some((_, zone)) if session.is_of_many => zone.to_owned(),
                _ => name,
            }
        };
        let keywords = session.keywords.iter().filter(|keyword| !OF_THE_WAY.contains(&keyword.as_str()));
        let keyword = |keyword: &String| printable(keyword, EHLO_KEYWORD_OCTETS_MAX);
        let key = session.key.filter(|_| !session.is_of_many);
        Self {
            greeting: name(session.greeting.split_ascii_whitespace().next().unwrap_or_default()),
            hello: name(session.hello),
            software: software(session.greeting),
            keywords: keywords.take(FINGERPRINT_KEYWORDS_MAX).map(keyword).collect(),
            key: key.map(|key| hexadecimal(&key)),
        }
    }

    /// Whether a host that shows `now` is this one; `is_turned`: see the module.
    #[must_use]
    pub fn likeness(&self, now: &Self, is_turned: bool) -> Likeness {
        self.signs(now, is_turned).likeness()
    }

    /// What is another than here, for people: `name mail.example.com -> rescue.example.net, ...`.
    #[must_use]
    pub fn told(&self, now: &Self, is_turned: bool) -> String {
        let signs = self.signs(now, is_turned);
        let mut told = String::new();
        let mut tell = |what: &str, before: &str, is: &str| {
            let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
            let separator = if told.is_empty() { "" } else { ", " };
            let _ = write!(told, "{separator}{what} {} -> {}", or_none(before), or_none(is));
        };
        if is_turned {
            tell("a recipient that cannot exist", "refused", "accepted");
        }
        if signs.name != Name::Same {
            tell("name", self.name(), now.name());
        }
        if signs.software != Software::Same {
            let shown = |one: &Self| one.software.clone().unwrap_or_default();
            tell("software", &shown(self), &shown(now));
        }
        if signs.keywords_differ {
            let only = |one: &Self, other: &Self| {
                one.keywords.difference(&other.keywords).cloned().collect::<Vec<_>>().join(" ")
            };
            tell("only before and only now offered", &only(self, now), &only(now, self));
        }
        if signs.keys_differ {
            let start = |one: &Self| one.key.iter().flat_map(|key| key.chars().take(16)).collect::<String>();
            tell("key", &start(self), &start(now));
        }
        told
    }

    fn name(&self) -> &str {
        if self.hello.is_empty() { &self.greeting } else { &self.hello }
    }

    fn signs(&self, now: &Self, is_turned: bool) -> Signs {
        Signs {
            is_turned,
            software: match (&self.software, &now.software) {
                (before, is) if before == is => Software::Same,
                (Some(_), Some(_)) => Software::Other,
                _ => Software::Hidden,
            },
            // A host may be one of many by its greeting and speak for all of them in its reply to EHLO, or the other way round.
            name: match () {
                () if self.greeting == now.greeting && !now.greeting.is_empty() => Name::Same,
                () if self.name() == now.name() => Name::Same,
                () if are_siblings(self.name(), now.name()) => Name::Sibling,
                () => Name::Other,
            },
            keywords_differ: self.keywords != now.keywords,
            keys_differ: self.key.is_some() && now.key.is_some() && self.key != now.key,
        }
    }
}

/// They differ in their first label only, and are below a name of two labels at least.
fn are_siblings(one: &str, other: &str) -> bool {
    match (one.split_once('.'), other.split_once('.')) {
        (Some((_, zone)), Some((_, other))) => zone == other && zone.contains('.'),
        _ => false,
    }
}

/// The word for the software: one that is known, else what stands behind the name of the protocol (RFC 5321 4.2 leaves it free).
fn software(greeting: &str) -> Option<String> {
    // The first word is the host's name, which may say anything.
    let text: String = greeting.chars().take(GREETING_LOOKED_AT).collect::<String>().to_ascii_lowercase();
    let mut words = text.split_ascii_whitespace().skip(1);
    let bare = |word: &str| {
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        word[..end].to_owned()
    };
    let known = words
        .clone()
        .map(|word| bare(word.trim_start_matches('(')))
        .find(|word| KNOWN.contains(&word.as_str()));
    if known.is_some() {
        return known;
    }
    words.find(|word| ["smtp", "esmtp", "lmtp"].contains(word))?;
    let next = words.next()?;
    let is_word =
        next.len() >= 3 && next.chars().all(|c| c.is_ascii_alphabetic()) && !SAYS_NOTHING.contains(&next);
    is_word.then(|| word(next))
}

/// Short, printable, in lower case.
fn word(text: &str) -> String {
    printable(text, FINGERPRINT_WORD_OCTETS_MAX).to_ascii_lowercase()
}

fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Keywords that depend on how a session came about.
const OF_THE_WAY: [&str; 2] = ["AUTH", "STARTTLS"];
/// Characters of a greeting in which software is looked for.
const GREETING_LOOKED_AT: usize = 512;
/// Words by which mail servers are known.
const KNOWN: [&str; 31] = [
    "axigen",
    "barracuda",
    "communigate",
    "courier",
    "dovecot",
    "exim",
    "gsmtp",
    "halon",
    "haraka",
    "hmailserver",
    "icewarp",
    "james",
    "kerio",
    "kumomta",
    "maddy",
    "mailenable",
    "mdaemon",
    "microsoft",
    "mimecast",
    "mox",
    "opensmtpd",
    "postfix",
    "powermta",
    "proofpoint",
    "qmail",
    "sendmail",
    "smartermail",
    "stalwart",
    "stratamx",
    "xmail",
    "zimbra",
];
/// What may stand in its place.
const SAYS_NOTHING: [&str; 12] =
    ["and", "at", "for", "here", "mail", "mailer", "ready", "server", "service", "spoken", "the", "welcome"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(greeting: &str, hello: &str, keywords: &str, key: u8) -> Fingerprint {
        let keywords: Vec<String> = keywords.split(' ').map(str::to_owned).collect();
        let key = (key > 0).then_some([key; 32]);
        Fingerprint::of(&Session { greeting, hello, keywords: &keywords, key, is_of_many: false })
    }

    /// Each input meets the first row that fits, and that row says what the function says; each row decides something.
    #[test]
    fn the_table_of_the_module_is_the_function() {
        let page = include_str!("fingerprint.rs");
        let rows = page.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
        let rows: Vec<Vec<&str>> =
            rows.map(|row| row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
        let mut deciding = BTreeSet::new();
        let mut inputs = 0;
        let of_name = [("same", Name::Same), ("sibling", Name::Sibling), ("other", Name::Other)];
        let of_software =
            [("same", Software::Same), ("hidden", Software::Hidden), ("other", Software::Other)];
        let both = [("same", false), ("other", true)];
        for (answer, is_turned) in [("same", false), ("turned", true)] {
            for (software_word, software) in of_software {
                for (name_word, name) in of_name {
                    for ((keywords, keywords_differ), (key, keys_differ)) in
                        both.into_iter().flat_map(|one| both.map(|other| (one, other)))
                    {
                        let input = [answer, software_word, name_word, keywords, key];
                        let fits = |row: &&Vec<&str>| {
                            row.iter().zip(input).all(|(cell, is)| *cell == "-" || *cell == is)
                        };
                        let row = rows.iter().find(fits).expect("the table is total");
                        deciding.insert(row.clone());
                        let found =
                            Signs { is_turned, software, name, keywords_differ, keys_differ }.likeness();
                        assert_eq!(format!("{found:?}").to_lowercase(), row[5], "{input:?}");
                        inputs += 1;
                    }
                }
            }
        }
        assert_eq!((inputs, deciding.len()), (72, rows.len()), "no row is idle");
    }

    #[test]
    fn hosts_are_compared_as_they_show_themselves() {
        let mail = shown(
            "mail.example.com ESMTP Postfix (Debian)",
            "mail.example.com",
            "PIPELINING SIZE STARTTLS",
            1,
        );
        for (what, now, expected) in [
            ("itself", mail.clone(), Likeness::Same),
            (
                "behind TLS, another version",
                shown("mail.example.com ESMTP Postfix 3.10", "MAIL.example.com.", "AUTH PIPELINING SIZE", 1),
                Likeness::Same,
            ),
            (
                "without TLS",
                shown("mail.example.com ESMTP Postfix", "mail.example.com", "PIPELINING SIZE", 0),
                Likeness::Same,
            ),
            (
                "a renewed key",
                shown("mail.example.com ESMTP Postfix", "mail.example.com", "PIPELINING SIZE", 2),
                Likeness::Ordinary,
            ),
            (
                "an extension more",
                shown("mail.example.com ESMTP Postfix", "mail.example.com", "CHUNKING PIPELINING SIZE", 1),
                Likeness::Ordinary,
            ),
            (
                "a farm",
                shown("mx7.example.com ESMTP Postfix", "mx7.example.com", "PIPELINING SIZE", 3),
                Likeness::Ordinary,
            ),
            (
                "one name for all",
                shown("mx7.example.com ESMTP Postfix", "mail.example.com", "PIPELINING SIZE", 1),
                Likeness::Same,
            ),
            (
                "the hoster's",
                shown("rescue.example.net ESMTP Postfix", "rescue.example.net", "PIPELINING SIZE", 4),
                Likeness::Changed,
            ),
            (
                "another",
                shown("mail.example.com ESMTP Exim 4.98", "mail.example.com", "PIPELINING SIZE", 1),
                Likeness::Changed,
            ),
            (
                "rebuilt",
                shown("mail.example.com ESMTP Postfix", "mail.example.com", "SIZE", 5),
                Likeness::Changed,
            ),
            (
                "a shy one",
                shown("rescue.example.net ESMTP", "rescue.example.net", "PIPELINING SIZE", 1),
                Likeness::Changed,
            ),
        ] {
            assert_eq!(mail.likeness(&now, false), expected, "{what}: {}", mail.told(&now, false));
            assert_eq!(mail.told(&now, false).is_empty(), expected == Likeness::Same, "{what}");
        }
        assert_eq!(mail.likeness(&mail, true), Likeness::Changed);
        assert_eq!(mail.told(&mail, true), "a recipient that cannot exist refused -> accepted");
    }

    #[test]
    fn software_is_known_by_a_word_that_does_not_change_with_the_day() {
        for (greeting, expected) in [
            ("mail.example.com ESMTP Postfix (Debian/GNU)", Some("postfix")),
            ("cp.example.net ESMTP Exim 4.98 #2 Sat, 22 Nov 2025", Some("exim")),
            ("mail.example.com Microsoft ESMTP MAIL Service ready at Sat, 22 Nov", Some("microsoft")),
            ("mx.google.com ESMTP a640c23a62f3a-b76 - gsmtp", Some("gsmtp")),
            ("mail.example.com ESMTP Sendmail 8.17.1/8.17.1; Sat", Some("sendmail")),
            ("mail.example.com ESMTP Haraka/3.0 ready", Some("haraka")),
            ("mail.example.com ESMTP Brandnew 1.0", Some("brandnew")),
            ("mail.example.com ESMTP Sat, 22 Nov 2025", None),
            ("mail.example.com ESMTP ready", None),
            ("mail.example.com ESMTP a1b2c3", None),
            ("postfix.example.com ESMTP", None),
            ("mail.example.com", None),
            ("", None),
        ] {
            assert_eq!(software(greeting).as_deref(), expected, "{greeting}");
        }
    }

    #[test]
    fn hosts_of_a_provider_are_one() {
        let session = |greeting, hello| Session {
            greeting,
            hello,
            keywords: &[],
            key: Some([1; 32]),
            is_of_many: true,
        };
        let one = Fingerprint::of(&session(
            "AM1P.mail.protection.outlook.com Microsoft ESMTP",
            "AM1P.mail.protection.outlook.com",
        ));
        let other = Fingerprint::of(&session(
            "DB9P.mail.protection.outlook.com Microsoft ESMTP",
            "DB9P.mail.protection.outlook.com",
        ));
        assert_eq!(one, other);
        assert_eq!((one.hello.as_str(), one.key), ("mail.protection.outlook.com", None));
    }

    #[test]
    fn hostile_words_are_short_and_printable() {
        let long = "x".repeat(5_000);
        let keywords: Vec<String> = (0..500).map(|number| format!("X{number}\u{1b}[31m")).collect();
        let greeting = format!("a\u{1b}]0;owned\u{7}\u{202e}{long} ESMTP {long}");
        let shown = Fingerprint::of(&Session {
            greeting: &greeting,
            hello: &long,
            keywords: &keywords,
            key: None,
            is_of_many: false,
        });
        let told = Fingerprint::default().told(&shown, true);
        assert!(told.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{told}");
        let octets =
            FINGERPRINT_KEYWORDS_MAX * (EHLO_KEYWORD_OCTETS_MAX + 1) + 2 * FINGERPRINT_WORD_OCTETS_MAX + 200;
        assert!(shown.keywords.len() <= FINGERPRINT_KEYWORDS_MAX && told.len() <= octets, "{}", told.len());
    }
}
