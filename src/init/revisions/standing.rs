//! What the revision on probation waits for, and when it cannot stand.

use super::super::console::say;
use super::{Revisions, Trial};
use crate::limits::CONFIGURATION_PROBATION;
use std::time::Instant;

impl Revisions {
    /// The server that runs greets.
    pub(crate) fn greeted(&self) {
        let mut inner = self.lock();
        let Some(trial) = &mut inner.probation else { return };
        trial.is_up = true;
        if !trial.record.needs_confirmation {
            let number = trial.record.number;
            if let Err(refused) = inner.confirm(number) {
                say(&refused.to_string());
            }
        }
    }

    /// The server runs without mail, until somebody opens the keys of mail at rest; it can be asked, and so it can be told that a revision stands.
    pub(crate) fn is_locked(&self, is_so: bool) {
        let mut inner = self.lock();
        inner.is_locked = is_so;
        if let Some(trial) = &mut inner.probation {
            trial.is_up = is_so;
            if !is_so {
                trial.until = Instant::now() + CONFIGURATION_PROBATION;
            }
        }
    }

    /// Why the revision on probation cannot stand, if it cannot. `has_failed`: the server has ended since it has it.
    pub(crate) fn overdue(&self, has_failed: bool) -> Option<String> {
        // PID 1 waits for nobody who has a change looked at: the next turn asks again.
        let inner = self.at_once()?;
        let trial = inner.probation.as_ref()?;
        let minutes = CONFIGURATION_PROBATION.as_secs() / 60;
        if inner.is_locked && !trial.record.needs_confirmation {
            // It stands once the server greets, for which a human is waited.
            return None;
        }
        match trial {
            Trial { is_up: false, .. } if has_failed => Some("the server does not start with it".to_owned()),
            Trial { is_up, until, .. } if *until <= Instant::now() => Some(if *is_up {
                format!("nobody has confirmed it within {minutes} minutes")
            } else {
                format!("the server did not greet within {minutes} minutes")
            }),
            _ => None,
        }
    }

    /// What the revision on probation waits for, for who stands at the console.
    pub(crate) fn waiting(&self) -> Option<String> {
        let inner = self.at_once()?;
        let Trial { record, until, .. } = inner.probation.as_ref()?;
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        let waits = if record.needs_confirmation { "to be confirmed" } else { "for the server to greet" };
        Some(format!(
            "revision {} waits {waits}; else {} is in force again in {left} s",
            record.number, record.before
        ))
    }
}
