//! What became of messages, for people (`FORMAT.md`, "Trace"): the header of a file, its rows, and what is in a row.
//!
//! A row is about the units of one message in one domain: a try, or what became final. It repeats what a reader wants to find
//! it by, so that each row can be read alone. Texts are cut, never the codes.

use super::checksum::{Seed, plain};
use super::journal_entry::Outcome;
use super::segment_header::KeyMark;
use super::{BLOCK_OCTETS, Reader, Writer};
use crate::position::{Offset, QueueId, Salt, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Octets in front of the payload of a row.
pub const ROW_HEADER_OCTETS: usize = 24;
/// Rows begin at multiples of this.
pub const ROW_ALIGNMENT: usize = 8;
/// Longest payload that is believed.
pub const ROW_PAYLOAD_OCTETS_MAX: usize = 1 << 20;
/// Units of a row.
pub const ROW_UNITS_MAX: usize = 100;
/// Octets of what a host said that are kept.
pub const ROW_TEXT_OCTETS_MAX: usize = 256;

const MAGIC: [u8; 8] = *b"SMXTRACE";
const VERSION: u16 = 1;
const COVERED_OCTETS: usize = 72;
const CHECKED_FROM: usize = 8;

const FLAG_ACCEPTED: u16 = 1;
const FLAG_HOST: u16 = 2;
const FLAG_REDIRECTED: u16 = 4;
const FLAG_ASIDE: u16 = 8;

/// A text that is that of the unit before.
const SAME: u16 = u16::MAX;

/// The header of a file: what its rows are checked, and opened, with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHeader {
    /// The directory.
    pub shard: ShardId,
    /// The number of the file there.
    pub number: u32,
    /// Of which store.
    pub store: StoreId,
    /// Drawn for this file.
    pub salt: Salt,
    /// Days since 1970 of its rows.
    pub day: u32,
    /// The key of its rows; `None` if they are plain.
    pub key: Option<KeyMark>,
}

/// The header of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowHeader {
    /// Octets of the payload as it is stored.
    pub payload_octets: u32,
    crc: u32,
    /// When it was so.
    pub at: UnixMillis,
    /// The message; 0 where its record could not be read.
    pub queue_id: QueueId,
}

/// What the record of a message says of its acceptance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// When, in seconds since 1970.
    pub received_s: u32,
    /// Octets of the message.
    pub size: u64,
    /// Who brought it.
    pub client: IpAddr,
    /// What he called himself.
    pub helo: String,
    /// Protocol version and cipher suite of the TLS that it came through (IANA's numbers).
    pub tls: Option<(u16, u16)>,
}

/// What became of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum What {
    /// A fact, which the journal has.
    Outcome(Outcome),
    /// The host put it off.
    Deferred,
    /// The host refused it; what follows from that is told later.
    Refused,
    /// The host took it; its fact follows.
    Taken,
    /// The host may have it: no answer came (RFC 1047).
    Unanswered,
}

/// One recipient in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracedUnit {
    /// Its number in the message.
    pub ordinal: u16,
    /// What became of it.
    pub what: What,
    /// The reply's code; 0 for none.
    pub code: u16,
    /// The mailbox.
    pub mailbox: String,
    /// What the host said.
    pub text: String,
}

/// What is in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceRow {
    /// The message's place in the order of all.
    pub stamp: Stamp,
    /// The domain.
    pub domain: String,
    /// Empty for the null reverse-path, and where the record could not be read.
    pub reverse_path: String,
    /// The host that was tried.
    pub host: Option<SocketAddr>,
    /// It stands in the primary's place.
    pub is_redirected: bool,
    /// The message has left its place in the order before: it was put off for its own sake, released, or queued once more.
    pub is_aside: bool,
    /// As its record has it; left out of tries.
    pub accepted: Option<Accepted>,
    /// In the order of their numbers.
    pub units: Vec<TracedUnit>,
}

impl What {
    /// Whether nothing more can come of the unit.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Outcome(outcome) if outcome.is_final())
    }

    /// Whether it is about an answer of a host that took it.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::Outcome(Outcome::Delivered))
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Outcome(Outcome::Bounced) => "bounced",
            Self::Outcome(Outcome::Damaged) => "damaged",
            Self::Outcome(Outcome::Deleted) => "deleted",
            Self::Outcome(Outcome::Delivered) => "delivered",
            Self::Outcome(Outcome::Discarded) => "discarded",
            Self::Outcome(Outcome::Expired) => "expired",
            Self::Outcome(Outcome::Held) => "held",
            Self::Outcome(Outcome::Released) => "released",
            Self::Refused => "refused",
            Self::Taken => "taken",
            Self::Unanswered => "unanswered",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Outcome(outcome) => outcome.code(),
            Self::Deferred => 64,
            Self::Refused => 65,
            Self::Taken => 66,
            Self::Unanswered => 67,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            64 => Self::Deferred,
            65 => Self::Refused,
            66 => Self::Taken,
            67 => Self::Unanswered,
            code => Self::Outcome(Outcome::from_code(code)?),
        })
    }
}

