//! What the journal knows of the messages that a lane offers (P4, RFC 1047): before anything of one leaves, a row about it is durable. So
//! a start knows of which messages the primary may have a copy, and says so; no others can come twice. Pure.
//!
//! ```text
//!   begin          written           answered: some of it was taken                 settled: the facts say so
//!  ------> Writing --------> Durable ------------------------------------> Answered --------------------------> (gone, or closed)
//!                              |  known: put off, refused, never sent
//!                              +---------------------------------------> (closed: told with the next write)
//! ```
//! - Rows ride in the write that settles what went before: in a steady drain they cost no write of their own. Whoever wants to go and has
//!   no row yet (the first of a drain, what steps back in) has one written, for those behind it in the queue, too.
//! - At most [`OUTSTANDING_MAX`] are open, messages that wait for their turn among them, so what a crash leaves open is bounded as what
//!   it may repeat is, and holds it.
//! - What stands in the journal last counts, and writes may pass each other where a batch is full or failed. So a row is told only if it still
//!   holds when it gets its place ([`Offers::still_holds`]), and is durable for the opening that it was made for, not for one behind it.
//! - *Doubtful* is what was open at the start of the process, and what a connection took along behind its end of data, also while it was carried
//!   through, or whose reply is late (H21). It stays so until
//!   it has ended: a second try that is put off says nothing of the first.
//!
//! Failure answers: while the journal takes nothing, nothing is offered.

use crate::limits::OUTSTANDING_MAX;
use std::collections::{BTreeMap, BTreeSet};
use storage::format::offered::Offered;
use storage::position::Stamp;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Offers {
    open: BTreeMap<Stamp, Row>,
    /// Not open any more, and the journal has not heard of it.
    closed: BTreeMap<Stamp, u16>,
    doubtful: BTreeSet<Stamp>,
    /// Of rows that were opened so far.
    openings: u64,
}

/// Rows on their way to the journal.
#[derive(Debug, Default)]
pub(in crate::shard) struct Rows {
    all: Vec<Offered>,
    /// Those that were opened later are not among them.
    openings: u64,
}

impl Rows {
    pub(in crate::shard) fn all(&self) -> &[Offered] {
        &self.all
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// How many were opened before it.
    opening: u64,
    /// The ordinal of its first recipient in the domain.
    first: u16,
    is_durable: bool,
    /// The primary took some of it, and the journal does not know.
    is_answered: bool,
}

/// A message, as rows name it.
pub(in crate::shard) type Named = (Stamp, u16);

impl Offers {
    /// Whether it may leave. If so it does.
    pub(in crate::shard) fn leaves(&mut self, stamp: Stamp) -> bool {
        let Some(row) = self.open.get_mut(&stamp).filter(|row| row.is_durable) else { return false };
        row.is_answered = false;
        true
    }

    /// The rows to be written now: what was closed, `wanted`, and as many of `next` as there is room for. Where there is none for the
    /// wanted one, those that are not in flight give up theirs.
    ///
    /// # Panics
    /// If more are in flight, or wait for their facts to be durable, than may be outstanding.
    pub(in crate::shard) fn begin(
        &mut self,
        wanted: Option<Named>,
        next: &[Named],
        is_in_flight: impl Fn(Stamp) -> bool,
    ) -> Rows {
        let mut rows = Vec::new();
        if let Some((stamp, first)) = wanted {
            if !self.open.contains_key(&stamp) && self.room() == 0 {
                self.close(|other| !is_in_flight(other));
                assert!(self.room() > 0, "as many are in flight as may be outstanding");
            }
            self.add(stamp, first, &mut rows);
        }
        for (stamp, first) in next {
            if !self.open.contains_key(stamp) && self.room() > 0 {
                self.add(*stamp, *first, &mut rows);
            }
        }
        let closed = core::mem::take(&mut self.closed);
        rows.extend(closed.into_iter().map(|(stamp, first)| Offered { stamp, first, is_open: false }));
        Rows { all: rows, openings: self.openings }
    }

    /// Whether a row says what is so.
    pub(in crate::shard) fn still_holds(&self, row: &Offered) -> bool {
        self.open.contains_key(&row.stamp) == row.is_open
    }

    /// They are durable, as far as they held.
    pub(in crate::shard) fn written(&mut self, rows: &Rows) {
        for row in rows.all.iter().filter(|row| row.is_open) {
            if let Some(row) = self.open.get_mut(&row.stamp)
                && row.opening < rows.openings
            {
                row.is_durable = true;
            }
        }
    }

    /// The primary took some of it; facts will say so.
    pub(in crate::shard) fn answered(&mut self, stamp: Stamp) {
        if let Some(row) = self.open.get_mut(&stamp) {
            row.is_answered = true;
        }
    }

