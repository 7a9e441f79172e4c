//! A drill: for one recipient of a domain its mail server is out, for a time that ends by itself. His mail is taken and waits in its place;
//! nobody else's does. Sessions and the lane look; who drills is told to begin by the owner of the domain, so that its clock counts.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Mutex, PoisonError};

/// See the module. Durations are instants of the monotonic clock.
#[derive(Debug, Default)]
pub struct Drill {
    is_on: AtomicBool,
    held: Mutex<Option<(String, Duration)>>,
}

impl Drill {
    /// Mail for this mailbox waits until then; `false`: another drill goes on.
    pub fn begin(&self, mailbox: &str, until: Duration, now: Duration) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(_, until)| now < *until) {
            return false;
        }
        *held = Some((mailbox.to_owned(), until));
        self.is_on.store(true, Ordering::Release);
        true
    }

    /// It waits no longer.
    pub fn end(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_on.store(false, Ordering::Release);
    }

    /// Whose mail waits, and until when.
    #[must_use]
    pub fn held(&self, now: Duration) -> Option<(String, Duration)> {
        if !self.is_on.load(Ordering::Acquire) {
            return None;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|(_, until)| now < *until).cloned()
    }

    /// Whether mail for this mailbox waits.
    #[must_use]
    pub fn holds(&self, mailbox: &str, now: Duration) -> bool {
        self.held(now).is_some_and(|(held, _)| held.eq_ignore_ascii_case(mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_at_a_time_and_each_ends_by_itself() {
        let drill = Drill::default();
        assert!(!drill.holds("r@a.test", SECOND));
        assert!(drill.begin("r@a.test", 10 * SECOND, SECOND));
        assert!(drill.holds("R@a.test", 9 * SECOND) && !drill.holds("s@a.test", 9 * SECOND));
        assert!(!drill.begin("s@a.test", 20 * SECOND, 9 * SECOND));
        assert!(!drill.holds("r@a.test", 10 * SECOND), "it ends by itself");
        assert!(drill.begin("s@a.test", 20 * SECOND, 10 * SECOND));
        drill.end();
        assert_eq!(drill.held(11 * SECOND), None);
    }
}
