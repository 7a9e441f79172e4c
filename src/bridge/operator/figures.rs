//! What a shard measures: its own counters, and the counts of the domains that it owns. Plain numbers, to be added up.

use super::State;
use crate::bridge::usage::Transport;
use crate::metrics::Counters;

/// The counts of one domain, or of several together; as in [`DomainStatus`](super::DomainStatus).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Domains in each [`State`].
    pub states: [u64; State::ALL.len()],
    /// Units that wait for the primary.
    pub backlog: u64,
    /// Messages that are queued or held.
    pub messages: u64,
    /// Octets of records that are queued or held.
    pub bytes: u64,
    /// Seconds since the first message of the backlog was received, the longest of all; 0 without one.
    pub oldest_s: u64,
    /// Units accepted.
    pub accepted: u64,
    /// Units that a primary took.
    pub delivered: u64,
    /// Units about which a notice was made.
    pub bounced: u64,
    /// Units that were refused and dropped.
    pub discarded: u64,
    /// Units that were past their time.
    pub expired: u64,
    /// Units that an operator removed.
    pub deleted: u64,
    /// Units whose record is damaged.
    pub damaged: u64,
    /// Units that wait for the operator.
    pub held: u64,
    /// Seconds since the first of them was held, the longest of all; 0 without one.
    pub held_oldest_s: u64,
    /// Units that went through to the primary live.
    pub proxied: u64,
    /// Units that another host took in the primary's place.
    pub redirected: u64,
    /// Units that were queued once more from kept copies.
    pub replayed: u64,
    /// Messages that a primary may have already.
    pub may_repeat: u64,
    /// Domains whose primary is another than it was.
    pub changed: u64,
    /// Units that primaries took, by [`Transport`].
    pub taken: [u64; Transport::ALL.len()],
}

impl Figures {
    /// One domain in this state.
    #[must_use]
    pub fn of(state: State) -> Self {
        let states = State::ALL.map(|one| u64::from(one == state));
        Self { states, ..Self::default() }
    }

    /// Adds those of other domains.
    pub fn add(&mut self, other: &Self) {
        // All of them: one that is added to the struct has to be added here.
        let Self {
            states,
            taken,
            oldest_s,
            held_oldest_s,
            backlog,
            messages,
            bytes,
            accepted,
            delivered,
            bounced,
            discarded,
            expired,
            deleted,
            damaged,
            held,
            proxied,
            redirected,
            replayed,
            may_repeat,
            changed,
        } = other;
        self.states.iter_mut().zip(states).for_each(|(own, other)| *own += other);
        self.taken.iter_mut().zip(taken).for_each(|(own, other)| *own += other);
        self.oldest_s = self.oldest_s.max(*oldest_s);
        self.held_oldest_s = self.held_oldest_s.max(*held_oldest_s);
        for (own, other) in [
            (&mut self.backlog, backlog),
            (&mut self.messages, messages),
            (&mut self.bytes, bytes),
            (&mut self.accepted, accepted),
            (&mut self.delivered, delivered),
            (&mut self.bounced, bounced),
            (&mut self.discarded, discarded),
            (&mut self.expired, expired),
            (&mut self.deleted, deleted),
            (&mut self.damaged, damaged),
            (&mut self.held, held),
            (&mut self.proxied, proxied),
            (&mut self.redirected, redirected),
            (&mut self.replayed, replayed),
            (&mut self.may_repeat, may_repeat),
            (&mut self.changed, changed),
        ] {
            *own += other;
        }
    }
}

/// What one shard measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// A copy of what it counted.
    pub counters: Counters,
    /// Of the first of the domains that it was asked about those that it owns, with their places.
    pub shown: Vec<(usize, Figures)>,
    /// The others that it owns, together.
    pub rest: Figures,
    /// Sessions with senders.
    pub sessions: u64,
    /// Octets of its receive buffers, and the most that they may be.
    pub receive_octets: (u64, u64),
    /// Sealed segments of mail that it keeps, and the one that it writes.
    pub segments: u64,
    /// Free octets of the data directory.
    pub free_octets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_domains_add_up_and_the_oldest_message_is_the_oldest_of_all() {
        let mut one = Figures {
            backlog: 2,
            oldest_s: 50,
            held_oldest_s: 9,
            taken: [1, 0, 0, 4],
            ..Figures::of(State::Down)
        };
        let two = Figures { backlog: 3, oldest_s: 7, changed: 1, taken: [1; 4], ..Figures::of(State::Down) };
        one.add(&two);
        one.add(&Figures::of(State::Up));
        assert_eq!((one.backlog, one.oldest_s, one.changed, one.taken), (5, 50, 1, [2, 1, 1, 5]));
        assert_eq!(one.held_oldest_s, 9);
        let states = State::ALL.into_iter().zip(one.states).filter(|(_, count)| *count > 0);
        assert_eq!(states.collect::<Vec<_>>(), [(State::Up, 1), (State::Down, 2)]);
    }
}
