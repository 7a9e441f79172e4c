//! The ledger, recounted (P2): it reads records, facts and what unlinks left behind, and no counter.
//!
//! Accepted units are those of the records that are here, of what is known of records that are lost, and those that tallies
//! counted when their segment was unlinked. What became of a unit tell the journals. A unit whose record is lost and of
//! which no fact says that it ended is accepted and nothing else, so its row does not balance.

use super::account::{Loss, Standing};
use super::verify::{index, ledgers, lost_journals, lost_segments, missing_shards};
use super::{Directory, Problem};
use crate::disk::Disk;
use crate::format::journal_entry::{FINAL_OUTCOMES, Fact, Outcome};
use crate::format::segment_header::Purpose;
use crate::ledger::{Ledger, Row};
use crate::position::Stamp;
use crate::segment::path;

/// The ledger of a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audit {
    /// A row a domain, sorted; units whose domain nothing tells in one with an empty name.
    pub rows: Vec<Row>,
    /// Why it cannot be believed, or what does not balance: a row, or a file with the offset.
    pub problems: Vec<Problem>,
}

impl Audit {
    /// Whether every unit that was accepted is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.problems.is_empty() && self.rows.iter().all(Row::balances)
    }
}

pub(super) fn audit<D: Disk>(directory: &Directory<D>) -> Audit {
    let mut ledger = Ledger::default();
    // An index is derived: a lost one hides no unit.
    let of_records = |problem: &&Problem| !problem.path.ends_with(".index");
    let mut problems: Vec<Problem> = directory.problems.iter().filter(of_records).cloned().collect();
    missing_shards(directory, &mut problems);
    lost_segments(directory, &mut problems);
    lost_journals(directory, &mut problems);
    ledgers(directory, &mut problems);
    for row in directory.facts.ledgers().values().flat_map(|gone| &gone.rows) {
        ledger.add(row);
    }
    let standing = Standing::of(directory);
    let counted = directory.counted(&standing);
    let losses = directory.losses(&standing, &counted);
    records(directory, &counted, &mut ledger);
    for loss in &losses {
        lost(directory, loss, &mut ledger, &mut problems);
    }
    for (number, file) in directory.files.iter().enumerate().filter(|(number, _)| standing.has(*number)) {
        if file.is_mail() {
            index_alone(directory, number, &losses, &mut problems);
            uncountable(directory, number, &mut problems);
        } else {
            journal(directory, number, &mut problems);
        }
    }
    told_of_nobody(directory, &counted, &losses, &mut problems);
    let rows: Vec<Row> = ledger.into_rows().collect();
    problems.sort();
    problems.dedup();
    Audit { rows, problems }
}

/// Units of the records that are here. A message with two copies counts once (H10); what either says of a unit holds.
fn records<D: Disk>(directory: &Directory<D>, counted: &[(Stamp, u32, u32)], ledger: &mut Ledger) {
    for copies in counted.chunk_by(|one, other| one.0 == other.0) {
        let (file, message) = directory.at_place(copies[0]);
        let mut ordinal = 0_u16;
        for group in file.groups_of(message) {
            let domain = directory.names.name(group.domain);
            ledger.accept(domain, group.units.into());
            for _ in 0..group.units {
                ledger.account(domain, directory.outcome_of(copies, ordinal), 1);
                ordinal = ordinal.saturating_add(1);
            }
        }
    }
}

/// How the units of a lost record ended, each.
pub(crate) fn outcomes<D: Disk>(directory: &Directory<D>, loss: &Loss) -> Vec<Option<Outcome>> {
    let known = |(number, unit): (u16, u32)| {
        let ordinal = loss.first.saturating_add(number);
        let told = || directory.facts.of(loss.stamp?).find(|told| told.fact.ordinal == ordinal);
        let told = || told().map(|told| told.fact.outcome).filter(|outcome| outcome.is_final());
        directory.facts.restated(loss.shard, loss.segment, unit).or_else(told)
    };
    (0..).zip(loss.units.clone()).map(known).collect()
}

fn lost<D: Disk>(directory: &Directory<D>, loss: &Loss, ledger: &mut Ledger, problems: &mut Vec<Problem>) {
    let domain = loss.domain.map_or("", |domain| &**directory.names.name(domain));
    let mut open = 0;
    for outcome in outcomes(directory, loss) {
        ledger.accept(domain, 1);
        match outcome {
            Some(outcome) => ledger.account(domain, Some(outcome), 1),
            None => open += 1,
        }
    }
    if open > 0 {
        let path = path(loss.shard, Purpose::Mail, loss.segment);
        let what =
            format!("{}: {open} units lost, no fact tells what became of them", describe(directory, loss));
        problems.push(Problem::new(path, Some(loss.range.start), what));
    }
}

