//! What became of messages, as it is kept for people.

use core::time::Duration;

/// From a failure of the disk to the next try.
pub const TRACE_FAILURE_PAUSE: Duration = Duration::from_secs(60);
/// How long rows of a trace wait for company before they are written: what a kill may take.
pub const TRACE_PAUSE: Duration = Duration::from_secs(1);
/// From a write of rows to the sync that makes them durable: what a power cut may take.
pub const TRACE_SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// Octets of rows with which they wait no longer.
pub const TRACE_OCTETS_ENOUGH: usize = 128 * 1024;
/// Octets of rows that a shard has in memory; further ones are lost, and counted.
pub const TRACE_OCTETS_GATHERED_MAX: usize = 4 << 20;
/// How often files are looked at for their age, and for space that mail needs.
pub const TRACE_CHORES_INTERVAL: Duration = Duration::from_secs(60);
/// All traces take no more than this part of what is free beside them.
pub const TRACE_SHARE_DIVISOR: u64 = 20;
/// Below this multiple of `min_free_space`, or of a segment, traces go, the oldest first.
pub const TRACE_FREE_SPACE_MULTIPLE: u64 = 2;
/// How long a shutdown waits for the last rows.
pub const TRACE_GRACE: Duration = Duration::from_secs(2);
/// `trace_retention` at most.
pub const TRACE_RETENTION_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// How long one request looks for a message; then it tells what it found, and where it goes on.
pub const TRACE_SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shard reads its trace, or looks through a queue, for one answer: then it tells how far it came.
pub const SCAN_TURN: Duration = Duration::from_millis(100);
/// Rows, or messages, of one answer of a shard.
pub const SCAN_ROWS_A_TURN: usize = 500;
/// Test messages of a drill.
pub const DRILL_MESSAGES: usize = 3;
/// How long they are held.
pub const DRILL_HOLD: Duration = Duration::from_secs(2);
/// How long mail of the test recipient waits if nobody ends it.
pub const DRILL_HOLD_MAX: Duration = Duration::from_secs(20);
/// How long the lane may take to hand them over.
pub const DRILL_DRAIN_MAX: Duration = Duration::from_secs(12);
/// Between two looks at what became of them.
pub const DRILL_POLL: Duration = Duration::from_millis(250);
/// How long our own port may take for a reply.
pub const DRILL_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that are looked at in memory before others have a turn; of a list by sender or recipient, messages of a step.
pub const SIFT_STEP: usize = 4096;
/// Messages of which a shard remembers what was said last; of more it forgets those first of which nothing was said for longest.
pub const LAST_CODES_MAX: usize = 1 << 16;
/// Records that are read side by side for a page.
pub const OPERATOR_READS: usize = 16;
/// Traces that a shard reads at a time; further questions are refused.
pub const TRACES_READ_MAX: u32 = 4;
