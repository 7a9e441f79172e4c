//! The stratamx command.
fn main() {}
