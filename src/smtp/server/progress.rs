//! How slow a client may be, beyond the timeout of a single command or block of data.
//!
//! A client that sends an octet now and then meets every deadline that RFC 5321 4.5.3.2 names, and holds its place
//! for days. So mail data has to come at a least pace over a long window, and commands may take only so long
//! until there is mail data. Both rules are far below what the slowest honest link needs; their figures, with the
//! reasons, are in `limits`. Time in which the host owes a verdict is the host's and judged nowhere.

use crate::limits::{COMMANDS_WITHOUT_DATA_TIMEOUT, DATA_PACE_OCTETS_MIN, DATA_PACE_WINDOW};
use crate::smtp::Moment;

/// Where the client stands against the rules.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    /// Commands are exchanged; mail data is due until then.
    Commands { until: Moment },
    /// Mail data comes: octets since the window began, and when it ends.
    Data { octets: usize, until: Moment },
}

impl Progress {
    /// Commands are exchanged from now on.
    pub(super) fn commands(now: Moment) -> Self {
        Self::Commands { until: now + COMMANDS_WITHOUT_DATA_TIMEOUT }
    }

    /// Mail data is awaited from now on.
    pub(super) fn data(now: Moment) -> Self {
        Self::Data { octets: 0, until: now + DATA_PACE_WINDOW }
    }

    /// `octets` more of mail data came. A window that was filled is followed by the next.
    pub(super) fn note(&mut self, octets: usize, now: Moment) {
        if let Self::Data { octets: seen, .. } = self {
            *seen += octets;
            if *seen >= DATA_PACE_OCTETS_MIN {
                *self = Self::data(now);
            }
        }
    }

    /// When the client is too slow, unless more comes.
    pub(super) fn deadline(self) -> Moment {
        match self {
            Self::Commands { until } | Self::Data { until, .. } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    /// Whether a client lives that sends `octets` each `pace`, for a day.
    fn lives(octets: usize, pace: Duration) -> bool {
        let mut now = Duration::from_secs(5);
        let mut progress = Progress::data(now);
        for _ in 0..86_400 / pace.as_secs() {
            now += pace;
            if now >= progress.deadline() {
                return false;
            }
            progress.note(octets, now);
        }
        true
    }

    #[test]
    fn slow_links_live_and_slow_senders_do_not() {
        let second = Duration::from_secs(1);
        assert!(!lives(1, second), "an octet a second");
        assert!(!lives(20, second));
        assert!(lives(30, second), "a modem of 300 bit/s");
        assert!(lives(1_460, 40 * second), "a packet now and then, the worst of a bad radio link");
        assert!(!lives(1, 200 * second));
        assert!(lives(64 * 1024, 299 * second), "a block after each stall");
    }
}
