//! The configuration of an appliance as a row of revisions: what the server asks PID 1 about them, and what it is answered.
//!
//! A *revision* is a set of files below `/data/config`, made whole, never changed; one of them is *in force*. Each change makes a new one out of the one
//! that the caller names as seen, so nobody undoes what he has not seen. A change that may cut the operator off, or that ends the server, is on
//! *probation*: it stands once it is confirmed (or, where nobody asked for that, once the server greets); else the revision before is in force again.
//!
//! Texts are told of `stratamx.toml`, `appliance.toml` and lists of recipients; of every other file (keys, tokens, certificates) size and hash only.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The variable of the server's environment with the link to the directory in force: a reload follows it.
pub const DIRECTORY_VARIABLE: &str = "STRATAMX_CONFIGURATION";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make a new revision, and put it in force.
    Change(Change),
    /// The revision on probation stands.
    Confirm {
        /// Which.
        number: u64,
    },
    /// What differs from one to the other.
    Difference {
        /// The earlier one, most of the time.
        from: u64,
        /// The later one.
        to: u64,
    },
    /// The server cannot take the revision up: the one before is to be in force.
    GiveBack {
        /// Which.
        number: u64,
        /// What the server said.
        why: String,
    },
    /// All revisions.
    List,
    /// A text.
    Show {
        /// Of which revision.
        number: u64,
        /// Which file.
        name: String,
    },
}

/// A change, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The revision in force that the caller has seen.
    pub seen: u64,
    /// What becomes of it.
    pub what: What,
    /// His name in the audit log.
    pub caller: String,
    /// Whether it has to be confirmed; none: where it may cut him off, or ends the server.
    pub confirm: Option<bool>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// See [`Change`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Files are added or replaced, and others removed.
    Files {
        /// Each whole.
        files: Vec<NewFile>,
        /// Their names.
        remove: Vec<String>,
    },
    /// All files of an earlier revision.
    Revert {
        /// Which.
        to: u64,
    },
}

/// A file of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConfigurationNewFile)]
pub struct NewFile {
    /// Its name, without any path: letters, digits, `.`, `-` and `_`
    pub name: String,
    /// Its octets in Base64
    pub content: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is made, or would be.
    Changed(Changed),
    /// What differs.
    Differences(Vec<Difference>),
    /// As was asked.
    Done,
    /// All revisions.
    List(List),
    /// Nothing has changed.
    Refused(Refused),
    /// A file.
    Text(String),
}

/// Why nothing has changed; a sentence each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// It is not what was seen.
    #[error("{0}")]
    Changed(String),
    /// It cannot be in force.
    #[error("{0}")]
    Invalid(String),
    /// Not now, or not by this way.
    #[error("{0}")]
    State(String),
    /// There is no such revision or file.
    #[error("{0}")]
    Unknown(String),
    /// The disk does not take it.
    #[error("{0}")]
    Unwritten(String),
}

/// All revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationRevisions)]
pub struct List {
    /// The number of the one in force
    pub in_force: u64,
    /// That one, while it has to prove itself
    pub probation: Option<Probation>,
    /// Files that the hypervisor gives again at each start: they are changed there
    pub fixed: Vec<String>,
    /// The newest first
    pub revisions: Vec<Revision>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationRevision)]
pub struct Revision {
    /// They are counted
    pub number: u64,
    /// How it came about
    #[serde(flatten)]
    pub origin: Origin,
    /// Why it was given back, if it was
    pub given_back: Option<String>,
    /// Its files, by name
    pub files: Vec<Listed>,
}

/// How a revision came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ConfigurationOrigin)]
pub struct Origin {
    /// Where it came from; several at a start, which lays one over the other; none where that is not known
    pub sources: Vec<Source>,
    /// By which token, as the audit log names it
    pub caller: Option<String>,
    /// For a revert: the files of which revision
    pub revert_of: Option<u64>,
    /// When, in seconds since 1970
    pub at_s: Option<u64>,
}

/// Where a revision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConfigurationSource)]
pub enum Source {
    /// The admin API
    Api,
    /// The appliance itself, which was given nothing, or was reset
    Appliance,
    /// The menu of the console
    Console,
    /// Credentials of the hypervisor
    Hypervisor,
    /// The configuration partition
    Partition,
    /// A backup that was taken back
    Restore,
    /// The volume of a cloud
    Volume,
}

/// A file, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationFile)]
pub struct Listed {
    /// Its name
    pub name: String,
    /// In octets
    pub size: u64,
    /// Of its octets, in hexadecimal digits
    pub sha256: String,
    /// Whether its text can be shown; of keys, tokens and certificates it cannot
    pub is_text: bool,
}

/// A revision that has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationProbation)]
pub struct Probation {
    /// Which
    pub number: u64,
    /// The one that is in force again if it does not
    pub before: u64,
    /// Whether it waits to be confirmed; else for the greeting of the server
    pub needs_confirmation: bool,
    /// How long, in seconds; it begins again with the start of the machine that a change of the network asks for
    pub left_s: u64,
}

/// What a change has made, or would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationChanged)]
pub struct Changed {
    /// The revision in force
    pub number: u64,
    /// How it comes into force
    pub effect: Effect,
    /// Whether it has to be confirmed, or it is taken back
    pub needs_confirmation: bool,
    /// Within this time, in seconds
    pub confirm_within_s: u64,
    /// What it changes
    pub differences: Vec<Difference>,
}

/// How a revision comes into force, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConfigurationEffect)]
pub enum Effect {
    /// It is what is in force
    Nothing,
    /// The server reads it; sessions go on
    Reload,
    /// The server takes leave of its clients and starts again
    RestartServer,
    /// So does the machine
    RestartMachine,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConfigurationDifference)]
pub struct Difference {
    /// Its name
    pub name: String,
    /// What it was; null: it is new
    pub before: Option<Listed>,
    /// What it is; null: it is removed
    pub after: Option<Listed>,
    /// The lines that differ, as `diff -u` has them; null where the text cannot be shown
    pub diff: Option<String>,
}
