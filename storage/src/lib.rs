//! Storage.
pub mod clock;
pub mod commit;
pub mod compaction;
pub mod disk;
pub mod error;
pub mod facts;
pub mod format;
pub mod frontier;
mod identity;
pub mod log;
pub mod merge;
pub mod notify;
pub mod position;
pub mod reader;
pub mod segment;
pub mod shelf;
pub mod store;

pub use identity::save as save_identity;
#[cfg(feature = "sim")]
pub mod sim;
