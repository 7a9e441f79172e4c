//! The records of senders and primaries: one JSON object a line.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message that a server has acknowledged: a line of a sender's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Value of the message's id field.
    pub id: String,
    /// The queue id that the server named; empty if it named none.
    #[serde(default)]
    pub queue_id: String,
    /// Which of the sender's connections.
    #[serde(default)]
    pub session: u64,
    /// When the first MAIL for this message began to leave, also if that attempt failed; microseconds since 1970.
    pub mail_unix_us: u64,
    /// When the 250 was there.
    pub reply_unix_us: u64,
    /// Without brackets.
    pub reverse_path: String,
    /// Those for which the message was taken.
    pub recipients: Vec<String>,
    /// Those that the server refused; it owes them nothing.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Octets of the message, unstuffed.
    pub octets: u64,
    /// CRC32 of the message as it was submitted, unstuffed.
    pub crc32: u32,
}

/// A transaction that a primary has seen: a line of its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Order of the ends of transactions, from 1; also the name of the kept file.
    pub sequence: u64,
    /// Order in which the MAIL commands arrived, from 1.
    pub mail_sequence: u64,
    /// Which connection, from 1.
    #[serde(default)]
    pub session: u64,
    /// When MAIL arrived; microseconds since 1970.
    pub mail_unix_us: u64,
    /// When the transaction ended.
    #[serde(default)]
    pub end_unix_us: u64,
    /// Without brackets.
    pub reverse_path: String,
    /// Recipients that were accepted.
    pub recipients: Vec<String>,
    /// Parameters of MAIL but SIZE and BODY, as they can be said again.
    #[serde(default)]
    pub mail_parameters: String,
    /// Parameters of RCPT, one text a recipient that was accepted.
    #[serde(default)]
    pub recipient_parameters: Vec<String>,
    /// The data came by BDAT.
    #[serde(default)]
    pub chunked: bool,
    /// Recipients that were refused.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Octets of the message, unstuffed; 0 when none came.
    #[serde(default)]
    pub octets: u64,
    /// Value of the message's id field, if its data came.
    #[serde(default)]
    pub id: Option<String>,
    /// Names of the fields above the id field.
    #[serde(default)]
    pub above: Vec<String>,
    /// CRC32 from the id field on.
    #[serde(default)]
    pub crc32: u32,
    /// Whether the answer to the end of data was 250.
    pub accepted: bool,
    /// The last answer of the transaction; none if it was abandoned or left unanswered.
    #[serde(default)]
    pub reply: Option<String>,
}

/// Why a file of records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line is no record.
    #[error("{}:{line}: {error}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
}

/// One record as a line, with its end.
pub fn to_line(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("records have text keys and no maps that could fail");
    line.push(b'\n');
    line
}

/// All records of a file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RecordError> {
    let text =
        fs::read_to_string(path).map_err(|error| RecordError::Unreadable { path: path.to_owned(), error })?;
    let parse = |(index, line)| {
        serde_json::from_str(line).map_err(|error| RecordError::Malformed {
            path: path.to_owned(),
            line: index + 1,
            error,
        })
    };
    text.lines().enumerate().map(parse).collect()
}
