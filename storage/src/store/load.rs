//! Reading journals and segments of all shard directories.

use super::{Backlog, Finding, FindingKind, Numbers, Queued, all_settled, at, note_numbers};
use crate::disk::{Disk, read_whole, write_whole};
use crate::error::{DiskError, OpenError};
use crate::facts::Facts;
use crate::format::frame::FrameKind;
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::{Fact, Tally, Void};
use crate::format::segment_header::{HeaderError, Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::position::{SegmentId, ShardId, Stamp};
use crate::segment::contents::leave_out;
use crate::segment::recover::{FirstBlock, HeaderState, IndexState, Row, decide, first_block, scan};
use crate::segment::scan::{Found, walk};
use crate::segment::{index_name, parse_name, path};
use crate::shelf::Shelf;
use std::collections::BTreeMap;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) facts: Facts,
    /// Facts about units of segments that are still there.
    pub(super) kept: Vec<Fact>,
    pub(super) shelves: Vec<Shelf>,
    pub(super) backlogs: Vec<Backlog>,
    pub(super) findings: Vec<Finding>,
    pub(super) last_stamp: Stamp,
    pub(super) journals: Vec<(ShardId, SegmentId)>,
    numbers: Numbers,
}

impl Loaded {
    /// The numbers of the first segments that `shard` makes: mail, journal.
    pub(super) fn next_segments(&self, shard: ShardId) -> (SegmentId, SegmentId) {
        let next =
            |purpose| self.numbers.get(&(shard, purpose)).map_or(SegmentId(1), |id| SegmentId(id.0 + 1));
        (next(Purpose::Mail), next(Purpose::Journal))
    }

    /// The checkpoint used journal numbers up to `segment`.
    pub(super) fn journals_end(&mut self, shard: ShardId, segment: SegmentId) {
        self.numbers.insert((shard, Purpose::Journal), segment);
    }
}

/// Reads everything.
pub(super) async fn load<D: Disk>(
    disk: &D,
    store: &StoreFile,
    shards: &[ShardId],
    running: u16,
) -> Result<Loaded, OpenError> {
    let mut loaded = Loaded::default();
    loaded.shelves.resize_with(running.into(), Shelf::default);
    let mut segments = Vec::new();
    for shard in shards {
        let names = disk.list(&shard.to_string()).await.map_err(|error| at(&shard.to_string(), error))?;
        note_numbers(&mut loaded.numbers, *shard, &names);
        let mut files: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        files.sort_unstable();
        for (purpose, segment) in files {
            match purpose {
                Purpose::Journal => load_journal(disk, store, *shard, segment, &mut loaded).await?,
                Purpose::Mail => segments.push((*shard, segment)),
            }
        }
    }
    loaded.facts.finish();
    loaded.last_stamp = loaded.facts.last();
    for tally in loaded.facts.tallies() {
        // Numbers never return, also where no file is left to tell the highest one.
        let highest = loaded.numbers.entry((tally.shard, Purpose::Mail)).or_insert(tally.segment);
        *highest = (*highest).max(tally.segment);
    }
    let mut indexes = BTreeMap::new();
    let mut unwritten = Vec::new();
    for (shard, segment) in segments {
        let found = load_segment(disk, store, shard, segment, &mut loaded.findings).await?;
        if let Some((index, header)) = found {
            loaded.last_stamp = loaded.last_stamp.max(index.last_stamp);
            indexes.insert((shard, segment), index);
            unwritten.extend(header.map(|header| (shard, header)));
        }
    }
    // Before indexes are written: a void must outlive the segment that holds its record.
    apply_voids(&mut indexes);
    for (shard, header) in unwritten {
        write_index(disk, shard, &header, &indexes[&(shard, header.segment)]).await?;
    }
    shelve(&mut loaded, indexes, running);
    Ok(loaded)
}

async fn load_journal<D: Disk>(
    disk: &D,
    store: &StoreFile,
    shard: ShardId,
    segment: SegmentId,
    loaded: &mut Loaded,
) -> Result<(), OpenError> {
    let path = path(shard, Purpose::Journal, segment);
    let first = first_block(disk, &path, store.store).await;
    let FirstBlock { file, block, state, header } = first.map_err(|error| at(&path, error))?;
    if state == HeaderState::Newer {
        return Err(newer(&path, &block));
    }
    let Some(header) = header else {
        if state == HeaderState::Blank {
            loaded.journals.push((shard, segment));
        } else {
            loaded.findings.push(Finding { path, kind: FindingKind::Journal });
        }
        return Ok(());
    };
    let facts = &mut loaded.facts;
    let mut damaged = false;
    let mut lost = Vec::new();
    let walked = walk(&file, &header, |found| match found {
        Found::Frame { header, payload, .. } => match header.kind {
            FrameKind::Settlement => match Fact::decode_all(payload) {
                Some(all) => all.into_iter().for_each(|fact| facts.add(header.stamp, fact)),
                None => damaged = true,
            },
            FrameKind::Tally => match Tally::decode(payload) {
                Some(tally) => facts.add_tally(header.stamp, tally),
                None => damaged = true,
            },
            // Facts are true even where their acknowledgement failed, so a journal's voids mean nothing.
            FrameKind::Void | FrameKind::Message | FrameKind::Chunk => {}
        },
        Found::DamagedPayload { offset, .. } => lost.push(offset.0),
    })
    .await
    .map_err(|error| at(&path, error))?;
    lost.extend(walked.gaps.iter().map(|gap| gap.range.start));
    damaged |= lost.iter().any(|offset| *offset < walked.durable_before);
    if damaged {
        loaded.findings.push(Finding { path, kind: FindingKind::Journal });
    } else {
        loaded.journals.push((shard, segment));
    }
    Ok(())
}

