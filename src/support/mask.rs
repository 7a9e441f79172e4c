//! Addresses without whose they are.

use std::hash::{BuildHasher as _, RandomState};

/// Gives each local part a word of its own; another `Mask` gives it another.
#[derive(Clone, Debug, Default)]
pub struct Mask(RandomState);

/// What a local part may have (RFC 5321 4.1.2, RFC 6531 3.3), quoted ones apart: those end at their quote.
fn is_of_local_part(character: char) -> bool {
    character.is_alphanumeric() || !character.is_ascii() || "!#$%&'*+-/=?^_`{|}~.".contains(character)
}

impl Mask {
    /// The text with each local part replaced.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let before = &rest[..at];
            let is_address = rest[at + 1..]
                .starts_with(|next: char| next.is_alphanumeric() || next == '[' || !next.is_ascii());
            let start = local_part(before);
            out.push_str(&before[..start]);
            if is_address && start < before.len() {
                out.push_str(&self.word(&before[start..]));
            } else {
                out.push_str(&before[start..]);
            }
            out.push('@');
            rest = &rest[at + 1..];
        }
        out.push_str(rest);
        out
    }

    /// The word for a local part.
    fn word(&self, local_part: &str) -> String {
        format!("someone-{:08x}", self.0.hash_one(local_part) >> 32)
    }
}

/// Where the local part begins that ends here.
fn local_part(before: &str) -> usize {
    // A quoted one, as it stands in JSON or by itself.
    if before.ends_with('"') && !before.ends_with("\\\"\"") {
        let inner = before.trim_end_matches('"').trim_end_matches('\\');
        if let Some(start) = inner.rfind('"') {
            return if inner[..start].ends_with('\\') { start - 1 } else { start };
        }
    }
    before
        .char_indices()
        .rev()
        .take_while(|(_, character)| is_of_local_part(*character))
        .last()
        .map_or(before.len(), |(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn local_parts_go_and_everything_else_stays() {
        let mask = Mask::default();
        let word = mask.word("jane.doe+tag");
        for (text, masked) in [
            ("", String::new()),
            ("no address", "no address".to_owned()),
            ("from=<jane.doe+tag@example.org> to", format!("from=<{word}@example.org> to")),
            (
                "{\"recipient\":\"jane.doe+tag@example.org\"}",
                format!("{{\"recipient\":\"{word}@example.org\"}}"),
            ),
            ("jane.doe+tag@a.test,jane.doe+tag@b.test", format!("{word}@a.test,{word}@b.test")),
            ("jane.doe+tag@[192.0.2.1]", format!("{word}@[192.0.2.1]")),
            ("12:30 @ noon, @home", "12:30 @ noon, @home".to_owned()),
        ] {
            assert_eq!(mask.text(text), masked);
        }
        assert_ne!(mask.text("a@x.test"), mask.text("b@x.test"));
        assert_ne!(Mask::default().text("a@x.test"), mask.text("a@x.test"), "words mean nothing elsewhere");
    }

    #[test]
    fn quoted_and_other_letters_are_local_parts_too() {
        let mask = Mask::default();
        for text in ["<\"jane doe\"@x.test>", "<jürgen@x.test>", "\\\"jane doe\\\"@x.test", "<ja'n=e@x.test>"]
        {
            let masked = mask.text(text);
            assert!(
                !masked.contains("ja") && !masked.contains("rgen") && !masked.contains("doe"),
                "{masked}"
            );
            assert!(masked.contains("someone-") && masked.contains("@x.test"), "{masked}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_has_as_many_addresses(text in "\\PC{0,60}") {
            let masked = Mask::default().text(&text);
            prop_assert_eq!(masked.matches('@').count(), text.matches('@').count());
        }
    }
}
