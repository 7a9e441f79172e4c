//! StrataMX.
pub mod command;
pub mod config;
pub mod limits;
pub mod message;
pub mod smtp;
