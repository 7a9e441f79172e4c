//! Copies of delivered mail: a segment that has units which are kept is not unlinked, and a rewrite takes them along.
//!
//! Settled is settled: nothing else is asked whether copies are kept, and no count knows of them. A run of units is 28 octets, whatever
//! its length; what is delivered one behind the other in a second is one. Chunks of a message that is kept stay as long as it does,
//! and where they lie nothing is rewritten meanwhile: no pin tells any more who needs them.

use super::{Holding, Move, Shelf};
use crate::compaction::horizon::{SegmentFacts, may_unlink};
use crate::format::journal_entry::Outcome;
use crate::format::kept::KeptRun;
use crate::position::{SegmentId, ShardId};
use core::ops::Range;

/// What is kept in a segment beside what is queued.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By their first unit; none covers a unit of another one, but for what was replayed of it.
    runs: Vec<KeptRun>,
    /// The same units, where they were queued once more.
    replayed: Vec<KeptRun>,
    /// Until when chunks of messages that are kept elsewhere are needed; 0: there are none.
    chunks_until_s: u32,
    /// The latest time of `runs`, asked for with each unit that is settled.
    latest_s: u32,
    /// Nothing is over before this time: most looks for what is over end here. 0: nobody has looked.
    earliest_s: u32,
}

/// What a unit is to a rewrite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Matters {
    /// It has ended, and its record is kept.
    Kept,
    /// It has ended.
    Not,
    /// It has not ended.
    Owed,
}

/// A segment whose copies were given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GivenUp {
    /// Its directory.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// Units that were kept.
    pub units: u64,
}

/// The kept units of a segment, to be asked about.
#[derive(Clone, Debug, Default)]
pub struct KeptUnits {
    runs: Vec<KeptRun>,
    replayed: Vec<KeptRun>,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.chunks_until_s == 0
    }

    pub(super) const fn has_chunks(&self) -> bool {
        self.chunks_until_s > 0
    }

    pub(super) fn keep_chunks(&mut self, until_s: u32) {
        self.chunks_until_s = self.chunks_until_s.max(until_s);
        self.earliest_s = self.earliest_s.min(until_s);
    }

    pub(super) const fn until_s(&self) -> u32 {
        self.latest_s
    }

    /// What was kept until `now_s` or before is not kept any more.
    fn let_go(&mut self, now_s: u32) {
        self.runs.retain(|run| run.until_s > now_s);
        self.replayed.retain(|run| run.until_s > now_s);
        if self.chunks_until_s <= now_s {
            self.chunks_until_s = 0;
        }
        self.look();
    }

    /// The earliest and the latest time.
    fn look(&mut self) {
        self.latest_s = self.runs.iter().map(|run| run.until_s).max().unwrap_or(0);
        let all = self.runs.iter().chain(&self.replayed).map(|run| run.until_s);
        let chunks = (self.chunks_until_s > 0).then_some(self.chunks_until_s);
        self.earliest_s = all.chain(chunks).min().unwrap_or(u32::MAX);
    }

    /// Adds what of a run is not known: a journal tells it, and the checkpoint that restated it, perhaps with more.
    fn add(&mut self, run: KeptRun) {
        self.earliest_s = self.earliest_s.min(run.until_s);
        let runs = if run.replayed {
            &mut self.replayed
        } else {
            self.latest_s = self.latest_s.max(run.until_s);
            &mut self.runs
        };
        let mut from = run.first;
        while from < run.end() {
            if let Some(known) = find(runs, from) {
                from = known.end();
                continue;
            }
            let place = runs.partition_point(|known| known.first < from);
            let end = runs.get(place).map_or(run.end(), |next| next.first.min(run.end()));
            let part = KeptRun { first: from, count: end - from, ..run };
            insert(runs, place, part);
            from = end;
        }
    }

    fn covers(&self, unit: u32) -> bool {
        find(&self.runs, unit).is_some()
    }

    /// Units that are somewhere else now.
    pub(super) fn forget(&mut self, units: &Range<u32>) {
        for runs in [&mut self.runs, &mut self.replayed] {
            *runs = runs
                .iter()
                .flat_map(|run| [clip(run, 0..units.start), clip(run, units.end..u32::MAX)])
                .flatten()
                .collect();
        }
        self.look();
    }
}

