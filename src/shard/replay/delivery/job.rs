//! A message on its way to a primary: owned, so that several are under way at a time.

use super::super::addressee::{Addressee, addressees};
use crate::message::authentication::Verdict;
use crate::message::authentication_results::{Origin, field, forged, results};
use crate::shard::backlog::Place;
use crate::shard::epoch::Guard;
use crate::shard::traces::accepted;
use crate::smtp::client::TrueClient;
use crate::smtp::dsn::Notify;
use core::net::IpAddr;
use core::ops::Range;
use std::borrow::Cow;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::message::{ChunkReference, MessageView, Protocol};
use storage::format::trace::Accepted;
use storage::position::{QueueId, Stamp};
use storage::reader::{OctetsOf, StoredFrame};

/// See the module.
pub(in crate::shard) struct Job<D: Disk> {
    pub(in crate::shard) place: Place,
    /// The units that are to be delivered.
    pub(in crate::shard) ordinals: Vec<u16>,
    /// Somebody names this place.
    pub(in crate::shard) looking: Guard,
    pub(in crate::shard) queue_id: QueueId,
    pub(in crate::shard) reverse_path: String,
    /// Whom it came from, if that can be named to others.
    pub(in crate::shard) client: Option<TrueClient>,
    /// Of the units.
    pub(in crate::shard) mailboxes: Vec<String>,
    /// Of the units: when their sender wants a notice.
    pub(in crate::shard) notify: Vec<Notify>,
    /// What its record says of its acceptance.
    pub(in crate::shard) accepted: Accepted,
    /// It was queued once more.
    pub(in crate::shard) is_replayed: bool,
    /// It is a notice of ours, about units of this domain and this message.
    pub(in crate::shard) notice: Option<(String, Stamp)>,
    /// What goes on top of the message, above our trace field.
    pub(super) lead: Vec<u8>,
    /// What does not go, in the first piece of its data: in order, apart.
    pub(super) left_out: Vec<Range<usize>>,
    /// The record, until its data is on its way.
    frame: Option<StoredFrame<OctetsOf<D>>>,
}

impl<D: Disk> Job<D> {
    /// # Errors
    /// The record is none of a message, or does not have these units.
    pub(in crate::shard) fn new(
        place: Place,
        ordinals: Vec<u16>,
        looking: Guard,
        frame: StoredFrame<OctetsOf<D>>,
    ) -> Result<Self, Unusable> {
        let unusable = |what, looking| Unusable { error: ReadError::Damaged(what), looking };
        let queue_id = frame.header.queue_id;
        let Ok(message) = frame.message() else {
            return Err(unusable("message payload", looking));
        };
        let recipients = addressees(&message, &ordinals);
        if recipients.len() != ordinals.len() {
            return Err(unusable("recipients", looking));
        }
        let reverse_path = message.reverse_path.to_owned();
        let mailboxes = recipients.iter().map(|addressee| addressee.mailbox.to_owned()).collect();
        let notify = recipients.iter().map(|addressee| addressee.dsn.notify).collect();
        let about = message.extensions.notice.as_ref();
        let notice = about.map(|notice| (notice.domain.clone().into_owned(), notice.stamp));
        // A notice comes from us.
        let client = match notice {
            Some(_) => None,
            None => TrueClient::new(message.client, message.helo, message.protocol == Protocol::Esmtp),
        };
        let is_replayed = message.extensions.replay_of.is_some();
        let accepted = accepted(&message, place.1.received_s);
        drop(recipients);
        let frame = Some(frame);
        Ok(Self {
            place,
            ordinals,
            looking,
            queue_id,
            reverse_path,
            client,
            mailboxes,
            notify,
            accepted,
            is_replayed,
            notice,
            lead: Vec::new(),
            left_out: Vec::new(),
            frame,
        })
    }

    /// Says what is known of its origin, and leaves out what others said of it in our name (RFC 8601 5). `header`: the first piece of its
    /// data, as it is stored.
    pub(in crate::shard) fn tell_origin(&mut self, hostname: &str, verdict: &Verdict, header: Option<&[u8]>) {
        if self.notice.is_some() {
            return;
        }
        let message = self.message();
        let header = header.unwrap_or(message.tail);
        let (reverse_path, helo) = (message.reverse_path, message.helo);
        let left_out = forged(header, hostname);
        let lead = field(&Origin { hostname, reverse_path, helo, header }, verdict);
        self.lead = lead.map(String::into_bytes).unwrap_or_default();
        self.left_out = left_out;
    }

    /// It is sealed: this goes on top of all.
    pub(in crate::shard) fn seal(&mut self, seal: String) {
        self.lead.splice(..0, seal.into_bytes());
    }

    /// What its seal says of its origin, and the client; `header` as at [`Self::tell_origin`]. A notice is not sealed.
    pub(in crate::shard) fn results(
        &self,
        hostname: &str,
        verdict: &Verdict,
        header: &[u8],
    ) -> Option<(String, IpAddr)> {
        let message = self.message();
        let (reverse_path, helo) = (message.reverse_path, message.helo);
        let said = results(&Origin { hostname, reverse_path, helo, header }, verdict);
        self.notice.is_none().then_some((said, message.client))
    }

    /// All its data lies here, in so many chunk records and the rest.
    pub(in crate::shard) fn chunks(&self) -> Vec<ChunkReference> {
        self.message().chunks.to_vec()
    }

    /// What is in no chunk record.
    pub(in crate::shard) fn tail(&self) -> &[u8] {
        self.message().tail
    }

    /// The octets that the message has when it is handed over, unstuffed.
    pub(super) fn octets(&self, message: &MessageView<'_>) -> u64 {
        let left_out: usize = self.left_out.iter().map(ExactSizeIterator::len).sum();
        (message.data.unstuffed_octets + (message.trace.len() + self.lead.len()) as u64)
            .saturating_sub(left_out as u64)
    }

    /// The first piece of its data as it goes.
    pub(in crate::shard) fn cut<'a>(&self, first: &'a [u8]) -> Cow<'a, [u8]> {
        if self.left_out.is_empty() {
            return Cow::Borrowed(first);
        }
        let mut kept = Vec::with_capacity(first.len());
        let mut from = 0;
        for range in &self.left_out {
            kept.extend_from_slice(&first[from..range.start]);
            from = range.end;
        }
        kept.extend_from_slice(&first[from..]);
        Cow::Owned(kept)
    }

    /// What is stored.
    ///
    /// # Panics
    /// Behind [`Self::forget`].
    pub(super) fn message(&self) -> MessageView<'_> {
        let frame = self.frame.as_ref().expect("the record is kept until its data is on its way");
        frame.message().expect("it was read when the job was made")
    }

    pub(super) fn addressees<'a>(&self, message: &'a MessageView<'a>) -> Vec<Addressee<'a>> {
        addressees(message, &self.ordinals)
    }

    /// Its data is on its way.
    pub(super) fn forget(&mut self) {
        self.frame = None;
    }
}

/// A record of which no job can be made, and what it was to be made of.
pub(in crate::shard) struct Unusable {
    pub(in crate::shard) error: ReadError,
    pub(in crate::shard) looking: Guard,
}
