//! A machine that can serve nothing: it says so, and waits for somebody who restarts it, or for other disks.

use super::console::say;
use super::events::Event;
use super::front::Front;
use super::reaping::reap;
use super::watchdog::Watchdog;
use super::{STATE, disk, update};
use crate::limits::WATCHDOG_INTERVAL;
use rustix::system::RebootCommand;
use std::path::Path;
use std::sync::mpsc::Receiver;

/// Nothing can be served: says so, and waits for somebody, or for other disks than these; a version on trial makes room for the one before.
pub(super) fn wait(
    error: &str,
    events: &Receiver<Event>,
    on_trial: bool,
    watchdog: &Watchdog,
    disks: &[String],
) -> Option<RebootCommand> {
    say(&format!("REFUSED, no mail is taken: {error}"));
    watchdog.open();
    if on_trial {
        update::leave_word(Path::new(STATE), error);
        say("this version is on trial; the machine restarts");
        std::thread::sleep(WATCHDOG_INTERVAL);
        return Some(RebootCommand::Restart);
    }
    let mut front = Front::default();
    while disk::devices() == disks {
        watchdog.feed();
        let ending = match events.recv_timeout(WATCHDOG_INTERVAL) {
            Ok(Event::ChildEnded) => {
                reap(|_, _| {});
                None
            }
            Ok(Event::PowerOff) => Some(RebootCommand::PowerOff),
            Ok(Event::Restart) => Some(RebootCommand::Restart),
            Ok(Event::Typed { console, octets }) => front.typed_refused(&console, &octets, error),
            Ok(Event::Greeted | Event::Proven(_) | Event::Revised(_) | Event::Unlocked) | Err(_) => None,
        };
        if let Some(ending) = ending {
            watchdog.close();
            return Some(ending);
        }
    }
    // The start feeds none.
    watchdog.close();
    None
}
