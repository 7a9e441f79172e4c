//! What a load is, and what its workers have in common.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stratamx_tools::clock::Clock;

use crate::arrivals::Spread;
use crate::dialog::Style;
use crate::ledger::Ledger;
use crate::message::Plan;
use crate::secrecy::Secrecy;
use crate::tally::Slice;

/// What to send, where, and how.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    /// Addresses of ours that sessions go out from, in turn; none: the system's choice.
    pub(crate) from: Vec<IpAddr>,
    pub(crate) plan: Plan,
    pub(crate) style: Style,
    pub(crate) secrecy: Option<Secrecy>,
    /// [`u64::MAX`]: as many as the time allows.
    pub(crate) messages: u64,
    /// No message is begun later; [`Duration::MAX`]: all are.
    pub(crate) duration: Duration,
    pub(crate) ramp: Duration,
    pub(crate) pace: Pace,
    /// Sessions that carry the load.
    pub(crate) sessions: usize,
    /// Sessions of senders who drip, and how many octets a second each sends.
    pub(crate) slow_sessions: usize,
    pub(crate) slow_rate: u64,
    /// Sessions of senders who break the rules.
    pub(crate) malformed_sessions: usize,
    pub(crate) threads: usize,
    /// A session ends after so many messages and another begins; 0: never.
    pub(crate) messages_per_session: u64,
    /// Transactions in flight in a session, where they go by BDAT in groups.
    pub(crate) window: usize,
    /// How long one message is tried.
    pub(crate) patience: Duration,
    /// How long a reply is awaited.
    pub(crate) reply_timeout: Duration,
}

/// What decides when a message is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Closed,
    /// Arrivals a second, how they are spread, and how many may wait.
    Open {
        rate: f64,
        spread: Spread,
        queue: usize,
    },
}

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) load: &'a Load,
    pub(crate) ledger: &'a Ledger,
    pub(crate) clock: Clock,
    /// Number of the next message.
    pub(crate) next: AtomicU64,
    /// Messages of the load that were meant to be sent: of the open loop those that arrived, of the closed one those that were begun.
    /// Sessions that ask for more than there are count on.
    pub(crate) arrived: AtomicU64,
    /// Messages that are done with.
    pub(crate) done: AtomicU64,
    /// The run is to end now.
    pub(crate) stop: Arc<AtomicBool>,
    /// Why, where it can come to nothing.
    pub(crate) hopeless: OnceLock<String>,
}

/// What a worker tells while it works.
#[derive(Debug)]
pub(crate) enum Note {
    /// From which worker.
    Slice(usize, Box<Slice>),
    /// The worker hands over no more slices.
    Over(usize),
    /// A line for people.
    Complaint(String),
}

impl Load {
    /// Transactions that a session begins at most.
    pub(crate) fn messages_of_a_session(&self) -> u64 {
        if self.messages_per_session == 0 { u64::MAX } else { self.messages_per_session }
    }
}

impl Pace {
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}
