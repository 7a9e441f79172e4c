//! Data at rest: the keys of mail, sealed on the data partition, opened at each start.
//!
//! # Promise
//! **The disk by itself gives no mail away.** Mail is encrypted by a key file as anywhere else (`storage.key_file`); PID 1 makes its text at the first start and keeps it in
//! [`sealed`] form only, as `/data/state/at-rest`, written whole or not at all. Without what opens one of its slots it is worth nothing: the machine's TPM ([`tpm`]), a
//! passphrase, or the recovery key ([`recovery`]) that is told once. Opened, the text is a file in memory that only the server's user may read.
//! Envelopes are part of mail. Indexes and journals, which name domains and counts, are not; nor is the control database: domains, recipients, tokens by their digests.
//!
//! # What `[at_rest] key` makes of a start ([`choice`])
//! | file | `auto` | `tpm` | `passphrase` | `none` |
//! |---|---|---|---|---|
//! | none | made by the TPM; without one mail stays plain | made by the TPM; refused without one | waits for a first passphrase | plain |
//! | there | the TPM, else LOCKED | the TPM, else LOCKED | LOCKED | the TPM, else LOCKED: what is encrypted stays so |
//!
//! A configuration that names a key file of its own is left alone, and told. A file that is damaged, or of a later version, is LOCKED: a new key would read none of the mail.
//!
//! # LOCKED
//! No mail is taken; the server runs with nothing but its admin API, until somebody types what opens a slot, at the console or over the API. Who guesses is slowed down
//! ([`guard`]). What was opened by hand is sealed to the TPM anew, where the setting wants one.
//!
//! # A version on trial
//! It makes no keys: the version before, which may come back, could not read its mail (H13). One whose TPM does not open what it should has failed, since the version before
//! may do better; where there is no slot for a TPM it waits for a human, and its time begins when he has come.
//!
//! # What it does not do
//! Old text is overwritten in its place when it is replaced or wiped, but a flash disk may keep copies of blocks: a passphrase that became known is no secret from who
//! copied the disk before it was changed. Nothing protects the memory of a machine that runs.

mod choice;
mod guard;
mod recovery;
pub(crate) mod sealed;
pub(super) mod taking;
mod tpm;

use super::console::{say, show};
use super::events::Event;
use super::settings::Choice;
use super::tool;
use crate::limits::{
    AT_REST_FILE_OCTETS_MAX, AT_REST_PASSPHRASE_CHARACTERS_MAX, AT_REST_PASSPHRASE_CHARACTERS_MIN,
};
use crate::update::at_rest::{Secret, State as Shown, Status, Told, Wish};
use choice::Start;
use guard::Guard;
use recovery::RecoveryKey;
use sealed::{Key, Kind, Sealed, Unopened};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tpm::{Chip, Tpm};

/// In the state directory.
pub(super) const FILE: &str = "at-rest";
/// In memory: the server's key file.
pub(super) const KEYS: &str = "/run/stratamx/mail-keys";

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct AtRest(Arc<Mutex<Inner>>);

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// On the data partition.
    pub(super) state: PathBuf,
    /// In memory.
    pub(super) keys: PathBuf,
    /// Who reads the keys.
    pub(super) owner: u32,
    /// The machine's TPM, if there is one now.
    find: fn() -> Option<Box<dyn Chip>>,
}

#[derive(Debug)]
struct Inner {
    places: Places,
    choice: Choice,
    state: State,
    guard: Guard,
    tell: Sender<Event>,
    /// By the keys of a backup, at the next start.
    is_replaced: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing is encrypted by us, for this reason.
    Plain(String),
    Own,
    /// A file that does not open by itself; none: it cannot be read.
    Locked(Option<Sealed>, String),
    /// No passphrase yet.
    Unset,
    Open(Sealed, Key),
}

impl Places {
    /// Those of the machine.
    pub(super) fn of_machine(state: &Path, owner: u32) -> Self {
        let find = || Tpm::find().map(|tpm| Box::new(tpm) as Box<dyn Chip>);
        Self { state: state.to_owned(), keys: PathBuf::from(KEYS), owner, find }
    }
}

