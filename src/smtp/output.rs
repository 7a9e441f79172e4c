//! What a machine wants sent: one buffer, used again and again.
//!
//! Replies (or commands) are appended at the tail while the host reports at the head what is on its way; the
//! memory is kept when all is sent. Invariant: sent <= octets.len(). Nothing here bounds the buffer: the server
//! answers a bounded number of lines for each input that the host holds, the client queues one envelope.

use core::fmt::{self, Write as _};

/// Octets that gather until the host reports them as sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    octets: Vec<u8>,
    sent: usize,
}

impl Output {
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.octets[self.sent..]
    }

    /// # Panics
    /// When more is reported than there was.
    pub(crate) fn advance(&mut self, count: usize) {
        assert!(count <= self.unsent().len(), "the host sent what the machine never queued");
        self.sent += count;
        if self.sent == self.octets.len() {
            self.octets.clear();
            self.sent = 0;
        }
    }

    /// The place to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }
}

/// Appends formatted text without a string in between.
pub(crate) fn append(output: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Appender<'a>(&'a mut Vec<u8>);

    impl fmt::Write for Appender<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }

    Appender(output)
        .write_fmt(text)
        .expect("appending does not fail, nor does the Display of codes and names");
}
