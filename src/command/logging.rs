//! Log output: for people on a terminal, JSON lines otherwise, on standard error.
//!
//! Lines are handed to a thread, so that a terminal that stands still never stops a core; a reader that is slower than the
//! server loses lines, which are counted. `RUST_LOG` filters as usual; the default is `info`.

use std::io::{IsTerminal, stderr};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// Starts the log. Lines are written until the guard is dropped.
pub(super) fn start() -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(stderr());
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,hickory_resolver=warn"));
    let terminal = stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    if terminal {
        builder.with_ansi(true).init();
    } else {
        builder.json().flatten_event(true).with_ansi(false).init();
    }
    guard
}
