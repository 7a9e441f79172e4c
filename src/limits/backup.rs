//! Backups and what is made of them.

use core::time::Duration;

/// Octets of an archive's manifest, and of its sums. More: refused.
pub const BACKUP_MANIFEST_OCTETS_MAX: usize = 16 << 20;
/// Archives that the admin API makes at a time; further ones: 503.
pub const BACKUPS_MAX: usize = 1;
/// Longest time in which a client of the admin API takes nothing of an archive: it ends.
pub const BACKUP_STALL: Duration = Duration::from_secs(60);
/// Longest life of a connection to the admin API that an archive goes over.
pub const BACKUP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Octets of the log's end that are kept in memory, for a support bundle.
pub const LOG_TAIL_OCTETS: usize = 2 << 20;
/// Octets of a file of the system that go into a support bundle.
pub const SUPPORT_FILE_OCTETS_MAX: usize = 256 << 10;
/// Files of the data directory that a support bundle lists.
pub const SUPPORT_LISTED_MAX: usize = 20_000;

const _: () = assert!(BACKUP_STALL.as_secs() < super::ADMIN_CONNECTION_TIMEOUT.as_secs());
const _: () = assert!(super::ADMIN_CONNECTION_TIMEOUT.as_secs() < BACKUP_CONNECTION_TIMEOUT.as_secs());
