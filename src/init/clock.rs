//! Wall time, by SNTP from a thread of its own.
//!
//! Certificates and the expiry of mail go by it. The first answer sets the clock, later ones only where it is off by more than
//! [`OFF_MAX`]. That it is synchronised is told where the server looks for it: the file that systemd-timesyncd would leave. A machine
//! without a battery, whose clock says what cannot be, begins at its last start.

use super::console::say;
use core::ops::Range;
use core::time::Duration;
use rsntp::SntpClient;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Less than this is left alone: a step disturbs more than it helps.
const OFF_MAX: Duration = Duration::from_millis(100);
/// Between two tries while nobody has answered yet.
const RETRY: Duration = Duration::from_secs(8);
/// Between two looks afterwards.
const INTERVAL: Duration = Duration::from_secs(1024);
/// Seconds since 1970 that can be now: from 2026-01-01, when this was written, for thirty years.
const PLAUSIBLE: Range<u64> = 1_767_225_600..2_713_910_400;
/// The server looks for this file.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Keeps wall time right from now on.
pub(super) fn start(servers: Vec<String>) {
    if servers.is_empty() {
        return;
    }
    let keep = move || {
        loop {
            // An answer is a stranger's: whatever it does to the library must not end PID 1.
            let is_right =
                std::panic::catch_unwind(|| servers.iter().any(|server| ask(server))).unwrap_or(false);
            std::thread::sleep(if is_right { INTERVAL } else { RETRY });
        }
    };
    if let Err(error) = std::thread::Builder::new().name("clock".to_owned()).spawn(keep) {
        say(&format!("the clock is not kept: {error}"));
    }
}

/// Whether this server told the time, and the clock has it.
fn ask(server: &str) -> bool {
    let Ok(answer) = SntpClient::new().synchronize(server) else { return false };
    let offset = answer.clock_offset();
    let Ok(off) = offset.abs_as_std_duration() else { return false };
    if off > OFF_MAX {
        let Ok(since) = answer.datetime().unix_timestamp() else { return false };
        if let Err(error) = set(since) {
            say(&format!("the clock cannot be set: {error}"));
            return false;
        }
        say(&format!("the clock was set by {} s, to that of {server}", offset.as_secs_f64()));
    }
    let told = Path::new(SYNCHRONISED);
    let directory = told.parent().map_or(Ok(()), fs::create_dir_all);
    directory.and_then(|()| fs::write(told, "")).is_ok()
}

/// Wall time is not before that of a file which the last start wrote.
pub(super) fn begin_no_earlier_than(file: &Path) {
    let Ok(written) = fs::metadata(file).and_then(|metadata| metadata.modified()) else { return };
    let of = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(since) = beginning(of(SystemTime::now()), of(written))
        && set(since).is_ok()
    {
        say("the clock begins at the time of the last start");
    }
}

/// Where a clock that says `now` is to begin, if anywhere else. One that can be right is not doubted: a file from the future, left by a clock that was wrong
/// once, would make it wrong at each start. Nor is a file believed that cannot be right.
fn beginning(now: Duration, written: Duration) -> Option<Duration> {
    (!PLAUSIBLE.contains(&now.as_secs()) && PLAUSIBLE.contains(&written.as_secs())).then_some(written)
}

fn set(since: Duration) -> Result<(), String> {
    let seconds = i64::try_from(since.as_secs()).map_err(|error| error.to_string())?;
    let time = Timespec { tv_sec: seconds, tv_nsec: since.subsec_nanos().into() };
    clock_settime(ClockId::Realtime, time).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_cannot_be_right_begins_at_the_last_start() {
        let at = Duration::from_secs;
        let (y1970, y2026, y2027, y2099) = (at(5), at(1_780_000_000), at(1_800_000_000), at(4_080_000_000));
        for (now, written, expected) in [
            (y1970, y2026, Some(y2026)),
            (y2099, y2026, Some(y2026)),
            (y2026, y2027, None),
            (y2026, y2099, None),
            (y1970, y2099, None),
            (y1970, at(0), None),
        ] {
            assert_eq!(beginning(now, written), expected, "{now:?} {written:?}");
        }
    }
}
