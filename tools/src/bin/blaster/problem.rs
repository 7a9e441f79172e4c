//! What came of it, by the exit status that says so.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Why nothing was done: usage (2), or the attempt failed (1).
#[derive(Debug)]
pub(crate) enum Problem {
    Usage(String),
    Failure(String),
}

/// What was done.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For standard output.
    pub(crate) text: String,
    /// Results that could not be written, and why; none of them keeps the text from being printed.
    pub(crate) unwritten: Vec<String>,
    /// All went as it should have.
    pub(crate) is_good: bool,
}

/// A file for a result, made before there is one: who cannot have it finds out before the work.
#[derive(Debug)]
pub(crate) struct ResultFile<'a>(&'a Path, File);

impl<'a> ResultFile<'a> {
    pub(crate) fn create(path: &'a Path) -> Result<Self, Problem> {
        File::create(path).map(|file| Self(path, file)).map_err(|error| Problem::of(path, &error))
    }

    /// Writes the result; why not, if not.
    pub(crate) fn write(mut self, text: &str) -> Result<(), String> {
        self.1.write_all(text.as_bytes()).map_err(|error| on(self.0, &error))
    }
}

impl Problem {
    /// A file could not be had.
    pub(crate) fn of(path: &Path, error: &io::Error) -> Self {
        Self::Failure(on(path, error))
    }
}

/// An error with the name of the file.
pub(crate) fn on(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
