//! When a certificate begins and ends: the two times of its validity (RFC 5280 4.1.2.5), found without reading the rest.
//!
//! What was loaded is a certificate that rustls took, so its syntax is known to be good; whatever else comes has no end here.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Tags of DER (X.690 8.1.2).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the certificate ends, in seconds since 1970.
#[must_use]
pub fn not_after_s(certificate: &[u8]) -> Option<i64> {
    validity_s(certificate).map(|(_, not_after_s)| not_after_s)
}

/// When the certificate begins and ends, in seconds since 1970.
#[must_use]
pub fn validity_s(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if let Some((VERSION, _, rest)) = element(fields) {
        fields = rest;
    }
    // The serial number, the algorithm of the signature, and the issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (begin_tag, begin, rest) = element(validity)?;
    let (end_tag, end, _) = element(rest)?;
    let at = |tag, time| seconds(tag, core::str::from_utf8(time).ok()?);
    Some((at(begin_tag, begin)?, at(end_tag, end)?))
}

/// The first element: its tag, its content, and what comes behind it.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = octets.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (length, rest) =
                rest.split_at_checked(long - 0x80).filter(|(length, _)| length.len() <= 4)?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((*tag, content, behind))
}

/// `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, time: &str) -> Option<i64> {
    let digits =
        time.strip_suffix('Z').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year: i16 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let time = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn a_certificate_ends_when_it_says() {
        let key = KeyPair::generate().unwrap();
        for (year, expected) in [(2030, 1_893_542_400), (2049, 2_493_158_400), (2050, 2_524_608_000 + 86_400)]
        {
            let mut params = CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2029, 1, 1);
            params.not_after = date_time_ymd(year, 1, 2);
            let made = params.self_signed(&key).unwrap();
            assert_eq!(validity_s(made.der()), Some((1_861_920_000, expected)), "{year}");
            for cut in 0..made.der().len() {
                // No panic, and no other time.
                assert!(not_after_s(&made.der()[..cut]).is_none());
            }
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for (tag, time) in [
            (UTC_TIME, "300102000000"),
            (UTC_TIME, "20300102000000Z"),
            (GENERALIZED_TIME, "300102000000Z"),
            (GENERALIZED_TIME, "20301302000000Z"),
            (GENERALIZED_TIME, "2030 102000000Z"),
        ] {
            assert_eq!(seconds(tag, time), None, "{time}");
        }
        assert_eq!(seconds(UTC_TIME, "500101000000Z"), Some(-631_152_000));
    }
}
