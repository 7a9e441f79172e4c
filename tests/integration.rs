//! Integration tests: one binary, many modules.
#[path = "conversations.rs"]
mod conversations;
