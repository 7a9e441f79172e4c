//! How long a connection waits for what is next, beside the times of RFC 5321 4.5.3.2 that its session knows.

use super::{Delivery, Progress};
use crate::shard::link::Link;
use crate::smtp::Moment;
use storage::clock::Clock;
use storage::disk::Disk;

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// By then data of what is pushed next is on its way, or the session is over.
    pub(in super::super) fn hurry(&mut self, until: Moment) {
        self.patience = Some(until);
    }

    /// The session is over, whatever it waits for: what is in flight has that outcome.
    pub(in super::super) fn give_up(&mut self) {
        self.opening = Some(self.clock.now());
    }

    /// Until when something has to happen; none: nothing is awaited.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let of_session = self.session.poll_timeout();
        let is_hurried = |own: Moment| self.patience_left().map_or(own, |patience| patience.min(own));
        self.opening.or(of_session.map(is_hurried))
    }

    /// Whether the deadline is none of the session's.
    pub(super) fn is_out_of_time(&self, now: Moment) -> bool {
        self.opening.is_some() || self.patience_left().is_some_and(|until| until <= now)
    }

    fn patience_left(&self) -> Option<Moment> {
        let first = self.jobs.front().map(|first| &first.progress);
        let is_away = matches!(first, Some(Progress::Begun { data: true, .. }));
        self.patience.filter(|_| !is_away)
    }
}