impl TraceHeader {
    /// What the checksums of its rows begin with.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::new(&self.salt, SegmentId(self.number))
    }

    /// The first block of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_OCTETS);
        let key = self.key.unwrap_or(KeyMark { key_id: 0, check: [0; 16] });
        let mut writer = Writer(&mut out);
        writer.octets(&MAGIC).u16(VERSION).u16(self.shard.0).u32(self.number);
        writer.octets(&self.store.0).octets(&self.salt.0);
        writer.u32(self.day).u32(key.key_id).octets(&key.check);
        debug_assert_eq!(out.len(), COVERED_OCTETS);
        let crc = plain(&out);
        Writer(&mut out).u32(crc);
        out.resize(BLOCK_OCTETS, 0);
        out
    }

    /// The header in a block; `None` if there is none that this program knows.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        let covered = block.get(..COVERED_OCTETS)?;
        let mut reader = Reader::new(block);
        if reader.array()? != MAGIC || reader.u16()? != VERSION {
            return None;
        }
        let (shard, number) = (ShardId(reader.u16()?), reader.u32()?);
        let (store, salt) = (StoreId(reader.array()?), Salt(reader.array()?));
        let (day, key_id, check) = (reader.u32()?, reader.u32()?, reader.array()?);
        let key = (key_id != 0).then_some(KeyMark { key_id, check });
        (reader.u32()? == plain(covered)).then_some(Self { shard, number, store, salt, day, key })
    }
}

impl RowHeader {
    /// What stands in front of a payload that lies at `offset` of a file with this seed.
    #[must_use]
    pub fn new(seed: &Seed, offset: Offset, at: UnixMillis, queue_id: QueueId, payload: &[u8]) -> Self {
        let payload_octets = u32::try_from(payload.len()).expect("a row is far smaller");
        let mut header = Self { payload_octets, crc: 0, at, queue_id };
        header.crc = header.checksum(seed, offset, payload);
        header
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).u32(self.payload_octets).u32(self.crc).u64(self.at.0).u64(self.queue_id.0);
    }

    /// The header at the start of `octets`; `None` if there is none, or of no length that a row has.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        let (payload_octets, crc) = (reader.u32()?, reader.u32()?);
        let (at, queue_id) = (UnixMillis(reader.u64()?), QueueId(reader.u64()?));
        let is_row = (1..=ROW_PAYLOAD_OCTETS_MAX).contains(&(payload_octets as usize));
        is_row.then_some(Self { payload_octets, crc, at, queue_id })
    }

    /// Whether this is the payload.
    #[must_use]
    pub fn is_of(&self, seed: &Seed, offset: Offset, payload: &[u8]) -> bool {
        payload.len() == self.payload_octets as usize && self.checksum(seed, offset, payload) == self.crc
    }

    /// Octets of the whole row, padding included.
    #[must_use]
    pub const fn row_octets(&self) -> usize {
        row_octets(self.payload_octets as usize)
    }

    fn checksum(&self, seed: &Seed, offset: Offset, payload: &[u8]) -> u32 {
        let mut covered = Vec::with_capacity(ROW_HEADER_OCTETS);
        self.encode(&mut covered);
        let mut hasher = seed.hasher(offset);
        hasher.update(&covered[..4]);
        hasher.update(&covered[CHECKED_FROM..]);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// Octets of a row with such a payload, padding included.
#[must_use]
pub const fn row_octets(payload_octets: usize) -> usize {
    (ROW_HEADER_OCTETS + payload_octets).next_multiple_of(ROW_ALIGNMENT)
}

impl TraceRow {
    /// Appends the payload.
    ///
    /// # Panics
    /// With more than [`ROW_UNITS_MAX`] units.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.units.len() <= ROW_UNITS_MAX);
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        let flags = flag(FLAG_ACCEPTED, self.accepted.is_some())
            | flag(FLAG_HOST, self.host.is_some())
            | flag(FLAG_REDIRECTED, self.is_redirected)
            | flag(FLAG_ASIDE, self.is_aside);
        let units = u16::try_from(self.units.len()).expect("asserted");
        Writer(out).u64(self.stamp.0).u16(flags).u16(units);
        text(out, &self.domain, usize::from(SAME) - 1);
        text(out, &self.reverse_path, usize::from(SAME) - 1);
        if let Some(host) = self.host {
            Writer(out).octets(&address(host.ip())).u16(host.port());
        }
        if let Some(accepted) = &self.accepted {
            let (version, suite) = accepted.tls.unwrap_or_default();
            Writer(out).u32(accepted.received_s).u64(accepted.size).octets(&address(accepted.client));
            Writer(out).u16(version).u16(suite);
            text(out, &accepted.helo, ROW_TEXT_OCTETS_MAX);
        }
        let mut before: Option<&str> = None;
        for unit in &self.units {
            Writer(out).u16(unit.ordinal).u16(unit.code).u8(unit.what.code()).zeros(1);
            text(out, &unit.mailbox, usize::from(SAME) - 1);
            if before == Some(&unit.text) {
                Writer(out).u16(SAME);
            } else {
                text(out, &unit.text, ROW_TEXT_OCTETS_MAX);
            }
            before = Some(&unit.text);
        }
    }

    /// The row in a payload; `None` if it is none. Units of which something became that this program does not know are left out, and so is
    /// what stands behind the last unit.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let (stamp, flags, count) = (Stamp(reader.u64()?), reader.u16()?, reader.u16()?);
        let domain = read_text(&mut reader)?;
        let reverse_path = read_text(&mut reader)?;
        let host = match flags & FLAG_HOST {
            0 => None,
            _ => Some(SocketAddr::new(read_address(&mut reader)?, reader.u16()?)),
        };
        let accepted = match flags & FLAG_ACCEPTED {
            0 => None,
            _ => Some(Accepted {
                received_s: reader.u32()?,
                size: u64::from_le_bytes(reader.array()?),
                client: read_address(&mut reader)?,
                tls: Some((reader.u16()?, reader.u16()?)).filter(|tls| *tls != (0, 0)),
                helo: read_text(&mut reader)?,
            }),
        };
        let mut units: Vec<TracedUnit> = Vec::new();
        let mut said = String::new();
        for _ in 0..count {
            let (ordinal, code, what) = (reader.u16()?, reader.u16()?, reader.u8()?);
            reader.u8()?;
            let mailbox = read_text(&mut reader)?;
            let octets = reader.u16()?;
            if octets != SAME {
                said = String::from_utf8_lossy(reader.take(octets.into())?).into_owned();
            }
            if let Some(what) = What::from_code(what) {
                units.push(TracedUnit { ordinal, what, code, mailbox, text: said.clone() });
            }
        }
        let (is_redirected, is_aside) = (flags & FLAG_REDIRECTED != 0, flags & FLAG_ASIDE != 0);
        Some(Self { stamp, domain, reverse_path, host, is_redirected, is_aside, accepted, units })
    }
}

