//! What the receiving sessions of a shard share, and what they may take of it (P7): places, memory, handshakes.

use super::caps::Caps;
use super::deferrals::Deferrals;
use crate::bridge::Snapshot;
use crate::limits::{HANDSHAKES_A_SHARD_MAX, RECEIVE_OCTETS_A_SHARD};
use crate::smtp::Moment;
use crate::smtp::reply::{INSUFFICIENT_STORAGE_452, MESSAGE_RATE_451, Reply, TLS_UNAVAILABLE_454};
use core::cell::Cell;
use core::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    /// Connections and rates, over all shards.
    pub(super) caps: Arc<Caps>,
    /// Whom `when_up = "defer"` sent away, over all shards.
    pub(super) deferrals: Arc<Deferrals>,
    /// Memory of the receive buffers.
    pub(super) memory: Rc<Budget>,
    handshakes: Rc<Cell<u32>>,
}

/// Memory that is used and given back by its users; it refuses nothing by itself.
#[derive(Debug)]
pub(super) struct Budget {
    octets: Cell<usize>,
    most: usize,
}

/// Octets of one user, counted in the budget as long as they are there.
#[derive(Debug)]
pub(super) struct Counted {
    octets: Vec<u8>,
    budget: Rc<Budget>,
}

/// A handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake(Rc<Cell<u32>>);

impl Receiving {
    /// For a shard, with the places of all.
    pub(super) fn new(caps: Arc<Caps>, deferrals: Arc<Deferrals>) -> Self {
        Self { caps, deferrals, ..Self::default() }
    }

    /// Whether `client` may begin a message, which counts it.
    ///
    /// # Errors
    /// `452 4.3.1` while memory is short, `451 4.7.1` for who is too fast.
    pub(super) fn admit_message(
        &self,
        client: IpAddr,
        snapshot: &Snapshot,
        now: Moment,
    ) -> Result<(), Reply> {
        if self.memory.is_short() {
            return Err(INSUFFICIENT_STORAGE_452);
        }
        let most = snapshot.config.smtp.rate.messages_per_minute_per_ip;
        if self.caps.take_message(client, most, now) { Ok(()) } else { Err(MESSAGE_RATE_451) }
    }

    /// A place for a handshake, from the word that it may begin on; it ends with what is returned.
    ///
    /// # Errors
    /// `454 4.7.0` while there are too many, memory is short, or there is no certificate any more.
    pub(super) fn admit_handshake(&self, snapshot: &Snapshot) -> Result<Handshake, Reply> {
        let is_full = self.handshakes.get() >= HANDSHAKES_A_SHARD_MAX || self.memory.is_short();
        if is_full || snapshot.tls.is_none() {
            return Err(TLS_UNAVAILABLE_454);
        }
        self.handshakes.set(self.handshakes.get() + 1);
        Ok(Handshake(Rc::clone(&self.handshakes)))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(RECEIVE_OCTETS_A_SHARD)
    }
}

impl Budget {
    pub(super) const fn new(most: usize) -> Self {
        Self { octets: Cell::new(0), most }
    }

    /// What is used changes from `before` to `after` octets of one user.
    pub(super) fn change(&self, before: usize, after: usize) {
        self.octets.set(self.octets.get() - before + after);
    }

    /// Octets that are used, and the most that may be.
    pub(super) const fn used(&self) -> (usize, usize) {
        (self.octets.get(), self.most)
    }

    /// Whether `octets` more fit.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        self.octets.get().saturating_add(octets) <= self.most
    }

    /// Three quarters are used: nothing new is begun, so that what is under way can end.
    pub(super) fn is_short(&self) -> bool {
        self.octets.get() >= self.most / 4 * 3
    }
}

impl Counted {
    /// None yet.
    pub(super) const fn new(budget: Rc<Budget>) -> Self {
        Self { octets: Vec::new(), budget }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Changes them.
    pub(super) fn with(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let before = self.octets.capacity();
        change(&mut self.octets);
        self.budget.change(before, self.octets.capacity());
    }

    /// Hands them over; none are left.
    pub(super) fn take(&mut self) -> Self {
        let none = Self::new(Rc::clone(&self.budget));
        core::mem::replace(self, none)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.change(self.octets.capacity(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn p7_counted_octets_count_wherever_they_go_and_no_longer_than_they_are_there() {
        let budget = Rc::new(Budget::new(1000));
        let mut counted = Counted::new(Rc::clone(&budget));
        counted.with(|octets| octets.reserve_exact(750));
        assert!(budget.is_short());
        let taken = counted.take();
        assert!(budget.is_short() && counted.octets().is_empty());
        counted.with(|octets| octets.reserve_exact(100));
        assert!(!budget.has_room(151) && budget.has_room(150));
        drop(taken);
        assert!(budget.has_room(900) && !budget.is_short());
        drop(counted);
        assert!(budget.has_room(1000));
    }

    #[test]
    fn p7_short_memory_begins_nothing_new() {
        let snapshot = Snapshot::new(Config::embedded(), Arc::default());
        let receiving = Receiving { memory: Rc::new(Budget::new(1000)), ..Receiving::default() };
        let admit = || receiving.admit_message([192, 0, 2, 1].into(), &snapshot, Moment::ZERO);
        receiving.memory.change(0, 749);
        assert_eq!(admit(), Ok(()));
        receiving.memory.change(0, 1);
        assert_eq!(admit(), Err(INSUFFICIENT_STORAGE_452));
        receiving.memory.change(750, 0);
        assert_eq!(admit(), Ok(()));
    }

    #[test]
    fn p7_handshakes_are_bounded() {
        let snapshot = Snapshot::new(Config::embedded(), Arc::default());
        let receiving = Receiving::default();
        assert_eq!(receiving.admit_handshake(&snapshot).unwrap_err(), TLS_UNAVAILABLE_454, "no certificate");
        let certificates = crate::bridge::Certificates::new(Vec::new());
        let snapshot = snapshot.with_tls(crate::bridge::server_config(certificates).unwrap());
        assert!(snapshot.profile.starttls);
        let mut under_way: Vec<_> =
            (0..HANDSHAKES_A_SHARD_MAX).map(|_| receiving.admit_handshake(&snapshot).unwrap()).collect();
        assert_eq!(receiving.admit_handshake(&snapshot).unwrap_err(), TLS_UNAVAILABLE_454);
        under_way.pop();
        assert!(receiving.admit_handshake(&snapshot).is_ok());
    }
}
