//! Where notices are on their way to, and who waits for that: memory, no waiting. Pure.
//!
//! A notice goes to whoever sent us mail, so its host may be anybody's, and as slow as it likes. A destination of which we know nothing has
//! [`NOTICE_SESSIONS_A_DESTINATION_MAX`] sessions at a time; what else goes there is parked behind these, and goes on them, or is nobody's again when the last
//! of them ends. One that cannot be reached, or gives no answer, is *silent*: nobody goes there for a while. The operator's own smarthost has
//! as many sessions as there are.
//!
//! - A stamp that is parked is out of the queue; it comes back from exactly one of [`Destinations::next`], [`Destinations::leave`] and
//!   [`Destinations::silence`].
//! - Whoever has entered leaves, once.

use crate::config::Primary;
use crate::limits::{NOTICE_SESSIONS_A_DESTINATION_MAX, NOTICES_PARKED_MAX};
use crate::smtp::Moment;
use core::hash::{Hash, Hasher};
use std::collections::{BTreeSet, HashMap, VecDeque};
use storage::position::Stamp;

/// Destinations that are remembered as silent; with more they are forgotten, and tried.
const DESTINATIONS_MAX: usize = 1_024;

/// Hosts that take notices, in the order to try them. In any order they are the same destination: hosts of one preference come in another order each
/// time (RFC 5321 5.1). A connection to one target is not another's, though they have the same hosts: how it has to be secured differs.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) hosts: Vec<Primary>,
    pub(super) of: Of,
}

impl Target {
    fn set(&self) -> BTreeSet<String> {
        self.hosts.iter().map(ToString::to_string).collect()
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of && self.set() == other.set()
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
        self.set().hash(state);
    }
}

/// Whose hosts they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Of {
    Exchangers,
    /// This domain's, which is protected here.
    Protected(String),
    Smarthost,
}

/// What becomes of a notice that wants to go somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Entered,
    /// Too much is parked there.
    Full,
    Parked,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    /// Until when nobody goes there.
    silent: HashMap<Target, Moment>,
    busy: HashMap<Target, Busy>,
}

#[derive(Debug, Default)]
struct Busy {
    sessions: u32,
    parked: VecDeque<Stamp>,
}

impl Destinations {
    /// Whether nobody goes there now.
    pub(super) fn is_silent(&self, target: &Target, now: Moment) -> bool {
        self.silent.get(target).is_some_and(|until| now < *until)
    }

    /// A session goes there for a notice, or that waits for those that are there.
    pub(super) fn enter(&mut self, target: &Target, stamp: Stamp) -> Entry {
        if !self.busy.contains_key(target) {
            self.busy.insert(target.clone(), Busy { sessions: 1, parked: VecDeque::new() });
            return Entry::Entered;
        }
        let busy = self.busy.get_mut(target).expect("it is there");
        if target.of == Of::Smarthost || busy.sessions < NOTICE_SESSIONS_A_DESTINATION_MAX {
            busy.sessions += 1;
            return Entry::Entered;
        }
        if busy.parked.len() >= NOTICES_PARKED_MAX {
            return Entry::Full;
        }
        busy.parked.push_back(stamp);
        Entry::Parked
    }

    /// What goes next on a session that is there.
    pub(super) fn next(&mut self, target: &Target) -> Option<Stamp> {
        self.busy.get_mut(target)?.parked.pop_front()
    }

    /// A session is there no more. Gives what is nobody's then.
    pub(super) fn leave(&mut self, target: &Target) -> VecDeque<Stamp> {
        let Some(busy) = self.busy.get_mut(target) else { return VecDeque::new() };
        busy.sessions -= 1;
        if busy.sessions > 0 {
            return VecDeque::new();
        }
        self.busy.remove(target).map_or_else(VecDeque::new, |busy| busy.parked)
    }

    /// It serves.
    pub(super) fn serves(&mut self, target: &Target) {
        self.silent.remove(target);
    }

    /// Nobody goes there until then. Gives what waited for it.
    pub(super) fn silence(&mut self, target: &Target, until: Moment) -> VecDeque<Stamp> {
        if self.silent.len() >= DESTINATIONS_MAX {
            self.silent.clear();
        }
        self.silent.insert(target.clone(), until);
        self.busy.get_mut(target).map_or_else(VecDeque::new, |busy| core::mem::take(&mut busy.parked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn target(of: Of) -> Target {
        Target { hosts: Vec::new(), of }
    }

    /// Else a tarpit with three equal exchangers would be six destinations.
    #[test]
    fn p7_hosts_are_one_destination_in_whatever_order_they_come() {
        let host = |name: &str| Primary::parse(name).expect("a host");
        let target = |names: &[&str]| Target {
            hosts: names.iter().map(|name| host(name)).collect(),
            of: Of::Exchangers,
        };
        let mut all = Destinations::default();
        let orders = [
            &["a.test", "b.test", "c.test"][..],
            &["b.test", "a.test", "c.test"],
            &["c.test", "b.test", "a.test"],
        ];
        let entered = orders.iter().zip(0..).map(|(order, stamp)| all.enter(&target(order), Stamp(stamp)));
        assert_eq!(entered.filter(|entry| *entry == Entry::Entered).count(), 2);
        assert_eq!(all.enter(&target(&["a.test", "b.test"]), Stamp(9)), Entry::Entered);
    }

    #[test]
    fn p7_a_destination_has_its_sessions_and_what_waits_for_them_is_in_one_place() {
        let (there, mut all) = (target(Of::Exchangers), Destinations::default());
        for number in 0..NOTICE_SESSIONS_A_DESTINATION_MAX {
            assert_eq!(all.enter(&there, Stamp(number.into())), Entry::Entered);
        }
        let parked = u64::try_from(NOTICES_PARKED_MAX).expect("small");
        assert!((100..100 + parked).all(|stamp| all.enter(&there, Stamp(stamp)) == Entry::Parked));
        assert_eq!(all.enter(&there, Stamp(9)), Entry::Full);
        assert_eq!(all.enter(&target(Of::Protected("a.test".to_owned())), Stamp(9)), Entry::Entered);
        assert_eq!(all.next(&there), Some(Stamp(100)));
        for _ in 1..NOTICE_SESSIONS_A_DESTINATION_MAX {
            assert_eq!(all.leave(&there), [], "another one goes on with it");
        }
        let rest: Vec<u64> = all.leave(&there).iter().map(|stamp| stamp.0).collect();
        assert_eq!(rest, (101..100 + parked).collect::<Vec<_>>());
        assert_eq!(all.enter(&there, Stamp(9)), Entry::Entered);
    }

    #[test]
    fn what_waits_for_a_silent_destination_goes_and_the_smarthost_has_no_bound_of_its_own() {
        let (there, mut all) = (target(Of::Exchangers), Destinations::default());
        for stamp in 0..=NOTICE_SESSIONS_A_DESTINATION_MAX {
            let _ = all.enter(&there, Stamp(stamp.into()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(all.silence(&there, 9 * second), [Stamp(NOTICE_SESSIONS_A_DESTINATION_MAX.into())]);
        assert!(all.is_silent(&there, 8 * second) && !all.is_silent(&there, 9 * second));
        assert_eq!(all.leave(&there), []);
        all.serves(&there);
        assert!(!all.is_silent(&there, second));
        let own = target(Of::Smarthost);
        assert!((0..99).all(|stamp| all.enter(&own, Stamp(stamp)) == Entry::Entered));
    }
}
