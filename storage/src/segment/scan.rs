//! A walk over all frames of a file of frames, whatever state it is in.
//!
//! Nothing is truncated (H6): where no valid frame header stands, the walk looks for the next one, at every
//! multiple of [`FRAME_ALIGNMENT`], to the end of the preallocated area. A frame is believed only if its checksum, seeded with
//! this segment's salt and id and the frame's own offset, agrees (H7). What was skipped is reported, and told
//! apart by what the frames behind it knew to be durable: a gap below that is damage, one above is a batch
//! that a crash tore.

use crate::crypt::{CipherPlace, Keys};
use crate::disk::File;
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::checksum::Seed;
use crate::format::frame::{FRAME_ALIGNMENT, FRAME_HEADER_OCTETS, FRAME_MAGIC, FrameHeader, frame_octets};
use crate::format::segment_header::SegmentHeader;
use crate::position::Offset;
use crate::segment::sealing::{Opener, Unopened};
use core::ops::Range;

/// What a walk meets.
#[derive(Debug)]
pub enum Found<'a> {
    /// A valid frame.
    Frame {
        /// Where.
        offset: Offset,
        /// Its header.
        header: FrameHeader,
        /// Its payload, checked.
        payload: &'a [u8],
    },
    /// A frame whose header is valid and whose payload is not: its record is lost, and can be named.
    DamagedPayload {
        /// Where.
        offset: Offset,
        /// Its header.
        header: FrameHeader,
        /// What stands there.
        payload: &'a [u8],
    },
    /// A frame that is encrypted with a key that is not here; its checksums hold.
    Locked {
        /// Where.
        offset: Offset,
        /// Its header.
        header: FrameHeader,
    },
}

/// Bytes that are neither frames nor the zeros of padding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Where.
    pub range: Range<u64>,
}

/// How a walk ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Walk {
    /// Non-zero bytes that no frame accounts for.
    pub gaps: Vec<Gap>,
    /// The end of the last valid frame.
    pub end: u64,
    /// Blocks that the device would not read; each is a gap too.
    pub unreadable: u64,
    /// The highest `durable_before` of any frame: damage below it is damage to promised mail.
    pub durable_before: u64,
}

/// What frames of the segment are checked and opened with.
struct Protection<'a> {
    seed: Seed,
    opener: Opener<'a>,
}

/// Octets that are read at a time, besides what a frame across the boundary needs.
const WINDOW_OCTETS: usize = 4 << 20;

