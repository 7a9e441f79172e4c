//! The segments that a shard keeps: what is settled in each, who pins it, and which may go; and the ledger of those
//! that are gone.
//!
//! Half an octet a unit tells how it ended, so that a million settled units above one stuck message cost half a
//! megabyte (H11), and a checkpoint writes them as they are. A shard also keeps the segments of directories whose shard
//! does not run any more.
//!
//! Facts about units of the active segment arrive before it is sealed and its number of units is known; they
//! wait in the same halves.

mod keeping;

use crate::compaction::horizon::{SegmentFacts, may_unlink};
use crate::format::checkpoint::{MOVED, Outcomes, final_outcome, half, set_half};
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{FINAL_OUTCOMES, Outcome, Void};
use crate::format::tally::{Ledger, Tally, TallyRow};
use crate::position::{SegmentId, ShardId};
use core::ops::Range;
use keeping::Kept;
pub use keeping::{GivenUp, KeptUnits, Matters};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub struct Shelf {
    holdings: BTreeMap<(ShardId, SegmentId), Holding>,
    removable: BTreeSet<(ShardId, SegmentId)>,
    /// Those of them that could not be tallied: they come behind the others.
    stuck: BTreeSet<(ShardId, SegmentId)>,
    ledgers: BTreeMap<ShardId, Ledger>,
}

#[derive(Debug, Default)]
struct Holding {
    /// Units in all; known once sealed.
    units: Option<u64>,
    /// How units ended: 0 open, 1 to 6 a final outcome, [`MOVED`].
    halves: Vec<u8>,
    settled: u64,
    pins: u64,
    /// Segments with voids about this one, pinned as long as it is there.
    voided_by: Vec<SegmentId>,
    /// Messages closed here with chunks elsewhere, by their first unit.
    pinning: BTreeMap<u32, Pinning>,
    /// Where the messages of this segment went, or came from, by their first unit: a rewrite is under way.
    moves: BTreeMap<u32, Move>,
    /// Copies of delivered mail.
    kept: Kept,
}

#[derive(Debug)]
struct Pinning {
    units: u32,
    left: u32,
    segments: Vec<SegmentId>,
}

/// A message that a rewrite took along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The number of its first unit in the segment that it leaves.
    pub from_base: u32,
    /// Its units.
    pub units: u32,
    /// The segment that it goes to.
    pub to: SegmentId,
    /// The number of its first unit there.
    pub to_base: u32,
}

/// A tally that does not balance: the segment stays, an operator must know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{shard} segment {segment:08x}: {accepted} units of {domain} by its records, {ended} by the facts")]
pub struct Unbalanced {
    shard: ShardId,
    segment: u32,
    domain: String,
    accepted: u64,
    ended: u64,
}

/// Units of an index. Those of a voided range were numbered and are nobody's.
fn live_units(index: &SegmentIndex) -> u64 {
    index.domains.iter().flat_map(|(_, entries)| entries).map(|entry| u64::from(entry.count)).sum()
}

impl Holding {
    fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            sealed: self.units.is_some(),
            ended: self.settled,
            unsettled: self.units.unwrap_or(0).saturating_sub(self.settled),
            pins: self.pins,
            moving: !self.moves.is_empty(),
            kept: !self.kept.is_empty(),
        }
    }

    fn half(&self, unit: u32) -> u8 {
        half(&self.halves, unit)
    }

    /// Sets the half of a unit that is open; `false` if it had ended before.
    fn end(&mut self, unit: u32, half: u8) -> bool {
        let fresh = self.half(unit) == 0;
        if fresh {
            set_half(&mut self.halves, unit, half);
            self.settled += 1;
        }
        fresh
    }

    /// The unit is counted elsewhere, however it ended.
    fn move_away(&mut self, unit: u32) {
        self.settled += u64::from(self.half(unit) == 0);
        set_half(&mut self.halves, unit, MOVED);
    }

    /// The pins of the message that `unit` belongs to count one unit less; those that are free then.
    fn release_pins(&mut self, unit: u32) -> Vec<SegmentId> {
        // Units are numbered message by message: this one's message is the last that starts at or before it.
        let message = self.pinning.range_mut(..=unit).next_back();
        let Some((base, pinning)) = message.filter(|(base, pinning)| unit - **base < pinning.units) else {
            return Vec::new();
        };
        let base = *base;
        pinning.left -= 1;
        if pinning.left > 0 {
            return Vec::new();
        }
        self.pinning.remove(&base).map_or_else(Vec::new, |pinning| pinning.segments)
    }

    fn move_of(&self, unit: u32) -> Option<Move> {
        let (_, found) = self.moves.range(..=unit).next_back()?;
        (unit - found.from_base < found.units).then_some(*found)
    }
}

