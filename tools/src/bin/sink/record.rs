//! Where the sink writes: one line for each transaction, and the messages themselves.
//!
//! A line is in the file before the reply that it speaks of leaves, so whoever saw a 250 finds it in the record. What one wake of a worker
//! finished is written at once, and only then do the replies leave: many sessions cost one write.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stratamx_tools::record::{Arrival, to_line};

/// The record of all sessions.
#[derive(Debug)]
pub(crate) struct Record {
    lines: Mutex<Lines>,
    mail_sequence: AtomicU64,
    keep: Option<PathBuf>,
}

#[derive(Debug)]
struct Lines {
    file: Option<File>,
    sequence: u64,
}

impl Record {
    /// Appends to the file, and keeps messages in the directory, which is made if it is not there.
    pub(crate) fn open(file: Option<&Path>, keep: Option<PathBuf>) -> io::Result<Self> {
        let file = file.map(|path| File::options().append(true).create(true).open(path)).transpose()?;
        if let Some(directory) = &keep {
            fs::create_dir_all(directory)?;
        }
        let lines = Mutex::new(Lines { file, sequence: 0 });
        Ok(Self { lines, mail_sequence: AtomicU64::new(0), keep })
    }

    /// The number of a MAIL that has just arrived.
    pub(crate) fn next_mail(&self) -> u64 {
        self.mail_sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A file for a message that begins to arrive; none if messages are not kept.
    pub(crate) fn begin_message(&self, mail_sequence: u64) -> io::Result<Option<Kept>> {
        let Some(directory) = &self.keep else { return Ok(None) };
        let path = directory.join(format!("{mail_sequence:08}.arriving"));
        Ok(Some(Kept { file: File::create(&path)?, path }))
    }

    /// Numbers and writes transactions. An accepted message that is kept gets its name; any other goes.
    pub(crate) fn write(&self, finished: Vec<Finished>) -> io::Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        let mut lines = self.lock();
        let mut text = Vec::new();
        for Finished { mut arrival, kept } in finished {
            lines.sequence += 1;
            arrival.sequence = lines.sequence;
            match kept {
                Some(kept) if arrival.accepted => {
                    let name = format!("{:08}.eml", arrival.sequence);
                    fs::rename(&kept.path, kept.path.with_file_name(name))?;
                }
                Some(kept) => fs::remove_file(&kept.path)?,
                None => {}
            }
            if lines.file.is_some() {
                text.extend_from_slice(&to_line(&arrival));
            }
        }
        lines.file.as_mut().map_or(Ok(()), |file| file.write_all(&text))
    }

    /// Keeps all sessions from writing for as long as the guard lives: no line is cut when the program ends.
    pub(crate) fn stop(&self) -> impl Sized + '_ {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) arrival: Arrival,
    pub(crate) kept: Option<Kept>,
}

/// A message that arrives.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    path: PathBuf,
}

impl Kept {
    pub(crate) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)
    }
}
