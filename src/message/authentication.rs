//! What SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 7489) say of a message, packed into 32 bits, which is what is
//! journalled of it and kept in memory (`storage/FORMAT.md`, "Settlement").
//!
//! The words are those of RFC 8601 2.7. What else Authentication-Results would say stands in the message's record: client,
//! HELO name, reverse-path and header section. Signatures are told in the order of their fields, from the top.
//!
//! Promise: a reverse-path is proven only by SPF `pass` of the MAIL FROM identity, or by a valid signature of the domain
//! of the reverse-path or of one above it (P5, H28). Whatever is not known is not proven.

use core::fmt;

/// Signatures of a message that are looked at; further ones are not.
pub const SIGNATURES_MAX: usize = 7;

/// A result of SPF (RFC 7208 2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spf {
    /// The domain publishes none.
    None,
    /// It says nothing about this client.
    Neutral,
    /// The client may.
    Pass,
    /// The client may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// DNS did not answer; or not in time, or nobody had time to ask.
    TempError,
    /// The record cannot be understood, or asks for too many lookups.
    PermError,
}

/// A result of one signature (RFC 8601 2.7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dkim {
    /// It is valid.
    Pass,
    /// It cannot be judged: malformed, or expired.
    Neutral,
    /// It is not of this message, or not of this key.
    Fail,
    /// It is of a kind that is not believed: `rsa-sha1` (RFC 8301 3.1), a body signed in part (`l=`).
    Policy,
    /// DNS did not answer.
    TempError,
    /// There is no usable key.
    PermError,
}

/// A result of DMARC (RFC 7489 11.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dmarc {
    /// The author domain has no policy.
    None,
    /// An aligned identifier passed.
    Pass,
    /// None did.
    Fail,
    /// DNS did not answer.
    TempError,
    /// The policy cannot be understood.
    PermError,
}

/// What the author domain asks for when DMARC fails. Nothing is refused for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Nothing.
    None,
    /// `quarantine`
    Quarantine,
    /// `reject`
    Reject,
}

/// All of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Of the MAIL FROM identity; of HELO where the reverse-path is null. `None`: not looked into.
    pub spf: Option<Spf>,
    /// `None`: not looked into.
    pub dmarc: Option<Dmarc>,
    /// `None`: there is none.
    pub policy: Option<Policy>,
    /// Whether signatures were looked at. They are not where the header section is longer than is kept.
    pub dkim_known: bool,
    /// Of the first signatures, in the order of their fields.
    pub dkim: [Option<Dkim>; SIGNATURES_MAX],
    /// SPF proves the reverse-path: `pass` of the MAIL FROM identity.
    pub spf_proves: bool,
    /// A signature proves the reverse-path.
    pub dkim_proves: bool,
}

const SPF: [Spf; 7] =
    [Spf::None, Spf::Neutral, Spf::Pass, Spf::Fail, Spf::SoftFail, Spf::TempError, Spf::PermError];
const DMARC: [Dmarc; 5] = [Dmarc::None, Dmarc::Pass, Dmarc::Fail, Dmarc::TempError, Dmarc::PermError];
const POLICY: [Policy; 3] = [Policy::None, Policy::Quarantine, Policy::Reject];
const DKIM: [Dkim; 6] =
    [Dkim::Pass, Dkim::Neutral, Dkim::Fail, Dkim::Policy, Dkim::TempError, Dkim::PermError];

const DMARC_AT: u32 = 3;
const POLICY_AT: u32 = 6;
const SPF_PROVES: u32 = 1 << 8;
const DKIM_PROVES: u32 = 1 << 9;
const DKIM_KNOWN: u32 = 1 << 10;
const DKIM_AT: u32 = 11;
const RESULT_BITS: u32 = 3;
const _: () = assert!(DKIM_AT as usize + RESULT_BITS as usize * SIGNATURES_MAX == u32::BITS as usize);

/// The place of a result in its table, counted from 1; 0 for none.
fn code<T: PartialEq>(table: &[T], result: Option<T>) -> u32 {
    let place = result.and_then(|result| table.iter().position(|other| *other == result));
    place.map_or(0, |place| u32::try_from(place + 1).unwrap_or(0))
}

fn decode<T: Copy>(table: &[T], code: u32) -> Option<T> {
    table.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
}

impl Verdict {
    /// Whether notices may go to the reverse-path (P5).
    #[must_use]
    pub const fn proves_reverse_path(&self) -> bool {
        self.spf_proves || self.dkim_proves
    }

    /// Packed.
    #[must_use]
    pub fn bits(&self) -> u32 {
        let mut bits = code(&SPF, self.spf)
            | code(&DMARC, self.dmarc) << DMARC_AT
            | code(&POLICY, self.policy) << POLICY_AT;
        for (flag, is_set) in
            [(SPF_PROVES, self.spf_proves), (DKIM_PROVES, self.dkim_proves), (DKIM_KNOWN, self.dkim_known)]
        {
            bits |= if is_set { flag } else { 0 };
        }
        for (at, result) in (DKIM_AT..).step_by(RESULT_BITS as usize).zip(self.dkim) {
            bits |= code(&DKIM, result) << at;
        }
        bits
    }