impl Shelf {
    /// A shelf that goes on with what earlier lives remember of the segments that are gone.
    #[must_use]
    pub fn new(ledgers: BTreeMap<ShardId, Ledger>) -> Self {
        Self { ledgers, ..Self::default() }
    }

    /// A message that is arriving, or queued, has a chunk in this segment; or somebody reads it.
    pub fn pin(&mut self, shard: ShardId, segment: SegmentId) {
        self.holdings.entry((shard, segment)).or_default().pins += 1;
    }

    /// Pins a segment that a rewrite takes from, until it is left: a tally of it before that, since all its mail ended meanwhile, would
    /// count what the copy counts too. `false`, and no pin: nothing is left in it, and it may be going already.
    #[must_use]
    pub fn pin_source(&mut self, shard: ShardId, segment: SegmentId) -> bool {
        let holding = self.holdings.get_mut(&(shard, segment));
        let Some(holding) = holding.filter(|holding| !may_unlink(holding.facts())) else { return false };
        holding.pins += 1;
        true
    }

    /// The counterpart of [`Self::pin`] and [`Self::pin_source`].
    pub fn unpin(&mut self, shard: ShardId, segment: SegmentId) {
        let holding = self.holdings.get_mut(&(shard, segment)).expect("a pinned segment stays on the shelf");
        assert!(holding.pins > 0);
        holding.pins -= 1;
        self.consider(shard, segment);
    }

    /// The message whose units start at `unit_base` of `segment` keeps the pins on `chunk_segments` that its
    /// session had, until all its units are settled. Some may be: owners hear of a message before its session.
    pub fn keep_pins(
        &mut self,
        shard: ShardId,
        segment: SegmentId,
        unit_base: u32,
        units: u32,
        chunk_segments: Vec<SegmentId>,
    ) {
        let holding = self.holdings.entry((shard, segment)).or_default();
        let settled = (unit_base..unit_base + units).filter(|unit| holding.half(*unit) != 0).count();
        let left = units - u32::try_from(settled).expect("no more than units");
        if left == 0 {
            for chunk in chunk_segments {
                self.unpin(shard, chunk);
            }
            return;
        }
        let pinning = Pinning { units, left, segments: chunk_segments };
        let earlier = holding.pinning.insert(unit_base, pinning);
        assert!(earlier.is_none(), "a message pins once");
    }

    /// The segment is sealed, with this index.
    pub fn seal(&mut self, shard: ShardId, segment: SegmentId, index: &SegmentIndex) {
        self.holdings.entry((shard, segment)).or_default().units = Some(live_units(index));
        self.restore_voids(shard, segment, &index.voids);
        self.consider(shard, segment);
    }

    /// The void records of a segment keep it as long as the segments that they speak of (H8): an index that leaves
    /// voided entries out may have to be rebuilt, and takes the void for that.
    pub fn restore_voids(&mut self, shard: ShardId, segment: SegmentId, voids: &[Void]) {
        for void in voids {
            if let Some(voided) = self.holdings.get_mut(&(shard, void.segment)) {
                voided.voided_by.push(segment);
                self.pin(shard, segment);
            }
        }
    }

