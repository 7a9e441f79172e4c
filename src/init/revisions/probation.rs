//! A revision that has to prove itself, over restarts and power cuts: a small file beside the revisions.
//!
//! It is durable before the revision is in force, and goes when that stands, or is given back. So a start finds one of these:
//!
//! | the file | in force | what the start does |
//! |---|---|---|
//! | none | any | nothing |
//! | of another revision | any | the power failed before it was in force, or somebody else has made a newer one: forgets it |
//! | of this one, the start is its own | it | goes on: it has its whole time once more, and no other start |
//! | of this one | it | gives it back: nobody has confirmed it, and the machine started again |

use super::super::console::say;
use super::super::revision;
use super::super::tool::{sync_directory, write_durably};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

const FILE: &str = "probation.json";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) number: u64,
    /// What is in force again if it does not stand.
    pub(crate) before: u64,
    /// Else it stands when the server greets.
    pub(crate) needs_confirmation: bool,
    /// The next start of the machine is the one that it comes into force by.
    pub(crate) is_starting: bool,
}

/// What a start makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Forget,
    GiveBack,
    GoOn,
}

fn judge(record: &Record, in_force: Option<u64>) -> Found {
    match record {
        _ if in_force != Some(record.number) => Found::Forget,
        Record { is_starting: true, .. } => Found::GoOn,
        _ => Found::GiveBack,
    }
}

impl Record {
    /// Durable on return.
    pub(super) fn keep(&self, root: &Path) -> io::Result<()> {
        write_durably(root, FILE, &serde_json::to_vec(self)?, 0o600)
    }

    /// The revision before is in force from here on. A power cut at any point leaves that to the next start, or one of both in force.
    pub(crate) fn give_back(&self, root: &Path, why: &str) -> Result<(), String> {
        let back = revision::put_in_force(root, self.before);
        back.map_err(|error| format!("revision {} cannot be put in force again: {error}", self.before))?;
        revision::give_back(root, self.number, why);
        say(&format!(
            "configuration revision {} is given back, {} is in force again: {why}",
            self.number, self.before
        ));
        forget(root).map_err(|error| format!("{FILE}: {error}"))
    }
}

/// It stands, or was given back: durable on return.
pub(super) fn forget(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_directory(root),
    }
}

/// What a start of the machine finds: a revision that is to prove itself by this start.
pub(crate) fn at_start(root: &Path) -> Option<Record> {
    let text = fs::read(root.join(FILE)).ok()?;
    let record: Result<Record, _> = serde_json::from_slice(&text);
    let Ok(record) = record else {
        let _ = forget(root);
        return None;
    };
    let kept = match judge(&record, revision::in_force(root)) {
        Found::Forget => forget(root).map_err(|error| error.to_string()).map(|()| None),
        Found::GiveBack => give_up(&record, root, "the machine started again before it was confirmed"),
        Found::GoOn => {
            let record = Record { is_starting: false, ..record };
            match record.keep(root) {
                Ok(()) => Ok(Some(record)),
                Err(error) => give_up(&record, root, &format!("that it was started cannot be kept: {error}")),
            }
        }
    };
    kept.unwrap_or_else(|error| {
        say(&format!("a configuration on probation: {error}"));
        None
    })
}

fn give_up(record: &Record, root: &Path, why: &str) -> Result<Option<Record>, String> {
    record.give_back(root, why).map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_on_once_and_then_gives_back() {
        let root = std::env::temp_dir().join(format!("stratamx-probation-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for number in ["1", "2", "3"] {
            fs::create_dir_all(root.join(number)).unwrap();
        }
        let record = Record { number: 2, before: 1, needs_confirmation: true, is_starting: true };
        assert_eq!(at_start(&root), None, "there is none");
        record.keep(&root).unwrap();
        revision::put_in_force(&root, 1).unwrap();
        assert_eq!(at_start(&root), None, "the power failed before it was in force");
        assert!(!root.join(FILE).exists());

        record.keep(&root).unwrap();
        revision::put_in_force(&root, 2).unwrap();
        let running = at_start(&root).unwrap();
        assert_eq!((running.number, running.is_starting), (2, false));
        assert_eq!(revision::in_force(&root), Some(2));
        assert_eq!(at_start(&root), None, "the power failed while it was on probation");
        assert_eq!(revision::in_force(&root), Some(1));
        assert!(revision::given_back(&root, 2).unwrap().contains("started again"));
        assert_eq!(at_start(&root), None);

        record.keep(&root).unwrap();
        revision::put_in_force(&root, 3).unwrap();
        assert_eq!((at_start(&root), revision::in_force(&root)), (None, Some(3)), "a newer one stays");
        fs::write(root.join(FILE), "{").unwrap();
        assert_eq!((at_start(&root), root.join(FILE).exists()), (None, false));
        fs::remove_dir_all(&root).unwrap();
    }
}
