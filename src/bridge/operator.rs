//! What the admin thread asks the shards, for the operator; and what they answer: plain types, as the API shows them.
//!
//! One bounded channel a shard. Whoever asks all shards puts their answers together: each speaks of the domains that it
//! owns only. No question makes a shard walk far without a turn for others: lists come in pages, and what is done to
//! many messages is done to a bounded number, with a place to go on from.
//!
//! A shard that has ended answers nothing; then, and when a channel stays full, the asker is told [`Unanswered`].

mod figures;
mod sift;
mod state;
mod trace;

use super::acquaintance::Change;
use crate::config::Primary;
use crate::limits::OPERATOR_QUEUE;
use async_channel::{Receiver, Sender};
use core::fmt;
use core::time::Duration;
pub use figures::{Figures, Measured};
use serde::Serialize;
pub use sift::Sift;
pub use state::State;
use std::sync::Arc;
pub use trace::{
    Acceptance, Progress, TraceCursor, TracePage, TracePlace, TraceWanted, Traced, TracedRecipient,
};
use utoipa::ToSchema;

/// One domain, as its owner knows it. Counts are (message, recipient) units since the store was made, over all starts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct DomainStatus {
    /// The domain.
    pub name: String,
    /// How its primaries are doing.
    pub state: State,
    /// Units that wait for the primary.
    pub backlog: u64,
    /// Octets of records that are queued or held.
    pub bytes: u64,
    /// Seconds since the first message of the backlog was received; 0 without one.
    pub oldest_s: u64,
    /// Units accepted.
    pub accepted: u64,
    /// Units that a primary took.
    pub delivered: u64,
    /// Units about which a notice was made.
    pub bounced: u64,
    /// Units that were refused and dropped.
    pub discarded: u64,
    /// Units that were past their time.
    pub expired: u64,
    /// Units that an operator removed.
    pub deleted: u64,
    /// Units whose record is damaged.
    pub damaged: u64,
    /// Units that wait for the operator.
    pub held: u64,
    /// Seconds since the first of them was held; 0 without one.
    pub held_oldest_s: u64,
    /// Units that went through to the primary live; never accepted by us.
    pub proxied: u64,
    /// Of the delivered ones those that another host took in the primary's place, since the start.
    pub redirected: u64,
    /// Of the accepted ones those that were queued once more from kept copies, since the start.
    pub replayed: u64,
    /// That the primary is another than it was (H41), while that matters.
    pub primary_changed: Option<Change>,
    /// Messages that a primary may have already: the outcome of an earlier hand-over is not known.
    pub may_repeat: u64,
    /// Through what primaries took units since the process began.
    pub transports: Transports,
    /// Messages that are queued or held.
    pub messages: u64,
    /// Why the last try failed that did, and when.
    pub last_failure: Option<Failure>,
    /// Seconds until the next try, while one is waited for.
    pub next_try_s: Option<u64>,
    /// In each shard directory the place before which nothing waits for its first try.
    pub cursor: Vec<String>,
}

/// Units that primaries took, those that were carried through among them, since the process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct Transports {
    /// Through TLS, with whoever had the key.
    pub encrypted: u64,
    /// Without TLS.
    pub plain: u64,
    /// Through TLS, with whom the host's TLSA records describe.
    pub verified_dane: u64,
    /// Through TLS, with whom the domain's MTA-STS policy wants.
    pub verified_mta_sts: u64,
}

/// A try that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Failure {
    /// When, in seconds since 1970.
    pub at_s: u32,
    /// What went wrong.
    pub reason: String,
}

/// What one shard counted since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct SinceStart {
    /// Connections taken.
    pub connections: u64,
    /// Messages accepted.
    pub messages: u64,
    /// Units accepted.
    pub accepted: u64,
    /// Units that a primary took.
    pub delivered: u64,
    /// Tries that a primary put off, in units.
    pub deferred: u64,
}

/// What a shard answers about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardStatus {
    /// What it counted.
    pub since_start: SinceStart,
    /// Free octets of the data directory.
    pub free_octets: u64,
}

