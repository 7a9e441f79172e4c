//! What a lane knows about its primaries, as an operator sees it; nothing is decided by it.

use crate::bridge::operator::{Failure, State};
use crate::smtp::Moment;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::shard) struct Trouble {
    /// Tries that failed in a row, from the first to the last.
    failures: u32,
    /// A session was opened, and how it goes, or went.
    served: bool,
    /// It puts everything off.
    impaired: bool,
    /// What waited in an outage is being handed over.
    catching_up: bool,
    /// Until then the lane waits.
    next_try: Option<Moment>,
    last: Option<Failure>,
}

impl Trouble {
    /// Something went wrong; the last thing that did stays.
    pub(in crate::shard) fn note(&mut self, at_s: u32, reason: String) {
        self.last = Some(Failure { at_s, reason });
    }

    /// A primary serves us.
    pub(in crate::shard) fn served(&mut self, outage: bool) {
        *self = Self { served: true, catching_up: outage, last: self.last.take(), ..Self::default() };
    }

    /// Everything due was handed over.
    pub(in crate::shard) fn caught_up(&mut self) {
        self.catching_up = false;
    }

    /// Nobody serves us.
    pub(in crate::shard) fn unserved(&mut self) {
        self.impaired = false;
    }

    /// It puts everything off.
    pub(in crate::shard) fn impaired(&mut self, at_s: u32, code: u16) {
        self.impaired = true;
        self.note(at_s, format!("the primary puts everything off ({code})"));
    }

    /// A try failed; the next one is at `next_try`.
    pub(in crate::shard) fn failed(&mut self, next_try: Moment) {
        self.failures += 1;
        self.catching_up = false;
        self.next_try = Some(next_try);
    }

    /// The state of the domain: a pure function of what was noted.
    pub(in crate::shard) const fn state(&self) -> State {
        match (self.failures, self.impaired) {
            (_, true) => State::Impaired,
            (1, false) => State::Suspect,
            (2.., false) => State::Down,
            (0, false) if self.catching_up => State::Recovering,
            (0, false) if self.served => State::Up,
            (0, false) => State::Unknown,
        }
    }

    /// Until when the lane waits.
    pub(in crate::shard) const fn next_try(&self) -> Option<Moment> {
        self.next_try
    }

    /// What went wrong last.
    pub(in crate::shard) const fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn states_follow_from_tries() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.state(), State::Unknown);
        trouble.note(7, "no connection".to_owned());
        trouble.failed(Duration::from_secs(1));
        assert_eq!((trouble.state(), trouble.next_try()), (State::Suspect, Some(Duration::from_secs(1))));
        trouble.failed(Duration::from_secs(2));
        assert_eq!(trouble.state(), State::Down);
        trouble.served(true);
        assert_eq!((trouble.state(), trouble.next_try()), (State::Recovering, None));
        assert_eq!(trouble.last().unwrap().reason, "no connection");
        trouble.caught_up();
        assert_eq!(trouble.state(), State::Up);
        trouble.served(false);
        trouble.impaired(9, 451);
        trouble.failed(Duration::from_secs(3));
        assert_eq!(trouble.state(), State::Impaired);
        trouble.unserved();
        trouble.failed(Duration::from_secs(4));
        assert_eq!(trouble.state(), State::Down);
    }
}
