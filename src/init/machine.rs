//! What the kernel has to be told before anything else runs: its file systems, modules, limits, randomness.

use super::console::say;
use super::tool;
use crate::limits::APPLIANCE_DESCRIPTORS;
use core::ffi::CStr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::{finit_module, sethostname};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// The kernel's own file systems: type, place, options. devtmpfs first, since nothing can be told without. What PID 1 trusts is in /run: nobody
/// else writes there.
const FILE_SYSTEMS: [(&str, &str, Option<&CStr>); 5] = [
    ("devtmpfs", "/dev", None),
    ("proc", "/proc", None),
    ("sysfs", "/sys", None),
    ("tmpfs", "/run", Some(c"mode=0755")),
    ("tmpfs", "/tmp", Some(c"mode=1777")),
];
/// Modules, a path a line, in the order in which they are loaded: made with the image.
const MODULES: &str = "/lib/modules/order";
/// What makes random numbers of the last run part of those of this one.
const SEED: &str = "/data/state/random-seed";
const SEED_OCTETS: usize = 512;

/// Mounts what the kernel offers.
///
/// # Errors
/// A sentence with the place. What is there already is none.
pub(super) fn mount_kernel() -> Result<(), String> {
    for (kind, place, options) in FILE_SYSTEMS {
        let _ = fs::create_dir_all(place);
        match mount(kind, place, kind, MountFlags::NOSUID, options) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(format!("{place} cannot be mounted: {error}")),
        }
    }
    Ok(())
}

/// Loads the modules of the image. One without its hardware, one that needs such a module, and one that is in the kernel are as they should
/// be; another error is told, and what needs the module will say so more clearly.
pub(super) fn load_modules() {
    let Ok(order) = fs::read_to_string(MODULES) else {
        return say("no modules: the kernel brings all, or the image is not whole");
    };
    for path in order.lines() {
        let loaded =
            File::open(path).map_err(|error| error.to_string()).and_then(|file| {
                match finit_module(file, c"", 0) {
                    Ok(()) | Err(Errno::EXIST | Errno::NODEV | Errno::NOENT) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            });
        if let Err(error) = loaded {
            say(&format!("module {path}: {error}"));
        }
    }
}

/// Gives the server what it needs of the kernel: descriptors, locked memory for io_uring, and ports below 1024 without being root. What it may not: leave its memory in a file.
pub(super) fn raise_limits() {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    let locked = Rlimit { current: None, maximum: None };
    // A core dump holds the keys of mail at rest.
    for (resource, limit) in [
        (Resource::Nofile, limit(APPLIANCE_DESCRIPTORS)),
        (Resource::Memlock, locked),
        (Resource::Core, limit(0)),
    ] {
        if let Err(error) = setrlimit(resource, limit) {
            say(&format!("a limit stays as it is: {error}"));
        }
    }
    for (key, value) in [
        ("net/ipv4/ip_unprivileged_port_start", "25"),
        ("kernel/panic", "10"),
        ("kernel/panic_on_oops", "1"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        // What is not root's own leads root nowhere.
        ("fs/protected_symlinks", "1"),
        ("fs/protected_hardlinks", "1"),
        ("fs/protected_fifos", "2"),
        ("fs/protected_regular", "2"),
    ] {
        if let Err(error) = fs::write(format!("/proc/sys/{key}"), value) {
            say(&format!("{key}: {error}"));
        }
    }
}

/// The machine's name.
pub(super) fn name(hostname: &str) {
    if let Err(error) = sethostname(hostname.as_bytes()) {
        say(&format!("the host name stays as it is: {error}"));
    }
}

/// Seconds since the kernel began, as text.
pub(super) fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Adds what the last run left to the kernel's randomness, and leaves something else for the next one; then waits until the kernel has enough:
/// keys that are made before are the same on many machines.
pub(super) fn stir() -> io::Result<()> {
    if let Ok(seed) = fs::read(SEED) {
        let _ = File::options().write(true).open("/dev/urandom").and_then(|mut pool| pool.write_all(&seed));
    }
    // Unlike /dev/urandom this one waits.
    let mut fresh = [0; SEED_OCTETS];
    File::open("/dev/random")?.read_exact(&mut fresh)?;
    if let Some(directory) = Path::new(SEED).parent().filter(|directory| directory.is_dir()) {
        tool::write_durably(directory, "random-seed", &fresh, 0o600)?;
    }
    Ok(())
}
