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
/// How long a disk or a network interface may take to appear.
pub const DEVICE_PATIENCE: Duration = Duration::from_secs(20);
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

const _: () = assert!(RESTART_DELAY_MIN.as_secs() < RESTART_DELAY_MAX.as_secs());
const _: () = assert!(RESTART_DELAY_MAX.as_secs() < RESTART_FORGIVEN_AFTER.as_secs());
