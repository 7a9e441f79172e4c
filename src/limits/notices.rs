//! Notices whose hosts are slow, whoever these are.

use core::time::Duration;

/// Connections that notices leave by to one destination, at a time: else a few hosts that are slow on purpose would hold up all notices.
pub const NOTICE_SESSIONS_A_DESTINATION_MAX: u32 = 2;
/// Notices that wait for the connections to one destination; further ones step aside.
pub const NOTICES_PARKED_MAX: usize = 64;
/// How long a notice may take until its data is on its way, and how long its session holds a place of others. RFC 5321 4.5.3.2 has minutes for each reply,
/// which is for mail that somebody waits for; a notice that comes too late to be taken comes again.
pub const NOTICE_PATIENCE: Duration = Duration::from_secs(60);
/// Connections that wait longer for the reply to a notice's data, beside the others; further ones are given up.
pub const NOTICE_SLOW_SESSIONS_MAX: u32 = 24;

const _: () = assert!(NOTICE_SESSIONS_A_DESTINATION_MAX * 4 <= super::NOTICE_SESSIONS_MAX);