/// The index of one segment, by the row of the table that it falls into, and the header if the index is still
/// to be written; `None` if the file holds nothing for us.
async fn load_segment<D: Disk>(
    disk: &D,
    store: &StoreFile,
    shard: ShardId,
    segment: SegmentId,
    findings: &mut Vec<Finding>,
) -> Result<Option<(SegmentIndex, Option<SegmentHeader>)>, OpenError> {
    let path = path(shard, Purpose::Mail, segment);
    let first = first_block(disk, &path, store.store).await;
    let FirstBlock { file, block, state, header } = first.map_err(|error| at(&path, error))?;
    let index = load_index(disk, shard, segment, header.as_ref()).await?;
    let index_state = if index.is_some() { IndexState::Valid } else { IndexState::Unusable };
    match (decide(state, index_state), header) {
        (Row::A | Row::C | Row::H, _) => Ok(index.map(|index| (index, None))),
        (Row::B, Some(header)) => {
            let scanned = scan(&file, &header).await.map_err(|error| at(&path, error))?;
            for record in scanned.damaged {
                findings.push(Finding { path: path.clone(), kind: FindingKind::Damaged(record) });
            }
            Ok(Some((scanned.index, Some(header))))
        }
        (Row::D, _) => {
            disk.remove(&path).await.map_err(|error| at(&path, error))?;
            Ok(None)
        }
        (Row::E | Row::B, _) => {
            findings.push(Finding { path, kind: FindingKind::Unreadable });
            Ok(None)
        }
        (Row::F, _) => {
            findings.push(Finding { path, kind: FindingKind::Foreign });
            Ok(None)
        }
        (Row::G, _) => Err(newer(&path, &block)),
    }
}

async fn load_index<D: Disk>(
    disk: &D,
    shard: ShardId,
    segment: SegmentId,
    header: Option<&SegmentHeader>,
) -> Result<Option<SegmentIndex>, OpenError> {
    let path = format!("{shard}/{}", index_name(segment));
    let content = match read_whole(disk, &path).await {
        Ok(content) => content,
        Err(DiskError::NotFound) => return Ok(None),
        Err(error) => return Err(at(&path, error)),
    };
    let salt = header.map(|header| header.salt).or_else(|| SegmentIndex::salt_of(&content));
    Ok(salt.and_then(|salt| SegmentIndex::decode(&content, shard, segment, &salt)))
}

async fn write_index<D: Disk>(
    disk: &D,
    shard: ShardId,
    header: &SegmentHeader,
    index: &SegmentIndex,
) -> Result<(), OpenError> {
    let name = index_name(header.segment);
    let directory = shard.to_string();
    let content = index.encode(shard, header.segment, &header.salt);
    let path = format!("{directory}/{name}");
    match disk.remove(&path).await {
        Ok(()) | Err(DiskError::NotFound) => {}
        Err(error) => return Err(at(&path, error)),
    }
    match write_whole(disk, &directory, &name, &content).await {
        // A full disk must still start and drain: the index is derived, the next start scans again.
        Ok(()) | Err(DiskError::NoSpace) => Ok(()),
        Err(error) => Err(at(&path, error)),
    }
}

/// Takes out entries that a void record of a later segment covers (H8).
fn apply_voids(indexes: &mut BTreeMap<(ShardId, SegmentId), SegmentIndex>) {
    let voids: Vec<(ShardId, Void)> = indexes
        .iter()
        .flat_map(|((shard, _), index)| index.voids.iter().map(move |void| (*shard, *void)))
        .collect();
    for (shard, void) in voids {
        if let Some(index) = indexes.get_mut(&(shard, void.segment)) {
            leave_out(index, &void);
        }
    }
}

/// Puts segments on their shelves, facts onto units, and the rest into the queue.
fn shelve(loaded: &mut Loaded, indexes: BTreeMap<(ShardId, SegmentId), SegmentIndex>, running: u16) {
    for ((shard, segment), index) in &indexes {
        loaded.shelves[usize::from(shard.0 % running)].restore(*shard, *segment, index);
    }
    let mut backlogs: BTreeMap<(String, ShardId), Vec<Queued>> = BTreeMap::new();
    for ((shard, segment), index) in indexes {
        let shelf = &mut loaded.shelves[usize::from(shard.0 % running)];
        for (domain, entries) in index.domains {
            for entry in entries {
                let range = entry.first..entry.first + entry.count;
                let about = loaded.facts.of(entry.stamp).filter(|fact| range.contains(&fact.ordinal));
                let facts: Vec<Fact> = about.copied().collect();
                for fact in &facts {
                    let unit = entry.unit_base + u32::from(fact.ordinal);
                    shelf.settle(shard, segment, unit, &domain, fact.outcome);
                }
                loaded.kept.extend_from_slice(&facts);
                if !all_settled(&loaded.facts, &entry) {
                    backlogs.entry((domain.clone(), shard)).or_default().push(Queued { entry, facts });
                }
            }
        }
    }
    for ((domain, shard), mut queued) in backlogs {
        // Two copies of one record are one (H10).
        queued.sort_by_key(|queued| (queued.entry.stamp, queued.entry.first));
        queued.dedup_by_key(|queued| (queued.entry.stamp, queued.entry.first));
        loaded.backlogs.push(Backlog { domain, shard, queued });
    }
}

fn newer(path: &str, block: &[u8]) -> OpenError {
    let version = match SegmentHeader::decode(block) {
        Err(HeaderError::Newer(version)) => version,
        _ => 0,
    };
    OpenError::Newer { path: path.to_owned(), version }
}
