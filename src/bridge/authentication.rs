//! Questions about the origin of mail. Nobody waits for their answers: they are asked if there is room, and answered into
//! a channel that a shard empties.

use crate::limits::AUTHENTICATION_QUEUE;
use crate::message::authentication::{Spf, Verdict};
use async_channel::{Receiver, Sender};
use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

/// What the lookup thread is asked about the origin of mail.
#[derive(Debug)]
pub enum AuthenticationQuestion {
    /// At MAIL.
    Sender(SenderQuestion),
    /// After the commit.
    Message(Box<MessageQuestion>),
    /// Before a message is handed over.
    Seal(Box<SealQuestion>),
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

/// A seal that is wanted (RFC 8617).
#[derive(Debug)]
pub struct SealQuestion {
    /// The header section as it goes, with the empty line behind it.
    pub header: Vec<u8>,
    /// Of the body: the relaxed one, and those that its signatures name.
    pub bodies: BodyHashes,
    /// Our name.
    pub hostname: String,
    /// What Authentication-Results say behind it.
    pub results: String,
    /// The client.
    pub client: IpAddr,
    /// Who seals.
    pub key: Arc<SealKey>,
    /// Where the fields go; none: there can be no seal.
    pub answer: Sender<Option<String>>,
}

/// A key to seal with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// The private key.
    pub pem: Vec<u8>,
}

/// The key stays out of logs.
impl fmt::Debug for SealKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealKey({}._domainkey.{})", self.selector, self.domain)
    }
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
