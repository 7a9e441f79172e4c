//! One message as it is shown: what the queue knows of it, and what its record says.

use crate::bridge::operator::{Message, MessageState, Recipient};
use crate::message::tls::TlsFacts;
use crate::shard::backlog::{Lane, Seen};
use crate::shard::state::Shard;
use crate::smtp::Moment;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::message::MessageView;
use storage::reader::Reader;

/// What a detail has beside its row.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) client: String,
    pub(super) helo: String,
    pub(super) tls: Option<String>,
    pub(super) trace: String,
}

pub(super) async fn row<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    reader: &Reader<D>,
    lane: &Lane,
    seen: &Seen,
) -> (Message, Facts) {
    let (directory, entry) = seen.place;
    let lane_tries = lane.next_try.get().filter(|_| seen.state == MessageState::Queued);
    let mut message = Message {
        id: None,
        domain: lane.domain.to_string(),
        state: seen.state,
        reverse_path: None,
        recipients: Vec::new(),
        size: entry.stored_octets(),
        received_s: entry.received_s,
        held_since_s: seen.held_since_s,
        next_try_s: seen.due.or(lane_tries).map(|moment| until(shard, moment)),
        stored: entry.stored_octets(),
        last_code: shard.codes.borrow().of(&entry),
        deferrals: seen.asides,
        may_repeat: lane.offers.borrow().is_doubtful(entry.stamp),
        unreadable: None,
        stamp: entry.stamp.0,
    };
    let mut facts = Facts::default();
    let read = reader.read_entry(directory, &entry).await;
    let told = read.and_then(|frame| {
        let view = frame.message()?;
        message.id = Some(frame.header.queue_id.to_string());
        message.reverse_path = Some(view.reverse_path.to_owned());
        message.size = view.data.unstuffed_octets;
        message.recipients = recipients(&view, seen)?;
        facts = Facts {
            client: view.client.to_string(),
            helo: view.helo.to_owned(),
            tls: view
                .extensions
                .tls
                .map(|tls| TlsFacts { version: tls.version, cipher_suite: tls.cipher_suite }.to_string()),
            trace: String::from_utf8_lossy(view.trace).into_owned(),
        };
        Ok(())
    });
    message.unreadable = told.err().map(|error| error.to_string());
    (message, facts)
}

fn recipients(view: &MessageView<'_>, seen: &Seen) -> Result<Vec<Recipient>, ReadError> {
    let entry = &seen.place.1;
    let recipient = |ordinal: u16| {
        let address = view.recipients.get(usize::from(ordinal)).ok_or(ReadError::Damaged("recipients"))?;
        let state = match () {
            () if seen.open.contains(&ordinal) => seen.state,
            () if seen.held.contains(&ordinal) => MessageState::Held,
            () => MessageState::Done,
        };
        Ok(Recipient { address: (*address).to_owned(), state })
    };
    (entry.first..entry.first + entry.count).map(recipient).collect()
}

/// Whole seconds until then; 0 when it is past.
pub(super) fn until<D: Disk, C: Clock>(shard: &Shard<D, C>, moment: Moment) -> u64 {
    moment.saturating_sub(shard.clock.now()).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}
