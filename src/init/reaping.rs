//! Ends of processes. PID 1 takes in all: its own, and those whose parent has ended.

use crate::limits::PROGRAM_SAID_OCTETS_MAX;
use core::time::Duration;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, Builder};

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
/// that says more is not waited for to say it. Behind `patience` it is ended.
///
/// # Errors
/// As [`Command::spawn`].
pub(super) fn lasting(command: &mut Command, most: u64, patience: Duration) -> io::Result<Said> {
    let (tell, told) = channel();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = {
        // Its end is not taken in before it is known who waits for it.
        let _own = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        lasting_ones().insert(child.id(), tell);
        child
    };
    let (out, errors, number) = (child.stdout.take(), child.stderr.take(), child.id());
    thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let guard = move || {
            if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                end(number);
            }
        };
        // Beside each other: one that fills a pipe that nobody reads does not go on with the other.
        let reader = || errors.map(|pipe| first(pipe, PROGRAM_SAID_OCTETS_MAX, io::copy)).unwrap_or_default();
        let errors = Builder::new().spawn_scoped(scope, reader)?;
        Builder::new().spawn_scoped(scope, guard)?;
        let out = out.map(|pipe| first(pipe, most, |_, _| Ok(0))).unwrap_or_default();
        let is_done = ended(&mut child, &told);
        drop(over);
        let errors = errors.join().unwrap_or_default();
        Ok(Said { is_done, out, errors: String::from_utf8_lossy(&errors).trim().to_owned() })
    })
}

/// Waits for its end; whether that was a good one.
fn ended(child: &mut Child, told: &Receiver<bool>) -> bool {
    loop {
        if let Ok(is_done) = told.recv_timeout(LOOK) {
            return is_done;
        }
        // While the machine starts nobody takes it in.
        if let Ok(Some(status)) = child.try_wait() {
            lasting_ones().remove(&child.id());
            return status.success();
        }
    }
}

/// Ends one that nobody waits for any more.
fn end(number: u32) {
    if let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// So many octets of a pipe, and what becomes of the rest; the pipe closes behind it.
fn first<R: Read>(mut pipe: R, most: u64, rest: fn(&mut R, &mut io::Sink) -> io::Result<u64>) -> Vec<u8> {
    let mut octets = Vec::new();
    let _ = pipe.by_ref().take(most).read_to_end(&mut octets);
    let _ = rest(&mut pipe, &mut io::sink());
    octets
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

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_takes_long_is_waited_for_whoever_takes_it_in() {
        let said = lasting(Command::new("sh").args(["-c", "echo out; echo wrong >&2"]), 100, LONG).unwrap();
        assert_eq!((said.is_done, said.out.as_slice(), said.errors.as_str()), (true, &b"out\n"[..], "wrong"));
        assert!(!lasting(Command::new("sh").args(["-c", "exit 3"]), 100, LONG).unwrap().is_done);
        let said = lasting(Command::new("sh").args(["-c", "yes"]), 100, LONG).unwrap();
        assert_eq!((said.is_done, said.out.len()), (false, 100), "one that says too much ends by that");
        let said = lasting(Command::new("sh").args(["-c", "yes | head -c 1000000 >&2; echo out"]), 100, LONG)
            .unwrap();
        assert_eq!(said.out, b"out\n", "who says more on one pipe than it holds is read on the other too");
        let said = lasting(Command::new("sleep").arg("600"), 100, Duration::from_millis(10)).unwrap();
        assert!(!said.is_done, "it ends behind the patience");
        assert!(lasting_ones().is_empty());
    }
}
