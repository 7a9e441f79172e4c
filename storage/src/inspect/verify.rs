//! Everything held against everything: checksums, indexes against segments, order, facts against records.

use super::{Directory, Known, Walked};
use crate::disk::Disk;
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::journal_entry::Fact;
use crate::format::segment_header::Purpose;
use crate::position::{QueueId, ShardId, Stamp};
use crate::segment::contents::leave_out;
use crate::segment::path;
use core::fmt;
use std::collections::{BTreeMap, HashMap};

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
    pub(super) const fn new(path: String, offset: Option<u64>, what: String) -> Self {
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

/// Where a message is: file, place among its messages.
type Places = BTreeMap<Stamp, Vec<(usize, usize)>>;

pub(super) fn verify<D: Disk>(directory: &Directory<D>) -> Vec<Problem> {
    let mut problems = directory.problems.clone();
    missing_shards(directory, &mut problems);
    lost_segments(directory, &mut problems);
    for file in &directory.files {
        header(file, &mut problems);
        frames(file, &mut problems);
        index(directory, file, &mut problems);
        stamps(directory, file, &mut problems);
        chunks(directory, file, &mut problems);
    }
    let places = places_of(directory);
    across_files(directory, &places, &mut problems);
    facts(directory, &places, &mut problems);
    tallies(directory, &mut problems);
    problems.sort();
    problems.dedup();
    problems
}

fn missing_shards<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    let known = directory.store.map_or(0, |store| store.shards);
    for shard in (0..known).map(ShardId).filter(|shard| !directory.shards.contains(shard)) {
        let what = "a shard directory that the store knows is missing".to_owned();
        problems.push(Problem::new(shard.to_string(), None, what));
    }
}

/// An index without its segment is what a crash leaves of an unlink; but then there is a tally.
fn lost_segments<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for (shard, segment) in &directory.orphans {
        if !directory.facts.is_gone(*shard, *segment) {
            let what = "missing, though its index is here and no tally says that it was unlinked".to_owned();
            problems.push(Problem::new(path(*shard, Purpose::Mail, *segment), None, what));
        }
    }
}

fn header(file: &Walked, problems: &mut Vec<Problem>) {
    let what = match file.shown.header {
        "damaged" => "the header is damaged",
        "foreign" => "a file of another store",
        "newer" => "written by a newer version",
        "blank" if file.stored_index.is_some() => "all zeros, though its index says that it held mail",
        _ => "",
    };
    if !what.is_empty() {
        problems.push(Problem::new(file.shown.path.clone(), Some(0), what.to_owned()));
    }
    let Some(header) = &file.header else { return };
    if (header.segment, header.shard, header.purpose) != (file.segment, file.shard, file.purpose) {
        let what = "the header is that of a file with another name".to_owned();
        problems.push(Problem::new(file.shown.path.clone(), Some(0), what));
    }
    if file.shown.octets < header.size {
        let what = format!("{} octets of {}: the file was cut off", file.shown.octets, header.size);
        problems.push(Problem::new(file.shown.path.clone(), Some(file.shown.octets), what));
    }
}

/// What is no frame is damage, unless it is what a crash left: above all that was known to be durable, in a
/// segment that was sealed without it.
fn frames(file: &Walked, problems: &mut Vec<Problem>) {
    for (offset, what, was_durable) in &file.lost {
        if *was_durable {
            problems.push(Problem::new(file.shown.path.clone(), Some(*offset), what.clone()));
        } else if file.stored_index.is_none() {
            let what = format!("{what}; no later record vouches for it, so a crash may have torn it");
            problems.push(Problem::new(file.shown.path.clone(), Some(*offset), what));
        }
    }
}

fn index<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let Some(stored) = &file.stored_index else { return };
    let mut found = file.found_index.clone();
    for (_, void) in directory.voids.iter().filter(|(shard, _)| *shard == file.shard) {
        leave_out(&mut found, void);
    }
    let mut complain = |offset, what: &str| {
        problems.push(Problem::new(file.shown.path.clone(), Some(offset), what.to_owned()));
    };
    let (stored_entries, found_entries) = (by_stamp(stored), by_stamp(&found));
    // Behind a lost record units are numbered differently.
    let whole = file.lost.is_empty();
    for (key, entry) in &stored_entries {
        match found_entries.get(key) {
            None => complain(entry.offset().0, "the index names a record that is not here"),
            Some(other) if whole && *other != *entry => complain(entry.offset().0, "the index differs"),
            Some(_) => {}
        }
    }
    for (key, entry) in &found_entries {
        if !stored_entries.contains_key(key) {
            complain(entry.offset().0, "the index lacks this record");
        }
    }
    if whole && (stored.voids != found.voids || stored.pins != found.pins) {
        complain(0, "the index tells other voids or pinned chunks than the records");
    }
}