    /// A sealed segment found at start: as [`Self::seal`], with its pins; its voids come when all segments are here.
    pub fn restore(&mut self, shard: ShardId, segment: SegmentId, index: &SegmentIndex) {
        for pin in &index.pins {
            let chunks: Vec<SegmentId> = pin.segments.iter().map(|(chunk, _)| *chunk).collect();
            for chunk in &chunks {
                self.pin(shard, *chunk);
            }
            self.keep_pins(shard, segment, pin.unit_base, pin.units, chunks);
        }
        self.holdings.entry((shard, segment)).or_default().units = Some(live_units(index));
        self.consider(shard, segment);
    }

    /// A unit has a final outcome. Told twice, it counts once.
    pub fn settle(&mut self, shard: ShardId, segment: SegmentId, unit: u32, outcome: Outcome) {
        if !outcome.is_final() {
            return;
        }
        let holding = self.holdings.entry((shard, segment)).or_default();
        let moved = holding.move_of(unit);
        if !holding.end(unit, outcome.code()) {
            return;
        }
        let until_s = holding.kept.until_s();
        for chunk in holding.release_pins(unit) {
            if until_s > 0 {
                self.holdings.entry((shard, chunk)).or_default().kept.keep_chunks(until_s);
            }
            self.unpin(shard, chunk);
        }
        if let Some(moved) = moved {
            self.settle(shard, moved.to, moved.to_base + (unit - moved.from_base), outcome);
        }
        self.consider(shard, segment);
    }

    /// Sealed segments on it.
    #[must_use]
    pub fn sealed_segments(&self) -> usize {
        self.holdings.values().filter(|holding| holding.units.is_some()).count()
    }

    /// A segment that may go, once its tally is durable. It stays on the shelf until [`Self::tallied`].
    pub fn take_removable(&mut self) -> Option<(ShardId, SegmentId)> {
        loop {
            let place = self.removable.pop_first().or_else(|| self.stuck.pop_first())?;
            // Pinned since it was listed, or listed at start before its pins were known: it comes back when
            // they go.
            if self.holdings.get(&place).is_some_and(|holding| may_unlink(holding.facts())) {
                return Some(place);
            }
        }
    }

    /// The tally of a segment that may go: accepted units by the index of its records, ended ones by the facts.
    ///
    /// # Errors
    /// [`Unbalanced`].
    pub fn tally(
        &self,
        shard: ShardId,
        segment: SegmentId,
        index: &SegmentIndex,
    ) -> Result<Tally, Unbalanced> {
        let empty = Holding::default();
        let holding = self.holdings.get(&(shard, segment)).unwrap_or(&empty);
        let mut rows = Vec::new();
        for (domain, entries) in &index.domains {
            let mut row = TallyRow { domain: domain.clone(), accepted: 0, ended: [0; FINAL_OUTCOMES.len()] };
            for entry in entries {
                let first = entry.unit_base + u32::from(entry.first);
                for unit in first..first + u32::from(entry.count) {
                    let half = holding.half(unit);
                    if half == MOVED {
                        continue;
                    }
                    row.accepted += 1;
                    let place = FINAL_OUTCOMES.iter().position(|outcome| outcome.code() == half);
                    if let Some(place) = place {
                        row.ended[place] += 1;
                    }
                }
            }
            let (accepted, ended) = (row.accepted, row.total());
            if accepted != ended {
                let domain = domain.clone();
                return Err(Unbalanced { shard, segment: segment.0, domain, accepted, ended });
            }
            if accepted > 0 {
                rows.push(row);
            }
        }
        Ok(Tally { shard, segment, rows })
    }

    /// It could not be tallied; it will be tried again.
    pub fn put_back(&mut self, shard: ShardId, segment: SegmentId) {
        self.stuck.insert((shard, segment));
    }

    /// The tally is durable: from here the segment is gone, and its file is nobody's. Before anything else is awaited, so that
    /// no checkpoint restates a ledger without it.
    pub fn tallied(&mut self, tally: &Tally) {
        self.ledgers.entry(tally.shard).or_default().add(tally);
        let Some(holding) = self.holdings.remove(&(tally.shard, tally.segment)) else { return };
        for voider in holding.voided_by {
            self.unpin(tally.shard, voider);
        }
    }

