//! The walk itself: reads every file once and keeps what listing and verification need.

use super::compare::Compared;
use super::names::Names;
use super::{Directory, Known, LogFile, Orphan, Problem, Walked};
use crate::crypt::Keys;
use crate::disk::{Disk, File, read_whole};
use crate::error::DiskError;
use crate::facts::Facts;
use crate::format::frame::FRAME_ALIGNMENT;
use crate::format::index_file::SegmentIndex;
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::position::{SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use crate::segment::contents::Contents;
use crate::segment::recover::{HeaderState, first_block};
use crate::segment::{index_name, indexed_by, parse_name, path};
use crate::store::shard_of;
use std::collections::HashMap;
use std::sync::Arc;

/// Beyond this an offset has no place in an index: no segment of ours is that large.
const FILE_OCTETS_MAX: u64 = u32::MAX as u64 * FRAME_ALIGNMENT as u64;

/// The shard directories that are there, in order.
pub(crate) async fn shards<D: Disk>(disk: &D) -> Result<Vec<ShardId>, DiskError> {
    let mut shards: Vec<ShardId> = disk.list("").await?.iter().filter_map(|name| shard_of(name)).collect();
    shards.sort_unstable();
    Ok(shards)
}

/// Walks over all of it.
pub(super) async fn gather<D: Disk>(
    disk: D,
    keys: Arc<Keys>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Directory<D>, DiskError> {
    let shards = shards(&disk).await?;
    let mut directory = Directory {
        store: None,
        shards,
        files: Vec::new(),
        facts: Facts::default(),
        names: Names::default(),
        told: Vec::new(),
        unbalanced: Vec::new(),
        chunks: HashMap::new(),
        voids: Vec::new(),
        orphans: Vec::new(),
        problems: Vec::new(),
        disk,
        keys,
    };
    directory.read_store().await;
    let files = directory.list_files().await;
    let all: u64 = files.iter().map(|(_, octets)| octets).sum();
    let mut read = 0;
    for ((shard, purpose, segment), octets) in files {
        let walked = directory.read_file(shard, purpose, segment).await;
        directory.files.push(walked);
        read += octets;
        progress(read, all);
    }
    directory.facts.finish();
    directory.count_settled();
    Ok(directory)
}

/// A file by its name, and its length.
type Named = ((ShardId, Purpose, SegmentId), u64);

impl<D: Disk> Directory<D> {
    async fn read_store(&mut self) {
        let what = match read_whole(&self.disk, "store").await {
            Ok(content) => {
                self.store = StoreFile::decode(&content);
                match (StoreFile::newer(&content), &self.store) {
                    (Some(version), _) => format!("written by a newer version ({version})"),
                    (None, Some(_)) => return,
                    // What a crash leaves of the very first start.
                    (None, None) if self.shards.is_empty() && content.iter().all(|o| *o == 0) => return,
                    (None, None) => "damaged in both slots".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        self.problems.push(Problem::new("store".to_owned(), None, what));
    }

    /// All files of frames with their lengths; notes indexes without a segment.
    async fn list_files(&mut self) -> Vec<Named> {
        let mut all = Vec::new();
        for shard in self.shards.clone() {
            let names = match self.disk.list(&shard.to_string()).await {
                Ok(names) => names,
                Err(error) => {
                    self.problems.push(Problem::new(shard.to_string(), None, error.to_string()));
                    continue;
                }
            };
            let mut files: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
            files.sort_unstable();
            let indexed = names.iter().filter_map(|name| indexed_by(name));
            for segment in indexed.filter(|segment| !files.contains(&(Purpose::Mail, *segment))) {
                let content = read_whole(&self.disk, &format!("{shard}/{}", index_name(segment))).await.ok();
                let index = content.and_then(|content| {
                    SegmentIndex::decode(&content, shard, segment, &SegmentIndex::salt_of(&content)?)
                });
                for (domain, _) in index.iter().flat_map(|index: &SegmentIndex| &index.domains) {
                    self.names.number_of(domain);
                }
                self.orphans.push(Orphan { shard, segment, index });
            }
            for (purpose, segment) in files {
                let octets = match self.disk.open(&path(shard, purpose, segment)).await {
                    Ok(file) => file.length().await.unwrap_or(0),
                    Err(_) => 0,
                };
                all.push(((shard, purpose, segment), octets));
            }
        }
        all
    }

    async fn read_file(&mut self, shard: ShardId, purpose: Purpose, segment: SegmentId) -> Walked {
        let shown = LogFile {
            path: path(shard, purpose, segment),
            shard: shard.0,
            purpose: if purpose == Purpose::Mail { "mail" } else { "journal" },
            segment: segment.0,
            octets: 0,
            header: "unreadable",
            index: "-",
            frames: 0,
            messages: 0,
            units: 0,
            settled: 0,
            first_stamp: 0,
            last_stamp: 0,
        };
        let mut walked = Walked {
            shown,
            shard,
            segment,
            purpose,
            header: None,
            index: None,
            messages: Vec::new(),
            groups: Vec::new(),
            chunk_table: Vec::new(),
            locked: 0,
            opaque: 0,
            lost: Vec::new(),
            durable_before: 0,
        };
        if let Err(error) = self.read_into(&mut walked).await {
            self.problems.push(Problem::new(walked.shown.path.clone(), None, error.to_string()));
        }
        walked
    }

    async fn read_into(&mut self, walked: &mut Walked) -> Result<(), DiskError> {
        let store = self.store.map_or(StoreId([0; 16]), |store| store.store);
        let mut first = first_block(&self.disk, &walked.shown.path, store).await?;
        if first.state == HeaderState::Foreign && self.store.is_none() {
            // Without an identity every header is taken for ours: better than nothing.
            first.state = HeaderState::Ours;
        }
        walked.shown.octets = first.file.length().await?;

        walked.shown.header = match first.state {
            HeaderState::Blank => "blank",
            HeaderState::Damaged => "damaged",
            HeaderState::Foreign => "foreign",
            HeaderState::Newer => "newer",
            HeaderState::Ours => "ours",
        };
        if first.state == HeaderState::Foreign {
            // Another store's stamps are not ours: nothing that it says is about our mail.
            return Ok(());
        }
        walked.header = SegmentHeader::decode(&first.block).ok();
        let index = if walked.purpose == Purpose::Mail { self.read_index(walked).await } else { None };
        let mut contents = Contents::default();
        let mut result = Ok(());
        if let Some(header) = &mut walked.header {
            header.size = header.size.min(FILE_OCTETS_MAX);
            let header = header.clone();
            result = self.read_frames(walked, &first.file, &header, index.as_ref(), &mut contents).await;
        }
        let names = &mut self.names;
        walked.index = index
            .map(|index| Compared::new(&index, &contents.into_index(), |domain| names.number_of(domain)));
        walked.messages.shrink_to_fit();
        walked.groups.shrink_to_fit();
        result
    }

    /// Reads the index; a valid one makes up for a lost header.
    async fn read_index(&mut self, walked: &mut Walked) -> Option<SegmentIndex> {
        let path = format!("{}/{}", walked.shard, index_name(walked.segment));
        let content = match read_whole(&self.disk, &path).await {
            Ok(content) => content,
            Err(DiskError::NotFound) => {
                walked.shown.index = "missing";
                return None;
            }
            Err(error) => {
                walked.shown.index = "unusable";
                self.problems.push(Problem::new(path, None, error.to_string()));
                return None;
            }
        };
        let salt =
            walked.header.as_ref().map(|header| header.salt).or_else(|| SegmentIndex::salt_of(&content));
        let decoded = salt.and_then(|salt| {
            SegmentIndex::decode(&content, walked.shard, walked.segment, &salt).map(|index| (salt, index))
        });
        let Some((salt, index)) = decoded else {
            walked.shown.index = "unusable";
            let what = "torn, damaged, or of another segment".to_owned();
            self.problems.push(Problem::new(path, None, what));
            return None;
        };
        walked.shown.index = "valid";
        if walked.header.is_none() && walked.shown.header != "newer" {
            walked.header = Some(SegmentHeader {
                purpose: Purpose::Mail,
                segment: walked.segment,
                shard: walked.shard,
                store: self.store.map_or(StoreId([0; 16]), |store| store.store),
                salt,
                size: walked.shown.octets,
                created: UnixMillis(0),
                stamp_floor: Stamp::NONE,
                previous: None,
                key: None,
                sources: Vec::new(),
                others: Vec::new(),
            });
        }
        Some(index)
    }

    fn count_settled(&mut self) {
        for at in 0..self.files.len() {
            let file = &self.files[at];
            let (void, live): (Vec<&Known>, Vec<&Known>) =
                file.messages.iter().partition(|message| self.is_void(file, message.offset));
            let void: u64 = void.iter().map(|message| u64::from(file.units_of(message))).sum();
            let settled: u64 = live.iter().map(|message| u64::from(self.settled_units(file, message))).sum();
            let shown = &mut self.files[at].shown;
            shown.units -= void;
            shown.settled = settled;
        }
    }
}
