//! A read-only walk over a data directory, for the offline tool.