    /// A rewrite made the segment `to` of copies, durable with its index. From here until [`Self::leave`] both count: what is
    /// told about a unit in one of them is told about it in the other too, so that a checkpoint may restate either.
    pub fn copied(
        &mut self,
        shard: ShardId,
        to: SegmentId,
        index: &SegmentIndex,
        moves: &[(SegmentId, Move)],
    ) {
        self.restore(shard, to, index);
        self.keep_moved(shard, moves);
        for (source, moved) in moves {
            let Some(holding) = self.holdings.get_mut(&(shard, *source)) else { continue };
            holding.moves.insert(moved.from_base, *moved);
            let ended: Vec<(u32, Outcome)> = (0..moved.units)
                .filter_map(|unit| Some((unit, final_outcome(holding.half(moved.from_base + unit))?)))
                .collect();
            for (unit, outcome) in ended {
                self.settle(shard, to, moved.to_base + unit, outcome);
            }
            let back = Move { from_base: moved.to_base, to: *source, to_base: moved.from_base, ..*moved };
            self.holdings.entry((shard, to)).or_default().moves.insert(moved.to_base, back);
        }
    }

    /// Nobody looks for the moved messages in `source` any more: what is left in it ended.
    pub fn leave(&mut self, shard: ShardId, source: SegmentId) {
        let Some(holding) = self.holdings.get_mut(&(shard, source)) else { return };
        let mut unpinned = Vec::new();
        let moves = core::mem::take(&mut holding.moves);
        // What is kept went along.
        holding.kept = Kept::default();
        for (base, moved) in &moves {
            (*base..base + moved.units).for_each(|unit| holding.move_away(unit));
            unpinned.extend(holding.pinning.remove(base).into_iter().flat_map(|pinning| pinning.segments));
        }
        for moved in moves.values() {
            if let Some(copy) = self.holdings.get_mut(&(shard, moved.to)) {
                copy.moves.remove(&moved.to_base);
                self.consider(shard, moved.to);
            }
        }
        for chunk in unpinned {
            self.unpin(shard, chunk);
        }
        self.consider(shard, source);
    }

    /// Units that a rewrite moved elsewhere before a crash.
    pub fn moved_away(&mut self, shard: ShardId, segment: SegmentId, units: Range<u32>) {
        let holding = self.holdings.entry((shard, segment)).or_default();
        holding.kept.forget(&units);
        let mut unpinned = Vec::new();
        for unit in units {
            if holding.half(unit) == 0 {
                unpinned.extend(holding.release_pins(unit));
            }
            holding.move_away(unit);
        }
        for chunk in unpinned {
            self.unpin(shard, chunk);
        }
        self.consider(shard, segment);
    }

    /// A segment that held nothing of its own is gone.
    pub fn cover(&mut self, shard: ShardId, segment: SegmentId) {
        self.ledgers.entry(shard).or_default().cover(segment);
    }

    /// What is known of each segment: for the plan of the compaction.
    pub fn sealed(&self) -> impl Iterator<Item = (ShardId, SegmentId, SegmentFacts)> {
        self.holdings.iter().map(|((shard, segment), holding)| (*shard, *segment, holding.facts()))
    }

    /// The segments with the closing records of all queued messages that have chunks in this one; `None` if others pin it:
    /// messages that are arriving or kept, voids, or closing records in the active segment.
    #[must_use]
    pub fn closers(&self, shard: ShardId, segment: SegmentId) -> Option<Vec<SegmentId>> {
        let holding = self.holdings.get(&(shard, segment))?;
        if holding.kept.has_chunks() {
            return None;
        }
        let pins = holding.pins;
        let (mut closers, mut known) = (Vec::new(), 0);
        if pins > 0 {
            for ((_, closer), holding) in self.holdings.iter().filter(|((other, _), _)| *other == shard) {
                let pinning = holding.pinning.values().filter(|pinning| pinning.segments.contains(&segment));
                let count = pinning.count() as u64;
                if count > 0 && holding.units.is_some() {
                    closers.push(*closer);
                    known += count;
                }
            }
        }
        (known == pins).then_some(closers)
    }

