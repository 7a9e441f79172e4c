//! A machine that is asked to take a backup back ends: behind its server it is counted what waits ([`super::restore`]).

use super::events::Event;
use super::revision::SERVER_FILE;
use super::{LOOK, Machine, SERVER_USER, restore};
use crate::limits::RESTORE_COUNT_PATIENCE;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::Builder;
use std::time::Instant;

impl Machine {
    /// The programs have ended, and the data partition is there still. It may take long; PID 1 lives all the while.
    pub(super) fn order_restore(&mut self, events: &Receiver<Event>) {
        if !self.restores.is_asked() {
            return;
        }
        if self.server().any(super::Program::is_running) {
            return self.restores.order(Err("the server does not end".to_owned()));
        }
        let (tell, counted) = channel();
        let environment = self.server().flat_map(|server| server.environment.clone()).collect::<Vec<_>>();
        let directory = self.directory.clone();
        let count = move || {
            drop(tell.send(restore::count(&directory, SERVER_FILE, &environment, SERVER_USER)));
        };
        // Without a thread nobody tells.
        let _ = Builder::new().name("count".to_owned()).spawn(count);
        let deadline = Instant::now() + RESTORE_COUNT_PATIENCE;
        let counted = loop {
            match counted.try_recv() {
                Ok(counted) => break counted,
                Err(TryRecvError::Empty) if Instant::now() < deadline => {
                    self.watchdog.feed();
                    let _ = events.recv_timeout(LOOK);
                    self.reap();
                }
                Err(_) => break Err("it took too long".to_owned()),
            }
        };
        self.restores.order(counted);
    }
}
