//! What a copy must say about what it leaves out, and what journals said about what it takes along.

use crate::checkpoint::Queued;
use crate::disk::Disk;
use crate::format::checkpoint::{DirectoryRow, HeldUnit, MOVED, Outcomes, set_half};
use crate::format::journal_entry::{FINAL_OUTCOMES, Outcome, Void};
use crate::format::segment_header::Purpose;
use crate::format::tally::{Ledger, TallyRow};
use crate::inspect::{Directory, Known, Loss, Problem, Standing, Walked, describe, outcomes_of};
use crate::position::{SegmentId, ShardId, Stamp};
use crate::segment::path;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Files that are copied.
    pub(super) copied: HashSet<usize>,
    /// Messages whose record can be read and that are lost all the same: file, offset.
    pub(super) broken: HashSet<(usize, u64)>,
    /// Ranges that held what is lost.
    pub(super) voids: BTreeMap<ShardId, BTreeSet<(u32, u64, u64)>>,
    pub(super) ledgers: BTreeMap<ShardId, Ledger>,
    pub(super) outcomes: Vec<Outcomes>,
    pub(super) queued: Queued,
    pub(super) directories: Vec<DirectoryRow>,
    pub(super) left_out: Vec<Problem>,
    pub(super) damaged: u64,
}

impl Books {
    pub(super) fn of<D: Disk>(source: &Directory<D>) -> Self {
        let mut books = Self { ledgers: source.facts.ledgers().clone(), ..Self::default() };
        let standing = Standing::of(source);
        let counted = source.counted(&standing);
        books.choose(source, &standing);
        let mut losses = source.losses(&standing, &counted);
        books.break_messages(source, &counted, &mut losses);
        for loss in &losses {
            books.write_off(source, loss);
        }
        books.leave_out(source);
        books.restate(source, &standing);
        books.hold(source, &counted);
        books.note_stamps(source);
        books
    }

    /// Files with something in them that counts; the others are gone.
    fn choose<D: Disk>(&mut self, source: &Directory<D>, standing: &Standing) {
        for (number, file) in source.files.iter().enumerate() {
            if file.purpose != Purpose::Mail {
                continue;
            }
            let readable = file.header.is_some() && !matches!(file.shown.header, "foreign" | "newer");
            if standing.has(number) && readable && (file.shown.frames > 0 || file.shown.header == "ours") {
                self.copied.insert(number);
                continue;
            }
            self.ledgers.entry(file.shard).or_default().cover(file.segment);
            if standing.has(number) && file.shown.header != "blank" {
                let what = format!("nothing of it can be copied: its header is {}", file.shown.header);
                self.left_out.push(Problem::new(file.shown.path.clone(), None, what));
            }
        }
        for (shard, segment, says) in source.lost_segments() {
            self.ledgers.entry(shard).or_default().cover(segment);
            let what = format!("is not here, though {says}: what it held is lost");
            self.left_out.push(Problem::new(path(shard, Purpose::Mail, segment), None, what));
        }
    }

    /// A message with an open unit and without one of its chunks is lost like one without its record.
    fn break_messages<D: Disk>(
        &mut self,
        source: &Directory<D>,
        counted: &[(Stamp, u32, u32)],
        losses: &mut Vec<Loss>,
    ) {
        let segments: HashSet<_> = self
            .copied
            .iter()
            .map(|number| (source.files[*number].shard, source.files[*number].segment))
            .collect();
        for place in counted {
            let (file, message) = source.at_place(*place);
            let lacks =
                source.lacks_chunk(file, message, |segment| segments.contains(&(file.shard, segment)));
            if !lacks || source.is_settled(file, message) {
                continue;
            }
            let number = place.1 as usize;
            self.broken.insert((number, message.offset));
            losses.extend(losses_of(number, file, message));
        }
    }

    /// Units of a lost record are at an end.
    fn write_off<D: Disk>(&mut self, source: &Directory<D>, loss: &Loss) {
        let domain = loss.domain.map_or("", |domain| &**source.names.name(domain));
        let mut row = TallyRow { domain: domain.to_owned(), accepted: 0, ended: [0; FINAL_OUTCOMES.len()] };
        let mut damaged = 0;
        for outcome in outcomes_of(source, loss) {
            damaged += u64::from(outcome.is_none());
            let outcome = outcome.unwrap_or(Outcome::Damaged);
            row.accepted += 1;
            let place = FINAL_OUTCOMES.iter().position(|known| *known == outcome);
            row.ended[place.expect("only final outcomes are told of a loss")] += 1;
        }
        self.damaged += damaged;
        let what = format!("{}: left out, {damaged} of its units are damaged now", describe(source, loss));
        let place = path(loss.shard, Purpose::Mail, loss.segment);
        self.left_out.push(Problem::new(place, Some(loss.range.start), what));
        let rows = &mut self.ledgers.entry(loss.shard).or_default().rows;
        match rows.binary_search_by(|known| known.domain.cmp(&row.domain)) {
            Ok(at) => rows[at].add(&row),
            Err(at) => rows.insert(at, row),
        }
        if loss.file.is_some_and(|number| self.copied.contains(&number)) {
            let range = (loss.segment.0, loss.range.start, loss.range.end);
            self.voids.entry(loss.shard).or_default().insert(range);
        }
    }

    /// Tells of the rest that is no valid frame.
    fn leave_out<D: Disk>(&mut self, source: &Directory<D>) {
        for file in &source.files {
            for lost in file.lost.iter().filter(|lost| lost.was_durable && lost.message.is_none()) {
                let what = format!("left out: {}", lost.what);
                self.left_out.push(Problem::new(file.shown.path.clone(), Some(lost.offset), what));
            }
        }
        self.left_out.sort();
        self.left_out.dedup();
    }

