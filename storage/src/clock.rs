//! Time enters here: one trait, so that a test or the simulator decides what time it is.
//!
//! Two clocks that must not be confused: *monotonic* time measures waits and deadlines; *wall* time is
//! written into records and Received fields and decides nothing about order (H1, H5).

use crate::position::UnixMillis;
use core::time::Duration;
#[cfg(feature = "glommio")]
use std::time::{Instant, SystemTime};

/// A clock that also sleeps.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait Clock: Clone + 'static {
    /// Monotonic time since an arbitrary start; the same start on every shard of a process.
    fn now(&self) -> Duration;
    /// Wall-clock time.
    fn wall(&self) -> UnixMillis;
    /// Completes no earlier than `duration` from now.
    async fn sleep(&self, duration: Duration);
}

/// The system's clocks; sleeps on the executor's timer. All copies share one start.
#[cfg(feature = "glommio")]
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

#[cfg(feature = "glommio")]
impl SystemClock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the home of the real clock")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

#[cfg(feature = "glommio")]
#[expect(clippy::disallowed_methods, reason = "this is the home of the real clock")]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> UnixMillis {
        // Before 1970 there was no mail: a clock that says so is as good as 1970.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }
}
