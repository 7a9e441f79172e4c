//! Ends of processes. PID 1 takes in all: its own, and those whose parent has ended.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use std::io;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError, TryLockError};

/// Held by a thread that waits for a process of its own: its end would be taken in here.
static WAITING: Mutex<()> = Mutex::new(());

/// Takes in every process that has ended, also those that nobody waits for any more. While a thread waits for one of its own there is nothing to be had;
/// what ended meanwhile is there at the next look.
pub(super) fn reap(mut ended: impl FnMut(Pid, &str)) {
    let _nobody_waits = match WAITING.try_lock() {
        Err(TryLockError::WouldBlock) => return,
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
    };
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended(pid, &ending(status));
    }
}

/// Runs a program to its end, from whichever thread.
///
/// # Errors
/// As [`Command::output`].
pub(super) fn output(command: &mut Command) -> io::Result<Output> {
    let _own = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    command.output()
}

fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("by signal {signal}"),
        _ => "as nobody knows".to_owned(),
    }
}
