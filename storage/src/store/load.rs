//! Reading journals and segments of all shard directories.
//!
//! Segments of a directory are read from the last to the first: a void speaks of an earlier segment, and so does the
//! header of a rewrite. Each index is taken apart as it comes, so that only what is queued stays in memory.

use super::behind::Behind;
use super::gather::Gathered;
use super::loaded::Loaded;
use super::{FindingKind, StoreOptions, at};
use crate::disk::{Disk, File, read_whole, write_whole};
use crate::error::{DiskError, OpenError};
use crate::facts::Facts;
use crate::format::index_file::SegmentIndex;
use crate::format::segment_header::{HeaderError, Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::position::{SegmentId, ShardId, Stamp};
use crate::segment::recover::{FirstBlock, HeaderState, IndexState, Row, decide, first_block, scan};
use crate::segment::scan::{Found, walk};
use crate::segment::{index_name, indexed_by, parse_name, path, remove};
use crate::shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet};

/// What reading needs everywhere.
struct Context<'a, D> {
    disk: &'a D,
    store: &'a StoreFile,
    options: &'a StoreOptions,
}

/// Reads everything; `is_whole` if no directory is missing.
pub(super) async fn load<D: Disk>(
    disk: &D,
    store: &StoreFile,
    shards: &[ShardId],
    is_whole: bool,
    options: &StoreOptions,
) -> Result<Loaded, OpenError> {
    let context = Context { disk, store, options };
    let mut loaded = Loaded { directories: shards.to_vec(), ..Loaded::default() };
    let mut facts = Facts::default();
    let mut segments: Vec<(ShardId, BTreeSet<SegmentId>)> = Vec::new();
    let mut indexes: Vec<(ShardId, SegmentId)> = Vec::new();
    for shard in shards {
        let names = disk.list(&shard.to_string()).await.map_err(|error| at(&shard.to_string(), error))?;
        let mut files: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        files.sort_unstable();
        let mut mail = BTreeSet::new();
        for (purpose, segment) in files {
            loaded.note_used(*shard, purpose, segment);
            match purpose {
                Purpose::Journal => context.load_journal(*shard, segment, &mut facts, &mut loaded).await?,
                Purpose::Mail => drop(mail.insert(segment)),
            }
        }
        let indexed = names.iter().filter_map(|name| indexed_by(name));
        indexes.extend(indexed.filter(|segment| !mail.contains(segment)).map(|segment| (*shard, segment)));
        segments.push((*shard, mail));
    }
    facts.finish();
    loaded.journals_unread = loaded.incomplete;
    take_ledgers(&mut facts, options.shards, &mut loaded);
    let mut queue = Gathered::default();
    for (shard, mail) in segments {
        context.load_directory(shard, mail, &facts, &mut queue, &mut loaded).await?;
    }
    context.stray_indexes(indexes, &mut loaded).await;
    lost_journals(&facts, is_whole, &mut loaded);
    loaded.totals = queue.totals(facts.ledgers().values());
    loaded.backlogs = queue.finish();
    Ok(loaded)
}

/// Journals that vanished: what they said is not known, so mail may go again; none of it is lost. And which of the empty ones
/// are needless: the others go with the journals that are restated, as each of those may be named by another one.
fn lost_journals(facts: &Facts, is_whole: bool, loaded: &mut Loaded) {
    for (shard, journal) in loaded.chain.lost(facts, is_whole) {
        loaded.journal_lost(path(shard, Purpose::Journal, journal));
    }
    let mut kept: BTreeSet<_> = core::mem::take(&mut loaded.empty_journals).into_iter().collect();
    loaded.empty_journals = loaded.chain.needless(facts, &kept);
    kept.retain(|journal| !loaded.empty_journals.contains(journal));
    loaded.journals.extend(&kept);
    loaded.journals.sort_unstable();
    loaded.kept_journals = kept.into_iter().rev().collect();
}

