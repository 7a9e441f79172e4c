//! What an archive says of itself.

use serde::{Deserialize, Serialize};

/// The version of the archive's layout.
pub(in crate::command) const FORMAT: u32 = 1;
/// The first entry.
pub(in crate::command) const MANIFEST: &str = "manifest.json";
/// The last one.
pub(in crate::command) const SUMS: &str = "SHA256SUMS";
/// The configuration file.
pub(in crate::command) const CONFIGURATION_FILE: &str = "configuration/stratamx.toml";
/// Where the files that it names are.
pub(in crate::command) const CONFIGURATION_FILES: &str = "configuration/files";
/// The key file of an appliance, which no configuration names.
pub(in crate::command) const MACHINE_KEYS: &str = "configuration/mail-keys";
/// The appliance's own settings; a restore does not put them in force.
pub(in crate::command) const APPLIANCE_FILE: &str = "configuration/appliance.toml";
/// Where the control plane's files are.
pub(in crate::command) const CONTROL: &str = "control";
/// The database, in there.
pub(in crate::command) const DATABASE: &str = "control.sqlite";
/// Where the store is.
pub(in crate::command) const QUEUE: &str = "queue";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::command) struct Manifest {
    /// 1; a reader refuses what it does not know.
    pub(in crate::command) format: u32,
    /// The version of the program.
    pub(in crate::command) version: String,
    pub(in crate::command) hostname: String,
    /// When it was begun, in seconds since 1970.
    pub(in crate::command) made_at_s: u64,
    /// Whether there is a configuration file; the embedded configuration has none.
    pub(in crate::command) configuration: bool,
    /// The files that it names, in the order of their numbers.
    pub(in crate::command) files: Vec<Named>,
    /// The identity of the store, if it is there.
    pub(in crate::command) store: Option<String>,
}

/// A file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::command) struct Named {
    /// As the configuration has it.
    pub(in crate::command) path: String,
    /// False: it was not there.
    pub(in crate::command) held: bool,
}
