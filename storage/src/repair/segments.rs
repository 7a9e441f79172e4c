//! Segments into the copy: frames to their old places, indexes anew, and the voids of what is left out.

use super::books::Books;
use super::{RepairError, Repaired, at};
use crate::clock::Clock;
use crate::disk::{Disk, File, read_whole, write_padded, write_whole};
use crate::error::DiskError;
use crate::format::checksum::Seed;
use crate::format::frame::{FrameHeader, FrameKind, blank_header, frame_octets};
use crate::format::index_file::SegmentIndex;
use crate::format::journal_entry::Void;
use crate::format::segment_header::{KeyMark, Purpose, SegmentHeader};
use crate::format::store_file::StoreFile;
use crate::format::{BLOCK_OCTETS, block_ceiling};
use crate::inspect::{Directory, Walked};
use crate::log::random_salt;
use crate::position::{Offset, QueueId, SegmentId, ShardId, Stamp};
use crate::segment::contents::Contents;
use crate::segment::scan::{Found, walk};
use crate::segment::sealing::{Sealing, write_frame};
use crate::segment::{index_name, path};
use core::ops::Range;
use std::collections::{HashMap, HashSet};

/// Octets that are copied at a time.
const WINDOW_OCTETS: u64 = 1 << 20;

/// Where the frames of copied segments start, of those with something left out.
pub(super) type Starts = HashMap<(ShardId, u32), Vec<u64>>;

/// Copies all segments.
pub(super) async fn copy<D: Disk, E: Disk>(
    source: &Directory<D>,
    target: &E,
    books: &Books,
    store: &StoreFile,
    progress: &mut dyn FnMut(u64, u64),
    repaired: &mut Repaired,
) -> Result<Starts, RepairError> {
    let mut starts = Starts::new();
    let mut copied: Vec<usize> = books.copied.iter().copied().collect();
    copied.sort_unstable();
    let all: u64 = copied.iter().map(|number| source.files[*number].shown.octets).sum();
    let mut done = 0;
    for number in copied {
        let file = &source.files[number];
        let frames = segment(source, target, books, store, number).await?;
        repaired.frames += frames.len() as u64;
        let voids = books.voids.get(&file.shard);
        if voids.is_some_and(|voids| voids.iter().any(|(segment, ..)| *segment == file.segment.0)) {
            starts.insert((file.shard, file.segment.0), frames.iter().map(|frame| frame.start).collect());
        }
        repaired.segments += 1;
        done += file.shown.octets;
        progress(done, all);
    }
    Ok(starts)
}

async fn segment<D: Disk, E: Disk>(
    source: &Directory<D>,
    target: &E,
    books: &Books,
    store: &StoreFile,
    number: usize,
) -> Result<Vec<Range<u64>>, RepairError> {
    let file = &source.files[number];
    let name = &file.shown.path;
    let known = file.header.as_ref().expect("a file without a header is not chosen");
    let mut frames: Vec<Range<u64>> = Vec::new();
    let mut contents = Contents::default();
    let mut key = None;
    let opened = source.disk.open(name).await.map_err(|error| at(name, error))?;
    let is_kept = |offset: u64| {
        !file.lost.iter().any(|lost| lost.offset == offset) && !books.broken.contains(&(number, offset))
    };
    let walked = walk(&opened, known, &source.keys, |found| {
        let (offset, header, payload) = match found {
            Found::Frame { offset, header, payload } => (offset, header, Some(payload)),
            Found::Locked { offset, header } => (offset, header, None),
            Found::DamagedPayload { .. } => return,
        };
        if !is_kept(offset.0) {
            return;
        }
        key = key.max(Some(header.key_id).filter(|key| *key != 0));
        if let Some(payload) = payload {
            contents.add_frame(file.segment, offset, &header, payload);
        }
        frames.push(offset.0..offset.0 + frame_octets(header.payload_length as usize) as u64);
    });
    walked.await.map_err(|error| at(name, error))?;
    let header = SegmentHeader {
        purpose: Purpose::Mail,
        segment: file.segment,
        shard: file.shard,
        store: store.store,
        size: block_ceiling(usize::try_from(known.size).unwrap_or(usize::MAX)) as u64,
        key: known.key.or_else(|| mark_of(source, store, key)),
        ..known.clone()
    };
    let made = target.create(name, header.size).await.map_err(|error| at(name, error))?;
    write_padded(&made, 0, &header.encode()).await.map_err(|error| at(name, error))?;
    write_frames(&opened, &made, &frames, header.size).await.map_err(|error| at(name, error))?;
    made.sync().await.map_err(|error| at(name, error))?;
    target.sync_directory(&file.shard.to_string()).await.map_err(|error| at(name, error))?;
    if let Some(index) = index_of(source, file, contents, &frames).await {
        let content = index.encode(file.shard, file.segment, &header.salt);
        let written = write_whole(target, &file.shard.to_string(), &index_name(file.segment), &content).await;
        written.map_err(|error| at(name, error))?;
    }
    Ok(frames)
}

/// A lost header took along which key it was; the frames still name it.
fn mark_of<D: Disk>(source: &Directory<D>, store: &StoreFile, key: Option<u32>) -> Option<KeyMark> {
    source.keys.mark_of(key?, store.store)
}

