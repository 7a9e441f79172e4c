//! Sessions that fail over a message, and records that cannot be read at once.

use core::time::Duration;

/// Sessions that may fail over one message before it steps aside.
pub const POISON_TRIES: u32 = 3;
/// Sessions of one try that only ask whether a message or the primary ends sessions before data: so many messages that end them may stand one
/// behind the other, and a primary that is down has no more of them a try.
pub const SESSIONS_ASKING_MAX: u32 = 16;
/// Tries to read a record on a disk that fails, before its message steps aside: one sector that cannot be read now must not stop a domain.
pub const RECORD_READ_TRIES: u32 = 3;
/// Between two of them.
pub const RECORD_READ_PAUSE: Duration = Duration::from_secs(1);
/// How long records of a segment that was tried so often are tried once.
pub const RECORD_READ_UNWELL: Duration = Duration::from_secs(300);
