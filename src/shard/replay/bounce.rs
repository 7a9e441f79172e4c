//! Who is told that a unit has failed: a pure function (P5, RFC 3461 6.2, H48).
//!
//! | reverse-path | NOTIFY | proven | |
//! |---|---|---|---|
//! | null | any | any | ends without a notice: nothing is ever sent to it |
//! | other | NEVER, or a list without FAILURE | any | ends without a notice: the sender wants none |
//! | other | FAILURE, or not said | yes | ends with a notice |
//! | other | the same | not known yet | waits: SPF and DKIM are being looked into |
//! | other | the same | no | is held for the operator |
//!
//! Not proven is also what nobody looked into, or could not, and what a trusted forwarder brought. Held mail ends by its own
//! retention and without a notice. A notice has the null reverse-path itself, so that none is ever answered by another.

use crate::limits::AUTHENTICATION_WAIT;
use crate::message::authentication::Verdict;
use crate::smtp::dsn::Notify;
use storage::format::index_file::IndexEntry;

/// What becomes of a unit that failed and is to be bounced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bounce {
    /// Its sender is not known to be himself.
    Hold,
    /// Its sender is told.
    Notice,
    /// It ends, and nobody is told.
    Silent,
    /// Whether he is himself is about to be known.
    Wait,
}

/// Whether a reverse-path is that of whoever sent the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    /// It is about to be known.
    Awaited,
    /// It is.
    Proven,
    /// It is not, or nobody knows.
    Unproven,
}

impl Proof {
    /// By what authentication said, packed; 0: nothing yet. `is_looked_into`: it is asked at all.
    pub(super) fn of(bits: u32, entry: &IndexEntry, is_looked_into: bool, now_s: u32) -> Self {
        let verdict = Verdict::from_bits(bits);
        let age_s = u64::from(now_s.saturating_sub(entry.received_s));
        match () {
            () if verdict.proves_reverse_path() => Self::Proven,
            () if bits == 0 && is_looked_into && age_s < AUTHENTICATION_WAIT.as_secs() => Self::Awaited,
            () => Self::Unproven,
        }
    }
}

/// See the module.
pub(super) fn bounce(reverse_path: &str, notify: Notify, proof: Proof) -> Bounce {
    if reverse_path.is_empty() || !notify.wants_failure() {
        return Bounce::Silent;
    }
    match proof {
        Proof::Awaited => Bounce::Wait,
        Proof::Proven => Bounce::Notice,
        Proof::Unproven => Bounce::Hold,
    }
}

/// Whether a sender is told that the primary took a unit, which passes no DSN parameters on (RFC 3461 5.2.2): only who asked for it by
/// NOTIFY=SUCCESS, and is proven by then. Nothing waits for that.
pub(super) fn wants_relayed(reverse_path: &str, notify: Notify, proof: Proof) -> bool {
    !reverse_path.is_empty() && notify.wants_success() && proof == Proof::Proven
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::position::{Offset, SegmentId, Stamp};

    #[test]
    fn p5_only_proven_senders_who_want_it_are_told() {
        use Proof::{Awaited, Proven, Unproven};
        const PROOFS: [Proof; 3] = [Awaited, Proven, Unproven];
        let told = [Bounce::Wait, Bounce::Notice, Bounce::Hold];
        let silent = [Bounce::Silent; 3];
        for (reverse_path, notify, expected) in [
            ("", 0, silent),
            ("", 4, silent),
            ("a@b.test", 1, silent),
            ("a@b.test", 2, silent),
            ("a@b.test", 8, silent),
            ("a@b.test", 10, silent),
            ("a@b.test", 0, told),
            ("a@b.test", 4, told),
            ("a@b.test", 14, told),
        ] {
            let notify = Notify::from_bits(notify).unwrap();
            assert_eq!(
                PROOFS.map(|proof| bounce(reverse_path, notify, proof)),
                expected,
                "{reverse_path} {notify}"
            );
        }
    }

    #[test]
    fn p5_good_news_goes_to_the_proven_who_asked_for_it() {
        for (reverse_path, notify, proof, expected) in [
            ("a@b.test", 2, Proof::Proven, true),
            ("a@b.test", 6, Proof::Proven, true),
            ("a@b.test", 0, Proof::Proven, false),
            ("a@b.test", 1, Proof::Proven, false),
            ("a@b.test", 4, Proof::Proven, false),
            ("a@b.test", 2, Proof::Awaited, false),
            ("a@b.test", 2, Proof::Unproven, false),
            ("", 2, Proof::Proven, false),
        ] {
            let notify = Notify::from_bits(notify).unwrap();
            assert_eq!(
                wants_relayed(reverse_path, notify, proof),
                expected,
                "{reverse_path} {notify} {proof:?}"
            );
        }
    }

    #[test]
    fn a_verdict_is_waited_for_as_long_as_it_may_come() {
        let mut entry = IndexEntry::new(Stamp(5), SegmentId(1), Offset(4096), 64);
        entry.received_s = 1_000;
        let wait = u32::try_from(AUTHENTICATION_WAIT.as_secs()).unwrap();
        for (bits, is_looked_into, now_s, expected) in [
            (0, true, 1_000, Proof::Awaited),
            (0, true, 999 + wait, Proof::Awaited),
            (0, true, 1_000 + wait, Proof::Unproven),
            // A clock that stepped back is no reason to hold what may be proven.
            (0, true, 10, Proof::Awaited),
            (0, false, 1_000, Proof::Unproven),
            (1, true, 1_000, Proof::Unproven),
            (1 << 8, true, 1_000, Proof::Proven),
            (1 << 9, false, 900_000, Proof::Proven),
        ] {
            assert_eq!(
                Proof::of(bits, &entry, is_looked_into, now_s),
                expected,
                "{bits} {is_looked_into} {now_s}"
            );
        }
    }
}
