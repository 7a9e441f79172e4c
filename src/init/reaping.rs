//! Ends of processes. PID 1 takes in all: its own, and those whose parent has ended.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Takes in every process that has ended, also those that nobody waits for any more.
pub(super) fn reap(mut ended: impl FnMut(Pid, &str)) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended(pid, &ending(status));
    }
}

fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("by signal {signal}"),
        _ => "as nobody knows".to_owned(),
    }
}