    /// Facts about a message are about to be written; `is_over`: nothing else of it is queued or held.
    pub(in crate::shard) fn settled(&mut self, stamp: Stamp, is_over: bool) {
        if is_over {
            self.doubtful.remove(&stamp);
            self.closed.remove(&stamp);
            self.open.remove(&stamp);
        } else if !self.doubtful.contains(&stamp)
            && let Some(row) = self.open.get(&stamp).filter(|row| row.is_answered)
        {
            self.closed.insert(stamp, row.first);
            self.open.remove(&stamp);
        }
    }

    /// What is left of a message was put off, or did not leave.
    pub(in crate::shard) fn known(&mut self, stamp: Stamp) {
        if let Some(row) = self.open.get_mut(&stamp) {
            row.is_answered = false;
        }
        self.close(|other| other == stamp);
    }

    /// A connection took it along.
    pub(in crate::shard) fn unknown(&mut self, stamp: Stamp) {
        if self.open.contains_key(&stamp) {
            self.doubtful.insert(stamp);
        }
    }

    /// A start found it open; the journal says so.
    pub(in crate::shard) fn found(&mut self, stamp: Stamp, first: u16) {
        let row = self.opened(first);
        self.open.insert(stamp, Row { is_durable: true, ..row });
        self.doubtful.insert(stamp);
    }

    /// One that was carried through is about to arrive, or has just arrived, and the primary may have it. Whoever tells us has told the journal,
    /// or is about to. A row that it has got meanwhile stays as it is.
    pub(in crate::shard) fn expected(&mut self, stamp: Stamp, first: u16) {
        let row = self.opened(first);
        self.open.entry(stamp).or_insert(row);
        self.closed.remove(&stamp);
        self.doubtful.insert(stamp);
    }

    /// The primary has said of the one try that was in doubt that it did not take it.
    pub(in crate::shard) fn refused(&mut self, stamp: Stamp) {
        self.doubtful.remove(&stamp);
        self.known(stamp);
    }

    /// Those are not offered for now, as far as no facts about them are on their way.
    pub(in crate::shard) fn close(&mut self, of: impl Fn(Stamp) -> bool) {
        let (doubtful, closed) = (&self.doubtful, &mut self.closed);
        self.open.retain(|stamp, row| {
            let stays = doubtful.contains(stamp) || row.is_answered || !of(*stamp);
            if !stays {
                closed.insert(*stamp, row.first);
            }
            stays
        });
    }

    /// Whether the journal has not heard of all that is closed.
    pub(in crate::shard) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Whether the primary may have it already.
    pub(in crate::shard) fn is_doubtful(&self, stamp: Stamp) -> bool {
        self.doubtful.contains(&stamp)
    }

    /// Those that it may have.
    pub(in crate::shard) fn doubtful(&self) -> usize {
        self.doubtful.len()
    }

    /// What a checkpoint restates.
    pub(in crate::shard) fn restated(&self) -> impl Iterator<Item = Offered> {
        self.open.iter().map(|(stamp, row)| Offered { stamp: *stamp, first: row.first, is_open: true })
    }

    fn opened(&mut self, first: u16) -> Row {
        let opening = self.openings;
        self.openings += 1;
        Row { opening, first, is_durable: false, is_answered: false }
    }

    fn room(&self) -> usize {
        let offered = self.open.len() - self.doubtful.len();
        (OUTSTANDING_MAX as usize).saturating_sub(offered)
    }

