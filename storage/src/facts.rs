//! Facts about units, gathered from all journals of a store (H2, H10).
//!
//! Journals are a union: a unit that any journal settles is settled, whichever shard wrote it and however
//! often; the first final outcome stays. Hold and release, which are not final, take the highest sequence, and what a
//! complete checkpoint restated counts instead of what came before it.

use crate::format::checkpoint::{Checkpoint, DirectoryRow, HeldUnit, MOVED, Outcomes, final_outcome, half};
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::journal_entry::{Authentication, Fact, Outcome};
use crate::format::kept::KeptRun;
use crate::format::offered::Offered;
use crate::format::tally::{Ledger, Part, Tally};
use crate::position::{SegmentId, ShardId, Stamp};
use std::collections::BTreeMap;

/// See the module. Built in two steps: [`Facts::take`] all frames, then [`Facts::finish`].
#[derive(Debug, Default)]
pub struct Facts {
    rows: Vec<Told>,
    authentications: Vec<Authentication>,
    kept: Vec<KeptRun>,
    /// And when that was told.
    offered: Vec<(Offered, Stamp)>,
    outcomes: BTreeMap<(ShardId, SegmentId), Vec<u8>>,
    tallies: BTreeMap<(ShardId, SegmentId), Gathered<Tally>>,
    ledgers: BTreeMap<(ShardId, Stamp), Gathered<Ledger>>,
    finished: BTreeMap<ShardId, Ledger>,
    checkpoint: Stamp,
    directories: Vec<DirectoryRow>,
    last: Stamp,
}

/// A fact and when it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The fact.
    pub fact: Fact,
    /// Its sequence.
    pub sequence: Stamp,
    /// When it became true, in seconds since 1970.
    pub since_s: u32,
}

/// What is known of all frames of one thing.
#[derive(Debug)]
struct Gathered<T> {
    parts: u16,
    seen: BTreeMap<u16, T>,
}

impl<T> Gathered<T> {
    const fn new(parts: u16) -> Self {
        Self { parts, seen: BTreeMap::new() }
    }

    fn add(&mut self, part: Part<T>) {
        self.seen.insert(part.part, part.content);
    }

    /// A thing of which a part is missing says nothing: a crash cut it off before anything hung on it.
    fn is_whole(&self) -> bool {
        self.seen.len() == usize::from(self.parts)
    }
}

impl Facts {
    /// Takes in a frame of a journal; `false` if its payload makes no sense.
    pub fn take(&mut self, header: &FrameHeader, payload: &[u8]) -> bool {
        self.last = self.last.max(header.stamp);
        self.decode(header, payload).is_some()
    }

    fn decode(&mut self, header: &FrameHeader, payload: &[u8]) -> Option<()> {
        let sequence = header.stamp;
        let since_s = u32::try_from(header.received.0 / 1000).unwrap_or(u32::MAX);
        match header.kind {
            FrameKind::Settlement => {
                for fact in Fact::decode_all(payload)? {
                    self.add(Told { fact, sequence, since_s });
                }
                for authentication in Authentication::decode_all(payload) {
                    self.last = self.last.max(authentication.stamp);
                    self.authentications.push(authentication);
                }
                self.kept.extend(KeptRun::decode_all(payload));
                for offered in Offered::decode_all(payload) {
                    self.last = self.last.max(offered.stamp);
                    self.offered.push((offered, sequence));
                }
            }
            FrameKind::Held => {
                for HeldUnit { stamp, ordinal, code, since_s } in HeldUnit::decode_all(payload)? {
                    let fact = Fact { stamp, ordinal, outcome: Outcome::Held, code };
                    self.add(Told { fact, sequence, since_s });
                }
            }
            FrameKind::Tally => {
                let part = Tally::decode(payload)?;
                let place = (part.content.shard, part.content.segment);
                self.tallies.entry(place).or_insert_with(|| Gathered::new(part.parts)).add(part);
            }
            FrameKind::Ledger => {
                let (shard, part) = Ledger::decode(payload)?;
                let ledger = self.ledgers.entry((shard, sequence));
                ledger.or_insert_with(|| Gathered::new(part.parts)).add(part);
            }
            FrameKind::Outcomes => self.add_outcomes(&Outcomes::decode(payload)?),
            FrameKind::Checkpoint => {
                let checkpoint = Checkpoint::decode(payload)?;
                if sequence >= self.checkpoint {
                    self.checkpoint = sequence;
                    self.directories = checkpoint.directories;
                }
            }
            // Facts are true even where their acknowledgement failed, so a journal's voids mean nothing.
            FrameKind::Void | FrameKind::Message | FrameKind::Chunk => {}
        }
        Some(())
    }

