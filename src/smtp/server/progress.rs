//! How slow a client may be, beyond the timeout of a single command or block of data.
//!
//! A client that sends an octet now and then meets every deadline that RFC 5321 4.5.3.2 names, and holds its place
//! for days. So mail data has to come at a least pace over a long window, and commands may take only so long
//! until there is mail data. A window goes on between the chunks of a message, and commands get more time only by a message,
//! or by a window that was filled: else an octet by BDAT, now and then, would be enough. Both rules are far below what
//! the slowest honest link needs; their figures, with the reasons, are in `limits`. Time in which the host owes a
//! verdict is the host's and counts for nobody.

use crate::limits::{COMMANDS_WITHOUT_DATA_TIMEOUT, DATA_PACE_OCTETS_MIN, DATA_PACE_WINDOW};
use crate::smtp::Moment;

/// Where the client stands against the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Until then there has to be mail data.
    commands_until: Moment,
    /// Mail data is awaited.
    window: Option<Window>,
    /// The host owes a verdict since.
    waiting_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    octets: usize,
    until: Moment,
}

/// What a session is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Commands, outside of mail data.
    Commands,
    /// Commands between the chunks of a message.
    BetweenChunks,
    /// Mail data.
    Data,
    /// The host owes a verdict.
    Waiting,
}

impl Progress {
    /// Commands are exchanged from now on.
    pub(super) fn new(now: Moment) -> Self {
        let commands_until = now + COMMANDS_WITHOUT_DATA_TIMEOUT;
        Self { commands_until, window: None, waiting_since: None }
    }

    /// This much mail data came.
    pub(super) fn note_data(&mut self, octets: usize, now: Moment) {
        let Some(window) = &mut self.window else { return };
        window.octets += octets;
        if window.octets >= DATA_PACE_OCTETS_MIN {
            *self = Self { window: Some(Window::new(now)), ..Self::new(now) };
        }
    }

    /// The session is at `stage` now.
    pub(super) fn note_stage(&mut self, stage: Stage, now: Moment) {
        match stage {
            Stage::BetweenChunks => {}
            Stage::Commands => self.window = None,
            Stage::Data => drop(self.window.get_or_insert(Window::new(now))),
            Stage::Waiting => drop(self.waiting_since.get_or_insert(now)),
        }
    }

    /// The host gave its verdict.
    pub(super) fn note_verdict(&mut self, now: Moment) {
        let Some(since) = self.waiting_since.take() else { return };
        let waited = now.saturating_sub(since);
        self.commands_until += waited;
        if let Some(window) = &mut self.window {
            window.until += waited;
        }
    }

    /// When the client is too slow, unless more comes.
    pub(super) fn deadline(&self) -> Moment {
        self.window.map_or(self.commands_until, |window| window.until)
    }
}

impl Window {
    fn new(now: Moment) -> Self {
        Self { octets: 0, until: now + DATA_PACE_WINDOW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    /// Whether a client lives that sends `octets` each `pace`, for a day.
    fn lives(octets: usize, pace: Duration) -> bool {
        let mut now = Duration::from_secs(5);
        let mut progress = Progress::new(now);
        progress.note_stage(Stage::Data, now);
        for _ in 0..86_400 / pace.as_secs() {
            now += pace;
            if now >= progress.deadline() {
                return false;
            }
            progress.note_data(octets, now);
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

    #[test]
    fn an_octet_by_bdat_now_and_then_is_no_progress() {
        let mut now = Duration::ZERO;
        let mut progress = Progress::new(now);
        let first = progress.deadline();
        for _ in 0..5 {
            now += Duration::from_secs(60);
            progress.note_stage(Stage::Data, now);
            progress.note_data(1, now);
            progress.note_stage(Stage::BetweenChunks, now);
        }
        assert_eq!(
            progress.deadline(),
            Duration::from_secs(60) + DATA_PACE_WINDOW,
            "the first chunk's window"
        );
        progress.note_stage(Stage::Commands, now);
        assert_eq!(progress.deadline(), first, "RSET renews nothing");
        progress.note_stage(Stage::Data, now);
        progress.note_data(DATA_PACE_OCTETS_MIN, now);
        progress.note_stage(Stage::Commands, now);
        assert_eq!(progress.deadline(), now + COMMANDS_WITHOUT_DATA_TIMEOUT, "that was something");
    }

    #[test]
    fn what_the_host_takes_for_a_verdict_counts_for_nobody() {
        let mut progress = Progress::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..1_000 {
            progress.note_stage(Stage::Waiting, now);
            now += Duration::from_secs(10);
            progress.note_verdict(now);
            progress.note_stage(Stage::Commands, now);
        }
        assert_eq!(progress.deadline(), now + COMMANDS_WITHOUT_DATA_TIMEOUT);
    }
}
