//! Durations and sizes as people write them: `90s`, `5m`, `2h`, `30d`; `64KiB`, `50MiB`, `1GiB`, plain bytes.
//!
//! Pure functions, both ways: what `format_*` prints, `parse_*` reads back to the same value. A unit is always
//! written next to its number, except for bytes; fractions and spaces are refused, so a value has one reading.

use core::time::Duration;

/// Units of time with their seconds, longest first.
const DURATION_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
/// Units of size with their octets, largest first.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a whole number followed by a unit of time.
    #[error("is not a duration: a whole number and s, m, h or d, as in \"90s\" or \"5m\"")]
    NotADuration,
    /// Not a whole number followed by a unit of size or by nothing.
    #[error("is not a size: a whole number of bytes, or one with KiB, MiB or GiB, as in \"64MiB\"")]
    NotASize,
    /// More than fits into 64 bits.
    #[error("is too large")]
    TooLarge,
}

/// Reads a duration; the unit is required.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split_number(text).ok_or(UnitError::NotADuration)?;
    let seconds = unit_value(&DURATION_UNITS, unit).ok_or(UnitError::NotADuration)?;
    Ok(Duration::from_secs(multiply(number, seconds)?))
}

/// Writes whole seconds in the longest unit that divides them.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (unit, value) = largest_divisor(&DURATION_UNITS, seconds).unwrap_or(("s", 1));
    format!("{}{unit}", seconds / value)
}

/// Reads a size in octets; a number without a unit counts bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text).ok_or(UnitError::NotASize)?;
    let octets = if unit.is_empty() { Some(1) } else { unit_value(&SIZE_UNITS, unit) };
    multiply(number, octets.ok_or(UnitError::NotASize)?)
}

/// Writes octets in the largest unit that divides them, else as plain bytes.
pub fn format_size(octets: u64) -> String {
    match largest_divisor(&SIZE_UNITS, octets) {
        Some((unit, value)) => format!("{}{unit}", octets / value),
        None => octets.to_string(),
    }
}

/// The digits at the start and what follows them; `None` without a digit.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn unit_value(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, value)| *value)
}

fn multiply(number: &str, unit: u64) -> Result<u64, UnitError> {
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(unit).ok_or(UnitError::TooLarge)
}

fn largest_divisor(units: &'static [(&str, u64)], amount: u64) -> Option<(&'static str, u64)> {
    units.iter().copied().find(|(_, value)| amount > 0 && amount.is_multiple_of(*value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_unit_has_its_value() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7_200), ("30d", 2_592_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, octets) in
            [("64KiB", 65_536), ("50MiB", 52_428_800), ("1GiB", 1 << 30), ("512", 512), ("0", 0)]
        {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
        }
    }

    #[test]
    fn loose_writing_is_refused() {
        for text in ["", "5", "m", "5 m", " 5m", "5M", "5m ", "1.5h", "-5m", "+5m", "5min", "5m30s", "٥m"] {
            assert_eq!(parse_duration(text), Err(UnitError::NotADuration), "{text:?}");
        }
        for text in ["", "KiB", "5 KiB", "5K", "5kb", "5kib", "1.5MiB", "-1", "0x10", "1_000"] {
            assert_eq!(parse_size(text), Err(UnitError::NotASize), "{text:?}");
        }
    }

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        assert_eq!(parse_duration("18446744073709551615d"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("18446744073709551616"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("17179869184GiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn the_longest_dividing_unit_is_printed() {
        assert_eq!(format_duration(Duration::from_secs(300)), "5m");
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_size(100 << 20), "100MiB");
        assert_eq!(format_size(1000), "1000");
        assert_eq!(format_size(0), "0");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(seconds: u64, octets: u64) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(octets)), Ok(octets));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
