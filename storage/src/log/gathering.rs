//! How long a batch gathers before it leaves: a pure function of the commit before it.
//!
//! A commit costs the processor about as much as ten messages cost it otherwise (requests to the disk, interrupts, the file system's
//! journal), so under load fewer and larger ones are worth a wait. Whoever is alone never waits: a batch leaves at once when it has as many
//! records as half of the one before. Else it waits once, no longer than that one took on the disk, and no longer than [`GATHERING_MAX`]. So nobody's
//! acknowledgement takes longer for it than twice a commit, whatever the disk is like.

use core::time::Duration;

/// The longest wait: a disk that takes longer gathers enough while it writes.
pub(super) const GATHERING_MAX: Duration = Duration::from_millis(1);

/// What is remembered of a commit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paced {
    /// Records in it.
    pub(super) records: u32,
    /// From its leaving until it was durable.
    pub(super) took: Duration,
}

/// How long a batch with `records` waits for more behind `before`; `None`: it leaves now.
pub(super) fn gathering(before: Paced, records: u32) -> Option<Duration> {
    let wait = before.took.min(GATHERING_MAX);
    (records < before.records / 2 && !wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(records: u32, micros: u64) -> Paced {
        Paced { records, took: Duration::from_micros(micros) }
    }

    #[test]
    fn who_is_alone_or_many_does_not_wait() {
        assert_eq!(gathering(Paced::default(), 1), None, "the first of all");
        assert_eq!(gathering(before(1, 300), 1), None);
        assert_eq!(gathering(before(2, 300), 1), None);
        assert_eq!(gathering(before(8, 300), 4), None);
        assert_eq!(gathering(before(8, 300), 20), None);
    }

    #[test]
    fn far_fewer_than_before_wait_as_long_as_that_took_and_no_longer_than_the_bound() {
        assert_eq!(gathering(before(8, 300), 3), Some(Duration::from_micros(300)));
        assert_eq!(gathering(before(4, 300), 1), Some(Duration::from_micros(300)));
        assert_eq!(gathering(before(8, 9_000), 3), Some(GATHERING_MAX));
    }
}
