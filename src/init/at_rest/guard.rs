//! Slows down who guesses: behind each wrong secret nothing is tried for a while, which doubles up to a bound. Pure.
//!
//! It counts for all who ask together, console and API. Asking meanwhile costs nothing, tries nothing and makes nothing longer, so who knows the secret waits at most
//! [`AT_REST_PAUSE_MAX`]. A restart forgets the count: a start takes longer than the first pauses.

use crate::limits::{AT_REST_PAUSE_MAX, AT_REST_PAUSE_MIN};
use std::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// In a row.
    wrong: u32,
    until: Option<Instant>,
}

impl Guard {
    /// Whether a secret may be tried now.
    ///
    /// # Errors
    /// A sentence with the time.
    pub(super) fn admit(&self, now: Instant) -> Result<(), String> {
        match self.until.map(|until| until.saturating_duration_since(now)) {
            Some(left) if !left.is_zero() => {
                let (seconds, wrong) = (left.as_secs() + 1, self.wrong);
                Err(format!("{wrong} wrong in a row: nothing is tried for {seconds} s"))
            }
            _ => Ok(()),
        }
    }

    /// The secret was wrong.
    pub(super) fn wrong(&mut self, now: Instant) {
        let pause = AT_REST_PAUSE_MIN.saturating_mul(1 << self.wrong.min(16));
        self.wrong = self.wrong.saturating_add(1);
        self.until = Some(now + pause.min(AT_REST_PAUSE_MAX));
    }

    /// It was right.
    pub(super) fn right(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn pauses_double_up_to_a_bound_and_asking_makes_none_longer() {
        let (mut guard, mut now) = (Guard::default(), Instant::now());
        let mut pause = AT_REST_PAUSE_MIN;
        for wrong in 1..100_u32 {
            assert_eq!(guard.admit(now), Ok(()));
            guard.wrong(now);
            for _ in 0..3 {
                let told = guard.admit(now).unwrap_err();
                assert!(told.starts_with(&format!("{wrong} wrong in a row")), "{told}");
            }
            assert!(guard.admit(now + pause - Duration::from_millis(1)).is_err());
            now += pause;
            pause = (pause * 2).min(AT_REST_PAUSE_MAX);
        }
        guard.wrong(now);
        guard.right();
        assert_eq!(guard.admit(now), Ok(()));
    }
}
