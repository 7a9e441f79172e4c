//! What shards tell each other: bounded channels, one inbox a shard.
//!
//! Whoever empties an inbox only changes memory and never waits, so a shard that waits for room in another's
//! inbox cannot be waited for in a circle.

use crate::bridge::{EndSent, Snapshot};
use crate::limits::SHARD_INBOX;
use async_channel::{Receiver, Sender};
use std::sync::Arc;
use storage::error::AppendError;
use storage::format::checkpoint::DirectoryRow;
use storage::format::index_file::IndexEntry;
use storage::format::journal_entry::{Authentication, Outcome};
use storage::format::kept::KeptRun;
use storage::log::Arrival;
use storage::position::{SegmentId, ShardId, Stamp};

/// A unit has a durable final outcome: told to the shard that keeps its segment.
#[derive(Clone, Debug)]
pub struct SettledUnit {
    /// The segment's directory.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The unit's number in it.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// If it was delivered and its record is kept: when that was, and until when, in seconds since 1970.
    pub kept: Option<(u32, u32)>,
}

/// A checkpoint begins.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Its sequence.
    pub sequence: Stamp,
    /// Told by each shard: all that is its is restated, with what the checkpoint says of its directory; or why not.
    pub done: Sender<Result<DirectoryRow, AppendError>>,
}

/// Where a rewrite put messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The directory of sources and copy.
    pub shard: ShardId,
    /// The new places, by domain.
    pub domains: Vec<(Arc<str>, Vec<IndexEntry>)>,
}

/// What authentication said of one message, for the lanes of these domains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Domains of its recipients that the shard owns.
    pub domains: Vec<Arc<str>>,
    /// The verdict.
    pub authentication: Authentication,
}

/// What the owner of a domain is told of a message that became ours though its primary may have it (H21).
#[derive(Clone, Debug)]
pub struct Late {
    /// The domain.
    pub domain: Arc<str>,
    /// The message.
    pub stamp: Stamp,
    /// What is known of it.
    pub news: Outstanding,
    /// Its place among those that may repeat: given back when the fact that settles it is durable, or it is in order again.
    pub place: Option<Arc<EndSent>>,
}

/// What is known of a message whose end was sent to its primary, and that became ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outstanding {
    /// It is about to arrive, and the connection ended without a reply.
    Lost,
    /// It is about to arrive, and the primary owes a reply.
    Owed,
    /// The reply's code.
    Replied(u16),
    /// None comes any more; or the message does not arrive after all.
    Silent,
}

/// A note to a shard.
#[derive(Clone, Debug)]
pub enum Note {
    /// Mail for domains that the shard owns is durable.
    Arrivals(Vec<Arrival>),
    /// What authentication said of mail in these domains, which the shard owns.
    Authenticated(Vec<Said>),
    /// A checkpoint begins: do your part.
    CheckpointBegins(Begin),
    /// The checkpoint with this sequence is complete: older journals may go.
    CheckpointComplete(Stamp),
    /// A shard has told you all that its older journals say about your segments.
    CheckpointMark(Stamp),
    /// A shard has too many journals; shard 0 begins.
    CheckpointWanted,
    /// A new configuration. The sender is dropped with the note: who waits at its other end knows that all
    /// shards work by it.
    Configuration(Arc<Snapshot>, Sender<()>),
    /// Everything that a domain has queued is to be tried at once. Told: how many messages that is.
    Flush(Arc<str>, Sender<u64>),
    /// Mail of domains lies elsewhere now. The sender is dropped when nobody uses the old places any more.
    Moved(Arc<Moved>, Sender<()>),
    /// What is known of a message whose primary's reply was late.
    Upstream(Late),
    /// Units in segments that the shard keeps, of which copies were kept, are queued once more. The sender is dropped with the note: who
    /// looks at its other end knows that the shard knows.
    Replayed(Vec<KeptRun>, Sender<()>),
    /// Units in segments that the shard keeps are settled.
    Settled(Vec<SettledUnit>),
    /// Take leave of all sessions, make everything durable, end.
    Shutdown,
}

/// One shard's place in the mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Its own inbox.
    pub inbox: Receiver<Note>,
    /// The inboxes of all shards, its own among them.
    pub senders: Vec<Sender<Note>>,
}

/// A mesh of `shards`.
#[must_use]
pub fn mesh(shards: u16) -> Vec<Mesh> {
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..shards).map(|_| async_channel::bounded(SHARD_INBOX)).unzip();
    inboxes.into_iter().map(|inbox| Mesh { inbox, senders: senders.clone() }).collect()
}

/// The shard that owns a domain: it alone delivers its mail. FNV-1a, so that it is the same in every version.
#[must_use]
pub fn owner(domain: &str, shards: u16) -> ShardId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for octet in domain.bytes() {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    }
    let place = hash % u64::from(shards);
    ShardId(u16::try_from(place).expect("a remainder of a u16"))
}
