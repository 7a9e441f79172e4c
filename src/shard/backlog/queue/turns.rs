//! Messages that are offered in several transactions (RFC 9422), and which of their units had their turn.
//!
//! A pass over a message offers each unit that nobody has decided about once. What becomes of the message while it is open, that it steps aside or
//! is put off, is said at the end of the pass and goes by all of it: else a mailbox that is full for ever would keep those behind it from being
//! offered at all. A pass outlives a session that breaks. Who has one waits in its place, so there are few: one a connection.

use super::{OUT, Queue};
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;

/// What the transactions of a pass came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::shard) struct Pass {
    /// Units that had their turn and are not decided.
    pub(in crate::shard) tried: Vec<u16>,
    /// Who of them was put off.
    pub(in crate::shard) deferred: Vec<String>,
    /// Some were refused in a way that is not final.
    pub(in crate::shard) has_parked: bool,
    /// The primary took some.
    pub(in crate::shard) got_through: bool,
}

impl Pass {
    /// One more transaction of it.
    fn add(&mut self, mut other: Self) {
        self.tried.append(&mut other.tried);
        self.deferred.append(&mut other.deferred);
        self.has_parked |= other.has_parked;
        self.got_through |= other.got_through;
    }
}

impl Queue {
    /// Ordinals of an entry that is out whose turn it is: of those that are open the ones that this pass has not offered.
    pub(in crate::shard) fn units_in_turn(&self, entry: &IndexEntry) -> Vec<u16> {
        let open = self.open_units(entry);
        let Some((_, pass)) = self.passes.iter().find(|(stamp, _)| *stamp == entry.stamp) else {
            return open;
        };
        let rest: Vec<u16> = open.iter().copied().filter(|ordinal| !pass.tried.contains(ordinal)).collect();
        if rest.is_empty() { open } else { rest }
    }

    /// A transaction of an entry that is out is over, and others of its units wait for their turn.
    pub(in crate::shard) fn had_turn(&mut self, entry: &IndexEntry, part: Pass) {
        assert!(self.out.iter().any(|out| out.entry.stamp == entry.stamp), "{OUT}");
        let mut pass = self.end_pass(entry.stamp);
        pass.add(part);
        self.passes.push((entry.stamp, pass));
    }

    /// Whether some of an entry's units had their turn in a pass that is not over, and are not decided.
    pub(in crate::shard) fn has_pass(&self, stamp: Stamp) -> bool {
        self.passes.iter().any(|(other, pass)| *other == stamp && !pass.tried.is_empty())
    }

    /// All of its units had their turn, or nobody goes on with it: the pass as far as it came.
    pub(in crate::shard) fn end_pass(&mut self, stamp: Stamp) -> Pass {
        let at = self.passes.iter().position(|(other, _)| *other == stamp);
        at.map(|at| self.passes.swap_remove(at).1).unwrap_or_default()
    }

    /// As [`Self::end_pass`], with its last transaction.
    pub(in crate::shard) fn whole_pass(&mut self, stamp: Stamp, last: Pass) -> Pass {
        let mut pass = self.end_pass(stamp);
        pass.add(last);
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{next, queue_of};
    use super::*;
    use crate::smtp::Moment;

    fn put_off(ordinal: u16) -> Pass {
        Pass { tried: vec![ordinal], deferred: vec![format!("r{ordinal}")], ..Pass::default() }
    }

    #[test]
    fn each_open_unit_has_its_turn_once_a_pass() {
        let mut queue = queue_of(1..=1);
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!(queue.units_in_turn(&place.1), [0, 1]);
        queue.had_turn(&place.1, put_off(0));
        queue.put_back(place);
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!((queue.units_in_turn(&place.1), queue.open_units(&place.1)), (vec![1], vec![0, 1]));
        // Somebody else has decided about the rest: the next pass begins.
        queue.decide(&place.1, 1);
        assert_eq!(queue.units_in_turn(&place.1), [0]);
        let last = Pass { got_through: true, ..Pass::default() };
        let whole = queue.whole_pass(Stamp(1), last);
        assert_eq!((whole.tried, whole.deferred, whole.got_through), (vec![0], vec!["r0".to_owned()], true));
        assert_eq!(queue.end_pass(Stamp(1)), Pass::default());
        queue.had_turn(&place.1, put_off(0));
        assert!(queue.finish(&place.1) && queue.passes.is_empty(), "it ends with its message");
    }
}