/// The index of what was copied; of records without their key what the old one says. `None` where nothing tells: whoever
/// has the key makes it.
async fn index_of<D: Disk>(
    source: &Directory<D>,
    file: &Walked,
    contents: Contents,
    frames: &[Range<u64>],
) -> Option<SegmentIndex> {
    if file.locked() == 0 {
        return Some(contents.into_index());
    }
    let content =
        read_whole(&source.disk, &format!("{}/{}", file.shard, index_name(file.segment))).await.ok()?;
    let salt = file.header.as_ref()?.salt;
    let mut index = SegmentIndex::decode(&content, file.shard, file.segment, &salt)?;
    let mut left = HashSet::new();
    for (_, entries) in &mut index.domains {
        let is_here = |offset: u64| frames.binary_search_by_key(&offset, |frame| frame.start).is_ok();
        entries.retain(|entry| is_here(entry.offset().0));
        left.extend(entries.iter().map(|entry| entry.unit_base));
    }
    index.domains.retain(|(_, entries)| !entries.is_empty());
    index.pins.retain(|pin| left.contains(&pin.unit_base));
    (file.opaque == 0).then_some(index)
}

/// Copies frames to the places where they were; nothing else is written.
async fn write_frames<F: File, G: File>(
    source: &F,
    target: &G,
    frames: &[Range<u64>],
    size: u64,
) -> Result<(), DiskError> {
    let mut start = BLOCK_OCTETS as u64;
    while start < size {
        let end = (start + WINDOW_OCTETS).min(size);
        let from = frames.partition_point(|frame| frame.end <= start);
        let within = frames[from..].iter().take_while(|frame| frame.start < end);
        let mut window: Vec<u8> = Vec::new();
        for frame in within {
            let part = frame.start.max(start)..frame.end.min(end);
            let octets = usize::try_from(part.end - part.start).expect("a part of a window");
            let place = usize::try_from(part.start - start).expect("a part of a window");
            window.resize(place, 0);
            window.extend_from_slice(&source.read(part.start, octets).await?);
        }
        if !window.is_empty() {
            write_padded(target, start, &window).await?;
        }
        start = end;
    }
    Ok(())
}

/// Takes back what is left out: a segment of each directory's own, behind all others.
pub(super) async fn voids<D: Disk, E: Disk, C: Clock>(
    source: &Directory<D>,
    target: &E,
    clock: &C,
    books: &Books,
    store: &StoreFile,
    starts: &Starts,
) -> Result<(), RepairError> {
    for shard in books.voids.keys() {
        let of_shard = || source.files.iter().enumerate().filter(|(_, file)| file.shard == *shard);
        let mail = || of_shard().filter(|(_, file)| file.purpose == Purpose::Mail);
        let here = mail().filter(|(number, _)| books.copied.contains(number)).map(|(_, file)| file.segment);
        let gone = books.ledgers.get(shard).and_then(|ledger| ledger.gone.last()).map(|range| *range.end());
        let last = mail().map(|(_, file)| file.segment.0).chain(gone).max().unwrap_or(0);
        let starts_of = |segment: u32| starts.get(&(*shard, segment)).map_or(&[][..], Vec::as_slice);
        let payloads: Vec<Vec<u8>> = books.voids_of(*shard, starts_of).iter().map(Void::encode).collect();
        let octets: usize = payloads.iter().map(|payload| frame_octets(payload.len())).sum();
        let header = SegmentHeader {
            purpose: Purpose::Mail,
            segment: SegmentId(last + 1),
            shard: *shard,
            store: store.store,
            salt: random_salt().map_err(|error| at("salt", error))?,
            size: (BLOCK_OCTETS + block_ceiling(octets)) as u64,
            created: clock.wall(),
            stamp_floor: Stamp(store.stamp_ceiling.0 - crate::frontier::CEILING_STEP),
            previous: here.max(),
            key: None,
            sources: Vec::new(),
            others: Vec::new(),
        };
        write_voids(target, clock, *shard, &header, &payloads).await?;
    }
    Ok(())
}

async fn write_voids<E: Disk, C: Clock>(
    target: &E,
    clock: &C,
    shard: ShardId,
    header: &SegmentHeader,
    payloads: &[Vec<u8>],
) -> Result<(), RepairError> {
    let name = path(shard, Purpose::Mail, header.segment);
    let seed = Seed::new(&header.salt, header.segment);
    let sealing = Sealing { seed: &seed, cipher: None };
    let mut content = header.encode();
    let mut contents = Contents::default();
    for payload in payloads {
        let at = content.len();
        let offset = Offset(at as u64);
        content.resize(at + frame_octets(payload.len()), 0);
        let mut frame: FrameHeader = blank_header(FrameKind::Void, Stamp::NONE, clock.wall(), QueueId(0));
        frame.payload_length = u32::try_from(payload.len()).expect("a void has 24 octets");
        frame.durable_before = Offset(BLOCK_OCTETS as u64);
        write_frame(&mut content[at..], &sealing, &mut frame, offset, &[payload]);
        contents.add_frame(header.segment, offset, &frame, payload);
    }
    let directory = shard.to_string();
    let segment_name = crate::segment::name(Purpose::Mail, header.segment);
    let written = write_whole(target, &directory, &segment_name, &content).await;
    written.map_err(|error| at(&name, error))?;
    let index = contents.into_index().encode(shard, header.segment, &header.salt);
    let written = write_whole(target, &directory, &index_name(header.segment), &index).await;
    written.map_err(|error| at(&name, error))
}
