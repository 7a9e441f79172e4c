//! How a file is filled: header, frames, padding, gaps and what was never written, and whom the octets belong to.

use super::account::Standing;
use super::frames::kind_word;
use super::{Directory, Known, Walked};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::format::BLOCK_OCTETS;
use crate::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, FrameKind, frame_octets};
use crate::segment::scan::{Found, walk};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Relative to the data directory.
    pub path: String,
    /// Octets of the file.
    pub octets: u64,
    /// From the start to the end, without overlap or omission.
    pub extents: Vec<Extent>,
    /// Commits, at least: two that meet without padding between them look like one.
    pub commits: u64,
}

/// Neighbouring octets of one use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Where.
    pub offset: u64,
    /// How many.
    pub octets: u64,
    /// `header`; `live` for a message with an open unit; `settled`; `chunk` of an open message; `garbage` for a chunk of
    /// none; `void` for what was never acknowledged or is counted elsewhere; `facts` for what else a frame holds;
    /// `damaged`; `gap`; `padding`; `unused` behind the last frame.
    pub kind: &'static str,
    /// What the frame is: its kind and the message; empty for others.
    pub text: String,
}

impl Layout {
    /// Octets by kind of extent.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<&'static str, u64> {
        let mut shares = BTreeMap::new();
        for extent in &self.extents {
            *shares.entry(extent.kind).or_default() += extent.octets;
        }
        shares
    }
}

impl<D: Disk> Directory<D> {
    /// The layout of each file whose path ends with `suffix`, one after the other.
    ///
    /// # Errors
    /// The disk's, of a file that could be read before.
    pub async fn layouts(&self, suffix: &str, mut visit: impl FnMut(&Layout)) -> Result<(), DiskError> {
        let standing = Standing::of(self);
        let owners = self.chunk_owners(&standing);
        for (number, file) in self.files.iter().enumerate() {
            if file.shown.path.ends_with(suffix) {
                visit(&self.layout(&standing, &owners, number, file).await?);
            }
        }
        Ok(())
    }

    /// Chunks of messages with an open unit.
    fn chunk_owners(&self, standing: &Standing) -> HashSet<(u16, u32, u64)> {
        let mut owners = HashSet::new();
        for place in self.counted(standing) {
            let (file, message) = self.at_place(place);
            if !file.chunks_of(message).is_empty() && !self.is_settled(file, message) {
                let chunks = file.chunks_of(message).iter();
                owners.extend(chunks.map(|chunk| (file.shard.0, chunk.segment.0, chunk.offset.0)));
            }
        }
        owners
    }

    async fn layout(
        &self,
        standing: &Standing,
        owners: &HashSet<(u16, u32, u64)>,
        number: usize,
        file: &Walked,
    ) -> Result<Layout, DiskError> {
        let mut layout =
            Layout { path: file.shown.path.clone(), octets: file.shown.octets, ..Layout::default() };
        let Some(header) = &file.header else {
            layout.extents.push(extent(0, file.shown.octets, "gap", String::new()));
            return Ok(layout);
        };
        let messages: HashMap<u64, &Known> =
            file.messages.iter().map(|known| (known.offset, known)).collect();
        let mut extents = vec![extent(0, BLOCK_OCTETS as u64, "header", String::new())];
        let opened = self.disk.open(&file.shown.path).await?;
        let walked = walk(&opened, header, &self.keys, |found| {
            let (offset, header, damaged) = match found {
                Found::Frame { offset, header, .. } | Found::Locked { offset, header } => {
                    (offset.0, header, false)
                }
                Found::DamagedPayload { offset, header, .. } => (offset.0, header, true),
            };
            let kind = match header.kind {
                _ if damaged => "damaged",
                FrameKind::Message => messages.get(&offset).map_or("damaged", |message| {
                    if !standing.counts(self, number, (message.stamp, file.numbers_of(message), offset)) {
                        "void"
                    } else if message.groups > 0 && self.is_settled(file, message) {
                        "settled"
                    } else {
                        "live"
                    }
                }),
                // Whose it is an encrypted message would tell.
                FrameKind::Chunk
                    if file.locked > 0 || owners.contains(&(file.shard.0, file.segment.0, offset)) =>
                {
                    "chunk"
                }
                FrameKind::Chunk => "garbage",
                _ => "facts",
            };
            let octets = frame_octets(header.payload_length as usize) as u64;
            extents.push(extent(offset, octets, kind, text_of(&header)));
        })
        .await?;
        extents.extend(
            walked
                .gaps
                .iter()
                .map(|gap| extent(gap.range.start, gap.range.end - gap.range.start, "gap", String::new())),
        );
        extents.sort_by_key(|extent| extent.offset);
        fill(&mut layout, extents);
        Ok(layout)
    }
}

/// Puts in what lies between frames, and counts commits: each starts with a block.
fn fill(layout: &mut Layout, extents: Vec<Extent>) {
    let mut end = 0;
    for mut found in extents {
        if found.offset > end {
            layout.extents.push(extent(end, found.offset - end, "padding", String::new()));
        }
        let starts_block = found.offset.is_multiple_of(BLOCK_OCTETS as u64);
        let is_frame = !matches!(found.kind, "header" | "gap");
        let behind = layout.extents.last().map_or("", |last| last.kind);
        layout.commits +=
            u64::from(is_frame && starts_block && matches!(behind, "padding" | "header" | "gap"));
        // A damaged length may tell of more than there is.
        found.octets = found.octets.min(layout.octets.saturating_sub(found.offset));
        let cut = end.saturating_sub(found.offset).min(found.octets);
        (found.offset, found.octets) = (found.offset + cut, found.octets - cut);
        end = end.max(found.offset + found.octets);
        if found.octets > 0 {
            layout.extents.push(found);
        }
    }
    let block_end = end.next_multiple_of(BLOCK_OCTETS as u64).min(layout.octets);
    for (from, to, kind) in [(end, block_end, "padding"), (block_end, layout.octets, "unused")] {
        if to > from {
            layout.extents.push(extent(from, to - from, kind, String::new()));
        }
    }
}

const fn extent(offset: u64, octets: u64, kind: &'static str, text: String) -> Extent {
    Extent { offset, octets, kind, text }
}

fn text_of(header: &FrameHeader) -> String {
    let payload = header.payload_length as usize + FRAME_HEADER_OCTETS;
    match header.kind {
        FrameKind::Message => {
            format!("message {} stamp={} octets={payload}", header.queue_id, header.stamp.0)
        }
        FrameKind::Chunk => format!("chunk {} octets={payload}", header.queue_id),
        kind => format!("{} octets={payload}", kind_word(kind)),
    }
}