/// Where a message is, or one of its units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, ToSchema)]
pub enum MessageState {
    /// It waits for its turn.
    #[serde(rename = "queued")]
    Queued,
    /// It was put off for its own sake and waits for its next try.
    #[serde(rename = "deferred")]
    Deferred,
    /// It waits for the operator.
    #[serde(rename = "held")]
    Held,
    /// It is being sent.
    #[serde(rename = "in flight")]
    InFlight,
    /// It has ended; shown of a message only that has other units.
    #[serde(rename = "done")]
    Done,
}

impl MessageState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::InFlight => "in flight",
            Self::Done => "done",
        }
    }

    /// The state that a word means, of those that can be asked for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Queued, Self::Deferred, Self::Held, Self::InFlight].into_iter().find(|state| {
            let own = state.word();
            own == word || own.replace(' ', "-") == word || own.replace(' ', "_") == word
        })
    }
}

/// A recipient and where it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Recipient {
    /// The mailbox.
    pub address: String,
    /// Where it stands.
    pub state: MessageState,
}

/// A message's units in one domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Message {
    /// Its queue id; none where its record cannot be read.
    pub id: Option<String>,
    /// The domain.
    pub domain: String,
    /// Where it stands: that of the units that are on their way, if any are.
    pub state: MessageState,
    /// The reverse-path; none where the record cannot be read.
    pub reverse_path: Option<String>,
    /// Its recipients in the domain; none where the record cannot be read.
    pub recipients: Vec<Recipient>,
    /// Octets of mail data.
    pub size: u64,
    /// When it was received, in seconds since 1970.
    pub received_s: u32,
    /// Since when units of it are held, in seconds since 1970.
    pub held_since_s: Option<u32>,
    /// Seconds until it is tried again, if that is known.
    pub next_try_s: Option<u64>,
    /// Octets that it takes on disk.
    pub stored: u64,
    /// What a mail server said of it last; null: nothing since the start, or too long ago.
    pub last_code: Option<u16>,
    /// How often it stepped aside.
    pub deferrals: u16,
    /// A primary may have it already: the outcome of an earlier hand-over is not known (RFC 1047).
    pub may_repeat: bool,
    /// Why the record cannot be read.
    pub unreadable: Option<String>,
    /// Its place in the order of all messages.
    #[serde(skip)]
    pub stamp: u64,
}

/// All that is told of one message but its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct MessageDetail {
    /// As in a list.
    #[serde(flatten)]
    pub message: Message,
    /// The client that brought it.
    pub client: String,
    /// What it called itself.
    pub helo: String,
    /// The TLS that it came through; null: none.
    pub tls: Option<String>,
    /// Our trace field, as it goes in front of the message.
    pub trace: String,
    /// Whether authentication proved that the reverse-path is the sender's own.
    pub proven: bool,
}

/// A place in the order of messages and domains: a list goes on behind it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Cursor {
    /// The message.
    pub stamp: u64,
    /// The domain; what is behind it, and any later message.
    pub domain: Arc<str>,
}

impl Cursor {
    /// What [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (stamp, domain) = text.split_once('-')?;
        Some(Self { stamp: u64::from_str_radix(stamp, 16).ok()?, domain: domain.into() })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{}", self.stamp, self.domain)
    }
}

/// Which messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Of this domain; else of all.
    pub domain: Option<Arc<str>>,
    /// With units in this state; else in any.
    pub state: Option<MessageState>,
    /// Behind this place.
    pub after: Cursor,
    /// So many at most.
    pub limit: usize,
    /// Which of them.
    pub sift: Sift,
}

/// A page of one shard's messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// In order.
    pub messages: Vec<Message>,
    /// Nothing at or above this stamp is known to be complete.
    pub horizon: u64,
    /// Up to here it is complete; there may be more behind it.
    pub until: Option<Cursor>,
    /// Messages that were looked at, of a list that is sifted.
    pub looked: u64,
    /// Messages that there are.
    pub of: u64,
}

/// What an operator does to messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Units end as bounced: their senders are told, where they are proven (P5); else the units are held.
    Bounce,
    /// Units that wait become held.
    Hold,
    /// Held units are queued again.
    Release,
    /// Units end as discarded.
    Discard,
    /// Units end as deleted.
    Delete,
}

impl Action {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Discard => "discard",
            Self::Delete => "delete",
        }
    }
}

/// To which messages it is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// The one with this queue id, in this domain or in all of its own.
    Id(String, Option<Arc<str>>),
    /// Those that a filter lets pass; it names a domain.
    All(Filter),
}

