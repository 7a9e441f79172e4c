//! The ledger file: a line for each acknowledged message, written when its worker has dealt with what was there to be read.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger(Option<Mutex<File>>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(Self(path.map(File::create).transpose()?.map(Mutex::new)))
    }

    /// Whether anything is to be written.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Whole lines.
    pub(crate) fn write(&self, lines: &[u8]) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines)
    }
}
