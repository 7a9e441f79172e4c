//! One thread of the sink: an event loop over its connections.
//!
//! ```text
//!   wake --> hear (all that woke) --> record: one write --> speak (all that woke)
//! ```
//! Connections come from the thread that accepts, in turn. Invariant: when the loop waits, every connection has said what it could and
//! a wake for what it waits for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use stratamx_tools::clock::Clock;
use stratamx_tools::timers::Timers;
use stratamx_tools::transport::Transport;

use crate::connection::{Connection, Line};
use crate::session::{Session, Sink};

/// Octets asked of a socket at a time.
const READ_OCTETS: usize = 64 * 1024;
/// Events that one wake deals with.
const EVENTS: usize = 1024;
/// The token of the waker.
const ARRIVED: Token = Token(usize::MAX);

/// Where the thread that accepts puts connections.
#[derive(Debug)]
pub(crate) struct Door {
    arrived: Mutex<Vec<(u64, TcpStream)>>,
    waker: Waker,
}

/// See the module.
pub(crate) struct Worker {
    sink: Arc<Sink>,
    line: Arc<Line>,
    door: Arc<Door>,
    clock: Clock,
    poll: Poll,
    timers: Timers,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    /// The connection that was first to read at the last wake.
    first: usize,
}

impl Door {
    /// A connection was accepted.
    pub(crate) fn enter(&self, number: u64, stream: TcpStream) -> io::Result<()> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push((number, stream));
        self.waker.wake()
    }
}

impl Worker {
    /// A worker, and the door to it. All workers count from the same clock: they may share a pace.
    pub(crate) fn new(sink: Arc<Sink>, line: Arc<Line>, clock: Clock) -> io::Result<(Self, Arc<Door>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ARRIVED)?;
        let door = Arc::new(Door { arrived: Mutex::default(), waker });
        let worker = Self {
            sink,
            line,
            door: Arc::clone(&door),
            clock,
            poll,
            timers: Timers::default(),
            connections: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; READ_OCTETS],
            first: 0,
        };
        Ok((worker, door))
    }

    /// Serves until the process ends.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut woken = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.timers.next().map(|at| at.saturating_sub(now));
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            for event in &events {
                if event.token() == ARRIVED {
                    self.admit(&mut woken, now);
                } else {
                    woken.push(event.token().0);
                }
            }
            while let Some(index) = self.timers.due(now) {
                woken.push(index);
            }
            if self.line.total.is_some() {
                take_turns(&mut woken, self.first);
                self.first = woken.first().copied().unwrap_or(self.first);
            }
            self.serve(&mut woken, now)?;
        }
    }

    /// Hears all that woke, writes the record, and lets them speak. A connection is closed when what it leaves behind is on record too:
    /// whoever saw the end finds that.
    fn serve(&mut self, woken: &mut Vec<usize>, now: Duration) -> io::Result<()> {
        let (mut finished, mut over) = (Vec::new(), Vec::new());
        for index in &*woken {
            let Some(connection) = &mut self.connections[*index] else { continue };
            if let Err(error) = connection.hear(&self.line, &mut self.scratch, now) {
                eprintln!("session {}: {error}", connection.number);
                over.push(*index);
            }
            finished.append(&mut connection.session.finished);
        }
        self.sink.record.write(finished)?;
        for index in woken.drain(..) {
            let Some(connection) = &mut self.connections[index] else { continue };
            match connection.speak(&self.line, now) {
                Ok(true) => {
                    if let Some(at) = connection.wakes_at(&self.line, now) {
                        self.timers.set(index, at);
                    }
                }
                Ok(false) => over.push(index),
                Err(error) => {
                    eprintln!("session {}: {error}", connection.number);
                    over.push(index);
                }
            }
        }
        over.sort_unstable();
        over.dedup();
        let mut left = Vec::new();
        for index in &over {
            let Some(connection) = &mut self.connections[*index] else { continue };
            connection.session.end();
            left.append(&mut connection.session.finished);
        }
        self.sink.record.write(left)?;
        for index in over {
            self.connections[index] = None;
            self.free.push(index);
        }
        Ok(())
    }

    fn admit(&mut self, woken: &mut Vec<usize>, now: Duration) {
        let arrived = core::mem::take(&mut *self.door.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, stream) in arrived {
            match self.connect(number, stream, now) {
                Ok(index) => woken.push(index),
                Err(error) => eprintln!("session {number}: {error}"),
            }
        }
    }

    fn connect(&mut self, number: u64, stream: TcpStream, now: Duration) -> io::Result<usize> {
        let index = self.free.pop().unwrap_or(self.connections.len());
        if index == self.connections.len() {
            self.connections.push(None);
        }
        let mut transport = Transport::new(stream);
        self.poll.registry().register(
            &mut transport,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let session = Session::new(Arc::clone(&self.sink), number, now)?;
        self.connections[index] = Some(Connection::new(transport, session, number, &self.line));
        Ok(index)
    }
}

/// The one behind the last one that was first is first now: what all share may be used up by it.
fn take_turns(woken: &mut [usize], last: usize) {
    woken.sort_unstable();
    let next = woken.partition_point(|index| *index <= last);
    woken.rotate_left(next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wake_get_their_turn_at_what_they_share() {
        let (mut last, mut firsts) = (0, Vec::new());
        for _ in 0..6 {
            let mut woken = [2, 0, 5];
            take_turns(&mut woken, last);
            last = woken[0];
            firsts.push(last);
        }
        assert_eq!(firsts, [2, 5, 0, 2, 5, 0]);
        take_turns(&mut [], 3);
    }
}