/// What was done, durably.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Messages, counted in each of their domains.
    pub messages: u64,
    /// Units.
    pub units: u64,
    /// Units that were to be bounced and are held: nothing proves that their senders are themselves, or no notice can be made.
    pub unproven: u64,
    /// Messages that are being sent: nothing was done to them.
    pub busy: u64,
    /// Messages that the selection means.
    pub found: u64,
    /// There may be more behind this place.
    pub more: Option<Cursor>,
}

/// Delivered mail of a domain whose records are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delivered {
    /// The domain.
    pub domain: Arc<str>,
    /// Delivered then or later, in seconds since 1970.
    pub since_s: u32,
    /// Delivered before that, in seconds since 1970.
    pub until_s: u32,
    /// For this mailbox only.
    pub recipient: Option<String>,
    /// Also what was queued so itself. Else each message is queued once more one time.
    pub again: bool,
    /// Behind this message in the order of all.
    pub after: u64,
}

/// A kept record, and its recipients that were delivered: plain numbers, which only shards understand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Its place in the order of all messages.
    pub stamp: u64,
    /// Its directory.
    pub directory: u16,
    /// Its segment.
    pub segment: u32,
    /// The octet in the segment at which it begins.
    pub offset: u64,
    /// Octets of the record.
    pub record_octets: u32,
    /// Octets of the message.
    pub size: u64,
    /// The number of its first unit in the segment.
    pub unit_base: u32,
    /// The recipients.
    pub ordinals: Vec<u16>,
    /// When they were delivered, in seconds since 1970.
    pub delivered_s: u32,
    /// Until when it is kept, in seconds since 1970.
    pub until_s: u32,
    /// What its keeper was told by then is known of it: monotonic time, as all shards have it.
    pub looked: Duration,
}

#[cfg(test)]
impl Copy {
    /// One of these recipients, as tests want it.
    pub(crate) const fn sample(stamp: u64, ordinals: Vec<u16>, looked: Duration) -> Self {
        let (directory, segment, offset, record_octets, size) = (0, 1, 4096, 128, 10);
        let (unit_base, delivered_s, until_s) = (0, 1, 2);
        Self {
            stamp,
            directory,
            segment,
            offset,
            record_octets,
            size,
            unit_base,
            ordinals,
            delivered_s,
            until_s,
            looked,
        }
    }
}

/// A page of one shard's kept records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    /// In order.
    pub copies: Vec<Copy>,
    /// There may be more behind this message; up to it the page is complete.
    pub more: Option<u64>,
    /// Records that cannot be read.
    pub unreadable: u64,
    /// The first second that the shard has copies of.
    pub kept_since_s: Option<u32>,
}

/// What was queued once more, durably.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Messages.
    pub messages: u64,
    /// Units.
    pub units: u64,
    /// Octets of the messages.
    pub octets: u64,
    /// Copies that went meanwhile, or cannot be read.
    pub gone: u64,
    /// Why it ended before all were.
    pub refused: Option<String>,
}

/// What an operator's word has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct Thawed {
    /// The bounce guard had stopped the lane.
    pub was_frozen: bool,
    /// The primary was another than before.
    pub was_changed: bool,
}

/// A part of a message that is exported. A stream that ends without its end was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportPart {
    /// Octets of it.
    Data(Vec<u8>),
    /// That was all.
    End,
    /// No more of it can be had.
    Failed(String),
}

