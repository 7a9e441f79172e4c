//! What was queued once more in this life, as far as somebody may still ask for it by a page from before that.
//!
//! Pages of copies and what becomes of them are two questions: while a page is on its way its copies may have been queued once more, by a
//! second operator or by a request whose asker had stopped waiting. So the owner of a domain remembers each unit from before its
//! record is appended, by message and ordinal, which a rewrite of segments leaves as they are (H10). It forgets a unit
//! [`OPERATOR_REPLAYED_AGE`] after the keeper of its segment has taken the mark, or when [`OPERATOR_REPLAYED_UNITS_MAX`] are remembered;
//! from then on it refuses pages that were looked for before the keeper knew. A domain is replayed by one request at a time, in order.

use crate::bridge::operator::Copy;
use crate::limits::{OPERATOR_EXPORTS_MAX, OPERATOR_REPLAYED_AGE, OPERATOR_REPLAYED_UNITS_MAX};
use crate::smtp::Moment;
use async_channel::Receiver;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A message in the order of all, and one of its recipients.
type Unit = (u64, u16);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    units: BTreeSet<Unit>,
    /// Whose keepers are being told; closed when they know.
    told: Vec<(Receiver<()>, Vec<Unit>)>,
    /// Whose keepers know since then.
    known: VecDeque<(Moment, Vec<Unit>)>,
    /// Keepers knew by then what is forgotten.
    forgotten: Option<Moment>,
    domains: BTreeSet<Arc<str>>,
}

fn units_of(copy: &Copy) -> impl Iterator<Item = Unit> {
    copy.ordinals.iter().map(|ordinal| (copy.stamp, *ordinal))
}

impl Remembered {
    /// Mail of a domain is about to be queued once more, until [`Self::end`].
    ///
    /// # Errors
    /// Why not now.
    pub(super) fn begin(&mut self, domain: &Arc<str>) -> Result<(), &'static str> {
        if self.domains.contains(domain) {
            return Err("mail of this domain is being queued once more already");
        }
        if self.domains.len() >= OPERATOR_EXPORTS_MAX as usize {
            return Err("mail of too many domains is being queued once more");
        }
        self.domains.insert(Arc::clone(domain));
        Ok(())
    }

    /// The counterpart of [`Self::begin`].
    pub(super) fn end(&mut self, domain: &Arc<str>) {
        self.domains.remove(domain);
    }

    /// Whether units of the copy may be forgotten that were queued once more since it was looked for.
    pub(super) fn is_stale(&self, copy: &Copy) -> bool {
        self.forgotten.is_some_and(|instant| copy.looked <= instant)
    }

    /// Takes out of the copy what was queued once more, and remembers the rest of it.
    pub(super) fn claim(&mut self, copy: &mut Copy) {
        let stamp = copy.stamp;
        copy.ordinals.retain(|ordinal| self.units.insert((stamp, *ordinal)));
    }

    /// It was not queued after all.
    pub(super) fn release(&mut self, copy: &Copy) {
        for unit in units_of(copy) {
            self.units.remove(&unit);
        }
    }

    /// Keepers are told of these; the other end of `done` is dropped when they know.
    pub(super) fn tell(&mut self, units: Vec<Unit>, done: Receiver<()>) {
        self.told.push((done, units));
    }

    /// Forgets what need not be remembered any more.
    pub(super) fn forget(&mut self, now: Moment) {
        for (_, units) in self.told.extract_if(.., |(done, _)| done.is_closed()) {
            self.known.push_back((now, units));
        }
        while let Some((since, _)) = self.known.front()
            && (now >= *since + OPERATOR_REPLAYED_AGE || self.units.len() > OPERATOR_REPLAYED_UNITS_MAX)
        {
            let (since, units) = self.known.pop_front().expect("it is the first");
            for unit in units {
                self.units.remove(&unit);
            }
            self.forgotten = Some(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn copy(looked: Moment) -> Copy {
        Copy::sample(7, vec![0, 2], looked)
    }

    #[test]
    fn a_unit_is_claimed_once_until_no_page_from_before_is_believed_any_more() {
        let second = Duration::from_secs(1);
        let mut all = Remembered::default();
        let claimed = |all: &mut Remembered, looked| {
            let mut copy = copy(looked);
            all.claim(&mut copy);
            copy.ordinals
        };
        assert_eq!(claimed(&mut all, second), [0, 2]);
        assert!(claimed(&mut all, second).is_empty());
        all.release(&copy(second));
        assert_eq!(claimed(&mut all, second), [0, 2], "it was not queued");
        let (keeper, done) = async_channel::bounded(1);
        all.tell(vec![(7, 0), (7, 2)], done);
        all.forget(second + 10 * OPERATOR_REPLAYED_AGE);
        assert!(claimed(&mut all, second).is_empty(), "the keeper does not know yet");
        drop(keeper);
        let known = second + 10 * OPERATOR_REPLAYED_AGE;
        all.forget(known);
        all.forget(known + OPERATOR_REPLAYED_AGE - second);
        assert!(claimed(&mut all, second).is_empty() && !all.is_stale(&copy(second)));
        all.forget(known + OPERATOR_REPLAYED_AGE);
        assert!(all.is_stale(&copy(known)) && !all.is_stale(&copy(known + second)));
        assert!(all.units.is_empty());
    }

    #[test]
    fn a_domain_is_replayed_by_one_at_a_time() {
        let mut all = Remembered::default();
        let (one, other): (Arc<str>, Arc<str>) = ("example.test".into(), "example.org".into());
        assert!(all.begin(&one).is_ok() && all.begin(&one).is_err() && all.begin(&other).is_ok());
        all.end(&one);
        assert!(all.begin(&one).is_ok());
    }
}