/// Walks over `file`; `visit` sees each frame in the order of offsets.
///
/// # Errors
/// The disk's, when a part cannot be read at all.
pub async fn walk<F: File>(
    file: &F,
    header: &SegmentHeader,
    keys: &Keys,
    mut visit: impl FnMut(Found<'_>),
) -> Result<Walk, DiskError> {
    let seed = Seed::new(&header.salt, header.segment);
    let mut protection = Protection { seed, opener: Opener::new(keys, CipherPlace::of(header)) };
    let size = file.length().await?.min(header.size);
    let mut result = Walk { end: BLOCK_OCTETS as u64, ..Walk::default() };
    let mut at = BLOCK_OCTETS as u64;
    let mut wanted = WINDOW_OCTETS;
    while at < size {
        let octets = wanted.min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let Some((window, cut)) = read_what_can_be(file, at, octets).await? else {
            // Of a bad block nothing is known; what stands behind it is.
            let end = block_behind(at);
            result.unreadable += 1;
            if result.unreadable > UNREADABLE_BLOCKS_MAX {
                return Err(DiskError::Io { operation: "scan", reason: "the device fails".to_owned() });
            }
            add_gap(&mut result, at..end);
            at = end;
            continue;
        };
        if window.is_empty() {
            break;
        }
        let complete = cut || at + window.len() as u64 >= size;
        let (used, needed) = walk_window(&window, at, complete, &mut protection, &mut result, &mut visit);
        // A frame that ends behind the window is met again at the start of the next one.
        wanted = needed.unwrap_or(0).max(WINDOW_OCTETS);
        let stuck = used == 0 && needed.is_none_or(|needed| needed <= window.len());
        at += if stuck { FRAME_ALIGNMENT } else { used } as u64;
    }
    Ok(result)
}

/// Bad blocks after which a file is given up: each may cost seconds on a device that fails.
const UNREADABLE_BLOCKS_MAX: u64 = 1024;

const fn block_behind(at: u64) -> u64 {
    (at / BLOCK_OCTETS as u64 + 1) * BLOCK_OCTETS as u64
}

/// Reads `octets` at `at`, or what is readable of it up to the first bad block, and whether that cut it off; `None`
/// if the first block is bad.
async fn read_what_can_be<F: File>(
    file: &F,
    at: u64,
    octets: usize,
) -> Result<Option<(F::Octets, bool)>, DiskError> {
    if let Ok(window) = file.read(at, octets).await {
        return Ok(Some((window, false)));
    }
    let end = at + octets as u64;
    let mut readable = at;
    while readable < end {
        let next = block_behind(readable).min(end);
        let octets = usize::try_from(next - readable).unwrap_or(BLOCK_OCTETS);
        if file.read(readable, octets).await.is_err() {
            break;
        }
        readable = next;
    }
    if readable == at {
        return Ok(None);
    }
    let octets = usize::try_from(readable - at).unwrap_or(octets);
    file.read(at, octets).await.map(|window| Some((window, readable < end)))
}

/// Walks over the frames that lie whole in `window`, which starts at `base`. Returns how far it came and, if
/// the frame there does not end in the window, how many octets it needs. With `complete`, what does not end
/// here does not end at all.
fn walk_window(
    window: &[u8],
    base: u64,
    complete: bool,
    protection: &mut Protection<'_>,
    result: &mut Walk,
    visit: &mut impl FnMut(Found<'_>),
) -> (usize, Option<usize>) {
    let Protection { seed, opener } = protection;
    let mut at = 0;
    while at < window.len() {
        let offset = Offset(base + at as u64);
        let rest = &window[at..];
        if rest.len() < FRAME_HEADER_OCTETS && !complete {
            return (at, Some(FRAME_HEADER_OCTETS.max(BLOCK_OCTETS)));
        }
        let Some(header) = FrameHeader::decode(rest, &*seed, offset) else {
            let next = next_candidate(rest);
            note_gap(result, &rest[..next], offset);
            at += next;
            continue;
        };
        let octets = frame_octets(header.payload_length as usize);
        if octets > rest.len() && !complete {
            return (at, Some(octets));
        }
        let end = (FRAME_HEADER_OCTETS + header.payload_length as usize).min(rest.len());
        let payload = &rest[FRAME_HEADER_OCTETS.min(end)..end];
        result.durable_before = result.durable_before.max(header.durable_before.0);
        let matches = header.matches(payload, seed, offset);
        let opened = if matches { opener.open(&header, offset, payload) } else { Err(Unopened::Altered) };
        match opened {
            Ok(plain) => visit(Found::Frame { offset, header, payload: &plain }),
            Err(Unopened::Locked(_)) => visit(Found::Locked { offset, header }),
            Err(Unopened::Altered) => visit(Found::DamagedPayload { offset, header, payload }),
        }
        if matches {
            result.end = offset.0 + octets as u64;
        }
        at += octets.min(rest.len());
    }
    (at, None)
}

/// Octets to the next place where a frame may start, at least one step.
fn next_candidate(rest: &[u8]) -> usize {
    let mut from = FRAME_ALIGNMENT;
    while let Some(found) = rest.get(from..).and_then(|tail| memchr::memmem::find(tail, FRAME_MAGIC)) {
        let candidate = from + found;
        if candidate.is_multiple_of(FRAME_ALIGNMENT) {
            return candidate;
        }
        from = candidate.next_multiple_of(FRAME_ALIGNMENT);
    }
    rest.len()
}

/// Records the part of `skipped` that is not padding. Adjacent gaps become one.
fn note_gap(result: &mut Walk, skipped: &[u8], offset: Offset) {
    // By lines of a cache first: most of what is skipped is the blank rest of a file.
    let blank = |line: &&[u8]| line.iter().fold(0, |all, octet| all | octet) == 0;
    let zeros = skipped.chunks(64).take_while(blank).map(<[u8]>::len).sum();
    let Some(first) = skipped[zeros..].iter().position(|octet| *octet != 0) else { return };
    let first = zeros + first;
    let last = skipped.iter().rposition(|octet| *octet != 0).unwrap_or(first);
    add_gap(result, offset.0 + first as u64..offset.0 + last as u64 + 1);
}

fn add_gap(result: &mut Walk, range: Range<u64>) {
    match result.gaps.last_mut() {
        Some(gap) if gap.range.end + FRAME_ALIGNMENT as u64 >= range.start => gap.range.end = range.end,
        _ => result.gaps.push(Gap { range }),
    }
}
