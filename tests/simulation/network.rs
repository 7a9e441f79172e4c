//! The network: streams of octets with a latency, that break at any octet, that hold everything back for a while, and hosts
//! that swallow or refuse whoever connects. What a read gives was written before, octet by octet: unless a canary sits here.

use crate::history::History;
use core::cell::{Cell, RefCell};
use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use storage::clock::Clock;
use storage::notify::Notify;
use storage::sim::SimClock;
use storage::sim::executor::Spawner;
use stratamx::shard::link::{Link, Spawn};

/// Octets that one direction holds; then who writes waits.
const WINDOW: usize = 64 << 10;

/// Starts tasks, and counts those that live (P7).
#[derive(Clone)]
pub struct Tasks {
    spawner: Spawner,
    live: Rc<Cell<usize>>,
    /// A canary: tasks are counted as if they never ended.
    leak: bool,
}

impl Tasks {
    pub fn new(spawner: Spawner, leak: bool) -> Self {
        Self { spawner, live: Rc::default(), leak }
    }

    pub fn live(&self) -> usize {
        self.live.get()
    }
}

impl Spawn for Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (live, leak) = (Rc::clone(&self.live), self.leak);
        live.set(live.get() + 1);
        self.spawner.spawn(async move {
            task.await;
            if !leak {
                live.set(live.get() - 1);
            }
        });
    }
}

/// How a connection is.
#[derive(Clone, Default)]
pub struct Quality {
    pub latency: Duration,
    /// It breaks behind so many octets, both directions together.
    pub breaks_behind: Option<u64>,
    /// Nothing moves while this is set, and who connects waits.
    pub partitioned: Rc<Cell<bool>>,
    /// A canary: an octet of each long write is another one when it comes.
    pub garbles: bool,
    /// A canary: some of what our side says is never heard.
    pub swallows: bool,
}

#[derive(Default)]
struct Pipe {
    /// On their way, with when they arrive.
    sent: RefCell<VecDeque<(Duration, Vec<u8>)>>,
    held: Cell<usize>,
    arrived: RefCell<VecDeque<u8>>,
    closed: Cell<bool>,
    ended: Cell<bool>,
    changed: Notify,
}

/// What both ends of a connection share.
struct Wire {
    quality: Quality,
    clock: SimClock,
    octets: Cell<u64>,
    broken: Cell<bool>,
    pipes: [Pipe; 2],
    history: Rc<History>,
    swallowed: Cell<u32>,
    /// Called when the node has read all that there was.
    heard: RefCell<Option<Box<dyn Fn()>>>,
}

/// One end.
pub struct End {
    wire: Rc<Wire>,
    /// The pipe that it reads.
    incoming: usize,
}

/// Tells whether a connection broke.
#[derive(Clone)]
pub struct Health(Rc<Wire>);

impl Health {
    pub fn is_broken(&self) -> bool {
        self.0.broken.get()
    }

    /// Has this called whenever the node has read all that there was.
    pub fn when_heard(&self, call: impl Fn() + 'static) {
        self.0.heard.replace(Some(Box::new(call)));
    }

    /// Whether the node has closed it.
    pub fn is_left(&self) -> bool {
        self.0.pipes[1].closed.get()
    }
}

/// A connection: the node's end, and that of who is outside.
pub fn connect(history: &Rc<History>, clock: &SimClock, spawner: &Spawner, quality: Quality) -> (End, End) {
    let wire = Rc::new(Wire {
        quality,
        clock: clock.clone(),
        octets: Cell::new(0),
        broken: Cell::new(false),
        pipes: Default::default(),
        history: Rc::clone(history),
        swallowed: Cell::new(0),
        heard: RefCell::new(None),
    });
    for pipe in 0..2 {
        spawner.spawn(carry(Rc::clone(&wire), pipe));
    }
    (End { wire: Rc::clone(&wire), incoming: 0 }, End { wire, incoming: 1 })
}

