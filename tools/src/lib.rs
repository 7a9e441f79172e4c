//! What the test tools share: the shapes of their records, and how a message is known again after its journey.
//!
//! Two records meet in the checker: the *ledger* of a sender (one [`record::Acknowledged`] for each 250 that it
//! got) and the *record* of a primary (one [`record::Arrival`] for each transaction that it saw). Both are JSON
//! lines, so that senders and primaries in other languages can write them too.
//!
//! Both tools are event loops over non-blocking sockets, one a processor ([`transport`], [`timers`]): a load generator or a server
//! that is slower than what is measured measures itself. They are over epoll and not over io_uring as the server is, since they are to
//! run wherever the server under test can be reached from.
#![allow(clippy::disallowed_methods, reason = "a tool uses the machine's clock and files as they are")]

pub mod clock;
pub mod draw;
pub mod fingerprint;
pub mod machine;
pub mod record;
pub mod timers;
pub mod transport;
pub mod unit;