    fn add(&mut self, stamp: Stamp, first: u16, rows: &mut Vec<Offered>) {
        // Another write may have it; ours is durable when we go on.
        let row = self.opened(first);
        self.open.entry(stamp).or_insert(row);
        self.closed.remove(&stamp);
        rows.push(Offered { stamp, first, is_open: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(rows: &Rows, is_open: bool) -> Vec<u64> {
        rows.all.iter().filter(|row| row.is_open == is_open).map(|row| row.stamp.0).collect()
    }

    fn named(stamps: impl IntoIterator<Item = u64>) -> Vec<Named> {
        stamps.into_iter().map(|stamp| (Stamp(stamp), 0)).collect()
    }

    #[test]
    fn p4_no_more_are_open_than_may_be_outstanding_and_what_waits_makes_room() {
        let mut offers = Offers::default();
        let rows = offers.begin(Some((Stamp(1), 0)), &named(1..100), |_| true);
        assert_eq!(stamps(&rows, true), (1..=16).collect::<Vec<_>>());
        assert!(!offers.leaves(Stamp(1)), "not before the journal has it");
        offers.written(&rows);
        assert!(offers.leaves(Stamp(16)) && !offers.leaves(Stamp(17)));
        assert_eq!(offers.begin(None, &named(17..100), |_| true).all, []);
        // Two have ended: two go on, in the write that says so.
        for stamp in [1, 3] {
            offers.answered(Stamp(stamp));
            offers.settled(Stamp(stamp), true);
        }
        offers.settled(Stamp(2), false);
        let next = named([2].into_iter().chain(4..100));
        assert_eq!(stamps(&offers.begin(None, &next, |_| true), true), [17, 18]);
        // One comes back from aside in front of them: who only waits is not open any more, but for who is about to be settled.
        offers.answered(Stamp(11));
        let rows = offers.begin(Some((Stamp(200), 0)), &[], |stamp| stamp.0 < 10);
        let waited: Vec<u64> = (10..=18).filter(|stamp| *stamp != 11).collect();
        assert_eq!((stamps(&rows, true), stamps(&rows, false)), (vec![200], waited));
        assert_eq!(offers.restated().count(), 9);
    }

    #[test]
    fn h43_what_is_taken_in_part_stays_open_until_the_facts_say_so() {
        let mut offers = Offers::default();
        let rows = offers.begin(Some((Stamp(1), 2)), &[], |_| true);
        offers.written(&rows);
        offers.answered(Stamp(1));
        offers.close(|_| true);
        assert_eq!(offers.restated().count(), 1, "a crash now offers again what was taken");
        offers.settled(Stamp(1), false);
        let rows = offers.begin(None, &[], |_| true);
        assert_eq!(rows.all, [Offered { stamp: Stamp(1), first: 2, is_open: false }], "with the facts");
        // Its rest is offered at once, before the facts about the first part are written.
        let rows = offers.begin(Some((Stamp(1), 2)), &[], |_| true);
        offers.written(&rows);
        offers.answered(Stamp(1));
        assert!(offers.leaves(Stamp(1)));
        offers.settled(Stamp(1), false);
        assert_eq!(offers.restated().count(), 1, "the rest is on its way");
    }

    #[test]
    fn p4_a_mark_behind_its_arrival_takes_nothing_back() {
        let mut offers = Offers::default();
        let rows = offers.begin(Some((Stamp(7), 0)), &[], |_| true);
        offers.written(&rows);
        assert!(offers.leaves(Stamp(7)));
        offers.answered(Stamp(7));
        offers.expected(Stamp(7), 0);
        assert!(offers.leaves(Stamp(7)), "it is durable as before");
        offers.known(Stamp(7));
        offers.expected(Stamp(8), 0);
        offers.refused(Stamp(8));
        offers.expected(Stamp(8), 0);
        assert!(offers.is_doubtful(Stamp(8)) && !offers.has_closed(), "the mark is the last word");
    }

    #[test]
    fn p4_what_may_have_arrived_stays_doubtful_until_it_ends() {
        let mut offers = Offers::default();
        offers.found(Stamp(5), 3);
        let rows = offers.begin(Some((Stamp(6), 0)), &named([7]), |_| true);
        offers.written(&rows);
        offers.unknown(Stamp(6));
        offers.unknown(Stamp(99));
        assert_eq!(offers.doubtful(), 2, "what was not offered is not lost");
        offers.close(|_| true);
        offers.known(Stamp(5));
        offers.answered(Stamp(6));
        offers.settled(Stamp(6), false);
        assert!(offers.is_doubtful(Stamp(5)) && offers.is_doubtful(Stamp(6)) && offers.has_closed());
        assert_eq!(stamps(&offers.begin(None, &[], |_| false), false), [7]);
        assert!(!offers.has_closed());
        offers.settled(Stamp(5), true);
        offers.settled(Stamp(6), true);
        assert_eq!((offers.doubtful(), offers.restated().count()), (0, 0));
    }

    #[test]
    fn what_is_offered_again_is_not_closed_by_the_same_write() {
        let mut offers = Offers::default();
        let rows = offers.begin(Some((Stamp(1), 0)), &[], |_| true);
        offers.written(&rows);
        offers.known(Stamp(1));
        let rows = offers.begin(Some((Stamp(1), 0)), &[], |_| true);
        assert_eq!((stamps(&rows, true), stamps(&rows, false)), (vec![1], vec![]));
    }

    /// The first write waits for room, and the message is offered again meanwhile by another that finds some.
    #[test]
    fn p4_a_write_that_comes_late_takes_nothing_back() {
        let mut offers = Offers::default();
        let opening = offers.begin(Some((Stamp(1), 0)), &[], |_| true);
        offers.written(&opening);
        offers.known(Stamp(1));
        let closing = offers.begin(None, &[], |_| true);
        assert!(closing.all.iter().all(|row| offers.still_holds(row)));
        let again = offers.begin(Some((Stamp(1), 0)), &[], |_| true);
        assert!(!closing.all.iter().any(|row| offers.still_holds(row)), "it is left out");
        offers.written(&opening);
        offers.written(&closing);
        assert!(!offers.leaves(Stamp(1)), "another opening is durable, and one before this");
        offers.written(&again);
        assert!(offers.leaves(Stamp(1)));
    }
}
