//! Whether the clock is good enough to let mail expire: a pure state machine (H5).
//!
//! Wall time decides when mail expires, and wall time can be wrong by a month. Two rules:
//! - the system says that wall time is synchronised, or the operator does (`expiry_clock = "trusted"`);
//! - wall and monotonic time agree: after a jump of more than [`CLOCK_JUMP_MAX`] nothing expires until both have
//!   agreed for [`CLOCK_AGREEMENT`], or the operator has looked and reloads the configuration.
//! - a start believes no first look: there is nothing yet that it could agree with, and a clock is set right soon after the
//!   machine has started. Mail may expire from a later look on, when both have agreed for a while ([`agreement`]).
//!
//! A machine that slept looks as if its clock had jumped: nothing expires for a day then, which loses nothing.

use crate::config::ExpiryClockTrust;
use crate::limits::{CLOCK_AGREEMENT, CLOCK_JUMP_MAX, CLOCK_START_AGREEMENT_MAX};
use crate::smtp::Moment;
use core::time::Duration;
use std::path::Path;
use storage::position::UnixMillis;

/// What the system says about wall time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Synchronisation {
    /// It was synchronised since the machine started.
    Synchronised,
    /// Not yet, or nobody told us.
    Unknown,
}

/// See the module. Observed now and then.
#[derive(Debug, Default)]
pub(super) struct ExpiryClock {
    /// Wall time minus monotonic time when they last began to agree; none before the first look.
    offset_ms: Option<i128>,
    /// Why nothing expires though the clock is vouched for.
    waiting: Option<Waiting>,
    /// That the clock is not known to be synchronised was told.
    doubt_told: bool,
}

/// They have not agreed for long enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    /// Since the first look.
    Start(Moment),
    /// Since a jump.
    Jump(Moment),
}

/// What changed, to be told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Wall time jumped by so many milliseconds against monotonic time.
    Jumped(i128),
    /// Nobody says that wall time is synchronised.
    NotSynchronised,
    /// They have agreed for long enough again.
    Resumed,
}

impl ExpiryClock {
    /// Looks at the clocks. Returns whether mail may expire now, and what to tell. After a start they must have agreed for
    /// `start_agreement`.
    pub(super) fn observe(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        synchronisation: Synchronisation,
        trust: ExpiryClockTrust,
        start_agreement: Duration,
    ) -> (bool, Option<News>) {
        let now_ms = i128::try_from(now.as_millis()).unwrap_or(i128::MAX);
        let offset_ms = i128::from(wall.0) - now_ms;
        if self.offset_ms.is_none() {
            self.waiting = Some(Waiting::Start(now));
        }
        let jump_ms = offset_ms - *self.offset_ms.get_or_insert(offset_ms);
        if jump_ms.unsigned_abs() > CLOCK_JUMP_MAX.as_millis() {
            self.offset_ms = Some(offset_ms);
            self.waiting = Some(Waiting::Jump(now));
            return (false, Some(News::Jumped(jump_ms)));
        }
        match self.waiting {
            Some(Waiting::Jump(since)) if now < since + CLOCK_AGREEMENT => return (false, None),
            Some(Waiting::Jump(_)) => {
                self.waiting = None;
                return (false, Some(News::Resumed));
            }
            // Two looks at the same instant are one.
            Some(Waiting::Start(since)) if now > since && now >= since + start_agreement => {
                self.waiting = None
            }
            Some(Waiting::Start(_)) | None => {}
        }
        let trusted = trust == ExpiryClockTrust::Trusted || synchronisation == Synchronisation::Synchronised;
        let told = core::mem::replace(&mut self.doubt_told, !trusted);
        (trusted && self.waiting.is_none(), (!trusted && !told).then_some(News::NotSynchronised))
    }

    /// The operator has looked, and wall time is the right one. A jump that nobody has seen yet still counts.
    pub(super) fn reload(&mut self) {
        self.waiting = None;
        self.doubt_told = false;
    }
}

/// How often a shard looks for mail to expire: often enough for the shortest time that any is kept.
pub(super) fn interval(shortest: Duration) -> Duration {
    (shortest / 4).clamp(crate::limits::EXPIRY_INTERVAL_MIN, crate::limits::EXPIRY_INTERVAL_MAX)
}

/// How long wall and monotonic time must have agreed after a start: long enough for a clock to be set right meanwhile, and no longer
/// than the shortest time that mail is kept asks for.
pub(super) fn agreement(shortest: Duration) -> Duration {
    (shortest / 4).min(CLOCK_START_AGREEMENT_MAX)
}

/// Asks the system. systemd-timesyncd leaves a file each time that it has set the clock, on a file system that does
/// not outlive the machine's start. Other services leave nothing that can be read without privileges or `unsafe`: there the
/// operator says `expiry_clock = "trusted"`.
pub(super) fn synchronisation() -> Synchronisation {
    if Path::new(TIMESYNC_FILE).exists() { Synchronisation::Synchronised } else { Synchronisation::Unknown }
}

