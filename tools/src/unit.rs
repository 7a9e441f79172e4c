//! Units that people write on the command lines of the tools, beside those of the configuration.

use std::time::Duration;

use stratamx::config::unit::{parse_duration, parse_size};

/// `25ms`, or a duration as the configuration has it.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    if let Some(number) = text.strip_suffix("ms") {
        let milliseconds = number.parse().map_err(|_| format!("{text} is no number of milliseconds"))?;
        return Ok(Duration::from_millis(milliseconds));
    }
    parse_duration(text).map_err(|error| format!("{text} {error}; or milliseconds, as 250ms"))
}

/// `500`, `500/s`, `30/min` or `1000/h`: events a second.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text}: a rate is a number a second, as 500/s, or /min or /h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text}: {number} is no number"))?;
    let rate = number / seconds;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err(format!("{text}: a rate is above 0")) }
}

/// `10mbit`, `1gbit`, `512kbit` (decimal bits a second) or a size a second such as `1MiB`: octets a second.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("/s").unwrap_or(&lower);
    let bits = [("kbit", 1000_u64), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
    for (unit, factor) in bits {
        if let Some(number) = lower.strip_suffix(unit) {
            let number: u64 = number.parse().map_err(|_| format!("{text}: {number} is no whole number"))?;
            let octets = number.checked_mul(factor / 8).filter(|octets| *octets > 0);
            return octets.ok_or_else(|| format!("{text} is out of range"));
        }
    }
    let size = text.strip_suffix("/s").unwrap_or(text);
    match parse_size(size) {
        Ok(octets) if octets > 0 => Ok(octets),
        _ => Err(format!(
            "{text}: a bandwidth is 10mbit, 1gbit, 512kbit, or a size such as 1MiB, each a second"
        )),
    }
}

/// `5%` or `5`: a share of 0 to 1.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("{text}: a share is a percentage, as 5%"))?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err(format!("{text}: a share is from 0% to 100%"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!(parse_span("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(parse_span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(
            (parse_rate("500/s"), parse_rate("500"), parse_rate("30/min")),
            (Ok(500.0), Ok(500.0), Ok(0.5))
        );
        assert_eq!(parse_bandwidth("10mbit"), Ok(1_250_000));
        assert_eq!(parse_bandwidth("1MiB/s"), Ok(1 << 20));
        assert_eq!((parse_share("5%"), parse_share("100")), (Ok(0.05), Ok(1.0)));
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for text in ["ms", "-1ms", "x"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        for text in ["0", "-5/s", "5/d", "inf", "NaN", ""] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["0mbit", "mbit", "10", "x"] {
            assert_eq!(parse_bandwidth(text).is_err(), text != "10", "{text}");
        }
        for text in ["101%", "-1%", "%", "x"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }
}
