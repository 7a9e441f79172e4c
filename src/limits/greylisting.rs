//! What is borne of primaries that send who is new away.

use core::time::Duration;

/// Refusals in a session with a primary, none of them behind a message that it took, after which the next message has another
/// session. Below what servers do to a client with too many errors: Postfix makes him wait from the 10th on
/// (smtpd_soft_error_limit) and says 421 from the 20th on (smtpd_hard_error_limit).
pub const CLIENT_ERRORS_MAX: u32 = 8;
/// Longest time after which a primary that greylists a message may say that it is to come again; what is longer is taken for no statement.
pub const GREYLISTING_STATED_MAX: Duration = Duration::from_secs(3600);
/// A greylisted message that is expected so much before the one that was greylisted last is expected with it.
pub const GREYLISTING_ROUNDING: Duration = Duration::from_secs(2);
/// So often a message comes again when the primary said; from then on not before its own gap is over as well.
pub const GREYLISTING_BELIEVED: u32 = 2;