const TIMESYNC_FILE: &str = "/run/systemd/timesync/synchronized";

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);
    const START_MS: u64 = 1_800_000_000_000;

    /// Looks at a clock that is wrong by so much, an hour later than before.
    struct Clocks {
        clock: ExpiryClock,
        now: Moment,
        wrong_by: i64,
    }

    impl Clocks {
        fn new() -> Self {
            let mut clocks = Self { clock: ExpiryClock::default(), now: DAY, wrong_by: 0 };
            assert_eq!(clocks.after(HOUR), (false, None));
            assert_eq!(clocks.after(HOUR), (true, None));
            clocks
        }

        fn after(&mut self, time: Duration) -> (bool, Option<News>) {
            self.now += time;
            let millis = u64::try_from(self.now.as_millis()).unwrap() + START_MS;
            let wall = UnixMillis(millis.checked_add_signed(self.wrong_by * 1_000).unwrap());
            let trust = ExpiryClockTrust::Synchronised;
            self.clock.observe(self.now, wall, Synchronisation::Synchronised, trust, HOUR)
        }
    }

    #[test]
    fn h5_a_clock_that_jumps_31_days_lets_nothing_expire() {
        for jump_s in [31 * 86_400, -31 * 86_400] {
            let mut clocks = Clocks::new();
            clocks.wrong_by = jump_s;
            assert_eq!(clocks.after(HOUR), (false, Some(News::Jumped(i128::from(jump_s) * 1_000))));
            for _ in 0..23 {
                assert_eq!(clocks.after(HOUR), (false, None), "told once");
            }
            // Back again: another jump, another day.
            clocks.wrong_by = 0;
            assert_eq!(clocks.after(HOUR), (false, Some(News::Jumped(i128::from(-jump_s) * 1_000))));
            assert_eq!(clocks.after(DAY - HOUR), (false, None));
            assert_eq!(clocks.after(HOUR), (false, Some(News::Resumed)));
            assert_eq!(clocks.after(HOUR), (true, None));
        }
    }

    #[test]
    fn h5_an_hour_is_no_jump_and_many_small_steps_are_one() {
        let mut clocks = Clocks::new();
        clocks.wrong_by = 3_600;
        assert_eq!(clocks.after(HOUR), (true, None));
        clocks.wrong_by = 3_601;
        assert!(matches!(clocks.after(HOUR), (false, Some(News::Jumped(_)))));
    }

    #[test]
    fn h5_a_start_believes_no_first_look() {
        // Found by review: a machine whose clock was 31 days ahead when it started let mail expire at once.
        for wrong_by in [31 * 86_400, 0] {
            let mut clocks = Clocks { clock: ExpiryClock::default(), now: DAY, wrong_by };
            for _ in 0..6 {
                assert_eq!(clocks.after(HOUR / 6), (false, None), "for an hour they agree");
            }
            if wrong_by == 0 {
                assert_eq!(clocks.after(HOUR / 6), (true, None));
                continue;
            }
            // It is set right.
            clocks.wrong_by = 0;
            assert!(matches!(clocks.after(HOUR / 6), (false, Some(News::Jumped(_)))));
            assert_eq!(clocks.after(HOUR), (false, None), "a day, as after any jump");
        }
    }

    #[test]
    fn h5_looks_at_one_instant_are_one_look() {
        let mut clock = ExpiryClock::default();
        let mut look = |now| {
            let (wall, trust) = (UnixMillis(START_MS), ExpiryClockTrust::Trusted);
            clock.observe(now, wall, Synchronisation::Unknown, trust, Duration::ZERO).0
        };
        assert_eq!([look(DAY), look(DAY), look(DAY + Duration::from_millis(1))], [false, false, true]);
    }

    #[test]
    fn h5_a_start_waits_an_hour_at_most_and_less_where_mail_is_kept_for_less() {
        assert_eq!(agreement(30 * DAY), HOUR);
        assert_eq!(agreement(2 * HOUR), HOUR / 2);
        assert_eq!(agreement(Duration::from_secs(20)), Duration::from_secs(5));
    }

    #[test]
    fn h5_the_operator_ends_a_suspension() {
        let mut clocks = Clocks::new();
        clocks.wrong_by = -40_000;
        assert!(!clocks.after(HOUR).0);
        clocks.clock.reload();
        assert_eq!(clocks.after(HOUR), (true, None));
    }

    #[test]
    fn h5_nothing_expires_by_a_clock_that_nobody_vouches_for() {
        let mut clock = ExpiryClock::default();
        let mut now = DAY;
        let mut observe = |trust| {
            now += HOUR;
            let wall = UnixMillis(START_MS + u64::try_from(now.as_millis()).unwrap());
            clock.observe(now, wall, Synchronisation::Unknown, trust, HOUR)
        };
        let (asked, trusted) = (ExpiryClockTrust::Synchronised, ExpiryClockTrust::Trusted);
        assert_eq!(observe(asked), (false, Some(News::NotSynchronised)));
        assert_eq!(observe(asked), (false, None), "told once");
        assert_eq!(observe(trusted), (true, None));
        assert_eq!(observe(asked), (false, Some(News::NotSynchronised)), "and again when it is new");
    }

    #[test]
    fn mail_is_looked_at_as_often_as_its_time_asks() {
        let second = Duration::from_secs(1);
        assert_eq!(interval(30 * DAY), 60 * second);
        assert_eq!(interval(20 * second), 5 * second);
        assert_eq!(interval(second), second);
    }
}
