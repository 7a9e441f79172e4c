//! Local parts as they are compared: one form for all ways to write the same mailbox.
//!
//! RFC 5321 2.4 leaves local parts to the host that has the mailboxes and calls them case-sensitive. No primary in
//! use tells mailboxes apart by case, while senders and lists write the same one in either; a comparison as typed
//! would refuse good mail, and one that folds refuses nothing more. Mail goes on as it was typed.

use icu_normalizer::ComposingNormalizerBorrowed;
use std::borrow::Cow;

/// The form in which a local part is compared: unquoted (RFC 5321 4.1.2: quotes are no part of the name), in lower
/// case, and composed where it is not ASCII (RFC 6532 3.1).
#[must_use]
pub fn folded(local_part: &str) -> Cow<'_, str> {
    let unquoted = unquoted(local_part);
    if !unquoted.is_ascii() {
        let lower = unquoted.to_lowercase();
        return Cow::Owned(ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned());
    }
    if unquoted.bytes().any(|octet| octet.is_ascii_uppercase()) {
        return Cow::Owned(unquoted.to_ascii_lowercase());
    }
    unquoted
}

fn unquoted(local_part: &str) -> Cow<'_, str> {
    let Some(quoted) = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local_part);
    };
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut plain = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        let literal = if character == '\\' { characters.next() } else { Some(character) };
        plain.extend(literal);
    }
    Cow::Owned(plain)
}

/// What stands before the first delimiter, if there is one and something before it: `user` of `user+detail`.
#[must_use]
pub fn without_detail(folded: &str, delimiter: Option<char>) -> Option<&str> {
    let (user, _) = folded.split_once(delimiter?)?;
    Some(user).filter(|user| !user.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_mailbox_has_one_form() {
        for (written, expected) in [
            ("user", "user"),
            ("User.Name", "user.name"),
            ("\"User\"", "user"),
            ("\"a \\\"b\\\\\"", "a \"b\\"),
            ("\"", "\""),
            ("JÜRGEN", "jürgen"),
            ("ju\u{308}rgen", "jürgen"),
        ] {
            assert_eq!(folded(written), expected, "{written}");
        }
    }

    #[test]
    fn a_detail_belongs_to_its_user() {
        for (local_part, delimiter, user) in [
            ("user+detail", Some('+'), Some("user")),
            ("user+a+b", Some('+'), Some("user")),
            ("user-detail", Some('+'), None),
            ("user-detail", Some('-'), Some("user")),
            ("+detail", Some('+'), None),
            ("user+detail", None, None),
        ] {
            assert_eq!(without_detail(local_part, delimiter), user, "{local_part}");
        }
    }
}