/// A question to a shard.
#[derive(Debug)]
pub enum Request {
    /// Does something to messages.
    Act(Action, Selection, Sender<Done>),
    /// What is kept of a domain's delivered mail.
    Copies(Delivered, Sender<Copies>),
    /// The domains of these that the shard owns.
    Domains(Vec<Arc<str>>, Sender<Vec<DomainStatus>>),
    /// Mail for a recipient of the domain waits for so long, as in an outage, or no longer. Told: whether it begins; false where another shard
    /// owns the domain.
    Drill(Arc<str>, Option<(String, Duration)>, Sender<bool>),
    /// The message with a queue id that is queued or held in a domain, as it came, our trace field in front of it. The channel
    /// ends at once where another shard owns the domain, and where there is none.
    Export(String, Arc<str>, Sender<ExportPart>),
    /// Everything of a domain is due. Told: messages that wait; 0 where another shard owns it.
    Flush(Arc<str>, Sender<u64>),
    /// A page.
    List(Filter, Sender<Page>),
    /// The shard, and those of these domains that it owns: the first so many each, the others together.
    Measure(Arc<[Arc<str>]>, usize, Sender<Measured>),
    /// What holds for a domain has changed ([`Orders`](crate::bridge::Orders)), and whether its mail goes elsewhere for it: its lane looks.
    Ordered(Arc<str>, bool, Sender<()>),
    /// These copies of the domain's mail are queued once more, in this order. Told: none where another shard owns it.
    Replay(Arc<str>, Vec<Copy>, Sender<Option<Replayed>>),
    /// The message with a queue id, in each domain that the shard owns.
    Show(String, Sender<Vec<MessageDetail>>),
    /// The shard itself.
    Status(Sender<ShardStatus>),
    /// A test message for this recipient to the first of these hosts that serves us, as mail of this domain would go. Told: what it said,
    /// or why it has not taken it; none where another shard owns the domain.
    Try(Arc<str>, Vec<Primary>, String, Sender<Option<Result<String, String>>>),
    /// What is known of what became of messages, from a place on.
    Trace(Arc<TraceWanted>, Sender<TracePage>),
    /// A lane goes on that the bounce guard stopped, and whoever serves it is the primary. Told: what was so; nothing where another shard owns the domain.
    Thaw(Arc<str>, Sender<Thawed>),
}

/// A shard is too busy, or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the server is too busy for this, or is shutting down; where something was to be changed, look whether it was"
)]
pub struct Unanswered;

/// The asking end.
#[derive(Clone, Debug)]
pub struct Shards(Vec<Sender<Request>>);

/// Both ends of the channels, one a shard.
#[must_use]
pub fn channels(shards: u16) -> (Shards, Vec<Receiver<Request>>) {
    let (senders, receivers) = (0..shards).map(|_| async_channel::bounded(OPERATOR_QUEUE)).unzip();
    (Shards(senders), receivers)
}

impl Shards {
    /// Asks all shards; their answers, in no order. Whoever asks bounds the wait, see
    /// [`ADMIN_REQUEST_TIMEOUT`](crate::limits::ADMIN_REQUEST_TIMEOUT).
    ///
    /// # Errors
    /// [`Unanswered`]: a shard did not answer.
    pub async fn ask<T>(&self, request: impl Fn(Sender<T>) -> Request) -> Result<Vec<T>, Unanswered> {
        let (answer, answers) = async_channel::bounded(self.0.len().max(1));
        for shard in &self.0 {
            shard.send(request(answer.clone())).await.map_err(|_| Unanswered)?;
        }
        drop(answer);
        let mut all = Vec::new();
        while let Ok(one) = answers.recv().await {
            all.push(one);
        }
        if all.len() == self.0.len() { Ok(all) } else { Err(Unanswered) }
    }

    /// Asks all shards for a stream that one of them has.
    ///
    /// # Errors
    /// [`Unanswered`]: a shard has ended.
    pub async fn stream<T>(
        &self,
        room: usize,
        request: impl Fn(Sender<T>) -> Request,
    ) -> Result<Receiver<T>, Unanswered> {
        let (part, parts) = async_channel::bounded(room);
        for shard in &self.0 {
            shard.send(request(part.clone())).await.map_err(|_| Unanswered)?;
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_orders_by_message_then_domain() {
        let cursor = |stamp, domain: &str| Cursor { stamp, domain: domain.into() };
        for one in [Cursor::default(), cursor(255, "a-b.test"), cursor(u64::MAX, "")] {
            assert_eq!(Cursor::parse(&one.to_string()), Some(one));
        }
        assert_eq!(Cursor::parse("x-a"), None);
        assert_eq!(Cursor::parse("12"), None);
        assert!(cursor(1, "z") < cursor(2, "a") && cursor(1, "a") < cursor(1, "b"));
    }

    #[test]
    fn states_have_words_that_read_back() {
        for state in
            [MessageState::Queued, MessageState::Deferred, MessageState::Held, MessageState::InFlight]
        {
            assert_eq!(MessageState::parse(state.word()), Some(state));
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json.trim_matches('"'), state.word());
        }
        assert_eq!(MessageState::parse("in-flight"), Some(MessageState::InFlight));
        assert_eq!(MessageState::parse("done"), None);
    }
}
