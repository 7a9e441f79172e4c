//! What a start reads from the data partition before anything runs: an ordered reset or restore done, what came new taken in, the configuration in force, the
//! keys of mail at rest.

use super::at_rest::{AtRest, Places};
use super::console::say;
use super::disk::DATA;
use super::events::Event;
use super::intake::{self, Taken};
use super::menu::Reset;
use super::revision::{self, MACHINE_FILE, SERVER_FILE};
use super::revisions::{self, Record};
use super::settings::{Network, Settings};
use super::{CONFIGURATION, MAIL, SERVER_USER, STATE};
use super::{clock, machine, network, place, reset, restore};
use crate::config::Config;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// See the module.
pub(super) struct Ready {
    pub(super) data_dir: PathBuf,
    pub(super) taken: Taken,
    pub(super) settings: Settings,
    pub(super) config: Config,
    pub(super) at_rest: AtRest,
    /// Of the revision that this start is to prove.
    pub(super) probation: Option<Record>,
}

impl Ready {
    /// Reads the data partition, and takes in what came new.
    ///
    /// # Errors
    /// A sentence; nothing can be served.
    pub(super) fn make(is_on_trial: bool, tell: &Sender<Event>) -> Result<Self, String> {
        let name = network::name(network::interface(&Network::default()).as_deref());
        match reset::act(Path::new(DATA), SERVER_USER, &name)? {
            Some(Reset::KeepMail) => say("factory reset: the configuration is gone, mail is kept"),
            Some(Reset::WipeMail) => say("factory reset: configuration and mail are gone"),
            None => {}
        }
        clock::begin_no_earlier_than(Path::new(STATE));
        restore::Place::new(Path::new(DATA), SERVER_USER).act(is_on_trial)?;
        for directory in [MAIL, CONFIGURATION, STATE] {
            fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
        }
        chown(MAIL, Some(SERVER_USER), Some(SERVER_USER)).map_err(|error| format!("{MAIL}: {error}"))?;
        if let Err(error) = machine::stir() {
            say(&format!("the seed of random numbers: {error}"));
        }
        let root = Path::new(CONFIGURATION);
        let probation = revisions::at_start(root);
        match (Self::of(&name, probation.clone(), (is_on_trial, tell)), probation) {
            (Err(error), Some(record)) if revision::in_force(root) == Some(record.number) => {
                record.give_back(root, &error)?;
                Self::of(&name, None, (is_on_trial, tell))
            }
            (ready, _) => ready,
        }
    }

    fn of(
        name: &str,
        probation: Option<Record>,
        (is_on_trial, tell): (bool, &Sender<Event>),
    ) -> Result<Self, String> {
        let root = Path::new(CONFIGURATION);
        let taken = intake::take(root, (Path::new(STATE), is_on_trial), SERVER_USER, name)?;
        // What came new at this start is somebody's word for it.
        let probation = probation.filter(|record| revision::in_force(root) == Some(record.number));
        let directory = &taken.directory;
        let settings = match fs::read_to_string(directory.join(MACHINE_FILE)) {
            Ok(text) => Settings::parse(&text)?,
            Err(_) => Settings::default(),
        };
        let config = Config::load(&directory.join(SERVER_FILE)).map_err(|error| error.to_string())?;
        let data_dir = place::lead_to(Path::new(MAIL), directory, &config.data_dir)?;
        let places = Places::of_machine(Path::new(STATE), SERVER_USER);
        let has_own_keys = config.storage.key_file.is_some();
        let at_rest = AtRest::open(places, settings.at_rest.key, has_own_keys, is_on_trial, tell.clone())?;
        Ok(Self { data_dir, taken, settings, config, at_rest, probation })
    }
}
