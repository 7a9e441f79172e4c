//! Notices: how large, how many, for how long; and hosts of theirs that are slow, whoever these are.

use core::time::Duration;

/// Octets of a header section that a notice gives back, in whole lines; the rest is left out.
pub const NOTICE_HEADER_OCTETS_MAX: usize = 32 * 1024;
/// Octets of primaries' replies in one notice, over all its recipients: each has its share, 64 at least.
pub const NOTICE_REPLY_OCTETS: usize = 64 * 1024;
/// Longest word of a field of a notice; the rest of it is left out.
pub const NOTICE_FIELD_OCTETS_MAX: usize = 900;
/// Largest notice; one that is larger, for hundreds of recipients with long addresses, is not made, and its units are held.
pub const NOTICE_OCTETS_MAX: usize = 512 * 1024;
/// Notices that wait, each with its place in the log. More: what owes one is held.
pub const NOTICES_QUEUED_MAX: u64 = 10_000;
/// Notices of a shard that are being made durable. More: what owes one is held.
pub const NOTICES_OWING_MAX: usize = 256;
/// Tries to make a notice durable; behind them what owes it is held.
pub const NOTICE_TRIES: u32 = 3;
/// How long a notice is tried; then it ends, and nobody is told.
pub const NOTICE_RETENTION: Duration = Duration::from_secs(5 * 86_400);
/// Connections that notices leave by, at a time, but for those that wait for a reply to their data beyond [`NOTICE_PATIENCE`].
pub const NOTICE_SESSIONS_MAX: u32 = 8;

/// Connections that notices leave by to one destination, at a time: else a few hosts that are slow on purpose would hold up all notices.
pub const NOTICE_SESSIONS_A_DESTINATION_MAX: u32 = 2;
/// Notices that wait for the connections to one destination, each 8 octets; further ones step aside. All that there may be: one that stepped aside for
/// others, untried, would come ever more rarely.
pub const NOTICES_PARKED_MAX: usize = 10_000;
/// How long a notice may take until its data is on its way, and how long its session holds a place of others. RFC 5321 4.5.3.2 has minutes for each reply,
/// which is for mail that somebody waits for; a notice that comes too late to be taken comes again.
pub const NOTICE_PATIENCE: Duration = Duration::from_secs(60);
/// Connections that wait longer for the reply to a notice's data, beside the others; further ones are given up.
pub const NOTICE_SLOW_SESSIONS_MAX: u32 = 24;

const _: () = assert!(NOTICES_PARKED_MAX as u64 >= NOTICES_QUEUED_MAX);
const _: () = assert!(NOTICE_SESSIONS_A_DESTINATION_MAX * 4 <= NOTICE_SESSIONS_MAX);
