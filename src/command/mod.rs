//! The operator's commands, one file each: thin, and the only code that prints.
//!
//! Data goes to standard output, everything else to standard error. A command ends with an [`Exit`].

pub mod check;
pub mod demo;
mod logging;
pub mod serve;

use std::process::ExitCode;

/// How a command ends; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: the operation failed.
    Failed,
    /// 2: wrong usage or configuration; nothing was started.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}