    /// How units of the copied records ended.
    fn restate<D: Disk>(&mut self, source: &Directory<D>, standing: &Standing) {
        let mut copied: Vec<usize> = self.copied.iter().copied().collect();
        copied.sort_unstable();
        for number in copied {
            let file = &source.files[number];
            // Of a message that neither key nor index tells, facts are all that is known.
            let known = source.facts.halves(file.shard, file.segment);
            let mut halves = if file.opaque > 0 { known.to_vec() } else { Vec::new() };
            let messages = file.messages.iter();
            for message in messages.filter(|message| !self.broken.contains(&(number, message.offset))) {
                let told = source.facts.of(message.stamp).map(|told| told.fact.ordinal.saturating_add(1));
                let units = match file.units_of(message) {
                    0 => told.max().unwrap_or(0),
                    units => u16::try_from(units).unwrap_or(u16::MAX),
                };
                for ordinal in 0..units {
                    let unit = message.unit_base + u32::from(ordinal);
                    let outcome = source.told_of(file, message.stamp, message.unit_base, ordinal);
                    let outcome = outcome.map(|told| told.fact.outcome).filter(|outcome| outcome.is_final());
                    let moved = source.facts.is_moved(file.shard, file.segment, unit)
                        && !standing.is_still_source(file.shard, file.segment);
                    match outcome {
                        _ if moved => set_half(&mut halves, unit, MOVED),
                        Some(outcome) => set_half(&mut halves, unit, outcome.code()),
                        None => {}
                    }
                }
            }
            self.outcomes.extend(Outcomes::parts(file.shard, file.segment, &halves));
        }
    }

    /// What is held of the copied records, and what authentication said of them.
    fn hold<D: Disk>(&mut self, source: &Directory<D>, counted: &[(Stamp, u32, u32)]) {
        let is_copied = |stamp: Stamp| {
            let from = counted.partition_point(|(counted, _, _)| *counted < stamp);
            let mut copies = counted[from..].iter().take_while(|(counted, _, _)| *counted == stamp);
            copies.any(|place| {
                let number = place.1 as usize;
                self.copied.contains(&number)
                    && !self.broken.contains(&(number, source.at_place(*place).1.offset))
            })
        };
        let held = source.facts.all().iter().filter(|told| told.fact.outcome == Outcome::Held);
        let held = held.filter(|told| is_copied(told.fact.stamp)).map(|told| HeldUnit {
            stamp: told.fact.stamp,
            ordinal: told.fact.ordinal,
            code: told.fact.code,
            since_s: told.since_s,
        });
        self.queued.held = held.collect();
        let said = source.facts.authentications().iter().filter(|said| is_copied(said.stamp));
        self.queued.authentications = said.copied().collect();
        self.queued.offered = source.facts.offered().filter(|offered| is_copied(offered.stamp)).collect();
        // Of segments that are not copied nothing is there to keep, and a start passes over it.
        self.queued.kept = source.facts.kept().to_vec();
    }

    fn note_stamps<D: Disk>(&mut self, source: &Directory<D>) {
        let mut last: BTreeMap<ShardId, Stamp> = source.facts.last_stamps().collect();
        last.extend(
            source
                .all_shards()
                .filter(|shard| !last.contains_key(shard))
                .map(|shard| (shard, Stamp::NONE))
                .collect::<Vec<_>>(),
        );
        for file in &source.files {
            for message in &file.messages {
                let highest = last.entry(file.shard).or_default();
                *highest = (*highest).max(message.stamp);
            }
        }
        // No journal is copied: those that count begin behind them.
        let row = |(shard, last_stamp)| {
            let first_journal = Some(SegmentId(last_journal(source, shard).0 + 1));
            DirectoryRow { shard, last_stamp, first_journal }
        };
        self.directories = last.into_iter().map(row).collect();
    }
}

/// The highest number of a journal of the directory.
pub(super) fn last_journal<D>(source: &Directory<D>, shard: ShardId) -> SegmentId {
    let here = source.files.iter().filter(|file| (file.shard, file.purpose) == (shard, Purpose::Journal));
    here.map(|file| file.segment).max().unwrap_or_default()
}

/// The units of a message whose record is here, as lost.
fn losses_of(number: usize, file: &Walked, message: &Known) -> Vec<Loss> {
    let mut first = 0_u16;
    let of_group = |group: &crate::inspect::Group| {
        let start = message.unit_base + u32::from(first);
        let loss = Loss {
            file: Some(number),
            shard: file.shard,
            segment: file.segment,
            range: message.offset..message.offset + 8,
            stamp: Some(message.stamp),
            queue_id: Some(message.queue_id),
            domain: Some(group.domain),
            units: start..start + u32::from(group.units),
            first,
            envelope: "its envelope, and not all of its data".to_owned(),
        };
        first = first.saturating_add(group.units);
        loss
    };
    file.groups_of(message).iter().map(of_group).collect()
}

impl Books {
    /// The voids of a directory, each ending where the next frame of the copy starts.
    pub(super) fn voids_of<'a>(&self, shard: ShardId, starts: impl Fn(u32) -> &'a [u64]) -> Vec<Void> {
        let ranges = self.voids.get(&shard).into_iter().flatten();
        let clip = |(segment, from, to): &(u32, u64, u64)| {
            let starts = starts(*segment);
            let next = starts.get(starts.partition_point(|start| start < from)).copied();
            let to = next.map_or(*to, |next| next.min(*to));
            Void { segment: SegmentId(*segment), from: *from, to }
        };
        ranges.map(clip).collect()
    }
}
