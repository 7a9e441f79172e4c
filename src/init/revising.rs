//! A revision of the configuration comes into force on a machine that runs, or is given back ([`super::revisions`]).

use super::console::say;
use super::revision::SERVER_FILE;
use super::revisions;
use super::{CONFIGURATION, Machine, machine};
use crate::config::Config;
use crate::update::configuration::Effect;
use rustix::process::Signal;
use rustix::system::RebootCommand;
use std::path::Path;
use std::time::Instant;

impl Machine {
    /// Another revision is in force: how the machine is to end, if so. A reload is the business of the server that asked for it.
    pub(super) fn revised(&mut self, effect: Effect) -> Option<RebootCommand> {
        if effect == Effect::RestartMachine {
            return Some(RebootCommand::Restart);
        }
        if let Err(error) = self.take_up() {
            say(&format!("the configuration in force cannot be taken up, the machine restarts: {error}"));
            return Some(RebootCommand::Restart);
        }
        if effect == Effect::RestartServer {
            self.programs.iter_mut().filter(|program| program.name == super::SERVER).for_each(|server| {
                server.restart();
            });
        }
        None
    }

    /// Gives a revision back that cannot stand.
    pub(super) fn look_at_revision(&mut self) -> Option<RebootCommand> {
        let has_failed = self.server().any(|server| server.due().is_some_and(|due| due > Instant::now()));
        let why = self.revisions.overdue(has_failed)?;
        match self.revisions.give_back(&why) {
            Ok(effect) => {
                let ending = self.revised(effect);
                if effect == Effect::Reload && self.is_hearing {
                    self.server().for_each(|server| server.signal(Signal::HUP));
                }
                ending
            }
            Err(error) => {
                say(&error);
                None
            }
        }
    }

    /// The next start of the server is in the directory in force.
    fn take_up(&mut self) -> Result<(), String> {
        let directory = revisions::directory(Path::new(CONFIGURATION))?;
        let config = Config::load(&directory.join(SERVER_FILE)).map_err(|error| error.to_string())?;
        self.data_dir = self.revisions.lead_to(&directory, &config.data_dir)?;
        self.programs.iter_mut().filter(|program| program.name == super::SERVER).for_each(|server| {
            server.directory.clone_from(&directory);
        });
        machine::name(&config.hostname);
        (self.directory, self.config) = (directory, config);
        Ok(())
    }
}
