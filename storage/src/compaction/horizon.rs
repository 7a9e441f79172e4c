//! Whether a segment may go: a pure function of what is known about it (H3).
//!
//! Only settled units free a segment. A segment without units is not free as long as somebody's chunks in it
//! are needed: of a message that is still arriving, or whose closing record lies elsewhere and is unsettled. Settled
//! units keep it only where their copies are kept, for the time that the host says.

/// What is known about a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFacts {
    /// It has its index and is not written any more.
    pub sealed: bool,
    /// Units with a final outcome.
    pub ended: u64,
    /// Units without one.
    pub unsettled: u64,
    /// Messages, queued or arriving, that have chunks in it.
    pub pins: u64,
    /// A rewrite copied messages out of it, and their owners may still look here.
    pub moving: bool,
    /// Copies of delivered mail are kept in it.
    pub kept: bool,
}

/// Whether the segment may be unlinked once its tally is durable.
#[must_use]
pub const fn may_unlink(facts: SegmentFacts) -> bool {
    facts.sealed && facts.unsettled == 0 && facts.pins == 0 && !facts.moving && !facts.kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_table_of_the_horizon() {
        let rows = [
            ("active, empty", false, 0, 0, false, false),
            ("active, all settled", false, 0, 0, false, false),
            ("sealed, one unsettled", true, 1, 0, false, false),
            ("chunks only, message still arriving", true, 0, 1, false, false),
            ("chunks only, closed in a later segment, queued", true, 0, 1, false, false),
            ("chunks only, abandoned", true, 0, 0, false, true),
            ("sealed, all settled", true, 0, 0, false, true),
            ("sealed, all settled, chunks of another message", true, 0, 2, false, false),
            ("sealed, all settled while its copies are being made known", true, 0, 0, true, false),
        ];
        for (name, sealed, unsettled, pins, moving, expected) in rows {
            let facts = SegmentFacts { sealed, ended: 0, unsettled, pins, moving, kept: false };
            assert_eq!(may_unlink(facts), expected, "{name}");
            assert!(!may_unlink(SegmentFacts { kept: true, ..facts }), "{name}, with copies that are kept");
        }
    }
}
