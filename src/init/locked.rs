//! A machine whose keys of mail at rest are not open: how it waits, and what happens when they are.
//!
//! The server runs all the while, as a program that finds no key file and serves its admin API alone; opened, it is ended in order and started again, which takes mail.

use super::{Machine, SERVER};
use crate::limits::{TRIAL_BOOT_PATIENCE, UPDATE_TOLD_PAUSE};
use std::time::Instant;

impl Machine {
    /// Before anything is waited for: what waits for a human has all the time that he takes.
    pub(super) fn await_unlock(&self) {
        if !self.is_locked {
            return;
        }
        self.revisions.is_locked(true);
        if self.on_trial.is_some() {
            self.watchdog.end_trial();
        }
        self.tell_unlocking();
        self.tell_admin();
    }

    /// The keys are open.
    pub(super) fn unlocked(&mut self) {
        // Whoever opened them over the API hears it before his server ends.
        std::thread::sleep(UPDATE_TOLD_PAUSE);
        self.is_locked = false;
        self.revisions.is_locked(false);
        self.started = Instant::now();
        if self.on_trial.is_some() {
            self.watchdog.watch_trial(TRIAL_BOOT_PATIENCE);
        }
        self.start_server_again();
    }

    /// A server that serves its API alone ends, and another one starts at once.
    pub(super) fn start_server_again(&mut self) {
        self.programs.iter_mut().filter(|program| program.name == SERVER).for_each(|server| {
            server.restart();
        });
    }

    /// Who stands here is told the token once the locked server has made it: without one nobody opens anything from afar.
    pub(super) fn invite_unlocking(&mut self) {
        if self.is_locked && !self.is_invited && self.token_file().exists() {
            self.is_invited = true;
            self.invite();
        }
    }
}
