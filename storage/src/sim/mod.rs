//! The simulated machine: a disk that crashes, a clock that only moves when nobody runs, an executor whose
//! choices come from one seed. Seen by tests and benches only.

pub mod clock;
mod content;
pub mod crash;
pub mod disk;
pub mod executor;
mod fault;
pub mod meter;
pub mod random;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use executor::Executor;
pub use random::Random;
