//! What the machine tells whoever stands in front of it: one line, on every console that the kernel has, serial and screen.

use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Tells one line. A console that cannot be written to must not stop a start, so nothing comes of an error.
pub(super) fn say(line: &str) {
    let names =
        std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_else(|_| "console".to_owned());
    for name in names.split_whitespace() {
        // Whoever stops a screen by Ctrl-S stops nothing else.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(flags);
        if let Ok(mut console) = options.open(format!("/dev/{name}")) {
            let _ = console.write_all(format!("stratamx-init: {line}\n").as_bytes());
        }
    }
}
