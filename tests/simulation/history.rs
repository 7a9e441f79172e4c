//! What the outside saw: all that a checker may know beside the disk at the end. Every event has its place in one order.

use core::cell::{Cell, RefCell};
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// A point of the one order.
pub type Instant = u64;

/// What a sender was told about his message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing: the connection ended, or the node, before the reply to the end of data came, and the end was sent.
    Nothing,
    /// Nothing, and the end of data was never sent.
    Abandoned,
    /// `250`, and it is ours.
    Ours(String),
    /// `250` in words of the primary's.
    Primarys,
    /// A refusal.
    Refused(u16),
}

/// One transaction of a sender.
#[derive(Clone, Debug)]
pub struct Sent {
    pub number: u32,
    pub reverse_path: String,
    /// Whether that is proven to be his.
    pub proven: bool,
    /// Those that were accepted at RCPT.
    pub recipients: Vec<String>,
    /// And those that were refused, with the code.
    pub refused: Vec<(String, u16)>,
    pub data: Vec<u8>,
    pub mail_at: Instant,
    pub told_at: Instant,
    /// By the world's time.
    pub told_time: Duration,
    pub life: u32,
    pub told: Told,
}

/// A message that a primary took.
#[derive(Clone, Debug)]
pub struct Taken {
    pub number: u32,
    pub recipients: Vec<String>,
    pub data: Vec<u8>,
    /// When the node had read all of the reply to it, by the world's time.
    pub answered: Option<Duration>,
    pub connection: u32,
    pub life: u32,
    /// Another machine in the primary's place took it.
    pub by_another: bool,
    /// Whether the reply cannot have been heard, as far as the primary knows.
    pub reply_lost: bool,
}

/// A notice that arrived.
#[derive(Clone, Debug)]
pub struct Notice {
    pub to: String,
    pub id: String,
    /// Final recipients.
    pub units: Vec<String>,
}

/// What an operator wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Act {
    Hold,
    Release,
    Remove,
}

/// A refusal by a primary, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub at: Instant,
    /// All recipients are refused while the host is half restored.
    pub is_half_restored: bool,
}

/// A unit: message and mailbox.
pub type Unit = (u32, String);

/// See the module.
#[derive(Default)]
pub struct History {
    pub sent: RefCell<BTreeMap<u32, Sent>>,
    pub taken: RefCell<Vec<Taken>>,
    /// When each unit was first offered, the MAIL of its first try: in the one order, and by the world's time.
    pub offered: RefCell<BTreeMap<Unit, (Instant, Duration)>>,
    /// Messages that primaries put off.
    pub put_off: RefCell<BTreeSet<u32>>,
    /// How often a connection to a primary ended while the message was under way.
    pub broken_over: RefCell<BTreeMap<u32, u32>>,
    /// Connections that ended before a primary had seen the MAIL that was on its way, if any was: host and world's time.
    pub ended_early: RefCell<Vec<(IpAddr, Duration)>>,
    pub refused: RefCell<BTreeMap<Unit, Vec<Refusal>>>,
    pub notices: RefCell<Vec<Notice>>,
    pub acted: RefCell<BTreeMap<u32, BTreeSet<Act>>>,
    /// What is wrong by itself: a silence, a reply nobody may give.
    pub wrong: RefCell<Vec<String>>,
    /// When lives ended by a crash: world's time.
    pub crashes: RefCell<Vec<Duration>>,
    pub fired: RefCell<BTreeMap<&'static str, u64>>,
    instant: Cell<Instant>,
    number: Cell<u32>,
    pub life: Cell<u32>,
    /// The world's time at the start of this life.
    pub began: Cell<Duration>,
}

impl History {
    /// The next point of the order.
    pub fn tick(&self) -> Instant {
        self.instant.set(self.instant.get() + 1);
        self.instant.get()
    }

    /// A number for a transaction, or a connection.
    pub fn next_number(&self) -> u32 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// A fault fired.
    pub fn count(&self, what: &'static str) {
        *self.fired.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn complain(&self, what: String) {
        self.wrong.borrow_mut().push(what);
    }

    /// The world's time, of a life's.
    pub fn time(&self, now: Duration) -> Duration {
        self.began.get() + now
    }
}

/// The number of the message with this reverse-path.
pub fn number_of(reverse_path: &str) -> Option<u32> {
    reverse_path.strip_prefix('t')?.split('@').next()?.parse().ok()
}

/// The domain of a mailbox.
pub fn domain_of(mailbox: &str) -> &str {
    mailbox.rsplit_once('@').map_or("", |(_, domain)| domain)
}