fn by_stamp(index: &SegmentIndex) -> BTreeMap<(Stamp, &str, u16), &IndexEntry> {
    let entries = index.domains.iter().flat_map(|(domain, entries)| {
        entries.iter().map(move |entry| ((entry.stamp, domain.as_str(), entry.first), entry))
    });
    entries.collect()
}

fn stamps<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let floor = file.header.as_ref().map_or(Stamp::NONE, |header| header.stamp_floor);
    let ceiling = directory.store.map_or(Stamp(u64::MAX), |store| store.stamp_ceiling);
    // A rewrite copies from several segments, each in its own order.
    let rewritten = file.header.as_ref().is_some_and(|header| !header.sources.is_empty());
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

/// A message that is not settled has all its chunks.
fn chunks<D: Disk>(directory: &Directory<D>, file: &Walked, problems: &mut Vec<Problem>) {
    let live = file.messages.iter().filter(|message| !directory.is_settled(file, message));
    for message in live.filter(|message| !directory.is_void(file, message.offset)) {
        for chunk in &message.chunks {
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

fn places_of<D: Disk>(directory: &Directory<D>) -> Places {
    let mut places = Places::new();
    for (number, file) in directory.files.iter().enumerate() {
        for (place, message) in file.messages.iter().enumerate() {
            places.entry(message.stamp).or_default().push((number, place));
        }
    }
    places
}

/// Two records with one stamp are copies of one message; two messages have two queue ids.
fn across_files<D: Disk>(directory: &Directory<D>, places: &Places, problems: &mut Vec<Problem>) {
    let mut names: HashMap<QueueId, Stamp> = HashMap::new();
    let identity = |message: &Known| (message.queue_id, message.domains.clone());
    for (stamp, copies) in places {
        let mut all = copies.iter().map(|(file, place)| {
            let file = &directory.files[*file];
            (file, &file.messages[*place])
        });
        let Some((file, first)) = all.next() else { continue };
        for (file, other) in all.filter(|(_, other)| identity(other) != identity(first)) {
            let what = format!("stamp {} is also that of another message", stamp.0);
            problems.push(Problem::new(file.shown.path.clone(), Some(other.offset), what));
        }
        if first.queue_id.0 != 0 && names.insert(first.queue_id, *stamp).is_some() {
            let what = format!("queue id {} is also that of another message", first.queue_id);
            problems.push(Problem::new(file.shown.path.clone(), Some(first.offset), what));
        }
    }
}

fn facts<D: Disk>(directory: &Directory<D>, places: &Places, problems: &mut Vec<Problem>) {
    let ceiling = directory.store.map_or(Stamp(u64::MAX), |store| store.stamp_ceiling);
    let mut complain = |file: usize, offset, what| {
        problems.push(Problem::new(directory.files[file].shown.path.clone(), Some(offset), what));
    };
    for (file, offset, Fact { stamp, ordinal, .. }) in &directory.told {
        if *stamp >= ceiling {
            complain(*file, *offset, format!("a fact about stamp {}, which nobody was given", stamp.0));
        }
        // A message whose segment was unlinked has left its facts.
        let Some(copies) = places.get(stamp) else { continue };
        let (of, place) = copies[0];
        let units = directory.files[of].messages[place].units();
        if usize::from(*ordinal) >= units {
            let what = format!("a fact about recipient {ordinal} of stamp {}, which has {units}", stamp.0);
            complain(*file, *offset, what);
        }
    }
}

/// What is remembered of segments that are gone balances (P2), and no segment that another one was made behind is lost.
fn tallies<D: Disk>(directory: &Directory<D>, problems: &mut Vec<Problem>) {
    for (shard, ledger) in directory.facts.ledgers() {
        for row in ledger.rows.iter().filter(|row| row.accepted != row.total()) {
            let (domain, accepted, ended) = (&row.domain, row.accepted, row.total());
            let what = format!("of segments that are gone {domain} had {accepted} units, and {ended} ended");
            problems.push(Problem::new(shard.to_string(), None, what));
        }
    }
    for file in directory.files.iter().filter(|file| file.purpose == Purpose::Mail) {
        let Some(previous) = file.header.as_ref().and_then(|header| header.previous) else { continue };
        let is_here = |other: &Walked| {
            other.purpose == Purpose::Mail && (other.shard, other.segment) == (file.shard, previous)
        };
        if !directory.facts.is_gone(file.shard, previous) && !directory.files.iter().any(is_here) {
            let what = format!(
                "missing, though {} was made behind it and no tally says that it was unlinked",
                file.shown.path
            );
            problems.push(Problem::new(path(file.shard, Purpose::Mail, previous), None, what));
        }
    }
}
