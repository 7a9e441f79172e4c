//! Making a notice, and settling the units that it is about.

use super::super::addressee::addressees;
use super::super::bounce::{Bounce, Proof, bounce};
use super::super::settle;
use super::{Cause, Debt, NOTICES_DOMAIN, Owed};
use crate::limits::{DISK_RETRY_PAUSE, NOTICE_OCTETS_MAX, NOTICE_TRIES};
use crate::message::dsn::{Answer, Fate, Notice, Told};
use crate::message::received::header_section;
use crate::shard::backlog::{Lane, Place, Settlement, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::state::Shard;
use crate::smtp::chunk::{DotStuffer, DotUnstuffer};
use crate::smtp::dsn::decode_xtext;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::{AppendError, ReadError};
use storage::format::journal_entry::{Authentication, Fact, Outcome};
use storage::format::message::{DataFacts, Envelope, Extensions, MessageView, NoticeOf, Protocol, Smtputf8};
use storage::log::Message;
use storage::position::QueueId;
use storage::reader::{OctetsOf, Reader, StoredFrame};

/// Why there is no notice.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error("its message cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("it cannot be stored: {0}")]
    Append(#[from] AppendError),
    #[error("it would be too large")]
    TooLarge,
}

/// A record, and what is needed of it beyond its first frame.
struct Source<O> {
    frame: StoredFrame<O>,
    /// Its header section, unstuffed.
    header: Vec<u8>,
}

/// Makes a notice durable, then the end of its units; these are held where it cannot be made. Where the shard ends before, the units
/// are what they were: open.
pub(in crate::shard) async fn pay<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, lane: Rc<Lane>, debt: Debt) {
    let made = match read(&shard, debt.place).await {
        Ok(source) => make(&shard, &lane, &debt, &source).await,
        Err(error) => Err(error.into()),
    };
    end(&shard, &lane, debt, made).await;
}

/// Why units end without another try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Why {
    /// They are past their time.
    Expired,
    /// An operator gave them up.
    Returned,
}

impl Why {
    /// How one ends whose sender is told nothing.
    const fn silent(self) -> Outcome {
        match self {
            Self::Expired => Outcome::Expired,
            Self::Returned => Outcome::Bounced,
        }
    }

    const fn cause(self) -> Cause {
        match self {
            Self::Expired => Cause::Expired,
            Self::Returned => Cause::Returned,
        }
    }

    const fn silent_words(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Returned => "its sender wants no notice",
        }
    }

    /// For the log.
    const fn words(self) -> &'static str {
        match self {
            Self::Expired => "past its retention",
            Self::Returned => "given up by an operator",
        }
    }
}

/// What became of them, in units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::shard) struct GivenUp {
    /// They ended.
    pub(in crate::shard) ended: usize,
    /// They are held: nothing proves that the sender is himself, or no notice can be made.
    pub(in crate::shard) held: usize,
}

