//! The two clocks of a tool: one for deadlines, one for the order of events in records.

use std::time::{Duration, Instant, SystemTime};

/// Monotonic time since this clock was made, as the protocol machines count it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Wall time in microseconds since 1970. Senders and primaries on one machine agree on it.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
