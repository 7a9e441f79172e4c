//! The order of versions: that of the loader, which starts the newest one (UAPI.10, Version Format Specification).
//!
//! It has to be the same order: an update that counts as newer here and as older there would be written and never started.

use core::cmp::Ordering;

/// Longest version.
const OCTETS_MAX: usize = 32;

/// Whether a text may be a version of ours: it becomes a part of a file's name on FAT.
#[must_use]
pub fn is_version(text: &str) -> bool {
    (1..=OCTETS_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ['.', '-'].contains(&c))
}

/// Which of two versions comes first. The separators that our versions do not have (`~` and `^`) are not looked for.
#[must_use]
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        // What belongs to no version separates, as anything else does.
        for text in [&mut one, &mut other] {
            run(text, |octet| !octet.is_ascii_alphanumeric() && !b".-".contains(octet));
        }
        if one.is_empty() || other.is_empty() {
            return one.len().min(1).cmp(&other.len().min(1));
        }
        // A hyphen begins the release: what has none yet has more of a version.
        for separator in [b'-', b'.'] {
            match (one.first() == Some(&separator), other.first() == Some(&separator)) {
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) => (one, other) = (&one[1..], &other[1..]),
                (false, false) => {}
            }
        }
        let is_digits =
            [one, other].iter().any(|text| text.first().is_some_and(|octet| octet.is_ascii_digit()));
        let class = if is_digits { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
        let (first, second) = (run(&mut one, class), run(&mut other, class));
        let order = if is_digits {
            let (first, second) = (plain(first), plain(second));
            first.len().cmp(&second.len()).then_with(|| first.cmp(second))
        } else {
            first.cmp(second)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes what is of one class off the front.
fn run<'a>(text: &mut &'a [u8], class: fn(&u8) -> bool) -> &'a [u8] {
    let (taken, rest) = text.split_at(text.iter().position(|octet| !class(octet)).unwrap_or(text.len()));
    *text = rest;
    taken
}

/// A number without its leading zeros; no number at all is less than zero.
fn plain(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    // One digit stays.
    &digits[zeros.min(digits.len().saturating_sub(1))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification that our alphabet can say, and what a release has.
    #[test]
    fn versions_have_the_order_of_the_loader() {
        let expected = [
            "0.1", "0.1.0", "0.1.1", "0.1.2", "0.1.10", "0.2.0-1", "0.2.0-2", "0.2.0-10", "0.9", "0.10",
            "1.0.0", "1.0.1", "9.9", "11", "121",
        ];
        for (at, one) in expected.iter().enumerate() {
            for (behind, other) in expected.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&behind), "{one} {other}");
            }
        }
        for (one, other, order) in [
            ("0.2.0", "0.2.0-1", Ordering::Less),
            ("0.2.0-1", "0.2.0.1", Ordering::Less),
            ("1.0", "1.0", Ordering::Equal),
            ("1.01", "1.1", Ordering::Equal),
            ("1.0a", "1.0b", Ordering::Less),
            ("1.0a", "1.0", Ordering::Greater),
            ("a", "1", Ordering::Less),
        ] {
            assert_eq!(compare(one, other), order, "{one} {other}");
            assert_eq!(compare(other, one), order.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn a_version_is_a_part_of_a_file_name_and_no_path() {
        for good in ["0.1.0", "1", "2026.11.23", "1.0-rc1"] {
            assert!(is_version(good), "{good}");
        }
        for bad in
            ["", ".1", "-1", "1/2", "1+3", "1_2", "1 2", "1\n", "..", "123456789.123456789.123456789.1234"]
        {
            assert!(!is_version(bad), "{bad:?}");
        }
    }
}
