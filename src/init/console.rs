//! The consoles that the kernel has, serial and screen: what the machine tells whoever stands in front of it, and what he types.
//!
//! Whatever a console does stops nothing: one that stands still (Ctrl-S, a cable that nobody reads) is waited for [`CONSOLE_PATIENCE`], then the rest of
//! what was to be told there is lost. Lines are edited and echoed by the terminal itself, so what is typed comes a line at a time.

use super::syslog::{self, Source};
use crate::limits::CONSOLE_PATIENCE;
use core::time::Duration;
use rustix::fs::OFlags;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::Instant;

/// Between two looks whether a console that stands still goes on, and before one that broke is opened again.
const LOOK: Duration = Duration::from_millis(5);
const BREAK: Duration = Duration::from_secs(1);

/// Tells one line, on every console and at the log's host.
pub(super) fn say(line: &str) {
    show(line);
    syslog::hand_over(Source::Init, line);
}

/// Tells one line to who stands in front of the machine, and to nobody else: a secret.
pub(super) fn show(line: &str) {
    for name in names() {
        write(&name, &format!("stratamx-init: {line}\n"));
    }
}

/// Writes to one console. Nothing comes of an error: it must not stop a start.
pub(super) fn write(name: &str, text: &str) {
    let Some(mut console) = open(name) else { return };
    let (mut left, end) = (text.as_bytes(), Instant::now() + CONSOLE_PATIENCE);
    while !left.is_empty() {
        match console.write(left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(LOOK)
            }
            Err(_) => break,
        }
    }
}

/// Whether a console shows what is typed: of what it does not show no octet comes back over its line, but for the end of a line.
pub(super) fn echo(name: &str, is_shown: bool) {
    let Some(console) = open(name) else { return };
    let set = tcgetattr(&console).and_then(|mut attributes| {
        attributes.local_modes.set(LocalModes::ECHO, is_shown);
        attributes.local_modes.set(LocalModes::ECHONL, !is_shown);
        tcsetattr(&console, OptionalActions::Now, &attributes)
    });
    if let Err(error) = set {
        write(name, &format!("stratamx-init: what is typed cannot be hidden here: {error}\n"));
    }
}

/// The consoles, as the kernel has them: the one that /dev/console is, last.
pub(super) fn names() -> Vec<String> {
    let names =
        std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_else(|_| "console".to_owned());
    names.split_whitespace().map(str::to_owned).collect()
}

/// For writing, never waiting.
pub(super) fn open(name: &str) -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    OpenOptions::new().write(true).custom_flags(flags).open(format!("/dev/{name}")).ok()
}

/// Tells what is typed at each console, from now on: its name and the octets, until nobody wants to know.
pub(super) fn listen(tell: impl Fn(String, Vec<u8>) -> bool + Clone + Send + 'static) {
    for name in names() {
        let tell = tell.clone();
        let reader = thread::Builder::new().name("console".to_owned());
        if let Err(error) = reader.spawn(move || hear(&name, tell)) {
            say(&format!("a console is not listened to: {error}"));
        }
    }
}

fn hear(name: &str, tell: impl Fn(String, Vec<u8>) -> bool) {
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or(0);
    let mut octets = [0; 1024];
    loop {
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(format!("/dev/{name}"));
        let Ok(mut console) = opened else { return };
        // Nothing read is Ctrl-D; an error is a line that hung up. Neither is the end of a console.
        while let Ok(count @ 1..) = console.read(&mut octets) {
            if !tell(name.to_owned(), octets[..count].to_vec()) {
                return;
            }
        }
        thread::sleep(BREAK);
    }
}
