//! Which segments of a chain are named by the header of another one: a lost file is told from a number that was never used
//! by that, so every segment that holds something must be named soon.

use crate::format::segment_header::OTHERS_MAX;
use crate::position::SegmentId;
use std::collections::{BTreeMap, BTreeSet};

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

impl Number {
    /// All that its header names.
    pub fn before(&self) -> impl Iterator<Item = SegmentId> {
        self.previous.into_iter().chain(self.others.iter().copied())
    }
}

/// Of earlier lives: what no header names, now or once a segment is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unnamed {
    /// Those that no header names.
    pub now: Vec<SegmentId>,
    /// What the header of each segment that is here names.
    pub once_gone: BTreeMap<SegmentId, Vec<SegmentId>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Chained {
    /// The last one that is durable: the next header names it.
    pub(super) previous: Option<SegmentId>,
    /// Those that are durable and that no header names. More than one, since rewrites and new mail make theirs at the
    /// same time.
    pub(super) unnamed: BTreeSet<SegmentId>,
    /// What the header of each segment that is here names: it goes with the segment.
    names: BTreeMap<SegmentId, Vec<SegmentId>>,
}

impl Chained {
    /// Behind what earlier lives made.
    pub(super) fn behind(previous: Option<SegmentId>, unnamed: &Unnamed) -> Self {
        let Unnamed { now, once_gone } = unnamed;
        Self { previous, unnamed: now.iter().copied().collect(), names: once_gone.clone() }
    }

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
        self.names.insert(number.segment, number.before().collect());
    }

    /// It is not: what it was to name is unnamed again.
    pub(super) fn not_made(&mut self, number: Number) {
        let before = number.previous.into_iter().chain(number.others);
        self.unnamed.extend(before.filter(|before| self.names.contains_key(before)));
    }

    /// It is gone, and its header with it: what is still here and was named by that alone is unnamed again.
    pub(super) fn gone(&mut self, segment: SegmentId) {
        self.unnamed.remove(&segment);
        let names = self.names.remove(&segment).unwrap_or_default();
        let is_named = |before: &SegmentId| self.names.values().flatten().any(|named| named == before);
        let unnamed = names.into_iter().filter(|before| self.names.contains_key(before) && !is_named(before));
        self.unnamed.extend(unnamed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<SegmentId> {
        ids.iter().copied().map(SegmentId).collect()
    }

    /// Behind segments that no header names.
    fn here(previous: u32, unnamed: &[u32]) -> Chained {
        let now = ids(unnamed);
        let once_gone = now.iter().map(|segment| (*segment, Vec::new())).collect();
        Chained::behind(Some(SegmentId(previous)), &Unnamed { now, once_gone })
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
        let mut chain = here(7, &[3, 7]);
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
        let mut chain = here(1000, &many);
        let mut named = Vec::new();
        for segment in 1001..1004 {
            let number = chain.number(SegmentId(segment));
            assert!(number.others.len() <= OTHERS_MAX);
            named.extend(number.before());
            chain.made(&number);
        }
        named.sort_unstable();
        assert_eq!(named, ids(&(1..=1002).collect::<Vec<_>>()));
    }

    #[test]
    fn what_only_a_segment_that_is_gone_named_is_named_by_the_next() {
        // Found by review: mail that waits keeps its segment, the one behind it drains, and with its header the name went.
        let mut chain = Chained::default();
        for segment in 1..=3 {
            let number = chain.number(SegmentId(segment));
            chain.made(&number);
        }
        chain.gone(SegmentId(2));
        let next = chain.number(SegmentId(4));
        assert_eq!((next.previous, &next.others), (Some(SegmentId(3)), &ids(&[1])));
        chain.made(&next);
        // Names go on to the next header, however often, and only those of segments that are here.
        chain.gone(SegmentId(3));
        chain.gone(SegmentId(4));
        let last = chain.number(SegmentId(5));
        assert_eq!((last.previous, &last.others), (Some(SegmentId(4)), &ids(&[1])));
        chain.made(&last);
        chain.gone(SegmentId(1));
        chain.gone(SegmentId(5));
        assert_eq!(chain.number(SegmentId(6)).others, []);
    }

    #[test]
    fn what_another_header_names_too_is_named_enough() {
        let mut chain = here(1, &[1]);
        let (copy, beside) = (chain.number(SegmentId(2)), chain.number(SegmentId(3)));
        chain.made(&beside);
        chain.made(&copy);
        chain.gone(SegmentId(2));
        assert_eq!(chain.number(SegmentId(4)).others, ids(&[3]));
    }

    #[test]
    fn what_goes_while_a_header_is_to_name_it_is_not_unnamed_again() {
        let mut chain = here(1, &[1]);
        let failed = chain.number(SegmentId(2));
        chain.gone(SegmentId(1));
        chain.not_made(failed);
        assert_eq!(chain.number(SegmentId(3)).others, []);
    }
}
