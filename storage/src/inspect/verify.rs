//! Everything held against everything: checksums, indexes against segments, order, facts against records.

use super::account::Standing;
use super::{Directory, Known, Lost, Walked};
use crate::disk::Disk;
use crate::format::journal_entry::{Fact, Outcome};
use crate::format::segment_header::Purpose;
use crate::position::{QueueId, Stamp};
use crate::segment::path;
use core::fmt;

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The file, relative to the data directory.
    pub path: String,
    /// Where in it, if it has one place.
    pub offset: Option<u64>,
    /// What.
    pub what: String,
}

impl Problem {
    pub(crate) const fn new(path: String, offset: Option<u64>, what: String) -> Self {
        Self { path, offset, what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{}: offset {offset}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

pub(super) fn verify<D: Disk>(directory: &Directory<D>) -> Vec<Problem> {
    let mut problems = directory.problems.clone();
    missing_shards(directory, &mut problems);
    lost_segments(directory, &mut problems);
    lost_journals(directory, &mut problems);
    let standing = Standing::of(directory);
    for (number, file) in directory.files.iter().enumerate() {
        header(directory, file, &mut problems);
        frames(file, &mut problems);
        index(directory, file, &mut problems);
        stamps(directory, file, &mut problems);
        chunks(directory, &standing, number, &mut problems);
        restated(directory, file, &mut problems);
    }
    let places = Places::of(directory);
    across_files(directory, &places, &mut problems);
    facts(directory, &places, &mut problems);
    ledgers(directory, &mut problems);
    problems.sort();
    problems.dedup();
    problems
}

/// Where messages are, by stamp: file, place among its messages.
struct Places(Vec<(Stamp, u32, u32)>);

impl Places {
    fn of<D>(directory: &Directory<D>) -> Self {
        let mut places = Vec::new();
        for (number, file) in (0..).zip(&directory.files) {
            places.extend((0..).zip(&file.messages).map(|(place, message)| (message.stamp, number, place)));
        }
        places.sort_unstable();
        Self(places)
    }

    /// The first record with this stamp.
    fn find(&self, stamp: Stamp) -> Option<(Stamp, u32, u32)> {
        let at = self.0.partition_point(|(other, _, _)| *other < stamp);
        self.0.get(at).filter(|(other, _, _)| *other == stamp).copied()
    }
}

pub(super) fn missing_shards<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for shard in directory.missing_shards() {
        let what = "a shard directory that the store knows is missing".to_owned();
        problems.push(Problem::new(shard.to_string(), None, what));
    }
}

/// An index without its segment is what a crash leaves of an unlink; but then there is a tally. And each segment that
/// another one was made behind is here or tallied.
pub(super) fn lost_segments<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for (shard, segment, says) in directory.lost_segments() {
        let what = format!("missing, though {says} and no tally says that it was unlinked");
        problems.push(Problem::new(path(shard, Purpose::Mail, segment), None, what));
    }
}

/// A journal goes only when a checkpoint has restated it, and says so.
pub(super) fn lost_journals<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for (shard, journal) in directory.lost_journals() {
        let what = "missing, and no checkpoint says that it may be gone: its facts are lost, mail may be delivered again";
        problems.push(Problem::new(path(shard, Purpose::Journal, journal), None, what.to_owned()));
    }
}

fn header<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let what = match file.shown.header {
        "damaged" => "the header is damaged",
        "foreign" => "a file of another store",
        "newer" => "written by a newer version",
        "blank" if file.index.is_some() => "all zeros, though its index says that it held mail",
        _ => "",
    };
    let mut complain = |offset, what: String| {
        problems.push(Problem::new(file.shown.path.clone(), Some(offset), what));
    };
    if !what.is_empty() {
        complain(0, what.to_owned());
    }
    let Some(header) = &file.header else { return };
    if (header.segment, header.shard, header.purpose) != (file.segment, file.shard, file.purpose) {
        complain(0, "the header is that of a file with another name".to_owned());
    }
    if file.shown.octets < header.size {
        let what = format!("{} octets of {}: the file was cut off", file.shown.octets, header.size);
        complain(file.shown.octets, what);
    }
    if header.before().any(|before| before >= header.segment) {
        complain(0, "it names a segment before it that is not before it".to_owned());
    }
    // Without keys there is nothing to hold the check against.
    if let Some(mark) = header.key.filter(|_| !directory.keys.is_empty())
        && let Err(error) = directory.keys.verify(mark, header.store)
    {
        complain(0, error.to_string());
    }
}

