//! The header section and the body hashes of a message whose data comes in pieces (RFC 6376 3.4, 3.7).
//!
//! Fed is what is stored: dot-stuffed, without the terminator, however it came. A message without a DKIM-Signature
//! field is not hashed; else once for each canonicalization that its signatures name, by SHA-256 (rsa-sha1 is
//! not believed, RFC 8301 3.1).

use super::contained::contain;
use crate::bridge::BodyHashes;
use crate::limits::HEADER_KEPT_OCTETS_MAX;
use core::fmt;
use mail_auth::common::crypto::{HashContext, HashImpl, Sha256};
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::canonicalize::BodyHasher;
use memchr::memmem;

type Hasher = BodyHasher<<Sha256 as HashImpl>::Context>;

/// See the module.
#[derive(Debug)]
pub struct BodyHashing {
    state: State,
    /// The next octet begins a line.
    at_line_start: bool,
    /// The hash in relaxed form is wanted.
    is_relaxed: bool,
}

enum State {
    Header(Vec<u8>),
    Body {
        header: Vec<u8>,
        simple: Option<Box<Hasher>>,
        relaxed: Option<Box<Hasher>>,
    },
    /// The header section is longer than is kept, or a panic was contained.
    Lost,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hashed {
    /// The header section with the empty line behind it; `None` if it is longer than is kept.
    pub header: Option<Vec<u8>>,
    /// Of the body.
    pub bodies: BodyHashes,
}

impl Default for BodyHashing {
    fn default() -> Self {
        Self { state: State::Header(Vec::new()), at_line_start: true, is_relaxed: false }
    }
}

impl BodyHashing {
    /// One that hashes in relaxed form, whether or not there is a signature.
    #[must_use]
    pub fn relaxed() -> Self {
        Self { is_relaxed: true, ..Self::default() }
    }

    /// Takes the next octets of stored data.
    pub fn write(&mut self, stored: &[u8]) {
        if contain(|| self.unstuff(stored)).is_none() {
            self.state = State::Lost;
        }
    }

    /// All data was there.
    #[must_use]
    pub fn finish(self) -> Hashed {
        let digest = |hasher: Option<Box<Hasher>>| -> Option<[u8; 32]> {
            hasher?.finish().0.complete().as_ref().try_into().ok()
        };
        match self.state {
            // No empty line: all of it is the header section.
            State::Header(header) => Hashed { header: Some(header), bodies: BodyHashes::default() },
            State::Body { header, simple, relaxed } => {
                let bodies = contain(|| BodyHashes { simple: digest(simple), relaxed: digest(relaxed) });
                Hashed { header: Some(header), bodies: bodies.unwrap_or_default() }
            }
            State::Lost => Hashed::default(),
        }
    }

    fn unstuff(&mut self, stored: &[u8]) {
        let mut rest = stored;
        if self.at_line_start && !rest.is_empty() {
            rest = rest.strip_prefix(b".").unwrap_or(rest);
        }
        while let Some(line_end) = memmem::find(rest, b"\n.") {
            self.take(&rest[..=line_end]);
            rest = &rest[line_end + 2..];
        }
        self.take(rest);
        if let Some(last) = stored.last() {
            self.at_line_start = *last == b'\n';
        }
    }

