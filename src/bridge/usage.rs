//! How much each domain has stored, over all shards: what quotas and fair shares are measured by. And what became of
//! all units that it was ever sent: what an operator is shown.
//!
//! A message counts once in each of its domains, queued or held, from before its 250 until the last of its units in
//! the domain has a final outcome. One table for the life of the process: a reload keeps it, with domains that are
//! not configured any more (H14). Its lock is taken when a domain is looked up by name, never for a count.
//!
//! Units are counted from before the 250, and as ended when that fact is durable, on top of what a start found on
//! disk: so the counts are those of the store, not of the process. What is neither ended nor held is backlog. Through what units
//! went to primaries is counted since the process began, those that were carried through among them: the journal has no place for it.

use super::acquaintance::{Acquaintance, Memory};
use super::drill::Drill;
use super::orders::Orders;
use super::owing::Owing;
use super::passage::Passage;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Usage {
    domains: Mutex<HashMap<Arc<str>, Arc<DomainUsage>>>,
    all: Arc<AllUsage>,
    owing: Owing,
}

/// What one domain has stored.
#[derive(Debug, Default)]
pub struct DomainUsage {
    messages: AtomicU64,
    octets: AtomicU64,
    /// Units accepted, and ended by [`UnitEnd`].
    accepted: AtomicU64,
    ended: [AtomicU64; UnitEnd::ALL.len()],
    /// Units that primaries took since the process began, by [`Transport`].
    taken: [AtomicU64; Transport::ALL.len()],
    /// Who its primary is.
    pub acquaintance: Acquaintance,
    /// Whether its mail may be carried through.
    pub passage: Passage,
    /// What the operator ordered about it.
    pub orders: Orders,
    /// A simulated outage.
    pub drill: Drill,
    /// Units that another host took in the primaries' place, since the start of the process; they are delivered, too.
    redirected: AtomicU64,
    /// Units that were queued once more from what was kept, since the start of the process; they are accepted, too.
    replayed: AtomicU64,
    all: Arc<AllUsage>,
}

/// How a unit ended, in the words of P2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitEnd {
    /// Its sender was told, or wants no notice.
    Bounced,
    /// Its record is unreadable.
    Damaged,
    /// An operator removed it.
    Deleted,
    /// The primary took it.
    Delivered,
    /// Refused and dropped.
    Discarded,
    /// Its retention ended.
    Expired,
}

impl UnitEnd {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Bounced, Self::Damaged, Self::Deleted, Self::Delivered, Self::Discarded, Self::Expired];
}

/// Through what a primary took a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TLS, with whoever had the key.
    Encrypted,
    /// No TLS.
    Plain,
    /// TLS, with whom the host's TLSA records describe.
    VerifiedDane,
    /// TLS, with whom the domain's MTA-STS policy wants.
    VerifiedMtaSts,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Encrypted, Self::Plain, Self::VerifiedDane, Self::VerifiedMtaSts];

    /// As it stands in the log, behind version and cipher suite.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Plain => "plain",
            Self::VerifiedDane => "verified-dane",
            Self::VerifiedMtaSts => "verified-mta-sts",
        }
    }
}

#[derive(Debug, Default)]
struct AllUsage {
    octets: AtomicU64,
    /// Domains that have something stored.
    domains: AtomicU64,
}

impl Usage {
    /// The count of a domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Arc<DomainUsage> {
        // A count is whole after each operation, whatever panicked elsewhere.
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domain) = domains.get(name) {
            return Arc::clone(domain);
        }
        let domain = Arc::new(DomainUsage { all: Arc::clone(&self.all), ..DomainUsage::default() });
        domains.insert(name.into(), Arc::clone(&domain));
        domain
    }

    /// Messages whose notices are being made.
    #[must_use]
    pub const fn owing(&self) -> &Owing {
        &self.owing
    }

    /// The count of a domain, if there is one.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<Arc<DomainUsage>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// Who all primaries are, if anything of that was added since the last time.
    #[must_use]
    pub fn acquaintances(&self) -> Option<Vec<(Arc<str>, Memory)>> {
        let domains = self.all_domains();
        let news = domains.iter().filter(|(_, domain)| domain.acquaintance.take_news()).count();
        let memory = |(name, domain): (Arc<str>, Arc<DomainUsage>)| (name, domain.acquaintance.memory());
        let all = domains.into_iter().map(memory).filter(|(_, memory)| *memory != Memory::default());
        (news > 0).then(|| all.collect())
    }

    /// They could not be kept: they are news again.
    pub fn acquaintances_not_kept(&self) {
        self.all_domains().iter().for_each(|(_, domain)| domain.acquaintance.not_kept());
    }

    fn all_domains(&self) -> Vec<(Arc<str>, Arc<DomainUsage>)> {
        let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.iter().map(|(name, domain)| (Arc::clone(name), Arc::clone(domain))).collect()
    }

    /// The names of all domains that were ever asked for and that are wanted, sorted.
    #[must_use]
    pub fn names(&self, is_wanted: impl Fn(&str, &DomainUsage) -> bool) -> Vec<Arc<str>> {
        let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = domains.iter().filter(|(name, usage)| is_wanted(name, usage));
        let mut names: Vec<_> = wanted.map(|(name, _)| Arc::clone(name)).collect();
        drop(domains);
        names.sort_unstable();
        names
    }

    /// Octets of all domains.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.all.octets.load(Ordering::Relaxed)
    }

    /// Domains that have something stored.
    #[must_use]
    pub fn domains(&self) -> u64 {
        self.all.domains.load(Ordering::Relaxed)
    }
}

