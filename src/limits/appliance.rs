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
/// A sign of life of PID 1 lasts so long.
pub const WATCHDOG_ALIVE: Duration = Duration::from_secs(20);
/// A new version that has not proven itself within this time is given up: the machine restarts, and the loader counts.
pub const TRIAL_BOOT_PATIENCE: Duration = Duration::from_secs(180);
/// Largest image of an update. More: 413.
pub const UPDATE_OCTETS_MAX: u64 = 64 << 20;
/// Octets that stay free beside it on the EFI system partition.
pub const UPDATE_SPARE_OCTETS: u64 = 1 << 20;
/// Octets of a signature in minisign's format. More: 400.
pub const UPDATE_SIGNATURE_OCTETS_MAX: usize = 2048;
/// Octets of a line between the server and PID 1.
pub const UPDATE_MESSAGE_OCTETS_MAX: u64 = 16 << 10;
/// Connections from the server to PID 1 at a time; further ones end at once.
pub const UPDATE_ASKERS_MAX: usize = 8;
/// How long PID 1 waits for a line.
pub const UPDATE_TOLD_PATIENCE: Duration = Duration::from_secs(5);
/// From the answer that an image is installed to the end of the server that passes it on.
pub const UPDATE_TOLD_PAUSE: Duration = Duration::from_secs(1);
/// How long the server waits for PID 1 to install an image; for other answers the time of any request.
pub const UPDATE_PATIENCE: Duration = Duration::from_secs(240);
/// The upload of an image and its installation, in place of the time of any request.
pub const UPDATE_REQUEST_TIMEOUT: Duration = Duration::from_secs(570);
/// Longest time in which nothing of an upload comes.
pub const UPDATE_STALL: Duration = Duration::from_secs(30);
/// Largest backup that is taken back. More: 413.
pub const RESTORE_OCTETS_MAX: u64 = 1 << 40;
/// Octets that stay free beside a backup and what comes out of it: mail is taken meanwhile.
pub const RESTORE_SPARE_OCTETS: u64 = 256 << 20;
/// Octets of what the program says of a backup: its configuration in Base64, in memory. More: refused.
pub const RESTORE_TOLD_OCTETS_MAX: u64 = 64 << 20;
/// Octets of what a program says of its failure.
pub const PROGRAM_SAID_OCTETS_MAX: u64 = 4096;
/// How long the server waits for PID 1 to look at a backup, all of which is read.
pub const RESTORE_PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The upload of a backup and all looks at it, in place of the time of any request: terabytes over any line, and nothing of it may stall.
pub const RESTORE_REQUEST_TIMEOUT: Duration = Duration::from_secs(23 * 3600);
/// Starts that begin to unpack one backup: behind them it is given up, and the old machine serves.
pub const RESTORE_STARTS_MAX: u32 = 5;
/// How long it is counted what waits before a backup takes its place; what is not counted by then stays.
pub const RESTORE_COUNT_PATIENCE: Duration = Duration::from_secs(900);
/// How long a command waits for the machine that starts again with a backup.
pub const RESTORE_RETURN_PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The self-test of a new version.
pub const SELF_TEST_PATIENCE: Duration = Duration::from_secs(90);
/// One reply of it.
pub const SELF_TEST_REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// Longest line of it.
pub const SELF_TEST_LINE_OCTETS_MAX: u64 = 4096;
/// Octets of a file that is taken from the configuration partition or a credential.
pub const CONFIGURATION_FILE_OCTETS_MAX: usize = 16 << 20;
/// Octets of all of them: they are in memory at once.
pub const CONFIGURATION_OCTETS_MAX: usize = 64 << 20;
/// How long the server's look at a configuration may take.
pub const CONFIGURATION_CHECK_PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to mark a version that has proven itself as good.
pub const BLESSING_PAUSE: Duration = Duration::from_secs(60);
/// Files that are taken from it.
pub const CONFIGURATION_FILES_MAX: usize = 64;
/// Revisions of the configuration that are kept.
pub const CONFIGURATION_REVISIONS_MAX: usize = 20;
/// Octets of a change of the configuration by the API, as JSON with Base64 in it. More: 413.
pub const CONFIGURATION_CHANGE_OCTETS_MAX: usize = 4 << 20;
/// Octets of a line between the server and PID 1 that is about the configuration.
pub const CONFIGURATION_MESSAGE_OCTETS_MAX: u64 = 8 << 20;
/// Octets of a text of the configuration that is shown; of a larger one only size and hash are told.
pub const CONFIGURATION_TEXT_OCTETS_MAX: usize = 1 << 20;
/// Octets of what is told to differ in all files; what is more is cut off, and said to be.
pub const CONFIGURATION_DIFFERENCE_OCTETS_MAX: usize = 256 << 10;
/// How long it is looked for what differs in a file before it is told coarsely.
pub const CONFIGURATION_DIFFERENCE_PATIENCE: Duration = Duration::from_secs(1);
/// A revision of the configuration that has to be confirmed is given back after this time.
pub const CONFIGURATION_PROBATION: Duration = Duration::from_secs(300);
/// Characters of the name of who changes it, and of why a revision was given back.
pub const CONFIGURATION_WORDS_MAX: usize = 400;
/// How long the server waits for PID 1 to look at a configuration.
pub const CONFIGURATION_PATIENCE: Duration = Duration::from_secs(20);
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
/// What a new passphrase of mail at rest costs who derives its key (RFC 9106 4, the second choice, on one lane): memory in KiB, passes, lanes.
pub const AT_REST_ARGON2_MEMORY_KIB: u32 = 64 << 10;
/// See [`AT_REST_ARGON2_MEMORY_KIB`].
pub const AT_REST_ARGON2_PASSES: u32 = 3;
/// See [`AT_REST_ARGON2_MEMORY_KIB`].
pub const AT_REST_ARGON2_LANES: u32 = 1;
/// What a file may ask for: more is damage.
pub const AT_REST_ARGON2_MEMORY_KIB_MAX: u32 = 256 << 10;
/// See [`AT_REST_ARGON2_MEMORY_KIB_MAX`].
pub const AT_REST_ARGON2_PASSES_MAX: u32 = 16;
/// See [`AT_REST_ARGON2_MEMORY_KIB_MAX`].
pub const AT_REST_ARGON2_LANES_MAX: u32 = 4;
/// Octets of the file with the sealed keys; what is behind is damage.
pub const AT_REST_FILE_OCTETS_MAX: u64 = 256 << 10;
/// Characters of a passphrase, at least and at most.
pub const AT_REST_PASSPHRASE_CHARACTERS_MIN: usize = 12;
/// See [`AT_REST_PASSPHRASE_CHARACTERS_MIN`].
pub const AT_REST_PASSPHRASE_CHARACTERS_MAX: usize = 200;
/// How long nothing is tried behind a wrong secret; each further one in a row doubles it.
pub const AT_REST_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest such pause.
pub const AT_REST_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the server waits for PID 1 to open the keys, or to seal them: a derivation, and a TPM that takes its time.
pub const AT_REST_PATIENCE: Duration = Duration::from_secs(25);

