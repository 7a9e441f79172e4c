//! What became of messages: what is asked, and told, a page at a time.

use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Which rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceWanted {
    /// Of this message.
    pub id: Option<String>,
    /// Of this domain.
    pub domain: Option<Arc<str>>,
    /// With this reverse-path, in whatever case.
    pub sender: Option<String>,
    /// With this recipient, in whatever case.
    pub recipient: Option<String>,
    /// With this reply code.
    pub code: Option<u16>,
    /// From this second since 1970 on.
    pub since_s: u64,
    /// Before this one.
    pub until_s: u64,
    /// Behind these places; none: from the start.
    pub after: Option<TraceCursor>,
}

/// A place in what a shard has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct TracePlace {
    /// Of the file.
    pub day: u32,
    /// Its directory.
    pub directory: u16,
    /// Its number there.
    pub number: u32,
    /// In the file.
    pub offset: u64,
}

/// The places of all shards that have more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceCursor(pub BTreeMap<u16, TracePlace>);

/// A page of one shard's rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TracePage {
    /// Whose.
    pub shard: u16,
    /// In the order in which they were written.
    pub rows: Vec<Traced>,
    /// Where it goes on.
    pub more: Option<TracePlace>,
    /// How far it came.
    pub progress: Progress,
}

/// How far a look came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What was looked at, for this answer and those before: files of a trace, messages of a queue
    pub done: u64,
    /// Of so many
    pub of: u64,
    /// Those among them that cannot be read
    pub unreadable: u64,
}

/// What became of some recipients of a message in a domain, at one time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Traced {
    /// When, in milliseconds since 1970
    pub at_ms: u64,
    /// The queue id; null where the record could not be read
    pub id: Option<String>,
    /// The domain
    pub domain: String,
    /// Its place in the order of acceptance of all messages
    pub order: u64,
    /// The reverse-path
    pub reverse_path: String,
    /// The host that was tried; null: none was
    pub host: Option<String>,
    /// It stood in the primary's place
    pub redirected: bool,
    /// The message had left its place in the order before: it was put off for its own sake, or queued once more
    pub aside: bool,
    /// How it was accepted; with what is final
    pub accepted: Option<Acceptance>,
    /// Whom it is about
    pub recipients: Vec<TracedRecipient>,
}

/// How a message was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Acceptance {
    /// When, in seconds since 1970
    pub received_s: u32,
    /// Octets of the message
    pub size: u64,
    /// The client that brought it
    pub client: String,
    /// What it called itself
    pub helo: String,
    /// The TLS that it came through; null: none
    pub tls: Option<String>,
}

/// What became of a recipient.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct TracedRecipient {
    /// The mailbox
    pub address: String,
    /// `delivered`, `bounced`, `discarded`, `deleted`, `expired` or `damaged`, which are final; `held`, `released`; of a try `deferred`,
    /// `refused`, `taken` (and its sender is to be told) or `unanswered`
    pub what: &'static str,
    /// It is final
    pub is_final: bool,
    /// The reply code; 0 without one
    pub code: u16,
    /// What the host said
    pub text: String,
}

impl TraceCursor {
    /// What [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let place = |part: &str| {
            let mut numbers = part.split('-').map(|number| u64::from_str_radix(number, 16).ok());
            let mut next = || numbers.next().flatten();
            let shard = u16::try_from(next()?).ok()?;
            let (day, directory) = (u32::try_from(next()?).ok()?, u16::try_from(next()?).ok()?);
            let place = TracePlace { day, directory, number: u32::try_from(next()?).ok()?, offset: next()? };
            numbers.next().is_none().then_some((shard, place))
        };
        text.split('.').map(place).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for TraceCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (shard, place)) in self.0.iter().enumerate() {
            let before = if at == 0 { "" } else { "." };
            let TracePlace { day, directory, number, offset } = place;
            write!(formatter, "{before}{shard:x}-{day:x}-{directory:x}-{number:x}-{offset:x}")?;
        }
        Ok(())
    }
}

impl TracePage {
    /// The pages of all shards as one, by time, and where each goes on.
    #[must_use]
    pub fn merged(pages: Vec<Self>) -> (Vec<Traced>, Option<TraceCursor>, Progress) {
        let progress = pages.iter().map(|page| page.progress).fold(Progress::default(), Progress::and);
        let cursor = TraceCursor(pages.iter().filter_map(|page| Some((page.shard, page.more?))).collect());
        let mut rows: Vec<Traced> = pages.into_iter().flat_map(|page| page.rows).collect();
        // Stable: rows of one shard at one time stay in their order.
        rows.sort_by_key(|row| row.at_ms);
        (rows, Some(cursor).filter(|cursor| !cursor.0.is_empty()), progress)
    }
}

impl Progress {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            of: self.of + other.of,
            unreadable: self.unreadable + other.unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let place = TracePlace { day: 20_780, directory: 3, number: 31, offset: u64::MAX };
        let cursor = TraceCursor([(0, place), (17, TracePlace::default())].into());
        assert_eq!(TraceCursor::parse(&cursor.to_string()), Some(cursor));
        for wrong in ["", "x", "1-2-3-4", "1-2-3-4-5-6", "10000-1-1-1-1", "1-2-3-4-5."] {
            assert_eq!(TraceCursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pages_of_shards_are_one_by_time_and_only_who_has_more_goes_on() {
        let row = |at_ms, order| Traced {
            at_ms,
            id: None,
            domain: String::new(),
            order,
            reverse_path: String::new(),
            host: None,
            redirected: false,
            aside: false,
            accepted: None,
            recipients: Vec::new(),
        };
        let progress = Progress { done: 1, of: 2, unreadable: 0 };
        let place = TracePlace { number: 3, ..TracePlace::default() };
        let one = TracePage { shard: 0, rows: vec![row(5, 1), row(5, 2), row(9, 3)], more: None, progress };
        let other = TracePage { shard: 1, rows: vec![row(7, 4)], more: Some(place), progress };
        let (rows, next, all) = TracePage::merged(vec![other, one.clone()]);
        assert_eq!(rows.iter().map(|row| row.order).collect::<Vec<_>>(), [1, 2, 4, 3]);
        assert_eq!(next, Some(TraceCursor([(1, place)].into())));
        assert_eq!((all.done, all.of), (2, 4));
        assert_eq!(TracePage::merged(vec![one]).1, None);
    }
}
