//! What the server asks of PID 1 about the keys of mail at rest, and is answered.

use core::fmt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The variable of the server's environment that names the key file of the machine; while it is not there the machine is locked.
pub const KEYS_VARIABLE: &str = "STRATAMX_AT_REST";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// How it stands.
    Status,
    /// Open the keys by a passphrase or a recovery key.
    Unlock(Secret),
    /// Set or change the passphrase.
    Passphrase(Secret),
    /// Make a recovery key in place of the one before.
    RecoveryKey,
}

/// What somebody typed; no log shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(not shown)")
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is done, and a recovery key that is new is told this once.
    Done(Option<Secret>),
    /// How it stands.
    Status(Status),
}

/// How the keys of mail at rest stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AtRest)]
pub struct Status {
    /// Whether mail on the disk is encrypted, and can be read
    pub state: State,
    /// A sentence: why it is so
    pub why: Option<String>,
    /// What opens the keys: tpm, passphrase, recovery
    pub opened_by: Vec<String>,
}

/// Whether mail on the disk is encrypted, and can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AtRestState)]
pub enum State {
    /// It is encrypted, and the keys are not open: no mail is taken
    Locked,
    /// It is encrypted, and the keys are open
    Open,
    /// The configuration names a key file of its own (storage.key_file)
    Own,
    /// It is not encrypted by the machine
    Plain,
    /// It is to be encrypted behind a passphrase, and none was set yet: no mail is taken
    Unset,
}