/// Gives each shelf the ledgers of its directories. Numbers never return, also where no file is left to tell them.
fn take_ledgers(facts: &mut Facts, running: u16, loaded: &mut Loaded) {
    loaded.last_stamp = facts.last();
    for (shard, stamp) in facts.last_stamps() {
        loaded.note_stamp(shard, stamp);
        // Those before it may be gone without a trace, and their numbers must not return: they would look restated.
        let before = facts.first_journal(shard).map_or(0, |first| first.0.saturating_sub(1));
        if before > 0 {
            loaded.note_used(shard, Purpose::Journal, SegmentId(before));
        }
    }
    let mut ledgers: Vec<BTreeMap<_, _>> = (0..running).map(|_| BTreeMap::new()).collect();
    for (shard, ledger) in facts.ledgers() {
        if let Some(last) = ledger.gone.last() {
            let last = SegmentId(*last.end());
            loaded.note_made(*shard, Purpose::Mail, last);
            loaded.note_gone(*shard, Purpose::Mail, last);
        }
        ledgers[usize::from(shard.0 % running)].insert(*shard, ledger.clone());
    }
    loaded.shelves = ledgers.into_iter().map(Shelf::new).collect();
}

/// A segment that was found.
struct Segment {
    index: SegmentIndex,
    /// `None` where it is lost and the index makes up for it.
    header: Option<SegmentHeader>,
    /// The index is to be written.
    scanned: bool,
}

