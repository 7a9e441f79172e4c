//! One connection to a primary: drives the client machine over a link and writes stored data as it lies.

use super::addressee::{Addressee, extensions, goes_without_smtputf8, merged};
use crate::limits::{CLIENT_INPUT_OCTETS, OPEN_TIMEOUT, QUIT_TIMEOUT};
use crate::shard::interrupt::{Interrupt, Reason};
use crate::shard::link::Link;
use crate::smtp::Moment;
use crate::smtp::client::{
    ClientEvent, ClientFailure, ClientSession, Envelope, Extensions, RecipientOutcome, TransactionOutcome,
};
use crate::smtp::dsn::RcptDsn;
use std::io;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::message::MessageView;
use storage::position::ShardId;
use storage::reader::Reader;

/// A session with a primary.
pub(super) struct Delivery<L, C> {
    link: L,
    session: ClientSession,
    clock: C,
    interrupt: Rc<Interrupt>,
    input: Vec<u8>,
    filled: usize,
    data_sent: bool,
    /// Until when the greeting and EHLO must be done.
    opening: Option<Moment>,
}

/// Why a message was not carried to an outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A part of the record cannot be read; the connection was given up before the end of data.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The end of mail data (RFC 5321 4.1.1.4); stored data ends with a line end.
const TERMINATOR: &[u8] = b".\r\n";
/// Up to this size trace field, data and terminator leave in one write.
const ONE_WRITE_OCTETS: usize = 64 * 1024;

impl<L: Link, C: Clock> Delivery<L, C> {
    /// Greets the primary.
    pub(super) async fn open(
        link: L,
        hostname: &str,
        clock: C,
        interrupt: Rc<Interrupt>,
    ) -> Result<Self, ClientFailure> {
        let session = ClientSession::new(hostname, clock.now());
        let input = vec![0; CLIENT_INPUT_OCTETS];
        let opening = Some(clock.now() + OPEN_TIMEOUT);
        let mut delivery =
            Self { link, session, clock, interrupt, input, filled: 0, data_sent: false, opening };
        match delivery.next_event().await {
            ClientEvent::Ready => {
                delivery.opening = None;
                Ok(delivery)
            }
            ClientEvent::Failed(failure) => {
                delivery.close().await;
                Err(failure)
            }
            ClientEvent::Idle
            | ClientEvent::SendData
            | ClientEvent::TransactionDone(_)
            | ClientEvent::Closed => Err(ClientFailure::Disconnected),
        }
    }

    /// Whether the peer calls itself `hostname` in its greeting (RFC 5321 4.2).
    pub(super) fn greets_as(&self, hostname: &str) -> bool {
        let name = self.session.greeting().split_ascii_whitespace().next();
        name.is_some_and(|name| name.eq_ignore_ascii_case(hostname))
    }

    /// Whether another message can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Why not.
    pub(super) fn failure(&self) -> Option<&ClientFailure> {
        self.session.failure()
    }

