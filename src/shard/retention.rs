//! How long mail is kept: pure functions of received times, the configuration and wall time.
//!
//! Age alone frees nothing (H4): what is past its time gets a fact in the journal, held or expired, and only
//! that fact lets a segment go.

use crate::config::{Domain, OnExpiry};
use crate::limits::NOTICE_RETENTION;
use storage::format::journal_entry::Outcome;

/// What the configuration says about a domain's old mail, at an instant of wall time. Seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Retention {
    now_s: u64,
    retention_s: u64,
    held_retention_s: u64,
    on_expiry: OnExpiry,
}

impl Retention {
    /// That of `domain` at `now_s`.
    pub(super) const fn of(domain: &Domain, now_s: u64) -> Self {
        Self {
            now_s,
            retention_s: domain.retention.as_secs(),
            held_retention_s: domain.held_retention.as_secs(),
            on_expiry: domain.on_expiry,
        }
    }

    /// That of notices at `now_s`: nobody is told of one that could not go.
    pub(super) const fn of_notices(now_s: u64) -> Self {
        let retention_s = NOTICE_RETENTION.as_secs();
        Self { now_s, retention_s, held_retention_s: retention_s, on_expiry: OnExpiry::Discard }
    }

    /// What becomes of queued units that were received then; `None`: they are kept. Bounced: as far as their senders may be
    /// told.
    pub(super) fn of_queued(&self, received_s: u32) -> Option<Outcome> {
        is_over(received_s, self.retention_s, self.now_s).then_some(match self.on_expiry {
            OnExpiry::Bounce => Outcome::Bounced,
            OnExpiry::Discard => Outcome::Expired,
            OnExpiry::Hold => Outcome::Held,
        })
    }

    /// What becomes of units that are held since then; `None`: they are kept.
    pub(super) fn of_held(&self, since_s: u32) -> Option<Outcome> {
        is_over(since_s, self.held_retention_s, self.now_s).then_some(Outcome::Expired)
    }

    /// Wall time, as an entry has it.
    pub(super) fn now_s(&self) -> u32 {
        u32::try_from(self.now_s).unwrap_or(u32::MAX)
    }
}

/// A time that lies ahead has not begun. No time at all (0) is not known, and nothing is freed by a guess.
const fn is_over(begin_s: u32, kept_s: u64, now_s: u64) -> bool {
    begin_s != 0 && now_s > begin_s as u64 && now_s - begin_s as u64 >= kept_s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use core::time::Duration;

    const DAY: u64 = 86_400;

    fn retention(on_expiry: OnExpiry, now_s: u64) -> Retention {
        let mut domain = Config::embedded().domains.remove(0);
        domain.retention = Duration::from_secs(30 * DAY);
        domain.held_retention = Duration::from_secs(10 * DAY);
        domain.on_expiry = on_expiry;
        Retention::of(&domain, now_s)
    }

    #[test]
    fn what_is_due_to_expire() {
        let received = 1_800_000_000_u64;
        let begin = u32::try_from(received).unwrap();
        let (hold, discard) = (OnExpiry::Hold, OnExpiry::Discard);
        for (on_expiry, age_s, queued, held) in [
            (hold, 0, None, None),
            (hold, 10 * DAY - 1, None, None),
            (hold, 10 * DAY, None, Some(Outcome::Expired)),
            (hold, 30 * DAY - 1, None, Some(Outcome::Expired)),
            (hold, 30 * DAY, Some(Outcome::Held), Some(Outcome::Expired)),
            (OnExpiry::Bounce, 30 * DAY, Some(Outcome::Bounced), Some(Outcome::Expired)),
            (discard, 30 * DAY - 1, None, Some(Outcome::Expired)),
            (discard, 30 * DAY, Some(Outcome::Expired), Some(Outcome::Expired)),
        ] {
            let retention = retention(on_expiry, received + age_s);
            assert_eq!((retention.of_queued(begin), retention.of_held(begin)), (queued, held), "{age_s}");
        }
        let notice = Retention::of_notices(received + 5 * DAY);
        assert_eq!(notice.of_queued(begin), Some(Outcome::Expired), "nobody is told of a notice");
        assert_eq!(Retention::of_notices(received + 5 * DAY - 1).of_queued(begin), None);
        let early = retention(discard, received - 40 * DAY);
        assert_eq!((early.of_queued(begin), early.of_held(begin)), (None, None), "received in the future");
        let unknown = retention(discard, received);
        assert_eq!((unknown.of_queued(0), unknown.of_held(0)), (None, None), "received nobody knows when");
    }
}
