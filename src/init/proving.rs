//! The end of a trial: the version that runs is the good one, or makes room for the one before.

use super::console::say;
use super::events::Event;
use super::update::SelfTest;
use super::{Machine, trial};
use crate::limits::BLESSING_PAUSE;
use rustix::process::Signal;
use rustix::system::RebootCommand;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, sleep};

impl Machine {
    /// The running version is the good one from now on, as soon as the loader knows.
    pub(super) fn proven(&mut self) {
        let Some(counted) = &self.on_trial else { return };
        if !self.is_proven {
            say("this version has proven itself: a message was taken, kept and handed over");
            self.is_proven = true;
            self.watchdog.end_trial();
            SelfTest::forget();
        }
        if !trial::bless(counted) {
            let tell = self.tell.clone();
            let again = move || {
                sleep(BLESSING_PAUSE);
                drop(tell.send(Event::Proven(Ok(()))));
            };
            // Without a thread the next start proves it again.
            let _ = Builder::new().name("blessing".to_owned()).spawn(again);
            return;
        }
        self.on_trial = None;
        self.updates.proven();
        self.server().for_each(|server| server.signal(Signal::HUP));
    }

    /// A version on trial makes room for the one before.
    pub(super) fn give_up(self, why: &str, events: &Receiver<Event>) -> RebootCommand {
        say(&format!("this version has not proven itself, the machine restarts: {why}"));
        self.updates.failed(why);
        self.end(RebootCommand::Restart, events)
    }
}
