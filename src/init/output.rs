//! What a program says: read from its pipe as it comes, shown on the last console, and handed over to the log's host.
//!
//! The program is never stopped by who reads: a console that stands still loses lines at once, and the queue of the log's host never waits.

use super::console;
use super::syslog::{self, Source};
use crate::limits::SYSLOG_LINE_OCTETS_MAX;
use std::io::{PipeReader, PipeWriter, Read, Write as _, pipe};
use std::thread;

/// A pipe whose other end a program is given twice, for both of its outputs.
///
/// # Errors
/// Of the system.
pub(super) fn follow(source: Source) -> std::io::Result<PipeWriter> {
    let (reader, writer) = pipe()?;
    thread::Builder::new().name("output".to_owned()).spawn(move || pass_on(reader, source))?;
    Ok(writer)
}

fn pass_on(reader: PipeReader, source: Source) {
    let mut screen = console::names().pop().and_then(|name| console::open(&name));
    each_line(reader, |octets| {
        if let Some(screen) = &mut screen {
            let _ = screen.write(octets);
        }
        let text = String::from_utf8_lossy(octets);
        let text = text.trim_end();
        if !text.is_empty() {
            syslog::hand_over(source, text);
        }
    });
}

/// Lines with their ends, in pieces where they are longer than a line may be.
fn each_line(mut reader: impl Read, mut take: impl FnMut(&[u8])) {
    let mut octets = vec![0; SYSLOG_LINE_OCTETS_MAX];
    let mut filled = 0;
    loop {
        match reader.read(&mut octets[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
        let whole = octets[..filled].iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        octets[..whole].split_inclusive(|octet| *octet == b'\n').for_each(&mut take);
        octets.copy_within(whole..filled, 0);
        filled -= whole;
        if filled == octets.len() {
            take(&octets);
            filled = 0;
        }
    }
    if filled > 0 {
        take(&octets[..filled]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands over a few octets at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(into.len()).min(self.0.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_are_lines_however_they_come() {
        let long = "x".repeat(SYSLOG_LINE_OCTETS_MAX + 5);
        let text = format!("one\n\ntwo\n{long}\nlast");
        for step in [1, 2, 7, 4096, text.len()] {
            let mut lines = Vec::new();
            each_line(Slow(text.as_bytes(), step), |line| {
                lines.push(String::from_utf8(line.to_vec()).unwrap())
            });
            assert_eq!(lines.concat(), text, "nothing is lost");
            assert_eq!(lines[..3], ["one\n", "\n", "two\n"]);
            assert!(lines.iter().all(|line| line.len() <= SYSLOG_LINE_OCTETS_MAX));
            assert_eq!(lines.last().unwrap(), "last");
        }
    }
}
