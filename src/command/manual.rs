//! `stratamx completions` and `stratamx man`: out of the arguments themselves.

use super::Exit;
use super::client::{fail, print};
use clap::Command;
use clap_complete::Shell;
use std::path::Path;

/// Prints what a shell completes by.
#[must_use]
pub fn completions(mut command: Command, shell: Shell) -> Exit {
    let mut out = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut out);
    print(&String::from_utf8_lossy(&out))
}

/// Prints the manual page; or writes one for each command into a directory that is there.
#[must_use]
pub fn man(command: Command, directory: Option<&Path>) -> Exit {
    let Some(directory) = directory else {
        let mut out = Vec::new();
        return match clap_mangen::Man::new(command).render(&mut out) {
            Ok(()) => print(&String::from_utf8_lossy(&out)),
            Err(error) => fail(&error.to_string()),
        };
    };
    match clap_mangen::generate_to(command, directory) {
        Ok(()) => Exit::Done,
        Err(error) => fail(&format!("{}: {error}", directory.display())),
    }
}