/// What becomes of units that end without another try, where their senders are to be told as far as they may.
///
/// The queue has let go of them; each has a durable fact on return, or the shard has ended.
pub(in crate::shard) async fn give_up<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    place: Place,
    looking: &Guard,
    ordinals: &[u16],
    said: u32,
    why: Why,
) -> GivenUp {
    let all_held = GivenUp { ended: 0, held: ordinals.len() };
    let (entry, words) = (place.1, why.words());
    let source = match read(shard, place).await {
        Ok(source) => source,
        Err(error) => {
            tracing::error!(domain = %lane.domain, stamp = entry.stamp.0, %error, "{words}, and cannot be read: held");
            hold(shard, lane, place, looking, ordinals, said).await;
            return all_held;
        }
    };
    // Looked at when it was made a source.
    let Ok(message) = source.frame.message() else { return all_held };
    let proof = Proof::of(said, &entry, false, shard.wall_s());
    let has_room = super::has_room(shard);
    let (mut owed, mut silent, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let addressees = addressees(&message, ordinals);
    if addressees.len() != ordinals.len() {
        tracing::error!(domain = %lane.domain, stamp = entry.stamp.0, "{words}, and has other recipients than its entry: held");
        hold(shard, lane, place, looking, ordinals, said).await;
        return all_held;
    }
    for (ordinal, addressee) in ordinals.iter().zip(addressees) {
        match bounce(message.reverse_path, addressee.dsn.notify, proof) {
            Bounce::Notice if has_room => owed.push(Owed { ordinal: *ordinal, code: 0, cause: why.cause() }),
            Bounce::Silent => silent.push(*ordinal),
            Bounce::Notice | Bounce::Hold | Bounce::Wait => held.push(*ordinal),
        }
    }
    let queue_id = source.frame.header.queue_id.to_string();
    for (units, event) in
        [(owed.len(), "its sender is told"), (silent.len(), why.silent_words()), (held.len(), "held")]
    {
        if units > 0 {
            tracing::info!(queue_id, domain = %lane.domain, received_s = entry.received_s, units, "{words}: {event}");
        }
    }
    let given_up = GivenUp { ended: owed.len() + silent.len(), held: held.len() };
    if !silent.is_empty() {
        let counter = if why == Why::Expired { &shard.counters.expired } else { &shard.counters.bounced };
        counter.add(silent.len() as u64);
        let fact = |ordinal: &u16| fact(place, *ordinal, why.silent(), 0);
        let facts = silent.iter().map(fact).collect();
        settle::settle(shard, lane, &[Settlement { place, facts, told: None, looking: looking.clone() }])
            .await;
    }
    if !held.is_empty() {
        hold(shard, lane, place, looking, &held, said).await;
    }
    if !owed.is_empty() {
        let debt = Debt { said, ..Debt::new(shard, lane, place, looking, owed) };
        let made = make(shard, lane, &debt, &source).await;
        let units = debt.units.len();
        if !end(shard, lane, debt, made).await {
            return GivenUp { ended: given_up.ended - units, held: given_up.held + units };
        }
    }
    given_up
}

/// Returns whether the notice was made.
async fn end<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    debt: Debt,
    made: Result<QueueId, Unmade>,
) -> bool {
    let outcome = debt.outcome();
    let Debt { place, units, said, looking, owing, _telling } = debt;
    let is_made = made.is_ok();
    match made {
        Ok(notice) => {
            tracing::info!(%notice, domain = %lane.domain, units = units.len(), "a notice to the sender is made");
            shard.counters.notices.add(1);
            if outcome == Outcome::Bounced {
                shard.counters.bounced.add(units.len() as u64);
            }
            let facts = facts(place, &units, outcome);
            if !settle::settle(shard, lane, &[Settlement { place, facts, told: None, looking }]).await {
                // The process ends, and the next start settles them by the notice, which must not leave before.
                core::mem::forget(owing);
                return true;
            }
        }
        // The process ends: the next start tries them again.
        Err(Unmade::Append(AppendError::Closed)) => {}
        Err(error) if outcome == Outcome::Delivered => {
            tracing::warn!(domain = %lane.domain, stamp = place.1.stamp.0, %error, "handed over; its sender cannot be told");
            let facts = facts(place, &units, outcome);
            settle::settle(shard, lane, &[Settlement { place, facts, told: None, looking }]).await;
        }
        Err(error) => {
            let (domain, units_held) = (&lane.domain, units.len());
            tracing::warn!(%domain, stamp = place.1.stamp.0, %error, units_held, "no notice can be made: held");
            let ordinals: Vec<u16> = units.iter().map(|unit| unit.ordinal).collect();
            hold(shard, lane, place, &looking, &ordinals, said).await;
        }
    }
    // From here on it may leave.
    drop(owing);
    is_made
}

/// Units that are in no list are held after all.
async fn hold<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    place: Place,
    looking: &Guard,
    ordinals: &[u16],
    said: u32,
) {
    let stamp = place.1.stamp;
    {
        let mut queue = lane.queue.borrow_mut();
        if !queue.knows(stamp) {
            // It was counted as gone.
            lane.usage.raise(stored_octets(&place.1));
        }
        queue.hold(place, ordinals, shard.wall_s());
        if said != 0 {
            queue.annotate(Authentication { stamp, bits: said });
        }
    }
    shard.counters.held.add(ordinals.len() as u64);
    let facts = ordinals.iter().map(|ordinal| fact(place, *ordinal, Outcome::Held, 0)).collect();
    settle::settle(shard, lane, &[Settlement { place, facts, told: None, looking: looking.clone() }]).await;
}

fn facts(place: Place, units: &[Owed], outcome: Outcome) -> Vec<Fact> {
    units.iter().map(|unit| fact(place, unit.ordinal, outcome, unit.code)).collect()
}

const fn fact(place: Place, ordinal: u16, outcome: Outcome, code: u16) -> Fact {
    Fact { stamp: place.1.stamp, ordinal, outcome, code }
}

async fn read<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    (directory, entry): Place,
) -> Result<Source<OctetsOf<D>>, ReadError> {
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let frame = reader.read_entry(directory, &entry).await?;
    let message = frame.message()?;
    let mut header = Vec::new();
    // All of it, or as much as a notice gives back, is in the first chunk of a large message.
    match message.chunks.first() {
        Some(chunk) => {
            let chunk = reader.read_chunk(directory, chunk).await?;
            DotUnstuffer::default().unstuff(header_section(chunk.payload()), &mut header);
        }
        None => DotUnstuffer::default().unstuff(header_section(message.tail), &mut header),
    }
    Ok(Source { frame, header })
}

