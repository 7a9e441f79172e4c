//! Words that tell the counters of one name apart: bounded sets, known when the program is compiled.

use super::Counter;
use crate::message::authentication::{Dkim, Dmarc, Spf};
use core::fmt;
use core::marker::PhantomData;

/// Values that a label may have at most.
const VALUES_MAX: usize = 8;

/// A label with its values.
pub trait Label: Copy {
    /// What they are called, in their order.
    const WORDS: &'static [&'static str];

    /// The place of this one.
    fn place(self) -> usize;
}

/// A counter a value of a label.
pub struct By<L> {
    counters: [Counter; VALUES_MAX],
    label: PhantomData<fn() -> L>,
}

impl<L> Default for By<L> {
    fn default() -> Self {
        Self { counters: core::array::from_fn(|_| Counter::default()), label: PhantomData }
    }
}

impl<L> Clone for By<L> {
    fn clone(&self) -> Self {
        Self { counters: self.counters.clone(), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for By<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.values()).finish()
    }
}

impl<L: Label> By<L> {
    const FITS: () = assert!(L::WORDS.len() <= VALUES_MAX);

    /// The counter of this value.
    pub fn of(&self, label: L) -> &Counter {
        let () = Self::FITS;
        &self.counters[label.place()]
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.counters.iter().map(Counter::value).sum()
    }

    /// Each value, and its count.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::WORDS.iter().zip(&self.counters).map(|(word, counter)| (*word, counter.value()))
    }

    /// Adds what another shard counted.
    pub fn merge(&self, other: &Self) {
        self.counters.iter().zip(&other.counters).for_each(|(own, other)| own.merge(other));
    }
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$what])* $variant,)+ }

        impl Label for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn place(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// What becomes of a connection.
    Admission {
        /// It has a session.
        Accepted = "accepted",
        /// A trusted load balancer sent no usable PROXY header.
        BadHeader = "refused_proxy_header",
        /// Too many at a time.
        Limit = "refused_limit",
        /// Memory for what comes is short.
        Memory = "refused_memory",
        /// Too many a minute from its address.
        Rate = "refused_rate",
    }
    /// The class of a reply (RFC 5321 4.2.1).
    Class {
        /// Positive completion.
        Completion = "2xx",
        /// Positive intermediate.
        Intermediate = "3xx",
        /// Transient negative.
        Transient = "4xx",
        /// Permanent negative.
        Permanent = "5xx",
    }
    /// What a try to have a session with a primary came to.
    Contact {
        /// It serves.
        Served = "served",
        /// It said 421, and serves others.
        Paced = "paced",
        /// No connection, no greeting, no EHLO, or not the TLS that is wanted.
        Unserved = "unserved",
    }
    /// What the bounce guard did.
    GuardEvent {
        /// It stopped a lane.
        Frozen = "frozen",
        /// A lane went on.
        Thawed = "thawed",
    }
    /// What a TLS handshake with a sender came to.
    Handshake {
        /// It is done.
        Completed = "completed",
        /// It failed, or was not done in time.
        Failed = "failed",
        /// There were too many, memory was short, or there is no certificate.
        Refused = "refused",
    }
    /// What a question about a name came to.
    LookupOutcome {
        /// It has an answer.
        Found = "found",
        /// There is no such name, or nothing at it.
        Missing = "missing",
        /// No name server answers.
        Failed = "failed",
    }
    /// How a message came.
    Origin {
        /// Through TLS.
        Tls = "tls",
        /// Without TLS.
        Plain = "plain",
        /// From a copy that was kept, by an operator's word.
        Replay = "replay",
    }
    /// What failed in a log.
    StorageFailure {
        /// A segment was given up: a write or a sync failed.
        SegmentGivenUp = "segment_given_up",
        /// No segment could be made: mail is refused.
        NoSegment = "no_segment",
    }
}

impl Class {
    /// The class of a reply code; what is none counts as a transient failure.
    #[must_use]
    pub const fn of(code: u16) -> Self {
        match code / 100 {
            2 => Self::Completion,
            3 => Self::Intermediate,
            5 => Self::Permanent,
            _ => Self::Transient,
        }
    }
}

impl Label for Spf {
    const WORDS: &'static [&'static str] =
        &["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"];

    fn place(self) -> usize {
        self as usize
    }
}

impl Label for Dkim {
    const WORDS: &'static [&'static str] = &["pass", "neutral", "fail", "policy", "temperror", "permerror"];

    fn place(self) -> usize {
        self as usize
    }
}

impl Label for Dmarc {
    const WORDS: &'static [&'static str] = &["none", "pass", "fail", "temperror", "permerror"];

    fn place(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_words_that_headers_have() {
        let all =
            [Spf::None, Spf::Neutral, Spf::Pass, Spf::Fail, Spf::SoftFail, Spf::TempError, Spf::PermError];
        for result in all {
            assert_eq!(Spf::WORDS[result.place()], result.word());
        }
        let all = [Dkim::Pass, Dkim::Neutral, Dkim::Fail, Dkim::Policy, Dkim::TempError, Dkim::PermError];
        for result in all {
            assert_eq!(Dkim::WORDS[result.place()], result.word());
        }
        for result in [Dmarc::None, Dmarc::Pass, Dmarc::Fail, Dmarc::TempError, Dmarc::PermError] {
            assert_eq!(Dmarc::WORDS[result.place()], result.word());
        }
    }

    #[test]
    fn a_reply_has_the_class_of_its_first_digit() {
        let words = [250, 354, 421, 452, 550].map(|code| Class::WORDS[Class::of(code).place()]);
        assert_eq!(words, ["2xx", "3xx", "4xx", "4xx", "5xx"]);
    }
}
