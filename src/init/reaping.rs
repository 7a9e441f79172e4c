//! Ends of processes. PID 1 takes in all: its own, and those whose parent has ended.

use crate::limits::PROGRAM_SAID_OCTETS_MAX;
use core::time::Duration;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Held by a thread that waits for a process of its own: its end would be taken in here.
static WAITING: Mutex<()> = Mutex::new(());
/// Who waits for the end of a process that takes long: he is told by whoever takes it in. Whether it ended well.
static LASTING: Mutex<BTreeMap<u32, Sender<bool>>> = Mutex::new(BTreeMap::new());
/// Between two looks whether one that nobody else takes in has ended.
const LOOK: Duration = Duration::from_millis(100);

/// What a program said that took long.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) is_done: bool,
    pub(super) out: Vec<u8>,
    pub(super) errors: String,
}

/// Takes in every process that has ended, also those that nobody waits for any more. While a thread waits for one of its own there is nothing to be had;
/// what ended meanwhile is there at the next look.
pub(super) fn reap(mut ended: impl FnMut(Pid, &str)) {
    let _nobody_waits = match WAITING.try_lock() {
        Err(TryLockError::WouldBlock) => return,
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
    };
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        match lasting_ones().remove(&number) {
            Some(tell) => drop(tell.send(status.exit_status() == Some(0))),
            None => ended(pid, &ending(status)),
        }
    }
}

fn lasting_ones() -> MutexGuard<'static, BTreeMap<u32, Sender<bool>>> {
    LASTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a program that may take long, from whichever thread; others that end meanwhile are taken in. Of what it says so many octets are kept, and one
/// that says more is not waited for to say it.
///
/// # Errors
/// As [`Command::spawn`].
pub(super) fn lasting(command: &mut Command, most: u64) -> io::Result<Said> {
    let (tell, told) = channel();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = {
        // Its end is not taken in before it is known who waits for it.
        let _own = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        lasting_ones().insert(child.id(), tell);
        child
    };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    if let Some(pipe) = child.stdout.take() {
        let _ = pipe.take(most).read_to_end(&mut out);
    }
    if let Some(pipe) = child.stderr.take() {
        let _ = pipe.take(PROGRAM_SAID_OCTETS_MAX).read_to_end(&mut errors);
    }
    let is_done = loop {
        if let Ok(is_done) = told.recv_timeout(LOOK) {
            break is_done;
        }
        // While the machine starts nobody takes it in.
        if let Ok(Some(status)) = child.try_wait() {
            lasting_ones().remove(&child.id());
            break status.success();
        }
    };
    Ok(Said { is_done, out, errors: String::from_utf8_lossy(&errors).trim().to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_waited_for_whoever_takes_it_in() {
        let said = lasting(Command::new("sh").args(["-c", "echo out; echo wrong >&2"]), 100).unwrap();
        assert_eq!((said.is_done, said.out.as_slice(), said.errors.as_str()), (true, &b"out\n"[..], "wrong"));
        assert!(!lasting(Command::new("sh").args(["-c", "exit 3"]), 100).unwrap().is_done);
        let said = lasting(Command::new("sh").args(["-c", "yes"]), 100).unwrap();
        assert_eq!((said.is_done, said.out.len()), (false, 100), "one that says too much ends by that");
        assert!(lasting_ones().is_empty());
    }
}
