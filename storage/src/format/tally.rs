//! What is remembered of segments that are gone (`FORMAT.md`, "Tally", "Ledger"): the ledger's half that no record
//! can tell any more (P2). A tally speaks of one segment, a ledger of all that a shard directory has lost.
//!
//! Both may take several frames; a part alone says nothing. Accepted units are counted from the records, ended
//! ones from the facts, so that one can be held against the other.

use super::journal_entry::FINAL_OUTCOMES;
use super::{Reader, Writer};
use crate::position::{SegmentId, ShardId};
use core::ops::RangeInclusive;

/// Units of one domain in segments that are gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TallyRow {
    /// The domain.
    pub domain: String,
    /// Units that were accepted, counted from the records.
    pub accepted: u64,
    /// Units by [`FINAL_OUTCOMES`], counted from the facts.
    pub ended: [u64; FINAL_OUTCOMES.len()],
}

/// What a segment held when it was unlinked, durable before that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Its shard.
    pub shard: ShardId,
    /// Its number.
    pub segment: SegmentId,
    /// One row a domain, sorted.
    pub rows: Vec<TallyRow>,
}

/// What a shard directory held in all segments that are gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Numbers of the segments, sorted, apart from each other.
    pub gone: Vec<RangeInclusive<u32>>,
    /// One row a domain, sorted.
    pub rows: Vec<TallyRow>,
}

/// A frame of a tally or of a ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<T> {
    /// Its place among the parts.
    pub part: u16,
    /// Parts in all, at least 1.
    pub parts: u16,
    /// What it brings.
    pub content: T,
}

/// Rows of one frame: below any bound on a record, with the longest of names.
const ROWS_A_PART: usize = 256;

impl TallyRow {
    /// Units that ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ended.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        for (count, more) in self.ended.iter_mut().zip(other.ended) {
            *count = count.saturating_add(more);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let octets = u16::try_from(self.domain.len()).expect("a domain is at most 255 octets");
        Writer(out).u16(octets).octets(self.domain.as_bytes()).u64(self.accepted);
        for count in self.ended {
            Writer(out).u64(count);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let octets = reader.u16()?;
        let domain = core::str::from_utf8(reader.take(octets.into())?).ok()?.to_owned();
        let accepted = reader.u64()?;
        let mut ended = [0; FINAL_OUTCOMES.len()];
        for count in &mut ended {
            *count = reader.u64()?;
        }
        Some(Self { domain, accepted, ended })
    }
}

impl Tally {
    /// The payloads of its frames, one at least.
    #[must_use]
    pub fn encode(&self) -> Vec<Vec<u8>> {
        encode_parts(&self.rows, |part, parts, rows| {
            let mut out = Vec::new();
            Writer(&mut out).u16(self.shard.0).u16(part).u32(self.segment.0).u32(rows).u16(parts).u16(0);
            out
        })
    }

    /// The part in `payload`.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Part<Self>> {
        let mut reader = Reader::new(payload);
        let shard = ShardId(reader.u16()?);
        let part = reader.u16()?;
        let segment = SegmentId(reader.u32()?);
        let count = reader.u32()?;
        let parts = reader.u16()?;
        reader.u16()?;
        let rows = (0..count).map(|_| TallyRow::decode(&mut reader)).collect::<Option<Vec<_>>>()?;
        (part < parts).then_some(Part { part, parts, content: Self { shard, segment, rows } })
    }
}

impl Ledger {
    /// Whether segment `segment` is accounted for.
    #[must_use]
    pub fn covers(&self, segment: SegmentId) -> bool {
        self.gone.iter().any(|range| range.contains(&segment.0))
    }

