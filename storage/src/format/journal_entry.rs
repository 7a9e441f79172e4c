//! Payloads of settlements and voids (`FORMAT.md`, "Settlement", "Void"). The stamp of a journal's frame is the
//! sequence of the facts in it: hold and release take the highest.

use super::{Reader, Writer};
use crate::position::{SegmentId, Stamp};
use core::fmt;

/// What became of a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Its sender was told, or wants no notice.
    Bounced,
    /// Its record is unreadable.
    Damaged,
    /// An operator removed it.
    Deleted,
    /// The primary took it.
    Delivered,
    /// Refused and, as configured, dropped.
    Discarded,
    /// Its retention ended.
    Expired,
    /// It waits for the operator: not an end.
    Held,
    /// An operator let it go on: not an end.
    Released,
}

/// All outcomes that end a unit, in the order of a tally's counts.
pub const FINAL_OUTCOMES: [Outcome; 6] = [
    Outcome::Bounced,
    Outcome::Damaged,
    Outcome::Deleted,
    Outcome::Delivered,
    Outcome::Discarded,
    Outcome::Expired,
];

impl Outcome {
    /// Whether the unit is settled by it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Held | Self::Released)
    }

    /// Its number on disk; a final one fits four bits.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Bounced => 2,
            Self::Discarded => 3,
            Self::Expired => 4,
            Self::Deleted => 5,
            Self::Damaged => 6,
            Self::Held => 16,
            Self::Released => 17,
        }
    }

    /// The counterpart of [`Self::code`].
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Delivered,
            2 => Self::Bounced,
            3 => Self::Discarded,
            4 => Self::Expired,
            5 => Self::Deleted,
            6 => Self::Damaged,
            16 => Self::Held,
            17 => Self::Released,
            _ => return None,
        })
    }
}

/// A fact about one unit: the message's stamp and the recipient's ordinal in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fact {
    /// The message.
    pub stamp: Stamp,
    /// The recipient.
    pub ordinal: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// The SMTP reply code that decided it; 0 for none.
    pub code: u16,
}

/// What authentication said of a message. It stands among facts, in 16 octets, as an outcome that a program which does
/// not know it leaves out (H13).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Authentication {
    /// The message.
    pub stamp: Stamp,
    /// The verdict, packed as `FORMAT.md` says under "Settlement".
    pub bits: u32,
}

const FACT_OCTETS: usize = 16;
const OUTCOME_AT: usize = 12;
const AUTHENTICATION_CODE: u8 = 32;

impl Authentication {
    /// Appends the 16 octets of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).u64(self.stamp.0).u32(self.bits).u8(AUTHENTICATION_CODE).zeros(3);
    }

    /// Those in the payload of a settlement.
    pub fn decode_all(payload: &[u8]) -> impl Iterator<Item = Self> {
        let rows = payload.chunks_exact(FACT_OCTETS);
        rows.filter(|row| row[OUTCOME_AT] == AUTHENTICATION_CODE).filter_map(|row| {
            let mut reader = Reader::new(row);
            Some(Self { stamp: Stamp(reader.u64()?), bits: reader.u32()? })
        })
    }
}

/// For people: the words of RFC 8601, signatures in the order of their fields.
impl fmt::Display for Authentication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |words: &'static [&'static str], at: u32, mask: u32| {
            words.get((self.bits >> at & mask) as usize).copied().unwrap_or("unknown")
        };
        write!(formatter, "spf={}", word(&SPF_WORDS, 0, 7))?;
        let results = (0..7).map(|number| word(&DKIM_WORDS, 11 + 3 * number, 7));
        let results: Vec<&str> = results.filter(|word| !word.is_empty()).collect();
        let dkim = match (self.bits & DKIM_KNOWN, results.is_empty()) {
            (0, _) => "unknown".to_owned(),
            (_, true) => "none".to_owned(),
            (_, false) => results.join(","),
        };
        write!(formatter, " dkim={dkim} dmarc={}", word(&DMARC_WORDS, 3, 7))?;
        let policy = word(&POLICY_WORDS, 6, 3);
        if !policy.is_empty() {
            write!(formatter, " policy={policy}")?;
        }
        formatter.write_str(
            [" proven=no", " proven=spf", " proven=dkim", " proven=spf,dkim"][(self.bits >> 8 & 3) as usize],
        )
    }
}

const DKIM_KNOWN: u32 = 1 << 10;
const SPF_WORDS: [&str; 8] =
    ["unknown", "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"];
const DMARC_WORDS: [&str; 6] = ["unknown", "none", "pass", "fail", "temperror", "permerror"];
const POLICY_WORDS: [&str; 4] = ["", "none", "quarantine", "reject"];
const DKIM_WORDS: [&str; 7] = ["", "pass", "neutral", "fail", "policy", "temperror", "permerror"];

impl Fact {
    /// Appends the 16 octets of this fact.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).u64(self.stamp.0).u16(self.ordinal).u16(self.code).u8(self.outcome.code()).zeros(3);
    }

    /// All facts of a settlement payload; those of outcomes that a newer version added are left out.
    #[must_use]
    pub fn decode_all(payload: &[u8]) -> Option<Vec<Self>> {
        if !payload.len().is_multiple_of(FACT_OCTETS) {
            return None;
        }
        Some(payload.chunks_exact(FACT_OCTETS).filter_map(Self::decode).collect())
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(entry);
        let stamp = Stamp(reader.u64()?);
        let ordinal = reader.u16()?;
        let code = reader.u16()?;
        Some(Self { stamp, ordinal, code, outcome: Outcome::from_code(reader.u8()?)? })
    }
}

/// The payload of a void record: `from..to` of `segment` holds nothing that was acknowledged (H8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Void {
    /// The latched segment.
    pub segment: SegmentId,
    /// First octet of the failed batch.
    pub from: u64,
    /// End of the segment.
    pub to: u64,
}

impl Void {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Writer(&mut out).u32(self.segment.0).u32(0).u64(self.from).u64(self.to);
        out
    }

    /// The void in `payload`.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let segment = SegmentId(reader.u32()?);
        reader.u32()?;
        Some(Self { segment, from: reader.u64()?, to: reader.u64()? })
    }

    /// Whether a frame of `segment` at `offset` lies in the range.
    #[must_use]
    pub const fn covers(&self, segment: SegmentId, offset: u64) -> bool {
        self.segment.0 == segment.0 && self.from <= offset && offset < self.to
    }
}