/// What is no frame is damage, unless it is what a crash left: above all that was known to be durable, in a
/// segment that was sealed without it.
fn frames(file: &Walked, problems: &mut Vec<Problem>) {
    for Lost { offset, what, was_durable, .. } in &file.lost {
        if *was_durable {
            problems.push(Problem::new(file.shown.path.clone(), Some(*offset), what.clone()));
        } else if file.index.is_none() {
            let what = format!("{what}; no later record vouches for it, so a crash may have torn it");
            problems.push(Problem::new(file.shown.path.clone(), Some(*offset), what));
        }
    }
}

pub(super) fn index<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let Some(compared) = &file.index else { return };
    let mut complain = |offset, what: &str| {
        problems.push(Problem::new(file.shown.path.clone(), Some(offset), what.to_owned()));
    };
    for (_, entry) in &compared.missing {
        complain(entry.offset().0, "the index names a record that is not here");
    }
    for (offset, what) in compared.differences.iter().filter(|(offset, _)| !directory.is_void(file, *offset))
    {
        complain(*offset, what);
    }
    let is_void = |base: &u32| {
        let of = file.messages.iter().find(|message| message.unit_base == *base);
        of.is_some_and(|message| directory.is_void(file, message.offset))
    };
    if compared.differs || !compared.pins_found.iter().all(is_void) {
        complain(0, "the index tells other voids or pinned chunks than the records");
    }
}

fn stamps<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let floor = file.header.as_ref().map_or(Stamp::NONE, |header| header.stamp_floor);
    let ceiling = directory.store.map_or(Stamp(u64::MAX), |store| store.stamp_ceiling);
    // A rewrite copies from several segments, each in its own order.
    let rewritten = !file.sources().is_empty();
    let mut last = Stamp::NONE;
    for message in &file.messages {
        let what = if message.stamp <= last && !rewritten {
            format!("stamp {} is not above {} before it", message.stamp.0, last.0)
        } else if message.stamp < floor {
            format!("stamp {} is below the floor {} of its segment", message.stamp.0, floor.0)
        } else if message.stamp >= ceiling {
            format!("stamp {} is not below the ceiling {} of the store", message.stamp.0, ceiling.0)
        } else {
            last = message.stamp;
            continue;
        };
        problems.push(Problem::new(file.shown.path.clone(), Some(message.offset), what));
    }
}

/// A message that counts here and is not settled has all its chunks.
fn chunks<D: Disk>(
    directory: &Directory<D>,
    standing: &Standing,
    number: usize,
    problems: &mut Vec<Problem>,
) {
    let file = &directory.files[number];
    let large = file.messages.iter().filter(|message| !file.chunks_of(message).is_empty());
    let live = large.filter(|message| !directory.is_settled(file, message));
    let place = |message: &Known| (message.stamp, file.numbers_of(message), message.offset);
    for message in live.filter(|message| standing.counts(directory, number, place(message))) {
        for chunk in file.chunks_of(message) {
            let found = directory.chunks.get(&(file.shard, chunk.segment, chunk.offset.0));
            if found != Some(&chunk.octets) {
                let path = path(file.shard, Purpose::Mail, chunk.segment);
                let (queue_id, shown) = (message.queue_id, &file.shown.path);
                let what = format!("no chunk here for message {queue_id} ({shown} at {})", message.offset);
                problems.push(Problem::new(path, Some(chunk.offset.0), what));
            }
        }
    }
}

