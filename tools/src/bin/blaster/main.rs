//! `stratamx-blaster`: a load generator for any mail server that remembers every 250, and a checker of what arrived.
//!
//! ```text
//!   arguments --> Load --> a Worker a thread (worker: event loop)          main thread (load: slices put together)
//!                            Slot (slot, session)  its tasks                 Watch (watch): progress, HdrHistogram log
//!                              Link (link)  a connection                     report: table, JSON, HTML
//!                                Dialog (dialog)  SMTP, without sockets
//!                                Outbox (outbox)  what is to be written, bodies only pointed at (body)
//! ```
//! The goal is that the blaster is never the bottleneck: non-blocking sessions on a thread a processor, no work that grows with the size of a
//! message, no lock while messages are sent, a few system calls a message. Where it is one all the same, the report says so: by the
//! part of the run that its threads were on a processor.
//!
//! epoll (mio) and not io_uring: the tool is to run on machines whose kernels and containers allow no rings. Not the client machine of the
//! server (`smtp::client`) but a small one of its own (`dialog`), since a load generator also has to send what nobody offered.
//!
//! The checker (`check`, `verify`) is apart from the load: it reads files only.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool uses the machine's clock, files and threads as they are"
)]

mod arguments;
mod arrivals;
mod blast;
mod body;
mod check;
mod dialog;
mod flight;
mod free;
mod judge;
mod ledger;
mod link;
mod load;
mod malformed;
mod message;
mod misbehaver;
mod outbox;
mod problem;
mod report;
mod secrecy;
mod session;
mod shared;
mod slot;
mod tally;
mod task;
mod verify;
mod watch;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::problem::{Outcome, Problem};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.verify.is_empty() { blast::blast(&arguments) } else { check::check(&arguments) };
    let (complaints, status) = match done {
        Ok(Outcome { text, mut unwritten, is_good }) => {
            // First of all, what took so long to find out.
            let printed = io::stdout().write_all(text.as_bytes());
            unwritten.extend(printed.err().map(|error| error.to_string()));
            let status = u8::from(!is_good || !unwritten.is_empty());
            (unwritten, status)
        }
        Err(Problem::Usage(text)) => (vec![text], 2),
        Err(Problem::Failure(text)) => (vec![text], 1),
    };
    for complaint in complaints {
        eprintln!("stratamx-blaster: {complaint}");
    }
    ExitCode::from(status)
}