    /// A fact that was journalled.
    pub fn add(&mut self, told: Told) {
        self.last = self.last.max(told.sequence).max(told.fact.stamp);
        self.rows.push(told);
    }

    fn add_outcomes(&mut self, more: &Outcomes) {
        let known = self.outcomes.entry((more.shard, more.segment)).or_default();
        let first = more.first as usize / 2;
        if known.len() < first + more.halves.len() {
            known.resize(first + more.halves.len(), 0);
        }
        for (octet, new) in known[first..].iter_mut().zip(&more.halves) {
            // Each half for itself: the first final outcome stays, unless the message went elsewhere with it.
            for shift in [0, 4] {
                let (known, new) = (*octet >> shift & 15, new >> shift & 15);
                if known == 0 || new == MOVED {
                    *octet = *octet & !(15 << shift) | new << shift;
                }
            }
        }
    }

    /// One fact a unit, one ledger a directory.
    pub fn finish(&mut self) {
        let restated = self.checkpoint;
        self.rows.retain(|told| told.fact.outcome.is_final() || told.sequence >= restated);
        self.rows.sort_unstable_by_key(|told| {
            // The first of a unit wins: final outcomes before others, among these the first; else the last.
            let (fact, sequence) = (&told.fact, told.sequence.0);
            let is_final = fact.outcome.is_final();
            (fact.stamp, fact.ordinal, !is_final, if is_final { sequence } else { u64::MAX - sequence })
        });
        self.rows.dedup_by_key(|told| (told.fact.stamp, told.fact.ordinal));
        self.rows.retain(|told| told.fact.outcome != Outcome::Released);
        self.rows.shrink_to_fit();
        // Told once and restated: copies of a message's are alike.
        self.authentications.sort_unstable();
        self.authentications.dedup_by_key(|authentication| authentication.stamp);
        self.authentications.shrink_to_fit();
        self.kept.sort_unstable();
        self.kept.dedup();
        self.kept.shrink_to_fit();
        // Of each message what was told last; a checkpoint restates what is open.
        self.offered.retain(|(_, told)| *told >= restated);
        self.offered.sort_by_key(|(offered, told)| (offered.stamp, offered.first, core::cmp::Reverse(*told)));
        self.offered.dedup_by_key(|(offered, _)| (offered.stamp, offered.first));
        self.offered.retain(|(offered, _)| offered.is_open);
        self.offered.shrink_to_fit();
        self.finish_ledgers();
    }

    fn finish_ledgers(&mut self) {
        // In the order of sequences: the newest whole one of each directory stays.
        for ((shard, _), gathered) in core::mem::take(&mut self.ledgers) {
            if gathered.is_whole() {
                let mut ledger = Ledger::default();
                for part in gathered.seen.into_values() {
                    ledger.gone.extend(part.gone);
                    ledger.rows.extend(part.rows);
                }
                self.finished.insert(shard, ledger);
            }
        }
        for ((shard, segment), gathered) in core::mem::take(&mut self.tallies) {
            if gathered.is_whole() {
                let rows = gathered.seen.into_values().flat_map(|part| part.rows).collect();
                self.finished.entry(shard).or_default().add(&Tally { shard, segment, rows });
            }
        }
    }

    /// The facts about one message, by ordinal.
    pub fn of(&self, stamp: Stamp) -> impl Iterator<Item = &Told> {
        let from = self.rows.partition_point(|told| told.fact.stamp < stamp);
        self.rows[from..].iter().take_while(move |told| told.fact.stamp == stamp)
    }