    /// How a unit ended, as far as it did.
    #[must_use]
    pub fn outcome(&self, shard: ShardId, segment: SegmentId, unit: u32) -> Option<Outcome> {
        final_outcome(self.holdings.get(&(shard, segment))?.half(unit))
    }

    /// What the segments that are gone held.
    #[must_use]
    pub const fn ledgers(&self) -> &BTreeMap<ShardId, Ledger> {
        &self.ledgers
    }

    /// How units ended, of all segments that are here: what a checkpoint restates.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcomes> {
        let settled = self.holdings.iter().filter(|(_, holding)| holding.settled > 0);
        settled.flat_map(|((shard, segment), _)| self.outcomes_of(*shard, *segment)).collect()
    }

    /// How units of one segment ended: a rewrite journals those of its copy before a source goes, since what an earlier
    /// checkpoint restated names the source.
    #[must_use]
    pub fn outcomes_of(&self, shard: ShardId, segment: SegmentId) -> Vec<Outcomes> {
        let halves = self.holdings.get(&(shard, segment)).map_or(&[][..], |holding| &holding.halves);
        Outcomes::parts(shard, segment, halves)
    }

    /// Units in sealed segments, those that ended among them; what a rewrite moved away is counted where it is now.
    #[must_use]
    pub fn units(&self) -> u64 {
        let counted = |holding: &Holding| {
            let halves = holding.halves.iter().flat_map(|octet| [octet & 15, octet >> 4]);
            holding.units.unwrap_or(0).saturating_sub(halves.filter(|half| *half == MOVED).count() as u64)
        };
        self.holdings.values().map(counted).sum()
    }

    /// Segments on the shelf.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holdings.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    /// Octets of memory.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        let halves: usize = self.holdings.values().map(|holding| holding.halves.capacity()).sum();
        halves + self.holdings.len() * size_of::<((ShardId, SegmentId), Holding)>()
    }

    fn consider(&mut self, shard: ShardId, segment: SegmentId) {
        let holding = &self.holdings[&(shard, segment)];
        if may_unlink(holding.facts()) {
            self.removable.insert((shard, segment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index_file::IndexEntry;
    use crate::position::{Offset, Stamp};

    const SHARD: ShardId = ShardId(0);
    const CHUNKS: SegmentId = SegmentId(1);
    const CLOSE: SegmentId = SegmentId(2);
    const COPY: SegmentId = SegmentId(3);

    fn index_of(units: u16) -> SegmentIndex {
        let mut entry = IndexEntry::new(Stamp(7), CLOSE, Offset(4096), 128);
        entry.count = units;
        SegmentIndex {
            domains: vec![("example.test".to_owned(), vec![entry])],
            units: units.into(),
            ..SegmentIndex::default()
        }
    }

    #[test]
    fn h3_chunks_outlive_their_segment_until_the_message_is_settled() {
        let mut shelf = Shelf::default();
        shelf.pin(SHARD, CHUNKS);
        shelf.seal(SHARD, CHUNKS, &SegmentIndex::default());
        assert_eq!(shelf.take_removable(), None, "the message is still arriving");
        shelf.keep_pins(SHARD, CLOSE, 0, 2, vec![CHUNKS]);
        shelf.seal(SHARD, CLOSE, &index_of(2));
        shelf.settle(SHARD, CLOSE, 0, Outcome::Delivered);
        shelf.settle(SHARD, CLOSE, 0, Outcome::Delivered);
        assert_eq!(shelf.take_removable(), None, "one of two recipients, told twice");
        assert!(shelf.tally(SHARD, CLOSE, &index_of(2)).is_err(), "one unit has not ended");
        shelf.settle(SHARD, CLOSE, 1, Outcome::Discarded);
        assert_eq!(shelf.take_removable(), Some((SHARD, CHUNKS)));
        assert_eq!(shelf.take_removable(), Some((SHARD, CLOSE)));
        let tally = shelf.tally(SHARD, CLOSE, &index_of(2)).unwrap();
        assert_eq!((tally.rows[0].accepted, tally.rows[0].ended), (2, [0, 0, 0, 1, 1, 0]));
    }

    #[test]
    fn h3_abandoned_chunks_free_their_segment() {
        let mut shelf = Shelf::default();
        shelf.pin(SHARD, CHUNKS);
        shelf.seal(SHARD, CHUNKS, &SegmentIndex::default());
        shelf.unpin(SHARD, CHUNKS);
        assert_eq!(shelf.take_removable(), Some((SHARD, CHUNKS)));
    }

    #[test]
    fn held_mail_keeps_its_segment() {
        let mut shelf = Shelf::default();
        shelf.settle(SHARD, CLOSE, 0, Outcome::Held);
        shelf.seal(SHARD, CLOSE, &index_of(1));
        assert_eq!(shelf.take_removable(), None);
    }

    /// Found by seed 240 of the whole-node simulator: a flush emptied two segments while they were copied. They were tallied, and the copy,
    /// which named them, counted its messages once more.
    #[test]
    fn a_segment_whose_mail_ends_while_it_is_copied_stays_until_it_is_left() {
        let mut shelf = Shelf::default();
        shelf.seal(SHARD, CLOSE, &index_of(2));
        assert!(shelf.pin_source(SHARD, CLOSE));
        shelf.settle(SHARD, CLOSE, 0, Outcome::Delivered);
        shelf.settle(SHARD, CLOSE, 1, Outcome::Delivered);
        assert_eq!(shelf.take_removable(), None, "the copy may have them");
        let moved = Move { from_base: 0, units: 2, to: COPY, to_base: 0 };
        shelf.copied(SHARD, COPY, &index_of(2), &[(CLOSE, moved)]);
        shelf.leave(SHARD, CLOSE);
        shelf.unpin(SHARD, CLOSE);
        assert_eq!(shelf.take_removable(), Some((SHARD, CLOSE)));
        assert!(!shelf.pin_source(SHARD, CLOSE), "it is going");
    }

    #[test]
    fn what_is_told_about_a_copy_is_told_about_its_source_until_that_is_left() {
        let mut shelf = Shelf::default();
        shelf.seal(SHARD, CLOSE, &index_of(2));
        let moved = Move { from_base: 0, units: 2, to: COPY, to_base: 0 };
        shelf.copied(SHARD, COPY, &index_of(2), &[(CLOSE, moved)]);
        shelf.settle(SHARD, COPY, 1, Outcome::Delivered);
        assert_eq!(
            shelf.outcome(SHARD, CLOSE, 1),
            Some(Outcome::Delivered),
            "a start that removes the copy knows"
        );
        shelf.leave(SHARD, CLOSE);
        shelf.settle(SHARD, COPY, 0, Outcome::Delivered);
        assert_eq!(shelf.outcome(SHARD, CLOSE, 0), None, "it is moved");
    }

    #[test]
    fn h10_a_moved_message_counts_in_one_segment_only() {
        let mut shelf = Shelf::default();
        shelf.seal(SHARD, CLOSE, &index_of(2));
        shelf.settle(SHARD, CLOSE, 0, Outcome::Delivered);
        let moved = Move { from_base: 0, units: 2, to: COPY, to_base: 0 };
        shelf.copied(SHARD, COPY, &index_of(2), &[(CLOSE, moved)]);
        // An owner that has not heard of the move yet.
        shelf.settle(SHARD, CLOSE, 1, Outcome::Expired);
        assert_eq!(shelf.outcome(SHARD, COPY, 1), Some(Outcome::Expired), "there too");
        assert_eq!(shelf.take_removable(), None, "as long as both count, none may go");
        shelf.leave(SHARD, CLOSE);
        assert_eq!(shelf.take_removable(), Some((SHARD, CLOSE)));
        assert_eq!(shelf.take_removable(), Some((SHARD, COPY)));
        assert_eq!(shelf.tally(SHARD, CLOSE, &index_of(2)).unwrap().rows, [], "nothing of its own");
        let counted = shelf.tally(SHARD, COPY, &index_of(2)).unwrap();
        assert_eq!((counted.rows[0].accepted, counted.rows[0].ended), (2, [0, 0, 0, 1, 0, 1]));
    }
}
