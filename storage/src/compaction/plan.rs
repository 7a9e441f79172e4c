//! Which segments to rewrite: a pure function of what is known about them.
//!
//! Worth it is a sealed segment of which little is left, that nobody pins, and that has been quiet: one that is being drained
//! will soon be gone by itself. The sparsest come first, as many as one copy takes. What is encrypted with an older
//! key, or not at all though there is a key, is rewritten whatever is left of it, one at a time.

use crate::format::segment_header::SOURCES_MAX;
use crate::position::{SegmentId, ShardId};

/// What is known about a segment that may be rewritten: sealed, unpinned, with something unsettled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// The next rewrite, if any is worth it.
#[must_use]
pub fn plan(candidates: &[Candidate], bounds: &Bounds) -> Option<Job> {
    let room = bounds.copy_octets.min(bounds.free);
    let mut sparse: Vec<&Candidate> = candidates.iter().filter(|c| is_sparse(c, bounds)).collect();
    sparse.sort_by_key(|c| (per_mille(c), c.shard, c.segment));
    let mut job: Option<Job> = None;
    let mut taken = 0;
    for candidate in sparse.into_iter().filter(|c| c.live <= room) {
        let job = job.get_or_insert_with(|| Job { shard: candidate.shard, segments: Vec::new() });
        let fits = taken + candidate.live <= room && job.segments.len() < SOURCES_MAX;
        if job.shard == candidate.shard && fits {
            taken += candidate.live;
            job.segments.push(candidate.segment);
        }
    }
    let mut job = job.or_else(|| {
        let stale = candidates.iter().filter(|c| !c.current_key && c.live <= room);
        let first = stale.min_by_key(|c| (c.shard, c.segment))?;
        Some(Job { shard: first.shard, segments: vec![first.segment] })
    })?;
    job.segments.sort_unstable();
    Some(job)
}

fn is_sparse(candidate: &Candidate, bounds: &Bounds) -> bool {
    let Candidate { octets, live, quiet, .. } = *candidate;
    let sparse = live.saturating_mul(100) <= octets.saturating_mul(SPARSE_PERCENT);
    sparse && octets - live >= GAIN_OCTETS_MIN && (quiet || bounds.pressed)
}

fn per_mille(candidate: &Candidate) -> u64 {
    candidate.live.saturating_mul(1000) / candidate.octets.max(1)
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
        }
    }

    fn planned(candidates: &[Candidate], bounds: Bounds) -> Vec<u32> {
        let job = plan(candidates, &bounds);
        job.map_or_else(Vec::new, |job| job.segments.iter().map(|segment| segment.0).collect())
    }

    #[test]
    fn table_of_the_plan() {
        let busy = Candidate { quiet: false, ..candidate(1, 4) };
        let stale = Candidate { current_key: false, ..candidate(5, 60) };
        let small = Candidate { octets: 80_000, live: 39_999, ..candidate(6, 0) };
        let elsewhere = Candidate { shard: ShardId(1), ..candidate(7, 3) };
        let narrow = Bounds { free: 3 * MIB, ..BOUNDS };
        let pressed = Bounds { pressed: true, ..BOUNDS };
        let rows: [(&str, &[Candidate], Bounds, &[u32]); 12] = [
            ("nothing", &[], BOUNDS, &[]),
            ("half is live", &[candidate(1, 32)], BOUNDS, &[1]),
            ("more than half is live", &[candidate(1, 33)], BOUNDS, &[]),
            ("it is being drained", &[busy], BOUNDS, &[]),
            ("it is being drained, and the disk is full", &[busy], pressed, &[1]),
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
