//! What a primary may do in its own way, at each point of a session.

use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use core::time::Duration;
use std::rc::Rc;

/// Decides what the primary does at a point; it may remember.
pub(super) type Manner = Rc<dyn Fn(&Turn<'_>) -> Act>;

/// A point of a session, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    Greeting,
    Hello,
    StartTls,
    Sender,
    Recipient,
    DataStart,
    /// Some of the data is there.
    Data,
    DataEnd,
}

/// What the primary knows there.
pub(super) struct Turn<'a> {
    pub(super) at: At,
    /// Which of its connections it is, from 1.
    pub(super) connection: u32,
    /// Messages that it took on it.
    pub(super) taken: u32,
    pub(super) sender: &'a str,
    /// The local part.
    pub(super) recipient: &'a str,
    /// At the end of data.
    pub(super) subject: &'a str,
    /// How long it behaves as it does.
    pub(super) since: Duration,
}

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// As any other.
    Regular,
    /// It refuses, in step. Behind 421, and in place of a greeting, it ends the connection.
    Reply(&'static str),
    /// It goes on as if all were well, and says these octets in place of its reply.
    Says(&'static [u8]),
    /// The connection ends.
    Close,
    /// It has the message, and says nothing for ever.
    TakeAndHang,
    /// It has the message, and the connection ends.
    TakeAndClose,
    /// As any other, later.
    Wait(Duration),
}

/// A reply as it is written.
pub(super) fn reply(line: &'static str) -> Reply {
    let code = ReplyCode::new(line[..3].parse().expect("a code"));
    match EnhancedCode::split_from(&line[4..]) {
        Some((enhanced, text)) => Reply::new(code, Some(enhanced), text),
        None => Reply::new(code, None, &line[4..]),
    }
}
