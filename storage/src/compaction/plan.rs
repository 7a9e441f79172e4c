//! Which segments to rewrite: a pure function of what is known about them.
//!
//! Worth it is a sealed segment of which little is left and that has been quiet: one that is being drained will soon be gone by
//! itself. A segment with chunks goes together with those that hold the closing records of their messages: such a *group* is
//! weighed as one. The sparsest come first, as many as one copy takes. What is encrypted with an older key, or not at all
//! though there is a key, is rewritten whatever is left of it, one group at a time.

use crate::format::segment_header::SOURCES_MAX;
use crate::position::{SegmentId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known about a segment that may be rewritten: sealed, pinned by queued messages only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its directory.
    pub shard: ShardId,
    /// Its number.
    pub segment: SegmentId,
    /// Octets of the file.
    pub octets: u64,
    /// Octets that a copy of what is unsettled takes.
    pub live: u64,
    /// Nothing was settled in it since the last look.
    pub quiet: bool,
    /// It is encrypted as new segments are.
    pub current_key: bool,
    /// The segments that it cannot go without: they hold the closing records of chunks in it.
    pub closers: Vec<SegmentId>,
}

/// What a rewrite may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Octets of a copy.
    pub copy_octets: u64,
    /// Octets that are free for it.
    pub free: u64,
    /// So full that also what is being drained is worth it.
    pub pressed: bool,
}

/// Segments to rewrite into one, all of one directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The directory.
    pub shard: ShardId,
    /// The sources, in order of number.
    pub segments: Vec<SegmentId>,
}

/// At most this share of a segment may be live for it to be worth a rewrite, in percent.
pub const SPARSE_PERCENT: u64 = 50;
/// The least that a rewrite gives back.
pub const GAIN_OCTETS_MIN: u64 = 64 * 1024;

/// Segments that go together.
#[derive(Debug)]
struct Group {
    shard: ShardId,
    segments: BTreeSet<SegmentId>,
    octets: u64,
    live: u64,
    quiet: bool,
    current_key: bool,
}

/// The next rewrite, if any is worth it.
#[must_use]
pub fn plan(candidates: &[Candidate], bounds: &Bounds) -> Option<Job> {
    let room = bounds.copy_octets.min(bounds.free);
    let groups = groups(candidates);
    let mut sparse: Vec<&Group> = groups.iter().filter(|group| is_sparse(group, bounds)).collect();
    sparse.sort_by_key(|group| (per_mille(group), group.shard, group.segments.first().copied()));
    let mut job: Option<(ShardId, BTreeSet<SegmentId>)> = None;
    let mut taken = 0;
    for group in sparse.into_iter().filter(|group| group.live <= room) {
        let (shard, segments) = job.get_or_insert_with(|| (group.shard, BTreeSet::new()));
        let fits = taken + group.live <= room && segments.len() + group.segments.len() <= SOURCES_MAX;
        if *shard == group.shard && fits && segments.is_disjoint(&group.segments) {
            taken += group.live;
            segments.extend(&group.segments);
        }
    }
    let (shard, segments) = job.or_else(|| {
        // One that is full makes a copy that is a little larger.
        let stale = groups.iter().filter(|group| !group.current_key && group.live <= bounds.free);
        let first = stale.min_by_key(|group| (group.shard, group.segments.first().copied()))?;
        Some((first.shard, first.segments.clone()))
    })?;
    Some(Job { shard, segments: segments.into_iter().collect() })
}

/// Each candidate with all that it cannot go without; those for which something of that is no candidate stay.
fn groups(candidates: &[Candidate]) -> Vec<Group> {
    let known: BTreeMap<(ShardId, SegmentId), &Candidate> =
        candidates.iter().map(|candidate| ((candidate.shard, candidate.segment), candidate)).collect();
    candidates.iter().filter_map(|candidate| group(candidate, &known)).collect()
}

