//! Records one by one, for people to read.

use super::account::Standing;
use super::frames::kind_word;
use super::{Directory, Walked};
use crate::crypt::TAG_OCTETS;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::format::checkpoint::{Checkpoint, HeldUnit, Outcomes};
use crate::format::frame::{FrameHeader, FrameKind, PLAIN, frame_octets};
use crate::format::journal_entry::{Authentication, Fact, Outcome, Void};
use crate::format::message::{Extensions, MessageView, domain_of};
use crate::format::tally::{Ledger, Tally, TallyRow};
use crate::position::{Offset, QueueId, ShardId};
use crate::segment::scan::{Found, walk};

/// What is said of a record whose key is not here.
const LOCKED: &str = "encrypted: its key is not here";

/// Which records are wanted: all whose facts agree with each of these that is given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Messages with a recipient in this domain, in any case of letters.
    pub domain: Option<String>,
    /// Messages for this mailbox, `local@domain`, in any case of letters.
    pub recipient: Option<String>,
    /// Messages of which a recipient (with the others: this recipient) is in this state: a word as [`Recipient`] has them.
    pub state: Option<String>,
    /// Records of this message.
    pub queue_id: Option<String>,
    /// Received at or after this, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Received before this.
    pub until_ms: Option<u64>,
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
    /// `message`, `chunk`, `void`, `settlement`, `tally`, `outcomes`, `ledger`, `held`, `checkpoint`; or `gap`.
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
    /// Of a message: what service extensions added to its envelope.
    pub extensions: Option<Extensions<'static>>,
    /// Of a message: what authentication said of it, in the words of RFC 8601; empty where nothing is known.
    pub authentication: String,
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
    /// The word for what is the case by all journals: `bounced`, `damaged`, `deleted`, `delivered`, `discarded`,
    /// `expired`, `held`. Without a fact `queued`; or `void` for what was never acknowledged, or `moved` for a copy that
    /// does not count, since another one does.
    pub state: &'static str,
    /// The reply code that decided it; 0 for none, or where a checkpoint did not keep it.
    pub code: u16,
    /// When it was decided, in seconds since 1970; 0 where nothing tells it.
    pub since_s: u32,
}

impl Filter {
    /// Whether a record in this time and of this message is wanted; its recipients are asked for apart.
    fn admits(&self, wanted: Option<Option<QueueId>>, queue_id: QueueId, received_ms: u64) -> bool {
        wanted.is_none_or(|wanted| wanted == Some(queue_id))
            && self.since_ms.is_none_or(|since| received_ms >= since)
            && self.until_ms.is_none_or(|until| received_ms < until)
    }

    /// The domain of all recipients that can pass.
    pub(super) fn asked_domain(&self) -> Option<&str> {
        let of_recipient = || Some(self.recipient.as_deref()?.rsplit_once('@')?.1);
        self.domain.as_deref().or_else(of_recipient)
    }

    fn names_recipients(&self) -> bool {
        self.domain.is_some() || self.recipient.is_some() || self.state.is_some()
    }

    /// Whether this recipient is wanted.
    #[must_use]
    pub fn admits_recipient(&self, recipient: &Recipient) -> bool {
        let in_domain = |domain: &String| domain_of(&recipient.mailbox).eq_ignore_ascii_case(domain);
        self.domain.as_ref().is_none_or(in_domain)
            && self.recipient.as_ref().is_none_or(|mailbox| recipient.mailbox.eq_ignore_ascii_case(mailbox))
            && self.state.as_ref().is_none_or(|state| recipient.state == state)
    }

    pub(super) fn passes(&self, record: &Record, wanted: Option<Option<QueueId>>, queue_id: QueueId) -> bool {
        let mut recipients = record.recipients.iter();
        self.admits(wanted, queue_id, record.received_ms)
            && (!self.names_recipients() || recipients.any(|recipient| self.admits_recipient(recipient)))
    }
}

