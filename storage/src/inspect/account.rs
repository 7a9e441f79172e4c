//! What counts: of every message just one record, and what is known to have been one and is not any more.
//!
//! A file does not count when its segment was tallied, or when it is a rewrite that a crash cut off. A message does not
//! count in a range that is void, nor in a segment that a finished rewrite took it from (`FORMAT.md`, "Recovery").

use super::{Directory, Group, Known, Walked};
use crate::disk::Disk;
use crate::format::BLOCK_OCTETS;
use crate::format::journal_entry::{Outcome, Void};
use crate::position::{QueueId, SegmentId, ShardId, Stamp};
use core::ops::Range;
use std::collections::{HashMap, HashSet};

/// Which records count.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Files whose records are nobody's, or another's.
    left_out: HashSet<usize>,
    /// Segments that a rewrite was made of which a crash cut off: marks of it in them mean nothing.
    still_sources: HashSet<(ShardId, SegmentId)>,
    /// Messages that a rewrite took out of a segment which is still here.
    moved: HashMap<(ShardId, SegmentId), HashSet<Stamp>>,
}

/// Units of one domain whose record is not here, or not readable, though it was promised.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// The file; `None` if that is lost too.
    pub(crate) file: Option<usize>,
    pub(crate) shard: ShardId,
    pub(crate) segment: SegmentId,
    /// Where it stood: no valid frame starts there.
    pub(crate) range: Range<u64>,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) queue_id: Option<QueueId>,
    /// Its domain's number, if anything tells it.
    pub(crate) domain: Option<u32>,
    /// Numbers of the units in their segment.
    pub(crate) units: Range<u32>,
    /// The ordinal of the first of them.
    pub(crate) first: u16,
    pub(crate) envelope: String,
}

/// Consecutive units of a segment and the octets of their record.
struct Numbered {
    units: Range<u32>,
    octets: Range<u64>,
}

impl Standing {
    pub(crate) fn of<D: Disk>(directory: &Directory<D>) -> Self {
        let mut standing = Self::default();
        let here: HashSet<(ShardId, SegmentId)> = directory
            .files
            .iter()
            .filter(|file| file.is_mail())
            .map(|file| (file.shard, file.segment))
            .collect();
        for (number, file) in directory.files.iter().enumerate().filter(|(_, file)| file.is_mail()) {
            let is_gone = |segment: &SegmentId| directory.facts.is_gone(file.shard, *segment);
            if is_gone(&file.segment) {
                standing.left_out.insert(number);
                continue;
            }
            let sources = file.sources();
            let mut left =
                sources.iter().filter(|source| here.contains(&(file.shard, **source)) && !is_gone(source));
            if !sources.is_empty() && left.clone().count() == sources.len() {
                standing.left_out.insert(number);
                standing.still_sources.extend(sources.iter().map(|source| (file.shard, *source)));
                continue;
            }
            if left.clone().next().is_none() {
                continue;
            }
            let missing = file.index.iter().flat_map(|index| &index.missing).map(|(_, entry)| entry.stamp);
            let stamps: Vec<Stamp> =
                file.messages.iter().map(|message| message.stamp).chain(missing).collect();
            left.by_ref().for_each(|source| {
                standing.moved.entry((file.shard, *source)).or_default().extend(&stamps);
            });
        }
        standing
    }

    /// Whether a rewrite of the segment was cut off.
    pub(crate) fn is_still_source(&self, shard: ShardId, segment: SegmentId) -> bool {
        self.still_sources.contains(&(shard, segment))
    }

    /// Whether anything of the file counts.
    pub(crate) fn has(&self, file: usize) -> bool {
        !self.left_out.contains(&file)
    }

    /// Whether a record of a file counts there. A message moves whole, but what an older checkpoint says of a unit that had
    /// ended before may still stand there.
    pub(crate) fn counts<D: Disk>(
        &self,
        directory: &Directory<D>,
        number: usize,
        (stamp, units, offset): (Stamp, Range<u32>, u64),
    ) -> bool {
        let file = &directory.files[number];
        let place = (file.shard, file.segment);
        let moved = self.moved.get(&place).is_some_and(|moved| moved.contains(&stamp))
            || !self.still_sources.contains(&place)
                && units.into_iter().any(|unit| directory.facts.is_moved(file.shard, file.segment, unit));
        self.has(number) && !moved && !directory.is_void(file, offset)
    }
}

