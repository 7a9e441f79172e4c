//! Updates of the appliance: what the server and PID 1 have in common.
//!
//! An update is one file, a unified kernel image, with a detached signature in minisign's format. The server takes both over the admin API,
//! looks at them and leaves the image in its data directory. PID 1 trusts nothing of the server: asked over a socket, it opens that file by itself
//! and looks again, in the end at what it has written.
//!
//! # The rule ([`examine`])
//! An image is taken when all of this holds:
//! 1. the signature is of the key that came with the running image, and over all octets of this one;
//! 2. what the signature says besides names `stratamx_VERSION_VARIANT.efi`, or `stratamx_VERSION_VARIANT_arm64.efi`, with the version, the variant
//!    and the processor that the image has of itself: an old image cannot be handed in as a new one, nor anything else that was signed;
//! 3. it is for this kind of processor, and of the running variant;
//! 4. its version is *newer* than the running one, by the order that the loader sorts by ([`version`]). The same one is not newer.
//!
//! # The socket
//! PID 1 listens at [`SOCKET`], which the server's user may write to. A request is a line of JSON, and so is its answer; then the connection ends.

pub mod at_rest;
pub mod configuration;
mod image;
pub mod machine;
pub mod restore;
mod signed;
pub mod version;

use crate::limits::UPDATE_OCTETS_MAX;
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use utoipa::ToSchema;

pub use image::{Image, ImageError};
pub use signed::{Key, Signature, SignatureError};

/// Where PID 1 listens.
pub const SOCKET: &str = "/run/stratamx/init.sock";
/// The variable of the server's environment that names the socket; without it there is no appliance.
pub const SOCKET_VARIABLE: &str = "STRATAMX_INIT";
/// The variable that names a configuration file whose domains the server takes too, while it is there: what a new version is tried with.
pub const TRIAL_VARIABLE: &str = "STRATAMX_TRIAL";
/// The image in the server's data directory, complete.
pub const FILE: &str = "update.efi";

/// What the server asks of PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The keys of mail at rest.
    AtRest(at_rest::Wish),
    /// About the configuration's revisions.
    Configuration(configuration::Request),
    /// Install the image that is in the data directory, then start the machine again.
    Install {
        /// The text of its signature's file.
        signature: String,
    },
    /// Say how the machine is.
    Machine,
    /// Taking a backup back.
    Restore(restore::Wish),
    /// Say what runs.
    Status,
}

/// What PID 1 answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The keys of mail at rest.
    AtRest(at_rest::Told),
    /// Of the configuration's revisions.
    Configuration(configuration::Answer),
    /// It is on the disk; the machine starts again now.
    Installed {
        /// What it starts.
        version: String,
    },
    /// How the machine is.
    Machine(machine::Machine),
    /// Nothing has changed, for this reason.
    Refused(String),
    /// Taking a backup back.
    Restore(restore::Told),
    /// What runs.
    Status(Status),
}

/// What runs, and what became of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Update)]
pub struct Status {
    /// The version that runs
    pub version: String,
    /// What it was built for: cloud or generic
    pub variant: String,
    /// What goes on
    pub state: State,
    /// The public key that updates are checked with; null: this image takes none
    pub key: Option<String>,
    /// The last update that stayed
    pub good: Option<Good>,
    /// How the last one ended
    pub last: Option<Last>,
}

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpdateState)]
pub enum State {
    /// Nothing
    Idle,
    /// An image is being written
    Installing,
    /// It is written, and the machine starts again
    Restarting,
    /// The running version is new, and has not proven itself yet
    OnTrial,
}

/// An update that stayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = UpdateGood)]
pub struct Good {
    /// Which
    pub version: String,
    /// When it had proven itself, in seconds since 1970
    pub at_s: u64,
}

/// How an update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = UpdateLast)]
pub struct Last {
    /// Which, where that was known
    pub version: Option<String>,
    /// How
    pub outcome: Outcome,
    /// Why it is not the running version
    pub error: Option<String>,
    /// When, in seconds since 1970
    pub at_s: u64,
}

/// See [`Last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpdateOutcome)]
pub enum Outcome {
    /// It runs, and stays
    Good,
    /// The machine was switched off before it was written
    Interrupted,
    /// It was not taken
    Refused,
    /// It did not prove itself in three starts, and the one before runs
    RolledBack,
}

/// What an update is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The version that runs.
    pub version: String,
    /// Its variant.
    pub variant: String,
}

impl Running {
    /// Reads what the image says of itself: `/etc/os-release`. None: it is no appliance's.
    #[must_use]
    pub fn of(os_release: &str) -> Option<Self> {
        let value = |key| image::value(os_release, key);
        Some(Self { version: value("IMAGE_VERSION")?, variant: value("VARIANT_ID")? })
    }
}

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("the image cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// It is something else.
    #[error("this is no image of the appliance: {0}")]
    Image(#[from] ImageError),
    /// It is for other machines.
    #[error("this image is for {of}, and this machine is {ours}")]
    Machine {
        /// Its processor.
        of: &'static str,
        /// That of this machine.
        ours: &'static str,
    },
    /// The signature is of another file.
    #[error("the signature is of {of}, and the image is {is}")]
    Name {
        /// What it names.
        of: String,
        /// What the image would be called.
        is: String,
    },
    /// A step back, or none.
    #[error("version {of} is not newer than the running {running}")]
    NotNewer {
        /// That of the image.
        of: String,
        /// That of the running one.
        running: String,
    },
    /// It is not signed, or by somebody else.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is for other machines.
    #[error("this is the variant {of}, and {running} runs")]
    Variant {
        /// That of the image.
        of: String,
        /// That of the running one.
        running: String,
    },
}

/// Holds an image against the rule; the signature first, so that nothing that strangers wrote is looked into.
///
/// # Errors
/// The first part of the rule that does not hold.
pub fn examine<F: Read + Seek>(
    file: &mut F,
    signature: &Signature,
    key: &Key,
    running: &Running,
) -> Result<Image, Refusal> {
    file.seek(SeekFrom::Start(0))?;
    // Who writes to it meanwhile makes it another one, and keeps nobody reading.
    let of = signed::verify(&mut file.by_ref().take(UPDATE_OCTETS_MAX + 1), signature, key)?;
    let image = Image::read(file)?;
    let is = image.file_name();
    if of != is {
        return Err(Refusal::Name { of, is });
    }
    let ours = std::env::consts::ARCH;
    if image.processor != ours {
        return Err(Refusal::Machine { of: image.processor, ours });
    }
    let (of, running) = (image.clone(), running.clone());
    if of.variant != running.variant {
        return Err(Refusal::Variant { of: of.variant, running: running.variant });
    }
    if version::compare(&of.version, &running.version).is_le() {
        return Err(Refusal::NotNewer { of: of.version, running: running.version });
    }
    Ok(image)
}

#[cfg(test)]
pub(crate) mod tests;
