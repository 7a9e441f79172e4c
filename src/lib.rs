//! StrataMX.
pub mod limits;
pub mod message;
pub mod smtp;
