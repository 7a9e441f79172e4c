//! A message on its way to a primary: owned, so that several are under way at a time.

use super::super::addressee::{Addressee, addressees};
use crate::shard::backlog::Place;
use crate::shard::epoch::Guard;
use crate::smtp::client::TrueClient;
use crate::smtp::dsn::Notify;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::message::{MessageView, Protocol};
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
    /// It is a notice of ours, about units of this domain and this message.
    pub(in crate::shard) notice: Option<(String, Stamp)>,
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
        let unusable =
            |what, ordinals, looking| Unusable { error: ReadError::Damaged(what), ordinals, looking };
        let queue_id = frame.header.queue_id;
        let Ok(message) = frame.message() else {
            return Err(unusable("message payload", ordinals, looking));
        };
        let recipients = addressees(&message, &ordinals);
        if recipients.len() != ordinals.len() {
            return Err(unusable("recipients", ordinals, looking));
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
            notice,
            frame,
        })
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
    pub(in crate::shard) ordinals: Vec<u16>,
    pub(in crate::shard) looking: Guard,
}
