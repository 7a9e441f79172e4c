//! The world's senders in small: sessions that carry messages until each is acknowledged.

use super::verdict::Promised;
use crate::smtp::client::{ClientEvent, ClientSession, Envelope, Extensions, RecipientOutcome};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::thread;
use storage::clock::{Clock, SystemClock};

/// What the sessions share.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) server: SocketAddr,
    pub(super) messages: u32,
    pub(super) next: AtomicU32,
    pub(super) clock: SystemClock,
}

const RETRY_PAUSE: Duration = Duration::from_millis(50);
const LINK_TIMEOUT: Duration = Duration::from_secs(30);
const MAILBOXES: u32 = 20;

/// The data of message `number`, dot-stuffed, as it leaves: what the primary must have below our field.
pub(super) fn data_of(number: u32) -> Vec<u8> {
    let lines = 5 + number % 97 * 3;
    let mut data = format!("X-Demo-Number: {number}\r\nSubject: message {number}\r\n\r\n").into_bytes();
    for line in 0..lines {
        let mark = number.wrapping_mul(2_654_435_761).wrapping_add(line);
        let dot = if mark.is_multiple_of(7) { ".." } else { "" };
        let text = format!("{dot}line {line} of message {number} has the mark {mark:08x}\r\n");
        data.extend_from_slice(text.as_bytes());
    }
    data
}

/// The recipient of message `number`.
pub(super) fn recipient_of(number: u32) -> String {
    format!("user{}@example.test", number % MAILBOXES)
}

/// One session: takes numbers until there are none, tells of each acknowledgement.
pub(super) fn run(load: &Load, told: &Sender<Promised>) {
    let mut session: Option<Session> = None;
    loop {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        if number >= load.messages {
            return;
        }
        let mut mail_at = None;
        // As a sender's queue: the message is tried until it is taken.
        let acknowledged_at = loop {
            if session.is_none() {
                session = Session::open(load).ok();
            }
            let Some(open) = session.as_mut() else {
                thread::park_timeout(RETRY_PAUSE);
                continue;
            };
            mail_at.get_or_insert(load.clock.now());
            match open.deliver(number) {
                Ok(true) => break load.clock.now(),
                Ok(false) => {
                    session = session.filter(|open| !open.machine.is_used_up());
                    thread::park_timeout(RETRY_PAUSE);
                }
                Err(_) => session = None,
            }
        };
        let mail_at = mail_at.unwrap_or(acknowledged_at);
        let promised = Promised { number, mail_at, acknowledged_at };
        if told.send(promised).is_err() {
            return;
        }
    }
}

struct Session {
    stream: TcpStream,
    machine: ClientSession,
    clock: SystemClock,
    input: Vec<u8>,
}

impl Session {
    fn open(load: &Load) -> io::Result<Self> {
        let stream = TcpStream::connect(load.server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LINK_TIMEOUT))?;
        let machine = ClientSession::new("sender.demo", load.clock.now());
        let mut session = Self { stream, machine, clock: load.clock, input: Vec::new() };
        match session.next_event()? {
            ClientEvent::Ready => Ok(session),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Whether the server took it.
    fn deliver(&mut self, number: u32) -> io::Result<bool> {
        let (data, recipient) = (data_of(number), recipient_of(number));
        let envelope = Envelope {
            reverse_path: "demo@example.org",
            recipients: &[&recipient],
            octets: data.len() as u64,
            has_8bit: false,
            extensions: Extensions::default(),
        };
        self.machine.send(&envelope, self.clock.now());
        loop {
            match self.next_event()? {
                ClientEvent::SendData => {
                    self.stream.write_all(&[&data[..], b".\r\n"].concat())?;
                    self.machine.handle_data_sent(self.clock.now());
                }
                ClientEvent::TransactionDone(outcome) => {
                    return match outcome.recipients.first() {
                        Some(RecipientOutcome::Delivered(_)) => Ok(true),
                        Some(RecipientOutcome::Deferred { .. }) => Ok(false),
                        other => Err(io::Error::other(format!("{other:?}"))),
                    };
                }
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
    }

    fn next_event(&mut self) -> io::Result<ClientEvent> {
        loop {
            let step = self.machine.handle_input(&self.input, self.clock.now());
            self.input.drain(..step.consumed);
            if step.event != ClientEvent::Idle {
                return Ok(step.event);
            }
            if step.consumed > 0 {
                continue;
            }
            let octets = self.machine.output().len();
            self.stream.write_all(self.machine.output())?;
            self.machine.output_sent(octets);
            let mut memory = [0; 4096];
            match self.stream.read(&mut memory)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&memory[..count]),
            }
        }
    }
}
