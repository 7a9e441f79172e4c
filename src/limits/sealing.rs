//! ARC seals of what is handed over.

use core::time::Duration;

/// DNS for the chain of seals that came with a message; longer: it goes without one of ours.
pub const ARC_BUDGET: Duration = Duration::from_secs(1);
/// How long a lane waits for a seal; then the message goes without.
pub const SEAL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Octets of a message that is sealed: a larger one would be read twice, and its primary kept waiting meanwhile.
pub const SEALED_OCTETS_MAX: u64 = 8 << 20;
/// How long it asks for none behind one that did not come in time: chains of strangers must not slow a drain.
pub const SEAL_PAUSE: Duration = Duration::from_secs(60);
const _: () = assert!(ARC_BUDGET.as_millis() < SEAL_TIMEOUT.as_millis());