    /// Takes note of a segment that is gone and held nothing, or nothing of its own.
    pub fn cover(&mut self, segment: SegmentId) {
        let number = segment.0;
        let at = self.gone.partition_point(|range| *range.end() < number);
        if self.gone.get(at).is_some_and(|range| range.contains(&number)) {
            return;
        }
        self.gone.insert(at, number..=number);
        if self.gone.get(at + 1).is_some_and(|next| next.start() - 1 == number) {
            let next = self.gone.remove(at + 1);
            self.gone[at] = number..=*next.end();
        }
        if at > 0 && self.gone[at - 1].end() + 1 == number {
            let this = self.gone.remove(at);
            self.gone[at - 1] = *self.gone[at - 1].start()..=*this.end();
        }
    }

    /// Adds the tally of a segment, once.
    pub fn add(&mut self, tally: &Tally) {
        if self.covers(tally.segment) {
            return;
        }
        self.cover(tally.segment);
        for row in &tally.rows {
            match self.rows.binary_search_by(|known| known.domain.cmp(&row.domain)) {
                Ok(at) => self.rows[at].add(row),
                Err(at) => self.rows.insert(at, row.clone()),
            }
        }
    }

    /// The payloads of its frames, one at least, for the directory `shard`.
    #[must_use]
    pub fn encode(&self, shard: ShardId) -> Vec<Vec<u8>> {
        encode_parts(&self.rows, |part, parts, rows| {
            let ranges = if part == 0 { &self.gone[..] } else { &[] };
            let count = u32::try_from(ranges.len()).expect("fewer ranges than segments");
            let mut out = Vec::new();
            Writer(&mut out).u16(shard.0).u16(part).u32(count).u32(rows).u16(parts).u16(0);
            for range in ranges {
                Writer(&mut out).u32(*range.start()).u32(*range.end());
            }
            out
        })
    }

    /// The part in `payload`, and its directory.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<(ShardId, Part<Self>)> {
        let mut reader = Reader::new(payload);
        let shard = ShardId(reader.u16()?);
        let part = reader.u16()?;
        let ranges = reader.u32()?;
        let count = reader.u32()?;
        let parts = reader.u16()?;
        reader.u16()?;
        let mut gone = Vec::new();
        for _ in 0..ranges {
            gone.push(reader.u32()?..=reader.u32()?);
        }
        let rows = (0..count).map(|_| TallyRow::decode(&mut reader)).collect::<Option<Vec<_>>>()?;
        (part < parts).then_some((shard, Part { part, parts, content: Self { gone, rows } }))
    }
}

/// A head a part, made by `head(part, parts, rows)`, with its rows behind it.
fn encode_parts(rows: &[TallyRow], head: impl Fn(u16, u16, u32) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = |n: usize| u32::try_from(n).expect("a part has few rows");
    let parts = rows.len().div_ceil(ROWS_A_PART).max(1);
    let parts = u16::try_from(parts).expect("fewer than 16 million domains");
    let mut chunks = rows.chunks(ROWS_A_PART);
    let encode = |part| {
        let rows = chunks.next().unwrap_or_default();
        let mut out = head(part, parts, count(rows.len()));
        rows.iter().for_each(|row| row.encode(&mut out));
        out
    };
    (0..parts).map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_gone_are_kept_as_few_ranges() {
        let mut ledger = Ledger::default();
        for number in [5, 1, 3, 2, 9, 4, 4] {
            ledger.cover(SegmentId(number));
        }
        assert_eq!(ledger.gone, [1..=5, 9..=9]);
        assert!(ledger.covers(SegmentId(3)));
        assert!(!ledger.covers(SegmentId(6)));
    }

    #[test]
    fn a_tally_counts_once() {
        let row = TallyRow { domain: "a.test".to_owned(), accepted: 3, ended: [0, 1, 0, 2, 0, 0] };
        let tally = Tally { shard: ShardId(1), segment: SegmentId(4), rows: vec![row] };
        let mut ledger = Ledger::default();
        ledger.add(&tally);
        ledger.add(&tally);
        assert_eq!(ledger.rows[0].accepted, 3);
        assert_eq!(ledger.rows[0].total(), 3);
    }
}
