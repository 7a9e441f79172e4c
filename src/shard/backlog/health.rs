//! The health of a domain's primary, as one state machine: signs in, states out. Pure.
//!
//! | now \ sign | found | unserved | paced | served | put off | took | drained | frozen | thawed | rerouted |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | unknown | suspect | down | suspect | up | impaired | up | up | frozen | up | suspect |
//! | up | up | suspect | up | up | impaired | up | up | frozen | up | suspect |
//! | suspect | suspect | down | suspect | recovering | impaired | recovering | up | frozen | recovering | suspect |
//! | impaired | impaired | down | impaired | impaired | impaired | recovering | up | frozen | recovering | suspect |
//! | down | down | down | down | recovering | impaired | recovering | up | frozen | recovering | suspect |
//! | recovering | recovering | down | recovering | recovering | impaired | recovering | up | frozen | recovering | suspect |
//! | frozen | frozen | frozen | frozen | frozen | frozen | frozen | frozen | frozen | recovering | suspect |
//!
//! A single failure of one that was up is only a suspicion, so that a restart of a mail server is no outage for people; mail
//! waits all the same. Mail that a start found is an outage's until it was handed over. Pacing is a 421 to a connection of a host that served another one within [`PACED_AGE`]: a limit of
//! its own, not an outage; without that it is a refusal. Mail that is ordered elsewhere meets a stranger: he is met with care.

use crate::bridge::operator::State;
use crate::limits::PACED_AGE;
use crate::smtp::Moment;

/// How the primary of a domain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::shard) enum Health {
    /// Nobody answers, or serves us.
    Down,
    /// The bounce guard stopped the lane.
    Frozen,
    /// It serves, and puts everything off.
    Impaired,
    /// It is back, and what was queued drains.
    Recovering,
    /// One try failed.
    Suspect,
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// All is well.
    Up,
}

/// What was seen of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Sign {
    /// Everything due was handed over.
    Drained,
    /// A start found mail that waits.
    Found,
    /// The guard stopped the lane.
    Frozen,
    /// 421 to a connection, while another of the same host was served lately.
    Paced,
    /// 4xx over distinct recipients in a row.
    PutOff,
    /// The operator ordered mail to other hosts, or back.
    Rerouted,
    /// It greeted us and took EHLO.
    Served,
    /// It let a frozen lane go on, or the operator did.
    Thawed,
    /// It took a message.
    Took,
    /// No connection, no reply in time, a greeting or EHLO refused.
    Unserved,
}

impl Health {
    /// The state after `sign`.
    pub(in crate::shard) const fn after(self, sign: Sign) -> Self {
        match (self, sign) {
            (Self::Frozen, Sign::Thawed) => Self::Recovering,
            (_, Sign::Rerouted) => Self::Suspect,
            (Self::Frozen, _) | (_, Sign::Frozen) => Self::Frozen,
            (_, Sign::PutOff) => Self::Impaired,
            (_, Sign::Drained) => Self::Up,
            (Self::Up, Sign::Unserved) | (Self::Unknown, Sign::Found | Sign::Paced) => Self::Suspect,
            (_, Sign::Unserved) => Self::Down,
            (_, Sign::Found | Sign::Paced) | (Self::Impaired, Sign::Served) => self,
            (Self::Unknown | Self::Up, _) => Self::Up,
            (_, Sign::Served | Sign::Took | Sign::Thawed) => Self::Recovering,
        }
    }

    /// Whether something speaks against it: what it says of recipients is neither asked for nor learned.
    pub(in crate::shard) const fn is_outage(self) -> bool {
        !matches!(self, Self::Unknown | Self::Up)
    }

    /// As an operator sees it.
    pub(in crate::shard) const fn state(self) -> State {
        match self {
            Self::Down => State::Down,
            Self::Frozen => State::Frozen,
            Self::Impaired => State::Impaired,
            Self::Recovering => State::Recovering,
            Self::Suspect => State::Suspect,
            Self::Unknown => State::Unknown,
            Self::Up => State::Up,
        }
    }
}

/// Whether a 421 in place of a greeting or a reply to EHLO is pacing, `served` being when the host last served a session of ours.
pub(in crate::shard) fn is_pacing(served: Option<Moment>, now: Moment) -> bool {
    served.is_some_and(|served| now.saturating_sub(served) < PACED_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn the_table_of_the_module_is_the_machine() {
        let page = include_str!("health.rs");
        let mut rows = page.lines().filter_map(|line| line.strip_prefix("//! | "));
        let cells = |row: &'static str| row.split('|').map(str::trim).filter(|cell| !cell.is_empty());
        assert_eq!(rows.next().map(|head| cells(head).count()), Some(SIGNS.len() + 1));
        let mut states = 0;
        for row in rows {
            let mut row = cells(row);
            let now = row.next().and_then(state).expect("a row begins with a state");
            for (sign, then) in SIGNS.iter().zip(row.by_ref()) {
                assert_eq!(now.after(*sign).state().to_string(), then, "{now:?} and {sign:?}");
            }
            assert_eq!(row.next(), None);
            states += 1;
        }
        assert_eq!(states, STATES.len());
    }

    #[test]
    fn a_421_is_pacing_only_beside_another_session() {
        let now = Duration::from_secs(1000);
        assert!(!is_pacing(None, now));
        assert!(!is_pacing(Some(now - PACED_AGE), now));
        assert!(is_pacing(Some(now - PACED_AGE + Duration::from_secs(1)), now));
    }

    fn state(word: &str) -> Option<Health> {
        STATES.into_iter().find(|state| state.state().to_string() == word)
    }

    const STATES: [Health; 7] = [
        Health::Down,
        Health::Frozen,
        Health::Impaired,
        Health::Recovering,
        Health::Suspect,
        Health::Unknown,
        Health::Up,
    ];
    /// In the order of the table.
    const SIGNS: [Sign; 10] = [
        Sign::Found,
        Sign::Unserved,
        Sign::Paced,
        Sign::Served,
        Sign::PutOff,
        Sign::Took,
        Sign::Drained,
        Sign::Frozen,
        Sign::Thawed,
        Sign::Rerouted,
    ];
}
