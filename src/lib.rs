//! StrataMX.
pub mod bridge;
pub mod command;
pub mod config;
pub mod control;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod shard;
pub mod smtp;
