//! The octets of one connection: what is to be written, in one buffer, and what came and was not taken.
//!
//! Commands of the session and mail data go into the buffer in the order in which they leave, so a message and the envelope
//! behind it are one write. While the peer takes nothing it is listened to: it may be waiting for us to read its replies.
//!
//! Invariant: an end of data is reported as sent by the call that wrote its last octet, and never before.

use crate::limits::{CLIENT_INPUT_OCTETS, REPLAY_OCTETS};
use crate::message::tls::TlsFacts;
use crate::shard::interrupt::{Interrupt, Reason};
use crate::shard::link::{Link, Moved, write_or_read};
use crate::shard::tls::SessionLink;
use crate::smtp::Moment;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub(super) struct Wire<L> {
    link: SessionLink<L>,
    interrupt: Rc<Interrupt>,
    input: Vec<u8>,
    filled: usize,
    outgoing: Vec<u8>,
    sent: usize,
    /// Where in `outgoing` the data of a message ends.
    ends: VecDeque<usize>,
    /// Nothing more can be written; what the peer said before may still be read.
    is_deaf: bool,
}

/// What happened on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// So many messages' data is on its way to the last octet, of what was written.
    Written(usize),
    /// There is more input.
    Read,
    /// The stream has ended.
    Ended,
    /// The deadline passed.
    Late,
    /// Nothing; look again.
    Nothing,
}

impl<L: Link> Wire<L> {
    pub(super) fn new(link: L, interrupt: Rc<Interrupt>) -> Self {
        let input = vec![0; CLIENT_INPUT_OCTETS];
        let (outgoing, ends) = (Vec::new(), VecDeque::new());
        let link = SessionLink::Plain(link);
        Self { link, interrupt, input, filled: 0, outgoing, sent: 0, ends, is_deaf: false }
    }

    /// What came and was not taken.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[..self.filled]
    }

    /// Whether the peer has said something that was not taken.
    pub(super) fn has_unread(&self) -> bool {
        self.filled > 0 || self.link.has_unread()
    }

    /// Takes octets off the input.
    pub(super) fn consume(&mut self, count: usize) {
        self.input.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Appends octets to what is to be written.
    pub(super) fn queue(&mut self, octets: &[u8]) {
        if !self.is_deaf {
            self.outgoing.extend_from_slice(octets);
        }
    }

    /// Has octets appended.
    pub(super) fn queue_with(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_deaf {
            append(&mut self.outgoing);
        }
    }

    /// What was appended last is the end of a message's data.
    pub(super) fn end_data(&mut self) {
        if !self.is_deaf {
            self.ends.push_back(self.outgoing.len());
        }
    }

    /// Octets that are to be written.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Whether nothing can be written any more.
    pub(super) const fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Writes what there is, or reads while the peer does not take it.
    pub(super) async fn write(&mut self, deadline: Option<Moment>) -> News {
        if self.filled == self.input.len() {
            return News::Ended;
        }
        let (unsent, memory) = (&self.outgoing[self.sent..], &mut self.input[self.filled..]);
        match self.interrupt.guard(deadline, write_or_read(&mut self.link, unsent, memory)).await {
            Ok(Ok(Moved::Written(octets))) => News::Written(self.written(octets)),
            Ok(Ok(Moved::Read(octets))) => self.received(octets),
            Ok(Err(_)) => {
                // Who closes may have said why.
                self.give_up();
                News::Nothing
            }
            Err(reason) => too_late(reason),
        }
    }

    /// Reads.
    pub(super) async fn read(&mut self, deadline: Option<Moment>) -> News {
        if self.filled == self.input.len() {
            // The machine bounds its replies far below; a full buffer is a peer that talks nonsense.
            return News::Ended;
        }
        let read = self.link.read(&mut self.input[self.filled..]);
        match self.interrupt.guard(deadline, read).await {
            Ok(Ok(octets)) => self.received(octets),
            Ok(Err(_)) => News::Ended,
            Err(reason) => too_late(reason),
        }
    }

    /// Changes to TLS, until the deadline. What came in plain text and was not taken is nobody's.
    pub(super) async fn secure(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Option<Moment>,
    ) -> io::Result<Option<TlsFacts>> {
        self.filled = 0;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        self.interrupt.guard(deadline, self.link.secure_as_client(config, name)).await.map_err(late)?
    }

    /// SHA-256 of the public key of the peer's certificate; none without TLS.
    pub(super) fn peer_key(&self) -> Option<[u8; 32]> {
        self.link.peer_key()
    }

    /// Says the last words and hears the answer, until the deadline; then the link ends.
    pub(super) async fn close(mut self, farewell: &[u8], deadline: Option<Moment>) {
        if !farewell.is_empty() && !self.is_deaf {
            let exchange = async {
                self.link.write(farewell).await?;
                self.link.read(&mut self.input).await
            };
            // Nothing depends on how a primary says good-bye, or whether.
            let _: Result<io::Result<usize>, Reason> = self.interrupt.guard(deadline, exchange).await;
        }
        let _ = self.link.shutdown().await;
    }

    fn received(&mut self, octets: usize) -> News {
        self.filled += octets;
        if octets == 0 { News::Ended } else { News::Read }
    }

    /// Counts the messages whose data ends in what was written.
    fn written(&mut self, octets: usize) -> usize {
        self.sent += octets;
        let whole = self.ends.iter().take_while(|end| **end <= self.sent).count();
        self.ends.drain(..whole);
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.outgoing.shrink_to(REPLAY_OCTETS);
            self.sent = 0;
        }
        whole
    }

    fn give_up(&mut self) {
        (self.outgoing, self.sent) = (Vec::new(), 0);
        self.ends.clear();
        self.is_deaf = true;
    }
}

/// What is under way is finished at a shutdown; the lane sees it between messages.
fn too_late(reason: Reason) -> News {
    match reason {
        Reason::Deadline => News::Late,
        Reason::Shutdown => News::Nothing,
    }
}