/// Makes the notice durable; gives its name.
async fn make<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    debt: &Debt,
    source: &Source<OctetsOf<D>>,
) -> Result<QueueId, Unmade> {
    let message = source.frame.message()?;
    let queue_id = shard.next_queue_id();
    let written = written(shard, lane, debt, source, &message, queue_id)?;
    let hostname = shard.snapshot.borrow().config.hostname.clone();
    let to = format!("{}@{NOTICES_DOMAIN}", message.reverse_path);
    let has_8bit = !written.is_ascii();
    let about = NoticeOf {
        domain: lane.domain.as_ref().into(),
        stamp: debt.place.1.stamp,
        ordinals: debt.units.iter().map(|unit| unit.ordinal).collect(),
        outcome: debt.outcome(),
    };
    let envelope = Envelope {
        reverse_path: "",
        recipients: &[&to],
        client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        helo: &hostname,
        protocol: Protocol::Esmtp,
        body_8bit: has_8bit,
        extensions: Extensions {
            smtputf8: has_8bit.then_some(Smtputf8 { header_8bit: true }),
            notice: Some(about),
            ..Extensions::NONE
        },
    };
    let mut stuffed = Vec::with_capacity(written.len());
    let mut stuffer = DotStuffer::default();
    stuffer.stuff(&written, &mut stuffed);
    stuffer.finish(&mut stuffed);
    let data = DataFacts {
        stored_octets: stuffed.len() as u64,
        unstuffed_octets: written.len() as u64,
        stuffed_lines: (stuffed.len() - written.len()) as u64,
        has_8bit,
        has_nul: false,
    };
    let received = shard.clock.wall();
    let chunks = &[];
    let notice =
        Message { queue_id, received, envelope: &envelope, data: &data, chunks, trace: b"", tail: &stuffed };
    let mut tries = 1;
    loop {
        let error = match append(shard, &notice).await {
            Ok(()) => return Ok(queue_id),
            Err(error) => error,
        };
        if matches!(error, AppendError::Closed | AppendError::TooLarge) || tries >= NOTICE_TRIES {
            return Err(error.into());
        }
        tries += 1;
        shard.clock.sleep(DISK_RETRY_PAUSE).await;
    }
}

async fn append<D: Disk, C: Clock>(shard: &Shard<D, C>, notice: &Message<'_>) -> Result<(), AppendError> {
    shard.mail.append_message(notice).await?.ticket.await
}

/// The notice as a message.
fn written<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    debt: &Debt,
    source: &Source<OctetsOf<D>>,
    message: &MessageView<'_>,
    queue_id: QueueId,
) -> Result<Vec<u8>, Unmade> {
    let ordinals: Vec<u16> = debt.units.iter().map(|unit| unit.ordinal).collect();
    let addressees = addressees(message, &ordinals);
    if addressees.len() != ordinals.len() {
        return Err(ReadError::Damaged("recipients").into());
    }
    let originals: Vec<String> = addressees.iter().map(|addressee| original(addressee.dsn.orcpt)).collect();
    let hosts: Vec<(String, String)> = debt.units.iter().map(|unit| named(&unit.cause)).collect();
    let told = debt.units.iter().zip(&addressees).zip(originals.iter().zip(&hosts));
    let told: Vec<Told<'_>> = told
        .map(|((unit, addressee), (original, (host, enhanced)))| Told {
            mailbox: addressee.mailbox,
            original,
            fate: match &unit.cause {
                Cause::Expired => Fate::Expired,
                Cause::Returned => Fate::Returned,
                Cause::Refused { reply, .. } => {
                    Fate::Refused(Answer { host, code: reply.code, enhanced, text: &reply.text })
                }
                Cause::Relayed { reply, .. } => {
                    Fate::Relayed(Answer { host, code: reply.code, enhanced, text: &reply.text })
                }
            },
        })
        .collect();
    let envelope_id =
        decode_xtext(&message.extensions.envid).and_then(|octets| String::from_utf8(octets).ok());
    let trace_and_header = [message.trace, &source.header].concat();
    let written = Notice {
        hostname: &shard.snapshot.borrow().config.hostname,
        reverse_path: message.reverse_path,
        id: &queue_id.to_string(),
        message_id: &source.frame.header.queue_id.to_string(),
        domain: &lane.domain,
        made_unix_seconds: i64::from(shard.wall_s()),
        received_unix_seconds: i64::from(debt.place.1.received_s),
        envelope_id: &envelope_id.unwrap_or_default(),
        recipients: &told,
        header: &trace_and_header,
    }
    .written();
    if written.len() > NOTICE_OCTETS_MAX { Err(Unmade::TooLarge) } else { Ok(written) }
}

/// What a host is called in a notice (RFC 3464 2.3.5: an address literal where no name is known for certain), and its enhanced
/// code.
fn named(cause: &Cause) -> (String, String) {
    let (Cause::Refused { host, reply } | Cause::Relayed { host, reply }) = cause else {
        return Default::default();
    };
    let enhanced = reply.enhanced.map(|code| code.to_string()).unwrap_or_default();
    (literal(*host), enhanced)
}

fn literal(host: SocketAddr) -> String {
    match host.ip() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// ORCPT, decoded (RFC 3464 2.3.1; that of type `utf-8` has an encoding of its own).
fn original(orcpt: &str) -> String {
    let Some((kind, address)) = orcpt.split_once(';') else { return String::new() };
    if kind.eq_ignore_ascii_case("utf-8") {
        return orcpt.to_owned();
    }
    let decoded = decode_xtext(address).and_then(|octets| String::from_utf8(octets).ok());
    decoded.map(|address| format!("{kind};{address}")).unwrap_or_default()
}
