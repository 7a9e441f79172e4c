//! PID 1 of the appliance, as the server asks it: a line of JSON over a socket ([`crate::update`]).
//!
//! Whatever is asked blocks, so it is asked from a thread that may wait, and each answer has its time.

use crate::limits::{
    ADMIN_REQUEST_TIMEOUT, AT_REST_PATIENCE, CONFIGURATION_MESSAGE_OCTETS_MAX, CONFIGURATION_PATIENCE,
    MACHINE_LOOK_INTERVAL, MACHINE_PATIENCE, RESTORE_PATIENCE, UPDATE_PATIENCE, UPLOAD_FREE_MIN,
};
use crate::update::at_rest::{self, Told, Wish};
use crate::update::configuration;
use crate::update::machine;
use crate::update::restore;
use crate::update::{Answer, FILE, Request, Status};
use core::time::Duration;
use rustix::fs::{Mode, OFlags, open, rename, statvfs, unlink};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval};

/// See the module.
#[derive(Debug)]
pub struct Machine {
    socket: PathBuf,
    /// What PID 1 looks at.
    image: PathBuf,
    /// A backup that is to be taken back.
    archive: PathBuf,
    uploads: Arc<Semaphore>,
    /// As it was told last.
    known: Mutex<Option<machine::Machine>>,
}

