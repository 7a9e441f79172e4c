//! A recovery key as people keep it: eight groups of four letters and digits (Crockford's Base32), 160 random bits.
//!
//! No letter is taken for a digit: O is read as 0, I and L as 1, small letters as large ones; between groups may stand anything that is a dash or a space.

use core::fmt;

const OCTETS: usize = 20;
const GROUP: usize = 4;
const CHARACTERS: usize = OCTETS * 8 / 5;
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RecoveryKey([u8; OCTETS]);

impl RecoveryKey {
    pub(super) const fn new(octets: [u8; OCTETS]) -> Self {
        Self(octets)
    }

    pub(super) const fn octets(&self) -> &[u8; OCTETS] {
        &self.0
    }

    /// Reads what was typed; none: it does not look like one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; OCTETS];
        let (mut count, mut held, mut bits) = (0, 0_u32, 0);
        for character in text.chars().filter(|character| !matches!(character, '-' | ' ')) {
            let character = match character.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let value = DIGITS.iter().position(|digit| char::from(*digit) == character)?;
            held = (held << 5) | u32::try_from(value).ok()?;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                *octets.get_mut(count)? = u8::try_from((held >> bits) & 0xff).ok()?;
                count += 1;
                held &= (1 << bits) - 1;
            }
        }
        // 32 characters are 20 octets, and no bit is left over.
        (count == OCTETS && bits == 0).then_some(Self(octets))
    }
}

impl fmt::Display for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in 0..CHARACTERS {
            if at > 0 && at % GROUP == 0 {
                formatter.write_str("-")?;
            }
            let bit = at * 5;
            let pair = [self.0[bit / 8], self.0.get(bit / 8 + 1).copied().unwrap_or(0)];
            let value = (u16::from_be_bytes(pair) >> (11 - bit % 8)) & 0x1f;
            write!(formatter, "{}", char::from(DIGITS[usize::from(value)]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryKey(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_read() {
        for octets in
            [[0; OCTETS], [255; OCTETS], core::array::from_fn(|at| u8::try_from(at * 37 % 256).unwrap())]
        {
            let key = RecoveryKey::new(octets);
            let text = key.to_string();
            assert_eq!(text.len(), 39, "{text}");
            assert_eq!(RecoveryKey::parse(&text), Some(key.clone()), "{text}");
            assert_eq!(RecoveryKey::parse(&text.to_lowercase().replace('-', " ")), Some(key.clone()));
            assert_eq!(
                RecoveryKey::parse(&text.replace('-', "").replace('0', "o").replace('1', "L")),
                Some(key)
            );
        }
        assert_eq!(RecoveryKey::new([255; OCTETS]).to_string(), ["ZZZZ"; 8].join("-"));
    }

    #[test]
    fn what_is_no_recovery_key_is_not_taken_for_one() {
        let good = RecoveryKey::new([7; OCTETS]).to_string();
        for wrong in
            ["", "correct horse battery staple", &good[1..], &format!("{good}0"), &good.replace('0', "U")]
        {
            assert!(RecoveryKey::parse(wrong).is_none() || wrong == good, "{wrong}");
        }
        assert_eq!(format!("{:?}", RecoveryKey::new([7; OCTETS])), "RecoveryKey(not shown)");
    }
}
