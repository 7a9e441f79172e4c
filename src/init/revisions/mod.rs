//! The configuration's revisions, as they are looked at and changed from afar ([`crate::update::configuration`]) and at the console.
//!
//! A change is checked whole before anything of it is in force, and made as a revision of its own. What happens to the disk, in this order:
//! 1. the revision's directory, durable ([`revision::make`]);
//! 2. that it is on [`probation`], if it is to be: where it has to be confirmed, or ends the server;
//! 3. the link that makes it the one in force.
//!
//! Then it comes into force by what it changes ([`mod@plan`]): the server reads it again, is started again, or the machine is. On probation it stands when it
//! is confirmed, which is only heard over the new configuration; where nobody asked for that, when the server greets. Else, and when the server does
//! not start, the one before is in force again, by the same means, and nobody has to stand at the console for it.
//!
//! # Invariants
//! - One change at a time, whoever makes it: everything happens under one lock. While one is on probation there is no other, but for the console's word.
//! - Mail is led to from the new revision's directory before it is in force, if that is where the configuration looks for it.

mod difference;
mod plan;
mod probation;
mod restored;
mod standing;

use super::console::say;
use super::place;
use super::revision::{self, CURRENT, Files, MACHINE_FILE, SERVER_FILE, files_of, is_name, origin};
use crate::config::Config;
use crate::limits::{CONFIGURATION_PROBATION, CONFIGURATION_TEXT_OCTETS_MAX, CONFIGURATION_WORDS_MAX};
use crate::update::configuration::{
    Answer, Change, Changed, Difference, Effect, List, Probation, Refused, Request, Revision, Source, What,
};
use base64::Engine as _;
use difference::{Shown, differences};
use plan::plan;
pub(super) use probation::{Record, at_start};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct Revisions(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Who may read the files.
    owner: u32,
    /// Files that the hypervisor gives at each start.
    fixed: Vec<String>,
    probation: Option<Trial>,
    /// The server runs without mail.
    is_locked: bool,
    /// Where mail is, and the places that it is led to from.
    mail: PathBuf,
    places: Vec<PathBuf>,
}

/// A revision on probation, in this life of the machine.
#[derive(Debug)]
struct Trial {
    record: Record,
    /// The server that runs has it.
    is_up: bool,
    until: Instant,
}

impl Revisions {
    /// Those below `root`; `record` is of the one that this start is to prove, and `places` is where mail is led to from.
    pub(super) fn start(
        root: &Path,
        (mail, place): (&Path, &Path),
        owner: u32,
        fixed: Vec<String>,
        record: Option<Record>,
    ) -> Self {
        let probation = record.map(|record| Trial::begin(record, false));
        let places = [place].into_iter().filter(|place| *place != mail).map(Path::to_owned).collect();
        let (root, mail) = (root.to_owned(), mail.to_owned());
        Self(Arc::new(Mutex::new(Inner { root, owner, fixed, probation, is_locked: false, mail, places })))
    }

    /// What is answered, and what the machine does behind the answer.
    pub(super) fn answer(&self, request: Request) -> (Answer, Effect) {
        let mut inner = self.lock();
        let answered = match request {
            Request::Change(change) => {
                let made = inner.change(change);
                return match made {
                    Ok((changed, follows)) => (Answer::Changed(changed), follows),
                    Err(refused) => (Answer::Refused(refused), Effect::Nothing),
                };
            }
            Request::GiveBack { number, why } => {
                return match inner.give_back(Some(number), &bounded(&why)) {
                    // The server that cannot take it up has the one before still.
                    Ok(_) => (Answer::Done, Effect::Reload),
                    Err(refused) => (Answer::Refused(refused), Effect::Nothing),
                };
            }
            Request::Confirm { number } => inner.confirm(number).map(|()| Answer::Done),
            Request::Difference { from, to } => inner.difference(from, to).map(Answer::Differences),
            Request::List => inner.list().map(Answer::List),
            Request::Show { number, name } => inner.show(number, &name).map(Answer::Text),
        };
        (answered.unwrap_or_else(Answer::Refused), Effect::Nothing)
    }

