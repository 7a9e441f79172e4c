//! When to try again: pure functions of what has failed so far.
//!
//! One probe a domain, never a timer a message: a primary that is down is tried after 15 s, 30 s, 60 s ... up to the
//! domain's `retry_interval`. A message that a well primary puts off by itself has a gap of its own, from 5
//! minutes to 4 hours; one that is greylisted comes again when the primary said.

use crate::limits::{DEFERRED_GAP_MAX, DEFERRED_GAP_MIN, GREYLISTING_BELIEVED, PROBE_INTERVAL_MIN};
use core::time::Duration;

/// The pause after `failures` failed tries in a row, at least one.
#[must_use]
pub(in crate::shard) fn probe_pause(failures: u32, retry_interval: Duration) -> Duration {
    doubled(PROBE_INTERVAL_MIN, failures.saturating_sub(1)).min(retry_interval)
}

/// The gap before a message that was put off `times` times is tried again.
#[must_use]
pub(in crate::shard) fn deferred_gap(times: u32, retry_interval: Duration) -> Duration {
    doubled(DEFERRED_GAP_MIN.min(retry_interval), times.saturating_sub(1)).min(DEFERRED_GAP_MAX)
}

/// The gap before a message that was put off `times` times, the last time by greylisting, is tried again. What the primary states is
/// believed at first; one that states little and takes nothing is not to be asked each second for 30 days.
#[must_use]
pub(in crate::shard) fn greylisted_gap(
    times: u32,
    stated: Option<Duration>,
    retry_interval: Duration,
) -> Duration {
    match (stated, times.saturating_sub(GREYLISTING_BELIEVED)) {
        (None, _) => deferred_gap(times, retry_interval),
        (Some(stated), 0) => stated,
        (Some(stated), more) => stated.max(deferred_gap(more, retry_interval)),
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    2_u32.checked_pow(times).and_then(|factor| first.checked_mul(factor)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn probes_back_off_to_the_retry_interval() {
        let pauses: Vec<u64> = (1..=7).map(|n| probe_pause(n, 5 * MINUTE).as_secs()).collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(probe_pause(1, Duration::from_secs(2)).as_secs(), 2);
        assert_eq!(probe_pause(u32::MAX, 5 * MINUTE), 5 * MINUTE);
    }

    #[test]
    fn deferred_messages_back_off_to_four_hours() {
        let gaps: Vec<u64> = (1..=8).map(|n| deferred_gap(n, 5 * MINUTE).as_secs() / 60).collect();
        assert_eq!(gaps, [5, 10, 20, 40, 80, 160, 240, 240]);
        assert_eq!(deferred_gap(u32::MAX, 5 * MINUTE), DEFERRED_GAP_MAX);
    }

    #[test]
    fn a_greylisted_message_comes_again_when_the_primary_said_as_long_as_that_helps() {
        let gaps = |stated: Option<u64>| -> Vec<u64> {
            let stated = stated.map(Duration::from_secs);
            (1..=5).map(|times| greylisted_gap(times, stated, 5 * MINUTE).as_secs()).collect()
        };
        assert_eq!(gaps(Some(20)), [20, 20, 300, 600, 1200]);
        assert_eq!(gaps(Some(900)), [900, 900, 900, 900, 1200]);
        assert_eq!(gaps(None), [300, 600, 1200, 2400, 4800]);
    }
}
