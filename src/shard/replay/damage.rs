//! What can still be told about a record that is damaged: for the operator, who may know the sender.
//!
//! The record is read once more and decoded as far as it goes. Nothing of it is believed by anybody but the reader
//! of the log: its checksum is wrong, so each word of it may be. An encrypted payload does not decode.

use super::names::Names;
use crate::limits::DAMAGED_RECIPIENTS_SHOWN;
use crate::shard::backlog::Place;
use storage::disk::{Disk, File};
use storage::format::frame::FRAME_HEADER_OCTETS;
use storage::format::message::MessageView;
use storage::format::segment_header::Purpose;
use storage::segment;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Remains {
    /// The queue id, if the frame's header is sound.
    pub(super) queue_id: Option<String>,
    /// Who it was for, of the units asked about, if the payload decodes; a bounded number.
    pub(super) unverified_recipients: Vec<String>,
}

/// What is left of the record at `place`, about these units of it.
pub(super) async fn remains<D: Disk>(disk: &D, place: Place, ordinals: &[u16]) -> Remains {
    let (directory, entry) = place;
    let path = segment::path(directory, Purpose::Mail, entry.segment);
    let Ok(file) = disk.open(&path).await else { return Remains::default() };
    let Ok(octets) = file.read(entry.offset().0, entry.frame_octets() as usize).await else {
        return Remains::default();
    };
    let queue_id = Names::new(disk).queue_id(place).await;
    Remains {
        queue_id: queue_id.map(|queue_id| queue_id.to_string()),
        unverified_recipients: recipients(&octets, ordinals),
    }
}

fn recipients(frame: &[u8], ordinals: &[u16]) -> Vec<String> {
    let Some(payload) = frame.get(FRAME_HEADER_OCTETS..) else { return Vec::new() };
    // How much of the end is padding to the next multiple of 8 stands in the header, which may be damaged.
    let unpadded = (0..8).filter_map(|padding| payload.get(..payload.len().checked_sub(padding)?));
    let Some(message) = unpadded.filter_map(MessageView::decode).next() else { return Vec::new() };
    let known = ordinals.iter().filter_map(|ordinal| message.recipients.get(usize::from(*ordinal)));
    known.take(DAMAGED_RECIPIENTS_SHOWN).map(ToString::to_string).collect()
}