impl<D: Disk> Directory<D> {
    /// Every record that counts: stamp, file, place among its messages; sorted, so that two copies follow each other.
    pub(crate) fn counted(&self, standing: &Standing) -> Vec<(Stamp, u32, u32)> {
        let mut counted = Vec::new();
        for (number, file) in self.files.iter().enumerate().filter(|(number, _)| standing.has(*number)) {
            for (place, message) in file.messages.iter().enumerate() {
                if standing.counts(self, number, (message.stamp, file.numbers_of(message), message.offset)) {
                    let short = |n: usize| u32::try_from(n).expect("fewer files and messages than octets");
                    counted.push((message.stamp, short(number), short(place)));
                }
            }
        }
        counted.sort_unstable();
        counted
    }

    pub(crate) fn at_place(&self, (_, file, place): (Stamp, u32, u32)) -> (&Walked, &Known) {
        let file = &self.files[file as usize];
        (file, &file.messages[place as usize])
    }

    /// What is known of a unit of a message with these copies: what either says of its end holds (H10).
    pub(crate) fn outcome_of(&self, copies: &[(Stamp, u32, u32)], ordinal: u16) -> Option<Outcome> {
        let known = copies.iter().filter_map(|copy| {
            let (file, message) = self.at_place(*copy);
            self.told_of(file, message.stamp, message.unit_base, ordinal).map(|told| told.fact.outcome)
        });
        known.max_by_key(|outcome| outcome.is_final())
    }