    /// One file of the one in force, changed by somebody at the console, for the next start: he needs nobody's word.
    ///
    /// # Errors
    /// A sentence; the one in force stays.
    pub(super) fn change_at_console(&self, name: &str, text: String) -> Result<(), String> {
        let mut inner = self.lock();
        let in_force = files_of(&inner.root.join(CURRENT))?;
        let offered = Files::from([(name.to_owned(), text.into_bytes())]);
        inner.make_room(&[]);
        let by = origin([Source::Console]);
        if revision::lay_over(&inner.root, &in_force, &offered, (inner.owner, &by))? {
            inner.probation = None;
            probation::forget(&inner.root).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Puts the one before in force again; how that is done.
    ///
    /// # Errors
    /// A sentence; it is to be tried again.
    pub(super) fn give_back(&self, why: &str) -> Result<Effect, String> {
        self.lock().give_back(None, why).map_err(|refused| refused.to_string())
    }

    /// Where a server finds its mail that works in `directory`; led to from there, if it is not yet.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn lead_to(&self, directory: &Path, data_dir: &Path) -> Result<PathBuf, String> {
        self.lock().lead_to(directory, data_dir)
    }

    /// Mail is led to from nowhere any more.
    pub(super) fn close(&self) {
        for place in self.lock().places.drain(..).rev() {
            let _ = unmount(&place, UnmountFlags::empty());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unless somebody has it, and may have it for long.
    fn at_once(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.0.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(inner)) => Some(inner.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Trial {
    fn begin(record: Record, is_up: bool) -> Self {
        Self { record, is_up, until: Instant::now() + CONFIGURATION_PROBATION }
    }
}

impl Inner {
    fn change(&mut self, change: Change) -> Result<(Changed, Effect), Refused> {
        let Change { seen, what, caller, confirm, dry_run } = change;
        let number = self.in_force()?;
        if seen != number {
            return Err(Refused::Changed(format!("revision {number} is in force, and {seen} was seen")));
        }
        if let Some(trial) = self.probation.as_ref().filter(|_| !dry_run) {
            return Err(Refused::State(format!(
                "revision {} is on probation: confirm it, or wait until {} is in force again",
                trial.record.number, trial.record.before
            )));
        }
        let before = self.files(number)?;
        let mut by = origin([Source::Api]);
        by.caller = Some(bounded(&caller));
        let after = match what {
            What::Files { files, remove } => laid_over(&before, files, &remove)?,
            What::Revert { to } => {
                by.revert_of = Some(to);
                self.files(to)?
            }
        };
        self.refuse_fixed(&before, &after)?;
        let plan = plan(&before, &after);
        let needs_confirmation = confirm.unwrap_or(plan.is_risky) && plan.effect > Effect::Nothing;
        let mut changed = Changed {
            number,
            effect: plan.effect,
            needs_confirmation,
            confirm_within_s: CONFIGURATION_PROBATION.as_secs(),
            differences: differences(&before, &after),
        };
        if plan.effect == Effect::Nothing {
            return Ok((changed, Effect::Nothing));
        }
        revision::check(&self.root, &after, self.owner).map_err(Refused::Invalid)?;
        if dry_run {
            return Ok((changed, Effect::Nothing));
        }
        self.make_room(&[number]);
        let made =
            revision::make(&self.root, &after, (self.owner, &by)).map_err(|error| unwritten(&error))?;
        let is_on_probation = needs_confirmation || plan.effect > Effect::Reload;
        let record = is_on_probation.then_some(Record {
            number: made,
            before: number,
            needs_confirmation,
            is_starting: plan.effect == Effect::RestartMachine,
        });
        self.put_in_force(made, &after, record, plan.effect)?;
        changed.number = made;
        let name = by.caller.unwrap_or_default();
        say(&format!("configuration revision {made} is made by {name}: {}", told(&changed)));
        Ok((changed, plan.effect))
    }

    fn put_in_force(
        &mut self,
        number: u64,
        files: &Files,
        record: Option<Record>,
        effect: Effect,
    ) -> Result<(), Refused> {
        let text = files.get(SERVER_FILE).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
        let config = Config::parse(&text, SERVER_FILE).map_err(|error| Refused::Invalid(error.to_string()));
        let put = config.and_then(|config| {
            let directory = self.root.join(number.to_string());
            self.lead_to(&directory, &config.data_dir).map_err(Refused::Invalid)?;
            record
                .as_ref()
                .map_or(Ok(()), |record| record.keep(&self.root))
                .map_err(|error| unwritten(&error))?;
            revision::put_in_force(&self.root, number).map_err(|error| unwritten(&error))
        });
        match put {
            Ok(()) => {
                self.probation = record.map(|record| Trial::begin(record, effect == Effect::Reload));
                Ok(())
            }
            Err(refused) => {
                // A start would forget it too.
                let _ = probation::forget(&self.root);
                revision::give_back(&self.root, number, &refused.to_string());
                Err(refused)
            }
        }
    }

    fn confirm(&mut self, number: u64) -> Result<(), Refused> {
        let Some(trial) = self.probation.as_ref().filter(|trial| trial.record.number == number) else {
            return match self.in_force()? {
                in_force if in_force == number => Ok(()),
                in_force => Err(Refused::Changed(format!(
                    "revision {in_force} is in force, and {number} was to be confirmed"
                ))),
            };
        };
        if !trial.is_up {
            return Err(Refused::State(format!(
                "revision {number} is not in force yet: once more, in a while"
            )));
        }
        probation::forget(&self.root).map_err(|error| unwritten(&error))?;
        self.probation = None;
        say(&format!("configuration revision {number} stands"));
        Ok(())
    }

    /// How the one before is in force again. A server that could not take up the new one may say so of one that is on no probation.
    fn give_back(&mut self, number: Option<u64>, why: &str) -> Result<Effect, Refused> {
        let in_force = self.in_force()?;
        if number.is_some_and(|number| number != in_force) {
            return Err(Refused::Changed(format!("revision {in_force} is in force")));
        }
        let record = match &self.probation {
            Some(trial) => trial.record.clone(),
            None => {
                let older = revision::all(&self.root)
                    .into_iter()
                    .rfind(|older| *older < in_force && revision::given_back(&self.root, *older).is_none());
                let before = older.ok_or_else(|| Refused::State("there is no revision before".to_owned()))?;
                Record { number: in_force, before, needs_confirmation: false, is_starting: false }
            }
        };
        let effect = plan(&self.files(record.number)?, &self.files(record.before)?).effect;
        record.give_back(&self.root, why).map_err(Refused::Unwritten)?;
        self.probation = None;
        Ok(effect)
    }

    fn list(&self) -> Result<List, Refused> {
        let mut revisions = Vec::new();
        for number in revision::all(&self.root).into_iter().rev() {
            let files = self.files(number)?;
            revisions.push(Revision {
                number,
                origin: revision::origin_of(&self.root, number),
                given_back: revision::given_back(&self.root, number),
                files: Shown::of(&files).listed(),
            });
        }
        let probation = self.probation.as_ref().map(|Trial { record, until, .. }| Probation {
            number: record.number,
            before: record.before,
            needs_confirmation: record.needs_confirmation,
            left_s: until.saturating_duration_since(Instant::now()).as_secs(),
        });
        Ok(List { in_force: self.in_force()?, probation, fixed: self.fixed.clone(), revisions })
    }

    fn show(&self, number: u64, name: &str) -> Result<String, Refused> {
        let files = self.files(number)?;
        if !files.contains_key(name) {
            return Err(Refused::Unknown(format!("revision {number} has no file {name}")));
        }
        Shown::of(&files).text(name).ok_or_else(|| {
            Refused::State(format!(
                "{name} is not shown: {SERVER_FILE}, {MACHINE_FILE} and lists of recipients are, up to {CONFIGURATION_TEXT_OCTETS_MAX} octets"
            ))
        })
    }

    fn difference(&self, from: u64, to: u64) -> Result<Vec<Difference>, Refused> {
        Ok(differences(&self.files(from)?, &self.files(to)?))
    }

    fn in_force(&self) -> Result<u64, Refused> {
        revision::in_force(&self.root).ok_or_else(|| Refused::State("no revision is in force".to_owned()))
    }

    fn files(&self, number: u64) -> Result<Files, Refused> {
        if !revision::all(&self.root).contains(&number) {
            return Err(Refused::Unknown(format!("there is no revision {number}")));
        }
        files_of(&self.root.join(number.to_string())).map_err(Refused::State)
    }

    fn refuse_fixed(&self, before: &Files, after: &Files) -> Result<(), Refused> {
        match self.fixed.iter().find(|name| before.get(*name) != after.get(*name)) {
            Some(name) => Err(Refused::State(format!(
                "the hypervisor gives {name} at each start, so a change of it here would not last: change it there"
            ))),
            None => Ok(()),
        }
    }

    fn lead_to(&mut self, directory: &Path, data_dir: &Path) -> Result<PathBuf, String> {
        let is_known = |place: &Path| place == self.mail || self.places.iter().any(|known| known == place);
        if let Some(place) = place::place(directory, data_dir).ok().filter(|place| is_known(place)) {
            return Ok(place);
        }
        let place = place::lead_to(&self.mail, directory, data_dir)?;
        if place != self.mail {
            self.places.push(place.clone());
        }
        Ok(place)
    }

    /// Removes what is older than is kept; mail is led to from there no more. Files that are open stay open.
    fn make_room(&mut self, also: &[u64]) {
        let mut kept = also.to_vec();
        kept.extend(revision::in_force(&self.root));
        kept.extend(self.probation.iter().flat_map(|trial| [trial.record.number, trial.record.before]));
        for number in revision::superfluous(&self.root, &kept) {
            let directory = self.root.join(number.to_string());
            self.places.retain(|place| {
                let is_here = place.starts_with(&directory);
                !is_here || unmount(place, UnmountFlags::DETACH).is_err()
            });
            revision::remove(&directory);
        }
    }
}

fn laid_over(
    before: &Files,
    files: Vec<crate::update::configuration::NewFile>,
    remove: &[String],
) -> Result<Files, Refused> {
    let mut after = before.clone();
    for name in remove {
        if after.remove(name).is_none() {
            return Err(Refused::Unknown(format!("there is no file {name} to be removed")));
        }
    }
    for file in files {
        if !is_name(&file.name) {
            return Err(Refused::Invalid(format!(
                "{:?} cannot be the name of a file: letters, digits, '.', '-' and '_', no path, nothing hidden",
                bounded(&file.name)
            )));
        }
        let octets = base64::engine::general_purpose::STANDARD.decode(&file.content);
        let octets =
            octets.map_err(|error| Refused::Invalid(format!("{}: is not Base64: {error}", file.name)))?;
        after.insert(file.name, octets);
    }
    if !after.contains_key(SERVER_FILE) {
        return Err(Refused::Invalid(format!("without {SERVER_FILE} there is no server")));
    }
    Ok(after)
}

fn unwritten(error: &io::Error) -> Refused {
    Refused::Unwritten(format!("the data partition does not take it: {error}"))
}

/// What follows, for who stands at the console.
fn told(changed: &Changed) -> String {
    let effect = match changed.effect {
        Effect::Nothing => "nothing changes",
        Effect::Reload => "the server reads it",
        Effect::RestartServer => "the server starts again",
        Effect::RestartMachine => "the machine starts again",
    };
    let within = changed.confirm_within_s / 60;
    if changed.needs_confirmation {
        format!("{effect}; it is given back unless it is confirmed within {within} minutes")
    } else {
        effect.to_owned()
    }
}

/// Words of others, for a console and a file of ours.
pub(super) fn bounded(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CONFIGURATION_WORDS_MAX).collect()
}

/// The directory in force, without links in its path.
///
/// # Errors
/// A sentence.
pub(super) fn directory(root: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(root.join(CURRENT)).map_err(|error| format!("{CURRENT}: {error}"))
}

#[cfg(test)]
mod tests;
