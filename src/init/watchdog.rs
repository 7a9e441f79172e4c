//! The watchdog of the hardware, or the kernel's own: it restarts a machine whose PID 1 does not feed it.
//!
//! A thread feeds it, while PID 1 says that it lives. A version on trial is watched from its first second: until it has proven itself it is fed, hanging
//! or not, up to a deadline and never beyond, so that whatever it hangs in costs one of its starts.

use super::console::say;
use crate::limits::{WATCHDOG_ALIVE, WATCHDOG_INTERVAL};
use core::time::Duration;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

const DEVICE: &str = "/dev/watchdog0";

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct Watchdog(Arc<Mutex<Watch>>);

#[derive(Debug)]
struct Watch {
    device: Option<File>,
    life: Life,
}

/// How long it is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    /// A sign of life lasts until then.
    alive_until: Instant,
    /// The end of a trial; then no sign counts.
    trial_until: Option<Instant>,
}

impl Life {
    fn is_fed(self, now: Instant) -> bool {
        now < self.trial_until.unwrap_or(self.alive_until)
    }
}

impl Watchdog {
    /// One that watches nobody yet.
    pub(super) fn idle() -> Self {
        let life = Life { alive_until: Instant::now(), trial_until: None };
        Self(Arc::new(Mutex::new(Watch { device: None, life })))
    }

    /// Watches a version on trial for so long.
    pub(super) fn watch_trial(&self, patience: Duration) {
        self.lock().life.trial_until = Some(Instant::now() + patience);
        self.open();
    }

    /// Begins to watch, if there is a device; once.
    pub(super) fn open(&self) {
        let mut watch = self.lock();
        watch.life.alive_until = Instant::now() + WATCHDOG_ALIVE;
        if watch.device.is_some() {
            return;
        }
        watch.device = File::options().write(true).open(DEVICE).ok();
        drop(watch);
        let own = self.clone();
        let feed = move || {
            while own.turn() {
                std::thread::sleep(WATCHDOG_INTERVAL);
            }
        };
        if let Err(error) = Builder::new().name("watchdog".to_owned()).spawn(feed) {
            say(&format!("the watchdog is not fed, and restarts the machine: {error}"));
        }
    }

    /// Feeds it, if it is to be fed. Whether there is one.
    fn turn(&self) -> bool {
        let mut watch = self.lock();
        let is_fed = watch.life.is_fed(Instant::now());
        let Some(device) = &mut watch.device else { return false };
        if is_fed {
            let _ = device.write_all(b".");
        }
        true
    }

    /// PID 1 lives.
    pub(super) fn feed(&self) {
        self.lock().life.alive_until = Instant::now() + WATCHDOG_ALIVE;
    }

    /// The running version has proven itself.
    pub(super) fn end_trial(&self) {
        self.lock().life.trial_until = None;
        self.feed();
    }

    /// The machine ends in order: nobody needs to be watched.
    pub(super) fn close(&self) {
        if let Some(mut device) = self.lock().device.take() {
            let _ = device.write_all(b"V");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_fed_up_to_its_deadline_whatever_lives() {
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(10), now + Duration::from_secs(100));
        for (alive_until, trial_until, at, expected) in [
            (soon, None, now, true),
            (soon, None, soon, false),
            (now, Some(soon), now, true),
            (later, Some(soon), soon, false),
            (soon, Some(later), soon, true),
            (now, Some(now), now, false),
        ] {
            assert_eq!(Life { alive_until, trial_until }.is_fed(at), expected);
        }
    }

    #[test]
    fn without_a_device_nobody_is_watched() {
        let watchdog = Watchdog::idle();
        assert!(!watchdog.turn());
        watchdog.feed();
        watchdog.close();
    }
}
