//! The data plane: one shard a core, everything of it on one executor, nothing shared but stamps, floors and
//! the notes of the [`mesh`].
//!
//! A shard accepts connections, speaks SMTP, appends to its own log and delivers the mail of the domains that
//! hash to it, from all shards' logs. This is the walk of a message:
//!
//! ```text
//! accept -> connection -> smtp::server      what does the client say?
//!               |-> verdict, policy         is it welcome? is it known?
//!               |-> proxy                   is its primary up? then it answers, while the sender waits
//!               `-> ingest -> storage::log  durable -> 250
//!                                |
//!            committer: arrivals of a batch -> mesh -> replay of the owner
//!                                                         |-> dial -> delivery -> smtp::client -> primary
//!                                                         `-> journal: settled -> mesh -> shelf -> unlink
//! ```
//!
//! Generic over `Disk` and `Clock` of `storage` and over [`link`]'s `Link`, `Dialer` and `Spawn`: the same code runs in
//! the simulators (`simulated`, `tests/simulation`): [`node`] puts it together for all of them. Only `executor` and `socket` know glommio.

mod accept;
mod authentication;
mod backlog;
mod callouts;
pub mod caps;
mod checkpoint;
mod checkpoints;
mod codes;
mod compaction;
mod connection;
pub mod deferrals;
mod epoch;
mod etrn;
pub mod executor;
mod expiry_clock;
mod hosts;
mod housekeeping;
mod ingest;
mod interrupt;
mod keeping;
pub mod link;
mod measured;
pub mod mesh;
pub mod node;
mod operator;
mod places;
mod policy;
mod proxy;
pub mod proxy_header;
mod receive_buffer;
mod receiving;
mod replay;
mod retention;
pub mod socket;
mod state;
mod tls;
mod traces;
mod upstream;
mod verdict;
mod verdicts;

#[cfg(test)]
mod simulated;
