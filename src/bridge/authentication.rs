//! Questions about the origin of mail. Nobody waits for their answers: they are asked if there is room, and answered into
//! a channel that a shard empties.

use crate::limits::AUTHENTICATION_QUEUE;
use crate::message::authentication::{Spf, Verdict};
use async_channel::{Receiver, Sender};
use core::net::IpAddr;
use std::sync::Arc;

/// What the lookup thread is asked about the origin of mail.
#[derive(Debug)]
pub enum AuthenticationQuestion {
    /// At MAIL.
    Sender(SenderQuestion),
    /// After the commit.
    Message(Box<MessageQuestion>),
}

/// Who MAIL says that he is.
#[derive(Debug)]
pub struct SenderQuestion {
    /// The client.
    pub client: IpAddr,
    /// What it calls itself.
    pub helo: String,
    /// The reverse-path; empty for the null one.
    pub reverse_path: String,
    /// Our name.
    pub receiver: String,
    /// Where the answer goes.
    pub answer: Sender<Spf>,
}

/// SHA-256 hashes of a body, for the canonicalizations that signatures name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BodyHashes {
    /// RFC 6376 3.4.3.
    pub simple: Option<[u8; 32]>,
    /// RFC 6376 3.4.4.
    pub relaxed: Option<[u8; 32]>,
}

/// A message that is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its name.
    pub queue_id: u64,
    /// Its stamp.
    pub stamp: u64,
    /// The domains of its recipients.
    pub domains: Vec<Arc<str>>,
}

/// What its data says about its origin.
#[derive(Debug)]
pub struct MessageQuestion {
    /// Which message.
    pub stored: Stored,
    /// The reverse-path; empty for the null one.
    pub reverse_path: String,
    /// What the client calls itself.
    pub helo: String,
    /// The header section; `None` if it is longer than is kept.
    pub header: Option<Vec<u8>>,
    /// Of the body.
    pub bodies: BodyHashes,
    /// The answer to what was asked at the first recipient.
    pub spf: Receiver<Spf>,
    /// Where the verdict goes.
    pub answer: Sender<Authenticated>,
}

/// A verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticated {
    /// On which message.
    pub stored: Stored,
    /// Which.
    pub verdict: Verdict,
}

/// Asks without waiting.
#[derive(Clone, Debug)]
pub struct Authenticator(Sender<AuthenticationQuestion>);

impl Authenticator {
    /// Both ends.
    pub(super) fn new() -> (Self, Receiver<AuthenticationQuestion>) {
        let (questions, asked) = async_channel::bounded(AUTHENTICATION_QUEUE);
        (Self(questions), asked)
    }

    /// Asks, if there is room. Returns whether there was.
    #[must_use]
    pub fn ask(&self, question: AuthenticationQuestion) -> bool {
        self.0.try_send(question).is_ok()
    }
}