    /// What authentication said of a message, packed; 0 where nothing is known.
    #[must_use]
    pub fn authentication(&self, stamp: Stamp) -> u32 {
        let place = self.authentications.binary_search_by_key(&stamp, |known| known.stamp);
        place.map_or(0, |place| self.authentications[place].bits)
    }

    /// All of it, in the order of messages.
    #[must_use]
    pub fn authentications(&self) -> &[Authentication] {
        &self.authentications
    }

    /// Whether a message was offered to the primary of a domain, of which `first` is the first recipient, and no outcome was told.
    #[must_use]
    pub fn is_offered(&self, stamp: Stamp, first: u16) -> bool {
        self.offered.binary_search_by_key(&(stamp, first), |(known, _)| (known.stamp, known.first)).is_ok()
    }

    /// All that were, in the order of messages.
    pub fn offered(&self) -> impl Iterator<Item = Offered> {
        self.offered.iter().map(|(offered, _)| *offered)
    }

    /// What is kept of a segment.
    #[must_use]
    pub fn kept_of(&self, shard: ShardId, segment: SegmentId) -> &[KeptRun] {
        let from = self.kept.partition_point(|run| (run.shard, run.segment) < (shard, segment));
        let to = self.kept.partition_point(|run| (run.shard, run.segment) <= (shard, segment));
        &self.kept[from..to]
    }

    /// What is kept of all segments, those that are gone among them.
    #[must_use]
    pub fn kept(&self) -> &[KeptRun] {
        &self.kept
    }

    /// The final outcome of a unit that a checkpoint restated.
    #[must_use]
    pub fn restated(&self, shard: ShardId, segment: SegmentId, unit: u32) -> Option<Outcome> {
        final_outcome(self.half(shard, segment, unit))
    }

    /// Whether a checkpoint restated that a rewrite took the unit along: it is another segment's.
    #[must_use]
    pub fn is_moved(&self, shard: ShardId, segment: SegmentId, unit: u32) -> bool {
        self.half(shard, segment, unit) == MOVED
    }

    /// Half an octet of a restated unit, as `FORMAT.md` has it under "Outcomes"; 0 where nothing was restated.
    #[must_use]
    pub fn half(&self, shard: ShardId, segment: SegmentId, unit: u32) -> u8 {
        half(self.halves(shard, segment), unit)
    }

    /// What was restated of a segment, two units an octet, the lower one in the lower half.
    #[must_use]
    pub fn halves(&self, shard: ShardId, segment: SegmentId) -> &[u8] {
        self.outcomes.get(&(shard, segment)).map_or(&[], Vec::as_slice)
    }

    /// One fact a unit, in the order of messages and recipients.
    #[must_use]
    pub fn all(&self) -> &[Told] {
        &self.rows
    }

    /// What each directory has lost.
    #[must_use]
    pub const fn ledgers(&self) -> &BTreeMap<ShardId, Ledger> {
        &self.finished
    }

    /// The same, to go on with it.
    pub fn take_ledgers(&mut self) -> BTreeMap<ShardId, Ledger> {
        core::mem::take(&mut self.finished)
    }

    /// Whether the segment was tallied: all that it held and that still matters is elsewhere.
    #[must_use]
    pub fn is_gone(&self, shard: ShardId, segment: SegmentId) -> bool {
        self.finished.get(&shard).is_some_and(|ledger| ledger.covers(segment))
    }

    /// The highest stamp that each directory was known to hold at the last checkpoint.
    pub fn last_stamps(&self) -> impl Iterator<Item = (ShardId, Stamp)> {
        self.directories.iter().map(|row| (row.shard, row.last_stamp))
    }

    /// The sequence of the last complete checkpoint; [`Stamp::NONE`] without one.
    #[must_use]
    pub const fn checkpoint(&self) -> Stamp {
        self.checkpoint
    }