    /// The counterpart of [`Self::bits`]; a result that a newer program added reads as none.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let result = |at: u32| bits >> at & 7;
        let mut dkim = [None; SIGNATURES_MAX];
        for (at, slot) in (DKIM_AT..).step_by(RESULT_BITS as usize).zip(&mut dkim) {
            *slot = decode(&DKIM, result(at));
        }
        Self {
            spf: decode(&SPF, result(0)),
            dmarc: decode(&DMARC, result(DMARC_AT)),
            policy: decode(&POLICY, bits >> POLICY_AT & 3),
            dkim_known: bits & DKIM_KNOWN != 0,
            dkim,
            spf_proves: bits & SPF_PROVES != 0,
            dkim_proves: bits & DKIM_PROVES != 0,
        }
    }
}

/// `spf=pass dkim=pass,fail dmarc=pass policy=reject proven=spf`: for the log.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spf={}", self.spf.map_or("unknown", Spf::word))?;
        let results: Vec<&str> = self.dkim.iter().flatten().map(|result| result.word()).collect();
        let dkim = match (self.dkim_known, results.is_empty()) {
            (false, _) => "unknown".to_owned(),
            (true, true) => "none".to_owned(),
            (true, false) => results.join(","),
        };
        write!(formatter, " dkim={dkim} dmarc={}", self.dmarc.map_or("unknown", Dmarc::word))?;
        if let Some(policy) = self.policy {
            write!(formatter, " policy={}", policy.word())?;
        }
        formatter.write_str(match (self.spf_proves, self.dkim_proves) {
            (true, true) => " proven=spf,dkim",
            (true, false) => " proven=spf",
            (false, true) => " proven=dkim",
            (false, false) => " proven=no",
        })
    }
}

impl Spf {
    /// The word of RFC 8601 2.7.2.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl Dkim {
    /// The word of RFC 8601 2.7.1.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Neutral => "neutral",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl Dmarc {
    /// The word of RFC 7489 11.2.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl Policy {
    /// The value of `p=`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// Whether a valid signature of `signer` proves a reverse-path in `domain` (P5, H28): the same domain, or one above it,
/// whose owner decides what stands below. The other way round it does not: a name below may be another's.
#[must_use]
pub fn is_proof(signer: &str, domain: &str) -> bool {
    let (signer, domain) = (signer.trim_end_matches('.'), domain.trim_end_matches('.'));
    let Some(at) = domain.len().checked_sub(signer.len()) else { return false };
    let (front, back) = (&domain.as_bytes()[..at], &domain.as_bytes()[at..]);
    // A single label is no mail domain.
    signer.contains('.')
        && back.eq_ignore_ascii_case(signer.as_bytes())
        && front.last().is_none_or(|last| *last == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_comes_back_from_its_bits() {
        for (number, dkim) in DKIM.into_iter().enumerate() {
            let mut verdict = Verdict {
                spf: Some(SPF[number]),
                dmarc: Some(DMARC[number % 5]),
                policy: Some(POLICY[number % 3]),
                dkim_known: number % 2 == 0,
                spf_proves: number % 3 == 0,
                dkim_proves: number % 4 == 0,
                ..Verdict::default()
            };
            verdict.dkim[number] = Some(dkim);
            assert_eq!(Verdict::from_bits(verdict.bits()), verdict);
        }
        assert_eq!(Verdict::default().bits(), 0);
        assert_eq!(Verdict::from_bits(7).spf, Some(Spf::PermError));
    }

    #[test]
    fn bits_are_those_of_the_format() {
        let mut verdict = Verdict {
            spf: Some(Spf::Pass),
            dmarc: Some(Dmarc::Fail),
            policy: Some(Policy::Reject),
            dkim_known: true,
            spf_proves: true,
            ..Verdict::default()
        };
        verdict.dkim[0] = Some(Dkim::Pass);
        verdict.dkim[1] = Some(Dkim::PermError);
        assert_eq!(verdict.bits(), 0b1_1000_1101_1101_1011);
        let text = "spf=pass dkim=pass,permerror dmarc=fail policy=reject proven=spf";
        assert_eq!(verdict.to_string(), text);
    }

    #[test]
    fn h28_only_the_domain_itself_or_one_above_proves_a_reverse_path() {
        for (signer, domain, expected) in [
            ("victim.example", "victim.example", true),
            ("Victim.Example.", "victim.example", true),
            ("victim.example", "bounces.victim.example", true),
            ("attacker.example", "victim.example", false),
            ("mail.victim.example", "victim.example", false),
            ("ictim.example", "victim.example", false),
            ("example", "victim.example", false),
            ("", "victim.example", false),
        ] {
            assert_eq!(is_proof(signer, domain), expected, "{signer} for {domain}");
        }
    }
}
