//! What PID 1 waits for: signals, the power button, the server's first greeting, what is typed at a console.

use super::console::say;
use crate::update::configuration::Effect;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Some process ended.
    ChildEnded,
    /// The server says 220.
    Greeted,
    /// End everything, then the machine.
    PowerOff,
    /// What a version on trial did not do; nothing: it has proven itself.
    Proven(Result<(), String>),
    /// End everything, then start again.
    Restart,
    /// Another revision of the configuration is in force.
    Revised(Effect),
    /// At this console.
    Typed { console: String, octets: Vec<u8> },
    /// The keys of mail at rest are open now.
    Unlocked,
}

/// SIGPWR, which signal-hook has no name for: the power fails.
const SIGPWR: i32 = 30;
/// `struct input_event` on 64-bit machines: two words of time, type, code, value.
const INPUT_EVENT_OCTETS: usize = 24;
const INPUT_TYPE_AT: usize = 16;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Between two tries to be greeted, and for each.
const GREETING_PAUSE: Duration = Duration::from_millis(250);
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// Begins to listen for signals and the power button.
///
/// # Errors
/// A sentence; PID 1 would be deaf.
pub(super) fn start() -> Result<(Sender<Event>, Receiver<Event>), String> {
    let (sender, receiver) = channel();
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM, SIGPWR]).map_err(|error| error.to_string())?;
    let tell = sender.clone();
    let forward = move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGCHLD => Event::ChildEnded,
                SIGINT => Event::Restart,
                _ => Event::PowerOff,
            };
            if tell.send(event).is_err() {
                break;
            }
        }
    };
    Builder::new().name("signals".to_owned()).spawn(forward).map_err(|error| error.to_string())?;
    for button in power_buttons() {
        let tell = sender.clone();
        let watch = move || {
            let mut event = [0; INPUT_EVENT_OCTETS];
            let mut button = button;
            while button.read_exact(&mut event).is_ok() {
                if is_press(&event) && tell.send(Event::PowerOff).is_err() {
                    break;
                }
            }
        };
        Builder::new().name("button".to_owned()).spawn(watch).map_err(|error| error.to_string())?;
    }
    Ok((sender, receiver))
}

fn power_buttons() -> Vec<File> {
    let inputs = fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
    let buttons = inputs.filter(|entry| {
        let name = fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
        entry.file_name().to_string_lossy().starts_with("event") && name.trim() == "Power Button"
    });
    buttons
        .filter_map(|entry| File::open(format!("/dev/input/{}", entry.file_name().to_string_lossy())).ok())
        .collect()
}

fn is_press(event: &[u8; INPUT_EVENT_OCTETS]) -> bool {
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    half(INPUT_TYPE_AT) == EV_KEY && half(INPUT_TYPE_AT + 2) == KEY_POWER && half(INPUT_TYPE_AT + 4) == 1
}

/// Where a listener is reached from this machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

/// Tells once when somebody says 220 at this address, as long as what is returned is there.
pub(super) fn tell_when_greeted(address: SocketAddr, tell: Sender<Event>) -> Arc<()> {
    let address = reachable(address);
    let awaited = Arc::new(());
    let waiting = Arc::downgrade(&awaited);
    let wait = move || {
        while waiting.strong_count() > 0 {
            if greets(address) {
                let _ = tell.send(Event::Greeted);
                break;
            }
            std::thread::sleep(GREETING_PAUSE);
        }
    };
    if let Err(error) = Builder::new().name("greeting".to_owned()).spawn(wait) {
        say(&format!("whether the server greets is not known: {error}"));
    }
    awaited
}

fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, GREETING_PATIENCE) else { return false };
    if stream.set_read_timeout(Some(GREETING_PATIENCE)).is_err() {
        return false;
    }
    let mut line = Vec::new();
    BufReader::new(stream.take(1024)).read_until(b'\n', &mut line).is_ok() && line.starts_with(b"220")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_button_counts_when_it_goes_down() {
        let mut event = [0; INPUT_EVENT_OCTETS];
        event[INPUT_TYPE_AT] = 1;
        event[INPUT_TYPE_AT + 2] = 116;
        assert!(!is_press(&event), "released");
        event[INPUT_TYPE_AT + 4] = 1;
        assert!(is_press(&event));
        event[INPUT_TYPE_AT + 2] = 30;
        assert!(!is_press(&event), "the letter a");
    }
}