    /// Everything that was promised and has no record, apart from what `counted` has elsewhere.
    pub(crate) fn losses(&self, standing: &Standing, counted: &[(Stamp, u32, u32)]) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (number, file) in self.files.iter().enumerate().filter(|(number, _)| standing.has(*number)) {
            if file.is_mail() {
                self.losses_of(standing, number, &mut losses);
            }
        }
        self.orphaned(&mut losses);
        let is_elsewhere =
            |stamp: Stamp| counted.binary_search_by_key(&stamp, |(counted, _, _)| *counted).is_ok();
        losses.retain(|loss| loss.stamp.is_none_or(|stamp| !is_elsewhere(stamp)));
        losses
    }

    fn losses_of(&self, standing: &Standing, number: usize, losses: &mut Vec<Loss>) {
        let file = &self.files[number];
        let mut numbered: Vec<Numbered> = file
            .messages
            .iter()
            .map(|message| Numbered {
                units: message.unit_base..message.unit_base.saturating_add(file.units_of(message)),
                octets: message.offset..message.offset + u64::from(message.octets),
            })
            .collect();
        let missing = file.index.iter().flat_map(|index| &index.missing);
        for (domain, entry) in missing {
            let octets = entry.offset().0..entry.offset().0 + u64::from(entry.frame_octets());
            let whole = entry.units();
            numbered.push(Numbered { units: whole.clone(), octets: octets.clone() });
            if standing.counts(self, number, (entry.stamp, entry.units(), entry.offset().0)) {
                let message = lost_at(file, entry.offset().0);
                losses.push(Loss {
                    stamp: Some(entry.stamp),
                    queue_id: message.map(|message| message.queue_id),
                    domain: Some(*domain),
                    first: entry.first,
                    envelope: message.map_or_else(String::new, |message| message.envelope.clone()),
                    ..unnamed(number, file, octets, whole)
                });
            }
        }
        numbered.sort_unstable_by_key(|numbered| (numbered.units.start, numbered.units.end));
        self.unindexed(standing, number, &mut numbered, losses);
        numbered.sort_unstable_by_key(|numbered| (numbered.units.start, numbered.units.end));
        self.holes(number, &numbered, losses);
    }

    /// Damaged messages that no index knows: their headers tell number and stamp, and the envelope what it can.
    fn unindexed(
        &self,
        standing: &Standing,
        number: usize,
        numbered: &mut Vec<Numbered>,
        losses: &mut Vec<Loss>,
    ) {
        let file = &self.files[number];
        let mut found = Vec::new();
        for lost in file.lost.iter().filter(|lost| lost.was_durable) {
            let Some(message) = &lost.message else { continue };
            let base = message.unit_base;
            let at = numbered.partition_point(|numbered| numbered.units.start < base);
            let next = numbered.get(at).map(|numbered| numbered.units.start);
            if next == Some(base) {
                continue;
            }
            let octets = lost.offset..lost.to;
            let by_envelope: u32 = message.groups.iter().map(|group| u32::from(group.units)).sum();
            let by_facts = self.facts.of(message.stamp).map(|told| u32::from(told.fact.ordinal) + 1).max();
            let end = next.unwrap_or_else(|| base.saturating_add(by_envelope.max(by_facts.unwrap_or(1))));
            found.push(Numbered { units: base..end, octets: octets.clone() });
            if !standing.counts(self, number, (message.stamp, base..end, lost.offset)) {
                continue;
            }
            // A damaged envelope is believed no further than the numbers of the units agree.
            let unknown = [(None, 0, end - base)];
            let told = by_domain(&message.groups);
            let parts = if by_envelope == end - base { &told[..] } else { &unknown[..] };
            for (domain, first, units) in parts {
                let start = base + u32::from(*first);
                losses.push(Loss {
                    stamp: Some(message.stamp),
                    queue_id: Some(message.queue_id),
                    domain: *domain,
                    first: *first,
                    envelope: message.envelope.clone(),
                    ..unnamed(number, file, octets.clone(), start..start + units)
                });
            }
        }
        numbered.extend(found);
    }

    /// Numbers that no record has, below ones that a record has: a record that left no trace but these.
    fn holes(&self, number: usize, numbered: &[Numbered], losses: &mut Vec<Loss>) {
        let file = &self.files[number];
        let (mut end, mut octets_end) = (0, BLOCK_OCTETS as u64);
        for next in numbered {
            let between = octets_end..next.octets.start.max(octets_end);
            if next.units.start > end && self.was_promised(file, &between) {
                losses.push(unnamed(number, file, between, end..next.units.start));
            }
            if next.units.end >= end {
                (end, octets_end) = (next.units.end, next.octets.end.max(octets_end));
            }
        }
    }

    /// Whether a record that stood there was promised, and is not accounted for by a void.
    fn was_promised(&self, file: &Walked, between: &Range<u64>) -> bool {
        let void = |(shard, void): &(ShardId, Void)| {
            let within = between.start <= void.from && void.to <= between.end;
            let covers = void.covers(file.segment, between.end);
            *shard == file.shard && void.segment == file.segment && (within || covers)
        };
        // What lies behind the last durable commit may be what a crash tore; the commit ended with its block.
        let durable = between.start.next_multiple_of(BLOCK_OCTETS as u64) < file.durable_before;
        let damaged = file.lost.iter().any(|lost| lost.was_durable && between.contains(&lost.offset));
        (durable || damaged) && !self.voids.iter().any(void)
    }

    /// What indexes tell of segments that are lost.
    fn orphaned(&self, losses: &mut Vec<Loss>) {
        for orphan in &self.orphans {
            let (shard, segment) = (orphan.shard, orphan.segment);
            if self.facts.is_gone(shard, segment) {
                continue;
            }
            for (domain, entries) in orphan.index.iter().flat_map(|index| &index.domains) {
                let known = self.names.known(domain);
                let voided = |offset: u64| {
                    self.voids.iter().any(|(of, void)| *of == shard && void.covers(segment, offset))
                };
                for entry in entries.iter().filter(|entry| !voided(entry.offset().0)) {
                    let start = entry.offset().0;
                    losses.push(Loss {
                        file: None,
                        shard,
                        segment,
                        range: start..start + u64::from(entry.frame_octets()),
                        stamp: Some(entry.stamp),
                        queue_id: None,
                        domain: known,
                        units: entry.units(),
                        first: entry.first,
                        envelope: String::new(),
                    });
                }
            }
        }
    }
}

fn unnamed(number: usize, file: &Walked, range: Range<u64>, units: Range<u32>) -> Loss {
    let (shard, segment) = (file.shard, file.segment);
    let (file, domain, first, envelope) = (Some(number), None, 0, String::new());
    Loss { file, shard, segment, range, stamp: None, queue_id: None, domain, units, first, envelope }
}

fn lost_at(file: &Walked, offset: u64) -> Option<&super::LostMessage> {
    file.lost.iter().find(|lost| lost.offset == offset)?.message.as_ref()
}

/// Domain, first ordinal and units of each group.
fn by_domain(groups: &[Group]) -> Vec<(Option<u32>, u16, u32)> {
    let mut first = 0_u16;
    let parts = groups.iter().map(|group| {
        let part = (Some(group.domain), first, u32::from(group.units));
        first = first.saturating_add(group.units);
        part
    });
    parts.collect()
}
