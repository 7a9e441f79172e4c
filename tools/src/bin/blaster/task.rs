//! A message on its way: what its sender knows of it, what a server offered, and what it answered.

use std::time::Duration;

use stratamx::smtp::reply::ReceivedReply;

use crate::message::Message;

/// What a server answered in place of taking a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Mail,
    Rcpt,
    Data,
    Content,
}

/// A message on its way, and what its sender knows of it.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) message: Message,
    /// When it was meant to be sent.
    pub(crate) intended: Duration,
    /// When it is given up.
    pub(crate) deadline: Duration,
    /// When the first MAIL for it left; microseconds since 1970, and 0 before.
    pub(crate) mail_unix_us: u64,
    /// When the last MAIL for it left.
    pub(crate) mail_at: Duration,
}

/// The answers to one try.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) task: Task,
    /// Recipients that were refused, by their place.
    pub(crate) refused: Vec<(usize, ReceivedReply)>,
    /// What decided for all others; `None` where there are no others.
    pub(crate) decided: Option<(Stage, ReceivedReply)>,
}

/// What a server offered by EHLO, as far as it matters here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
    pub(crate) eight_bit: bool,
    pub(crate) size: bool,
    pub(crate) starttls: bool,
}

impl Offer {
    /// The words behind the server's name; parameters are no keywords, and none of them has such a name.
    pub(crate) fn of(reply: &ReceivedReply) -> Self {
        let has =
            |keyword: &str| reply.text.split(' ').skip(1).any(|word| word.eq_ignore_ascii_case(keyword));
        Self {
            pipelining: has("PIPELINING"),
            chunking: has("CHUNKING"),
            eight_bit: has("8BITMIME"),
            size: has("SIZE"),
            starttls: has("STARTTLS"),
        }
    }
}
