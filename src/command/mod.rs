//! The operator's commands, one file each: thin, and the only code that prints.
//!
//! Data goes to standard output, everything else to standard error. A command ends with an [`Exit`].

mod admin;
pub mod alert;
pub mod appliance;
pub mod at_rest;
pub mod backup;
pub mod check;
pub mod client;
pub mod configuration;
pub mod demo;
pub mod domain;
mod fixed;
mod followed;
mod keys;
mod locked;
mod logging;
mod machine;
pub mod manual;
mod opened;
pub mod provision;
pub mod queue;
pub mod restore;
mod seals;
mod secured;
pub mod serve;
pub mod status;
pub mod support;
mod tls;
pub mod token;
pub mod trace;
mod trial;
pub mod update;

use crate::config::{Config, Source};
use std::path::Path;
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

/// The configuration that a command works on; an error in it is told, and ends the command.
fn configuration(file: Option<&Path>) -> Result<(Config, Source), Exit> {
    Config::discover(file).map_err(|error| {
        eprintln!("{error}");
        Exit::Usage
    })
}

/// What a server that cannot go on says.
fn fail(error: &str) -> Exit {
    eprintln!("stratamx: {error}");
    Exit::Failed
}
