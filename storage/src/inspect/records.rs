//! Records one by one, for people to read.

use super::gather::kind_word;
use super::{Directory, Walked};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::format::checkpoint::{Checkpoint, HeldUnit, Outcomes};
use crate::format::frame::{FrameHeader, FrameKind, frame_octets};
use crate::format::journal_entry::{Fact, Outcome, Void};
use crate::format::message::{MessageView, domain_of};
use crate::format::tally::{Ledger, Tally, TallyRow};
use crate::position::{Offset, QueueId, ShardId};
use crate::segment::scan::{Found, walk};

/// What is said of a record whose key is not here.
const LOCKED: &str = "encrypted: its key is not here";

/// Which records are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Messages with a recipient in this domain.
    pub domain: Option<String>,
    /// Records of this message.
    pub queue_id: Option<String>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The file, relative to the data directory.
    pub path: String,
    /// The shard.
    pub shard: u16,
    /// The number of the file.
    pub segment: u32,
    /// Where in the file.
    pub offset: u64,
    /// Octets of the frame with its padding; of a gap, its length.
    pub octets: u64,
    /// `message`, `chunk`, `void`, `settlement`, `tally`; or `gap`.
    pub kind: &'static str,
    /// The stamp, or the sequence of facts; 0 for none.
    pub stamp: u64,
    /// Milliseconds since 1970.
    pub received_ms: u64,
    /// Empty where there is none.
    pub queue_id: String,
    /// Of a message; empty for the null one.
    pub reverse_path: Option<String>,
    /// Of a message, by ordinal.
    pub recipients: Vec<Recipient>,
    /// Octets of mail data: of a message over all its chunks, of a chunk its own.
    pub data_octets: u64,
    /// What else there is to say: facts, a void's range, a tally.
    pub text: String,
    /// What is wrong with it.
    pub damage: Option<&'static str>,
}

/// A recipient and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// `local@domain`.
    pub mailbox: String,
    /// The word for what is the case by all journals; without a fact `queued`, or `void` for what was never
    /// acknowledged.
    pub state: &'static str,
}

pub(super) async fn records<D: Disk>(
    directory: &Directory<D>,
    filter: &Filter,
    mut visit: impl FnMut(&Record),
) -> Result<(), DiskError> {
    let wanted = filter.queue_id.as_deref().map(QueueId::parse);
    for walked in &directory.files {
        let Some(header) = &walked.header else { continue };
        let file = directory.disk.open(&walked.shown.path).await?;
        let mut records = Vec::new();
        let result = walk(&file, header, &directory.keys, |found| {
            let (offset, header, payload, damage) = match found {
                Found::Frame { offset, header, payload } => (offset, header, payload, None),
                Found::DamagedPayload { offset, header, payload } => {
                    (offset, header, payload, Some("payload checksum"))
                }
                Found::Locked { offset, header } => (offset, header, &[][..], Some(LOCKED)),
            };
            let record = record(directory, walked, (offset, &header, payload), damage);
            if passes(&record, filter, wanted, header.queue_id) {
                records.push(record);
            }
        })
        .await?;
        if *filter == Filter::default() {
            records.extend(result.gaps.iter().map(|gap| {
                let mut record = empty(walked, gap.range.start, "gap");
                record.octets = gap.range.end - gap.range.start;
                record.damage = Some("no valid frame");
                record
            }));
            records.sort_by_key(|record| record.offset);
        }
        records.iter().for_each(&mut visit);
    }
    Ok(())
}

fn passes(record: &Record, filter: &Filter, wanted: Option<Option<QueueId>>, queue_id: QueueId) -> bool {
    let in_domain = |domain: &String| {
        let mut mailboxes = record.recipients.iter().map(|recipient| domain_of(&recipient.mailbox));
        mailboxes.any(|other| other.eq_ignore_ascii_case(domain))
    };
    filter.domain.as_ref().is_none_or(in_domain) && wanted.is_none_or(|wanted| wanted == Some(queue_id))
}

fn empty(walked: &Walked, offset: u64, kind: &'static str) -> Record {
    Record {
        path: walked.shown.path.clone(),
        shard: walked.shown.shard,
        segment: walked.shown.segment,
        offset,
        octets: 0,
        kind,
        stamp: 0,
        received_ms: 0,
        queue_id: String::new(),
        reverse_path: None,
        recipients: Vec::new(),
        data_octets: 0,
        text: String::new(),
        damage: None,
    }
}

