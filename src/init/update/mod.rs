//! Updates: a new image is taken over a socket, written beside the running one, and tried.
//!
//! The server hands an image in ([`crate::update`]); PID 1 trusts nothing of it. What happens to the disk, in this order:
//! 1. the file in the data directory is held against the rule;
//! 2. that an update has begun is durable on the data partition ([`record`]);
//! 3. on the EFI system partition ([`esp`]) every version goes but the running one, the image is written under a name that no loader
//!    starts, synced, read back from the disk and held against the rule once more, renamed to `stratamx_VERSION+3.efi`, synced;
//! 4. the server is drained and the machine starts again. The loader starts the newest version that has tries left, and counts.
//!
//! The new version is on trial then, until it has proven itself ([`self_test`]); after three starts without that the loader starts the one before,
//! which says so. The running version's file is never written to, so a power cut at any point leaves a machine that starts.
//!
//! # What the next start makes of an update that was begun ([`record::judge`])
//! Its own entry tells: there and on trial, there without tries, or not there at all.

mod esp;
mod install;
mod record;
mod self_test;

use super::at_rest::AtRest;
use super::console::say;
use super::events::Event;
use super::health::Health;
use super::restore::Restores;
use super::revisions::Revisions;
use super::tool::now_s;
use crate::limits::{
    CONFIGURATION_MESSAGE_OCTETS_MAX, UPDATE_ASKERS_MAX, UPDATE_TOLD_PATIENCE, UPDATE_TOLD_PAUSE,
};
use crate::update::configuration::{self, Effect};
use crate::update::restore::Told;
use crate::update::{Answer, Key, Last, Outcome, Request, Running, SOCKET, State, Status};
pub(super) use esp::{Esp, blessed};
use record::{Found, Record};
pub(super) use self_test::SelfTest;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Why a version on trial changes no configuration, and takes no backup back.
const ON_TRIAL: &str = "a new version is on trial: what it would write the one before might not read; once more when it has proven itself";

/// What the image says of itself.
const OS_RELEASE: &str = "/etc/os-release";
/// The public key that came with it.
const KEY: &str = "/etc/stratamx/update.pub";

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct Updates(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    running: Running,
    state: State,
    /// Why it cannot be had, if there is none.
    key: Result<Key, String>,
    record: Record,
    /// Where the record is kept.
    directory: PathBuf,
}

/// Who answers what is asked about something else.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    pub(super) revisions: Revisions,
    pub(super) at_rest: AtRest,
    pub(super) health: Health,
    pub(super) restores: Restores,
}

impl Updates {
    /// Looks at what became of an update that was begun; `directory` is on the data partition.
    pub(super) fn start(directory: &Path, is_on_trial: bool) -> Self {
        let running = running();
        let key = fs::read_to_string(KEY)
            .map_err(|error| format!("this image has no key to check updates with: {KEY}: {error}"));
        let key = key.and_then(|text| Key::parse(&text).map_err(|error| format!("{KEY}: {error}")));
        let state = if is_on_trial { State::OnTrial } else { State::Idle };
        let record = Record::read(directory);
        let updates = Self(Arc::new(Mutex::new(Inner {
            running,
            state,
            key,
            record,
            directory: directory.to_owned(),
        })));
        updates.settle(is_on_trial);
        updates
    }

