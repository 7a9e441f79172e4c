//! The low-space policy: who gives way when the disk fills up, and what is left for whom.
//!
//! `storage.min_free_space` is the reserve: mail fills the disk down to it, and what is below is for settling mail and for mending the machine. In this order:
//!
//! | free | who gives way |
//! |---|---|
//! | what is queued has 60 % of the room for mail, or less than twice the reserve, or four segments, are free | copies of delivered mail go, the oldest first ([`super::COPIES_SHARE_FROM_PERCENT`]) |
//! | less than twice the reserve | trace records go, the oldest day first ([`super::TRACE_FREE_SPACE_MULTIPLE`]) |
//! | 70 % of the room is used | whoever has more than his fair share gets the 452 first ([`super::FAIR_SHARE_FROM_PERCENT`]) |
//! | less than the reserve | all new mail: 452, and an alert; alerts came at 50, 80 and 95 % of the room, and with a forecast |
//! | less than [`UPLOAD_FREE_MIN`] behind it | uploads: 507 |
//! | nothing | the database's reserve ([`RESERVE_OCTETS`]), a piece each time that it finds no room: an operator can delete, release and hold mail still, each written into the audit log. Then what would have to be kept is refused with 507, and stays as it was. Mail is handed over all the while: journals have the room for that beforehand, and a segment whose mail is settled is removed at once. Server and store start on such a disk |
//!
//! On the appliance the reserve is [`APPLIANCE_RESERVE_MIN`] at least, and mail has as much at least: a change to less is refused; a revision of the configuration that does not fit on the disk is
//! refused whole. Its log is not kept on the disk, and an update is written to another partition.

/// What `storage.min_free_space` of an appliance leaves at least to everything that is not mail; the default is 1 GiB.
pub const APPLIANCE_RESERVE_MIN: u64 = 128 << 20;
/// What an upload leaves free at least. Less: 507.
pub const UPLOAD_FREE_MIN: u64 = 64 << 20;
/// Octets that the control plane's database has set aside.
pub const RESERVE_OCTETS: u64 = 2 << 20;
/// What it gives up at a time.
pub const RESERVE_PIECE_OCTETS: u64 = 256 << 10;
/// Pages of SQLite's write-ahead log, 4 KiB each, behind which it is written back and used again.
pub const STORE_CHECKPOINT_PAGES: u32 = 128;

const _: () = assert!(RESERVE_OCTETS.is_multiple_of(RESERVE_PIECE_OCTETS));
// The log at its longest, and as much of the database.
const _: () = assert!(STORE_CHECKPOINT_PAGES as u64 * 4096 * 2 < RESERVE_OCTETS);
