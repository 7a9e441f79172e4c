//! PID 1 of the appliance, as the server asks it: a line of JSON over a socket ([`crate::update`]).
//!
//! Whatever is asked blocks, so it is asked from a thread that may wait, and each answer has its time.

use crate::limits::{
    ADMIN_REQUEST_TIMEOUT, AT_REST_PATIENCE, CONFIGURATION_MESSAGE_OCTETS_MAX, CONFIGURATION_PATIENCE,
    UPDATE_PATIENCE,
};
use crate::update::at_rest::{self, Told, Wish};
use crate::update::configuration;
use crate::update::{Answer, FILE, Request, Status};
use core::time::Duration;
use rustix::fs::{Mode, OFlags, open, unlink};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module.
#[derive(Debug)]
pub struct Machine {
    socket: PathBuf,
    /// What PID 1 looks at.
    image: PathBuf,
    uploads: Arc<Semaphore>,
}

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
}

impl Machine {
    /// PID 1 that listens at this socket, and looks for images in this directory; one that a server before left is removed.
    #[must_use]
    pub fn new(socket: PathBuf, data_dir: &Path) -> Self {
        let machine = Self { socket, image: data_dir.join(FILE), uploads: Arc::new(Semaphore::new(1)) };
        machine.remove();
        machine
    }

    /// A place for an upload; one at a time, since there is one file.
    pub(super) fn upload(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.uploads).try_acquire_owned().ok()
    }

    /// A new file for an image.
    pub(super) fn create(&self) -> io::Result<File> {
        self.remove();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(open(&self.image, flags, Mode::RUSR | Mode::WUSR)?))
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
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        line.clear();
        BufReader::new(stream.take(CONFIGURATION_MESSAGE_OCTETS_MAX)).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// What no PID 1 of ours says.
pub(super) fn other() -> Unasked {
    io::Error::other("another answer than was asked for").into()
}