    fn take(&mut self, mut octets: &[u8]) {
        if let State::Header(header) = &mut self.state {
            let before = header.len();
            let room = HEADER_KEPT_OCTETS_MAX - before;
            header.extend_from_slice(&octets[..octets.len().min(room)]);
            let Some(end) = header_end(header, before.saturating_sub(3)) else {
                if octets.len() > room {
                    self.state = State::Lost;
                }
                return;
            };
            header.truncate(end);
            header.shrink_to_fit();
            octets = &octets[end - before..];
            let mut wanted = canonicalizations(header);
            wanted.relaxed |= self.is_relaxed;
            let hasher = |wanted: bool, canonicalization| {
                wanted.then(|| Box::new(BodyHasher::new(Sha256::hasher(), canonicalization, 0)))
            };
            self.state = State::Body {
                header: core::mem::take(header),
                simple: hasher(wanted.simple, Canonicalization::Simple),
                relaxed: hasher(wanted.relaxed, Canonicalization::Relaxed),
            };
        }
        if let State::Body { simple, relaxed, .. } = &mut self.state {
            for hasher in [simple, relaxed].into_iter().flatten() {
                hasher.write(octets);
            }
        }
    }
}

/// The octet behind the empty line that ends the header section, looked for from `from` on.
fn header_end(header: &[u8], from: usize) -> Option<usize> {
    if header.starts_with(b"\r\n") {
        return Some(2);
    }
    memmem::find(&header[from..], b"\r\n\r\n").map(|at| from + at + 4)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Canonicalizations {
    simple: bool,
    relaxed: bool,
}

/// The body canonicalizations that signatures in a header section name (RFC 6376 3.5, "c=").
fn canonicalizations(header: &[u8]) -> Canonicalizations {
    let mut wanted = Canonicalizations::default();
    let mut value: Option<Vec<u8>> = None;
    let mut note = |value: Option<Vec<u8>>| match value.as_deref().map(is_relaxed) {
        Some(true) => wanted.relaxed = true,
        Some(false) => wanted.simple = true,
        None => {}
    };
    for line in header.split_inclusive(|octet| *octet == b'\n') {
        if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
            if let Some(value) = &mut value {
                value.extend_from_slice(line);
            }
            continue;
        }
        note(value.take());
        let colon = memchr::memchr(b':', line).unwrap_or(0);
        if line[..colon].trim_ascii_end().eq_ignore_ascii_case(b"dkim-signature")
            || line[..colon].trim_ascii_end().eq_ignore_ascii_case(b"arc-message-signature")
        {
            value = Some(line[colon + 1..].to_vec());
        }
    }
    note(value.take());
    wanted
}

/// Whether the body of a signature with this field value is in relaxed form; `simple` is what is meant by nothing.
fn is_relaxed(value: &[u8]) -> bool {
    let dense: Vec<u8> = value.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    let tag = dense.split(|octet| *octet == b';').find_map(|tag| tag.strip_prefix(b"c="));
    let body = tag.and_then(|forms| forms.split(|octet| *octet == b'/').nth(1));
    body.is_some_and(|form| form.eq_ignore_ascii_case(b"relaxed"))
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Header(_) => "Header",
            Self::Body { .. } => "Body",
            Self::Lost => "Lost",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_auth::common::crypto::HashAlgorithm;

    const SIMPLE: &str = "DKIM-Signature: v=1; a=rsa-sha256; d=a.test; s=s; b=x\r\n";
    const RELAXED: &str = "dkim-signature : v=1; c=simple /\r\n relaxed ; b=x\r\n";

    fn hashed(pieces: impl Iterator<Item = Vec<u8>>) -> Hashed {
        let mut hashing = BodyHashing::default();
        pieces.for_each(|piece| hashing.write(&piece));
        hashing.finish()
    }

    fn whole(text: &str) -> Hashed {
        hashed([text.as_bytes().to_vec()].into_iter())
    }

    /// By the whole body at once.
    fn digest(canonicalization: Canonicalization, body: &str) -> [u8; 32] {
        let body = canonicalization.canonical_body(body.as_bytes(), 0);
        HashAlgorithm::Sha256.hash(body).as_ref().try_into().unwrap()
    }

    #[test]
    fn hashes_are_the_same_however_the_data_is_cut_and_dots_are_taken_out() {
        let body = ".dot\r\na \t b  \r\n..two\r\n\r\nend\r\n\r\n\r\n";
        let stored = format!("{SIMPLE}{RELAXED}..odd: field\r\n\r\n{}", body.replace("\r\n.", "\r\n.."))
            .replace("\r\n\r\n.dot", "\r\n\r\n..dot");
        let expected = Hashed {
            header: Some(format!("{SIMPLE}{RELAXED}.odd: field\r\n\r\n").into_bytes()),
            bodies: BodyHashes {
                simple: Some(digest(Canonicalization::Simple, body)),
                relaxed: Some(digest(Canonicalization::Relaxed, body)),
            },
        };
        assert_eq!(whole(&stored), expected);
        for size in [1, 2, 3, 7, 64] {
            let pieces = stored.as_bytes().chunks(size).map(<[u8]>::to_vec);
            assert_eq!(hashed(pieces), expected, "in pieces of {size}");
        }
        for at in 0..stored.len() {
            let (front, back) = stored.as_bytes().split_at(at);
            assert_eq!(hashed([front.to_vec(), back.to_vec()].into_iter()), expected, "cut at {at}");
        }
    }

    #[test]
    fn only_what_signatures_name_is_hashed() {
        let which = |header: &str| {
            let bodies = whole(&format!("{header}\r\nbody\r\n")).bodies;
            (bodies.simple.is_some(), bodies.relaxed.is_some())
        };
        assert_eq!(which("From: a@b.test\r\nX-DKIM-Signature: c=relaxed/relaxed\r\n"), (false, false));
        assert_eq!(which(SIMPLE), (true, false));
        assert_eq!(which("DKIM-Signature: c=relaxed\r\n"), (true, false));
        assert_eq!(which(RELAXED), (false, true));
        assert_eq!(which(&format!("{RELAXED}{SIMPLE}")), (true, true));
    }

    #[test]
    fn an_empty_body_and_a_missing_one_have_their_hashes() {
        // RFC 6376 3.4.3, 3.4.4: the SHA-256 hashes of empty bodies.
        let empty = [digest(Canonicalization::Simple, ""), digest(Canonicalization::Relaxed, "")];
        let found = whole(&format!("{SIMPLE}{RELAXED}\r\n"));
        assert_eq!(found.bodies, BodyHashes { simple: Some(empty[0]), relaxed: Some(empty[1]) });
        assert_eq!(empty[1][..4], [0xe3, 0xb0, 0xc4, 0x42], "SHA-256 of nothing");
        assert_eq!(whole("\r\nbody\r\n").header.unwrap(), b"\r\n");
        assert_eq!(whole("From: a@b.test\r\n").bodies, BodyHashes::default());
    }

    #[test]
    fn a_header_section_beyond_the_bound_is_let_go() {
        let field = "X: y\r\n";
        let fits = field.repeat((HEADER_KEPT_OCTETS_MAX - 2) / field.len());
        assert_eq!(whole(&format!("{fits}\r\nbody")).header.unwrap().len(), fits.len() + 2);
        let long = field.repeat(HEADER_KEPT_OCTETS_MAX / field.len() + 1);
        assert_eq!(whole(&format!("{long}\r\nbody")), Hashed::default());
        let mut hashing = BodyHashing::default();
        long.as_bytes().iter().for_each(|octet| hashing.write(&[*octet]));
        assert_eq!(hashing.finish(), Hashed::default());
    }
}