impl<D: Disk> Context<'_, D> {
    async fn load_journal(
        &self,
        shard: ShardId,
        segment: SegmentId,
        facts: &mut Facts,
        loaded: &mut Loaded,
    ) -> Result<(), OpenError> {
        let path = path(shard, Purpose::Journal, segment);
        let Ok(first) = first_block(self.disk, &path, self.store.store).await else {
            loaded.incomplete = true;
            loaded.chain.take(shard, segment, None);
            loaded.journal_unread(shard, segment, path);
            return Ok(());
        };
        let FirstBlock { file, block, state, header } = first;
        if state == HeaderState::Newer {
            return Err(newer(&path, &block));
        }
        if state == HeaderState::Blank {
            loaded.empty_journals.push((shard, segment));
            return Ok(());
        }
        loaded.chain.take(shard, segment, header.as_ref());
        let Some(header) = header else {
            loaded.journal_unread(shard, segment, path);
            return Ok(());
        };
        loaded.note_named(shard, Purpose::Journal, header.before());
        let (mut damaged, mut frames) = (false, 0_u64);
        let mut lost = Vec::new();
        let walked = walk(&file, &header, &self.options.keys, |found| match found {
            Found::Frame { header, payload, .. } => {
                frames += 1;
                damaged |= !facts.take(&header, payload);
            }
            Found::DamagedPayload { offset, .. } | Found::Locked { offset, .. } => lost.push(offset.0),
        })
        .await;
        let Ok(walked) = walked else {
            loaded.incomplete = true;
            loaded.journal_unread(shard, segment, path);
            return Ok(());
        };
        lost.extend(walked.gaps.iter().map(|gap| gap.range.start));
        // What could not be read today may be read tomorrow: no checkpoint may put itself in its place.
        loaded.incomplete |= walked.unreadable > 0;
        damaged |= walked.unreadable > 0 || lost.iter().any(|offset| *offset < walked.durable_before);
        // An empty one may not be durable yet, and nothing is lost with it: no header need name it.
        let is_empty = frames == 0 && lost.is_empty() && !damaged;
        if is_empty {
            loaded.empty_journals.push((shard, segment));
        } else {
            loaded.note_header(shard, (Purpose::Journal, segment), Some(&header));
        }
        if damaged {
            loaded.journal_unread(shard, segment, path.clone());
        } else if !is_empty {
            loaded.journals.push((shard, segment));
        }
        if frames > 0 {
            // Before anything is done that relies on it: what a process wrote that was killed may be in the cache of the disk.
            file.sync().await.map_err(|error| at(&path, error))?;
        }
        Ok(())
    }

    async fn load_directory(
        &self,
        shard: ShardId,
        mail: BTreeSet<SegmentId>,
        facts: &Facts,
        queue: &mut Gathered,
        loaded: &mut Loaded,
    ) -> Result<(), OpenError> {
        let keeper = usize::from(shard.0 % self.options.shards);
        let mut behind = Behind::default();
        let mut shelved = Vec::new();
        // The highest segment whose pins are not known.
        let mut unread = loaded.journals_unread.then_some(SegmentId(u32::MAX));
        let was_incomplete = core::mem::take(&mut loaded.incomplete);
        for segment in mail.iter().rev() {
            if facts.is_gone(shard, *segment) {
                // A crash came between its tally and its unlink.
                self.remove(shard, *segment).await;
                continue;
            }
            let unmoved = |source: &SegmentId| mail.contains(source) && !facts.is_gone(shard, *source);
            let found = self.load_segment(shard, *segment, unmoved, &mut behind, loaded).await?;
            unread = unread.or(loaded.incomplete.then_some(*segment));
            let Some(mut found) = found else { continue };
            let header = found.header.as_ref();
            if let Some(sources) = header.map(|header| &header.sources) {
                behind.note_rewrite(sources, &found.index);
            }
            behind.previous.extend(header.into_iter().flat_map(SegmentHeader::before));
            // Only of what stays: a header that goes names nothing any more.
            loaded.note_header(shard, (Purpose::Mail, *segment), header);
            loaded.note_stamp(shard, found.index.last_stamp);
            behind.apply(*segment, &mut found.index);
            if let Some(header) = found.header.filter(|_| found.scanned) {
                self.write_index(shard, &header, &found.index).await?;
            }
            let shelf = &mut loaded.shelves[keeper];
            shelf.restore(shard, *segment, &found.index);
            facts.kept_of(shard, *segment).iter().for_each(|run| shelf.keep(run));
            behind.leave(shelf, facts, (shard, *segment), &mut found.index);
            shelved.push((*segment, core::mem::take(&mut found.index.voids)));
            queue.take((shard, *segment), found.index, facts, shelf);
        }
        for previous in behind.previous {
            if !mail.contains(&previous) && !facts.is_gone(shard, previous) {
                loaded.incomplete = true;
                unread = unread.max(Some(previous));
                loaded.found(path(shard, Purpose::Mail, previous), FindingKind::Missing);
            }
        }
        loaded.incomplete |= was_incomplete;
        let shelf = &mut loaded.shelves[keeper];
        for (segment, voids) in shelved {
            shelf.restore_voids(shard, segment, &voids);
            if Some(segment) < unread {
                // H3: what could not be read may be the closing records of chunks, or the copies of messages, in earlier
                // segments. These stay for this life.
                shelf.pin(shard, segment);
            }
        }
        Ok(())
    }

    /// One segment, by the row of the table that it falls into; `None` if the file holds nothing for us.
    async fn load_segment(
        &self,
        shard: ShardId,
        segment: SegmentId,
        unmoved: impl Fn(&SegmentId) -> bool,
        behind: &mut Behind,
        loaded: &mut Loaded,
    ) -> Result<Option<Segment>, OpenError> {
        let path = path(shard, Purpose::Mail, segment);
        let Ok(first) = first_block(self.disk, &path, self.store.store).await else {
            return Ok(unreadable(path, loaded));
        };
        let FirstBlock { file, block, state, header } = first;
        if let Some(header) = &header {
            loaded.chain.take_mail(shard, header);
        }
        if let Some(mark) = header.as_ref().and_then(|header| header.key) {
            let known = self.options.keys.verify(mark, self.store.store);
            known.map_err(|error| OpenError::Key { path: path.clone(), error })?;
        }
        let sources = header.as_ref().map_or(&[][..], |header| &header.sources);
        if !loaded.journals_unread && !sources.is_empty() && sources.iter().all(unmoved) {
            behind.note_cut_off(sources);
            // A crash cut the rewrite off: its sources have all of it, and every fact about it. It goes before this start ends,
            // but behind the word that it does: a later header may name it.
            loaded.cut_off.push((shard, segment));
            loaded.shelves[usize::from(shard.0 % self.options.shards)].cover(shard, segment);
            return Ok(None);
        }
        let index = self.load_index(shard, segment, header.as_ref()).await;
        let index_state = if index.is_some() { IndexState::Valid } else { IndexState::Unusable };
        match (decide(state, index_state), header) {
            (Row::A | Row::C | Row::H, header) => {
                Ok(index.map(|index| Segment { index, header, scanned: false }))
            }
            (Row::B, Some(header)) => self.scan_segment(&path, &file, header, loaded).await,
            (Row::D, _) => {
                self.remove(shard, segment).await;
                Ok(None)
            }
            (Row::E | Row::B, _) => Ok(unreadable(path, loaded)),
            (Row::F, _) => {
                loaded.found(path, FindingKind::Foreign);
                Ok(None)
            }
            (Row::G, _) => Err(newer(&path, &block)),
        }
    }

    async fn scan_segment(
        &self,
        path: &str,
        file: &D::File,
        header: SegmentHeader,
        loaded: &mut Loaded,
    ) -> Result<Option<Segment>, OpenError> {
        let Ok(scanned) = scan(file, &header, &self.options.keys).await else {
            return Ok(unreadable(path.to_owned(), loaded));
        };
        let tail = scanned.tail();
        // What could not be read today may be read tomorrow, and facts about it must be there then.
        loaded.incomplete |= scanned.walk.unreadable > 0;
        for record in scanned.damaged {
            loaded.found(path.to_owned(), FindingKind::Damaged(record));
        }
        let entries = scanned.index.domains.iter().flat_map(|(_, entries)| entries);
        let last = entries.filter(|entry| entry.offset().0 >= scanned.walk.durable_before);
        let stamps: BTreeSet<Stamp> = last.map(|entry| entry.stamp).collect();
        loaded.recovered_unacknowledged += stamps.len() as u64;
        let readable = scanned.walk.unreadable == 0;
        if readable {
            if let Some(tail) = tail {
                // Where it cannot be, it is room that is lost until a rewrite.
                let _ = file.give_back(tail).await;
            }
            // Before an index vouches for it: what a process left that was killed may be in the cache of the disk, name and all.
            file.sync().await.map_err(|error| at(path, error))?;
            self.disk.sync_directory(&header.shard.to_string()).await.map_err(|error| at(path, error))?;
        }
        Ok(Some(Segment { index: scanned.index, header: Some(header), scanned: readable }))
    }

    async fn load_index(
        &self,
        shard: ShardId,
        segment: SegmentId,
        header: Option<&SegmentHeader>,
    ) -> Option<SegmentIndex> {
        let content = read_whole(self.disk, &format!("{shard}/{}", index_name(segment))).await.ok()?;
        let salt = header.map(|header| header.salt).or_else(|| SegmentIndex::salt_of(&content))?;
        SegmentIndex::decode(&content, shard, segment, &salt)
    }

    async fn write_index(
        &self,
        shard: ShardId,
        header: &SegmentHeader,
        index: &SegmentIndex,
    ) -> Result<(), OpenError> {
        let name = index_name(header.segment);
        let directory = shard.to_string();
        let content = index.encode(shard, header.segment, &header.salt);
        let path = format!("{directory}/{name}");
        match self.disk.remove(&path).await {
            Ok(()) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(at(&path, error)),
        }
        match write_whole(self.disk, &directory, &name, &content).await {
            // A full disk must still start and drain: the index is derived, the next start scans again.
            Ok(()) | Err(DiskError::NoSpace) => Ok(()),
            Err(error) => Err(at(&path, error)),
        }
    }

    /// Removes a segment in which nothing is. What fails here is tried again at the next start.
    async fn remove(&self, shard: ShardId, segment: SegmentId) {
        let _ = remove(self.disk, shard, segment).await;
    }

    /// Indexes without their segment: an unlink that a crash cut off, or a segment that was lost.
    async fn stray_indexes(&self, indexes: Vec<(ShardId, SegmentId)>, loaded: &mut Loaded) {
        for (shard, segment) in indexes {
            let keeper = usize::from(shard.0 % self.options.shards);
            let gone =
                loaded.shelves[keeper].ledgers().get(&shard).is_some_and(|ledger| ledger.covers(segment));
            if gone {
                self.remove(shard, segment).await;
                continue;
            }
            loaded.note_used(shard, Purpose::Mail, segment);
            loaded.incomplete = true;
            let path = path(shard, Purpose::Mail, segment);
            if !loaded.findings.iter().any(|finding| finding.path == path) {
                loaded.found(path, FindingKind::Missing);
            }
        }
    }
}

/// The file stays, and so does all that journals say: a device may read again tomorrow.
fn unreadable(path: String, loaded: &mut Loaded) -> Option<Segment> {
    loaded.incomplete = true;
    loaded.found(path, FindingKind::Unreadable);
    None
}

fn newer(path: &str, block: &[u8]) -> OpenError {
    let version = match SegmentHeader::decode(block) {
        Err(HeaderError::Newer(version)) => version,
        _ => 0,
    };
    OpenError::Newer { path: path.to_owned(), version }
}