    /// The first journal of a directory that still counts: none from here on may have been removed. `None` where the last
    /// checkpoint is that of a program which did not tell.
    #[must_use]
    pub fn first_journal(&self, shard: ShardId) -> Option<SegmentId> {
        let of_shard = self.directories.iter().find(|row| row.shard == shard);
        let is_told = self.directories.iter().any(|row| row.first_journal.is_some());
        match of_shard {
            Some(row) => row.first_journal,
            // Before the first checkpoint, and in a directory that is newer than the last one, nothing was removed.
            None => (is_told || self.checkpoint == Stamp::NONE).then_some(SegmentId(1)),
        }
    }

    /// The highest stamp or sequence that any journal names.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sequence: u64, outcome: Outcome) -> Told {
        let fact = Fact { stamp: Stamp(5), ordinal: 0, outcome, code: 0 };
        Told { fact, sequence: Stamp(sequence), since_s: 0 }
    }

    fn found(all: &[Told], checkpoint: u64) -> Vec<Outcome> {
        let mut facts = Facts { checkpoint: Stamp(checkpoint), ..Facts::default() };
        all.iter().for_each(|told| facts.add(*told));
        facts.finish();
        facts.of(Stamp(5)).map(|told| told.fact.outcome).collect()
    }

    #[test]
    fn h10_journals_are_a_union_and_the_first_final_outcome_stays() {
        let delivered = told(10, Outcome::Delivered);
        let all = [told(20, Outcome::Held), told(30, Outcome::Expired), delivered, delivered];
        assert_eq!(found(&all, 0), [Outcome::Delivered]);
    }

    #[test]
    fn h10_hold_and_release_take_the_highest_sequence() {
        assert_eq!(found(&[told(11, Outcome::Released), told(10, Outcome::Held)], 0), []);
        assert_eq!(found(&[told(12, Outcome::Held), told(11, Outcome::Released)], 0), [Outcome::Held]);
    }

    #[test]
    fn what_a_checkpoint_restated_counts_instead_of_what_came_before() {
        let all = [told(10, Outcome::Held), told(9, Outcome::Delivered)];
        assert_eq!(found(&all[..1], 11), [], "held before, and not restated: released meanwhile");
        assert_eq!(found(&[told(11, Outcome::Held)], 11), [Outcome::Held], "restated");
        assert_eq!(found(&all, 11), [Outcome::Delivered], "a final outcome is for ever");
    }

    #[test]
    fn p4_what_was_offered_last_counts_and_a_checkpoint_restates_it() {
        let row = |stamp, is_open| Offered { stamp: Stamp(stamp), first: 0, is_open };
        let mut facts = Facts { checkpoint: Stamp(50), ..Facts::default() };
        let told = [
            // Told twice in the order of other journals.
            (row(1, false), 62),
            (row(1, true), 61),
            (row(2, false), 61),
            (row(2, true), 62),
            // Before a checkpoint that did not restate it, and restated.
            (row(3, true), 49),
            (row(4, true), 50),
        ];
        facts.offered = told.map(|(offered, told)| (offered, Stamp(told))).to_vec();
        facts.finish();
        assert_eq!(facts.offered().collect::<Vec<_>>(), [row(2, true), row(4, true)]);
        assert_eq!((facts.is_offered(Stamp(2), 0), facts.is_offered(Stamp(2), 1)), (true, false));
        assert!(!facts.is_offered(Stamp(3), 0));
    }

    #[test]
    fn a_tally_counts_when_all_of_its_parts_are_there() {
        let row = |n| crate::format::tally::TallyRow {
            domain: format!("{n:04}.test"),
            accepted: 1,
            ended: [0, 0, 0, 1, 0, 0],
        };
        let tally = Tally { shard: ShardId(0), segment: SegmentId(3), rows: (0..600).map(row).collect() };
        let payloads = tally.encode();
        assert!(payloads.len() > 1);
        for kept in [payloads.len() - 1, payloads.len()] {
            let mut facts = Facts::default();
            for payload in &payloads[..kept] {
                let part = Tally::decode(payload).unwrap();
                let place = (part.content.shard, part.content.segment);
                facts.tallies.entry(place).or_insert_with(|| Gathered::new(part.parts)).add(part);
            }
            facts.finish();
            assert_eq!(facts.is_gone(ShardId(0), SegmentId(3)), kept == payloads.len());
        }
    }
}
