//! One connection of the sink: a transport, the session on it, and the line's delay and pace between them.
//!
//! A wake has two halves, with the record written in between: [`Connection::hear`] takes what came, [`Connection::speak`] sends what
//! is to be said. So no reply leaves before the line that it speaks of.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use stratamx_tools::transport::Transport;

use crate::session::{Flow, Session};
use crate::shaping::{DELAYED_OCTETS_MAX, Delayed, Pace};

/// Longest wait for a client that was told to go.
const FAREWELL: Duration = Duration::from_secs(5);
/// A client that does not read its replies is not heard beyond this many octets of them.
const UNSENT_OCTETS_MAX: usize = 256 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Line {
    /// Each way.
    pub(crate) delay: Duration,
    /// Octets a second that come in on one connection.
    pub(crate) bandwidth: Option<u64>,
    /// Over all of them.
    pub(crate) total: Option<Pace>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    pub(crate) session: Session,
    pub(crate) number: u64,
    /// What the session did not take yet.
    input: Vec<u8>,
    incoming: Delayed,
    outgoing: Delayed,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    pace: Option<Pace>,
    /// The client has ended its side.
    is_ended: bool,
    /// When a client that was told to go is left.
    leaves_at: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(transport: Transport, session: Session, number: u64, line: &Line) -> Self {
        Self {
            transport,
            session,
            number,
            input: Vec::new(),
            incoming: Delayed::default(),
            outgoing: Delayed::default(),
            unsent: Vec::new(),
            pace: line.bandwidth.map(Pace::new),
            is_ended: false,
            leaves_at: None,
        }
    }

    /// Takes what came, as far as the line carries it.
    pub(crate) fn hear(&mut self, line: &Line, scratch: &mut [u8], now: Duration) -> io::Result<()> {
        self.session.wake(now)?;
        self.take(&[], now)?;
        while let Some(octets) = self.incoming.pop(now) {
            self.take(&octets, now)?;
        }
        while self.may_read(line, now) {
            let most = [self.pace.as_ref(), line.total.as_ref()].into_iter().flatten();
            let most = most.map(Pace::octets_a_turn).min().unwrap_or(scratch.len()).min(scratch.len());
            match self.transport.read(&mut scratch[..most]) {
                Ok(0) => self.is_ended = true,
                Ok(octets) => {
                    for pace in [self.pace.as_ref(), line.total.as_ref()].into_iter().flatten() {
                        pace.take(octets, now);
                    }
                    if line.delay.is_zero() {
                        self.take(&scratch[..octets], now)?;
                    } else {
                        self.incoming.push(now + line.delay, &scratch[..octets]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.session.machine.wants_handshake()
            && self.transport.is_secured()
            && !self.transport.is_handshaking()
        {
            self.session.machine.handle_secured(now);
            // The first command may have come with the end of the handshake.
            self.take(&[], now)?;
        }
        Ok(())
    }

    /// Sends what may leave. False when the connection is over.
    pub(crate) fn speak(&mut self, line: &Line, now: Duration) -> io::Result<bool> {
        self.gather(line, now);
        while let Some(octets) = self.outgoing.pop(now) {
            self.unsent.extend_from_slice(&octets);
        }
        self.transport.flush()?;
        while !self.unsent.is_empty() {
            match self.transport.write(&[IoSlice::new(&self.unsent)]) {
                Ok(octets) => drop(self.unsent.drain(..octets)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_all_said =
            self.unsent.is_empty() && self.outgoing.octets() == 0 && !self.transport.is_pending();
        if is_all_said && self.session.machine.wants_handshake() && !self.transport.is_secured() {
            self.secure(line)?;
        }
        let has_heard_all = self.is_ended && self.incoming.octets() == 0 && self.session.is_settled();
        Ok(match self.session.flow {
            // A client that ended its side only still reads: what was said leaves first.
            Flow::Continue => !(has_heard_all && is_all_said),
            Flow::Hang => !self.is_ended,
            Flow::Close => !is_all_said,
            Flow::Refused => {
                let leaves_at = *self.leaves_at.get_or_insert(now + FAREWELL);
                !self.is_ended && now < leaves_at
            }
        })
    }

    /// When it has something to do, unless something comes.
    pub(crate) fn wakes_at(&self, line: &Line, now: Duration) -> Option<Duration> {
        let paces = [self.pace.as_ref(), line.total.as_ref()].into_iter().flatten();
        let paced = paces.filter_map(|pace| pace.free_at(now)).max();
        [self.session.wakes_at(), self.incoming.next(), self.outgoing.next(), self.leaves_at, paced]
            .into_iter()
            .flatten()
            .min()
    }

    fn may_read(&self, line: &Line, now: Duration) -> bool {
        let is_free = |pace: Option<&Pace>| pace.is_none_or(|pace| pace.free_at(now).is_none());
        let has_room = self.incoming.octets() < DELAYED_OCTETS_MAX
            && self.input.len() < DELAYED_OCTETS_MAX
            && self.unsent.len() + self.outgoing.octets() < UNSENT_OCTETS_MAX;
        // Between 220 and the handshake nothing is read as plain text.
        let is_between = self.session.machine.wants_handshake() && !self.transport.is_secured();
        !self.is_ended
            && has_room
            && !is_between
            && is_free(self.pace.as_ref())
            && is_free(line.total.as_ref())
    }

    /// Gives the session what it hears; the rest waits.
    fn take(&mut self, octets: &[u8], now: Duration) -> io::Result<()> {
        match self.session.flow {
            Flow::Continue => {}
            Flow::Refused if !octets.is_empty() => {
                self.session.refusal = b"221 2.0.0 Bye\r\n".to_vec();
                self.session.flow = Flow::Close;
                return Ok(());
            }
            Flow::Close | Flow::Hang | Flow::Refused => return Ok(()),
        }
        if self.input.is_empty() {
            let heard = self.session.hear(octets, now)?;
            self.input.extend_from_slice(&octets[heard..]);
        } else {
            self.input.extend_from_slice(octets);
            let heard = self.session.hear(&self.input, now)?;
            self.input.drain(..heard);
        }
        Ok(())
    }

    /// What the session says, on its way.
    fn gather(&mut self, line: &Line, now: Duration) {
        let refusal = core::mem::take(&mut self.session.refusal);
        let said = if self.session.may_speak() { self.session.machine.output() } else { &refusal[..] };
        if said.is_empty() {
            return;
        }
        if line.delay.is_zero() {
            self.unsent.extend_from_slice(said);
        } else {
            self.outgoing.push(now + line.delay, said);
        }
        let octets = said.len();
        if self.session.may_speak() {
            self.session.machine.output_sent(octets);
        }
    }

    /// The 220 has left: what was sent in plain text behind STARTTLS is nobody's (RFC 3207 6).
    fn secure(&mut self, line: &Line) -> io::Result<()> {
        self.input.clear();
        self.incoming = Delayed::default();
        let config = line.tls.clone().ok_or_else(|| io::Error::other("STARTTLS without a certificate"))?;
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        self.transport.secure(tls.into());
        Ok(())
    }
}