impl DomainUsage {
    /// A message of so many octets is stored.
    pub fn raise(&self, octets: u64) {
        if self.messages.fetch_add(1, Ordering::Relaxed) == 0 {
            self.all.domains.fetch_add(1, Ordering::Relaxed);
        }
        self.octets.fetch_add(octets, Ordering::Relaxed);
        self.all.octets.fetch_add(octets, Ordering::Relaxed);
    }

    /// Nothing of a message is left.
    pub fn lower(&self, octets: u64) {
        if lower_by(&self.messages, 1) == 1 {
            lower_by(&self.all.domains, 1);
        }
        let counted = lower_by(&self.octets, octets);
        lower_by(&self.all.octets, octets.min(counted));
    }

    /// Units are accepted.
    pub fn accept(&self, units: u64) {
        self.accepted.fetch_add(units, Ordering::Relaxed);
    }

    /// Units have ended, durably.
    pub fn end(&self, end: UnitEnd, units: u64) {
        self.ended[end as usize].fetch_add(units, Ordering::Relaxed);
    }

    /// Whether mail of the domain may go its usual way live: no order stands against it, and the primary was met since the last one ended. `now_s`:
    /// seconds since 1970; `now`: the monotonic clock.
    #[must_use]
    pub fn lets_pass(&self, now_s: u64, now: Duration) -> bool {
        self.orders.get().lets_pass(now_s) && self.resumes(now_s, now).is_none()
    }

    /// When the last maintenance ended, in seconds since 1970, if the primary was not met since.
    #[must_use]
    pub fn resumes(&self, now_s: u64, now: Duration) -> Option<u64> {
        let ended_s = self.orders.get().ended_s(now_s)?;
        (!self.passage.is_proven(now, Duration::from_secs(now_s - ended_s))).then_some(ended_s)
    }

    /// A host took units in the primaries' place.
    pub fn note_redirected(&self, units: u64) {
        self.redirected.fetch_add(units, Ordering::Relaxed);
    }

    /// Units that one took, since the start of the process.
    #[must_use]
    pub fn redirected(&self) -> u64 {
        self.redirected.load(Ordering::Relaxed)
    }

    /// Units are queued once more.
    pub fn note_replayed(&self, units: u64) {
        self.replayed.fetch_add(units, Ordering::Relaxed);
    }

    /// Units that were, since the start of the process.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed.load(Ordering::Relaxed)
    }

    /// A primary took units through this.
    pub fn take(&self, transport: Transport, units: u64) {
        self.taken[transport as usize].fetch_add(units, Ordering::Relaxed);
    }

    /// Units that primaries took through this since the process began.
    #[must_use]
    pub fn taken(&self, transport: Transport) -> u64 {
        self.taken[transport as usize].load(Ordering::Relaxed)
    }

    /// Units that were counted as accepted are those of a second copy.
    pub fn accepted_twice(&self, units: u64) {
        lower_by(&self.accepted, units);
    }

    /// Units that were accepted since the store was made.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Units that ended so, since the store was made.
    #[must_use]
    pub fn ended(&self, end: UnitEnd) -> u64 {
        self.ended[end as usize].load(Ordering::Relaxed)
    }

    /// Messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Octets.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

/// Never below zero: a record that was rewritten may have other octets than those that were counted. Returns the
/// count before.
fn lower_by(count: &AtomicU64, by: u64) -> u64 {
    let lower = |value: u64| Some(value.saturating_sub(by));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower).unwrap_or_else(|value| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_and_lowered_is_gone() {
        let usage = Usage::default();
        let (one, two) = (usage.domain("one.test"), usage.domain("two.test"));
        one.raise(100);
        usage.domain("one.test").raise(50);
        two.raise(7);
        assert_eq!((one.messages(), one.octets()), (2, 150));
        assert_eq!((usage.domains(), usage.octets()), (2, 157));
        one.lower(50);
        assert_eq!((usage.domains(), one.messages()), (2, 1));
        two.lower(9);
        assert_eq!(usage.octets(), 100, "a record that grew by a rewrite takes nothing from others");
        one.lower(100);
        assert_eq!((one.messages(), one.octets(), two.octets()), (0, 0, 0));
        assert_eq!((usage.domains(), usage.octets()), (0, 0));
    }
}
