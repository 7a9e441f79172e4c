//! Words for a terminal: names without control characters, times, tables.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `text` without what a terminal would obey: names on disk come from strangers.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Milliseconds since 1970 as RFC 3339, in UTC; what no calendar has is shown as it is.
pub(crate) fn utc(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| format!("{milliseconds}ms"), |time| format!("{time:.3}"))
}

/// The time of a From_ line (RFC 4155): as asctime has it, in UTC.
pub(crate) fn asctime(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    let time = time.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    time.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// Lines with columns below each other: words to the left, numbers to the right.
pub(crate) fn table(
    output: &mut impl Write,
    heads: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> io::Result<()> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = [heads].into_iter().chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number = |cell: &String| cell == "-" || cell.bytes().all(|octet| octet.is_ascii_digit());
    let numbers: Vec<bool> =
        (0..columns).map(|column| rows[1..].iter().all(|row| is_number(&row[column]))).collect();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let cell =
                if numbers[column] { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            line.push_str(&cell);
        }
        writeln!(output, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_do_elsewhere() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z", "Thu Jan  1 00:00:00 1970"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", "Tue Feb 29 00:00:00 2000"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z", "Wed Dec 31 23:59:59 2025"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z", "Mon Mar  1 00:00:00 2100"),
        ];
        for (milliseconds, text, from) in table {
            assert_eq!((utc(milliseconds).as_str(), asctime(milliseconds).as_str()), (text, from));
        }
        assert_eq!(utc(u64::MAX), format!("{}ms", u64::MAX));
        asctime(u64::MAX);
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(plain("a\u{1b}[2J\nü@x"), "a\\u{1b}[2J\\nü@x");
    }

    #[test]
    fn numbers_stand_below_each_other() {
        let mut out = Vec::new();
        let rows = [["ü.test", "7"], ["b", "100"]].map(|row| row.map(str::to_owned).to_vec());
        table(&mut out, &["domain", "units"], rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "domain  units\nü.test      7\nb         100\n");
    }
}
