//! Why nothing was done, by the exit status that says so.

/// Why nothing was done: usage (2), or the attempt failed (1).
#[derive(Debug)]
pub(crate) enum Problem {
    Usage(String),
    Failure(String),
}