/// A lost record in words: queue id, stamp, domain, envelope as far as they are known.
pub(crate) fn describe<D>(directory: &Directory<D>, loss: &Loss) -> String {
    let mut text = "a record".to_owned();
    let mut add = |part: String| text.push_str(&part);
    if let Some(queue_id) = loss.queue_id {
        add(format!(" {queue_id}"));
    }
    if let Some(stamp) = loss.stamp {
        add(format!(" with stamp {}", stamp.0));
    }
    match loss.domain {
        Some(domain) => add(format!(" for {} of {}", loss.units.len(), directory.names.name(domain))),
        None => add(format!(" for {} of nobody knows where", loss.units.len())),
    }
    if !loss.envelope.is_empty() {
        add(format!(" (as far as it can be read {})", loss.envelope));
    }
    text
}

/// Index and records tell the same units, but for records whose loss is accounted for.
fn index_alone<D: Disk>(
    directory: &Directory<D>,
    number: usize,
    losses: &[Loss],
    problems: &mut Vec<Problem>,
) {
    let file = &directory.files[number];
    let mut found = Vec::new();
    index(directory, file, &mut found);
    let lost = |offset| file.lost.iter().any(|lost| lost.offset <= offset && offset < lost.to);
    let open = |offset| {
        let mut here = losses.iter().filter(|loss| loss.file == Some(number) && loss.range.start == offset);
        here.any(|loss| outcomes(directory, loss).contains(&None))
    };
    problems.extend(found.into_iter().filter(|problem| {
        // A damaged record whose units ended is damage, which `verify` tells, and no error of the ledger.
        problem.offset.is_none_or(|offset| !lost(offset) && !open(offset))
    }));
}

/// Files of which nothing can be counted, and messages that cannot be opened.
fn uncountable<D: Disk>(directory: &Directory<D>, number: usize, problems: &mut Vec<Problem>) {
    let file = &directory.files[number];
    let what = match file.shown.header {
        "damaged" | "foreign" | "newer" | "unreadable" if file.header.is_none() => {
            format!("nothing in it can be counted: its header is {}", file.shown.header)
        }
        _ if file.opaque > 0 => {
            format!("{} messages cannot be counted: neither their key nor an index is here", file.opaque)
        }
        _ => return,
    };
    problems.push(Problem::new(file.shown.path.clone(), None, what));
}

/// Facts that are lost may have ended units, or tallied a segment.
fn journal<D: Disk>(directory: &Directory<D>, number: usize, problems: &mut Vec<Problem>) {
    let file = &directory.files[number];
    if file.header.is_none() && file.shown.header != "blank" {
        let what = "a journal whose facts cannot be read".to_owned();
        problems.push(Problem::new(file.shown.path.clone(), None, what));
    }
    for lost in file.lost.iter().filter(|lost| lost.was_durable) {
        let what = format!("facts are lost: {}", lost.what);
        problems.push(Problem::new(file.shown.path.clone(), Some(lost.offset), what));
    }
}

/// A fact is about a unit of a record, or about one that a tally counted. Tallies name no stamps: there may be no more
/// of such facts than they count, outcome by outcome.
fn told_of_nobody<D: Disk>(
    directory: &Directory<D>,
    counted: &[(Stamp, u32, u32)],
    losses: &[Loss],
    problems: &mut Vec<Problem>,
) {
    let stamps: std::collections::HashSet<Stamp> = losses.iter().filter_map(|loss| loss.stamp).collect();
    let here = |stamp: Stamp| counted.binary_search_by_key(&stamp, |(counted, _, _)| *counted).is_ok();
    let nobodys = |fact: &Fact| !here(fact.stamp) && !stamps.contains(&fact.stamp);
    let place_of = |fact: &Fact| directory.told.iter().rfind(|(_, _, told)| told == fact);
    let mut complain = |fact: &Fact, what: String| {
        let place = place_of(fact)
            .map(|(file, offset, _)| (directory.files[*file as usize].shown.path.clone(), *offset));
        let (path, offset) =
            place.map_or(("journals".to_owned(), None), |(path, offset)| (path, Some(offset)));
        problems.push(Problem::new(path, offset, what));
    };
    for (place, outcome) in FINAL_OUTCOMES.into_iter().enumerate() {
        let rows = directory.facts.ledgers().values().flat_map(|ledger| &ledger.rows);
        let tallied: u64 = rows.map(|row| row.ended[place]).fold(0, u64::saturating_add);
        let facts = directory.facts.all().iter().map(|told| &told.fact);
        let mut unknown = facts.filter(|fact| fact.outcome == outcome && nobodys(fact));
        let Some(first) = unknown.next() else { continue };
        let told = 1 + unknown.count() as u64;
        if told > tallied {
            let word = super::records::outcome_word(outcome);
            let what = format!(
                "{told} units are told {word} that no record has, recipient {} of stamp {} the first; tallies count {tallied}",
                first.ordinal, first.stamp.0
            );
            complain(first, what);
        }
    }
    for told in directory.facts.all() {
        let Fact { stamp, ordinal, .. } = told.fact;
        let Ok(at) = counted.binary_search_by_key(&stamp, |(counted, _, _)| *counted) else { continue };
        let (file, message) = directory.at_place(counted[at]);
        let units = file.units_of(message);
        if u32::from(ordinal) >= units && message.groups > 0 {
            complain(
                &told.fact,
                format!("a fact about recipient {ordinal} of stamp {}, which has {units}", stamp.0),
            );
        }
    }
}
