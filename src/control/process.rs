//! What the admin API knows of the process that it is in.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::LOG_TAIL_OCTETS;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The configuration file; `None`: the embedded one.
    pub configuration: Option<PathBuf>,
    /// What was logged last.
    pub log: Arc<Tail>,
}

/// The last [`LOG_TAIL_OCTETS`] of the log.
#[derive(Debug, Default)]
pub struct Tail(Mutex<VecDeque<u8>>);

impl Tail {
    /// Some lines more; what is too much goes in front.
    pub fn push(&self, lines: &[u8]) {
        let lines = &lines[lines.len().saturating_sub(LOG_TAIL_OCTETS)..];
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let superfluous = (kept.len() + lines.len()).saturating_sub(LOG_TAIL_OCTETS);
        kept.drain(..superfluous);
        kept.extend(lines);
    }

    /// What is there, from the first whole line on.
    #[must_use]
    pub fn lines(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = kept.len() < LOG_TAIL_OCTETS;
        let first =
            if is_whole { 0 } else { kept.iter().position(|octet| *octet == b'\n').map_or(0, |end| end + 1) };
        kept.iter().skip(first).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_the_last_lines_stay_and_the_first_of_them_is_whole() {
        let tail = Tail::default();
        assert!(tail.lines().is_empty());
        tail.push(b"one\ntwo\n");
        assert_eq!(tail.lines(), b"one\ntwo\n");
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        for _ in 0..=LOG_TAIL_OCTETS / line.len() {
            tail.push(&line);
        }
        let lines = tail.lines();
        assert!(lines.len() <= LOG_TAIL_OCTETS && lines.len().is_multiple_of(line.len()), "{}", lines.len());
        assert!(lines.starts_with(&line));
        tail.push(&vec![b'y'; 3 * LOG_TAIL_OCTETS]);
        assert!(tail.lines().iter().all(|octet| *octet == b'y'));
        assert!(tail.0.lock().unwrap().capacity() <= 3 * LOG_TAIL_OCTETS);
    }
}
