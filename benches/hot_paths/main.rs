//! What each message goes through, part by part: the command, the mail data, the session, the record; and all of it at the real server through
//! sockets. Beside each is how one writes it first. In front, a proof by a counting allocator that a warm session takes mail in the memory that it has.
//!
//! The counting is in the times of all, also of the baselines: two additions an allocation.

mod command;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod end_to_end;
mod memory;
mod record;
mod session;

use criterion::Criterion;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    memory::bench(&mut criterion);
    command::bench(&mut criterion);
    data::bench(&mut criterion);
    session::bench(&mut criterion);
    record::bench(&mut criterion);
    end_to_end::bench(&mut criterion);
    criterion.final_summary();
}