impl AtRest {
    /// Opens the keys, or makes them, or finds out why neither is done. Whoever opens them later is told of by `tell`.
    ///
    /// # Errors
    /// A sentence: nothing may be served.
    pub(super) fn open(
        places: Places,
        choice: Choice,
        has_own_keys: bool,
        is_on_trial: bool,
        tell: Sender<Event>,
    ) -> Result<Self, String> {
        let (state, guard) = (State::Own, Guard::default());
        let mut inner = Inner { places, choice, state, guard, tell, is_replaced: false };
        if has_own_keys {
            say("mail is encrypted by a key file of the configuration; the machine's own keys are not used");
        } else {
            inner.state = inner.start(is_on_trial)?;
        }
        inner.introduce();
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// The server's key file, there or not yet; none: it is given none by us.
    pub(super) fn key_file(&self) -> Option<String> {
        let inner = self.lock();
        let is_ours = !matches!(inner.state, State::Plain(_) | State::Own);
        is_ours.then(|| inner.places.keys.display().to_string())
    }

    /// Why no mail is taken, if so.
    pub(super) fn locked(&self) -> Option<String> {
        self.lock().locked()
    }

    /// Does what is asked for over the socket.
    ///
    /// # Errors
    /// A sentence; nothing was changed.
    pub(super) fn answer(&self, wish: Wish) -> Result<Told, String> {
        match wish {
            Wish::Status => Ok(Told::Status(self.status())),
            Wish::Unlock(Secret(secret)) => self.unlock(&secret, Instant::now()).map(|()| Told::Done(None)),
            Wish::Passphrase(Secret(passphrase)) => self.set_passphrase(&passphrase).map(Told::Done),
            Wish::RecoveryKey => self.renew_recovery_key().map(|key| Told::Done(Some(key))),
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> Status {
        let inner = self.lock();
        let (state, sealed) = match &inner.state {
            State::Plain(_) => (Shown::Plain, None),
            State::Own => (Shown::Own, None),
            State::Locked(sealed, _) => (Shown::Locked, sealed.as_ref()),
            State::Unset => (Shown::Unset, None),
            State::Open(sealed, _) => (Shown::Open, Some(sealed)),
        };
        let why = match &inner.state {
            State::Plain(why) => Some(why.clone()),
            State::Own | State::Open(..) => None,
            State::Locked(..) | State::Unset => inner.locked(),
        };
        let kinds = [(Kind::Tpm, "tpm"), (Kind::Passphrase, "passphrase"), (Kind::Recovery, "recovery")];
        let kinds = kinds.iter().filter(|(kind, _)| sealed.is_some_and(|sealed| sealed.has(*kind)));
        Status { state, why, opened_by: kinds.map(|(_, word)| (*word).to_owned()).collect() }
    }

    /// Opens the keys by what somebody typed: the passphrase or the recovery key.
    ///
    /// # Errors
    /// A sentence; it stays locked.
    pub(super) fn unlock(&self, secret: &str, now: Instant) -> Result<(), String> {
        let mut inner = self.lock();
        let State::Locked(sealed, why) = &inner.state else {
            return Err(match inner.state {
                State::Unset => "no passphrase was set yet: set one".to_owned(),
                _ => "the machine is not locked".to_owned(),
            });
        };
        let sealed = sealed.clone().ok_or_else(|| why.clone())?;
        inner.guard.admit(now)?;
        let opened =
            sealed.open_by(secret.trim()).and_then(|wrapping| Ok((sealed.keys(&wrapping)?, wrapping)));
        let (keys, wrapping) = opened.map_err(|error| {
            if matches!(error, Unopened::Wrong(_) | Unopened::None(_)) {
                inner.guard.wrong(now);
                say("a wrong passphrase or recovery key of mail at rest was given");
            }
            error.to_string()
        })?;
        inner.guard.right();
        inner.publish(&keys)?;
        let sealed =
            if choice::wants_tpm(inner.choice) { inner.sealed_anew(sealed, &wrapping) } else { sealed };
        let sealed = inner.by_passphrase_alone(sealed);
        inner.state = State::Open(sealed, wrapping);
        say("UNLOCKED: the keys of mail at rest are open");
        let _ = inner.tell.send(Event::Unlocked);
        Ok(())
    }

    /// Sets or changes the passphrase; the recovery key where it is the first way in.
    ///
    /// # Errors
    /// A sentence; nothing was changed.
    pub(super) fn set_passphrase(&self, passphrase: &str) -> Result<Option<Secret>, String> {
        check_passphrase(passphrase)?;
        let mut inner = self.changeable()?;
        match &inner.state {
            State::Open(sealed, wrapping) => {
                let mut new = sealed.with_passphrase(wrapping, passphrase)?;
                if inner.choice == Choice::Passphrase {
                    // Who asks for a passphrase does not want the machine to open by itself.
                    new = new.without_tpm();
                }
                let wrapping = wrapping.clone();
                inner.keep(&new)?;
                inner.state = State::Open(new, wrapping);
                say("the passphrase of mail at rest was set");
                Ok(None)
            }
            State::Unset => {
                let keys = sealed::new_key_file()?;
                let (sealed, wrapping) = Sealed::make(&keys)?;
                let (sealed, recovery) =
                    sealed.with_passphrase(&wrapping, passphrase)?.with_recovery(&wrapping)?;
                inner.keep(&sealed)?;
                inner.publish(&keys)?;
                inner.state = State::Open(sealed, wrapping);
                say("UNLOCKED: mail at rest is encrypted from now on, and a passphrase opens it");
                let _ = inner.tell.send(Event::Unlocked);
                Ok(Some(Secret(recovery.to_string())))
            }
            _ => Err(inner.unchangeable()),
        }
    }

    /// Makes a recovery key; the one before opens nothing any more.
    ///
    /// # Errors
    /// A sentence; the one before stays.
    pub(super) fn renew_recovery_key(&self) -> Result<Secret, String> {
        let mut inner = self.changeable()?;
        let State::Open(sealed, wrapping) = &inner.state else { return Err(inner.unchangeable()) };
        let (sealed, recovery) = sealed.with_recovery(wrapping)?;
        let wrapping = wrapping.clone();
        inner.keep(&sealed)?;
        inner.state = State::Open(sealed, wrapping);
        say("a new recovery key of mail at rest was made");
        Ok(Secret(recovery.to_string()))
    }

    /// What is about to be replaced is changed by nobody.
    fn changeable(&self) -> Result<MutexGuard<'_, Inner>, String> {
        let inner = self.lock();
        if inner.is_replaced { Err(taking::REPLACED.to_owned()) } else { Ok(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What the first look makes of it.
    fn start(&self, is_on_trial: bool) -> Result<State, String> {
        // What a server before was given is not this one's.
        let _ = fs::remove_file(&self.places.keys);
        let found = match read(&self.places.state) {
            Ok(found) => found,
            // The version before may read it.
            Err(error) if is_on_trial => return Err(error),
            Err(error) => return Ok(State::Locked(None, error)),
        };
        let Some(sealed) = found else { return self.begin(is_on_trial) };
        match choice::with_file(self.choice, sealed.has(Kind::Tpm)) {
            Start::Ask => {
                Ok(State::Locked(Some(sealed), "the passphrase or the recovery key is needed".to_owned()))
            }
            _ => match self.opened_by_tpm(&sealed) {
                Ok((wrapping, keys)) => self.publish(&keys).map(|()| State::Open(sealed, wrapping)),
                Err(error) if is_on_trial => Err(format!("the keys of mail at rest do not open: {error}")),
                Err(error) => Ok(State::Locked(Some(sealed), error)),
            },
        }
    }

    /// A machine that has no keys yet.
    fn begin(&self, is_on_trial: bool) -> Result<State, String> {
        let chip = (self.places.find)();
        match choice::without_file(self.choice, chip.is_some(), is_on_trial)? {
            Start::Plain(why) => Ok(State::Plain(why)),
            Start::Ask => Ok(State::Unset),
            Start::Make => match self.make(chip) {
                Err(error) if self.choice == Choice::Auto => Ok(State::Plain(error)),
                made => made,
            },
        }
    }

    /// New keys, which the TPM opens, and a recovery key.
    fn make(&self, chip: Option<Box<dyn Chip>>) -> Result<State, String> {
        let mut chip = chip.ok_or("there is no TPM")?;
        let keys = sealed::new_key_file()?;
        let (sealed, wrapping) = Sealed::make(&keys)?;
        let secret = Key::random()?;
        let sealed = sealed.with_tpm(&wrapping, &secret, chip.seal(&secret)?)?;
        let (sealed, recovery) = sealed.with_recovery(&wrapping)?;
        self.keep(&sealed)?;
        self.publish(&keys)?;
        tell_recovery(&recovery);
        Ok(State::Open(sealed, wrapping))
    }

    /// The wrapping key, and the text of the key file.
    fn opened_by_tpm(&self, sealed: &Sealed) -> Result<(Key, String), String> {
        let object = sealed.object().ok_or("no TPM opens it")?;
        let mut chip = (self.places.find)().ok_or("there is no TPM any more")?;
        let secret = chip.unseal(&object)?;
        let opened = sealed.open_by_tpm(&secret);
        let opened = opened.and_then(|wrapping| sealed.keys(&wrapping).map(|keys| (wrapping, keys)));
        opened.map_err(|error| error.to_string())
    }

    /// Sealed to the TPM that is there now, if one is; what cannot be is told, and opens by hand the next time.
    fn sealed_anew(&self, sealed: Sealed, wrapping: &Key) -> Sealed {
        let Some(mut chip) = (self.places.find)() else { return sealed };
        let done = Key::random().and_then(|secret| {
            let new = sealed.with_tpm(wrapping, &secret, chip.seal(&secret)?)?;
            self.keep(&new).map(|()| new)
        });
        match done {
            Ok(new) => {
                say("the keys of mail at rest are sealed to this TPM: the next start needs nobody");
                new
            }
            Err(error) => {
                say(&format!("the keys of mail at rest are not sealed to the TPM: {error}"));
                sealed
            }
        }
    }

    fn introduce(&self) {
        match &self.state {
            State::Plain(why) => say(&format!("mail on the disk is not encrypted: {why}")),
            State::Own => {}
            State::Open(..) => say("mail on the disk is encrypted; its keys are open"),
            State::Locked(..) | State::Unset => {
                say(&format!("LOCKED, no mail is taken: {}", self.locked().unwrap_or_default()));
            }
        }
    }

    fn locked(&self) -> Option<String> {
        match &self.state {
            State::Locked(_, why) => Some(why.clone()),
            State::Unset => Some("a first passphrase for mail at rest is needed".to_owned()),
            _ => None,
        }
    }

    /// Who asks for a passphrase, and has one, does not want the machine to open by itself. What cannot be written stays as it was.
    fn by_passphrase_alone(&self, sealed: Sealed) -> Sealed {
        let is_wanted = self.choice == Choice::Passphrase && sealed.has(Kind::Passphrase);
        if !is_wanted || !sealed.has(Kind::Tpm) {
            return sealed;
        }
        let new = sealed.without_tpm();
        match self.keep(&new) {
            Ok(()) => new,
            Err(error) => {
                say(&format!("the TPM still opens the keys of mail at rest: {error}"));
                sealed
            }
        }
    }

    fn unchangeable(&self) -> String {
        match &self.state {
            State::Locked(..) | State::Unset => "the machine is locked".to_owned(),
            _ => "the machine keeps no keys of mail at rest".to_owned(),
        }
    }

    /// Makes the file this one, durably, and then overwrites what was there.
    fn keep(&self, sealed: &Sealed) -> Result<(), String> {
        let failed = |error: io::Error| format!("{FILE}: {error}");
        let old = OpenOptions::new().write(true).open(self.places.state.join(FILE));
        tool::write_durably(&self.places.state, FILE, sealed.text()?.as_bytes(), 0o600).map_err(failed)?;
        if let Ok(old) = old {
            // It has no name any more; what cannot be overwritten goes as any file does.
            let _ = overwrite(old);
        }
        Ok(())
    }

    /// The server's key file.
    fn publish(&self, keys: &str) -> Result<(), String> {
        let place = &self.places.keys;
        let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", place.display());
        let (directory, name) = place
            .parent()
            .zip(place.file_name().and_then(|name| name.to_str()))
            .ok_or_else(|| failed(&"no file"))?;
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let owner = Some(self.places.owner);
        tool::write_for(directory, name, keys.as_bytes(), 0o400, owner).map_err(|error| failed(&error))
    }
}

/// The file below the state directory; none where there is none.
fn read(directory: &Path) -> Result<Option<Sealed>, String> {
    let mut text = String::new();
    let opened = match File::open(directory.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let read = opened.and_then(|file| file.take(AT_REST_FILE_OCTETS_MAX).read_to_string(&mut text));
    read.map_err(|error| format!("the file with the keys cannot be read: {error}"))?;
    Sealed::parse(&text).map(Some)
}

/// Removes the keys for good, before anything else goes: what they encrypted is erased by that.
pub(super) fn erase(directory: &Path) -> io::Result<()> {
    taking::forget(directory)?;
    // One that a power cut left unfinished has the same keys.
    erase_these(directory, &[&format!("{FILE}.new"), FILE])
}

fn erase_these(directory: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        let place = directory.join(name);
        match OpenOptions::new().write(true).open(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => overwrite(opened?)?,
        }
        fs::remove_file(&place)?;
        tool::sync_directory(directory)?;
    }
    Ok(())
}

fn overwrite(mut file: File) -> io::Result<()> {
    let octets = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; octets])?;
    file.sync_all()
}

/// To who stands in front of the machine, and to no log.
fn tell_recovery(key: &RecoveryKey) {
    show(
        "mail on the disk is encrypted from now on, and this machine's TPM opens it. Write the recovery key down:",
    );
    show(
        "without it nothing opens the mail of a machine whose TPM is gone, was cleared, or has another Secure Boot state",
    );
    show(&format!("the recovery key, told this once: {key}"));
}

/// What can be typed on every console.
fn check_passphrase(passphrase: &str) -> Result<(), String> {
    let (least, most) = (AT_REST_PASSPHRASE_CHARACTERS_MIN, AT_REST_PASSPHRASE_CHARACTERS_MAX);
    if !(least..=most).contains(&passphrase.len()) {
        return Err(format!("a passphrase has {least} to {most} characters"));
    }
    if passphrase.chars().any(|c| !c.is_ascii_graphic() && c != ' ') || passphrase.trim() != passphrase {
        return Err("a passphrase is letters, digits and signs of ASCII, and no space at its ends: any console can type it".to_owned());
    }
    if RecoveryKey::parse(passphrase).is_some() {
        return Err("this looks like a recovery key".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
