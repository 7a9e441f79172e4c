//! Parameters of delivery status notifications (RFC 3461 4; RFC 6533 3 for addresses beyond ASCII).
//!
//! They are checked here and kept as they were said: who relays passes them on unchanged (RFC 3461 5.2.1). NOTIFY
//! alone is a set, and is written in one order. Nothing here decides who gets a notice.

use core::{fmt, iter};

use crate::limits::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX};

/// When the sender wants a notice about a recipient (RFC 3461 4.1); the default: nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(u8);

/// What of the message a notice returns (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header section.
    Headers,
}

/// What MAIL says about notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailDsn<'a> {
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, in xtext; empty if it was not said.
    pub envid: &'a str,
}

/// What RCPT says about notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptDsn<'a> {
    /// NOTIFY.
    pub notify: Notify,
    /// ORCPT: `type;address`, the address encoded; empty if it was not said.
    pub orcpt: &'a str,
}

impl Notify {
    const NEVER: u8 = 1;
    const SUCCESS: u8 = 2;
    const FAILURE: u8 = 4;
    const WORDS: [(u8, &'static str); 4] =
        [(Self::NEVER, "NEVER"), (Self::SUCCESS, "SUCCESS"), (Self::FAILURE, "FAILURE"), (8, "DELAY")];

    /// `NEVER`, or a list of the others.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let bit = |word: &str| Self::WORDS.iter().find(|known| known.1.eq_ignore_ascii_case(word));
        let bits = value.split(',').try_fold(0, |bits, word| Some(bits | bit(word)?.0))?;
        Self::from_bits(bits)
    }

    /// A sum of 1 NEVER (alone), 2 SUCCESS, 4 FAILURE, 8 DELAY; 0: nothing was said.
    pub fn from_bits(bits: u8) -> Option<Self> {
        let is_set = bits <= 15 && (bits & Self::NEVER == 0 || bits == Self::NEVER);
        is_set.then_some(Self(bits))
    }

    /// See [`Self::from_bits`].
    pub fn bits(self) -> u8 {
        self.0
    }

    /// RFC 3461 4.1: a notice about a failure is wanted; so it is where nothing was said.
    pub fn wants_failure(self) -> bool {
        self.0 == 0 || self.0 & Self::FAILURE != 0
    }

    /// A notice about a delivery is wanted.
    pub fn wants_success(self) -> bool {
        self.0 & Self::SUCCESS != 0
    }

    /// Something was said.
    pub fn is_said(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, word) in Self::WORDS.iter().filter(|(bit, _)| self.0 & bit != 0) {
            write!(f, "{separator}{word}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl Ret {
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value {
            value if value.eq_ignore_ascii_case("FULL") => Some(Self::Full),
            value if value.eq_ignore_ascii_case("HDRS") => Some(Self::Headers),
            _ => None,
        }
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

/// RFC 3461 4.4: xtext of printable characters.
pub(crate) fn is_envid(value: &str) -> bool {
    let is_printable = |octet: Option<u8>| matches!(octet, Some(b' '..=b'~'));
    (1..=ENVID_OCTETS_MAX).contains(&value.len()) && xtext_octets(value).all(is_printable)
}

/// RFC 3461 4.2: an address type, which is an atom, and an address in xtext; RFC 6533 3 has its own encoding for the
/// type `utf-8`, and takes UTF-8 as it is where SMTPUTF8 was said.
pub(crate) fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else { return false };
    let is_atom = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/?^_`{|}~".contains(&octet);
    let is_encoded = if kind.eq_ignore_ascii_case("utf-8") {
        is_unitext(address)
    } else {
        xtext_octets(address).all(|octet| octet.is_some())
    };
    value.len() <= ORCPT_OCTETS_MAX
        && !kind.is_empty()
        && kind.bytes().all(is_atom)
        && !address.is_empty()
        && is_encoded
}

/// The octets that xtext stands for (RFC 3461 4): `+` and two hexadecimal digits are one octet.
pub fn decode_xtext(text: &str) -> Option<Vec<u8>> {
    xtext_octets(text).collect()
}

/// The same one by one, without memory for them; none in the place of what is no xtext, and what follows that means nothing.
fn xtext_octets(text: &str) -> impl Iterator<Item = Option<u8>> {
    let mut rest = text.as_bytes();
    iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        let (digits, behind) = match first {
            b'+' => match rest.split_at_checked(2) {
                Some(parts) => parts,
                None => return Some(None),
            },
            b'!'..=b'~' if *first != b'=' => return Some(Some(*first)),
            _ => return Some(None),
        };
        rest = behind;
        let digit = |octet: u8| char::from(octet).to_digit(16);
        let value = digit(digits[0]).zip(digit(digits[1])).map(|(high, low)| high * 16 + low);
        Some(value.and_then(|value| u8::try_from(value).ok()))
    })
}

/// Appends octets in xtext (RFC 3461 4), the inverse of [`decode_xtext`].
pub(crate) fn push_xtext(out: &mut String, octets: &[u8]) {
    for octet in octets {
        match octet {
            b'!'..=b'~' if !b"+=".contains(octet) => out.push(char::from(*octet)),
            _ => out.push_str(&format!("+{octet:02X}")),
        }
    }
}

/// RFC 6533 3: characters of ASCII but `+`, `=` and `\`, all others, and `\x{...}`.
fn is_unitext(address: &str) -> bool {
    let mut parts = address.split('\\');
    let is_plain =
        |text: &str| !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '+' || c == '=');
    parts.next().is_some_and(is_plain)
        && parts.all(|part| {
            let embedded = part.strip_prefix("x{").and_then(|part| part.split_once('}'));
            embedded.is_some_and(|(digits, behind)| {
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                (2..=6).contains(&digits.len()) && code.is_some() && is_plain(behind)
            })
        })
}

/// ORCPT for a server to which no UTF-8 may be said: characters beyond ASCII become `\x{...}` (RFC 6533 3).
pub(crate) fn push_ascii_orcpt(line: &mut String, orcpt: &str) {
    for character in orcpt.chars() {
        if character.is_ascii() {
            line.push(character);
        } else {
            line.push_str(&format!("\\x{{{:02X}}}", u32::from(character)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_is_never_or_a_set() {
        for (value, bits, shown) in [
            ("NEVER", 1, "NEVER"),
            ("never", 1, "NEVER"),
            ("DELAY,success", 10, "SUCCESS,DELAY"),
            ("SUCCESS,FAILURE,DELAY", 14, "SUCCESS,FAILURE,DELAY"),
            ("FAILURE,FAILURE", 4, "FAILURE"),
        ] {
            let notify = Notify::parse(value).unwrap();
            assert_eq!((notify.bits(), notify.to_string().as_str()), (bits, shown), "{value}");
        }
        for value in ["", "NEVER,SUCCESS", "SUCCESS,", "SOMETIMES", "SUCCESS FAILURE"] {
            assert_eq!(Notify::parse(value), None, "{value}");
        }
        assert_eq!((Notify::from_bits(3), Notify::from_bits(16)), (None, None));
        assert!(!Notify::default().is_said());
    }

    #[test]
    fn xtext_is_decoded_and_nothing_else_passes() {
        assert_eq!(decode_xtext("a+2Bb+3d"), Some(b"a+b=".to_vec()));
        assert_eq!(decode_xtext(""), Some(Vec::new()));
        let mut encoded = String::new();
        push_xtext(&mut encoded, "a+b= \u{fc}~[x]\r\n".as_bytes());
        assert_eq!(encoded, "a+2Bb+3D+20+C3+BC~[x]+0D+0A");
        assert_eq!(decode_xtext(&encoded), Some("a+b= \u{fc}~[x]\r\n".as_bytes().to_vec()));
        for text in ["a=b", "+", "+2", "+2G", "a b", "ü", "+-1"] {
            assert_eq!(decode_xtext(text), None, "{text}");
        }
    }

    #[test]
    fn an_envelope_id_is_printable_and_bounded() {
        assert!(is_envid("QQ314159") && is_envid("a+20b") && is_envid(&"x".repeat(100)));
        for value in ["", "a+0Ab", "a=b", &"x".repeat(101)] {
            assert!(!is_envid(value), "{value}");
        }
    }

    #[test]
    fn an_original_recipient_has_a_type_and_an_encoded_address() {
        for value in [
            "rfc822;a+2Bb@example.com",
            "RFC822;a@b",
            "x-local;whatever",
            "utf-8;ü@bücher.example",
            "utf-8;\\x{FC}@example.com",
            "utf-8;a\\x{1F600}b\\x{5C}@c",
        ] {
            assert!(is_orcpt(value), "{value}");
        }
        for value in [
            "rfc822",
            ";a@b",
            "rfc822;",
            "rfc822;a+b@c",
            "rfc 822;a@b",
            "rfc822;ü@b",
            "utf-8;a+b@c",
            "utf-8;a\\b",
            "utf-8;\\x{}",
            "utf-8;\\x{D800}",
            "utf-8;\\x{110000}",
            &format!("rfc822;{}", "x".repeat(494)),
        ] {
            assert!(!is_orcpt(value), "{value}");
        }
        let mut line = String::new();
        push_ascii_orcpt(&mut line, "utf-8;ü\u{1F600}a@b");
        assert_eq!(line, "utf-8;\\x{FC}\\x{1F600}a@b");
        assert!(is_orcpt(&line));
    }
}