    /// What the last start left.
    fn settle(&self, is_on_trial: bool) {
        let mut inner = self.lock();
        let Some(version) = inner.record.pending.as_ref().map(|pending| pending.version.clone()) else {
            return;
        };
        // Behind a power cut clusters may belong to nobody; once, and here, since nothing else writes there yet.
        let entries = esp::repair().and_then(|()| Esp::open().and_then(|esp| esp.entries()));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                return say(&format!("what became of the update to {version} is not known: {error}"));
            }
        };
        let left = entries.iter().filter(|entry| entry.version.as_deref() == Some(&*version));
        let left = left.map(|entry| entry.tries).max();
        let found = record::judge(&version, &inner.running.version, is_on_trial, left);
        say(&format!("the update to {version}: {found}"));
        match found {
            Found::OnTrial | Found::Waiting => {}
            Found::Good => inner.good(),
            Found::Interrupted => {
                inner.end(Outcome::Interrupted, "the machine was switched off before it was written")
            }
            Found::RolledBack => {
                let why = inner.record.pending.as_ref().and_then(|pending| pending.error.clone());
                inner.end(
                    Outcome::RolledBack,
                    &why.unwrap_or_else(|| "it did not take mail in three starts".to_owned()),
                );
            }
        }
    }

    /// The running version has proven itself.
    pub(super) fn proven(&self) {
        let mut inner = self.lock();
        inner.state = State::Idle;
        if inner.record.pending.as_ref().is_some_and(|pending| pending.version == inner.running.version) {
            inner.good();
        }
    }

    /// The running version has failed, and makes room; the one that gets it can tell why.
    pub(super) fn failed(&self, why: &str) {
        let mut inner = self.lock();
        if let Some(pending) = &mut inner.record.pending {
            pending.error = Some(why.to_owned());
            inner.keep();
        }
    }

    /// Begins to listen; `image` is what the server leaves, `group` may ask. What is asked about the configuration, mail at rest and backups these answer.
    pub(super) fn listen(
        &self,
        image: PathBuf,
        group: u32,
        answering: Answering,
        tell: Sender<Event>,
    ) -> Result<(), String> {
        let text = |error: std::io::Error| format!("{SOCKET}: {error}");
        let socket = Path::new(SOCKET);
        fs::create_dir_all(socket.parent().unwrap_or(Path::new("/run"))).map_err(text)?;
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(text)?;
        chown(socket, Some(0), Some(group)).map_err(text)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).map_err(text)?;
        let (own, asking) = (self.clone(), Arc::new(()));
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let place = Arc::clone(&asking);
                if Arc::strong_count(&place) > UPDATE_ASKERS_MAX + 1 {
                    continue;
                }
                let (own, image, tell) = (own.clone(), image.clone(), tell.clone());
                let answering = answering.clone();
                let answer = move || {
                    // Free again however this ends, also when there is no thread for it.
                    let _place = place;
                    let _ = own.answer(stream, &image, &answering, &tell);
                };
                // Where no thread can be had the connection ends, and whoever asked is told that.
                let _ = Builder::new().name("asked".to_owned()).spawn(answer);
            }
        };
        Builder::new().name("updates".to_owned()).spawn(accept).map(drop).map_err(|error| error.to_string())
    }

    fn answer(
        &self,
        stream: UnixStream,
        image: &Path,
        Answering { revisions, at_rest, health, restores }: &Answering,
        tell: &Sender<Event>,
    ) -> std::io::Result<()> {
        stream.set_read_timeout(Some(UPDATE_TOLD_PATIENCE))?;
        stream.set_write_timeout(Some(UPDATE_TOLD_PATIENCE))?;
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone()?.take(CONFIGURATION_MESSAGE_OCTETS_MAX));
        reader.read_line(&mut line)?;
        let mut effect = Effect::Nothing;
        let answer = match serde_json::from_str(&line) {
            Ok(Request::AtRest(wish)) => at_rest.answer(wish).map_or_else(Answer::Refused, Answer::AtRest),
            Ok(Request::Configuration(
                configuration::Request::Change(_)
                | configuration::Request::Confirm { .. }
                | configuration::Request::GiveBack { .. },
            )) if let Some(why) = restores.busy() => Answer::Refused(why),
            Ok(Request::Configuration(configuration::Request::Change(_)))
                if self.lock().state == State::OnTrial =>
            {
                Answer::Refused(ON_TRIAL.to_owned())
            }
            Ok(Request::Configuration(request)) => {
                let (answer, follows) = revisions.answer(request);
                effect = follows;
                Answer::Configuration(answer)
            }
            Ok(Request::Restore(wish)) => {
                Answer::Restore(restores.answer(wish, self.busy(), (revisions, at_rest)))
            }
            Ok(Request::Machine) => Answer::Machine(health.machine(&running())),
            Ok(Request::Status) => Answer::Status(self.status()),
            Ok(Request::Install { .. }) if let Some(why) = restores.busy() => Answer::Refused(why),
            Ok(Request::Install { signature }) => match self.install(image, &signature) {
                Ok(version) => Answer::Installed { version },
                Err(error) => Answer::Refused(error),
            },
            Err(error) => Answer::Refused(format!("this is no request: {error}")),
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        let told = (&stream).write_all(text.as_bytes());
        if matches!(answer, Answer::Installed { .. } | Answer::Restore(Told::Ordered)) {
            // Whoever asked the server hears it before everything ends.
            std::thread::sleep(UPDATE_TOLD_PAUSE);
            let _ = tell.send(Event::Restart);
        }
        if effect > Effect::Reload {
            std::thread::sleep(UPDATE_TOLD_PAUSE);
        }
        if effect > Effect::Nothing {
            let _ = tell.send(Event::Revised(effect));
        }
        told
    }

    /// Why nothing else can be begun, if so.
    fn busy(&self) -> Option<String> {
        match self.lock().state {
            State::Idle => None,
            State::Installing | State::Restarting => Some("an update is under way".to_owned()),
            State::OnTrial => Some(ON_TRIAL.to_owned()),
        }
    }

    fn status(&self) -> Status {
        let inner = self.lock();
        Status {
            version: inner.running.version.clone(),
            variant: inner.running.variant.clone(),
            state: inner.state,
            key: inner.key.as_ref().ok().map(|key| key.text().to_owned()),
            good: inner.record.good.clone(),
            last: inner.record.last.clone(),
        }
    }

    /// The last update that stayed, for people.
    pub(super) fn last_good(&self) -> String {
        let inner = self.lock();
        let moment = |at_s: u64| {
            let seconds = i64::try_from(at_s).ok()?;
            jiff::Timestamp::from_second(seconds).ok().map(|moment| moment.to_string())
        };
        match &inner.record.good {
            Some(good) => format!("{} stayed, {}", good.version, moment(good.at_s).unwrap_or_default()),
            None => "none has stayed: the version that was flashed".to_owned(),
        }
    }

    fn install(&self, image: &Path, signature: &str) -> Result<String, String> {
        let (key, running) = {
            let mut inner = self.lock();
            match inner.state {
                State::Idle => {}
                State::Installing => return Err("an update is under way".to_owned()),
                State::Restarting => {
                    return Err("an update was installed, and the machine starts again".to_owned());
                }
                State::OnTrial => {
                    return Err("the running version is on trial: it has to prove itself first".to_owned());
                }
            }
            let key = inner.key.clone()?;
            inner.state = State::Installing;
            (key, inner.running.clone())
        };
        // Whatever comes of it, the state is not left as it is.
        let begin = |version: &str| self.lock().begin(version);
        let work = || install::install(image, signature, &key, &running, begin);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let done = done.unwrap_or_else(|_| Err("PID 1 failed over it; the console tells more".to_owned()));
        let mut inner = self.lock();
        match &done {
            Ok(version) => {
                say(&format!("the update to {version} is installed"));
                inner.state = State::Restarting;
            }
            Err(error) => {
                say(&format!("an update was refused: {error}"));
                inner.state = State::Idle;
                inner.end(Outcome::Refused, error);
            }
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self, version: &str) -> Result<(), String> {
        self.record.pending = Some(record::Pending { version: version.to_owned(), error: None });
        self.record.keep(&self.directory)
    }

    fn good(&mut self) {
        let version = self.running.version.clone();
        self.record.pending = None;
        self.record.good = Some(crate::update::Good { version: version.clone(), at_s: now_s() });
        self.record.last =
            Some(Last { version: Some(version), outcome: Outcome::Good, error: None, at_s: now_s() });
        self.keep();
    }

    fn end(&mut self, outcome: Outcome, error: &str) {
        let version = self.record.pending.take().map(|pending| pending.version);
        self.record.last = Some(Last { version, outcome, error: Some(error.to_owned()), at_s: now_s() });
        self.keep();
    }

    /// What cannot be written down is told; the next start finds out once more.
    fn keep(&self) {
        if let Err(error) = self.record.keep(&self.directory) {
            say(&format!("what became of the update is not written down: {error}"));
        }
    }
}

/// What the image says of itself.
fn running() -> Running {
    let running = fs::read_to_string(OS_RELEASE).ok().and_then(|text| Running::of(&text));
    running.unwrap_or_else(|| Running { version: "unknown".to_owned(), variant: "unknown".to_owned() })
}

/// A version on trial that cannot even be started leaves word why.
pub(super) fn leave_word(directory: &Path, why: &str) {
    let mut record = Record::read(directory);
    if let Some(pending) = &mut record.pending {
        pending.error = Some(why.to_owned());
        let _ = record.keep(directory);
    }
}
