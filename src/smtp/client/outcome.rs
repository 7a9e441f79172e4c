//! How a transaction ended for each recipient, and why a session did.
//!
//! The words are chosen by what the caller has to do next: settle, try again, give up on this recipient, or
//! flag a possible repeat. `Unknown` is the gap of RFC 1047: the whole message went out and no reply came, so
//! the server may or may not have it.

use crate::smtp::reply::{ReceivedReply, ReplyError};

/// The end of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// One for each recipient, in the order of the envelope.
    pub recipients: Vec<RecipientOutcome>,
}

impl TransactionOutcome {
    /// The server refused the sender, or the client before it could name one, for so many recipients.
    pub fn sender_refused(recipients: usize, reply: &ReceivedReply) -> Self {
        Self { recipients: vec![RecipientOutcome::replied(Stage::Sender, reply.clone()); recipients] }
    }

    /// Whether the server wants the message later, whoever it is for.
    #[must_use]
    pub fn is_put_off(&self) -> bool {
        let is_whole = |outcome: &RecipientOutcome| matches!(outcome, RecipientOutcome::Deferred { stage, .. } if *stage != Stage::Recipient);
        self.recipients.iter().any(is_whole)
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// The server took the message with this reply to the end of data.
    Delivered(ReceivedReply),
    /// 4xx: try again later.
    Deferred {
        /// What was answered.
        stage: Stage,
        /// The answer.
        reply: ReceivedReply,
    },
    /// 5xx.
    Rejected {
        /// What was answered.
        stage: Stage,
        /// The answer.
        reply: ReceivedReply,
    },
    /// The session ended before the end of data was sent: the server has nothing.
    NotTried,
    /// The end of data, or the whole last chunk, was sent and no reply came.
    Unknown,
}

/// The command that a reply answers, in the order of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA.
    DataStart,
    /// The final dot.
    DataEnd,
}

/// Why the session is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFailure {
    /// The connection ended.
    #[error("the connection was lost")]
    Disconnected,
    /// The greeting was not 2xx; a 421 there is this too.
    #[error("greeting refused: {0}")]
    GreetingRefused(ReceivedReply),
    /// Neither EHLO nor HELO was taken; a 421 there is this too.
    #[error("EHLO refused: {0}")]
    HelloRefused(ReceivedReply),
    /// The server does not speak SMTP, or out of turn.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// No more messages in this session, said to a MAIL behind others that were taken: another session takes as many.
    #[error("so many messages a session: {0}")]
    SessionFull(ReceivedReply),
    /// 421 later than EHLO.
    #[error("the server is closing: {0}")]
    ServiceClosing(ReceivedReply),
    /// No reply in time.
    #[error("no reply in time")]
    TimedOut,
}

/// What was wrong with what the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A chunk that had to be refused and swallowed was taken, or its octets were taken for commands.
    #[error("a refused chunk was not swallowed")]
    ChunkNotSwallowed,
    /// A reply that no command asked for, or of a class that its command cannot have.
    #[error("a reply out of turn")]
    OutOfTurn,
    /// No reply at all.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl ClientFailure {
    /// The server has no time for us now: 421 in place of its greeting, or to EHLO (RFC 5321 3.8).
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::GreetingRefused(reply) | Self::HelloRefused(reply) if reply.code == 421)
    }
}

impl RecipientOutcome {
    /// A final reply by its class. 552 to RCPT is an old server's "too many recipients", which another
    /// transaction can carry (RFC 5321 4.5.3.1.10).
    pub(super) fn replied(stage: Stage, reply: ReceivedReply) -> Self {
        if reply.is_positive() {
            Self::Delivered(reply)
        } else if reply.is_permanent() && !(stage == Stage::Recipient && reply.code == 552) {
            Self::Rejected { stage, reply }
        } else {
            Self::Deferred { stage, reply }
        }
    }
}
