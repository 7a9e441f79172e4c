//! Which segments of a chain are named by the header of another one: a lost file is told from a number that was never used
//! by that, so every segment that holds something must be named soon.

use crate::format::segment_header::OTHERS_MAX;
use crate::position::SegmentId;
use std::collections::BTreeSet;

/// A number for a further segment, and what its header names. Given back by `made` or `not_made`.
#[must_use = "what it names is named by no other header meanwhile"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number {
    /// The number.
    pub segment: SegmentId,
    /// The segment of the chain that was made last.
    pub previous: Option<SegmentId>,
    /// Further ones that no header names.
    pub others: Vec<SegmentId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Chained {
    /// The last one that is durable: the next header names it.
    pub(super) previous: Option<SegmentId>,
    /// Those that are durable and that no header names. More than one, since rewrites and new mail make theirs at the
    /// same time.
    pub(super) unnamed: BTreeSet<SegmentId>,
}

impl Chained {
    /// What the header of `segment` names: all that is unnamed, as far as it fits.
    pub(super) fn number(&mut self, segment: SegmentId) -> Number {
        let previous = self.previous;
        self.unnamed.retain(|unnamed| Some(*unnamed) != previous);
        let others: Vec<SegmentId> = self.unnamed.iter().copied().take(OTHERS_MAX).collect();
        self.unnamed.retain(|unnamed| !others.contains(unnamed));
        Number { segment, previous, others }
    }

    /// It is durable: those made from here on name it.
    pub(super) fn made(&mut self, number: &Number) {
        self.previous = Some(number.segment);
        self.unnamed.insert(number.segment);
    }

    /// It is not: what it was to name is unnamed again.
    pub(super) fn not_made(&mut self, number: Number) {
        self.unnamed.extend(number.previous);
        self.unnamed.extend(number.others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<SegmentId> {
        ids.iter().copied().map(SegmentId).collect()
    }

    #[test]
    fn every_segment_is_named_by_the_next_header_whatever_is_made_beside_it() {
        let mut chain = Chained::default();
        let first = chain.number(SegmentId(1));
        assert_eq!((first.previous, &first.others), (None, &vec![]));
        chain.made(&first);
        // A rewrite begins, mail rolls twice beside it, then the copy is durable.
        let copy = chain.number(SegmentId(2));
        let rolled = chain.number(SegmentId(3));
        assert_eq!((copy.previous, rolled.previous), (Some(SegmentId(1)), Some(SegmentId(1))));
        chain.made(&rolled);
        chain.made(&copy);
        let next = chain.number(SegmentId(4));
        assert_eq!((next.previous, &next.others), (Some(SegmentId(2)), &ids(&[3])));
        chain.made(&next);
        let last = chain.number(SegmentId(5));
        assert_eq!((last.previous, &last.others), (Some(SegmentId(4)), &vec![]));
    }

    #[test]
    fn what_a_segment_that_was_not_made_would_have_named_is_named_by_the_next() {
        let mut chain = Chained { previous: Some(SegmentId(7)), unnamed: ids(&[3, 7]).into_iter().collect() };
        let failed = chain.number(SegmentId(8));
        assert_eq!((failed.previous, &failed.others), (Some(SegmentId(7)), &ids(&[3])));
        let beside = chain.number(SegmentId(9));
        chain.made(&beside);
        chain.not_made(failed);
        let next = chain.number(SegmentId(10));
        assert_eq!((next.previous, &next.others), (Some(SegmentId(9)), &ids(&[3, 7])));
    }

    #[test]
    fn more_than_fits_is_named_by_the_headers_that_follow() {
        let many: Vec<u32> = (1..=1000).collect();
        let mut chain =
            Chained { previous: Some(SegmentId(1000)), unnamed: ids(&many).into_iter().collect() };
        let mut named = Vec::new();
        for segment in 1001..1004 {
            let number = chain.number(SegmentId(segment));
            assert!(number.others.len() <= OTHERS_MAX);
            named.extend(number.previous.into_iter().chain(number.others.iter().copied()));
            chain.made(&number);
        }
        named.sort_unstable();
        assert_eq!(named, ids(&(1..=1002).collect::<Vec<_>>()));
    }
}