/// At most so many octets of a text, whole characters.
fn text(out: &mut Vec<u8>, text: &str, most: usize) {
    let mut octets = text.len().min(most);
    while !text.is_char_boundary(octets) {
        octets -= 1;
    }
    Writer(out).u16(u16::try_from(octets).expect("within the bound")).octets(&text.as_bytes()[..octets]);
}

fn read_text(reader: &mut Reader<'_>) -> Option<String> {
    let octets = reader.u16()?;
    Some(String::from_utf8_lossy(reader.take(octets.into())?).into_owned())
}

fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn read_address(reader: &mut Reader<'_>) -> Option<IpAddr> {
    Some(IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> TraceRow {
        let unit = |ordinal, what, mailbox: &str, text: &str| TracedUnit {
            ordinal,
            what,
            code: 250,
            mailbox: mailbox.to_owned(),
            text: text.to_owned(),
        };
        TraceRow {
            stamp: Stamp(7),
            domain: "a.test".to_owned(),
            reverse_path: "s@b.test".to_owned(),
            host: Some("[2001:db8::1]:25".parse().unwrap()),
            is_redirected: true,
            is_aside: false,
            accepted: Some(Accepted {
                received_s: 9,
                size: 10,
                client: "192.0.2.1".parse().unwrap(),
                helo: "b.test".to_owned(),
                tls: Some((0x0304, 0x1302)),
            }),
            units: vec![
                unit(0, What::Outcome(Outcome::Delivered), "x@a.test", "2.0.0 ok"),
                unit(1, What::Deferred, "ü@a.test", "2.0.0 ok"),
                unit(2, What::Unanswered, "z@a.test", ""),
            ],
        }
    }

    #[test]
    fn a_row_reads_back_and_no_cut_of_it_is_one_or_panics() {
        let mut payload = Vec::new();
        row().encode(&mut payload);
        assert_eq!(TraceRow::decode(&payload), Some(row()));
        for octets in 0..payload.len() {
            assert_eq!(TraceRow::decode(&payload[..octets]), None, "{octets}");
        }
        payload.extend_from_slice(b"added later");
        assert_eq!(TraceRow::decode(&payload), Some(row()), "what a later program adds is left out");
        let plain = TraceRow { accepted: None, host: None, units: Vec::new(), ..row() };
        payload.clear();
        plain.encode(&mut payload);
        assert_eq!(TraceRow::decode(&payload), Some(plain));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut long = row();
        long.units[0].text = format!("x{}", "ü".repeat(ROW_TEXT_OCTETS_MAX));
        let mut payload = Vec::new();
        long.encode(&mut payload);
        let read = TraceRow::decode(&payload).unwrap();
        assert_eq!(read.units[0].text.len(), ROW_TEXT_OCTETS_MAX - 1);
        assert_eq!(read.units[1].text, "2.0.0 ok");
    }

    #[test]
    fn words_and_codes_are_each_ones_own() {
        let all = (0..=u8::MAX).filter_map(What::from_code).collect::<Vec<_>>();
        assert_eq!(all.len(), 12);
        for what in &all {
            assert_eq!(What::from_code(what.code()), Some(*what));
            assert_eq!(all.iter().filter(|other| other.word() == what.word()).count(), 1);
        }
    }
}
