//! A sender who breaks the rules: one connection after the other, a fault on each, with a pause between them.

use std::net::SocketAddr;
use std::time::Duration;

use mio::{Registry, Token};
use stratamx_tools::transport::Transport;

use crate::link::{connect, receive, send};
use crate::malformed::{Fault, KINDS, Kind, Verdict};
use crate::shared::Load;
use crate::tally::{Counts, Faults};

/// From one connection to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that says nothing to a fault has let it drop.
const TIMEOUT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Misbehaver {
    /// How many faults went before.
    count: usize,
    recipient: String,
    attempt: Option<Attempt>,
    begins_at: Duration,
}

#[derive(Debug)]
struct Attempt {
    kind: Kind,
    fault: Fault,
    transport: Transport,
    input: Vec<u8>,
    is_connected: bool,
    ends_at: Duration,
}

/// What came of an attempt.
enum End {
    Verdict(Verdict),
    Dropped,
}

impl Misbehaver {
    /// It begins with another fault than its neighbours.
    pub(crate) fn new(count: usize, recipient: String) -> Self {
        Self { count, recipient, attempt: None, begins_at: Duration::ZERO }
    }

    /// Goes on; when to be woken at the latest.
    pub(crate) fn drive(
        &mut self,
        load: &Load,
        registry: &Registry,
        token: Token,
        now: Duration,
        counts: &mut Counts,
    ) -> Duration {
        if self.attempt.is_none() {
            if now < self.begins_at {
                return self.begins_at;
            }
            self.attempt = self.begin(load.to, registry, token, now);
            self.begins_at = now + PAUSE;
        }
        let Some(attempt) = &mut self.attempt else { return self.begins_at };
        if let Some(end) = attempt.go_on(now) {
            let faults: &mut Faults = counts.faults.entry(attempt.kind.name()).or_default();
            match end {
                End::Verdict(Verdict::Refused) => faults.refused += 1,
                End::Verdict(Verdict::Taken) => faults.taken += 1,
                End::Dropped => faults.dropped += 1,
            }
            self.attempt = None;
            self.begins_at = now + PAUSE;
            return self.begins_at;
        }
        attempt.ends_at
    }

    fn begin(&mut self, to: SocketAddr, registry: &Registry, token: Token, now: Duration) -> Option<Attempt> {
        let kind = KINDS[self.count % KINDS.len()];
        self.count += 1;
        // A server that is away is what the load tells of.
        let transport = connect(to, None, registry, token).ok()?;
        let fault = Fault::new(kind, &self.recipient);
        let ends_at = now + TIMEOUT;
        Some(Attempt { kind, fault, transport, input: Vec::new(), is_connected: false, ends_at })
    }
}

impl Attempt {
    fn go_on(&mut self, now: Duration) -> Option<End> {
        if !self.is_connected {
            match self.transport.check() {
                Ok(()) => self.is_connected = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotConnected && now < self.ends_at => {
                    return None;
                }
                Err(_) => return Some(End::Dropped),
            }
        }
        let is_open = receive(&mut self.transport, &mut [0; 4096], &mut self.input, true).unwrap_or(false);
        loop {
            let (consumed, verdict) = self.fault.handle_input(&self.input);
            self.input.drain(..consumed);
            if let Some(verdict) = verdict {
                return Some(End::Verdict(verdict));
            }
            if consumed == 0 {
                break;
            }
        }
        let is_sent = send(&mut self.transport, &mut self.fault.out, usize::MAX).is_ok();
        (!is_open || !is_sent || now >= self.ends_at).then_some(End::Dropped)
    }
}