pub(super) async fn records<D: Disk>(
    directory: &Directory<D>,
    filter: &Filter,
    mut visit: impl FnMut(&Record),
) -> Result<(), DiskError> {
    let wanted = filter.queue_id.as_deref().map(QueueId::parse);
    let standing = Standing::of(directory);
    for (number, walked) in directory.files.iter().enumerate() {
        let Some(header) = &walked.header else { continue };
        let file = directory.disk.open(&walked.shown.path).await?;
        let viewer = Viewer { directory, standing: &standing, number };
        let mut records = Vec::new();
        let result = walk(&file, header, &directory.keys, |found| {
            let (offset, header, payload, damage) = match found {
                Found::Frame { offset, header, payload } => (offset, header, payload, None),
                Found::DamagedPayload { offset, header, payload } => {
                    (offset, header, payload, Some("payload checksum"))
                }
                Found::Locked { offset, header } => (offset, header, &[][..], Some(LOCKED)),
            };
            if !filter.admits(wanted, header.queue_id, header.received.0) {
                return;
            }
            let record = viewer.record((offset, &header, payload), damage);
            if filter.passes(&record, wanted, header.queue_id) {
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
        extensions: None,
        authentication: String::new(),
        data_octets: 0,
        text: String::new(),
        damage: None,
    }
}

/// Tells records of one file.
pub(super) struct Viewer<'a, D> {
    pub(super) directory: &'a Directory<D>,
    pub(super) standing: &'a Standing,
    /// The file.
    pub(super) number: usize,
}

impl<D: Disk> Viewer<'_, D> {
    pub(super) fn record(
        &self,
        (offset, header, payload): (Offset, &FrameHeader, &[u8]),
        damage: Option<&'static str>,
    ) -> Record {
        let mut record = empty(&self.directory.files[self.number], offset.0, kind_word(header.kind));
        record.octets = frame_octets(header.payload_length as usize) as u64;
        record.stamp = header.stamp.0;
        record.received_ms = header.received.0;
        record.damage = damage;
        if header.queue_id != QueueId(0) {
            record.queue_id = header.queue_id.to_string();
        }
        let sense = match header.kind {
            FrameKind::Chunk => {
                let tag = if header.key_id == PLAIN { 0 } else { TAG_OCTETS as u64 };
                record.data_octets = u64::from(header.payload_length).saturating_sub(tag);
                true
            }
            // A damaged payload may still decode, and nobody could tell what of it is true.
            _ if damage.is_some() => true,
            FrameKind::Message => self.message(&mut record, header, payload),
            _ => text(&mut record, facts_of(header.kind, payload)),
        };
        if !sense {
            record.damage = Some("payload makes no sense");
        }
        record
    }

    fn message(&self, record: &mut Record, header: &FrameHeader, payload: &[u8]) -> bool {
        let Some(view) = MessageView::decode(payload) else { return false };
        record.reverse_path = Some(view.reverse_path.to_owned());
        record.extensions = Some(view.extensions.detached());
        record.data_octets = view.data.stored_octets;
        let bits = self.directory.facts.authentication(header.stamp);
        if bits != 0 {
            record.authentication = Authentication { stamp: header.stamp, bits }.to_string();
        }
        let walked = &self.directory.files[self.number];
        let units = u32::try_from(view.recipients.len()).unwrap_or(u32::MAX);
        let numbers = header.unit_base..header.unit_base.saturating_add(units);
        let place = (header.stamp, numbers, record.offset);
        let unsettled = if self.directory.is_void(walked, record.offset) {
            "void"
        } else if self.standing.counts(self.directory, self.number, place) {
            "queued"
        } else {
            "moved"
        };
        let recipients = view.recipients.iter().enumerate().map(|(ordinal, mailbox)| {
            let ordinal = u16::try_from(ordinal).unwrap_or(u16::MAX);
            let told = self.directory.told_of(walked, header.stamp, header.unit_base, ordinal);
            let state = match (unsettled, &told) {
                ("queued", Some(told)) => outcome_word(told.fact.outcome),
                _ => unsettled,
            };
            let (code, since_s) = told.map_or((0, 0), |told| (told.fact.code, told.since_s));
            Recipient { mailbox: (*mailbox).to_owned(), state, code, since_s }
        });
        record.recipients = recipients.collect();
        if !view.chunks.is_empty() {
            record.text = format!("{} chunks", view.chunks.len());
        }
        true
    }
}

/// The words for facts, tallies and what a checkpoint restates.
fn facts_of(kind: FrameKind, payload: &[u8]) -> Option<String> {
    match kind {
        FrameKind::Void => Void::decode(payload).map(|void| void_text(&void)),
        FrameKind::Settlement => Fact::decode_all(payload).map(|facts| settlement_text(&facts, payload)),
        FrameKind::Tally => Tally::decode(payload).map(|part| tally_text(&part.content)),
        FrameKind::Outcomes => Outcomes::decode(payload).map(|part| outcomes_text(&part)),
        FrameKind::Ledger => Ledger::decode(payload).map(|(shard, part)| ledger_text(shard, &part.content)),
        FrameKind::Held => HeldUnit::decode_all(payload).map(|units| held_text(&units)),
        FrameKind::Checkpoint => Checkpoint::decode(payload).map(|end| checkpoint_text(&end)),
        FrameKind::Message | FrameKind::Chunk => None,
    }
}

fn text(record: &mut Record, text: Option<String>) -> bool {
    let sense = text.is_some();
    record.text = text.unwrap_or_default();
    sense
}

fn void_text(void: &Void) -> String {
    format!("segment {:08x} from {} to {}", void.segment.0, void.from, void.to)
}

fn settlement_text(facts: &[Fact], payload: &[u8]) -> String {
    let words = facts.iter().map(|Fact { stamp, ordinal, outcome, code }| {
        format!("{}/{ordinal} {} {code}", stamp.0, outcome_word(*outcome))
    });
    let said = Authentication::decode_all(payload);
    let words = words.chain(said.map(|said| format!("{} {said}", said.stamp.0)));
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
    let words = end.directories.iter().map(|row| {
        let first =
            row.first_journal.map_or_else(String::new, |first| format!(", journals from {:08x}", first.0));
        format!("{} up to {}{first}", row.shard, row.last_stamp.0)
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The word for an outcome.
pub(super) const fn outcome_word(outcome: Outcome) -> &'static str {
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