/// Between two questions to the disk about its health: as smartd has it.
pub const DISK_LOOK_INTERVAL: Duration = Duration::from_secs(1800);
/// Between a complaint of the kernel and the question that it leads to; also between two of these.
pub const DISK_LOOK_PAUSE: Duration = Duration::from_secs(60);
/// A disk that does not say how it is for so long fails: it takes seconds, also to spin up.
pub const DISK_ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// How long a complaint of the kernel counts against a disk, also over restarts.
pub const DISK_COMPLAINT_TOLD: Duration = Duration::from_secs(7 * 86_400);
/// How long it counts that there are more bad blocks than before.
pub const DISK_GROWTH_TOLD: Duration = Duration::from_secs(30 * 86_400);
/// Octets of what smartctl writes: more is not read.
pub const DISK_REPORT_OCTETS_MAX: u64 = 1 << 20;
/// Wear of a disk that is told, in percent of what it is made for.
pub const DISK_USED_PERCENT_WARNING: u64 = 90;
/// How long the server waits for an answer about the machine: it takes leave within 10 s, also meanwhile.
pub const MACHINE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions of the server about the machine.
pub const MACHINE_LOOK_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(AT_REST_PATIENCE.as_secs() < super::ADMIN_REQUEST_TIMEOUT.as_secs());
const _: () = assert!(AT_REST_ARGON2_MEMORY_KIB <= AT_REST_ARGON2_MEMORY_KIB_MAX);
const _: () = assert!(AT_REST_ARGON2_PASSES <= AT_REST_ARGON2_PASSES_MAX);
const _: () = assert!(AT_REST_PASSPHRASE_CHARACTERS_MAX < MENU_LINE_OCTETS_MAX);
const _: () = assert!(RESTART_DELAY_MIN.as_secs() < RESTART_DELAY_MAX.as_secs());
const _: () = assert!(RESTART_DELAY_MAX.as_secs() < RESTART_FORGIVEN_AFTER.as_secs());
const _: () = assert!(WATCHDOG_INTERVAL.as_secs() * 3 < WATCHDOG_ALIVE.as_secs());
const _: () = assert!(SELF_TEST_PATIENCE.as_secs() < TRIAL_BOOT_PATIENCE.as_secs());
const _: () = assert!(UPDATE_PATIENCE.as_secs() < UPDATE_REQUEST_TIMEOUT.as_secs());
const _: () = assert!(UPDATE_REQUEST_TIMEOUT.as_secs() < super::ADMIN_CONNECTION_TIMEOUT.as_secs());
const _: () = assert!(CONFIGURATION_PATIENCE.as_secs() < super::ADMIN_REQUEST_TIMEOUT.as_secs());
const _: () =
    assert!((CONFIGURATION_CHANGE_OCTETS_MAX as u64) + (1 << 20) < CONFIGURATION_MESSAGE_OCTETS_MAX);
const _: () = assert!((CONFIGURATION_TEXT_OCTETS_MAX as u64) * 7 < CONFIGURATION_MESSAGE_OCTETS_MAX);
const _: () = assert!(RESTORE_PATIENCE.as_secs() < RESTORE_REQUEST_TIMEOUT.as_secs());
const _: () = assert!(RESTORE_REQUEST_TIMEOUT.as_secs() < super::BACKUP_CONNECTION_TIMEOUT.as_secs());
