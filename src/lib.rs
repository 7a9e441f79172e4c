//! StrataMX.
pub mod command;
pub mod config;
pub mod limits;
pub mod smtp;