fn group(first: &Candidate, known: &BTreeMap<(ShardId, SegmentId), &Candidate>) -> Option<Group> {
    let shard = first.shard;
    let (octets, live) = (0, 0);
    let mut group = Group { shard, segments: BTreeSet::new(), octets, live, quiet: true, current_key: true };
    let mut open = vec![first.segment];
    while let Some(segment) = open.pop() {
        let candidate = known.get(&(shard, segment))?;
        if group.segments.insert(segment) {
            group.octets = group.octets.saturating_add(candidate.octets);
            group.live = group.live.saturating_add(candidate.live);
            group.quiet &= candidate.quiet;
            group.current_key &= candidate.current_key;
            open.extend(&candidate.closers);
        }
    }
    (group.segments.len() <= SOURCES_MAX).then_some(group)
}

fn is_sparse(group: &Group, bounds: &Bounds) -> bool {
    let Group { octets, live, quiet, .. } = *group;
    let sparse = live.saturating_mul(100) <= octets.saturating_mul(SPARSE_PERCENT);
    sparse && octets - live >= GAIN_OCTETS_MIN && (quiet || bounds.pressed)
}

fn per_mille(group: &Group) -> u64 {
    group.live.saturating_mul(1000) / group.octets.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BOUNDS: Bounds = Bounds { copy_octets: 64 * MIB, free: 1 << 40, pressed: false };

    fn candidate(segment: u32, live_mib: u64) -> Candidate {
        Candidate {
            shard: ShardId(0),
            segment: SegmentId(segment),
            octets: 64 * MIB,
            live: live_mib * MIB,
            quiet: true,
            current_key: true,
            closers: Vec::new(),
        }
    }

    fn planned(candidates: &[Candidate], bounds: Bounds) -> Vec<u32> {
        let job = plan(candidates, &bounds);
        job.map_or_else(Vec::new, |job| job.segments.iter().map(|segment| segment.0).collect())
    }

    #[test]
    fn table_of_the_plan() {
        let busy = Candidate { quiet: false, ..candidate(1, 4) };
        let stale = Candidate { current_key: false, ..candidate(5, 65) };
        let small = Candidate { octets: 80_000, live: 39_999, ..candidate(6, 0) };
        let elsewhere = Candidate { shard: ShardId(1), ..candidate(7, 3) };
        let chunks = Candidate { closers: vec![SegmentId(9)], ..candidate(8, 0) };
        let narrow = Bounds { free: 3 * MIB, ..BOUNDS };
        let pressed = Bounds { pressed: true, ..BOUNDS };
        let rows: [(&str, &[Candidate], Bounds, &[u32]); 16] = [
            ("nothing", &[], BOUNDS, &[]),
            ("half is live", &[candidate(1, 32)], BOUNDS, &[1]),
            ("more than half is live", &[candidate(1, 33)], BOUNDS, &[]),
            ("it is being drained", std::slice::from_ref(&busy), BOUNDS, &[]),
            ("it is being drained, and the disk is full", std::slice::from_ref(&busy), pressed, &[1]),
            ("chunks, and their closing record", &[chunks.clone(), candidate(9, 20)], BOUNDS, &[8, 9]),
            (
                "chunks whose closing record is nearly alone",
                &[chunks.clone(), candidate(9, 60)],
                BOUNDS,
                &[8, 9],
            ),
            (
                "both are full",
                &[chunks.clone(), Candidate { live: 129 * MIB, ..candidate(9, 0) }],
                BOUNDS,
                &[],
            ),
            ("chunks whose closing record stays", &[chunks], BOUNDS, &[]),
            ("many into one", &[candidate(3, 2), candidate(1, 4), candidate(2, 1)], BOUNDS, &[1, 2, 3]),
            (
                "as many as one takes",
                &[candidate(1, 30), candidate(2, 31), candidate(3, 20)],
                BOUNDS,
                &[1, 3],
            ),
            ("no room for it", &[candidate(1, 4)], narrow, &[]),
            ("room for one of them", &[candidate(1, 4), candidate(2, 2)], narrow, &[2]),
            ("an older key", &[stale, candidate(8, 60)], BOUNDS, &[5]),
            ("too small to give anything back", &[small], BOUNDS, &[]),
            ("one directory at a time", &[elsewhere, candidate(1, 4)], BOUNDS, &[7]),
        ];
        for (name, candidates, bounds, expected) in rows {
            assert_eq!(planned(candidates, bounds), expected, "{name}");
        }
    }
}
