//! Command lines: CRLF framing over a borrowed buffer.
//!
//! Only CRLF ends a line (RFC 5321 2.3.8). A line that holds a bare CR, a bare LF or a NUL is
//! [`Line::Malformed`] as a whole and ends at the next CRLF, so that the session stays in step and no two
//! programs can disagree about where a command began: every leniency here has become a smuggling report.
//!
//! A line longer than `COMMAND_LINE_OCTETS_MAX` is skipped up to its CRLF in bounded memory: what is skipped
//! is consumed, so the host's buffer always drains. It is reported once, at its end.

use memchr::{memchr3, memmem};

use crate::limits::COMMAND_LINE_OCTETS_MAX;

/// What the head of the input holds; `consumed` counts the CRLF too.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line, without its CRLF.
    Complete {
        /// The octets before the CRLF; no CR, LF or NUL among them.
        text: &'a [u8],
        /// Octets to drop from the input.
        consumed: usize,
    },
    /// No line ends here yet. `consumed` is more than 0 only while an overlong line is skipped.
    Incomplete {
        /// Octets to drop from the input.
        consumed: usize,
    },
    /// A line with a bare CR, a bare LF or a NUL in it.
    Malformed {
        /// Octets to drop from the input.
        consumed: usize,
    },
    /// The end of an overlong line.
    Overlong {
        /// Octets to drop from the input.
        consumed: usize,
    },
}

/// Finds command lines in a stream that arrives in arbitrary pieces.
#[derive(Debug, Default)]
pub enum LineFramer {
    /// At the start of a line, which the input holds from its first octet.
    #[default]
    Framing,
    /// Inside an overlong line, whose head was consumed already.
    Skipping,
}

impl LineFramer {
    /// Looks at the head of `input`, which starts where the last call stopped consuming.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Line<'a> {
        match self {
            Self::Framing => self.frame(input),
            Self::Skipping => self.skip(input),
        }
    }

    fn frame<'a>(&mut self, input: &'a [u8]) -> Line<'a> {
        let window = &input[..input.len().min(COMMAND_LINE_OCTETS_MAX)];
        let Some(end) = memmem::find(window, b"\r\n") else {
            if window.len() < COMMAND_LINE_OCTETS_MAX {
                return Line::Incomplete { consumed: 0 };
            }
            *self = Self::Skipping;
            return self.skip(input);
        };
        let (text, consumed) = (&input[..end], end + 2);
        match memchr3(b'\r', b'\n', 0, text) {
            None => Line::Complete { text, consumed },
            Some(_) => Line::Malformed { consumed },
        }
    }

    fn skip<'a>(&mut self, input: &[u8]) -> Line<'a> {
        match memmem::find(input, b"\r\n") {
            Some(end) => {
                *self = Self::Framing;
                Line::Overlong { consumed: end + 2 }
            }
            // A last CR may be the first half of the CRLF: it waits for its successor.
            None => Line::Incomplete { consumed: input.len() - usize::from(input.ends_with(b"\r")) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crlf_ends_a_line() {
        let mut framer = LineFramer::default();
        assert_eq!(framer.next(b"NOOP\n"), Line::Incomplete { consumed: 0 });
        assert_eq!(framer.next(b"NOOP\r"), Line::Incomplete { consumed: 0 });
        assert_eq!(framer.next(b"NOOP\r\nQ"), Line::Complete { text: b"NOOP", consumed: 6 });
    }

    #[test]
    fn bare_line_ends_and_nul_spoil_the_line_up_to_its_crlf() {
        let mut framer = LineFramer::default();
        assert_eq!(framer.next(b"A\nB\r\nQUIT\r\n"), Line::Malformed { consumed: 5 });
        assert_eq!(framer.next(b"A\rB\r\n"), Line::Malformed { consumed: 5 });
        assert_eq!(framer.next(b"A\r\r\n"), Line::Malformed { consumed: 4 });
        assert_eq!(framer.next(b"A\0\r\n"), Line::Malformed { consumed: 4 });
    }

    #[test]
    fn the_longest_line_passes_and_one_more_octet_does_not() {
        let mut line = vec![b'x'; COMMAND_LINE_OCTETS_MAX - 2];
        line.extend_from_slice(b"\r\n");
        let consumed = COMMAND_LINE_OCTETS_MAX;
        assert_eq!(
            LineFramer::default().next(&line),
            Line::Complete { text: &line[..consumed - 2], consumed }
        );
        line.insert(0, b'x');
        assert_eq!(LineFramer::default().next(&line), Line::Overlong { consumed: consumed + 1 });
    }

    #[test]
    fn an_endless_line_is_consumed_as_it_comes_and_reported_once() {
        let mut framer = LineFramer::default();
        let flood = vec![b'x'; COMMAND_LINE_OCTETS_MAX];
        assert_eq!(framer.next(&flood), Line::Incomplete { consumed: flood.len() });
        assert_eq!(framer.next(b"more\r"), Line::Incomplete { consumed: 4 });
        assert_eq!(framer.next(b"\rstill"), Line::Incomplete { consumed: 6 });
        assert_eq!(framer.next(b"end\r\nNOOP\r\n"), Line::Overlong { consumed: 5 });
        assert_eq!(framer.next(b"NOOP\r\n"), Line::Complete { text: b"NOOP", consumed: 6 });
    }
}