/// A checkpoint restates nothing of units that the segment never had.
fn restated<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let missing = file.index.iter().flat_map(|index| &index.missing).map(|(_, entry)| entry.units().end);
    let ends = file.messages.iter().map(|message| message.unit_base.saturating_add(file.units_of(message)));
    let units = ends.chain(missing).max().unwrap_or(0);
    let whole = file.is_mail() && file.lost.is_empty() && file.opaque == 0 && file.header.is_some();
    let halves = directory.facts.halves(file.shard, file.segment);
    let last = halves.iter().rposition(|octet| *octet != 0).unwrap_or(0);
    let last = last * 2 + usize::from(halves.get(last).is_some_and(|octet| octet >> 4 != 0));
    if whole && halves.iter().any(|octet| *octet != 0) && last >= units as usize {
        let what = format!("a checkpoint tells the outcome of unit {last}, and it has {units}");
        problems.push(Problem::new(file.shown.path.clone(), None, what));
    }
}

/// Two records with one stamp are copies of one message; two messages have two queue ids.
fn across_files<D: Disk>(directory: &Directory<D>, places: &Places, problems: &mut Vec<Problem>) {
    let mut names: Vec<(QueueId, u32, u32)> = Vec::new();
    for copies in places.0.chunk_by(|one, other| one.0 == other.0) {
        let (file, first) = directory.at_place(copies[0]);
        let identity = (first.queue_id, file.groups_of(first));
        let named = |file: &Walked, of: &Known| of.groups == 0 && file.locked > 0;
        for copy in &copies[1..] {
            let (other_file, other) = directory.at_place(*copy);
            let same = (other.queue_id, other_file.groups_of(other)) == identity;
            // Of a locked message without an index nobody knows the units.
            if !same && !named(file, first) && !named(other_file, other) {
                let what = format!("stamp {} is also that of another message", copies[0].0.0);
                problems.push(Problem::new(other_file.shown.path.clone(), Some(other.offset), what));
            }
        }
        names.push((first.queue_id, copies[0].1, copies[0].2));
    }
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].0.0 != 0) {
        let (file, message) = directory.at_place((Stamp::NONE, pair[1].1, pair[1].2));
        let what = format!("queue id {} is also that of another message", message.queue_id);
        problems.push(Problem::new(file.shown.path.clone(), Some(message.offset), what));
    }
}

fn facts<D: Disk>(directory: &Directory<D>, places: &Places, problems: &mut Vec<Problem>) {
    let ceiling = directory.store.map_or(Stamp(u64::MAX), |store| store.stamp_ceiling);
    let mut complain = |file: u32, offset, what| {
        problems.push(Problem::new(directory.files[file as usize].shown.path.clone(), Some(offset), what));
    };
    for (file, offset, Fact { stamp, ordinal, .. }) in &directory.told {
        if *stamp >= ceiling {
            complain(*file, *offset, format!("a fact about stamp {}, which nobody was given", stamp.0));
        }
        // A message whose segment was unlinked has left its facts.
        let Some(copy) = places.find(*stamp) else { continue };
        let (of, message) = directory.at_place(copy);
        let units = of.units_of(message);
        if u32::from(*ordinal) >= units && message.groups > 0 {
            let what = format!("a fact about recipient {ordinal} of stamp {}, which has {units}", stamp.0);
            complain(*file, *offset, what);
        }
    }
    // What is held keeps its segment.
    for told in directory.facts.all().iter().filter(|told| told.fact.outcome == Outcome::Held) {
        let Fact { stamp, ordinal, .. } = told.fact;
        if places.find(stamp).is_none() {
            let what =
                format!("recipient {ordinal} of stamp {} is held, and its record is not here", stamp.0);
            problems.push(Problem::new("journals".to_owned(), None, what));
        }
    }
}

/// What is remembered of segments that are gone balances (P2).
pub(super) fn ledgers<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for (shard, ledger) in directory.facts.ledgers() {
        for row in ledger.rows.iter().filter(|row| row.accepted != row.total()) {
            let (domain, accepted, ended) = (&row.domain, row.accepted, row.total());
            let what = format!("of segments that are gone {domain} had {accepted} units, and {ended} ended");
            let mut places = directory.unbalanced.iter().rev();
            let place = places.find(|(_, _, of, name)| of == shard && name == domain);
            problems.push(match place {
                Some((file, offset, ..)) => Problem::new(
                    directory.files[*file].shown.path.clone(),
                    Some(*offset),
                    format!("{shard}: {what}"),
                ),
                None => Problem::new(shard.to_string(), None, what),
            });
        }
    }
}
