//! Why an image cannot be made or trusted, by what the caller does about it.

use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file of ours or of the caller's.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another program.
    #[error("{program}: {said}")]
    Tool {
        /// With its arguments.
        program: String,
        /// What it said, or why it did not start.
        said: String,
    },
    /// Something is not as it should be.
    #[error("{0}")]
    Wrong(String),
}

/// With a file's name.
pub(crate) trait At<T> {
    /// Names the file.
    fn at(self, path: &Path) -> Result<T, Failure>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::File { path: path.to_owned(), error })
    }
}

/// A sentence.
pub(crate) fn wrong(sentence: impl Into<String>) -> Failure {
    Failure::Wrong(sentence.into())
}
