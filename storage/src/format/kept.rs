//! Copies of delivered mail that are kept (`FORMAT.md`, "Settlement"): which units of a segment, since when, how long. They stand among
//! facts, in twice 16 octets, as outcomes that a program which does not know them leaves out (H13): such a program keeps no copies.

use super::{Reader, Writer};
use crate::position::{SegmentId, ShardId};

/// Units one behind the other in a segment that were delivered at the same second, and whose records stay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeptRun {
    /// The directory.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The number of the first unit there.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// When they were delivered, in seconds since 1970.
    pub delivered_s: u32,
    /// Until when they are kept, in seconds since 1970.
    pub until_s: u32,
    /// They were queued once more since.
    pub replayed: bool,
}

const ROW_OCTETS: usize = 16;
const CODE_AT: usize = 12;
const UNITS_CODE: u8 = 33;
const TIMES_CODE: u8 = 34;

impl KeptRun {
    /// Appends the 32 octets of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out)
            .u32(self.segment.0)
            .u32(self.first)
            .u32(self.count)
            .u8(UNITS_CODE)
            .u16(self.shard.0)
            .zeros(1);
        Writer(out).u32(self.delivered_s).u32(self.until_s).u32(self.replayed.into()).u8(TIMES_CODE).zeros(3);
    }

    /// Those in the payload of a settlement. One whose second half is missing is none.
    pub fn decode_all(payload: &[u8]) -> impl Iterator<Item = Self> {
        let rows = payload.chunks_exact(ROW_OCTETS);
        let pairs = rows.clone().zip(rows.skip(1));
        pairs.filter(|(one, other)| one[CODE_AT] == UNITS_CODE && other[CODE_AT] == TIMES_CODE).filter_map(
            |(one, other)| {
                let (mut units, mut times) = (Reader::new(one), Reader::new(other));
                let segment = SegmentId(units.u32()?);
                let (first, count) = (units.u32()?, units.u32()?);
                units.u8()?;
                let shard = ShardId(units.u16()?);
                let (delivered_s, until_s) = (times.u32()?, times.u32()?);
                let replayed = times.u32()? & 1 != 0;
                first.checked_add(count)?;
                Some(Self { shard, segment, first, count, delivered_s, until_s, replayed })
            },
        )
    }

    /// The number behind that of the last unit.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.first + self.count
    }

    /// Whether `next` may be told with it as one.
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        let place = |run: &Self| (run.shard, run.segment, run.delivered_s, run.until_s, run.replayed);
        place(self) == place(next) && self.end() == next.first
    }

    /// Adds a run to others, to the last of them where it goes on with it.
    pub fn add_to(self, runs: &mut Vec<Self>) {
        match runs.last_mut().filter(|last| last.is_followed_by(&self)) {
            Some(last) => last.count += self.count,
            None => runs.push(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::journal_entry::{Authentication, Fact, Outcome};
    use crate::position::Stamp;

    fn run(first: u32, count: u32) -> KeptRun {
        KeptRun {
            shard: ShardId(513),
            segment: SegmentId(7),
            first,
            count,
            delivered_s: 1_800_000_000,
            until_s: 1_800_086_400,
            replayed: first == 9,
        }
    }

    #[test]
    fn runs_stand_among_facts_and_read_back() {
        let fact = Fact { stamp: Stamp(9), ordinal: 1, outcome: Outcome::Delivered, code: 250 };
        let mut payload = Vec::new();
        fact.encode(&mut payload);
        run(3, 4).encode(&mut payload);
        Authentication { stamp: Stamp(9), bits: 5 }.encode(&mut payload);
        run(9, 1).encode(&mut payload);
        assert_eq!(KeptRun::decode_all(&payload).collect::<Vec<_>>(), [run(3, 4), run(9, 1)]);
        assert_eq!(Fact::decode_all(&payload), Some(vec![fact]), "an older program leaves them out");
        assert_eq!(Authentication::decode_all(&payload).count(), 1);
        payload.truncate(payload.len() - ROW_OCTETS);
        assert_eq!(KeptRun::decode_all(&payload).count(), 1, "half a run is none");
    }

    #[test]
    fn what_goes_on_where_another_ends_is_one_run() {
        let mut runs = Vec::new();
        for one in [run(3, 1), run(4, 2), run(7, 1), KeptRun { until_s: 1, ..run(8, 1) }] {
            one.add_to(&mut runs);
        }
        assert_eq!(runs, [run(3, 3), run(7, 1), KeptRun { until_s: 1, ..run(8, 1) }]);
    }
}
