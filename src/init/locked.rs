//! A machine whose keys of mail at rest are not open: how it waits, and what happens when they are.
//!
//! The server runs all the while, as a program that finds no key file and serves its admin API alone; opened, it is ended in order and started again, which takes mail.

use super::Machine;
use crate::limits::TRIAL_BOOT_PATIENCE;
use rustix::process::Signal;
use std::time::Instant;

impl Machine {
    /// Before anything is waited for: what waits for a human has all the time that he takes.
    pub(super) fn await_unlock(&self) {
        if self.at_rest.locked().is_none() {
            return;
        }
        if self.on_trial.is_some() {
            self.watchdog.end_trial();
        }
        self.tell_unlocking();
        self.tell_admin();
    }

    /// The keys are open.
    pub(super) fn unlocked(&mut self) {
        self.started = Instant::now();
        if self.on_trial.is_some() {
            self.watchdog.watch_trial(TRIAL_BOOT_PATIENCE);
        }
        self.server().for_each(|server| server.signal(Signal::TERM));
    }
}
