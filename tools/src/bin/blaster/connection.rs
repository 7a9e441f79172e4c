//! One connection of the blaster: the SMTP client machine of `stratamx` on a blocking socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use stratamx::smtp::client::{ClientEvent, ClientSession, Envelope, Extensions, TransactionOutcome};
use stratamx_tools::clock::{Clock, unix_us};

use crate::message::Message;

const READ_OCTETS: usize = 16 * 1024;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, ready for a transaction or for its end.
pub(crate) struct Connection {
    stream: TcpStream,
    session: ClientSession,
    input: Vec<u8>,
    clock: Clock,
}

/// One try to hand over a message.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) outcome: TransactionOutcome,
    /// Just before MAIL left.
    pub(crate) mail_unix_us: u64,
    /// When the outcome was known.
    pub(crate) reply_unix_us: u64,
    /// From MAIL to the outcome.
    pub(crate) latency: Duration,
}

impl Connection {
    /// Connects and greets.
    pub(crate) fn open(to: SocketAddr, hostname: &str) -> io::Result<Self> {
        let clock = Clock::start();
        let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        let session = ClientSession::new(hostname, clock.now());
        let mut connection = Self { stream, session, input: Vec::new(), clock };
        match connection.next_event()? {
            ClientEvent::Ready => Ok(connection),
            ClientEvent::Failed(failure) => Err(io::Error::other(failure)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether another transaction may begin.
    pub(crate) fn is_ready(&self) -> bool {
        self.session.is_ready() && !self.session.is_used_up()
    }

    /// Carries one transaction through. An error of the link is an outcome too.
    pub(crate) fn deliver(&mut self, message: &Message) -> io::Result<Attempt> {
        let recipients: Vec<&str> = message.recipients.iter().map(String::as_str).collect();
        let envelope = Envelope {
            reverse_path: &message.reverse_path,
            recipients: &recipients,
            octets: message.octets,
            has_8bit: message.has_8bit,
            extensions: Extensions::default(),
        };
        let (mail_unix_us, start) = (unix_us(), self.clock.now());
        self.session.send(&envelope, start);
        loop {
            match self.next_event()? {
                ClientEvent::SendData => self.send_data(&message.stuffed),
                ClientEvent::TransactionDone(outcome) => {
                    let latency = self.clock.now().saturating_sub(start);
                    return Ok(Attempt { outcome, mail_unix_us, reply_unix_us: unix_us(), latency });
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// QUIT, as far as the server still listens.
    pub(crate) fn close(mut self) {
        self.session.quit(self.clock.now());
        // Nothing depends on how a server says good-bye.
        let _ = self.next_event();
    }

    /// Writes the data; when that fails, the server cannot have its end, and the next event says so.
    fn send_data(&mut self, stuffed: &[u8]) {
        let written = self.stream.write_all(stuffed).and_then(|()| self.stream.write_all(b".\r\n"));
        if written.is_ok() {
            self.session.handle_data_sent(self.clock.now());
        }
    }

    /// Runs the machine to its next event; a lost link is one.
    fn next_event(&mut self) -> io::Result<ClientEvent> {
        loop {
            let step = self.session.handle_input(&self.input, self.clock.now());
            self.input.drain(..step.consumed);
            if step.event != ClientEvent::Idle {
                return Ok(step.event);
            }
            if step.consumed > 0 {
                continue;
            }
            let event = match self.exchange() {
                Ok(0) => self.session.handle_disconnect(),
                Ok(_) => ClientEvent::Idle,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.session.handle_timeout(self.clock.now())
                }
                Err(_) => self.session.handle_disconnect(),
            };
            if event != ClientEvent::Idle {
                return Ok(event);
            }
        }
    }

    /// Sends what is to be sent, then waits for what the server says.
    fn exchange(&mut self) -> io::Result<usize> {
        let octets = self.session.output().len();
        self.stream.write_all(self.session.output())?;
        self.session.output_sent(octets);
        let patience = self.session.poll_timeout().map(|deadline| deadline.saturating_sub(self.clock.now()));
        self.stream.set_read_timeout(patience.map(|patience| patience.max(Duration::from_millis(1))))?;
        let start = self.input.len();
        self.input.resize(start + READ_OCTETS, 0);
        let received = self.stream.read(&mut self.input[start..]);
        self.input.truncate(start + *received.as_ref().unwrap_or(&0));
        received
    }
}

fn unexpected(event: &ClientEvent) -> io::Error {
    io::Error::other(format!("unexpected: {event:?}"))
}
