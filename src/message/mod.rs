//! Messages as bytes: what is read from and written into their header. Pure functions.

pub mod received;
