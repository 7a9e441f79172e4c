//! StrataMX.
pub mod limits;
pub mod smtp;