/// Takes what was sent to where it is read.
async fn carry(wire: Rc<Wire>, number: usize) {
    let pipe = &wire.pipes[number];
    loop {
        let changed = pipe.changed.wait();
        let first = pipe.sent.borrow().front().map(|(at, _)| *at);
        match first {
            _ if wire.broken.get() || pipe.ended.get() => return,
            Some(_) if wire.quality.partitioned.get() => wire.clock.sleep(Duration::from_secs(1)).await,
            Some(at) if at > wire.clock.now() => wire.clock.sleep(at - wire.clock.now()).await,
            Some(_) => {
                let (_, octets) = pipe.sent.borrow_mut().pop_front().expect("it was looked at");
                pipe.arrived.borrow_mut().extend(octets);
                pipe.changed.notify_all();
            }
            None if pipe.closed.get() => {
                pipe.ended.set(true);
                pipe.changed.notify_all();
            }
            None => changed.await,
        }
    }
}

impl Wire {
    fn is_up(&self) -> io::Result<()> {
        if self.broken.get() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    fn break_off(&self) {
        self.broken.set(true);
        self.history.count("connection broken at an octet");
        self.pipes.iter().for_each(|pipe| pipe.changed.notify_all());
    }

    /// How many octets more it takes before it breaks.
    fn left(&self) -> u64 {
        self.quality.breaks_behind.map_or(u64::MAX, |most| most.saturating_sub(self.octets.get()))
    }
}

impl End {
    pub fn health(&self) -> Health {
        Health(Rc::clone(&self.wire))
    }

    /// What the canaries make of a write.
    fn garbled(&self, mut octets: Vec<u8>) -> Vec<u8> {
        let wire = &self.wire;
        if wire.quality.garbles && octets.len() > 200 {
            let at = octets.len() / 2;
            if octets[at].is_ascii_alphanumeric() {
                octets[at] = if octets[at] == b'x' { b'y' } else { b'x' };
            }
        }
        if wire.quality.swallows && self.incoming == 0 {
            wire.swallowed.set(wire.swallowed.get() + 1);
            if wire.swallowed.get() == 7 {
                octets.clear();
            }
        }
        octets
    }
}

impl Link for End {
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        let pipe = &self.wire.pipes[self.incoming];
        loop {
            let changed = pipe.changed.wait();
            self.wire.is_up()?;
            let count = {
                let mut arrived = pipe.arrived.borrow_mut();
                let count = memory.len().min(arrived.len());
                memory[..count].iter_mut().zip(arrived.drain(..count)).for_each(|(to, from)| *to = from);
                count
            };
            if count > 0 {
                pipe.held.set(pipe.held.get() - count);
                pipe.changed.notify_all();
                if let Some(heard) = self.wire.heard.borrow().as_ref()
                    && self.incoming == 0
                    && pipe.held.get() == 0
                {
                    heard();
                }
            }
            if count > 0 || pipe.ended.get() {
                return Ok(count);
            }
            changed.await;
        }
    }

    fn has_unread(&self) -> bool {
        !self.wire.pipes[self.incoming].arrived.borrow().is_empty()
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let pipe = &self.wire.pipes[1 - self.incoming];
        loop {
            let changed = pipe.changed.wait();
            self.wire.is_up()?;
            let other_is_gone = self.wire.pipes[self.incoming].closed.get();
            let room = WINDOW.saturating_sub(pipe.held.get()).min(octets.len());
            if octets.is_empty() || other_is_gone && room == 0 {
                return Ok(octets.len());
            }
            if room > 0 {
                let left = self.wire.left();
                if (room as u64) > left {
                    self.wire.break_off();
                    continue;
                }
                self.wire.octets.set(self.wire.octets.get() + room as u64);
                let sent = self.garbled(octets[..room].to_vec());
                pipe.held.set(pipe.held.get() + sent.len());
                let at = self.wire.clock.now() + self.wire.quality.latency;
                pipe.sent.borrow_mut().push_back((at, sent));
                pipe.changed.notify_all();
                return Ok(room);
            }
            changed.await;
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        let pipe = &self.wire.pipes[1 - self.incoming];
        pipe.closed.set(true);
        pipe.changed.notify_all();
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let (incoming, outgoing) = (&self.wire.pipes[self.incoming], &self.wire.pipes[1 - self.incoming]);
        outgoing.closed.set(true);
        // Nobody reads any more: who writes need not wait.
        incoming.closed.set(true);
        incoming.held.set(0);
        incoming.ended.set(true);
        incoming.changed.notify_all();
        outgoing.changed.notify_all();
    }
}

/// A client's address by its number.
pub fn client(number: u64) -> IpAddr {
    let octet = u8::try_from(number % 250).expect("below 250");
    IpAddr::from([198, 51, 100, octet + 1])
}