/// Puts a run in its place, as one with its neighbours where it goes on with them: units of several domains end in turns, and
/// would be a run each.
fn insert(runs: &mut Vec<KeptRun>, place: usize, run: KeptRun) {
    let joins = |one: usize, runs: &[KeptRun]| {
        runs.get(one).zip(runs.get(one + 1)).is_some_and(|(one, next)| one.is_followed_by(next))
    };
    runs.insert(place, run);
    for one in [Some(place), place.checked_sub(1)].into_iter().flatten() {
        if joins(one, runs) {
            runs[one].count += runs.remove(one + 1).count;
        }
    }
}

/// What of a run lies in `units`.
fn clip(run: &KeptRun, units: Range<u32>) -> Option<KeptRun> {
    let first = run.first.max(units.start);
    let end = run.end().min(units.end);
    (first < end).then(|| KeptRun { first, count: end - first, ..*run })
}

fn find(runs: &[KeptRun], unit: u32) -> Option<&KeptRun> {
    let place = runs.partition_point(|run| run.first <= unit).checked_sub(1)?;
    runs.get(place).filter(|run| unit < run.end())
}

impl KeptUnits {
    /// The run that the unit is in, and whether it was queued once more since; `None`: it is not kept.
    #[must_use]
    pub fn of(&self, unit: u32) -> Option<KeptRun> {
        let replayed = find(&self.replayed, unit).is_some();
        Some(KeptRun { replayed, ..*find(&self.runs, unit)? })
    }
}

impl Holding {
    /// Where a rewrite that is under way has the run, too.
    fn elsewhere(&self, run: &KeptRun) -> Vec<(SegmentId, KeptRun)> {
        self.moves.values().filter_map(|moved| moved_run(run, moved)).collect()
    }
}

/// A run as the copy has it.
fn moved_run(run: &KeptRun, moved: &Move) -> Option<(SegmentId, KeptRun)> {
    let part = clip(run, moved.from_base..moved.from_base + moved.units)?;
    let first = moved.to_base + (part.first - moved.from_base);
    Some((moved.to, KeptRun { segment: moved.to, first, ..part }))
}

impl Shelf {
    /// These units were delivered, and stay; or they were queued once more. Before [`Shelf::settle`] says how they ended: the chunks of
    /// their messages stay with them.
    pub fn keep(&mut self, run: &KeptRun) {
        if run.replayed && !self.holdings.contains_key(&(run.shard, run.segment)) {
            // It went meanwhile.
            return;
        }
        let holding = self.holdings.entry((run.shard, run.segment)).or_default();
        holding.kept.add(*run);
        for (to, part) in holding.elsewhere(run) {
            self.holdings.entry((run.shard, to)).or_default().kept.add(part);
        }
    }

    /// Whether a rewrite has to take the unit along: it has not ended, or is kept.
    #[must_use]
    pub fn matters(&self, shard: ShardId, segment: SegmentId, unit: u32) -> Matters {
        let Some(holding) = self.holdings.get(&(shard, segment)) else { return Matters::Owed };
        match holding.half(unit) {
            0 => Matters::Owed,
            half if half == Outcome::Delivered.code() && holding.kept.covers(unit) => Matters::Kept,
            _ => Matters::Not,
        }
    }

