//! The proof that the memory of a session is used again: a bench that fails when a warm session needs more than it has.
//!
//! What is watched is octets in use, so an allocation is seen when it adds to them, if only for a moment; one that takes no more than what was given
//! back right before it is not. That nothing at all is allocated is not shown here.

use crate::MEMORY;
use crate::session::{Driven, turn_of};
use criterion::{Criterion, Throughput};

const WARM_UP_TURNS: usize = 4;

/// Commands and data of one message after the other, of long lines and of short ones; the highest memory in use during a turn is what was in use
/// before it.
pub(crate) fn bench(criterion: &mut Criterion) {
    let turns = [turn_of(998), turn_of(76)];
    let mut session = Driven::new();
    for turn in turns.iter().cycle().take(WARM_UP_TURNS) {
        session.turn(turn);
    }
    let mut group = criterion.benchmark_group("memory");
    group.throughput(Throughput::Elements(turns.len() as u64));
    group.bench_function("session=warm/growth=0", |bencher| {
        bencher.iter(|| {
            for turn in &turns {
                let before = MEMORY.current_usage();
                MEMORY.reset_peak_usage();
                session.turn(turn);
                assert_eq!(MEMORY.peak_usage(), before, "a message needed more memory");
            }
        });
    });
    group.finish();
}