fn record<D: Disk>(
    directory: &Directory<D>,
    walked: &Walked,
    (offset, header, payload): (Offset, &FrameHeader, &[u8]),
    damage: Option<&'static str>,
) -> Record {
    let mut record = empty(walked, offset.0, kind_word(header.kind));
    record.octets = frame_octets(header.payload_length as usize) as u64;
    record.stamp = header.stamp.0;
    record.received_ms = header.received.0;
    record.damage = damage;
    if header.queue_id != QueueId(0) {
        record.queue_id = header.queue_id.to_string();
    }
    let sense = match header.kind {
        FrameKind::Chunk => {
            record.data_octets = header.payload_length.into();
            true
        }
        // A damaged payload may still decode, and nobody could tell what of it is true.
        _ if damage.is_some() => true,
        FrameKind::Message => message(directory, walked, &mut record, header, payload),
        FrameKind::Void => text(&mut record, Void::decode(payload).map(|void| void_text(&void))),
        FrameKind::Settlement => text(&mut record, Fact::decode_all(payload).map(|facts| facts_text(&facts))),
        FrameKind::Tally => text(&mut record, Tally::decode(payload).map(|part| tally_text(&part.content))),
        FrameKind::Outcomes => text(&mut record, Outcomes::decode(payload).map(|part| outcomes_text(&part))),
        FrameKind::Ledger => {
            text(&mut record, Ledger::decode(payload).map(|(shard, part)| ledger_text(shard, &part.content)))
        }
        FrameKind::Held => text(&mut record, HeldUnit::decode_all(payload).map(|units| held_text(&units))),
        FrameKind::Checkpoint => {
            text(&mut record, Checkpoint::decode(payload).map(|end| checkpoint_text(&end)))
        }
    };
    if !sense {
        record.damage = Some("payload makes no sense");
    }
    record
}

fn message<D: Disk>(
    directory: &Directory<D>,
    walked: &Walked,
    record: &mut Record,
    header: &FrameHeader,
    payload: &[u8],
) -> bool {
    let Some(view) = MessageView::decode(payload) else { return false };
    record.reverse_path = Some(view.reverse_path.to_owned());
    record.data_octets = view.data.stored_octets;
    let unsettled = if directory.is_void(walked, record.offset) { "void" } else { "queued" };
    let recipients = view.recipients.iter().enumerate().map(|(ordinal, mailbox)| {
        let ordinal = u16::try_from(ordinal).unwrap_or(u16::MAX);
        let place = (walked.shard, walked.segment);
        let outcome = directory.outcome(place, header.stamp, header.unit_base, ordinal);
        let state = outcome.map_or(unsettled, outcome_word);
        Recipient { mailbox: (*mailbox).to_owned(), state }
    });
    record.recipients = recipients.collect();
    if !view.chunks.is_empty() {
        record.text = format!("{} chunks", view.chunks.len());
    }
    true
}

fn text(record: &mut Record, text: Option<String>) -> bool {
    let sense = text.is_some();
    record.text = text.unwrap_or_default();
    sense
}

fn void_text(void: &Void) -> String {
    format!("segment {:08x} from {} to {}", void.segment.0, void.from, void.to)
}

fn facts_text(facts: &[Fact]) -> String {
    let words = facts.iter().map(|Fact { stamp, ordinal, outcome, code }| {
        format!("{}/{ordinal} {} {code}", stamp.0, outcome_word(*outcome))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn tally_text(tally: &Tally) -> String {
    let units: u64 = tally.rows.iter().map(TallyRow::total).fold(0, u64::saturating_add);
    let (shard, segment, domains) = (tally.shard, tally.segment.0, tally.rows.len());
    format!("{shard} segment {segment:08x}: {units} units of {domains} domains ended")
}

fn ledger_text(shard: ShardId, ledger: &Ledger) -> String {
    let units: u64 = ledger.rows.iter().map(TallyRow::total).fold(0, u64::saturating_add);
    let segments: u64 = ledger.gone.iter().map(|range| u64::from(range.end() - range.start()) + 1).sum();
    format!("{shard}: {segments} segments gone, {units} units of {} domains ended", ledger.rows.len())
}

fn outcomes_text(outcomes: &Outcomes) -> String {
    let Outcomes { shard, segment, first, .. } = outcomes;
    format!("{shard} segment {:08x}: {} units ended, from {first} on", segment.0, outcomes.units().count())
}

fn held_text(units: &[HeldUnit]) -> String {
    let words = units.iter().map(|unit| format!("{}/{} held {}", unit.stamp.0, unit.ordinal, unit.code));
    words.collect::<Vec<_>>().join(", ")
}

fn checkpoint_text(end: &Checkpoint) -> String {
    let words = end.last_stamps.iter().map(|(shard, stamp)| format!("{shard} up to {}", stamp.0));
    words.collect::<Vec<_>>().join(", ")
}

/// The word for an outcome.
const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Bounced => "bounced",
        Outcome::Damaged => "damaged",
        Outcome::Deleted => "deleted",
        Outcome::Delivered => "delivered",
        Outcome::Discarded => "discarded",
        Outcome::Expired => "expired",
        Outcome::Held => "held",
        Outcome::Released => "released",
    }
}
