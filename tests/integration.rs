//! Integration tests: one binary, many modules.