/// The machine's own settings, among the files of its configuration.
const SETTINGS: &str = "appliance.toml";
/// What is overwritten at a time.
const PIECE_OCTETS: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// PID 1 is silent, or says what makes no sense.
    #[error("PID 1 of the appliance does not answer: {0}")]
    Silent(#[from] io::Error),
    /// It does not do it.
    #[error("{0}")]
    Refused(String),
    /// It does not change the configuration so.
    #[error(transparent)]
    Configuration(#[from] configuration::Refused),
    /// It does not take a backup back.
    #[error(transparent)]
    Restore(#[from] restore::Refused),
}

impl Machine {
    /// PID 1 that listens at this socket, and looks for images in this directory; one that a server before left is removed.
    #[must_use]
    pub fn new(socket: PathBuf, data_dir: &Path) -> Self {
        let (image, archive) = (data_dir.join(FILE), data_dir.join(restore::FILE));
        let left = data_dir.join(restore::LEFT);
        let uploads = Arc::new(Semaphore::new(1));
        let machine = Self { socket, image, archive, uploads, known: Mutex::default() };
        machine.remove();
        // It may be large, and nobody waits for it.
        if rename(&machine.archive, &left).is_ok() || open(&left, OFlags::PATH, Mode::empty()).is_ok() {
            let gone = std::thread::Builder::new().name("erase".to_owned()).spawn(move || erase(&left));
            if let Err(error) = gone {
                tracing::warn!(%error, "a backup that was handed in stays until the next start");
            }
        }
        machine
    }

    /// A new file for a backup, and its path.
    pub(super) fn create_archive(&self) -> io::Result<(File, PathBuf)> {
        self.remove_archive();
        Ok((create(&self.archive)?, self.archive.clone()))
    }

    /// The backup is of no use any more: it holds keys.
    pub(super) fn remove_archive(&self) {
        erase(&self.archive);
    }

    /// How restoring stands.
    pub(super) fn restore_status(&self) -> Result<restore::Status, Unasked> {
        match self.restore(restore::Wish::Status, ADMIN_REQUEST_TIMEOUT / 2)? {
            restore::Told::Status(status) => Ok(status),
            _ => Err(other()),
        }
    }

    /// Has the backup taken back that is in its file. PID 1 ends this process soon after.
    pub(super) fn begin_restore(&self, keep_configuration: bool, caller: String) -> Result<(), Unasked> {
        match self.restore(restore::Wish::Begin { keep_configuration, caller }, RESTORE_PATIENCE)? {
            restore::Told::Ordered => Ok(()),
            _ => Err(other()),
        }
    }

    fn restore(&self, wish: restore::Wish, patience: Duration) -> Result<restore::Told, Unasked> {
        match self.ask(&Request::Restore(wish), patience)? {
            Answer::Restore(restore::Told::Refused(refused)) => Err(refused.into()),
            Answer::Restore(told) => Ok(told),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// A place for an upload; one at a time, since there is one file.
    pub(super) fn upload(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.uploads).try_acquire_owned().ok()
    }

    /// A new file for an image.
    pub(super) fn create(&self) -> io::Result<File> {
        self.remove();
        create(&self.image)
    }

    /// Whether an upload of so many octets leaves the disk room enough; else what is free.
    pub(super) fn has_room(&self, octets: u64) -> Result<(), u64> {
        let directory = self.image.parent().unwrap_or(Path::new("."));
        let Ok(status) = statvfs(directory) else { return Ok(()) };
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        if free < octets.saturating_add(UPLOAD_FREE_MIN) { Err(free) } else { Ok(()) }
    }

    /// The image is of no use any more.
    pub(super) fn remove(&self) {
        // Most of the time there is none.
        let _ = unlink(&self.image);
    }

    /// What runs.
    pub(super) fn status(&self) -> Result<Status, Unasked> {
        match self.ask(&Request::Status, ADMIN_REQUEST_TIMEOUT / 2)? {
            Answer::Status(status) => Ok(status),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// Has the image installed; the version that starts next. PID 1 ends this process soon after.
    pub(super) fn install(&self, signature: String) -> Result<String, Unasked> {
        match self.ask(&Request::Install { signature }, UPDATE_PATIENCE)? {
            Answer::Installed { version } => Ok(version),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// How the machine is, and the health of its disk.
    pub(super) fn machine(&self) -> Result<machine::Machine, Unasked> {
        match self.ask(&Request::Machine, MACHINE_PATIENCE)? {
            Answer::Machine(machine) => Ok(machine),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// The same, as it was a minute ago at most; none: PID 1 does not say.
    pub(super) fn known(&self) -> Option<machine::Machine> {
        self.lock().clone()
    }

    /// Keeps what is known of the machine, until the runtime ends.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut ticks = interval(MACHINE_LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let own = Arc::clone(&self);
            let known = match tokio::task::spawn_blocking(move || own.machine()).await {
                Ok(Ok(known)) => Some(known),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "how the machine is cannot be told");
                    None
                }
                Err(_) => None,
            };
            *self.lock() = known;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<machine::Machine>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the keys of mail at rest stand.
    pub(super) fn at_rest(&self) -> Result<at_rest::Status, Unasked> {
        match self.ask(&Request::AtRest(Wish::Status), ADMIN_REQUEST_TIMEOUT / 2)? {
            Answer::AtRest(Told::Status(status)) => Ok(status),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// Has something done about them; a recovery key that is new.
    pub(super) fn change_at_rest(&self, wish: Wish) -> Result<Option<String>, Unasked> {
        match self.ask(&Request::AtRest(wish), AT_REST_PATIENCE)? {
            Answer::AtRest(Told::Done(key)) => Ok(key.map(|key| key.0)),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    /// What becomes of a question about the configuration.
    pub(super) fn configuration(
        &self,
        request: configuration::Request,
    ) -> Result<configuration::Answer, Unasked> {
        match self.ask(&Request::Configuration(request), CONFIGURATION_PATIENCE)? {
            Answer::Configuration(configuration::Answer::Refused(refused)) => Err(refused.into()),
            Answer::Configuration(answer) => Ok(answer),
            Answer::Refused(why) => Err(Unasked::Refused(why)),
            _ => Err(other()),
        }
    }

    fn ask(&self, request: &Request, patience: Duration) -> io::Result<Answer> {
        ask(&self.socket, request, patience)
    }
}

/// The machine's own settings as they are in force (`appliance.toml`), of PID 1 that listens at this socket; none: it goes by its own.
///
/// # Errors
/// See [`Unasked`].
pub fn settings(socket: &Path) -> Result<Option<String>, Unasked> {
    let asked = |request| match ask(socket, &Request::Configuration(request), CONFIGURATION_PATIENCE)? {
        Answer::Configuration(configuration::Answer::Refused(refused)) => Err(refused.into()),
        Answer::Configuration(answer) => Ok(answer),
        Answer::Refused(why) => Err(Unasked::Refused(why)),
        _ => Err(other()),
    };
    let configuration::Answer::List(list) = asked(configuration::Request::List)? else { return Err(other()) };
    let is_there = list
        .revisions
        .iter()
        .find(|revision| revision.number == list.in_force)
        .is_some_and(|revision| revision.files.iter().any(|file| file.name == SETTINGS));
    if !is_there {
        return Ok(None);
    }
    match asked(configuration::Request::Show { number: list.in_force, name: SETTINGS.to_owned() })? {
        configuration::Answer::Text(text) => Ok(Some(text)),
        _ => Err(other()),
    }
}

fn ask(socket: &Path, request: &Request, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    line.clear();
    BufReader::new(stream.take(CONFIGURATION_MESSAGE_OCTETS_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Overwrites a file and removes it. What cannot be overwritten goes as any file does.
fn erase(path: &Path) {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = open(path, flags, Mode::empty()).map(File::from) else { return };
    let _ = unlink(path);
    let overwrite = |mut file: &File| {
        let (mut left, zeros) = (file.metadata()?.len(), vec![0; PIECE_OCTETS]);
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(PIECE_OCTETS).min(PIECE_OCTETS);
            file.write_all(&zeros[..count])?;
            left -= count as u64;
        }
        file.sync_all()
    };
    if let Err(error) = overwrite(&file) {
        tracing::debug!(%error, "a backup that was handed in is not overwritten");
    }
}

/// What no PID 1 of ours says.
pub(super) fn other() -> Unasked {
    io::Error::other("another answer than was asked for").into()
}
