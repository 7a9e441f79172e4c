//! What is known of restoring over restarts: the order that a start follows, and what became of the last one. Each a small file, written whole or not at all.
//!
//! The record reads whatever is in it as far as it goes, also of another version (H13). The order does not: one that is not understood is followed by nobody.

use super::super::tool::{sync_directory, write_durably};
use crate::update::restore::{Last, Of};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// In the state directory.
const RECORD: &str = "restore.json";
/// Beside the archive.
const ORDER: &str = "order";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// One that is asked for, and whose end is not known yet.
    pub(super) pending: Option<Of>,
    /// How the last one ended.
    pub(super) last: Option<Last>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) of: Of,
    pub(super) phase: Phase,
    /// Starts that began to unpack it.
    #[serde(default)]
    pub(super) starts: u32,
    /// The revision of the configuration that is to be in force.
    pub(super) revision: Option<u64>,
    pub(super) backlog: Option<u64>,
    pub(super) held: Option<u64>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// It is unpacked beside what is there.
    Prepare,
    /// It takes its place.
    Swap,
}

impl Record {
    pub(super) fn read(state: &Path) -> Self {
        let text = fs::read_to_string(state.join(RECORD)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Durable on return.
    pub(super) fn keep(&self, state: &Path) -> io::Result<()> {
        write_durably(state, RECORD, &serde_json::to_vec(self)?, 0o600)
    }
}

impl Order {
    /// One that nobody has begun yet.
    pub(super) const fn new(of: Of) -> Self {
        Self { of, phase: Phase::Prepare, starts: 0, revision: None, backlog: None, held: None }
    }

    /// The one in this directory, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, String> {
        let text = match fs::read(directory.join(ORDER)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| format!("{ORDER}: {error}"))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| format!("the order to take a backup back is not understood: {error}"))
    }

    /// Durable on return.
    pub(super) fn keep(&self, directory: &Path) -> io::Result<()> {
        write_durably(directory, ORDER, &serde_json::to_vec(self)?, 0o600)
    }

    /// It is followed, or given up: durable on return.
    pub(super) fn end(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join(ORDER)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_directory(directory)),
        }
    }
}
