//! Primaries: hosts with a mood, that outlive the node, and the way to them. Their server is written for this test alone and
//! shares nothing with the product's, so that both cannot be wrong in the same way.

#[path = "primary/session.rs"]
mod session;

use crate::canary::Bug;
use crate::history::{History, Unit};
use crate::network::{End, Quality, Tasks, connect};
use core::cell::{Cell, RefCell};
use core::future::pending;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use session::Session;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use storage::clock::Clock;
use storage::sim::executor::Spawner;
use storage::sim::{Random, SimClock};
use stratamx::shard::link::{Dialer, Spawn};

/// Where in a session a host may end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Greeting,
    Hello,
    Sender,
    Recipient,
    DataStart,
    DataEnd,
}

/// How a host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Well,
    /// Connections are refused.
    Refusing,
    /// Connections are neither made nor refused.
    Swallowing,
    /// It takes connections and says nothing.
    Hanging,
    /// `550` to every recipient (H22, H40).
    HalfRestored,
    /// `451` to whom it has not seen for five minutes.
    Greylisting,
    /// Another machine is there, which takes whatever comes (H41).
    Another,
    /// `421` behind so many messages of a connection.
    Pacing(u32),
    /// It thinks for so long about each message.
    Slow(Duration),
    /// An octet each so often.
    Dripping(Duration),
    /// It takes every second message, and never answers the end of data.
    Deaf,
    /// It closes there, every second time.
    ClosesAt(Stage),
    /// `4xx` to everything (H23).
    PuttingOff,
    /// Now and then it says what no server may.
    Rambling,
}

impl Mood {
    /// Whether nobody who connects is served at all.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Refusing | Self::Swallowing | Self::Hanging)
    }

    /// The word for it where faults are counted.
    pub fn word(self) -> &'static str {
        match self {
            Self::Well => "primary is well",
            Self::Refusing => "primary refuses connections",
            Self::Swallowing => "primary swallows connections",
            Self::Hanging => "primary says nothing",
            Self::HalfRestored => "primary 550 to all",
            Self::Greylisting => "primary greylists",
            Self::Another => "another machine answers",
            Self::Pacing(_) => "primary 421 after n",
            Self::Slow(_) => "primary is slow",
            Self::Dripping(_) => "primary drips",
            Self::Deaf => "primary never answers the dot",
            Self::ClosesAt(_) => "primary closes in a state",
            Self::PuttingOff => "primary 4xx to all",
            Self::Rambling => "primary out of spec",
        }
    }
}

/// A host.
pub struct Host {
    pub address: IpAddr,
    pub mood: Cell<Mood>,
    /// How many machines there were before, as far as that is told.
    pub machine: Cell<u32>,
    /// Whether its connections move at all.
    pub partitioned: Rc<Cell<bool>>,
    pub xclient: bool,
    pub chunking: bool,
    pub pipelining: bool,
    /// It takes notices, and nothing ever goes wrong with it but its connections.
    pub is_smarthost: bool,
    /// When whom was seen first.
    seen: RefCell<BTreeMap<Unit, Duration>>,
    /// All is well for good: mailboxes are made, filters are mended, and nobody is refused any more.
    pub is_healed: Cell<bool>,
    /// Served connections at a time.
    pub live: Cell<u32>,
    pub most_live: Cell<u32>,
}

impl Host {
    pub fn new(address: IpAddr, random: &mut Random) -> Self {
        Self {
            address,
            mood: Cell::new(Mood::Well),
            machine: Cell::new(0),
            partitioned: Rc::default(),
            xclient: !random.one_in(3),
            chunking: !random.one_in(2),
            pipelining: !random.one_in(4),
            is_smarthost: false,
            seen: RefCell::default(),
            is_healed: Cell::new(false),
            live: Cell::new(0),
            most_live: Cell::new(0),
        }
    }
}

/// All hosts, as one life reaches them.
#[derive(Clone)]
pub struct Outside {
    pub hosts: Rc<Vec<Rc<Host>>>,
    pub history: Rc<History>,
    pub clock: SimClock,
    pub spawner: Spawner,
    pub tasks: Tasks,
    pub random: Rc<RefCell<Random>>,
    /// Connections break at an octet once in so many; 0: never.
    pub breaking: Rc<Cell<u64>>,
    pub latency: Duration,
    pub bug: Option<Bug>,
    /// Until then nobody is let through, by the world's time: a canary.
    pub late_until: Rc<Cell<Duration>>,
}

impl Outside {
    /// True once in `times`; never for 0.
    pub fn one_in(&self, times: u64) -> bool {
        times > 0 && self.random.borrow_mut().one_in(times)
    }

    /// How the next connection is.
    pub fn quality(&self, partitioned: &Rc<Cell<bool>>) -> Quality {
        let breaks = self.one_in(self.breaking.get());
        let mut random = self.random.borrow_mut();
        let behind = if random.one_in(2) { 600 } else { 20_000 };
        Quality {
            latency: self.latency,
            breaks_behind: breaks.then(|| random.below(behind)),
            partitioned: Rc::clone(partitioned),
            garbles: false,
            swallows: false,
        }
    }

    fn host(&self, address: IpAddr) -> Option<&Rc<Host>> {
        self.hosts.iter().find(|host| host.address == address)
    }
}

impl Dialer for Outside {
    type Link = End;

    async fn dial(&self, address: SocketAddr) -> io::Result<End> {
        let Some(host) = self.host(address.ip()) else {
            return Err(io::ErrorKind::HostUnreachable.into());
        };
        self.clock.sleep(self.latency).await;
        while host.partitioned.get() {
            self.history.count("partition");
            self.clock.sleep(Duration::from_secs(1)).await;
        }
        let time = self.history.time(self.clock.now());
        match host.mood.get() {
            _ if time < self.late_until.get() => return Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Swallowing => {
                self.history.count(Mood::Swallowing.word());
                return pending().await;
            }
            Mood::Refusing => {
                self.history.count(Mood::Refusing.word());
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            _ => {}
        }
        let mut quality = self.quality(&host.partitioned);
        quality.garbles = self.bug == Some(Bug::GarbledOctet);
        let (ours, theirs) = connect(&self.history, &self.clock, &self.spawner, quality);
        host.live.set(host.live.get() + 1);
        host.most_live.set(host.most_live.get().max(host.live.get()));
        let (host, session) = (Rc::clone(host), Session::run(self.clone(), Rc::clone(host), theirs));
        // Not a task of the node.
        self.spawner.spawn(async move {
            session.await;
            host.live.set(host.live.get() - 1);
        });
        Ok(ours)
    }
}

impl Spawn for Outside {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(task);
    }
}