    /// Sends a message to these recipients, as far as the primary offers what they need.
    pub(super) async fn send<D: Disk>(
        &mut self,
        message: &MessageView<'_>,
        addressees: &[Addressee<'_>],
        reader: &Reader<D>,
        shard: ShardId,
    ) -> Result<TransactionOutcome, SendError> {
        self.data_sent = false;
        let offered = self.session.capabilities().smtputf8;
        let can_go = |to: &&Addressee<'_>| offered || goes_without_smtputf8(message, to);
        let (recipients, dsn): (Vec<&str>, Vec<RcptDsn<'_>>) =
            addressees.iter().filter(can_go).map(|to| (to.mailbox, to.dsn)).unzip();
        let could_go = addressees.iter().map(|to| can_go(&to));
        if recipients.is_empty() {
            return Ok(merged(could_go, None));
        }
        let envelope = Envelope {
            reverse_path: message.reverse_path,
            recipients: &recipients,
            octets: message.data.unstuffed_octets + message.trace.len() as u64,
            has_8bit: message.data.has_8bit,
            extensions: extensions(message, &dsn),
        };
        self.session.send(&envelope, self.clock.now());
        loop {
            match self.next_event().await {
                ClientEvent::SendData => self.send_data(message, reader, shard).await?,
                ClientEvent::TransactionDone(outcome) => return Ok(merged(could_go, Some(outcome))),
                ClientEvent::Idle | ClientEvent::Ready => {}
                ClientEvent::Failed(_) | ClientEvent::Closed => {
                    unreachable!("the machine ends every transaction before it fails")
                }
            }
        }
    }

    /// Asks by MAIL FROM:<> and RCPT, without data. An outcome is `NotTried` for who was accepted; none at all if the
    /// session broke, or cannot say what is asked.
    pub(super) async fn probe(&mut self, recipients: &[&str]) -> Option<Vec<RecipientOutcome>> {
        let is_sayable = recipients.iter().all(|mailbox| mailbox.is_ascii());
        if !is_sayable && !self.session.capabilities().smtputf8 {
            return None;
        }
        let envelope = Envelope {
            reverse_path: "",
            recipients,
            octets: 0,
            has_8bit: false,
            extensions: Extensions::default(),
        };
        self.session.probe(&envelope, self.clock.now());
        match self.next_event().await {
            ClientEvent::TransactionDone(outcome) if self.is_ready() => Some(outcome.recipients),
            _ => None,
        }
    }

    /// Whether data of the last message left.
    pub(super) const fn has_sent_data(&self) -> bool {
        self.data_sent
    }

    /// QUIT, and a moment for the answer (RFC 5321 4.1.1.10), as far as the session is alive.
    pub(super) async fn close(mut self) {
        self.session.quit(self.clock.now());
        let deadline = Some(self.clock.now() + QUIT_TIMEOUT);
        if !self.session.output().is_empty() {
            let farewell = async {
                self.link.write(self.session.output()).await?;
                self.link.read(&mut self.input).await
            };
            // Nothing depends on how a primary says good-bye, or whether.
            let _ = self.interrupt.guard(deadline, farewell).await;
        }
        let _ = self.link.shutdown().await;
    }

    async fn next_event(&mut self) -> ClientEvent {
        loop {
            let step = self.session.handle_input(&self.input[..self.filled], self.clock.now());
            self.input.copy_within(step.consumed..self.filled, 0);
            self.filled -= step.consumed;
            if step.event != ClientEvent::Idle {
                return step.event;
            }
            if step.consumed > 0 {
                continue;
            }
            if !self.session.output().is_empty() {
                if let Some(event) = self.send_commands().await {
                    return event;
                }
                continue;
            }
            if self.session.poll_timeout().is_none() {
                return ClientEvent::Closed;
            }
            if let Some(event) = self.receive().await {
                return event;
            }
        }
    }

    async fn send_commands(&mut self) -> Option<ClientEvent> {
        while !self.session.output().is_empty() {
            let deadline = self.session.poll_timeout();
            let write = self.link.write(self.session.output());
            match self.interrupt.guard(deadline, write).await {
                Ok(Ok(octets)) => self.session.output_sent(octets),
                Ok(Err(_)) => return Some(self.session.handle_disconnect()),
                // What is under way is finished; the lane sees the shutdown between messages.
                Err(Reason::Shutdown) => {}
                Err(Reason::Deadline) => return Some(self.session.handle_timeout(self.clock.now())),
            }
        }
        None
    }

    async fn receive(&mut self) -> Option<ClientEvent> {
        if self.filled == self.input.len() {
            // The machine bounds its replies far below; a full buffer is a peer that talks nonsense.
            return Some(self.session.handle_disconnect());
        }
        let deadline = self.opening.or(self.session.poll_timeout());
        let read = self.link.read(&mut self.input[self.filled..]);
        let event = match self.interrupt.guard(deadline, read).await {
            Ok(Ok(0) | Err(_)) => self.session.handle_disconnect(),
            Ok(Ok(octets)) => {
                self.filled += octets;
                return None;
            }
            Err(Reason::Shutdown) => return None,
            Err(Reason::Deadline) if self.opening.is_some() => self.session.handle_disconnect(),
            Err(Reason::Deadline) => self.session.handle_timeout(self.clock.now()),
        };
        (event != ClientEvent::Idle).then_some(event)
    }

    async fn send_data<D: Disk>(
        &mut self,
        message: &MessageView<'_>,
        reader: &Reader<D>,
        shard: ShardId,
    ) -> Result<(), ReadError> {
        self.data_sent = true;
        if message.chunks.is_empty() && message.trace.len() + message.tail.len() <= ONE_WRITE_OCTETS {
            let whole = [message.trace, message.tail, TERMINATOR].concat();
            // Before the write: once a part of it is out, a lost connection no longer means that the primary
            // cannot have the message (RFC 1047).
            self.session.handle_data_sent(self.clock.now());
            let _ = self.write_all(&whole).await;
            return Ok(());
        }
        let mut written = self.write_all(message.trace).await;
        for chunk in &message.chunks {
            if written.is_err() {
                break;
            }
            let chunk = reader.read_chunk(shard, chunk).await?;
            written = self.write_all(chunk.payload()).await;
        }
        if written.is_ok() && self.write_all(message.tail).await.is_ok() {
            self.session.handle_data_sent(self.clock.now());
            let _ = self.write_all(TERMINATOR).await;
        }
        // A failed write shows itself at the next read, together with a reply that may explain it.
        Ok(())
    }

    async fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut rest = octets;
        while !rest.is_empty() {
            let deadline = self.session.poll_timeout();
            let write = self.link.write(rest);
            match self.interrupt.guard(deadline, write).await {
                Ok(written) => rest = &rest[written?..],
                Err(Reason::Shutdown) => continue,
                Err(Reason::Deadline) => return Err(io::ErrorKind::TimedOut.into()),
            }
            self.session.handle_data_progress(self.clock.now());
        }
        Ok(())
    }
}