    /// What a rewrite took along is kept where it is now.
    pub(super) fn keep_moved(&mut self, shard: ShardId, moves: &[(SegmentId, Move)]) {
        for (source, moved) in moves {
            let Some(holding) = self.holdings.get(&(shard, *source)) else { continue };
            let all = holding.kept.runs.iter().chain(&holding.kept.replayed);
            let parts: Vec<_> = all.filter_map(|run| moved_run(run, moved)).collect();
            for (to, part) in parts {
                self.holdings.entry((shard, to)).or_default().kept.add(part);
            }
        }
    }

    /// What is kept in a segment: a rewrite journals that of its copy before a source goes.
    #[must_use]
    pub fn kept_of(&self, shard: ShardId, segment: SegmentId) -> Vec<KeptRun> {
        let kept = self.holdings.get(&(shard, segment)).map(|holding| &holding.kept);
        kept.into_iter().flat_map(|kept| kept.runs.iter().chain(&kept.replayed)).copied().collect()
    }

    /// All that is kept: what a checkpoint restates.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptRun> {
        let all =
            self.holdings.values().flat_map(|holding| holding.kept.runs.iter().chain(&holding.kept.replayed));
        all.copied().collect()
    }

    /// The segments in which units are kept.
    #[must_use]
    pub fn kept_segments(&self) -> Vec<(ShardId, SegmentId)> {
        let some = self.holdings.iter().filter(|(_, holding)| !holding.kept.runs.is_empty());
        some.map(|(place, _)| *place).collect()
    }

    /// The kept units of a segment.
    #[must_use]
    pub fn kept_units(&self, shard: ShardId, segment: SegmentId) -> KeptUnits {
        let kept = self.holdings.get(&(shard, segment)).map(|holding| &holding.kept);
        kept.map_or_else(KeptUnits::default, |kept| KeptUnits {
            runs: kept.runs.clone(),
            replayed: kept.replayed.clone(),
        })
    }

    /// Lets go of what was kept until `now_s` or before. Returns whether anything was.
    pub fn let_go(&mut self, now_s: u32) -> bool {
        let mut free = Vec::new();
        let is_due = |kept: &Kept| !kept.is_empty() && kept.earliest_s <= now_s;
        for (place, holding) in self.holdings.iter_mut().filter(|(_, holding)| is_due(&holding.kept)) {
            let kept = &mut holding.kept;
            kept.let_go(now_s);
            if kept.is_empty() {
                *kept = Kept::default();
                free.push(*place);
            }
        }
        free.iter().for_each(|(shard, segment)| self.consider(*shard, *segment));
        !free.is_empty()
    }

    /// Gives up the copies in one sealed segment: of those that nothing else keeps the one that would have gone first. Where there is none,
    /// of all: what is kept no more need not be rewritten.
    pub fn give_up_oldest(&mut self) -> Option<GivenUp> {
        let kept = self
            .holdings
            .iter_mut()
            .filter(|(_, holding)| holding.units.is_some() && !holding.kept.is_empty());
        let until = |holding: &Holding| holding.kept.until_s().max(holding.kept.chunks_until_s);
        let stays = |holding: &Holding| !may_unlink(SegmentFacts { kept: false, ..holding.facts() });
        let ((shard, segment), holding) = kept.min_by_key(|(_, holding)| (stays(holding), until(holding)))?;
        let (shard, segment) = (*shard, *segment);
        let units = holding.kept.runs.iter().map(|run| u64::from(run.count)).sum();
        holding.kept = Kept::default();
        self.consider(shard, segment);
        Some(GivenUp { shard, segment, units })
    }

    /// Whether copies are kept in any sealed segment.
    #[must_use]
    pub fn keeps_copies(&self) -> bool {
        self.holdings.values().any(|holding| holding.units.is_some() && !holding.kept.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index_file::{IndexEntry, SegmentIndex};
    use crate::position::{Offset, Stamp};

    const SHARD: ShardId = ShardId(0);
    const CHUNKS: SegmentId = SegmentId(1);
    const CLOSE: SegmentId = SegmentId(2);
    const COPY: SegmentId = SegmentId(3);

    fn index_of(units: u16) -> SegmentIndex {
        let mut entry = IndexEntry::new(Stamp(7), CLOSE, Offset(4096), 128);
        entry.count = units;
        let domains = vec![("example.test".to_owned(), vec![entry])];
        SegmentIndex { domains, units: units.into(), ..SegmentIndex::default() }
    }

    fn run(segment: SegmentId, first: u32, count: u32, until_s: u32) -> KeptRun {
        KeptRun { shard: SHARD, segment, first, count, delivered_s: 100, until_s, replayed: false }
    }

    fn deliver(shelf: &mut Shelf, unit: u32, until_s: u32) {
        shelf.keep(&run(CLOSE, unit, 1, until_s));
        shelf.settle(SHARD, CLOSE, unit, Outcome::Delivered);
    }

    #[test]
    fn copies_keep_their_segment_until_their_time_is_over() {
        let mut shelf = Shelf::default();
        shelf.seal(SHARD, CLOSE, &index_of(2));
        deliver(&mut shelf, 0, 200);
        deliver(&mut shelf, 1, 300);
        assert_eq!(shelf.take_removable(), None);
        assert!(!shelf.let_go(299), "the later one");
        assert_eq!(shelf.kept(), [run(CLOSE, 1, 1, 300)], "of the other one nothing is told any more");
        assert!(shelf.let_go(300));
        assert_eq!(shelf.take_removable(), Some((SHARD, CLOSE)));
        let tally = shelf.tally(SHARD, CLOSE, &index_of(2)).unwrap();
        assert_eq!(tally.rows[0].ended, [0, 0, 0, 2, 0, 0], "settled is settled");
    }

    #[test]
    fn chunks_of_a_kept_message_stay_as_long_as_it_does() {
        let mut shelf = Shelf::default();
        shelf.pin(SHARD, CHUNKS);
        shelf.seal(SHARD, CHUNKS, &SegmentIndex::default());
        shelf.keep_pins(SHARD, CLOSE, 0, 1, vec![CHUNKS]);
        shelf.seal(SHARD, CLOSE, &index_of(1));
        deliver(&mut shelf, 0, 300);
        assert_eq!(shelf.closers(SHARD, CHUNKS), None, "nobody could say whose chunks a rewrite would lose");
        assert_eq!(shelf.take_removable(), None);
        shelf.let_go(300);
        assert_eq!(shelf.take_removable(), Some((SHARD, CHUNKS)));
        assert_eq!(shelf.take_removable(), Some((SHARD, CLOSE)));
    }

    #[test]
    fn a_rewrite_takes_along_what_is_kept() {
        let mut shelf = Shelf::default();
        shelf.seal(SHARD, CLOSE, &index_of(3));
        deliver(&mut shelf, 0, 300);
        shelf.settle(SHARD, CLOSE, 1, Outcome::Expired);
        let matters = [0, 1, 2].map(|unit| shelf.matters(SHARD, CLOSE, unit));
        assert_eq!(matters, [Matters::Kept, Matters::Not, Matters::Owed]);
        let moved = Move { from_base: 0, units: 3, to: COPY, to_base: 5 };
        shelf.copied(SHARD, COPY, &index_of(3), &[(CLOSE, moved)]);
        // An owner that has not heard of the move yet.
        deliver(&mut shelf, 2, 400);
        shelf.leave(SHARD, CLOSE);
        assert_eq!(
            shelf.take_removable(),
            Some((SHARD, CLOSE)),
            "nothing holds up the tally of what was left"
        );
        assert_eq!(shelf.kept(), [run(COPY, 5, 1, 300), run(COPY, 7, 1, 400)]);
    }

    #[test]
    fn what_would_have_gone_first_is_given_up_first() {
        let mut shelf = Shelf::default();
        for (segment, until_s) in [(CLOSE, 400), (COPY, 300)] {
            shelf.seal(SHARD, segment, &index_of(1));
            shelf.keep(&run(segment, 0, 1, until_s));
            shelf.settle(SHARD, segment, 0, Outcome::Delivered);
        }
        let given_up = |segment| Some(GivenUp { shard: SHARD, segment, units: 1 });
        assert_eq!(shelf.give_up_oldest(), given_up(COPY));
        assert_eq!((shelf.take_removable(), shelf.take_removable()), (Some((SHARD, COPY)), None));
        assert_eq!(shelf.give_up_oldest(), given_up(CLOSE));
        assert_eq!((shelf.keeps_copies(), shelf.give_up_oldest()), (false, None));
    }

    #[test]
    fn units_that_end_in_turns_are_one_run_and_their_times_are_known_without_a_look_at_all() {
        let mut shelf = Shelf::default();
        for unit in (0..100).step_by(2).chain((1..100).step_by(2)) {
            shelf.keep(&run(CLOSE, unit, 1, 300));
        }
        assert_eq!(shelf.kept(), [run(CLOSE, 0, 100, 300)]);
        shelf.keep(&run(CLOSE, 100, 2, 200));
        shelf.keep(&run(CLOSE, 102, 1, 400));
        let times = |shelf: &Shelf| {
            let kept = &shelf.holdings[&(SHARD, CLOSE)].kept;
            (kept.earliest_s, kept.latest_s)
        };
        let go = |shelf: &mut Shelf, now_s| assert!(!shelf.let_go(now_s));
        go(&mut shelf, 100);
        assert_eq!(times(&shelf), (200, 400), "nothing is looked at before 200");
        go(&mut shelf, 200);
        assert_eq!(times(&shelf), (300, 400));
        shelf.holdings.get_mut(&(SHARD, CLOSE)).unwrap().kept.forget(&(102..103));
        assert_eq!(times(&shelf), (300, 300));
        shelf.holdings.get_mut(&(SHARD, CLOSE)).unwrap().kept.keep_chunks(250);
        go(&mut shelf, 250);
        assert_eq!((times(&shelf), shelf.kept().len()), ((300, 300), 1));
        assert!(shelf.let_go(300));
    }

    #[test]
    fn copies_whose_segment_goes_with_them_are_given_up_first() {
        let mut shelf = Shelf::default();
        for (segment, units, until_s) in [(CLOSE, 2, 300), (COPY, 1, 400)] {
            shelf.seal(SHARD, segment, &index_of(units));
            shelf.keep(&run(segment, 0, 1, until_s));
            shelf.settle(SHARD, segment, 0, Outcome::Delivered);
        }
        let given_up = |segment| Some(GivenUp { shard: SHARD, segment, units: 1 });
        assert_eq!(shelf.give_up_oldest(), given_up(COPY), "the other one has mail that waits");
        assert_eq!((shelf.take_removable(), shelf.take_removable()), (Some((SHARD, COPY)), None));
        assert_eq!(shelf.give_up_oldest(), given_up(CLOSE));
        assert!(shelf.kept().is_empty());
    }

    #[test]
    fn what_is_told_twice_is_known_once() {
        let mut shelf = Shelf::default();
        for (first, count) in [(0, 4), (6, 1), (0, 8), (2, 1)] {
            shelf.keep(&run(CLOSE, first, count, 300));
        }
        shelf.keep(&KeptRun { replayed: true, ..run(CLOSE, 2, 2, 300) });
        let units = shelf.kept_units(SHARD, CLOSE);
        let replayed: Vec<bool> = (0..8).map(|unit| units.of(unit).expect("kept").replayed).collect();
        assert_eq!(replayed, [false, false, true, true, false, false, false, false]);
        assert_eq!(units.of(8), None);
        assert_eq!(shelf.kept().iter().map(|run| run.count).sum::<u32>(), 8 + 2);
    }
}
