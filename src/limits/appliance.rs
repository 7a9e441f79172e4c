//! The appliance: PID 1 and what it waits for.

use core::time::Duration;

/// First wait before a program that ended is started again; each further end in a row doubles it.
pub const RESTART_DELAY_MIN: Duration = Duration::from_secs(1);
/// Longest such wait.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);
/// A program that ran this long has earned a first wait again.
pub const RESTART_FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// How long the server may take leave of its clients before it is killed: it needs 10 s itself.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long one that was killed may take to be gone.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a disk or a network interface may take to appear.
pub const DEVICE_PATIENCE: Duration = Duration::from_secs(20);
/// Where disks may come late: how long none has come before those that are there are all.
pub const DEVICES_QUIET: Duration = Duration::from_secs(3);
/// How long the start waits for an address before the server is started without.
pub const ADDRESS_PATIENCE: Duration = Duration::from_secs(20);
/// Between two signs of life to the watchdog of the hardware.
pub const WATCHDOG_INTERVAL: Duration = Duration::from_secs(5);
/// A new version that does not greet within this time is given up: the machine restarts, and the loader counts.
pub const TRIAL_BOOT_PATIENCE: Duration = Duration::from_secs(180);
/// Octets of a file that is taken from the configuration partition or a credential.
pub const CONFIGURATION_FILE_OCTETS_MAX: usize = 16 << 20;
/// Files that are taken from it.
pub const CONFIGURATION_FILES_MAX: usize = 64;
/// Revisions of the configuration that are kept.
pub const CONFIGURATION_REVISIONS_MAX: usize = 20;
/// Descriptors that the server may have.
pub const APPLIANCE_DESCRIPTORS: u64 = 65_536;
/// Addresses, gateways, name and time servers of the machine, each.
pub const MACHINE_ADDRESSES_MAX: usize = 16;
/// Octets of a line that is typed at the console: a longer one is not understood.
pub const MENU_LINE_OCTETS_MAX: usize = 255;
/// Lines of a console in a row that are not understood before it is not listened to for [`MENU_PAUSE`].
pub const MENU_ERRORS_MAX: u32 = 5;
/// How long that is.
pub const MENU_PAUSE: Duration = Duration::from_secs(10);
/// How long a console that stands still is waited for before what is to be told there is lost.
pub const CONSOLE_PATIENCE: Duration = Duration::from_millis(300);
/// Lines that wait for the log's host; more are lost and counted.
pub const SYSLOG_LINES_MAX: usize = 1024;
/// Octets of a line that goes there; longer ones go in pieces.
pub const SYSLOG_LINE_OCTETS_MAX: usize = 8192;
/// Octets of a message by UDP: RFC 5426 3.2 has receivers take 480, and wants 2048.
pub const SYSLOG_DATAGRAM_OCTETS_MAX: usize = 2048;
/// How long the log's host may take for a connection, or for a write.
pub const SYSLOG_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to reach it.
pub const SYSLOG_RETRY: Duration = Duration::from_secs(2);

const _: () = assert!(RESTART_DELAY_MIN.as_secs() < RESTART_DELAY_MAX.as_secs());
const _: () = assert!(RESTART_DELAY_MAX.as_secs() < RESTART_FORGIVEN_AFTER.as_secs());
